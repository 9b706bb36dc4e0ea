//! From SOQL text to a [`Query`].
//!
//! Comes in: foreign text. Goes out: a query, or `MALFORMED_QUERY` with the place and the words Salesforce uses.

use super::{Filter, Function, Group, Item, Literal, Operator, Order, Path, Query, SoqlError};
use crate::org::calendar::{parse_date, parse_datetime};

const MS_PER_DAY: i64 = 86_400_000;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    /// A number, date or datetime: what begins with a digit or sign.
    Number(String),
    Sign(&'static str),
}

struct Lexed {
    token: Token,
    /// Byte offset in the text.
    at: usize,
}

/// Reads one statement. `now_ms` decides what TODAY is.
pub fn parse(text: &str, now_ms: i64) -> Result<Query, SoqlError> {
    let tokens = lex(text)?;
    let mut parser = Parser { text, tokens, at: 0, now_ms };
    let query = parser.query(false)?;
    match parser.tokens.get(parser.at) {
        None => Ok(query),
        Some(_) => Err(parser.unexpected()),
    }
}

fn lex(text: &str) -> Result<Vec<Lexed>, SoqlError> {
    const SIGNS: [&str; 12] = ["<=", ">=", "!=", "<>", "=", "<", ">", "(", ")", ",", ".", ":"];
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        if first.is_whitespace() {
            rest = rest.trim_start();
        } else if first == '\'' {
            let (value, length) = quoted(rest).ok_or_else(|| malformed(text, at, "unexpected token: '''"))?;
            tokens.push(Lexed { token: Token::Text(value), at });
            rest = rest.get(length..).unwrap_or_default();
        } else if first.is_ascii_digit()
            || matches!(first, '-' | '+') && rest.chars().nth(1).is_some_and(|next| next.is_ascii_digit())
        {
            let length = rest
                .char_indices()
                .skip(1)
                .find(|(_, c)| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | ':' | '.')))
                .map_or(rest.len(), |(length, _)| length);
            tokens
                .push(Lexed { token: Token::Number(rest.get(..length).unwrap_or_default().to_owned()), at });
            rest = rest.get(length..).unwrap_or_default();
        } else if first.is_alphabetic() || first == '_' {
            let length = rest
                .char_indices()
                .find(|(_, c)| !(c.is_alphanumeric() || *c == '_'))
                .map_or(rest.len(), |(length, _)| length);
            tokens.push(Lexed { token: Token::Word(rest.get(..length).unwrap_or_default().to_owned()), at });
            rest = rest.get(length..).unwrap_or_default();
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| malformed(text, at, &format!("unexpected token: '{first}'")))?;
            tokens.push(Lexed { token: Token::Sign(sign), at });
            rest = rest.get(sign.len()..).unwrap_or_default();
        }
    }
    Ok(tokens)
}

