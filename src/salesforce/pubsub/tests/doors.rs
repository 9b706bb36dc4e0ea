//! Three doors, one value: what REST, Bulk and an event say of the same record has the same content.

use proptest::prelude::*;

use super::*;
use crate::domain::canonical::canonical;
use crate::domain::content::content_hash;
use crate::domain::{Rows, Stamp, cell};
use crate::salesforce::csv::CsvPage;
use crate::salesforce::page::{Columns, decode as decode_page};
use crate::salesforce::pubsub::EventPlan;

/// A value of a Salesforce type at each door; none: null.
#[derive(Clone, Debug)]
struct Value {
    of: &'static str,
    rest: Json,
    /// Some JSON numbers are spelled otherwise than our library does it.
    rest_text: Option<String>,
    bulk: String,
    event: Avro,
    event_type: &'static str,
}

const TYPES: [&str; 11] = [
    "string",
    "textarea",
    "reference",
    "boolean",
    "int",
    "double",
    "percent",
    "date",
    "datetime",
    "time",
    "multipicklist",
];

fn event_type(of: &str) -> &'static str {
    match of {
        "boolean" => "boolean",
        "int" => "int",
        "double" | "percent" => "double",
        "date" | "datetime" | "time" => "long",
        _ => "string",
    }
}

fn value(of: &'static str) -> BoxedStrategy<Value> {
    let made = move |rest: Json, bulk: String, event: Avro| Value {
        of,
        rest,
        rest_text: None,
        bulk,
        event: some(1, event),
        event_type: event_type(of),
    };
    let there = match of {
        "boolean" => any::<bool>()
            .prop_map(move |value| made(value.into(), value.to_string(), Avro::Boolean(value)))
            .boxed(),
        "int" => any::<i32>()
            .prop_map(move |value| made(value.into(), value.to_string(), Avro::Int(value)))
            .boxed(),
        "double" | "percent" => prop_oneof![
            any::<f64>().prop_filter("finite", |value| value.is_finite()),
            any::<i32>().prop_map(f64::from),
            Just(0.0),
            Just(-0.0),
            Just(f64::MIN_POSITIVE),
            Just(f64::MAX),
            Just(0.1 + 0.2),
            (0i64..1_000_000_000).prop_map(|cents| cents as f64 / 100.0),
        ]
        .prop_map(move |value| Value {
            // Both spellings of Java's numbers.
            rest_text: Some(if value.abs() >= 1e7 { format!("{value:E}") } else { format!("{value:?}") }),
            ..made(Json::Null, format!("{value:?}"), Avro::Double(value))
        })
        .boxed(),
        "date" => (-700_000i64..2_900_000)
            .prop_filter("four digits", |days| (-719_528..2_932_897).contains(days))
            .prop_map(move |days| {
                let text = Stamp(days * 86_400_000).to_string()[..10].to_owned();
                made(text.clone().into(), text, Avro::Long(days * 86_400_000))
            })
            .boxed(),
        "datetime" => (-8_520_336_000_000i64..64_092_211_200_000)
            .prop_map(move |millis| {
                let bulk = Stamp(millis).to_string();
                made(bulk.replace('Z', "+0000").into(), bulk, Avro::Long(millis))
            })
            .boxed(),
        "time" => (0i64..86_400_000)
            .prop_map(move |millis| {
                let text = Stamp(millis).to_string()[11..].to_owned();
                made(text.clone().into(), text, Avro::Long(millis))
            })
            .boxed(),
        _ => "\\PC{0,12}|[\"\r\n,;']{1,6}"
            .prop_map(move |text| made(text.clone().into(), text.clone(), Avro::String(text)))
            .boxed(),
    };
    let absent = made(Json::Null, String::new(), Avro::Null);
    let absent = Value { event: null(), ..absent };
    // A checkbox is never null.
    if of == "boolean" { there } else { prop_oneof![6 => there, 1 => Just(absent)].boxed() }
}

fn record() -> impl Strategy<Value = Vec<Value>> {
    proptest::collection::vec(proptest::sample::select(TYPES.as_slice()).prop_flat_map(value), 1..12)
}

const ID: &str = "001000000000001AAA";

fn by_rest(object: &Arc<ObjectDescription>, values: &[Value]) -> Rows {
    let all: Vec<usize> = (0..object.fields.len()).collect();
    let cells = values.iter().enumerate().map(|(place, value)| {
        let text = value.rest_text.clone().unwrap_or_else(|| value.rest.to_string());
        format!(",\"F{place}__c\":{text}")
    });
    let cells: String = cells.collect();
    let body = format!(
        r#"{{"totalSize":1,"done":true,"records":[{{"attributes":{{"type":"Account"}},"Id":"{ID}"{cells}}}]}}"#
    );
    decode_page(body.as_bytes(), &Columns::new(object, &all)).unwrap().rows
}

