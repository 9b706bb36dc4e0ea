//! From an object's fields to schemas and records: what consumers are given, byte by byte, held by files.
//!
//! In: `schemas/golden/<object>/fields-<n>.json`, the object as it was described first and later. Out: schemas of every
//! version, the key's schema and example records, compared with the files beside; `cargo xtask golden --accept` takes
//! over what comes out now. What the Avro library makes of the bytes stands in the files, not what we think we wrote.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::SchemaCompatibility;
use apache_avro::types::Value;
use serde_json::{Value as Json, json};
use sf2kafka::config::{KeyFormat, OutputSettings};
use sf2kafka::domain::compound::part_field_name;
use sf2kafka::domain::name::target_object;
use sf2kafka::domain::{
    Batch, Blobs, Change, ChangeSequence, Compound, CompoundShape, CursorField, Field, FieldKind,
    ObjectDescription, Operation, RowLayout, Rows, Source, Stamp,
};
use sf2kafka::envelope::{Encoder, SchemaIds};
use sf2kafka::schema::{SchemaLineage, avro};

/// One field of nearly every kind.
const INVOICE: &str = "Invoice__c";
/// The same object as with `decimals: decimal`, `compounds: record` and `blobs: reference`.
const DEPOT: &str = "Depot__c";
/// First with `blobs: reference`, later with `blobs: include`.
const LEAFLET: &str = "Leaflet__c";
/// What the path of a blob leads to.
const BYTES: &[u8] = b"%PDF-1.7\n\x00\xff";

fn folder(object: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/golden").join(target_object(object))
}

/// Compares, or writes if `UPDATE_GOLDEN` is set.
fn golden(object: &str, name: &str, value: &Json) {
    let path = folder(object).join(name);
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let place = known.lines().zip(text.lines()).position(|(known, now)| known != now);
    let line = place.unwrap_or_else(|| known.lines().count().min(text.lines().count()));
    assert!(
        known == text,
        "{} differs from line {} on: {:?} where the program says {:?}; `cargo xtask golden --accept` takes it over",
        path.display(),
        line + 1,
        known.lines().nth(line).unwrap_or_default(),
        text.lines().nth(line).unwrap_or_default()
    );
}

fn object(name: &str, version: u64) -> Arc<ObjectDescription> {
    let text = std::fs::read_to_string(folder(name).join(format!("fields-{version}.json"))).unwrap();
    let described: Vec<Field> = serde_json::from_str(&text).unwrap();
    let (compounds, fields): (Vec<Field>, Vec<Field>) =
        described.into_iter().partition(|field| field.kind == FieldKind::Compound);
    let place = |name: &str| fields.iter().position(|field| field.name == name);
    let compounds = compounds.into_iter().map(|field| {
        let shape = CompoundShape::of(&field.salesforce_type).unwrap();
        let part = |part: &str| place(&part_field_name(&field.name, part));
        Compound { shape, parts: shape.parts().iter().map(|of| part(of.field)).collect(), field }
    });
    Arc::new(ObjectDescription {
        name: name.into(),
        target_name: target_object(name).into(),
        label: name.trim_end_matches("__c").to_owned(),
        compounds: compounds.collect(),
        key: place("Id").unwrap(),
        cursor: place("SystemModstamp").map(CursorField),
        created_date: place("CreatedDate"),
        is_deleted: place("IsDeleted"),
        replicateable: true,
        bulk: true,
        unsupported: None,
        revision: version,
        fields,
    })
}

/// A schema version, and what writes and reads it.
struct Version {
    object: Arc<ObjectDescription>,
    lineage: SchemaLineage,
    text: String,
    schema: Schema,
    encoder: Encoder,
}

impl Version {
    fn new(name: &str, number: u64, before: Option<&SchemaLineage>) -> Self {
        let object = object(name, number);
        let lineage = SchemaLineage::merge(before, &object);
        let text = avro::change_table(&lineage, &OutputSettings::change_table("crm")).unwrap();
        let schema = Schema::parse_str(&text).unwrap();
        let ids = SchemaIds { key: 5, value: 8 + u32::try_from(number).unwrap() };
        let encoder = Encoder::compile(&object, &lineage, ids, KeyFormat::Record);
        Self { object, lineage, text, schema, encoder }
    }

