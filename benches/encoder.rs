//! Records a second that the compiled plan writes, against the Avro library building values, in the same run.
//!
//! In: rows of 50 fields, most of them text, as a Bulk page brings them. Out: both rates and their ratio on stdout. Run
//! with `cargo bench --bench encoder`; before it measures, it makes sure that both write the same bytes.

#![expect(clippy::print_stdout, reason = "its result is its output")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use sf2kafka::config::{KeyFormat, OutputSettings};
use sf2kafka::domain::{
    Batch, Blobs, Change, ChangeSequence, CursorField, Field, FieldKind, ObjectDescription, Operation,
    RowLayout, Rows, Source, Stamp, cell,
};
use sf2kafka::envelope::{Encoder, SchemaIds};
use sf2kafka::schema::{SchemaLineage, avro};

const ROWS: u32 = 2_000;
const SHORTEST: Duration = Duration::from_secs(3);

/// 50 fields: an id, 37 texts of which a third are null, and 12 of the other kinds.
fn object() -> Arc<ObjectDescription> {
    let others = ["boolean", "double", "datetime", "currency", "date", "int"].repeat(2);
    let types = std::iter::once("id").chain(std::iter::repeat_n("string", 37)).chain(others);
    let field = |(place, of): (usize, &str)| Field {
        name: if place == 0 { "Id".to_owned() } else { format!("Field{place}__c") },
        label: format!("Field {place}"),
        help: None,
        salesforce_type: of.to_owned(),
        kind: FieldKind::of(of),
        length: 255,
        precision: 0,
        scale: 0,
        calculated: false,
        filterable: true,
        sortable: true,
    };
    Arc::new(ObjectDescription {
        name: "Account".into(),
        target_name: "Account".into(),
        label: "Account".to_owned(),
        fields: types.enumerate().map(field).collect(),
        key: 0,
        cursor: Some(CursorField(0)),
        created_date: None,
        is_deleted: None,
        compounds: Vec::new(),
        replicateable: true,
        bulk: true,
        unsupported: None,
        revision: 1,
    })
}

fn text(row: u32, place: usize, kind: FieldKind) -> String {
    match kind {
        FieldKind::Boolean => row.is_multiple_of(2).to_string(),
        FieldKind::Int => (row * 7).to_string(),
        FieldKind::Double => format!("{}.25", row * 31),
        FieldKind::Date => format!("2026-05-{:02}", 1 + row % 28),
        FieldKind::DateTime => format!("2026-05-19T08:{:02}:{:02}.000Z", row / 60 % 60, row % 60),
        _ if place == 0 => format!("0015g0000{row:06}AAA"),
        _ if (place + row as usize).is_multiple_of(3) => String::new(),
        _ => format!("Field {place} of row {row}"),
    }
}

fn batch(object: &Arc<ObjectDescription>) -> Batch {
    let mut rows = Rows::new(RowLayout::complete(object.fields.len()));
    for row in 0..ROWS {
        let cells: Vec<String> =
            object.fields.iter().enumerate().map(|(place, field)| text(row, place, field.kind)).collect();
        rows.push(cells.iter().map(String::as_bytes)).expect("as many cells as fields");
    }
    let at = Stamp::parse(b"2026-05-19T08:30:00.000Z").expect("a datetime");
    let mut sequence = ChangeSequence::default();
    let changes = (0..ROWS).map(|row| {
        sequence = sequence.next(at);
        Change { row, operation: Operation::Refresh, sequence, timestamp: at, detail: None }
    });
    Batch {
        object: object.clone(),
        changes: changes.collect(),
        blobs: Blobs::default(),
        details: Vec::new(),
        notices: Vec::new(),
        rows,
        source: Source::Load,
        only: None,
        load_id: Some("20260519083000-1".into()),
        stream_position: "7505g00000AbCdEAAV/MTAwMDA".into(),
        control: Vec::new(),
    }
}

