//! One value as a consumer reads it, to be shown and to be compared with the org's own.
//!
//! Comes in: decoded Avro. Goes out: short text for a line, and whether it says the same as JSON of the org's truth. It
//! shares no code with the encoder on purpose.

use std::fmt;

use apache_avro::types::Value;

use crate::domain::Stamp;
use crate::domain::stamp::{civil, parse_date};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Flag(bool),
    Number(f64),
    Text(String),
    /// Days since 1970.
    Date(i64),
    /// Milliseconds of the day.
    Time(i64),
    Moment(Stamp),
    /// A type that no Salesforce field becomes.
    Foreign(&'static str),
}

impl Cell {
    pub fn of(value: Value) -> Self {
        match value {
            Value::Union(_, inner) => Self::of(*inner),
            Value::Null => Self::Null,
            Value::Boolean(flag) => Self::Flag(flag),
            Value::Int(number) => Self::Number(f64::from(number)),
            Value::Long(number) => Self::Number(number as f64),
            Value::Float(number) => Self::Number(f64::from(number)),
            Value::Double(number) => Self::Number(number),
            Value::String(text) => Self::Text(text),
            Value::Date(days) => Self::Date(i64::from(days)),
            Value::TimeMillis(millis) => Self::Time(i64::from(millis)),
            Value::TimestampMillis(millis) => Self::Moment(Stamp(millis)),
            Value::Bytes(_) | Value::Fixed(..) => Self::Foreign("bytes"),
            _ => Self::Foreign("another type"),
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether the org's truth, as the REST API would spell it, is the same value.
    pub fn agrees(&self, truth: &serde_json::Value) -> bool {
        use serde_json::Value as Json;
        match (self, truth) {
            (Self::Null, Json::Null) => true,
            (Self::Null, Json::String(text)) => text.is_empty(),
            (Self::Flag(flag), Json::Bool(truth)) => flag == truth,
            (Self::Number(number), Json::Number(truth)) => truth.as_f64() == Some(*number),
            (Self::Text(text), Json::String(truth)) => text == truth,
            (Self::Date(days), Json::String(truth)) => parse_date(truth.as_bytes()) == Some(*days),
            (Self::Moment(stamp), Json::String(truth)) => Stamp::parse(truth.as_bytes()) == Some(*stamp),
            (Self::Time(millis), Json::String(truth)) => {
                let moment = Stamp::parse(format!("1970-01-01T{truth}").as_bytes());
                moment == Some(Stamp(*millis))
            }
            // anyType and json fields are text in the topic, whatever they are in JSON.
            (Self::Text(text), Json::Object(_) | Json::Array(_)) => {
                serde_json::from_str::<Json>(text).is_ok_and(|value| value == *truth)
            }
            (Self::Text(text), Json::Bool(flag)) => text.parse() == Ok(*flag),
            (Self::Text(text), Json::Number(number)) => text.parse().ok() == number.as_f64(),
            _ => false,
        }
    }
}

/// Longer texts are cut in lines.
const SHOWN: usize = 28;

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => {
                let mut letters = text.chars();
                let cut: String = letters.by_ref().take(SHOWN).collect();
                write!(f, "{cut:?}{}", if letters.next().is_some() { "…" } else { "" })
            }
            Self::Date(days) => {
                let (year, month, day) = civil(*days);
                write!(f, "{year:04}-{month:02}-{day:02}")
            }
            Self::Time(millis) => {
                let seconds = millis / 1_000;
                write!(f, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
            }
            Self::Moment(stamp) => write!(f, "{stamp}"),
            Self::Foreign(what) => write!(f, "({what})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_topics_value_agrees_with_the_orgs_spelling_of_the_same_value_only() {
        let moment = Value::Union(1, Box::new(Value::TimestampMillis(1_779_179_400_000)));
        for (value, same, other) in [
            (Value::Null, json!(null), json!("x")),
            (Value::Boolean(false), json!(false), json!(null)),
            (Value::Double(0.0), json!(0), json!(null)),
            (Value::Double(12.5), json!(12.5), json!("12.5")),
            (Value::Int(7), json!(7), json!(8)),
            (Value::String("a".to_owned()), json!("a"), json!(null)),
            (Value::String("[1,2]".to_owned()), json!([1, 2]), json!([2, 1])),
            (Value::Date(1), json!("1970-01-02"), json!("1970-01-01")),
            (Value::TimeMillis(3_661_001), json!("01:01:01.001Z"), json!("01:01:01.000Z")),
            (moment, json!("2026-05-19T08:30:00.000+0000"), json!("2026-05-19T08:30:01.000+0000")),
        ] {
            let cell = Cell::of(value);
            assert!(cell.agrees(&same), "{cell:?} {same}");
            assert!(!cell.agrees(&other), "{cell:?} {other}");
        }
    }

    #[test]
    fn long_texts_are_cut_and_quoted() {
        assert_eq!(Cell::Text("x".repeat(40)).to_string(), format!("\"{}\"…", "x".repeat(28)));
        assert_eq!(Cell::Text("a\nb".to_owned()).to_string(), "\"a\\nb\"");
    }
}
