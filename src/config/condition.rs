//! A condition in SOQL, as `where` takes it: whether it stays one condition when it is put between parentheses.
//!
//! Comes in: the text. Goes out: nothing, or what is wrong with it. It is cut into words, texts and parentheses; what a
//! field or an operator means is for Salesforce to say. Never: a condition that ends the parentheses it is put into, or
//! that goes on with another clause, for it would choose other records than it seems to.

/// What is wrong, and what to do.
pub(super) type Refusal = (String, &'static str);

/// With as many ids beside it as one query names it stays far below Salesforce's 100,000 characters.
const LONGEST: usize = 20_000;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// In capitals; a path such as `Account.Type` is one word.
    Word(String),
    Text,
    Open,
    Close,
    Other(char),
}

pub(super) fn check(soql: &str) -> Result<(), Refusal> {
    if soql.chars().count() > LONGEST {
        return Err((format!("longer than {LONGEST} characters"), "shorten it"));
    }
    let tokens = tokens(soql)?;
    if !tokens.iter().any(|token| matches!(token, Token::Word(_))) {
        return Err((
            "it names no field".to_owned(),
            "give a condition in SOQL, such as `Type = 'Customer'`, or leave the key out",
        ));
    }
    let mut depth = 0_usize;
    for (place, token) in tokens.iter().enumerate() {
        match token {
            Token::Open => depth += 1,
            Token::Close => {
                depth = depth.checked_sub(1).ok_or_else(|| {
                    ("a `)` closes what was not opened".to_owned(), "write each `)` with its `(`")
                })?;
            }
            Token::Word(word) => {
                let next = tokens.get(place + 1);
                if let Some(clause) = clause(word, next, depth, place) {
                    return Err((
                        format!("`{clause}` is no part of a condition"),
                        "give only what stands behind WHERE, such as `Type = 'Customer'`",
                    ));
                }
            }
            Token::Text | Token::Other(_) => {}
        }
    }
    if depth > 0 {
        return Err(("a `(` is not closed".to_owned(), "write each `(` with its `)`"));
    }
    Ok(())
}

/// The clause that a word begins, if it does. A field may bear such a name: then a comparison follows.
fn clause(word: &str, next: Option<&Token>, depth: usize, place: usize) -> Option<String> {
    let next_word = match next {
        Some(Token::Word(next)) => Some(next.as_str()),
        _ => None,
    };
    let compared = matches!(next, Some(Token::Other('=' | '!' | '<' | '>')))
        || matches!(next_word, Some("IN" | "NOT" | "LIKE" | "INCLUDES" | "EXCLUDES"));
    let pair = |seconds: &[&str]| {
        next_word.filter(|next| seconds.contains(next)).map(|second| format!("{word} {second}"))
    };
    match word {
        "ORDER" | "GROUP" => pair(&["BY"]),
        "FOR" => pair(&["VIEW", "REFERENCE", "UPDATE"]),
        "ALL" => pair(&["ROWS"]),
        "USING" => pair(&["SCOPE"]),
        "WITH" => pair(&["SECURITY_ENFORCED", "USER_MODE", "SYSTEM_MODE", "DATA"]),
        "UPDATE" => pair(&["TRACKING", "VIEWSTAT"]),
        "HAVING" | "LIMIT" | "OFFSET" if !compared => Some(word.to_owned()),
        // Another query may stand in parentheses: `Id IN (SELECT AccountId FROM Contact WHERE …)`.
        "SELECT" | "FROM" | "WHERE" if depth == 0 && (place == 0 || !compared) => Some(word.to_owned()),
        _ => None,
    }
}

fn tokens(soql: &str) -> Result<Vec<Token>, Refusal> {
    let mut tokens = Vec::new();
    let mut rest = soql.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\'' => {
                loop {
                    match rest.next() {
                        Some('\'') => break,
                        // Whatever it is, it does not end the text.
                        Some('\\') => drop(rest.next()),
                        Some(_) => {}
                        None => {
                            return Err((
                                "a text is not closed".to_owned(),
                                "texts stand in single quotes; a quote in a text is written `\\'`",
                            ));
                        }
                    }
                }
                tokens.push(Token::Text);
            }
            '(' => tokens.push(Token::Open),
            ')' => tokens.push(Token::Close),
            '"' | '`' | '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' => {
                return Err((
                    format!("{letter} has no meaning in SOQL"),
                    "texts stand in single quotes: `'Customer'`",
                ));
            }
            ';' | '\\' | '\0' => {
                return Err((
                    format!("{letter:?} has no place outside of a text"),
                    "give one condition, as it stands behind WHERE",
                ));
            }
            _ if letter.is_whitespace() => {}
            _ if is_letter(letter) => {
                let mut word = String::from(letter.to_ascii_uppercase());
                while let Some(more) = rest.next_if(|next| is_letter(*next)) {
                    word.push(more.to_ascii_uppercase());
                }
                tokens.push(Token::Word(word));
            }
            other => tokens.push(Token::Other(other)),
        }
    }
    Ok(tokens)
}

fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_taken_whatever_stands_in_their_texts() {
        for good in [
            "IsPersonAccount = false",
            "(Type = 'Customer' OR Type = 'Partner') AND NOT (Rating = null)",
            "Name = 'it\\'s) ORDER BY Name LIMIT 1 --'",
            "Name = '\\\\' AND Site = ')'",
            "Id IN (SELECT AccountId FROM Contact WHERE Email != null)",
            "CreatedDate > 2026-01-01T00:00:00+01:00 AND CreatedDate = LAST_N_DAYS:30",
            "Group.Type = 'Queue' AND Order.Status LIKE 'A%'",
            "Limit = 5 AND Offset__c IN (1, 2)",
            // Fields that are called like a clause.
            "Limit != 5 AND Offset < 5 AND Having > 5",
            "Limit IN (1) AND Offset NOT IN (1) AND Having LIKE 'a%'",
            "Limit INCLUDES ('a') AND Offset EXCLUDES ('b')",
            "Type = 'a' AND From = 'b' AND Where IN ('c') AND Select LIKE 'd'",
            "Type = 'a' AND (For = 'b' OR All = 'c' OR Using = 'd' OR With = 'e' OR Update = 'f' OR Group = 'g')",
            "Interests__c INCLUDES ('a;b', 'c')",
            "DISTANCE(Place__c, GEOLOCATION(48.1, 11.5), 'km') < 20",
            "Name = '„Zitat“'",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_would_end_its_parentheses_or_go_on_with_another_clause_is_refused() {
        for (bad, why) in [
            ("", "names no field"),
            ("()", "names no field"),
            ("'a' = 'b'", "names no field"),
            ("Type = 'a') OR (Name != null", "closes what was not opened"),
            ("(Type = 'a'", "is not closed"),
            ("Type = 'a\\'", "a text is not closed"),
            ("Type = \"a\"", "no meaning in SOQL"),
            ("Type = ‘a’", "no meaning in SOQL"),
            ("Type = 'a'; Name = 'b'", "has no place"),
            ("WHERE Type = 'a'", "`WHERE` is no part"),
            ("Type = 'a' order  by Name", "`ORDER BY` is no part"),
            ("Type = 'a' GROUP\nBY Name", "`GROUP BY` is no part"),
            ("Type = 'a' LIMIT 5", "`LIMIT` is no part"),
            ("Type = 'a' OFFSET 5", "`OFFSET` is no part"),
            ("Type = 'a' FOR UPDATE", "`FOR UPDATE` is no part"),
            ("Type = 'a' ALL ROWS", "`ALL ROWS` is no part"),
            ("Type = 'a' WITH SECURITY_ENFORCED", "is no part"),
            ("SELECT Id FROM Account", "`SELECT` is no part"),
            ("WHERE NOT (Type = 'a')", "`WHERE` is no part"),
            ("Type = 'a' FROM Account", "`FROM` is no part"),
            ("Type = 'a' FOR VIEW", "`FOR VIEW` is no part"),
            ("Type = 'a' FOR REFERENCE", "`FOR REFERENCE` is no part"),
            ("Type = 'a' USING SCOPE mine", "`USING SCOPE` is no part"),
            ("Type = 'a' WITH USER_MODE", "`WITH USER_MODE` is no part"),
            ("Type = 'a' WITH SYSTEM_MODE", "`WITH SYSTEM_MODE` is no part"),
            ("Type = 'a' WITH DATA CATEGORY Place__c AT All__c", "`WITH DATA` is no part"),
            ("Type = 'a' UPDATE TRACKING", "`UPDATE TRACKING` is no part"),
            ("Type = 'a' UPDATE VIEWSTAT", "`UPDATE VIEWSTAT` is no part"),
            ("Type = 'a' HAVING COUNT(Id) > 1", "`HAVING` is no part"),
            ("Type = `a", "no meaning in SOQL"),
            ("Type = a’", "no meaning in SOQL"),
            ("Type = “a", "no meaning in SOQL"),
            ("Type = a”", "no meaning in SOQL"),
            ("Type = \\'a'", "has no place"),
            ("Type = 'a'\0", "has no place"),
        ] {
            let (message, _) = check(bad).unwrap_err();
            assert!(message.contains(why), "{bad}: {message}");
        }
        assert!(check(&"A = 1 AND ".repeat(3_000)).is_err());
    }

    #[test]
    fn the_longest_condition_is_20_000_characters_however_many_bytes_they_take() {
        let of = |characters: usize| format!("Name = '{}'", "ü".repeat(characters - 9));
        assert_eq!(check(&of(20_000)), Ok(()));
        assert!(check(&of(20_001)).unwrap_err().0.contains("longer than 20000 characters"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_never_closes_the_parentheses_around_it(text in "[A-Za-z_. ='\\\\()\n]{0,40}") {
            if check(&text).is_ok() {
                let wrapped = format!("({text}) AND Id = 'x'");
                let tokens = tokens(&wrapped).unwrap();
                let mut depth = 0_i32;
                let tail = tokens.len() - 4;
                for (place, token) in tokens.iter().enumerate() {
                    depth += match token { Token::Open => 1, Token::Close => -1, _ => 0 };
                    let inside = place + 1 < tail;
                    proptest::prop_assert_eq!(depth > 0, inside, "{} at {}", wrapped, place);
                }
            }
        }
    }
}
