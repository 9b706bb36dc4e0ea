//! A page of a query's answer: JSON to rows.
//!
//! Comes in: the answer's text and the fields that were selected. Goes out: [`Rows`] without a tree in between. A
//! cell is its text: strings unescaped, numbers and booleans as they are spelled, null empty. `attributes`, nested
//! records and what was not selected are dropped.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::{ObjectDescription, RowLayout, Rows};

use super::fault::Fault;

/// Which field stands under which key.
#[derive(Clone)]
pub(super) struct Columns {
    names: Arc<[Box<str>]>,
    by_name: Arc<HashMap<String, usize>>,
    layout: Arc<RowLayout>,
}

impl Columns {
    pub fn new(object: &ObjectDescription, fields: &[usize]) -> Self {
        let names: Vec<Box<str>> = fields
            .iter()
            .map(|field| object.fields.get(*field).map_or("", |field| field.name.as_str()).into())
            .collect();
        let by_name =
            names.iter().enumerate().map(|(column, name)| (name.to_ascii_lowercase(), column)).collect();
        let columns: Vec<_> = fields.iter().copied().map(Some).collect();
        Self {
            names: names.into(),
            by_name: Arc::new(by_name),
            layout: RowLayout::new(&columns, object.fields.len()),
        }
    }

    /// Keys come in the order of the selection, as far as anybody has seen; they need not.
    fn column(&self, key: &str, expected: usize) -> Option<usize> {
        match self.names.get(expected) {
            Some(name) if **name == *key => Some(expected),
            _ => self.by_name.get(&key.to_ascii_lowercase()).copied(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Decoded {
    pub rows: Rows,
    pub total_size: u64,
    pub done: bool,
    pub next: Option<String>,
}

/// The answer of query, queryAll and query-more.
pub(super) fn decode(body: &[u8], columns: &Columns) -> Result<Decoded, Fault> {
    let text = utf8(body)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let decoded = PageSeed { columns }.deserialize(&mut deserializer).map_err(|error| Fault::json(&error))?;
    deserializer.end().map_err(|error| Fault::json(&error))?;
    Ok(decoded)
}

/// A bare array of records and nulls, the answer of a collection retrieve.
pub(super) fn decode_array(body: &[u8], columns: &Columns) -> Result<Rows, Fault> {
    let mut deserializer = serde_json::Deserializer::from_str(utf8(body)?);
    let mut rows = Rows::new(Arc::clone(&columns.layout));
    RecordsSeed { columns, rows: &mut rows }
        .deserialize(&mut deserializer)
        .map_err(|error| Fault::json(&error))?;
    deserializer.end().map_err(|error| Fault::json(&error))?;
    Ok(rows)
}

fn utf8(body: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(body).map_err(|_| Fault::unreadable("the answer is not UTF-8"))
}

struct PageSeed<'c> {
    columns: &'c Columns,
}

impl<'de> DeserializeSeed<'de> for PageSeed<'_> {
    type Value = Decoded;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Decoded, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PageSeed<'_> {
    type Value = Decoded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a page of a query")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Decoded, A::Error> {
        let mut rows = Rows::new(Arc::clone(&self.columns.layout));
        let (mut total_size, mut done, mut next, mut has_records) = (None, None, None, false);
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match &*key.0 {
                "totalSize" => total_size = Some(map.next_value::<u64>()?),
                "done" => done = Some(map.next_value::<bool>()?),
                "nextRecordsUrl" => next = map.next_value::<Option<String>>()?,
                "records" => {
                    has_records = true;
                    map.next_value_seed(RecordsSeed { columns: self.columns, rows: &mut rows })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let missing = serde::de::Error::missing_field;
        if !has_records {
            return Err(missing("records"));
        }
        Ok(Decoded {
            rows,
            total_size: total_size.ok_or_else(|| missing("totalSize"))?,
            done: done.ok_or_else(|| missing("done"))?,
            next,
        })
    }
}

struct RecordsSeed<'c, 'r> {
    columns: &'c Columns,
    rows: &'r mut Rows,
}

impl<'de> DeserializeSeed<'de> for RecordsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RecordsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<(), A::Error> {
        let mut scratch = Scratch { cells: Vec::new(), ends: Vec::new(), places: Vec::new() };
        let (columns, rows) = (self.columns, self.rows);
        loop {
            let seed = RecordSeed { columns, rows: &mut *rows, scratch: &mut scratch };
            if records.next_element_seed(seed)?.is_none() {
                return Ok(());
            }
        }
    }
}

/// A key, borrowed wherever it has no escapes (serde's own `Cow` always copies).
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

/// The record in hand; kept from record to record for its memory.
struct Scratch {
    cells: Vec<u8>,
    ends: Vec<usize>,
    /// By column: where its cell lies, if keys came in another order than the columns.
    places: Vec<(usize, usize)>,
}

struct RecordSeed<'c, 'r> {
    columns: &'c Columns,
    rows: &'r mut Rows,
    scratch: &'r mut Scratch,
}

impl<'de> DeserializeSeed<'de> for RecordSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RecordSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record or null")
    }

