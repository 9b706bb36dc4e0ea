//! Events that real orgs sent, and what they say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::domain::Stamp;
use crate::salesforce::pubsub::ChangeKind;
use crate::salesforce::pubsub::event::Value;
use crate::salesforce::pubsub::event_schema::Shape;

fn recorded_json(file: &str) -> Json {
    let path = format!("{}/tests/data/salesforce/pubsub/events/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn recorded_event(file: &str, index: usize) -> RawEvent {
    let json = recorded_json(file);
    let events = json.get("events").unwrap_or(&json);
    let event = &events[index];
    let bytes = |json: &Json| STANDARD.decode(json.as_str().unwrap()).unwrap();
    RawEvent {
        replay_id: ReplayId::new(bytes(&event["replayId"])).unwrap(),
        event_id: event["event"]["id"].as_str().unwrap().to_owned(),
        schema_id: event["event"]["schemaId"].as_str().unwrap().to_owned(),
        payload: bytes(&event["event"]["payload"]),
    }
}

/// A value as the recorded decodings spell it.
fn spelled(event: &ChangeEvent, slot: usize) -> Json {
    match event.value(slot) {
        Value::Null => Json::Null,
        Value::Boolean(value) => value.into(),
        Value::Integer(value) => value.into(),
        Value::Double(value) => value.into(),
        Value::Text(start, end) => std::str::from_utf8(event.text(start, end)).unwrap().into(),
        Value::Parts | Value::Other => panic!("no plain value"),
    }
}

fn not_null(event: &ChangeEvent) -> Map<String, Json> {
    let mut all = Map::new();
    for field in event.schema().fields() {
        let value = match (&field.shape, event.value(field.slot)) {
            (Shape::Header(_), _) | (_, Value::Null) => continue,
            (Shape::Compound { parts, .. }, Value::Parts) => {
                let part =
                    |(place, name): (usize, &String)| (name.clone(), spelled(event, field.slot + 1 + place));
                Json::Object(parts.iter().enumerate().map(part).collect())
            }
            _ => spelled(event, field.slot),
        };
        all.insert(field.name.clone(), value);
    }
    all
}

/// Bitmaps are not kept as texts: they must name the same fields.
fn assert_header(event: &ChangeEvent, header: &Json) {
    assert_eq!(event.entity_name, header["entityName"]);
    assert_eq!(json!(event.record_ids), header["recordIds"]);
    assert_eq!(event.kind.word(), header["changeType"]);
    assert_eq!(event.change_origin, header["changeOrigin"]);
    assert_eq!(event.transaction_key, header["transactionKey"]);
    assert_eq!(event.sequence_number, header["sequenceNumber"]);
    assert_eq!(event.committed_at.0, header["commitTimestamp"]);
    assert_eq!(event.commit_number, header["commitNumber"]);
    assert_eq!(event.commit_user, header["commitUser"]);
}

#[test]
fn recorded_events_say_what_they_say_to_their_last_byte() {
    let decoded = recorded_json("decoded.json");
    let mut whole = 0;
    for expected in decoded.as_array().unwrap() {
        let file = expected["file"].as_str().unwrap();
        let raw = recorded_event(file, usize::try_from(expected["index"].as_u64().unwrap()).unwrap());
        assert_eq!(raw.payload.len() as u64, expected["payload_bytes"]);
        assert_eq!(raw.replay_id.to_string(), expected["replay_id_hex"]);
        let Some(schema) = expected["schema_file"].as_str() else { continue };
        let schema = Arc::new(EventSchema::parse(&raw.schema_id, &recorded_schema(schema)).unwrap());
        let event = schema.decode(raw).unwrap();
        assert_header(&event, &expected["header"]);
        assert_eq!(Json::Object(not_null(&event)), expected["non_null_fields"], "{file}");
        assert!(!event.concerns_whole_object());
        whole += 1;
    }
    assert_eq!(whole, 7);
}

#[test]
fn a_header_is_read_without_the_schema_of_its_body() {
    // Both events' own schema was not recorded; a header is the same in all.
    let schema = EventSchema::parse(
        "Tl-STDt93vcHjOTskW4oKw",
        &recorded_schema("AccountChangeEvent.i8wgJwwM-AVcDbFkbRl5Nw.avsc"),
    )
    .unwrap();
    for expected in recorded_json("decoded.json").as_array().unwrap() {
        if expected["schema_file"].is_string() {
            continue;
        }
        let raw = recorded_event(
            expected["file"].as_str().unwrap(),
            usize::try_from(expected["index"].as_u64().unwrap()).unwrap(),
        );
        let (header, used) = schema.header_of(&raw.payload).unwrap();
        assert_eq!(json!(header.record_ids), expected["header"]["recordIds"]);
        assert_eq!(header.record_ids.len(), 20);
        assert_eq!(header.transaction_key, expected["header"]["transactionKey"]);
        assert_eq!(header.commit_number, expected["header"]["commitNumber"]);
        assert_eq!(header.sequence_number, expected["header"]["sequenceNumber"]);
        assert_eq!((raw.payload.len() - used) as u64, expected["body_bytes"]);
    }
}

#[test]
fn recorded_bitmaps_name_fields_of_the_events_own_schema() {
    let paths = |file: &str, index: usize, schema: &str| {
        let raw = recorded_event(file, index);
        let schema = Arc::new(EventSchema::parse(&raw.schema_id, &recorded_schema(schema)).unwrap());
        let event = schema.decode(raw).unwrap();
        event.changed().map(str::to_owned).collect::<Vec<_>>()
    };
    let i8wg = "AccountChangeEvent.i8wgJwwM-AVcDbFkbRl5Nw.avsc";
    assert_eq!(
        paths("AccountAddressUpdateEvent.json", 0, i8wg),
        ["ShippingAddress.Street", "LastModifiedDate"]
    );
    assert_eq!(
        paths("AccountAddressUpdateEvent.json", 1, i8wg),
        ["ShippingAddress.Latitude", "ShippingAddress.Longitude"]
    );
    assert_eq!(paths("AccountUpdateEvents.json", 0, i8wg), ["LastModifiedDate", "Amount_Owed__c"]);
    let s3 = "AccountChangeEvent.S3-K_S0GYegWTRZnKLjeag.avsc";
    assert_eq!(paths("AccountNameUpdateEvent.json", 0, s3), ["Name", "LastModifiedDate"]);
    assert_eq!(
        paths("AccountCreationEvents.json", 0, "AccountChangeEvent.4egfTTaxua4Y39nYlBXfNg.avsc"),
        [""; 0]
    );
}

#[test]
fn another_schema_than_the_events_own_is_noticed() {
    let raw = recorded_event("AccountAddressUpdateEvent.json", 0);
    for other in
        ["AccountChangeEvent.4egfTTaxua4Y39nYlBXfNg.avsc", "ContactChangeEvent.YHKH1xWTqwF24lvYNGguGA.avsc"]
    {
        let schema = Arc::new(EventSchema::parse(&raw.schema_id, &recorded_schema(other)).unwrap());
        let error = schema.decode(raw.clone()).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::EventUnreadable);
        let text = error.to_string();
        assert!(text.contains("at replay id 00000000001790500000, byte "), "{text}");
        assert!(text.contains("schema i8wgJwwM-AVcDbFkbRl5Nw: "), "{text}");
    }
    let named_otherwise = compiled(&recorded_schema("AccountChangeEvent.i8wgJwwM-AVcDbFkbRl5Nw.avsc"));
    assert_eq!(named_otherwise.decode(raw).unwrap_err().kind(), crate::error::Kind::Internal);
}

