//! The schema that events were written with, and how their payloads are read by it.
//!
//! Comes in: Avro JSON as GetSchema gives it, and payloads. Goes out: [`ChangeEvent`]s. A schema is compiled once; it
//! never changes under its id. Each top-level field has a slot, and so has each part of a compound; a payload is
//! walked once, front to back, and must be used up exactly. Whatever does not fit is an error of that event.

use std::sync::Arc;

use crate::domain::{FieldSet, Stamp};
use crate::error::{Error, Kind, Result};

use super::avro::{Read, Reader, Record, Type, TypeId, Types, Unreadable};
use super::bitmap::{self, Place};
use super::event::{ChangeEvent, ChangeKind, Header, RawEvent, Value};

const HEADER: &str = "ChangeEventHeader";

#[derive(Debug)]
pub struct EventSchema {
    id: String,
    /// Name of the event: `AccountChangeEvent`.
    name: String,
    types: Types,
    fields: Vec<EventField>,
    places: Vec<Place>,
    /// By slot: `Phone`, `BillingAddress`, `BillingAddress.Street`.
    paths: Vec<String>,
}

#[derive(Debug)]
pub(super) struct EventField {
    pub name: String,
    pub slot: usize,
    of: TypeId,
    pub shape: Shape,
}

#[derive(Debug)]
pub(super) enum Shape {
    Header(Vec<HeaderPart>),
    /// One value or null.
    Plain,
    /// A record of plain values, or instead of it a text, or null.
    Compound {
        /// Name of the record's type: `Address`, `PersonName`.
        record: String,
        parts: Vec<String>,
        or_text: bool,
    },
    /// Anything else is walked over.
    Other,
}

#[derive(Debug)]
pub(super) enum HeaderPart {
    EntityName,
    RecordIds,
    ChangeType(Vec<String>),
    ChangeOrigin,
    TransactionKey,
    SequenceNumber(TypeId),
    CommitTimestamp(TypeId),
    CommitNumber(TypeId),
    CommitUser,
    Nulled,
    Diff,
    Changed,
    Unknown(TypeId),
}

/// Without these nothing can be made of an event.
const DEMANDED: [&str; 7] = [
    "entityName",
    "recordIds",
    "changeType",
    "commitTimestamp",
    "nulledFields",
    "diffFields",
    "changedFields",
];

impl EventSchema {
    pub fn parse(id: &str, json: &str) -> Result<Self> {
        Self::compile(id, json).map_err(|why| unreadable(id, &why))
    }

    fn compile(id: &str, json: &str) -> Read<Self> {
        let types = Types::parse(json)?;
        let Type::Record(root) = types.root() else {
            return Err(Unreadable::new("the schema is no record"));
        };
        let mut schema = Self {
            id: id.to_owned(),
            name: root.name.clone(),
            fields: Vec::with_capacity(root.fields.len()),
            places: Vec::with_capacity(root.fields.len()),
            paths: Vec::new(),
            types: Types::parse("\"null\"")?,
        };
        for (name, of) in &root.fields {
            let shape = if name == HEADER { header(&types, *of)? } else { shape(&types, *of) };
            schema.add(name, *of, shape);
        }
        if !schema.fields.iter().any(|field| matches!(field.shape, Shape::Header(_))) {
            return Err(Unreadable::new(format!("the schema has no {HEADER}")));
        }
        schema.types = types;
        Ok(schema)
    }