    /// Collections answer null for an id that is not there.
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut record: A) -> Result<(), A::Error> {
        let width = self.columns.names.len();
        let scratch = self.scratch;
        scratch.cells.clear();
        scratch.ends.clear();
        let mut in_order = true;
        while let Some(key) = record.next_key::<Key<'de>>()? {
            if key.0 == "attributes" {
                record.next_value::<IgnoredAny>()?;
                continue;
            }
            let expected = scratch.ends.len();
            let Some(column) = self.columns.column(&key.0, expected) else {
                record.next_value::<IgnoredAny>()?;
                continue;
            };
            let start = scratch.cells.len();
            let value = record.next_value::<&'de RawValue>()?;
            push_cell(&mut scratch.cells, value.get()).map_err(serde::de::Error::custom)?;
            if in_order && column == expected {
                scratch.ends.push(scratch.cells.len());
                continue;
            }
            if in_order {
                in_order = false;
                scratch.places.clear();
                scratch.places.resize(width, (0, 0));
                let mut begin = 0;
                for (place, end) in scratch.places.iter_mut().zip(&scratch.ends) {
                    *place = (begin, *end);
                    begin = *end;
                }
            }
            if let Some(place) = scratch.places.get_mut(column) {
                *place = (start, scratch.cells.len());
            }
        }
        let pushed = if in_order {
            // A key that is not there is null: some answers leave nulls out.
            scratch.ends.resize(width, scratch.cells.len());
            self.rows.push_flat(&scratch.cells, &scratch.ends)
        } else {
            let cells = &scratch.cells;
            self.rows
                .push(scratch.places.iter().map(|(start, end)| cells.get(*start..*end).unwrap_or_default()))
        };
        pushed.map_err(|_| serde::de::Error::custom("a page larger than 4 GiB"))
    }
}

