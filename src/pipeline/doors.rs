//! Three doors, one value: what REST, Bulk and an event say of the same record is published as the same bytes.
//!
//! Comes in: objects and records made from a seed, spelled as each door spells them. They go through the program's own
//! readers of describes, pages, CSV and events, through lineage, schema and encoder. Goes out: nothing, or a failure with
//! the seed. What must be published is known beforehand and not read from any door; the Avro library reads the bytes.

mod object;
mod spelling;

use std::sync::Arc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use proptest::prelude::*;

use self::object::{Made, Seed};
use self::spelling::Spelled;
use crate::config::{Blobs, Compounds, Decimals, FieldRules, KeyFormat, OutputSettings, ValueRules};
use crate::domain::{
    Batch, Change, ChangeSequence, FieldKind, ObjectDescription, Operation, RowLayout, Rows, Source, Stamp,
};
use crate::envelope::{Encoder, SchemaIds, Unfit};
use crate::salesforce::doors;
use crate::salesforce::pubsub::{EventCells, EventPlan, EventSchema, RawEvent};
use crate::schema::{SchemaLineage, avro};

/// 13 header fields, then the object's.
const HEADERS: usize = 13;
const CASES: u32 = 250;
const RECORDS: usize = 410;

struct Written {
    encoder: Encoder,
    schema: apache_avro::Schema,
}

impl Written {
    fn by(object: &Arc<ObjectDescription>) -> Self {
        let lineage = SchemaLineage::merge(None, object);
        let text = avro::change_table(&lineage, &OutputSettings::change_table("crm")).unwrap();
        let ids = SchemaIds { key: 7, value: 8 };
        Self {
            encoder: Encoder::compile(object, &lineage, ids, KeyFormat::Record),
            schema: apache_avro::Schema::parse_str(&text).unwrap(),
        }
    }

    /// The values of all rows, or which does not fit.
    fn values(&self, object: &Arc<ObjectDescription>, rows: Rows) -> Vec<Result<Vec<u8>, Unfit>> {
        let at = Stamp::parse(b"2026-05-19T08:30:00.000Z").unwrap();
        let sequence = ChangeSequence::default().next(at);
        let change =
            |row| Change { row, operation: Operation::Refresh, sequence, timestamp: at, detail: None };
        let batch = Batch {
            object: object.clone(),
            changes: (0..u32::try_from(rows.len()).unwrap()).map(change).collect(),
            rows,
            blobs: crate::domain::Blobs::default(),
            details: Vec::new(),
            notices: Vec::new(),
            source: Source::Load,
            load_id: None,
            only: None,
            stream_position: "".into(),
            control: Vec::new(),
        };
        let value = |change| {
            let mut bytes = Vec::new();
            self.encoder.encode_value(&batch, change, &mut bytes).map(|()| bytes)
        };
        batch.changes.iter().map(value).collect()
    }

    fn decoded(&self, bytes: &[u8]) -> Vec<(String, Avro)> {
        let mut rest = &bytes[5..];
        let reader = GenericDatumReader::builder(&self.schema).build().unwrap();
        let Avro::Record(mut fields) = reader.read_value(&mut rest).unwrap() else { panic!("not a record") };
        assert!(rest.is_empty(), "{} bytes are left", rest.len());
        fields.split_off(HEADERS)
    }
}

/// The same value, however the library holds it: it keeps the bytes of decimals.
fn same(read: &Avro, wanted: &Avro) -> bool {
    match (read, wanted) {
        (Avro::Union(left, read), Avro::Union(right, wanted)) => left == right && same(read, wanted),
        (Avro::Decimal(read), Avro::Decimal(wanted)) => unscaled(read) == unscaled(wanted),
        (Avro::Double(read), Avro::Double(wanted)) => read.to_bits() == wanted.to_bits(),
        (Avro::Record(read), Avro::Record(wanted)) => {
            read.len() == wanted.len()
                && read
                    .iter()
                    .zip(wanted)
                    .all(|(read, wanted)| read.0 == wanted.0 && same(&read.1, &wanted.1))
        }
        (read, wanted) => read == wanted,
    }
}

fn unscaled(number: &apache_avro::Decimal) -> i128 {
    let bytes = Vec::<u8>::try_from(number).unwrap();
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut all = [sign; 16];
    all[16 - bytes.len()..].copy_from_slice(&bytes);
    i128::from_be_bytes(all)
}

/// The events' rows as they are published: what an event cannot express is read from the record.
fn completed(object: &Arc<ObjectDescription>, cells: &[EventCells], read: &Rows) -> Rows {
    let mut rows = Rows::new(RowLayout::complete(object.fields.len()));
    for (cells, read) in cells.iter().zip(read.iter()) {
        let cell = |field: usize| match cells.cell(field) {
            Some(cell) if !cells.unexpressed.contains(field) => cell,
            _ => read.cell(field).unwrap(),
        };
        rows.push((0..object.fields.len()).map(cell)).unwrap();
    }
    rows
}