    fn add(&mut self, name: &str, of: TypeId, shape: Shape) {
        let slot = self.paths.len();
        self.paths.push(name.to_owned());
        let mut count = 0;
        if let Shape::Compound { parts, .. } = &shape {
            count = parts.len();
            self.paths.extend(parts.iter().map(|part| format!("{name}.{part}")));
        }
        self.places.push(Place { slot, parts: count });
        self.fields.push(EventField { name: name.to_owned(), slot, of, shape });
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Name of the event: `AccountChangeEvent`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn fields(&self) -> &[EventField] {
        &self.fields
    }

    pub(super) fn paths<'a>(&'a self, slots: &'a FieldSet) -> impl Iterator<Item = &'a str> {
        slots.iter().filter_map(|slot| self.paths.get(slot).map(String::as_str))
    }

    /// The event, by this schema, which must be the one that it names.
    pub fn decode(self: &Arc<Self>, raw: RawEvent) -> Result<ChangeEvent> {
        if raw.schema_id != self.id {
            let what = format!("an event of schema {} is read by schema {}", raw.schema_id, self.id);
            return Err(Error::new(Kind::Internal, what));
        }
        let mut reader = Reader::new(&raw.payload);
        let read = self.read(&mut reader).and_then(|read| reader.finish().map(|()| read));
        let (header, values) = read.map_err(|why| {
            let place = format!("event {} at replay id {}", shown(&raw.event_id), raw.replay_id);
            unreadable(&self.id, &why).during(format!("{place}, byte {}", reader.at()))
        })?;
        Ok(ChangeEvent {
            replay_id: raw.replay_id,
            event_id: raw.event_id,
            entity_name: header.entity_name,
            record_ids: header.record_ids,
            kind: ChangeKind::of(&header.change_type),
            change_origin: header.change_origin,
            transaction_key: header.transaction_key,
            sequence_number: header.sequence_number,
            committed_at: Stamp(header.commit_timestamp),
            commit_number: header.commit_number,
            commit_user: header.commit_user,
            schema: Arc::clone(self),
            nulled: header.nulled,
            diff: header.diff,
            changed: header.changed,
            payload: raw.payload,
            values,
        })
    }

    fn read(&self, reader: &mut Reader<'_>) -> Read<(Header, Vec<Value>)> {
        let mut values = Vec::with_capacity(self.paths.len());
        let mut header = Header::default();
        for field in &self.fields {
            let read = match &field.shape {
                Shape::Header(parts) => {
                    values.push(Value::Parts);
                    self.read_header(reader, parts, &mut header)
                }
                Shape::Plain => self.plain(reader, field.of).map(|value| values.push(value)),
                Shape::Compound { parts, .. } => self.compound(reader, field.of, parts.len(), &mut values),
                Shape::Other => self.other(reader, field.of).map(|value| values.push(value)),
            };
            read.map_err(|why| Unreadable::new(format!("field {}: {why}", field.name)))?;
        }
        Ok((header, values))
    }

    /// The header alone, and how many bytes it takes: it comes first, whatever follows.
    #[cfg(test)]
    pub(super) fn header_of(&self, payload: &[u8]) -> Read<(Header, usize)> {
        let mut reader = Reader::new(payload);
        let mut header = Header::default();
        if let Some(Shape::Header(parts)) = self.fields.first().map(|field| &field.shape) {
            self.read_header(&mut reader, parts, &mut header)?;
        }
        Ok((header, reader.at()))
    }

    fn read_header(&self, reader: &mut Reader<'_>, parts: &[HeaderPart], header: &mut Header) -> Read<()> {
        for part in parts {
            match part {
                HeaderPart::EntityName => header.entity_name = reader.text()?.to_owned(),
                HeaderPart::RecordIds => reader.items(|reader| {
                    header.record_ids.push(reader.text()?.to_owned());
                    Ok(())
                })?,
                HeaderPart::ChangeType(symbols) => header.change_type = reader.symbol(symbols)?.to_owned(),
                HeaderPart::ChangeOrigin => header.change_origin = reader.text()?.to_owned(),
                HeaderPart::TransactionKey => header.transaction_key = reader.text()?.to_owned(),
                HeaderPart::SequenceNumber(of) => header.sequence_number = self.whole(reader, *of)?,
                HeaderPart::CommitTimestamp(of) => header.commit_timestamp = self.whole(reader, *of)?,
                HeaderPart::CommitNumber(of) => header.commit_number = self.whole(reader, *of)?,
                HeaderPart::CommitUser => header.commit_user = reader.text()?.to_owned(),
                HeaderPart::Nulled => self.slots(reader, &mut header.nulled)?,
                HeaderPart::Diff => self.slots(reader, &mut header.diff)?,
                HeaderPart::Changed => self.slots(reader, &mut header.changed)?,
                HeaderPart::Unknown(of) => reader.skip(&self.types, *of)?,
            }
        }
        Ok(())
    }

    /// An int or a long, as the schema has it: what an int cannot hold was written by another schema.
    fn whole(&self, reader: &mut Reader<'_>, of: TypeId) -> Read<i64> {
        match self.types.get(of) {
            Type::Int => reader.int().map(i64::from),
            _ => reader.long(),
        }
    }

    fn slots(&self, reader: &mut Reader<'_>, slots: &mut FieldSet) -> Read<()> {
        reader.items(|reader| bitmap::decode(reader.text()?, &self.places, slots))
    }

    /// Which branch follows, if there are any to choose from.
    fn chosen(&self, reader: &mut Reader<'_>, of: TypeId) -> Read<TypeId> {
        match self.types.get(of) {
            Type::Union(branches) => reader.branch(branches),
            _ => Ok(of),
        }
    }

    fn plain(&self, reader: &mut Reader<'_>, of: TypeId) -> Read<Value> {
        let of = self.chosen(reader, of)?;
        Ok(match self.types.get(of) {
            Type::Null => Value::Null,
            Type::Boolean => Value::Boolean(reader.boolean()?),
            Type::Int => Value::Integer(i64::from(reader.int()?)),
            Type::Long => Value::Integer(reader.long()?),
            Type::Float => Value::Double(f64::from(reader.float()?)),
            Type::Double => Value::Double(reader.double()?),
            Type::Text => {
                let length = reader.text()?.len();
                let place = |at: usize| {
                    u32::try_from(at).map_err(|_| Unreadable::new("the payload is larger than 4 GiB"))
                };
                Value::Text(place(reader.at() - length)?, place(reader.at())?)
            }
            _ => {
                reader.skip(&self.types, of)?;
                Value::Other
            }
        })
    }

    fn compound(
        &self,
        reader: &mut Reader<'_>,
        of: TypeId,
        count: usize,
        values: &mut Vec<Value>,
    ) -> Read<()> {
        let of = self.chosen(reader, of)?;
        if let Type::Record(record) = self.types.get(of) {
            values.push(Value::Parts);
            for (name, of) in &record.fields {
                let value = self.plain(reader, *of);
                values.push(value.map_err(|why| Unreadable::new(format!("part {name}: {why}")))?);
            }
        } else {
            values.push(self.plain(reader, of)?);
            values.resize(values.len() + count, Value::Null);
        }
        Ok(())
    }

    fn other(&self, reader: &mut Reader<'_>, of: TypeId) -> Read<Value> {
        let of = self.chosen(reader, of)?;
        reader.skip(&self.types, of)?;
        Ok(if matches!(self.types.get(of), Type::Null) { Value::Null } else { Value::Other })
    }
}

fn unreadable(id: &str, why: &Unreadable) -> Error {
    Error::new(Kind::EventUnreadable, format!("schema {}: {why}", shown(id)))
}

/// What should be an id, as far as a message bears it.
fn shown(id: &str) -> String {
    id.chars().filter(|letter| letter.is_ascii_graphic()).take(64).collect()
}

fn shape(types: &Types, of: TypeId) -> Shape {
    let is_plain = |of: &TypeId| {
        matches!(
            types.get(*of),
            Type::Boolean | Type::Int | Type::Long | Type::Float | Type::Double | Type::Text
        )
    };
    let is_null = |of: &&TypeId| matches!(types.get(**of), Type::Null);
    let valued: Vec<&TypeId> = types.branches(&of).iter().filter(|branch| !is_null(branch)).collect();
    if let [only] = valued.as_slice()
        && is_plain(only)
    {
        return Shape::Plain;
    }
    let record = |of: &TypeId| match types.get(*of) {
        Type::Record(record) => Some(record),
        _ => None,
    };
    let is_text = |of: &TypeId| matches!(types.get(*of), Type::Text);
    let (record, or_text) = match valued.as_slice() {
        [only] => (record(only), false),
        [left, right] if is_text(left) => (record(right), true),
        [left, right] if is_text(right) => (record(left), true),
        _ => (None, false),
    };
    let has_plain_parts = |record: &&Record| {
        record.fields.iter().all(|(_, of)| types.branches(of).iter().all(|of| is_null(&of) || is_plain(of)))
    };
    match record.filter(has_plain_parts) {
        Some(record) => Shape::Compound {
            record: record.name.clone(),
            parts: record.fields.iter().map(|(name, _)| name.clone()).collect(),
            or_text,
        },
        None => Shape::Other,
    }
}

fn header(types: &Types, of: TypeId) -> Read<Shape> {
    let Type::Record(record) = types.get(of) else {
        return Err(Unreadable::new(format!("{HEADER} is no record")));
    };
    for name in DEMANDED {
        if !record.fields.iter().any(|(have, _)| have == name) {
            return Err(Unreadable::new(format!("{HEADER} has no {name}")));
        }
    }
    let parts = record.fields.iter().map(|(name, of)| {
        let is_text = matches!(types.get(*of), Type::Text);
        let is_number = matches!(types.get(*of), Type::Int | Type::Long);
        let is_list = match types.get(*of) {
            Type::Array(items) => matches!(types.get(*items), Type::Text),
            _ => false,
        };
        let (part, fits) = match name.as_str() {
            "entityName" => (HeaderPart::EntityName, is_text),
            "recordIds" => (HeaderPart::RecordIds, is_list),
            "changeType" => match types.get(*of) {
                Type::Enum(symbols) => (HeaderPart::ChangeType(symbols.clone()), true),
                _ => (HeaderPart::Unknown(*of), false),
            },
            "changeOrigin" => (HeaderPart::ChangeOrigin, is_text),
            "transactionKey" => (HeaderPart::TransactionKey, is_text),
            "sequenceNumber" => (HeaderPart::SequenceNumber(*of), is_number),
            "commitTimestamp" => (HeaderPart::CommitTimestamp(*of), is_number),
            "commitNumber" => (HeaderPart::CommitNumber(*of), is_number),
            "commitUser" => (HeaderPart::CommitUser, is_text),
            "nulledFields" => (HeaderPart::Nulled, is_list),
            "diffFields" => (HeaderPart::Diff, is_list),
            "changedFields" => (HeaderPart::Changed, is_list),
            _ => (HeaderPart::Unknown(*of), true),
        };
        if fits { Ok(part) } else { Err(Unreadable::new(format!("{HEADER}.{name} is of another type"))) }
    });
    parts.collect::<Read<Vec<_>>>().map(Shape::Header)
}