/// The same record as a value of the library.
fn value(batch: &Batch, change: &Change, names: &[String], mask: &str) -> Value {
    let some = |value| Value::Union(1, Box::new(value));
    let null = || Value::Union(0, Box::new(Value::Null));
    let text = |text: &str| Value::String(text.to_owned());
    let header = [
        text(&change.sequence.to_string()),
        text(change.operation.letter()),
        text(change.operation.word()),
        some(text(mask)),
        null(),
        Value::TimestampMillis(change.timestamp.0),
        text(&batch.stream_position),
        null(),
        null(),
        text(batch.source.word()),
        some(text(batch.load_id.as_deref().unwrap_or_default())),
        null(),
        null(),
    ];
    let row = batch.rows.row(change.row as usize).expect("a row");
    let data = batch.object.fields.iter().enumerate().map(|(place, field)| {
        let Some(cell) = row.value(place) else { return null() };
        let value = match field.kind {
            FieldKind::Boolean => Value::Boolean(cell::boolean(cell).expect("a boolean")),
            FieldKind::Int => {
                Value::Int(i32::try_from(cell::integer(cell).expect("a number")).expect("an int"))
            }
            FieldKind::Double => Value::Double(cell::double(cell).expect("a number")),
            FieldKind::Date => Value::Date(cell::date(cell).expect("a date")),
            FieldKind::DateTime => Value::TimestampMillis(cell::datetime(cell).expect("a datetime")),
            _ => text(std::str::from_utf8(cell).expect("text")),
        };
        if place == 0 { value } else { some(value) }
    });
    Value::Record(names.iter().cloned().zip(header.into_iter().chain(data)).collect())
}

/// Records a second, over whole batches until enough time went by.
fn rate(mut write: impl FnMut()) -> f64 {
    write();
    let started = Instant::now();
    let mut batches = 0u32;
    while started.elapsed() < SHORTEST {
        write();
        batches += 1;
    }
    f64::from(batches) * f64::from(ROWS) / started.elapsed().as_secs_f64()
}

fn main() {
    let object = object();
    let batch = batch(&object);
    let lineage = SchemaLineage::merge(None, &object);
    let schema_text =
        avro::change_table(&lineage, &OutputSettings::change_table("crm")).expect("legal names");
    let schema = apache_avro::Schema::parse_str(&schema_text).expect("a schema");
    let apache_avro::Schema::Record(record) = &schema else { unreachable!("the envelope is a record") };
    let names: Vec<String> = record.fields.iter().map(|field| field.name.clone()).collect();
    let mask = "FFFFFFFFFFFF03";

    let encoder = Encoder::compile(&object, &lineage, SchemaIds { key: 1, value: 2 }, KeyFormat::Record);
    let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    let mut size = 0;
    for change in &batch.changes {
        bytes.clear();
        encoder.encode_value(&batch, change, &mut bytes).expect("values that fit");
        expected.clear();
        let wanted = value(&batch, change, &names, mask);
        writer.write_value(&mut expected, wanted).expect("a record of the schema");
        assert_eq!(bytes.get(5..), Some(expected.as_slice()), "both write the same bytes");
        size += bytes.len();
    }

    let plan = rate(|| {
        for change in &batch.changes {
            bytes.clear();
            encoder.encode_value(&batch, change, &mut bytes).expect("values that fit");
            black_box(&bytes);
        }
    });
    let library = rate(|| {
        for change in &batch.changes {
            bytes.clear();
            let value = value(&batch, change, &names, mask);
            writer.write_value(&mut bytes, value).expect("a record of the schema");
            black_box(&bytes);
        }
    });
    println!("{ROWS} rows of {} fields, {} bytes a record", object.fields.len(), size / ROWS as usize);
    println!("plan:    {plan:>12.0} records/s");
    println!("library: {library:>12.0} records/s");
    println!("ratio:   {:>12.1}", plan / library);
}
