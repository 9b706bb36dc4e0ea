//! One event's payload: the header, then each field as a union with null (pubsub.md 3.8).
//!
//! Comes in: a header, and values by position. Goes out: an Avro datum of exactly that schema. Moments are
//! milliseconds, dates too; a value that does not fit the field's type is null.

use std::ops::Range;

use super::avro;
use super::schema::{EventSchema, Kind, SchemaField, Source};
use crate::org::calendar::MS_PER_DAY;
use crate::org::{Row, Value};

/// What stands in the first field of every change event (pubsub.md 3.2).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    pub entity: String,
    pub record_ids: Vec<String>,
    /// Place in `CHANGE_TYPES`.
    pub change_type: usize,
    pub origin: String,
    pub transaction_key: String,
    pub sequence: i32,
    pub commit_timestamp_ms: i64,
    pub commit_number: i64,
    pub commit_user: String,
    pub nulled: Vec<String>,
    pub diffs: Vec<String>,
    pub changed: Vec<String>,
}

impl Header {
    pub fn write(&self, out: &mut Vec<u8>) {
        avro::text(out, &self.entity);
        avro::texts(out, &self.record_ids);
        avro::long(out, self.change_type as i64);
        avro::text(out, &self.origin);
        avro::text(out, &self.transaction_key);
        avro::long(out, i64::from(self.sequence));
        avro::long(out, self.commit_timestamp_ms);
        avro::long(out, self.commit_number);
        avro::text(out, &self.commit_user);
        avro::texts(out, &self.nulled);
        avro::texts(out, &self.diffs);
        avro::texts(out, &self.changed);
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Datum {
    Null,
    Boolean(bool),
    Number(i64),
    Double(f64),
    Text(String),
    Parts(Vec<Datum>),
}

impl Datum {
    pub fn of(kind: Kind, value: &Value) -> Datum {
        match (kind, value) {
            (_, Value::Null) => Datum::Null,
            (Kind::Boolean, Value::Bool(value)) => Datum::Boolean(*value),
            (Kind::Int, Value::Int(value)) => {
                i32::try_from(*value).map_or(Datum::Null, |value| Datum::Number(i64::from(value)))
            }
            (Kind::Long, Value::Int(value) | Value::DateTime(value)) => Datum::Number(*value),
            (Kind::Long, Value::Date(days)) => Datum::Number(i64::from(*days) * MS_PER_DAY),
            (Kind::Long, Value::Time(ms)) => Datum::Number(i64::from(*ms)),
            (Kind::Double, value) => value.as_f64().map_or(Datum::Null, Datum::Double),
            (Kind::Text | Kind::Record { .. }, value) => {
                value.as_str().map_or(Datum::Null, |text| Datum::Text(text.to_owned()))
            }
            _ => Datum::Null,
        }
    }

    /// The whole field of a record; a compound without any part is null. Hidden fields are null.
    pub fn of_field(field: &SchemaField, row: &Row) -> Datum {
        match &field.source {
            Source::Field(index) | Source::Switchable(index) => Datum::of(field.kind, &seen(row, *index)),
            Source::Parts(_) => {
                let parts = Datum::parts(field, row, |_| true);
                if parts.iter().all(|part| *part == Datum::Null) { Datum::Null } else { Datum::Parts(parts) }
            }
        }
    }

    /// The chosen parts of a compound; the others are null.
    pub fn parts(field: &SchemaField, row: &Row, chosen: impl Fn(usize) -> bool) -> Vec<Datum> {
        let Source::Parts(parts) = &field.source else { return Vec::new() };
        parts
            .iter()
            .enumerate()
            .map(|(at, part)| {
                let kind = if part.double { Kind::Double } else { Kind::Text };
                let index = part.field.filter(|_| chosen(at));
                index.map_or(Datum::Null, |index| Datum::of(kind, &seen(row, index)))
            })
            .collect()
    }

    fn write(&self, field: &SchemaField, out: &mut Vec<u8>) {
        match self {
            Datum::Null => out.push(0),
            Datum::Boolean(value) => out.extend_from_slice(&[2, u8::from(*value)]),
            Datum::Number(value) => {
                out.push(2);
                avro::long(out, *value);
            }
            Datum::Double(value) => {
                out.push(2);
                avro::double(out, *value);
            }
            Datum::Text(value) => {
                out.push(2);
                avro::text(out, value);
            }
            Datum::Parts(parts) => {
                out.push(if field.kind == (Kind::Record { union_text: true }) { 4 } else { 2 });
                parts.iter().for_each(|part| part.write(field, out));
            }
        }
    }
}

/// The field's value as the integration user sees it: null if field-level security hides it.
fn seen(row: &Row, index: usize) -> Value {
    match row.object().field_at(index) {
        Some(field) if field.is_visible() => row.get(index),
        _ => Value::Null,
    }
}

/// The fields behind the header: those of `values` by position, null for the rest.
pub(crate) fn write_body(schema: &EventSchema, values: &[(usize, Datum)], out: &mut Vec<u8>) {
    for (at, field) in schema.fields.iter().enumerate() {
        match values.iter().find(|(position, _)| *position == at + 1) {
            Some((_, datum)) => datum.write(field, out),
            None => out.push(0),
        }
    }
}

/// Where each field stands in a body of this schema; none if the bytes are not such a body.
pub(crate) fn spans(schema: &EventSchema, body: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut at = 0;
    let mut spans = Vec::with_capacity(schema.fields.len());
    for field in &schema.fields {
        let start = at;
        at += field_length(field, body.get(at..)?)?;
        spans.push(start..at);
    }
    (at == body.len()).then_some(spans)
}

fn field_length(field: &SchemaField, bytes: &[u8]) -> Option<usize> {
    let (branch, mut at) = avro::read_long(bytes)?;
    match (branch, field.kind) {
        (0, _) => {}
        (1, Kind::Record { union_text: false }) | (2, Kind::Record { union_text: true }) => {
            let Source::Parts(parts) = &field.source else {
                // The record of a switchable name: three texts.
                for _ in 0..3 {
                    at += union_length(Kind::Text, bytes.get(at..)?)?;
                }
                return Some(at);
            };
            for part in parts {
                let kind = if part.double { Kind::Double } else { Kind::Text };
                at += union_length(kind, bytes.get(at..)?)?;
            }
        }
        (1, kind) => at += value_length(kind, bytes.get(at..)?)?,
        _ => return None,
    }
    Some(at)
}

fn union_length(kind: Kind, bytes: &[u8]) -> Option<usize> {
    match avro::read_long(bytes)? {
        (0, length) => Some(length),
        (1, length) => Some(length + value_length(kind, bytes.get(length..)?)?),
        _ => None,
    }
}

fn value_length(kind: Kind, bytes: &[u8]) -> Option<usize> {
    match kind {
        Kind::Boolean => Some(1),
        Kind::Int | Kind::Long => avro::read_long(bytes).map(|(_, length)| length),
        Kind::Double => Some(8),
        Kind::Text | Kind::Record { .. } => {
            let (count, length) = avro::read_long(bytes)?;
            Some(length + usize::try_from(count).ok()?).filter(|end| *end <= bytes.len())
        }
    }
}

/// One field's bytes.
pub(crate) fn field_bytes(field: &SchemaField, datum: &Datum) -> Vec<u8> {
    let mut bytes = Vec::new();
    datum.write(field, &mut bytes);
    bytes
}