#[test]
fn a_header_number_that_its_type_cannot_hold_is_an_error() {
    let schema = compiled(&schema_of(&[]));
    let text = |text: &str| [vec![u8::try_from(text.len() * 2).unwrap()], text.as_bytes().to_vec()].concat();
    let event = |sequence_number: &[u8]| {
        let before = [text("Account"), vec![0, 0], text("api"), text("key")].concat();
        // Time, number, user, three empty lists.
        decode(&schema, [before.as_slice(), sequence_number, &[2, 4, 0, 0, 0, 0]].concat())
    };
    assert_eq!(event(&[6]).unwrap().sequence_number, 3);
    let error = event(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x20]).unwrap_err();
    assert!(error.to_string().contains("32 bits"), "{error}");
}

#[test]
fn every_recorded_schema_compiles() {
    for (file, name, count) in [
        ("AccountChangeEvent.4egfTTaxua4Y39nYlBXfNg.avsc", "AccountChangeEvent", 86),
        ("ContactChangeEvent.YHKH1xWTqwF24lvYNGguGA.avsc", "ContactChangeEvent", 43),
        (
            "Some_Custom_Object__ChangeEvent.sPvvpP38OBppq-sWal1Iig.avsc",
            "Some_Custom_Object__ChangeEvent",
            25,
        ),
        ("Vendor_Profile__ChangeEvent.no-docs.json", "Vendor_Profile__ChangeEvent", 45),
    ] {
        let schema = compiled(&recorded_schema(file));
        assert_eq!((schema.name(), schema.fields().len()), (name, count));
        let others = schema.fields().iter().filter(|field| matches!(field.shape, Shape::Other));
        assert_eq!(others.count(), 0, "{file}");
    }
}