    fn batch(&self, operation: Operation, source: Source, cells: &[(&str, &str)]) -> Batch {
        let only_id = operation == Operation::Delete;
        let columns: Vec<Option<usize>> =
            if only_id { vec![Some(0)] } else { (0..self.object.fields.len()).map(Some).collect() };
        let text_of = |place: &Option<usize>| {
            let name = &self.object.fields[place.unwrap()].name;
            cells.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text).as_bytes()
        };
        let mut rows = Rows::new(RowLayout::new(&columns, self.object.fields.len()));
        rows.push(columns.iter().map(text_of)).unwrap();
        let at = Stamp::parse(b"2026-05-19T08:30:07.120Z").unwrap();
        let sequence = ChangeSequence::default().next(at);
        let at_load = source == Source::Load;
        let mut blobs = Blobs::default();
        for field in self.object.blobs().filter(|field| rows.row(0).unwrap().value(*field).is_some()) {
            blobs.put(0, field, BYTES.into());
        }
        Batch {
            object: self.object.clone(),
            rows,
            changes: vec![Change { row: 0, operation, sequence, timestamp: at, detail: None }],
            blobs,
            details: Vec::new(),
            notices: Vec::new(),
            source,
            only: None,
            load_id: at_load.then(|| "Invoice_c-1779179400000".into()),
            stream_position: if at_load { "7505g00000AbCdEAAV/MTAwMDAw" } else { "2026-05-19T09:00:00.000Z" }
                .into(),
            control: Vec::new(),
        }
    }

    fn record(&self, operation: Operation, source: Source, cells: &[(&str, &str)]) -> (Json, Vec<u8>) {
        let batch = self.batch(operation, source, cells);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        self.encoder.encode_key(batch.rows.row(0).unwrap(), &mut key).unwrap();
        self.encoder.encode_value(&batch, &batch.changes[0], &mut value).unwrap();
        let cells: serde_json::Map<_, _> =
            cells.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        let shown = json!({
            "schema": format!("value-{}.avsc", self.object.revision),
            "cells": cells,
            "key_hex": hex(&key),
            "value_hex": hex(&value),
            "value": json_of(read(&self.schema, None, &value)),
        });
        (shown, value)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(writer: &Schema, reader: Option<&Schema>, bytes: &[u8]) -> Value {
    let mut rest = &bytes[5..];
    let value = GenericDatumReader::builder(writer)
        .maybe_reader_schema(reader)
        .build()
        .unwrap()
        .read_value(&mut rest)
        .unwrap();
    assert!(rest.is_empty(), "{} bytes are left", rest.len());
    value
}

fn json_of(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Union(_, inner) => json_of(*inner),
        Value::Boolean(flag) => json!(flag),
        Value::Int(number) | Value::Date(number) | Value::TimeMillis(number) => json!(number),
        Value::Long(number) | Value::TimestampMillis(number) => json!(number),
        Value::Double(number) => json!(number),
        Value::String(text) => json!(text),
        Value::Bytes(bytes) => json!(hex(&bytes)),
        // The unscaled number.
        Value::Decimal(number) => json!(hex(&Vec::<u8>::try_from(&number).unwrap())),
        Value::Record(fields) => {
            Json::Object(fields.into_iter().map(|(name, value)| (name, json_of(value))).collect())
        }
        other => panic!("the envelope holds no {other:?}"),
    }
}

const ID: (&str, &str) = ("Id", "a015g00000AbCdEAAV");

/// As a Bulk page spells it.
const FULL: [(&str, &str); 20] = [
    ID,
    ("Account__c", "0015g00000AbCdEAAV"),
    ("Active__c", "true"),
    ("Amount__c", "1.234567890125E7"),
    ("CreatedDate", "2019-12-31T23:59:59.999Z"),
    ("Days__c", "-0.0"),
    ("Discount__c", "12.5"),
    ("Due__c", "2026-06-18"),
    ("Email__c", "billing@example.com"),
    ("IsDeleted", "false"),
    ("Lines__c", "39000.0"),
    ("Name", "INV-000001"),
    ("Notes__c", "two\nlines, \"quoted\", Ünïcödé 🧾"),
    ("Region__c", "EMEA"),
    ("Score__c", "A+"),
    ("Settings__c", "{\"a\":[1,null]}"),
    ("SystemModstamp", "2026-05-19T08:30:07.000Z"),
    ("Tags__c", "red;blue"),
    ("Total__c", "9223372036854775807"),
    ("Window__c", "13:30:00.000Z"),
];

/// As the REST API spells it; whatever is not named is null.
const POLLED: [(&str, &str); 5] = [
    ID,
    ("Active__c", "false"),
    ("Amount__c", "0"),
    ("CreatedDate", "1969-12-31T23:59:59.999+0000"),
    ("SystemModstamp", "2026-05-19T08:30:07.000+0000"),
];

const LATER: [(&str, &str); 6] = [
    ID,
    ("Lines__c", "2.5"),
    ("Score__c", "true"),
    ("Approved__c", "1970-01-01"),
    ("IsDeleted", "false"),
    ("SystemModstamp", "2026-05-19T08:30:07.000+0000"),
];