fn by_bulk(object: &Arc<ObjectDescription>, values: &[Value]) -> Rows {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let names: String = (0..values.len()).map(|place| format!(",\"F{place}__c\"")).collect();
    let cells: String = values.iter().map(|value| format!(",{}", quoted(&value.bulk))).collect();
    let mut page = CsvPage::new(object, None);
    page.feed(format!("\"Id\"{names}\n\"{ID}\"{cells}\n").as_bytes()).unwrap();
    page.finish().unwrap()
}

fn by_event(object: &Arc<ObjectDescription>, values: &[Value], says: &Says) -> Rows {
    let names: Vec<String> = (0..values.len()).map(|place| format!("F{place}__c")).collect();
    let types: Vec<_> = names
        .iter()
        .zip(values)
        .map(|(name, value)| (name.clone(), json!(["null", value.event_type])))
        .collect();
    let given: Vec<_> =
        names.iter().zip(values).map(|(name, value)| (name.as_str(), value.event.clone())).collect();
    let text = schema_of(&types);
    let schema = compiled(&text);
    let event = decode(&schema, payload(&text, says, &given)).unwrap();
    let cells = EventPlan::compile(&schema, object).cells(&event).unwrap();
    assert!(cells.unexpressed.is_empty());
    cells.rows(object, &[ID]).unwrap()
}

/// An update that sets every field, those that are null to null.
fn sets_all(values: &[Value]) -> Says {
    let bitmap = |wanted: &dyn Fn(&Value) -> bool| {
        let bits = values.iter().enumerate().filter(|(_, value)| wanted(value));
        vec![format!("0x{:04X}", bits.fold(0u32, |map, (place, _)| map | 2 << place))]
    };
    let changed = bitmap(&|_| true);
    let nulled = bitmap(&|value| value.event == null());
    Says { kind: "UPDATE", changed, nulled, ..Says::create() }
}

proptest! {
    #[test]
    fn a_record_has_the_same_content_at_every_door(values in record()) {
        let names: Vec<String> = (0..values.len()).map(|place| format!("F{place}__c")).collect();
        let fields: Vec<_> =
            names.iter().zip(&values).map(|(name, value)| (name.as_str(), value.of)).collect();
        let object = described(&fields);
        let doors = [
            by_rest(&object, &values),
            by_bulk(&object, &values),
            by_event(&object, &values, &Says::create()),
            by_event(&object, &values, &sets_all(&values)),
        ];
        let hashes = doors.each_ref().map(|rows| content_hash(&object, rows.row(0).unwrap()));
        prop_assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{:?}", hashes);
        // Field by field, as encoders read cells.
        for (index, field) in object.fields.iter().enumerate() {
            let read = |rows: &Rows| {
                let cell = rows.row(0).unwrap().value(index);
                cell.map(|cell| match field.kind {
                    FieldKind::Boolean => cell::boolean(cell).map(i64::from),
                    FieldKind::Int | FieldKind::Long => cell::integer(cell),
                    FieldKind::Double => cell::double(cell).map(|value| value.to_bits().cast_signed()),
                    FieldKind::Date => cell::date(cell).map(i64::from),
                    FieldKind::DateTime => cell::datetime(cell),
                    FieldKind::Time => cell::time(cell).map(i64::from),
                    FieldKind::Text
                    | FieldKind::Decimal
                    | FieldKind::Binary
                    | FieldKind::Blob
                    | FieldKind::Compound
                    | FieldKind::Hashed
                    | FieldKind::Masked => Some(0),
                })
            };
            let first = read(&doors[0]);
            prop_assert_ne!(first, Some(None), "{} reads", field.name);
            // And as hashes are taken of them.
            let hidden = Field { kind: FieldKind::Hashed, ..field.clone() };
            let spelled = |rows: &Rows| {
                rows.row(0).unwrap().value(index).map(|cell| canonical(&hidden, cell).into_owned())
            };
            for rows in &doors {
                prop_assert_eq!(spelled(rows), spelled(&doors[0]), "{}", field.name);
                prop_assert_eq!(read(rows), first, "{}", field.name);
                prop_assert!(rows.row(0).unwrap().cell(index).is_some(), "null is not absent");
            }
        }
    }
}