/// One value as text. Objects and arrays are those of a `json` field, kept as written: compounds are not selected.
fn push_cell(cells: &mut Vec<u8>, raw: &str) -> Result<(), serde_json::Error> {
    match raw.as_bytes() {
        [b'"', inside @ .., b'"'] if memchr::memchr(b'\\', inside).is_none() => {
            cells.extend_from_slice(inside)
        }
        [b'"', ..] => cells.extend_from_slice(serde_json::from_str::<String>(raw)?.as_bytes()),
        [b'n', ..] => {}
        as_written => cells.extend_from_slice(as_written),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::salesforce::describe::sample;
    use proptest::prelude::*;

    fn columns() -> Columns {
        Columns::new(&sample::account(), &[0, 2, 3])
    }

    fn text(rows: &Rows, row: usize, field: usize) -> Option<String> {
        rows.row(row).unwrap().cell(field).map(|cell| String::from_utf8(cell.to_vec()).unwrap())
    }

    #[test]
    fn cells_keep_their_spelling_and_nothing_else_comes_along() {
        let body = r#"{"totalSize":4123,"done":false,"nextRecordsUrl":"/services/data/v66.0/query/0r8-2000","records":[
            {"attributes":{"type":"Account","url":"/x"},"Id":"001A","IsDeleted":false,"Name":"A \"q\" \u00e9\n\ud83d\ude00"},
            {"Name":1.0E10,"attributes":{"type":"Account"},"Owner":{"Name":"never"},"Id":"001B","IsDeleted":true},
            {"Id":"001C","IsDeleted":null,"Name":{"nested":1}},
            {"name":"","id":"001D"}]}"#;
        let page = decode(body.as_bytes(), &columns()).unwrap();
        assert_eq!((page.total_size, page.done, page.rows.len()), (4_123, false, 4));
        assert_eq!(page.next.as_deref(), Some("/services/data/v66.0/query/0r8-2000"));
        assert_eq!(text(&page.rows, 0, 3).as_deref(), Some("A \"q\" é\n😀"));
        assert_eq!(text(&page.rows, 1, 3).as_deref(), Some("1.0E10"));
        assert_eq!(text(&page.rows, 1, 2).as_deref(), Some("true"));
        assert_eq!(text(&page.rows, 1, 0).as_deref(), Some("001B"));
        assert_eq!(text(&page.rows, 2, 2).as_deref(), Some(""));
        assert_eq!(text(&page.rows, 2, 3).as_deref(), Some(r#"{"nested":1}"#), "a json field's structure");
        assert_eq!(text(&page.rows, 3, 0).as_deref(), Some("001D"));
        assert_eq!(text(&page.rows, 3, 1), None, "not selected is absent, not null");
    }

    #[test]
    fn recorded_answers_read() {
        let empty = include_bytes!("../../tests/data/salesforce/query-empty.json");
        let page = decode(empty, &columns()).unwrap();
        assert!(page.done && page.rows.is_empty() && page.next.is_none());
        let aggregate = include_bytes!("../../tests/data/salesforce/query-aggregate.json");
        assert_eq!(decode(aggregate, &columns()).unwrap().total_size, 7);
    }

    #[test]
    fn an_answer_cut_anywhere_is_told_as_cut() {
        let body = br#"{"totalSize":1,"done":true,"records":[{"Id":"001A","IsDeleted":false,"Name":"x"}]}"#;
        for end in 0..body.len() {
            let fault = decode(&body[..end], &columns()).unwrap_err();
            assert_eq!(fault.kind, Kind::ReplyTruncated, "cut at {end}");
        }
        assert_eq!(decode(b"[1]", &columns()).unwrap_err().kind, Kind::ReplyUnreadable);
        assert_eq!(decode(b"{}", &columns()).unwrap_err().kind, Kind::ReplyUnreadable);
        assert_eq!(decode(b"\xff", &columns()).unwrap_err().kind, Kind::ReplyUnreadable);
    }

    #[test]
    fn ids_that_are_gone_leave_no_row() {
        let rows =
            decode_array(br#"[null,{"Id":"001A","IsDeleted":false,"Name":null},null]"#, &columns()).unwrap();
        assert_eq!((rows.len(), text(&rows, 0, 0).as_deref()), (1, Some("001A")));
    }

    proptest! {
        #[test]
        fn every_text_comes_back_as_it_was(name in ".{0,40}", deleted: bool, reversed: bool) {
            let mut record = vec![("Id", serde_json::json!("001A")), ("IsDeleted", deleted.into()), ("Name", name.clone().into())];
            if reversed {
                record.reverse();
            }
            let record: serde_json::Map<_, _> = record.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            let body = serde_json::json!({"totalSize": 1, "done": true, "records": [record]}).to_string();
            let page = decode(body.as_bytes(), &columns()).unwrap();
            prop_assert_eq!(text(&page.rows, 0, 3), Some(name));
            prop_assert_eq!(text(&page.rows, 0, 2), Some(deleted.to_string()));
        }

        #[test]
        fn foreign_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body, &columns());
            let _ = decode_array(&body, &columns());
        }
    }
}