/// Both versions of an object, their schemas as they were given.
fn versions(name: &str) -> [Version; 2] {
    let first = Version::new(name, 1, None);
    let later = Version::new(name, 2, Some(&first.lineage));
    for version in [&first, &later] {
        let text: Json = serde_json::from_str(&version.text).unwrap();
        golden(name, &format!("value-{}.avsc", version.object.revision), &text);
        assert_eq!(text.to_string(), version.text, "one spelling, or the registry sees two schemas");
    }
    // A consumer of the later version reads what the first one wrote.
    SchemaCompatibility::can_read(&first.schema, &later.schema).unwrap();
    [first, later]
}

#[test]
fn schemas_and_records_are_what_consumers_were_given() {
    let output = OutputSettings::change_table("crm");
    let [first, later] = versions(INVOICE);
    golden(INVOICE, "key.avsc", &serde_json::from_str(&avro::key(&first.lineage, &output)).unwrap());
    assert_eq!(avro::key(&first.lineage, &output), avro::key(&later.lineage, &output), "keys never change");

    let (loaded, loaded_bytes) = first.record(Operation::Refresh, Source::Load, &FULL);
    let records = [
        loaded,
        first.record(Operation::Insert, Source::Poll, &POLLED).0,
        first.record(Operation::Update, Source::Poll, &POLLED).0,
        first.record(Operation::Delete, Source::Poll, &[ID]).0,
        later.record(Operation::Update, Source::Poll, &LATER).0,
    ];
    golden(INVOICE, "records.json", &json!(records));

    let Json::Object(row) = json_of(read(&first.schema, Some(&later.schema), &loaded_bytes)) else {
        panic!("not a record")
    };
    assert_eq!((&row["Lines__c"], &row["Score__c"]), (&json!(39_000), &json!("A+")));
    assert_eq!((&row["Score__c_2"], &row["Approved__c"]), (&Json::Null, &Json::Null));
}

/// As a REST page spells it: a blob is its path.
const DEPOT_FULL: [(&str, &str); 14] = [
    ID,
    ("Area__c", "1234.5"),
    ("CreatedDate", "2019-12-31T23:59:59.999+0000"),
    ("IsDeleted", "false"),
    ("Name", "North"),
    ("Place__Latitude__s", "-0.0"),
    ("Place__Longitude__s", "13.404954"),
    ("Plan__c", "/services/data/v65.0/sobjects/Depot__c/a015g00000AbCdEAAV/Plan__c"),
    ("Rent__c", "-1.23456789E7"),
    ("Share__c", "0.00001"),
    ("Site__City__s", "Berlin"),
    ("Site__Street__s", "1 Main St\r\nBack yard"),
    ("SystemModstamp", "2026-05-19T08:30:07.000+0000"),
    ("Untold__c", "0.1"),
];

/// More digits before the point, and four behind it.
const DEPOT_LATER: [(&str, &str); 6] = [
    ID,
    ("Area__c", "999999999999.99"),
    ("IsDeleted", "false"),
    ("Rent__c", "0.0001"),
    ("Return__City__s", "Potsdam"),
    ("SystemModstamp", "2026-05-19T08:30:07.000+0000"),
];

#[test]
fn decimals_compounds_and_blob_references_are_what_consumers_were_given() {
    let [first, later] = versions(DEPOT);
    let records = [
        first.record(Operation::Refresh, Source::Load, &DEPOT_FULL).0,
        first.record(Operation::Insert, Source::Poll, &[ID, ("IsDeleted", "true")]).0,
        first.record(Operation::Delete, Source::Poll, &[ID]).0,
        later.record(Operation::Update, Source::Poll, &DEPOT_LATER).0,
    ];
    golden(DEPOT, "records.json", &json!(records));
}

const LEAFLET_FULL: [(&str, &str); 4] = [
    ID,
    ("Body__c", "/services/data/v65.0/sobjects/Leaflet__c/a015g00000AbCdEAAV/Body__c"),
    ("Name", "Opening hours"),
    ("SystemModstamp", "2026-05-19T08:30:07.000+0000"),
];

#[test]
fn the_bytes_of_blobs_are_what_consumers_were_given() {
    let [first, later] = versions(LEAFLET);
    let records = [
        first.record(Operation::Refresh, Source::Load, &LEAFLET_FULL).0,
        later.record(Operation::Refresh, Source::Load, &LEAFLET_FULL).0,
        later.record(Operation::Update, Source::Poll, &[ID, ("Name", "No body")]).0,
        later.record(Operation::Delete, Source::Poll, &[ID]).0,
    ];
    golden(LEAFLET, "records.json", &json!(records));
    let read = &records[1]["value"];
    assert_eq!(
        (&read["Body__c"], &read["Body__c_2"]),
        (&Json::Null, &json!(hex(BYTES))),
        "bytes are no text"
    );
}
