//! Payloads that the Avro library wrote by schemas of every form, read to their last byte; and bytes that nobody wrote.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::salesforce::pubsub::event::Value;

/// A value of a primitive type.
#[derive(Clone, Debug)]
enum Plain {
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Text(String),
}

impl Plain {
    fn of(&self) -> Json {
        match self {
            Self::Boolean(_) => "boolean",
            Self::Int(_) => "int",
            Self::Long(_) => "long",
            Self::Float(_) => "float",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
        }
        .into()
    }

    fn avro(&self) -> Avro {
        match self {
            Self::Boolean(value) => Avro::Boolean(*value),
            Self::Int(value) => Avro::Int(*value),
            Self::Long(value) => Avro::Long(*value),
            Self::Float(value) => Avro::Float(*value),
            Self::Double(value) => Avro::Double(*value),
            Self::Text(value) => Avro::String(value.clone()),
        }
    }

    fn is(&self, event: &ChangeEvent, slot: usize) -> bool {
        match (self, event.value(slot)) {
            (Self::Boolean(value), Value::Boolean(have)) => *value == have,
            (Self::Int(value), Value::Integer(have)) => i64::from(*value) == have,
            (Self::Long(value), Value::Integer(have)) => *value == have,
            (Self::Float(value), Value::Double(have)) => f64::from(*value).to_bits() == have.to_bits(),
            (Self::Double(value), Value::Double(have)) => value.to_bits() == have.to_bits(),
            (Self::Text(value), Value::Text(start, end)) => value.as_bytes() == event.text(start, end),
            _ => false,
        }
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    prop_oneof![
        any::<bool>().prop_map(Plain::Boolean),
        any::<i32>().prop_map(Plain::Int),
        any::<i64>().prop_map(Plain::Long),
        any::<f32>().prop_filter("a number", |value| !value.is_nan()).prop_map(Plain::Float),
        any::<f64>().prop_filter("a number", |value| !value.is_nan()).prop_map(Plain::Double),
        any::<String>().prop_map(Plain::Text),
    ]
}

/// A field of an event with its value.
#[derive(Clone, Debug)]
enum Spec {
    Demanded(Plain),
    Nullable {
        value: Plain,
        is_there: bool,
        null_last: bool,
    },
    /// Parts; which of null, text and record is there.
    Compound {
        parts: Vec<(Plain, bool)>,
        text: Option<String>,
        there: u8,
    },
    Texts(Vec<String>),
    Map(Vec<(String, i64)>),
    Symbol(u8),
    Fixed([u8; 5]),
    Bytes(Vec<u8>),
    /// A record in a record, with a list of records.
    Deep(Vec<Option<i64>>),
}

fn spec() -> impl Strategy<Value = Spec> {
    prop_oneof![
        3 => plain().prop_map(Spec::Demanded),
        6 => (plain(), any::<bool>(), any::<bool>())
            .prop_map(|(value, is_there, null_last)| Spec::Nullable { value, is_there, null_last }),
        5 => (vec((plain(), any::<bool>()), 1..12), proptest::option::of(".{0,9}"), 0u8..3)
            .prop_map(|(parts, text, there)| Spec::Compound { parts, text, there }),
        1 => vec(".{0,5}", 0..4).prop_map(Spec::Texts),
        1 => vec(("[a-z]{1,5}", any::<i64>()), 0..3).prop_map(Spec::Map),
        1 => (0u8..3).prop_map(Spec::Symbol),
        1 => any::<[u8; 5]>().prop_map(Spec::Fixed),
        1 => vec(any::<u8>(), 0..9).prop_map(Spec::Bytes),
        1 => vec(any::<Option<i64>>(), 0..4).prop_map(Spec::Deep),
    ]
}

fn record(pairs: impl IntoIterator<Item = (String, Avro)>) -> Avro {
    Avro::Record(pairs.into_iter().collect())
}

impl Spec {
    /// Its type, named after its place, and its value.
    fn avro(&self, place: usize) -> (Json, Avro) {
        match self {
            Self::Demanded(value) => (value.of(), value.avro()),
            Self::Nullable { value, is_there, null_last } => {
                let (of, there, not) = if *null_last {
                    (json!([value.of(), "null"]), 0, 1)
                } else {
                    (json!(["null", value.of()]), 1, 0)
                };
                (of, if *is_there { some(there, value.avro()) } else { some(not, Avro::Null) })
            }
            Self::Compound { parts, text, there } => {
                let names: Vec<String> = (0..parts.len()).map(|part| format!("p{part}")).collect();
                let types = names
                    .iter()
                    .zip(parts)
                    .map(|(name, (value, _))| json!({"name": name, "type": ["null", value.of()]}));
                let of = json!({"type": "record", "name": format!("R{place}"), "fields": types.collect::<Vec<_>>()});
                let value = record(names.into_iter().zip(parts).map(|(name, (value, is_there))| {
                    (name, if *is_there { some(1, value.avro()) } else { null() })
                }));
                match (text, there) {
                    (None, 0) => (json!(["null", of]), null()),
                    (None, _) => (json!(["null", of]), some(1, value)),
                    (Some(_), 0) => (json!(["null", "string", of]), null()),
                    (Some(text), 1) => (json!(["null", "string", of]), some(1, Avro::String(text.clone()))),
                    (Some(_), _) => (json!(["null", "string", of]), some(2, value)),
                }
            }
            Self::Texts(texts) => {
                let items = texts.iter().map(|text| Avro::String(text.clone())).collect();
                (json!(["null", {"type": "array", "items": "string"}]), some(1, Avro::Array(items)))
            }
            Self::Map(pairs) => {
                let values = pairs.iter().map(|(key, value)| (key.clone(), Avro::Long(*value))).collect();
                (json!({"type": "map", "values": "long"}), Avro::Map(values))
            }
            Self::Symbol(index) => {
                let of = json!({"type": "enum", "name": format!("E{place}"), "symbols": ["A", "B", "C"]});
                let symbol = ["A", "B", "C"][usize::from(*index)].to_owned();
                (of, Avro::Enum(u32::from(*index), symbol))
            }
            Self::Fixed(bytes) => (
                json!({"type": "fixed", "name": format!("F{place}"), "size": 5}),
                Avro::Fixed(5, bytes.to_vec()),
            ),
            Self::Bytes(bytes) => ("bytes".into(), Avro::Bytes(bytes.clone())),
            Self::Deep(values) => {
                let inner = json!({"type": "record", "name": format!("I{place}"), "fields": [{"name": "v", "type": ["null", "long"]}]});
                let of = json!({"type": "record", "name": format!("O{place}"), "fields": [{"name": "list", "type": {"type": "array", "items": inner}}]});
                let item = |value: &Option<i64>| {
                    let value = value.map_or_else(null, |value| some(1, Avro::Long(value)));
                    record([("v".to_owned(), value)])
                };
                (of, record([("list".to_owned(), Avro::Array(values.iter().map(item).collect()))]))
            }
        }
    }