fn by_events(made: &Made, object: &Arc<ObjectDescription>, records: &[Spelled]) -> Vec<EventCells> {
    let schema = Arc::new(EventSchema::parse("S", &made.event_schema()).unwrap());
    let plan = EventPlan::compile(&schema, object);
    let writer = apache_avro::Schema::parse_str(&made.event_schema()).unwrap();
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&writer).build().unwrap();
    let cells = |record: &Spelled| {
        let raw = RawEvent {
            replay_id: "00ff".parse().unwrap(),
            event_id: "366d9355-f1bc-4650-b321-6d45e77180b5".to_owned(),
            schema_id: "S".to_owned(),
            payload: writer.write_value_to_vec(made.event(record)).unwrap(),
        };
        plan.cells(&schema.decode(raw).unwrap()).unwrap()
    };
    records.iter().map(cells).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 0, ..ProptestConfig::default() })]
    #[test]
    fn a_record_is_published_alike_whichever_door_it_came_through(seed: u64) {
        let mut seed = Seed::new(seed);
        let made = Made::new(&mut seed);
        let object = Arc::new(doors::describe(&made.describe()).compile(&made.rules, &[]).unwrap());
        let written = Written::by(&object);
        let records: Vec<Spelled> = (0..RECORDS).map(|_| made.record(&mut seed)).collect();

        let page = made.page(&mut seed, &records);
        let rest = written.values(&object, doors::rest(&object, page.as_bytes()));
        prop_assert_eq!(rest.len(), RECORDS);
        let csv = made.csv(&mut seed, &records);
        let piece = 1 + seed.below(4_000);
        let bulk = written.values(&object, doors::bulk(&object, csv.as_bytes(), piece));
        let cells = by_events(&made, &object, &records);
        for cells in &cells {
            for field in cells.unexpressed.iter() {
                prop_assert_eq!(object.fields[field].kind, FieldKind::Decimal, "{}", object.fields[field].name);
            }
            prop_assert_eq!(cells.carried().count() + 1, object.fields.len());
        }
        let events = completed(&object, &cells, &doors::rest(&object, page.as_bytes()));
        let events = written.values(&object, events);

        for (row, record) in records.iter().enumerate() {
            let bytes = rest[row].as_ref().map_err(|unfit| TestCaseError::fail(unfit.to_string()))?;
            prop_assert_eq!(Ok(bytes), bulk[row].as_ref(), "REST and Bulk, record {}", row);
            prop_assert_eq!(Ok(bytes), events[row].as_ref(), "REST and event, record {}", row);
            let decoded = written.decoded(bytes);
            let wanted = made.wanted(&object, row, record);
            prop_assert_eq!(decoded.len(), wanted.len());
            for ((name, read), (wanted_name, wanted)) in decoded.iter().zip(&wanted) {
                prop_assert_eq!(name, wanted_name);
                prop_assert!(same(read, wanted), "{}: {:?} where {:?} was entered", name, read, wanted);
            }
        }
    }
}

#[test]
fn what_does_not_fit_its_type_fits_at_no_door() {
    for (of, odd) in [
        ("boolean", "TRUE"),
        ("boolean", "1"),
        ("int", "2147483648"),
        ("int", "1.5"),
        ("int", "1e400"),
        ("double", "NaN"),
        ("double", "Infinity"),
        ("double", "-Infinity"),
        ("double", "1e400"),
        ("date", "12026-01-01"),
        ("date", "2026-02-30"),
        ("datetime", "2026-12-31T23:59:60.000Z"),
        ("datetime", "2026-01-01T00:00:00.000"),
        ("time", "24:00:00.000Z"),
        ("time", "23:59:60.000Z"),
    ] {
        let describe = format!(
            r#"{{"name":"Account","queryable":true,"fields":[{{"name":"Id","type":"id"}},{{"name":"F","type":"{of}"}}]}}"#
        );
        let object =
            Arc::new(doors::describe(describe.as_bytes()).compile(&Default::default(), &[]).unwrap());
        let written = Written::by(&object);
        let page = format!(
            r#"{{"totalSize":1,"done":true,"records":[{{"Id":"001A","F":"{odd}"}},{{"Id":"001B","F":null}}]}}"#
        );
        let csv = format!("\"Id\",\"F\"\n\"001A\",\"{odd}\"\n\"001B\",\"\"\n");
        for rows in [doors::rest(&object, page.as_bytes()), doors::bulk(&object, csv.as_bytes(), 7)] {
            let values = written.values(&object, rows);
            let unfit = values[0].as_ref().unwrap_err().to_string();
            assert_eq!(unfit, format!("object Account: field F holds what is no {of}"), "{odd}");
            assert!(values[1].is_ok(), "the record beside it is published");
        }
    }
}

#[test]
fn a_recorded_describe_makes_schemas_that_avro_takes_however_values_are_asked_for() {
    let describe = doors::describe(include_bytes!("../../tests/data/salesforce/describe-Account.json"));
    let mut texts = std::collections::BTreeSet::new();
    for decimals in [Decimals::Double, Decimals::Decimal] {
        for compounds in [Compounds::LeftOut, Compounds::Record] {
            let values = ValueRules { decimals, compounds, blobs: Blobs::Reference };
            let rules = FieldRules { values, ..FieldRules::default() };
            let object = Arc::new(describe.compile(&rules, &[]).unwrap());
            let lineage = SchemaLineage::merge(None, &object);
            let text = avro::change_table(&lineage, &OutputSettings::change_table("crm")).unwrap();
            apache_avro::Schema::parse_str(&text).unwrap();
            let coordinates = r#""logicalType":"decimal","precision":18,"scale":15"#;
            assert_eq!(text.contains(coordinates), decimals == Decimals::Decimal);
            let defined = text.matches(r#""namespace":"salesforce.crm.compound""#).count();
            assert_eq!(defined, usize::from(compounds == Compounds::Record), "one type for all addresses");
            texts.insert(text);
        }
    }
    assert_eq!(texts.len(), 4);
}
