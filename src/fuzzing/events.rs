//! Change events, platform events, their schemas, and the bitmaps of changed fields.
//!
//! A payload that is accepted means to the Avro library what it means to us, and its cells can be published. A schema may
//! be anything; where the text is foreign the library is not asked, for it has no bound on how deep a value is.

use std::sync::{Arc, LazyLock};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;

use super::{page, samples, two_parts};
use crate::domain::{ObjectDescription, ReplayId, Stamp};
use crate::envelope::{SchemaIds, event_value};
use crate::salesforce::fuzzing::named_slots;
use crate::salesforce::pubsub::{ChangeEvent, ChangeKind, EventPlan, EventSchema, PlatformSchema, RawEvent};
use crate::schema::event::platform_event;

const ID: &str = "S";

fn raw(payload: &[u8]) -> RawEvent {
    RawEvent {
        replay_id: replay_id(),
        event_id: "wire".to_owned(),
        schema_id: ID.to_owned(),
        payload: payload.to_vec(),
    }
}

fn replay_id() -> ReplayId {
    ReplayId::new([0u8, 0, 0, 0, 0, 7]).expect("an id of six bytes")
}

struct Sample {
    schema: Arc<EventSchema>,
    avro: Schema,
    plan: EventPlan,
    object: Arc<ObjectDescription>,
}

impl Sample {
    fn of(text: &str, object: &Arc<ObjectDescription>) -> Self {
        let schema = Arc::new(EventSchema::parse(ID, text).expect("the sample is an event's schema"));
        Self {
            plan: EventPlan::compile(&schema, object),
            avro: Schema::parse_str(text).expect("the sample is an Avro schema"),
            object: Arc::clone(object),
            schema,
        }
    }
}

/// A byte that chooses a schema, then a payload.
pub fn event(input: &[u8]) {
    static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
        let recorded = samples::ACCOUNT_EVENTS.into_iter().map(|text| Sample::of(text, samples::account()));
        std::iter::once(Sample::of(samples::every_shape(), samples::every_kind())).chain(recorded).collect()
    });
    let Some((choice, payload)) = input.split_first() else { return };
    let Some(sample) = SAMPLES.get(usize::from(*choice) % SAMPLES.len()) else { return };
    let Ok(event) = sample.schema.decode(raw(payload)) else { return };
    let reader = GenericDatumReader::builder(&sample.avro).build().expect("the sample is a schema");
    let mut rest = payload;
    let read = reader.read_value(&mut rest).expect("the Avro library reads what we read");
    assert!(rest.is_empty(), "the Avro library leaves {} bytes", rest.len());
    let Value::Record(fields) = read else { panic!("an event is no record") };
    header(&event, &fields);
    values(sample, &event, &fields);
}

fn named<'a>(fields: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    let value = fields.iter().find(|(have, _)| have == name).map(|(_, value)| value);
    match value {
        Some(Value::Union(_, inside)) => Some(inside),
        plain => plain,
    }
}

fn header(event: &ChangeEvent, fields: &[(String, Value)]) {
    let Some(Value::Record(header)) = named(fields, "ChangeEventHeader") else { panic!("no header") };
    let text = |name: &str, have: &str| {
        assert_eq!(named(header, name), Some(&Value::String(have.to_owned())), "{name}");
    };
    text("entityName", &event.entity_name);
    text("transactionKey", &event.transaction_key);
    text("changeOrigin", &event.change_origin);
    text("commitUser", &event.commit_user);
    assert_eq!(named(header, "commitTimestamp"), Some(&Value::Long(event.committed_at.0)));
    assert_eq!(named(header, "commitNumber"), Some(&Value::Long(event.commit_number)));
    let ids = event.record_ids.iter().map(|id| Value::String(id.clone())).collect();
    assert_eq!(named(header, "recordIds"), Some(&Value::Array(ids)));
    let Some(Value::Enum(_, kind)) = named(header, "changeType") else { panic!("no kind") };
    assert_eq!(kind, event.kind.word());
}