/// The text between quotes and its length with them.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' => return Some((value, at + 1)),
            '\\' => match characters.next()?.1 {
                'n' | 'N' => value.push('\n'),
                'r' | 'R' => value.push('\r'),
                't' | 'T' => value.push('\t'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn malformed(text: &str, at: usize, what: &str) -> SoqlError {
    let before: String =
        text.get(..at).unwrap_or(text).chars().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect();
    let behind: String = text.get(at..).unwrap_or_default().chars().take(40).collect();
    let marker = " ".repeat(before.chars().count());
    let column = text.get(..at).unwrap_or(text).chars().count() + 1;
    SoqlError::new(
        "MALFORMED_QUERY",
        format!("\n{before}{behind}\n{marker}^\nERROR at Row:1:Column:{column}\n{what}"),
    )
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Lexed>,
    at: usize,
    now_ms: i64,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|lexed| &lexed.token)
    }

    fn unexpected(&self) -> SoqlError {
        match self.tokens.get(self.at) {
            Some(Lexed { token, at }) => {
                let shown = match token {
                    Token::Word(word) => word.clone(),
                    Token::Text(text) => format!("'{text}'"),
                    Token::Number(number) => number.clone(),
                    Token::Sign(sign) => (*sign).to_owned(),
                };
                malformed(self.text, *at, &format!("unexpected token: '{shown}'"))
            }
            None => SoqlError::new("MALFORMED_QUERY", "unexpected token: '<EOF>'"),
        }
    }

    fn keyword(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn is_keyword(&self, words: &[&str]) -> bool {
        matches!(self.peek(), Some(Token::Word(found)) if words.iter().any(|word| found.eq_ignore_ascii_case(word)))
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn need_keyword(&mut self, word: &str) -> Result<(), SoqlError> {
        if self.keyword(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn need_sign(&mut self, sign: &str) -> Result<(), SoqlError> {
        if self.sign(sign) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn word(&mut self) -> Result<String, SoqlError> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn path(&mut self) -> Result<Path, SoqlError> {
        let mut path = vec![self.word()?];
        while self.sign(".") {
            path.push(self.word()?);
        }
        Ok(path)
    }

    fn query(&mut self, nested: bool) -> Result<Query, SoqlError> {
        self.need_keyword("SELECT")?;
        let mut items = vec![self.item(nested)?];
        while self.sign(",") {
            items.push(self.item(nested)?);
        }
        self.need_keyword("FROM")?;
        let from = self.path()?.join(".");
        // An alias, as `FROM Account a`.
        let _ = self.keyword("AS");
        if !self.is_keyword(&["WHERE", "GROUP", "ORDER", "LIMIT", "OFFSET", "USING", "WITH", "FOR", "ALL"])
            && matches!(self.peek(), Some(Token::Word(_)))
        {
            self.word()?;
        }
        if self.keyword("USING") {
            self.need_keyword("SCOPE")?;
            self.word()?;
        }
        let filter = if self.keyword("WHERE") { Some(self.filter()?) } else { None };
        let mut group_by = Vec::new();
        if self.keyword("GROUP") {
            self.need_keyword("BY")?;
            group_by.push(self.path()?);
            while self.sign(",") {
                group_by.push(self.path()?);
            }
        }
        let mut order = Vec::new();
        if self.keyword("ORDER") {
            self.need_keyword("BY")?;
            order.push(self.order()?);
            while self.sign(",") {
                order.push(self.order()?);
            }
        }
        let limit = if self.keyword("LIMIT") { Some(self.count()?) } else { None };
        let offset = if self.keyword("OFFSET") { Some(self.count()?) } else { None };
        if self.keyword("ALL") {
            self.need_keyword("ROWS")?;
        }
        Ok(Query { items, from, filter, group_by, order, limit, offset })
    }

    fn item(&mut self, nested: bool) -> Result<Item, SoqlError> {
        if !nested && self.sign("(") {
            let children = self.query(true)?;
            self.need_sign(")")?;
            return Ok(Item::Children(Box::new(children)));
        }
        let path = self.path()?;
        if !self.sign("(") {
            return Ok(Item::Field(path));
        }
        let name = path.join(".");
        let function = match name.to_ascii_uppercase().as_str() {
            "COUNT" if self.sign(")") => return Ok(Item::CountAll),
            "COUNT" => Function::Count,
            "COUNT_DISTINCT" => Function::CountDistinct,
            "MIN" => Function::Min,
            "MAX" => Function::Max,
            "SUM" => Function::Sum,
            "AVG" => Function::Avg,
            "FIELDS" => {
                let group = match self.word()?.to_ascii_uppercase().as_str() {
                    "ALL" => Group::All,
                    "STANDARD" => Group::Standard,
                    "CUSTOM" => Group::Custom,
                    _ => {
                        self.at -= 1;
                        return Err(self.unexpected());
                    }
                };
                self.need_sign(")")?;
                return Ok(Item::Fields(group));
            }
            // Shown values: the simulator answers the plain ones.
            "TOLABEL" | "CONVERTTIMEZONE" | "CONVERTCURRENCY" | "FORMAT" => {
                let path = self.path()?;
                self.need_sign(")")?;
                return Ok(Item::Field(path));
            }
            _ => {
                self.at -= 1;
                return Err(self.unexpected());
            }
        };
        let path = self.path()?;
        self.need_sign(")")?;
        let alias = match self.peek() {
            Some(Token::Word(word)) if !word.eq_ignore_ascii_case("FROM") => Some(self.word()?),
            _ => None,
        };
        Ok(Item::Aggregate { function, path, alias })
    }

    fn order(&mut self) -> Result<Order, SoqlError> {
        let path = self.path()?;
        let descending = self.keyword("DESC");
        if !descending {
            let _ = self.keyword("ASC");
        }
        let mut nulls_last = false;
        if self.keyword("NULLS") {
            nulls_last = self.keyword("LAST");
            if !nulls_last {
                self.need_keyword("FIRST")?;
            }
        }
        Ok(Order { path, descending, nulls_last })
    }

    fn count(&mut self) -> Result<u64, SoqlError> {
        match self.peek() {
            Some(Token::Number(number)) => match number.parse() {
                Ok(count) => {
                    self.at += 1;
                    Ok(count)
                }
                Err(_) => Err(self.unexpected()),
            },
            _ => Err(self.unexpected()),
        }
    }

    fn filter(&mut self) -> Result<Filter, SoqlError> {
        let first = self.negation()?;
        let (word, make): (_, fn(Vec<Filter>) -> Filter) = if self.is_keyword(&["AND"]) {
            ("AND", Filter::And)
        } else if self.is_keyword(&["OR"]) {
            ("OR", Filter::Or)
        } else {
            return Ok(first);
        };
        let mut all = vec![first];
        while self.keyword(word) {
            all.push(self.negation()?);
        }
        // AND and OR side by side need parentheses.
        if self.is_keyword(&["AND", "OR"]) { Err(self.unexpected()) } else { Ok(make(all)) }
    }

    fn negation(&mut self) -> Result<Filter, SoqlError> {
        if self.keyword("NOT") {
            return Ok(Filter::Not(Box::new(self.negation()?)));
        }
        if self.sign("(") {
            let filter = self.filter()?;
            self.need_sign(")")?;
            return Ok(filter);
        }
        let path = self.path()?;
        if self.keyword("IN") {
            return Ok(Filter::In { path, negated: false, literals: self.literals()? });
        }
        if self.keyword("NOT") {
            self.need_keyword("IN")?;
            return Ok(Filter::In { path, negated: true, literals: self.literals()? });
        }
        for (word, operator) in [("INCLUDES", Operator::Includes), ("EXCLUDES", Operator::Excludes)] {
            if self.keyword(word) {
                let list = self
                    .literals()?
                    .into_iter()
                    .map(|literal| match literal {
                        Literal::Text(text) => Ok(text),
                        _ => Err(self.unexpected()),
                    })
                    .collect::<Result<_, _>>()?;
                return Ok(Filter::Compare { path, operator, literal: Literal::List(list) });
            }
        }
        let operator = if self.keyword("LIKE") {
            Operator::Like
        } else {
            let operator = match self.peek() {
                Some(Token::Sign("=")) => Operator::Equal,
                Some(Token::Sign("!=" | "<>")) => Operator::NotEqual,
                Some(Token::Sign("<")) => Operator::Less,
                Some(Token::Sign("<=")) => Operator::LessOrEqual,
                Some(Token::Sign(">")) => Operator::Greater,
                Some(Token::Sign(">=")) => Operator::GreaterOrEqual,
                _ => return Err(self.unexpected()),
            };
            self.at += 1;
            operator
        };
        let literal = self.literal()?;
        Ok(Filter::Compare { path, operator, literal })
    }

    fn literals(&mut self) -> Result<Vec<Literal>, SoqlError> {
        self.need_sign("(")?;
        let mut literals = vec![self.literal()?];
        while self.sign(",") {
            literals.push(self.literal()?);
        }
        self.need_sign(")")?;
        Ok(literals)
    }

    fn literal(&mut self) -> Result<Literal, SoqlError> {
        let literal = match self.peek() {
            Some(Token::Text(text)) => Literal::Text(text.clone()),
            Some(Token::Number(text)) => match number(text) {
                Some(literal) => literal,
                None => return Err(self.unexpected()),
            },
            Some(Token::Word(word)) => match word.to_ascii_uppercase().as_str() {
                "NULL" => Literal::Null,
                "TRUE" => Literal::Bool(true),
                "FALSE" => Literal::Bool(false),
                name => {
                    let name = name.to_owned();
                    return self.span(&name);
                }
            },
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(literal)
    }

    fn span(&mut self, name: &str) -> Result<Literal, SoqlError> {
        let today = self.now_ms - self.now_ms.rem_euclid(MS_PER_DAY);
        let days = |from: i64, to: i64| Literal::Span {
            from: today + from * MS_PER_DAY,
            to: today + to * MS_PER_DAY,
        };
        let plain = match name {
            "TODAY" => Some(days(0, 1)),
            "YESTERDAY" => Some(days(-1, 0)),
            "TOMORROW" => Some(days(1, 2)),
            "LAST_90_DAYS" => Some(days(-90, 1)),
            _ => None,
        };
        if let Some(literal) = plain {
            self.at += 1;
            return Ok(literal);
        }
        if !matches!(name, "LAST_N_DAYS" | "NEXT_N_DAYS") {
            return Err(self.unexpected());
        }
        self.at += 1;
        self.need_sign(":")?;
        let count = i64::try_from(self.count()?).unwrap_or(i64::from(i32::MAX));
        Ok(if name == "LAST_N_DAYS" { days(-count, 1) } else { days(1, count + 1) })
    }
}

fn number(text: &str) -> Option<Literal> {
    if text.len() == 10 && text.as_bytes().get(4) == Some(&b'-') {
        return parse_date(text).map(Literal::Date);
    }
    if text.contains('T') {
        return parse_datetime(text).map(Literal::DateTime);
    }
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(Literal::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> Query {
        parse(text, 0).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn what_tools_send_is_read() {
        let query =
            ok("SELECT Id, Owner.Name FROM Account WHERE (SystemModstamp > 2026-05-19T08:30:00.000Z OR \
            (SystemModstamp = 2026-05-19T08:30:00+02:00 AND Id > 'x\\'y')) AND Name LIKE 'A%' \
            ORDER BY SystemModstamp ASC NULLS LAST, Id DESC LIMIT 10 OFFSET 5");
        assert_eq!(query.items.len(), 2);
        assert_eq!((query.limit, query.offset), (Some(10), Some(5)));
        assert!(query.order[1].descending && query.order[0].nulls_last);
        assert_eq!(ok("select count() from Account").items, [Item::CountAll]);
        assert!(matches!(ok("SELECT FIELDS(ALL) FROM A LIMIT 200").items[0], Item::Fields(Group::All)));
        assert!(matches!(ok("SELECT MIN(CreatedDate) m, MAX(Id) FROM A").items[0], Item::Aggregate { .. }));
        assert!(matches!(
            ok("SELECT Id, (SELECT Id FROM Contacts) FROM Account").items[1],
            Item::Children(_)
        ));
        ok(
            "SELECT Id FROM A WHERE D = TODAY AND E = LAST_N_DAYS:7 AND F NOT IN ('a', null) AND NOT G = true",
        );
        ok("SELECT Id FROM A WHERE M INCLUDES ('a;b','c') AND N = -1.5 AND D > 2026-05-19");
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        for (text, shown) in [
            ("SELECT Id FORM Account", "unexpected token: 'FORM'"),
            ("SELECT Id FROM Account WHERE", "unexpected token: '<EOF>'"),
            ("SELECT Id FROM A WHERE a = 1 AND b = 2 OR c = 3", "unexpected token: 'OR'"),
            ("SELECT Id FROM A WHERE a = 'x", "unexpected token: '''"),
            ("SELECT FROM A", "unexpected token"),
            ("", "unexpected token: '<EOF>'"),
            ("SELECT Id FROM A WHERE d > 2026-13-45T99:00:00Z", "unexpected token"),
        ] {
            let error = parse(text, 0).expect_err(text);
            assert_eq!(error.code, "MALFORMED_QUERY");
            assert!(error.message.contains(shown), "{text}: {}", error.message);
        }
    }
}
