//! What a change-table record looks like, whatever brought the change: read back by the Avro library.

use apache_avro::types::Value;
use proptest::prelude::*;

use super::*;
use crate::config::OutputSettings;
use crate::domain::{Blobs, ChangeSequence, CompoundShape, CursorField, Detail, Field, Rows, Source, Stamp};
use crate::schema;

const TYPES: [&str; 9] = ["string", "boolean", "int", "long", "currency", "date", "datetime", "time", "json"];

pub fn named(types: &[&str]) -> Arc<ObjectDescription> {
    let id = ("Id".to_owned(), "id");
    let others = types.iter().enumerate().map(|(place, of)| (format!("F{place}__c"), *of));
    let fields: Vec<Field> = std::iter::once(id)
        .chain(others)
        .map(|(name, of)| Field {
            label: name.clone(),
            name,
            help: None,
            salesforce_type: of.to_owned(),
            kind: FieldKind::of(of),
            length: 0,
            precision: 0,
            scale: 0,
            calculated: false,
            filterable: true,
            sortable: true,
        })
        .collect();
    Arc::new(ObjectDescription {
        name: "Account".into(),
        target_name: "Account".into(),
        label: "Account".to_owned(),
        fields,
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

pub struct Written {
    lineage: SchemaLineage,
    encoder: Encoder,
    schema: apache_avro::Schema,
}

impl Written {
    pub fn by(object: &Arc<ObjectDescription>) -> Self {
        Self::after(None, object)
    }

    fn after(before: Option<&SchemaLineage>, object: &Arc<ObjectDescription>) -> Self {
        let lineage = SchemaLineage::merge(before, object);
        let text = schema::avro::change_table(&lineage, &OutputSettings::change_table("crm")).unwrap();
        let ids = SchemaIds { key: 7, value: 258 };
        let encoder = Encoder::compile(object, &lineage, ids, KeyFormat::Record);
        Self { lineage, encoder, schema: apache_avro::Schema::parse_str(&text).unwrap() }
    }

    pub fn value(&self, batch: &Batch) -> Result<Vec<u8>, Unfit> {
        let mut bytes = Vec::new();
        self.encoder.encode_value(batch, &batch.changes[0], &mut bytes).map(|()| bytes)
    }

    /// As the Avro library reads it; every byte must be used.
    pub fn decoded(&self, bytes: &[u8]) -> Vec<(String, Value)> {
        assert_eq!(bytes[..5], [0, 0, 0, 1, 2]);
        let mut rest = &bytes[5..];
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&self.schema).build().unwrap();
        let value = reader.read_value(&mut rest).unwrap();
        assert!(rest.is_empty(), "{} bytes are left", rest.len());
        let Value::Record(fields) = value else { panic!("not a record") };
        fields
    }
}

pub fn batch(object: &Arc<ObjectDescription>, operation: Operation, cells: &[Vec<u8>]) -> Batch {
    let mut rows = Rows::new(RowLayout::complete(object.fields.len()));
    rows.push(cells.iter().map(Vec::as_slice)).unwrap();
    let at = Stamp::parse(b"2026-05-19T08:30:00.000Z").unwrap();
    let sequence = ChangeSequence::default().next(at);
    Batch {
        object: object.clone(),
        rows,
        changes: vec![Change { row: 0, operation, sequence, timestamp: at, detail: None }],
        blobs: Blobs::default(),
        details: Vec::new(),
        notices: Vec::new(),
        source: Source::Load,
        only: None,
        load_id: Some("load-1".into()),
        stream_position: "job/locator".into(),
        control: Vec::new(),
    }
}

fn optional(value: Option<Value>) -> Value {
    match value {
        Some(value) => Value::Union(1, Box::new(value)),
        None => Value::Union(0, Box::new(Value::Null)),
    }
}

/// A value of a type: its two spellings (Bulk, REST) and what a reader must get.
fn cell_of(of: &'static str) -> BoxedStrategy<(String, String, Value)> {
    let same = |text: String, value| (text.clone(), text, value);
    match of {
        "boolean" => any::<bool>().prop_map(move |b| same(b.to_string(), Value::Boolean(b))).boxed(),
        "int" => any::<i32>().prop_map(move |n| (n.to_string(), format!("{n}.0"), Value::Int(n))).boxed(),
        "long" => any::<i64>().prop_map(move |n| same(n.to_string(), Value::Long(n))).boxed(),
        "currency" => any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| (format!("{n:?}"), format!("{n:E}"), Value::Double(n)))
            .boxed(),
        "date" => (-700_000i32..2_900_000)
            .prop_map(move |days| {
                let text = Stamp(i64::from(days) * 86_400_000).to_string();
                same(text[..10].to_owned(), Value::Date(days))
            })
            .prop_filter("four digits of year", |(text, ..)| text.len() == 10 && !text.starts_with('-'))
            .boxed(),
        "datetime" => (-8_520_336_000_000i64..64_092_211_200_000)
            .prop_map(|millis| {
                let bulk = Stamp(millis).to_string();
                let rest = bulk.replace('Z', "+0000");
                (bulk, rest, Value::TimestampMillis(millis))
            })
            .boxed(),
        "time" => (0i32..86_400_000)
            .prop_map(move |millis| {
                same(Stamp(i64::from(millis)).to_string()[11..].to_owned(), Value::TimeMillis(millis))
            })
            .boxed(),
        _ => any::<String>()
            .prop_filter("empty is null", |text| !text.is_empty())
            .prop_map(move |text| same(text.clone(), Value::String(text)))
            .boxed(),
    }
}

#[test]
fn a_moment_of_unknown_type_is_one_value_whichever_door_it_came_through() {
    let object = named(&["anyType"]);
    let written = Written::by(&object);
    let read = |cell: &str| {
        let batch = batch(&object, Operation::Refresh, &[b"001A".to_vec(), cell.as_bytes().to_vec()]);
        written.decoded(&written.value(&batch).unwrap()).pop().unwrap().1
    };
    let expected = optional(Some(Value::String("2026-05-19T08:30:00.000Z".to_owned())));
    assert_eq!(read("2026-05-19T08:30:00.000Z"), expected);
    assert_eq!(read("2026-05-19T08:30:00.000+0000"), expected);
}

type Columns = Vec<(&'static str, Option<(String, String, Value)>)>;

fn columns() -> impl Strategy<Value = Columns> {
    let column = proptest::sample::select(TYPES.as_slice())
        .prop_flat_map(|of| (Just(of), proptest::option::weighted(0.8, cell_of(of))));
    proptest::collection::vec(column, 0..24)
}

/// A value of a field whose type was another one before, as the wider type holds it.
#[expect(clippy::cast_precision_loss, reason = "so does Avro's promotion")]
fn widened(value: Value, kind: FieldKind) -> Value {
    match (value, kind) {
        (Value::Int(number), FieldKind::Long) => Value::Long(number.into()),
        (Value::Int(number), FieldKind::Double) => Value::Double(number.into()),
        (Value::Long(number), FieldKind::Double) => Value::Double(number as f64),
        (value, _) => value,
    }
}

/// Types of the fields as they were before, the same places.
fn earlier() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::collection::vec(proptest::sample::select(TYPES.as_slice()), 0..28)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn the_avro_library_reads_what_both_doors_wrote(
        earlier in proptest::option::weighted(0.3, earlier()),
        columns in columns(),
        selected in proptest::collection::vec(proptest::bool::weighted(0.8), 24),
    ) {
        let types: Vec<&str> = columns.iter().map(|(of, _)| *of).collect();
        let object = named(&types);
        let before = earlier.map(|types| SchemaLineage::merge(None, &named(&types)));
        let written = Written::after(before.as_ref(), &object);
        let is_selected = |place: usize| place == 0 || selected[place - 1];
        let layout: Vec<_> = (0..=columns.len()).filter(|place| is_selected(*place)).map(Some).collect();
        let door = |rest: bool| {
            let id = "0015g00000AbCdEAAV".to_owned();
            let others = columns.iter().map(|(_, cell)| match cell {
                Some((bulk, other, _)) => if rest { other.clone() } else { bulk.clone() },
                None => String::new(),
            });
            let cells: Vec<String> = std::iter::once(id).chain(others).collect();
            let mut batch = batch(&object, Operation::Refresh, &vec![Vec::new(); cells.len()]);
            batch.rows = Rows::new(RowLayout::new(&layout, cells.len()));
            batch.rows.push(layout.iter().flatten().map(|place| cells[*place].as_bytes())).unwrap();
            written.value(&batch).unwrap()
        };
        let bytes = door(false);
        prop_assert_eq!(&bytes, &door(true));
        let decoded = written.decoded(&bytes);
        prop_assert_eq!(&decoded[13].1, &Value::String("0015g00000AbCdEAAV".to_owned()));
        let fields = &written.lineage.fields;
        prop_assert_eq!(fields.len(), decoded.len() - 13);
        let mut carried = Vec::new();
        for (place, ((name, value), pinned)) in decoded[13..].iter().zip(fields).enumerate().skip(1) {
            prop_assert_eq!(name, &pinned.name);
            let field = object.field_index(&pinned.source.name).filter(|_| pinned.current);
            let field = field.filter(|field| is_selected(*field));
            carried.extend(field.map(|_| place));
            let cell = field.and_then(|field| columns[field - 1].1.as_ref());
            let wanted = optional(cell.map(|(_, _, value)| widened(value.clone(), pinned.source.kind)));
            prop_assert_eq!(value, &wanted);
        }
        let mask = Mask::of(std::iter::once(0).chain(carried)).hex();
        let mask = (layout.len() <= columns.len()).then_some(Value::String(mask));
        prop_assert_eq!(&decoded[4].1, &optional(mask));
    }
}

#[test]
fn the_header_says_what_happened() {
    let object = named(&["string"; 9]);
    let written = Written::by(&object);
    let mut cells = vec![b"0015g00000AbCdEAAV".to_vec()];
    cells.resize(10, Vec::new());
    let header = |operation| {
        let bytes = written.value(&batch(&object, operation, &cells)).unwrap();
        let mut fields = written.decoded(&bytes);
        fields.truncate(13);
        fields
            .into_iter()
            .map(|(name, value)| (name.trim_start_matches("header__").to_owned(), value))
            .collect::<Vec<_>>()
    };
    let text = |text: &str| Value::String(text.to_owned());
    let expected = |letter, word, mask: Option<&str>, load: Option<&str>| -> Vec<(String, Value)> {
        [
            ("change_seq", text("20260519083000000000000000000000001")),
            ("change_oper", text(letter)),
            ("operation", text(word)),
            ("change_mask", optional(mask.map(text))),
            ("column_mask", optional(None)),
            ("timestamp", Value::TimestampMillis(1_779_179_400_000)),
            ("stream_position", text("job/locator")),
            ("transaction_id", optional(None)),
            ("transaction_event_counter", optional(None)),
            ("source", text("load")),
            ("load_id", optional(load.map(text))),
            ("commit_user", optional(None)),
            ("change_origin", optional(None)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    };
    assert_eq!(header(Operation::Refresh), expected("R", "REFRESH", Some("FF03"), Some("load-1")));
    assert_eq!(header(Operation::Insert), expected("I", "INSERT", Some("FF03"), None));
    assert_eq!(header(Operation::Update), expected("U", "UPDATE", None, None));
    assert_eq!(header(Operation::Delete), expected("D", "DELETE", Some("01"), None));
}

#[test]
fn an_event_says_what_changed_what_it_carries_and_whose_it_was() {
    let object = named(&["string", "string", "boolean"]);
    let written = Written::by(&object);
    let mut batch =
        batch(&object, Operation::Update, &[b"001A".to_vec(), b"new".to_vec(), Vec::new(), Vec::new()]);
    batch.details.push(Detail {
        source: Source::Subscribe,
        changed: Some([1].into_iter().collect()),
        carried: Some([0, 1].into_iter().collect()),
        transaction: Some("0005a1".into()),
        counter: Some(3),
        stream_position: Some("00aa".into()),
        commit_user: Some("005A".into()),
        change_origin: None,
    });
    batch.changes[0].detail = Some(0);
    let fields = written.decoded(&written.value(&batch).unwrap());
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).unwrap().1.clone();
    let text = |text: &str| optional(Some(Value::String(text.to_owned())));
    assert_eq!(field("header__change_mask"), text("02"));
    assert_eq!(field("header__column_mask"), text("03"));
    assert_eq!(field("header__transaction_id"), text("0005a1"));
    assert_eq!(field("header__transaction_event_counter"), optional(Some(Value::Long(3))));
    assert_eq!(field("header__stream_position"), Value::String("00aa".to_owned()));
    assert_eq!(field("header__source"), Value::String("subscribe".to_owned()));
    assert_eq!(field("header__commit_user"), text("005A"));
    assert_eq!(field("header__change_origin"), optional(None));
}

/// An account with two of the ten parts of an address, and a location whose longitude is hidden.
fn with_compounds() -> Arc<ObjectDescription> {
    let mut object = (*named(&["string", "string", "double"])).clone();
    let compound = |name: &str, of: &str, parts: &[(&str, usize)]| {
        let shape = CompoundShape::of(of).unwrap();
        let place = |part: &str| parts.iter().find(|(known, _)| *known == part).map(|(_, place)| *place);
        Compound {
            field: Field {
                name: name.to_owned(),
                salesforce_type: of.to_owned(),
                kind: FieldKind::Compound,
                ..object.fields[1].clone()
            },
            shape,
            parts: shape.parts().iter().map(|part| place(part.name)).collect(),
        }
    };
    object.compounds = vec![
        compound("BillingAddress", "address", &[("street", 1), ("city", 2)]),
        compound("Loc__c", "location", &[("latitude", 3)]),
        compound("ShippingAddress", "address", &[]),
    ];
    Arc::new(object)
}

/// A record of these parts, all others null.
fn record_of(shape: CompoundShape, parts: &[(&str, Value)]) -> Value {
    let part = |name: &str| parts.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let fields = shape.parts().iter().map(|of| (of.name.to_owned(), optional(part(of.name))));
    optional(Some(Value::Record(fields.collect())))
}

#[test]
fn a_compound_is_a_record_of_its_parts_and_null_where_all_of_them_are() {
    let object = with_compounds();
    let written = Written::by(&object);
    let read = |cells: [&str; 4]| {
        let cells: Vec<Vec<u8>> = cells.iter().map(|cell| cell.as_bytes().to_vec()).collect();
        let batch = batch(&object, Operation::Refresh, &cells);
        let mut fields = written.decoded(&written.value(&batch).unwrap());
        assert_eq!(
            fields[3].1,
            optional(Some(Value::String("7F".to_owned()))),
            "bits of fields and compounds"
        );
        fields.split_off(17).into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    let street = ("street", Value::String("1 Main\r\nSt".to_owned()));
    assert_eq!(
        read(["001A", "1 Main\r\nSt", "", "-0.0"]),
        [
            record_of(CompoundShape::Address, &[street]),
            record_of(CompoundShape::Location, &[("latitude", Value::Double(0.0))]),
            optional(None)
        ]
    );
    assert_eq!(read(["001A", "", "", ""]), [optional(None), optional(None), optional(None)]);
}

#[test]
fn a_compound_of_which_an_event_carries_a_part_only_is_not_carried() {
    let object = with_compounds();
    let written = Written::by(&object);
    let cells = ["001A", "1 Main", "", "2.5"].map(|cell| cell.as_bytes().to_vec());
    let mut batch = batch(&object, Operation::Update, &cells);
    let mut read = |carried: &[usize]| {
        batch.details = vec![Detail {
            source: Source::Subscribe,
            changed: Some([1].into_iter().collect()),
            carried: Some(carried.iter().copied().collect()),
            transaction: None,
            counter: None,
            stream_position: None,
            commit_user: None,
            change_origin: None,
        }];
        batch.changes[0].detail = Some(0);
        let fields = written.decoded(&written.value(&batch).unwrap());
        let mask = |place: usize| match &fields[place].1 {
            Value::Union(1, text) => format!("{text:?}"),
            other => format!("{other:?}"),
        };
        (mask(3), mask(4), fields[17].1.clone())
    };
    let text = |text: &str| format!("{:?}", Value::String(text.to_owned()));
    // Bit 4 is the address, 5 the location, 6 an address without parts.
    let street = record_of(CompoundShape::Address, &[("street", Value::String("1 Main".to_owned()))]);
    assert_eq!(read(&[0, 1, 2]), (text("12"), text("57"), street));
    assert_eq!(read(&[0, 1, 3]), (text("12"), text("6B"), optional(None)));
}

#[test]
fn a_decimal_is_exact_and_what_would_be_rounded_is_refused() {
    let mut object = (*named(&["currency"])).clone();
    (object.fields[1].kind, object.fields[1].precision, object.fields[1].scale) = (FieldKind::Decimal, 18, 2);
    let object = Arc::new(object);
    let written = Written::by(&object);
    let read = |cell: &str| -> Result<Vec<u8>, Unfit> {
        let cells = [b"001A".to_vec(), cell.as_bytes().to_vec()];
        let value = written.value(&batch(&object, Operation::Refresh, &cells))?;
        match written.decoded(&value).pop().unwrap().1 {
            Value::Union(1, number) => match *number {
                Value::Decimal(number) => Ok(Vec::<u8>::try_from(&number).unwrap()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read("1234567890123456.78"), Ok(123_456_789_012_345_678_i64.to_be_bytes().to_vec()));
    assert_eq!(read("9.5E8"), Ok(95_000_000_000_i64.to_be_bytes()[3..].to_vec()));
    assert_eq!(read("-0.0"), Ok(vec![0]));
    for cell in ["0.005", "10000000000000000", "NaN", "Infinity", "1e400", "12,5", "+1", "true"] {
        let unfit = read(cell).unwrap_err();
        assert_eq!(unfit.to_string(), "object Account: field F0__c holds what is no currency", "{cell}");
    }
}

#[test]
fn a_delete_that_only_knows_the_id_says_so() {
    let object = named(&["string"; 9]);
    let written = Written::by(&object);
    let mut batch = batch(&object, Operation::Delete, &vec![Vec::new(); 10]);
    batch.rows = Rows::new(RowLayout::new(&[Some(0)], 10));
    batch.rows.push([b"0015g00000AbCdEAAV".as_slice()]).unwrap();
    let decoded = written.decoded(&written.value(&batch).unwrap());
    assert_eq!(decoded[4].1, optional(Some(Value::String("01".to_owned()))));
    assert!(decoded[14..].iter().all(|(_, value)| *value == optional(None)));
}

#[test]
fn a_value_that_does_not_fit_is_an_error_and_never_something_else() {
    for (of, wrong) in [
        ("int", "2147483648"),
        ("int", "1.5"),
        ("int", "x"),
        ("long", "9223372036854775808"),
        ("boolean", "TRUE"),
        ("boolean", "1"),
        ("currency", "NaN"),
        ("currency", "1e999"),
        ("currency", "Infinity"),
        ("long", "1e400"),
        ("date", "12026-02-03"),
        ("date", "2026-02-03T00:00:00Z"),
        ("datetime", "2026-12-31T23:59:60.000Z"),
        ("datetime", "2026-12-31T23:59:59"),
        ("time", "23:59:60.000Z"),
        ("time", "13:30:00.000+0100"),
        ("date", "2026-02-30"),
        ("datetime", "today"),
        ("time", "25:00:00.000Z"),
    ] {
        let object = named(&[of]);
        let cells = [b"0015g00000AbCdEAAV".to_vec(), wrong.as_bytes().to_vec()];
        let unfit = Written::by(&object).value(&batch(&object, Operation::Refresh, &cells)).unwrap_err();
        assert_eq!(unfit.to_string(), format!("object Account: field F0__c holds what is no {of}"));
    }
    let object = named(&["string"]);
    let cells = [b"0015g00000AbCdEAAV".to_vec(), vec![0xff, 0xfe]];
    assert!(Written::by(&object).value(&batch(&object, Operation::Refresh, &cells)).is_err());
}

#[test]
fn a_key_is_the_id_alone() {
    let object = named(&[]);
    let batch = batch(&object, Operation::Refresh, &[b"0015g00000AbCdEAAV".to_vec()]);
    let mut key = Vec::new();
    Written::by(&object).encoder.encode_key(batch.rows.row(0).unwrap(), &mut key).unwrap();
    assert_eq!(key, b"\x00\x00\x00\x00\x07\x240015g00000AbCdEAAV");
}
