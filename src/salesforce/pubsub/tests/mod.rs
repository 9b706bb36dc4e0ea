//! The Pub/Sub side against recorded events, the Avro library, and a server that answers by script.
//!
//! In here: payloads made by the Avro library, schemas, descriptions. Beside it, by topic: the tests.

mod cells;
mod doors;
mod oracle;
mod recorded;
mod server;
mod streams;

use std::sync::Arc;

use apache_avro::types::Value as Avro;
use serde_json::{Value as Json, json};

use super::{ChangeEvent, EventSchema, RawEvent};
use crate::domain::{Field, FieldKind, ObjectDescription, ReplayId};
use crate::error::Result;

const SYMBOLS: [&str; 10] = [
    "CREATE",
    "UPDATE",
    "DELETE",
    "UNDELETE",
    "GAP_CREATE",
    "GAP_UPDATE",
    "GAP_DELETE",
    "GAP_UNDELETE",
    "GAP_OVERFLOW",
    "SNAPSHOT",
];

fn recorded_schema(file: &str) -> String {
    let path = format!("{}/tests/data/salesforce/pubsub/avro/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn header_type() -> Json {
    let list = json!({"type": "array", "items": "string"});
    json!({"type": "record", "name": "ChangeEventHeader", "fields": [
        {"name": "entityName", "type": "string"},
        {"name": "recordIds", "type": list},
        {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "namespace": "", "symbols": SYMBOLS}},
        {"name": "changeOrigin", "type": "string"},
        {"name": "transactionKey", "type": "string"},
        {"name": "sequenceNumber", "type": "int"},
        {"name": "commitTimestamp", "type": "long"},
        {"name": "commitNumber", "type": "long"},
        {"name": "commitUser", "type": "string"},
        {"name": "nulledFields", "type": list},
        {"name": "diffFields", "type": list},
        {"name": "changedFields", "type": list},
    ]})
}

/// A schema of a change event with these fields behind the header.
fn schema_of(fields: &[(String, Json)]) -> String {
    let header = json!({"name": "ChangeEventHeader", "type": header_type()});
    let fields = fields.iter().map(|(name, of)| json!({"name": name, "type": of}));
    let fields: Vec<Json> = std::iter::once(header).chain(fields).collect();
    json!({"type": "record", "name": "AccountChangeEvent", "namespace": "com.sforce.eventbus", "fields": fields})
        .to_string()
}

/// What an event's header says.
#[derive(Clone, Debug, Default)]
struct Says {
    kind: &'static str,
    ids: Vec<&'static str>,
    nulled: Vec<String>,
    diff: Vec<String>,
    changed: Vec<String>,
}

impl Says {
    fn create() -> Self {
        Self { kind: "CREATE", ids: vec!["001000000000001AAA"], ..Self::default() }
    }

    /// These bitmaps of changed and nulled fields.
    fn update(changed: &[&str], nulled: &[&str]) -> Self {
        let owned = |bitmaps: &[&str]| bitmaps.iter().map(|bitmap| (*bitmap).to_owned()).collect();
        Self { kind: "UPDATE", changed: owned(changed), nulled: owned(nulled), ..Self::create() }
    }

    fn header(&self) -> Avro {
        let text = |text: &str| Avro::String(text.to_owned());
        let list = |items: &[String]| Avro::Array(items.iter().map(|item| text(item)).collect());
        let index = SYMBOLS.iter().position(|symbol| *symbol == self.kind).unwrap();
        let ids = self.ids.iter().map(|id| text(id)).collect();
        let fields = [
            ("entityName", text("Account")),
            ("recordIds", Avro::Array(ids)),
            ("changeType", Avro::Enum(u32::try_from(index).unwrap(), self.kind.to_owned())),
            ("changeOrigin", text("com/salesforce/api/rest/65.0")),
            ("transactionKey", text("00034c74-0500-aa77-fc35-2659174709e9")),
            ("sequenceNumber", Avro::Int(1)),
            ("commitTimestamp", Avro::Long(1_779_179_400_000)),
            ("commitNumber", Avro::Long(1_709_303_151_782_928_388)),
            ("commitUser", text("005000000000001AAA")),
            ("nulledFields", list(&self.nulled)),
            ("diffFields", list(&self.diff)),
            ("changedFields", list(&self.changed)),
        ];
        Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }
}

fn some(branch: u32, value: Avro) -> Avro {
    Avro::Union(branch, Box::new(value))
}

fn null() -> Avro {
    some(0, Avro::Null)
}

/// A payload as the Avro library writes it; fields that are not given are null.
fn payload(schema: &str, says: &Says, fields: &[(&str, Avro)]) -> Vec<u8> {
    let json: Json = serde_json::from_str(schema).unwrap();
    let names = json["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap());
    let values = names.map(|name| {
        let given = fields.iter().find(|(have, _)| *have == name).map(|(_, value)| value.clone());
        let value = if name == "ChangeEventHeader" { says.header() } else { given.unwrap_or_else(null) };
        (name.to_owned(), value)
    });
    let record = Avro::Record(values.collect());
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    apache_avro::writer::datum::GenericDatumWriter::builder(&schema)
        .build()
        .unwrap()
        .write_value_to_vec(record)
        .unwrap()
}

fn raw(schema_id: &str, payload: Vec<u8>) -> RawEvent {
    RawEvent {
        replay_id: ReplayId::new([0, 0, 0, 0, 0, 0x17, 0x90, 0x50, 0, 0]).unwrap(),
        event_id: "366d9355-f1bc-4650-b321-6d45e77180b5".to_owned(),
        schema_id: schema_id.to_owned(),
        payload,
    }
}

fn compiled(schema: &str) -> Arc<EventSchema> {
    Arc::new(EventSchema::parse("S", schema).unwrap())
}

fn decode(schema: &Arc<EventSchema>, payload: Vec<u8>) -> Result<ChangeEvent> {
    schema.decode(raw(schema.id(), payload))
}

/// Names and Salesforce types, in order; the id comes first by itself.
fn described(fields: &[(&str, &str)]) -> Arc<ObjectDescription> {
    let all = std::iter::once(&("Id", "id")).chain(fields);
    let fields = all.map(|(name, of)| Field {
        name: (*name).to_owned(),
        label: String::new(),
        help: None,
        salesforce_type: (*of).to_owned(),
        kind: FieldKind::of(of),
        length: 0,
        precision: 0,
        scale: 0,
        calculated: false,
        filterable: true,
        sortable: true,
    });
    Arc::new(ObjectDescription {
        fields: fields.collect(),
        ..(*super::super::describe::sample::account()).clone()
    })
}
