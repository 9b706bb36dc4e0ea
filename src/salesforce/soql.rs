//! SOQL statements: which fields, which stretch, in which order.
//!
//! Comes in: a description and the bounds of what is to be read. Goes out: a [`Statement`], the text together with
//! the fields it selects, or the text of a count. Literals are always escaped or typed here; no room writes SOQL by
//! hand. Never: `OFFSET`, and no `ORDER BY` unless asked for (it switches the Bulk API's chunking off).

use std::fmt::Write as _;
use std::sync::Arc;

use crate::domain::{ObjectDescription, Stamp};
use crate::error::{Error, Kind, Result};

/// A statement and the fields (indices into the description) that it selects, in order.
#[derive(Clone, Debug)]
pub struct Statement {
    pub object: Arc<ObjectDescription>,
    pub fields: Arc<[usize]>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    None,
    Cursor,
    Id,
}

/// A statement in the making.
#[derive(Clone, Debug)]
pub struct Select {
    object: Arc<ObjectDescription>,
    fields: Vec<usize>,
    conditions: Vec<String>,
    order: Order,
    limit: Option<u32>,
    problem: Option<String>,
}

impl Select {
    /// All captured fields.
    pub fn all(object: &Arc<ObjectDescription>) -> Self {
        Self::only(object, 0..object.fields.len())
    }

    /// These fields, and always the key and the cursor field.
    pub fn only(object: &Arc<ObjectDescription>, fields: impl IntoIterator<Item = usize>) -> Self {
        let mut chosen = Vec::new();
        let always = [Some(object.key), object.cursor.map(|cursor| cursor.0)];
        for field in always.into_iter().flatten().chain(fields) {
            if field < object.fields.len() && !chosen.contains(&field) {
                chosen.push(field);
            }
        }
        chosen.sort_unstable();
        Self {
            object: Arc::clone(object),
            fields: chosen,
            conditions: Vec::new(),
            order: Order::None,
            limit: None,
            problem: None,
        }
    }

    /// A condition in the user's own SOQL, taken as it is.
    #[must_use]
    pub fn condition(mut self, soql: &str) -> Self {
        self.conditions.push(format!("({soql})"));
        self
    }

    /// The stretch `(from, to]` of the cursor field.
    #[must_use]
    pub fn window(mut self, from: Option<Stamp>, to: Option<Stamp>) -> Self {
        if from.is_none() && to.is_none() {
            return self;
        }
        let Some(cursor) = self.cursor_name() else { return self };
        self.conditions.extend(from.map(|from| format!("{cursor} > {from}")));
        self.conditions.extend(to.map(|to| format!("{cursor} <= {to}")));
        self
    }

    /// Everything behind one row in the order of [`Self::order_by_cursor`]: thousands of rows can share a cursor
    /// value, so the id decides among them.
    #[must_use]
    pub fn after(mut self, cursor_value: Stamp, id: &str) -> Self {
        let Some(cursor) = self.cursor_name() else { return self };
        let key = self.key_name();
        self.conditions.push(format!(
            "({cursor} > {cursor_value} OR ({cursor} = {cursor_value} AND {key} > {}))",
            quoted(id)
        ));
        self
    }

    /// Everything behind one id in the order of [`Self::order_by_id`].
    #[must_use]
    pub fn after_id(mut self, id: &str) -> Self {
        let key = self.key_name();
        self.conditions.push(format!("{key} > {}", quoted(id)));
        self
    }