#[test]
fn a_schema_without_the_header_is_refused() {
    let whole = schema_of(&[]);
    for (old, new, why) in [
        ("\"recordIds\"", "\"ids\"", "has no recordIds"),
        ("\"changedFields\"", "\"changed\"", "has no changedFields"),
        (
            "{\"name\":\"commitTimestamp\",\"type\":\"long\"}",
            "{\"name\":\"commitTimestamp\",\"type\":\"string\"}",
            "commitTimestamp is of another type",
        ),
        (
            "{\"name\":\"ChangeEventHeader\",\"type\"",
            "{\"name\":\"Header\",\"type\"",
            "has no ChangeEventHeader",
        ),
    ] {
        let broken = whole.replace(old, new);
        assert_ne!(broken, whole, "{old}");
        let error = EventSchema::parse("S", &broken).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(EventSchema::parse("S", "\"string\"").unwrap_err().to_string().contains("no record"));
    assert!(EventSchema::parse("S", "{").unwrap_err().to_string().contains("no JSON"));
}

#[test]
fn kinds_of_changes_are_told_by_the_schemas_own_symbols() {
    let schema = schema_of(&[]);
    let compiled = compiled(&schema);
    let event = |kind: &'static str, ids: &[&'static str]| {
        let says = Says { kind, ids: ids.to_vec(), ..Says::default() };
        decode(&compiled, payload(&schema, &says, &[])).unwrap()
    };
    let one = ["001000000000001AAA"];
    for kind in SYMBOLS {
        let event = event(kind, &one);
        assert_eq!(event.kind.word(), kind);
        assert_eq!(event.kind.is_gap(), kind.starts_with("GAP_") || kind == "SNAPSHOT");
        assert_eq!(event.concerns_whole_object(), kind == "GAP_OVERFLOW");
    }
    assert_eq!(event("SNAPSHOT", &one).kind, ChangeKind::Unknown("SNAPSHOT".to_owned()));
    assert!(event("UPDATE", &["001*"]).concerns_whole_object());
    assert!(event("GAP_UPDATE", &["000000000000000AAA"]).concerns_whole_object());
    assert!(event("UPDATE", &[]).concerns_whole_object());
    let event = event("UPDATE", &["001000000000001AAA", "001000000000002AAA"]);
    assert_eq!((event.record_ids.len(), event.concerns_whole_object()), (2, false));
    assert_eq!(event.committed_at, Stamp::parse(b"2026-05-19T08:30:00.000Z").unwrap());
    assert_eq!(event.commit_number, 1_709_303_151_782_928_388, "beyond what a double holds");
}