    /// Whether the event holds this at its slot.
    fn is_at(&self, event: &ChangeEvent, slot: usize) -> bool {
        match self {
            Self::Demanded(value) | Self::Nullable { value, is_there: true, .. } => value.is(event, slot),
            Self::Nullable { is_there: false, .. } => event.value(slot) == Value::Null,
            Self::Compound { parts, text, there } => {
                let own = event.value(slot);
                let has_parts = *there == 2 || (*there == 1 && text.is_none());
                let own_fits = match (has_parts, text, there) {
                    (true, ..) => own == Value::Parts,
                    (false, Some(text), 1) => Plain::Text(text.clone()).is(event, slot),
                    _ => own == Value::Null,
                };
                own_fits
                    && parts.iter().enumerate().all(|(part, (value, is_there))| {
                        let slot = slot + 1 + part;
                        if has_parts && *is_there {
                            value.is(event, slot)
                        } else {
                            event.value(slot) == Value::Null
                        }
                    })
            }
            Self::Texts(_)
            | Self::Map(_)
            | Self::Symbol(_)
            | Self::Fixed(_)
            | Self::Bytes(_)
            | Self::Deep(_) => event.value(slot) == Value::Other,
        }
    }
}

fn written(specs: &[Spec]) -> (Arc<EventSchema>, Vec<u8>) {
    let fields: Vec<(String, (Json, Avro))> =
        specs.iter().enumerate().map(|(place, spec)| (format!("F{place}__c"), spec.avro(place))).collect();
    let types: Vec<_> = fields.iter().map(|(name, (of, _))| (name.clone(), of.clone())).collect();
    let values: Vec<_> = fields.iter().map(|(name, (_, value))| (name.as_str(), value.clone())).collect();
    let schema = schema_of(&types);
    let payload = payload(&schema, &Says::create(), &values);
    (compiled(&schema), payload)
}

proptest! {
    #[test]
    fn what_the_avro_library_writes_is_read_value_by_value(specs in vec(spec(), 0..20)) {
        let (schema, payload) = written(&specs);
        let event = decode(&schema, payload).unwrap();
        for (spec, field) in specs.iter().zip(schema.fields().iter().skip(1)) {
            prop_assert!(spec.is_at(&event, field.slot), "{:?} is {:?}", spec, event.value(field.slot));
        }
    }

    #[test]
    fn no_cut_and_no_addition_passes_for_the_whole(specs in vec(spec(), 1..6), cut in any::<prop::sample::Index>(), more in 1usize..4) {
        let (schema, payload) = written(&specs);
        let shorter = payload[..cut.index(payload.len())].to_vec();
        prop_assert!(decode(&schema, shorter).is_err());
        let longer = [payload, vec![0; more]].concat();
        prop_assert!(decode(&schema, longer).is_err());
    }

    #[test]
    fn spoilt_and_foreign_bytes_never_panic(
        specs in vec(spec(), 0..6),
        spoilt in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        foreign in vec(any::<u8>(), 0..200),
    ) {
        let (schema, mut payload) = written(&specs);
        let header = schema.header_of(&payload).unwrap().1;
        for (place, byte) in spoilt {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        let behind_header = [&payload[..header.min(payload.len())], &foreign].concat();
        for payload in [payload, behind_header, foreign] {
            if let Err(error) = decode(&schema, payload) {
                prop_assert_eq!(error.kind(), crate::error::Kind::EventUnreadable);
            }
        }
    }
}