fn values(sample: &Sample, event: &ChangeEvent, fields: &[(String, Value)]) {
    let cells = sample.plan.cells(event).expect("the plan is for this schema");
    let is_update = event.kind == ChangeKind::Update;
    assert!(is_update || cells.changed.is_empty(), "only an update says what changed");
    assert!(cells.nulled.iter().all(|field| cells.changed.contains(field)), "what is nulled has changed");
    assert!(
        cells.nulled.iter().all(|field| cells.cell(field) == Some(b"".as_slice())),
        "what is nulled is null"
    );
    for field in cells.carried() {
        assert!(!sample.plan.absent().contains(field), "a field is carried that no event has");
        let described = sample.object.fields.get(field).expect("a field of the object");
        if let (Some(cell), Some(Value::String(text))) = (cells.cell(field), named(fields, &described.name))
            && !cells.nulled.contains(field)
        {
            assert_eq!(cell, text.as_bytes(), "{}", described.name);
        }
    }
    let ids: Vec<&str> = event.record_ids.iter().map(String::as_str).take(8).collect();
    let rows = cells.rows(&sample.object, &ids).expect("rows of one event");
    assert_eq!(rows.len(), ids.len());
    if Arc::ptr_eq(&sample.object, samples::every_kind()) {
        page::road().check(rows);
    }
}

/// A schema's text, a zero byte, a payload.
pub fn schema(input: &[u8]) {
    let (text, payload) = two_parts(input, 0);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(schema) = EventSchema::parse(ID, text).map(Arc::new) else { return };
    let object = samples::every_kind();
    let plan = EventPlan::compile(&schema, object);
    assert!(!plan.absent().contains(object.key), "the key is always there");
    let Ok(event) = schema.decode(raw(payload)) else { return };
    let cells = plan.cells(&event).expect("the plan is for this schema");
    let ids: Vec<&str> = event.record_ids.iter().map(String::as_str).take(8).collect();
    page::road().check(cells.rows(object, &ids).expect("rows of one event"));
    for paths in [event.changed().count(), event.nulled().count(), event.diff().count()] {
        assert!(paths <= text.len(), "more fields than the schema has");
    }
}

/// The same for a platform event. The schema that we make of its schema reads what we make of its payload.
pub fn platform(input: &[u8]) {
    let (text, payload) = two_parts(input, 0);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(schema) = PlatformSchema::parse(ID, text) else { return };
    let event = schema.read(raw(payload));
    assert_eq!(event.payload, payload, "a payload stays as it came");
    assert!(!event.id.is_empty());
    let Ok(published) = platform_event(schema.name(), text, "salesforce.crm") else { return };
    let published = PlatformSchema::parse(ID, &published).expect("what is registered is a schema");
    let Ok(created_at) = event.created_at else { return };
    let mut value = Vec::new();
    event_value(SchemaIds { key: 1, value: 2 }, &replay_id(), created_at, payload, &mut value);
    let again = published.read(raw(value.get(5..).unwrap_or_default()));
    let again_at: Option<Stamp> = again.created_at.ok();
    assert_eq!(again_at, Some(created_at), "the registered schema does not read the record");
    assert_eq!(again.id, event.id);
}

/// How many fields, how many parts each has, and elements of bitmaps, one a line.
pub fn bitmap(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let Some((parts, elements)) = rest.split_at_checked(usize::from(*count)) else { return };
    let parts: Vec<usize> = parts.iter().map(|parts| usize::from(*parts)).collect();
    let Ok(elements) = std::str::from_utf8(elements) else { return };
    let elements: Vec<&str> = elements.split('\n').collect();
    let Some(slots) = named_slots(&parts, &elements) else { return };
    // The same slots, as Salesforce writes them.
    let mut again: Vec<String> = Vec::new();
    let (mut whole, mut slot) = (Vec::new(), 0);
    for (field, count) in parts.iter().enumerate() {
        whole.push(slots.contains(slot));
        let inside: Vec<bool> = (slot + 1..=slot + count).map(|slot| slots.contains(slot)).collect();
        if inside.contains(&true) {
            again.push(format!("{field}-{}", hexadecimal(&inside)));
        }
        slot += 1 + count;
    }
    again.push(hexadecimal(&whole));
    assert!(slots.iter().all(|named| named < slot), "a slot outside of the schema");
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    assert_eq!(named_slots(&parts, &again), Some(slots), "the bitmap means other fields written again");
}

fn hexadecimal(bits: &[bool]) -> String {
    let nibbles = bits.chunks(4).map(|nibble| {
        nibble.iter().enumerate().fold(0u32, |sum, (place, bit)| sum | u32::from(*bit) << place)
    });
    let digits: Vec<String> = nibbles.map(|nibble| format!("{nibble:X}")).collect();
    format!("0x{}", digits.into_iter().rev().collect::<String>())
}
