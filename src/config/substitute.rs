//! `${VAR}` and `${VAR:-default}` in the text of a setting.
//!
//! Comes in: a scalar's text and the environment. Goes out: the text with values put in, or the variable that is
//! missing. `$${` stands for `${`. A value never appears in an error.

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfilled {
    /// Not set, and no default.
    Missing(String),
    /// Not of the form `${NAME}` or `${NAME:-default}`.
    Malformed,
}

pub(super) fn substitute(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Unfilled> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        if let Some(literal) = before.strip_suffix('$') {
            filled.push_str(literal);
            filled.push_str("${");
            rest = reference.strip_prefix("${").unwrap_or_default();
            continue;
        }
        filled.push_str(before);
        let inner = reference.strip_prefix("${").unwrap_or_default();
        let (inner, after) = inner.split_once('}').ok_or(Unfilled::Malformed)?;
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_name(name) {
            return Err(Unfilled::Malformed);
        }
        // As in a shell, `:-` also stands in for a variable that is set but empty.
        match (environment(name), default) {
            (Some(value), None) => filled.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => filled.push_str(&value),
            (_, Some(default)) => filled.push_str(default),
            (None, None) => return Err(Unfilled::Missing(name.to_owned())),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Unfilled> {
        substitute(text, &|name| match name {
            "HOST" => Some("kafka".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_defaults_and_escapes_are_filled_in() {
        assert_eq!(filled("${HOST}:${PORT:-9092}").as_deref(), Ok("kafka:9092"));
        assert_eq!(filled("[${EMPTY}][${EMPTY:-x}][${PORT:-}]").as_deref(), Ok("[][x][]"));
        assert_eq!(filled("$${HOST} $HOST {name}").as_deref(), Ok("${HOST} $HOST {name}"));
        assert_eq!(filled("${U:-http://x:1/-}").as_deref(), Ok("http://x:1/-"));
    }

    #[test]
    fn what_cannot_be_filled_in_is_named() {
        assert_eq!(filled("a ${PORT}"), Err(Unfilled::Missing("PORT".to_owned())));
        for text in ["${", "${HOST", "${}", "${a b}", "${HOST-x}"] {
            assert_eq!(filled(text), Err(Unfilled::Malformed), "{text}");
        }
    }
}