    /// Exactly these ids.
    #[must_use]
    pub fn ids<'a>(mut self, ids: impl IntoIterator<Item = &'a str>) -> Self {
        let list: Vec<String> = ids.into_iter().map(quoted).collect();
        if list.is_empty() {
            self.problem = Some("a list of ids is empty".to_owned());
        }
        let key = self.key_name();
        self.conditions.push(format!("{key} IN ({})", list.join(",")));
        self
    }

    /// The rows of these parents, whose ids `field` holds. One id is named by `=`: some objects take no list.
    #[must_use]
    pub fn of_parents<'a>(mut self, field: &str, ids: impl IntoIterator<Item = &'a str>) -> Self {
        let list: Vec<String> = ids.into_iter().map(quoted).collect();
        match list.as_slice() {
            [] => self.problem = Some("a list of parents is empty".to_owned()),
            [one] => self.conditions.push(format!("{field} = {one}")),
            list => self.conditions.push(format!("{field} IN ({})", list.join(","))),
        }
        self
    }

    /// By cursor field, then id.
    #[must_use]
    pub fn order_by_cursor(mut self) -> Self {
        if self.cursor_name().is_some() {
            self.order = Order::Cursor;
        }
        self
    }

    #[must_use]
    pub fn order_by_id(mut self) -> Self {
        self.order = Order::Id;
        self
    }

    #[must_use]
    pub fn limit(mut self, rows: u32) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Fails if a window was asked for on an object without a cursor field: the text would read everything.
    pub fn statement(self) -> Result<Statement> {
        self.check()?;
        let mut text = String::from("SELECT ");
        for (place, field) in
            self.fields.iter().filter_map(|field| self.object.fields.get(*field)).enumerate()
        {
            if place > 0 {
                text.push(',');
            }
            text.push_str(&field.name);
        }
        self.push_from_and_where(&mut text);
        let key = self.key_name();
        match (self.order, self.object.cursor_field()) {
            (Order::Cursor, Some(cursor)) if cursor.name != key => {
                let _ = write!(text, " ORDER BY {},{key}", cursor.name);
            }
            (Order::Cursor | Order::Id, _) => {
                let _ = write!(text, " ORDER BY {key}");
            }
            (Order::None, _) => {}
        }
        if let Some(limit) = self.limit {
            let _ = write!(text, " LIMIT {limit}");
        }
        Ok(Statement { object: self.object, fields: self.fields.into(), text })
    }

    /// The text of `SELECT COUNT()` with the same conditions.
    pub fn count(self) -> Result<String> {
        self.check()?;
        let mut text = String::from("SELECT COUNT()");
        self.push_from_and_where(&mut text);
        Ok(text)
    }

    fn check(&self) -> Result<()> {
        match &self.problem {
            Some(problem) => {
                Err(Error::new(Kind::Internal, format!("query on {}: {problem}", self.object.name)))
            }
            None => Ok(()),
        }
    }

    fn push_from_and_where(&self, text: &mut String) {
        let _ = write!(text, " FROM {}", self.object.name);
        for (place, condition) in self.conditions.iter().enumerate() {
            let _ = write!(text, " {} {condition}", if place == 0 { "WHERE" } else { "AND" });
        }
    }

    fn key_name(&self) -> String {
        self.object.fields.get(self.object.key).map_or_else(|| "Id".to_owned(), |field| field.name.clone())
    }

    fn cursor_name(&mut self) -> Option<String> {
        let name = self.object.cursor_field().map(|field| field.name.clone());
        if name.is_none() {
            self.problem =
                Some("a stretch of time was asked for, but the object has no cursor field".to_owned());
        }
        name
    }
}

/// The text of a count of an object that is not described yet. `condition`: the user's own SOQL.
pub(super) fn count_fitting(object: &str, condition: &str) -> String {
    format!("SELECT COUNT() FROM {object} WHERE ({condition})")
}

/// A text literal.
fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for character in text.chars() {
        match character {
            '\'' => literal.push_str("\\'"),
            '\\' => literal.push_str("\\\\"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            other => literal.push(other),
        }
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salesforce::describe::sample;

    fn stamp(text: &str) -> Stamp {
        Stamp::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_window_is_open_below_closed_above_and_ordered_by_cursor_then_id() {
        let statement = Select::all(&sample::account())
            .window(Some(stamp("2026-05-19T08:00:00Z")), Some(stamp("2026-05-19T09:00:00Z")))
            .order_by_cursor()
            .statement()
            .unwrap();
        assert_eq!(
            statement.text,
            "SELECT Id,CreatedDate,IsDeleted,Name,SystemModstamp FROM Account \
             WHERE SystemModstamp > 2026-05-19T08:00:00.000Z AND SystemModstamp <= 2026-05-19T09:00:00.000Z \
             ORDER BY SystemModstamp,Id"
        );
        assert_eq!(&*statement.fields, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn going_on_inside_one_second_is_decided_by_the_id() {
        let statement = Select::only(&sample::account(), [3])
            .condition("Name != null OR Name = null")
            .after(stamp("2026-05-19T08:00:00Z"), "001x'\\")
            .order_by_cursor()
            .limit(200)
            .statement()
            .unwrap();
        assert_eq!(
            statement.text,
            "SELECT Id,Name,SystemModstamp FROM Account WHERE (Name != null OR Name = null) AND \
             (SystemModstamp > 2026-05-19T08:00:00.000Z OR (SystemModstamp = 2026-05-19T08:00:00.000Z \
             AND Id > '001x\\'\\\\')) ORDER BY SystemModstamp,Id LIMIT 200"
        );
    }

    #[test]
    fn loads_go_by_id_and_counts_take_the_same_conditions() {
        let object = sample::account();
        let load = Select::only(&object, []).after_id("001A").order_by_id().statement().unwrap();
        assert_eq!(load.text, "SELECT Id,SystemModstamp FROM Account WHERE Id > '001A' ORDER BY Id");
        let ids = Select::only(&object, []).ids(["001A", "001B"]).count().unwrap();
        assert_eq!(ids, "SELECT COUNT() FROM Account WHERE Id IN ('001A','001B')");
        let all = Select::all(&object).statement().unwrap();
        assert!(!all.text.contains("ORDER BY"), "ORDER BY would switch chunking off: {}", all.text);
    }

    #[test]
    fn a_window_without_a_cursor_field_is_refused_instead_of_reading_everything() {
        let mut object = (*sample::account()).clone();
        object.cursor = None;
        let object = Arc::new(object);
        let error = Select::all(&object).window(None, Some(Stamp(0))).statement().unwrap_err();
        assert!(error.to_string().contains("no cursor field"), "{error}");
        assert!(Select::all(&object).ids([]).statement().is_err());
        assert!(Select::all(&object).window(None, None).statement().is_ok());
    }
}
