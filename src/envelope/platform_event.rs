//! Records of a platform event's topic: two fields of ours, then the payload as Salesforce wrote it.
//!
//! Comes in: an event and the registry ids of its schemas. Goes out: key and value bytes. The payload must read by the
//! event's own schema, of which `schema::event` made the value's: it is not looked at again here.

use super::avro;
use super::change_table::{SchemaIds, wire_format};
use crate::domain::{ReplayId, Stamp};

/// The key: the event's id in a record of one field.
pub fn event_key(ids: SchemaIds, id: &str, out: &mut Vec<u8>) {
    wire_format(ids.key, out);
    avro::bytes(id.as_bytes(), out);
}

/// In the order of `schema::event::platform_event`.
pub fn event_value(
    ids: SchemaIds,
    replay_id: &ReplayId,
    created_at: Stamp,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    wire_format(ids.value, out);
    avro::bytes(replay_id.to_string().as_bytes(), out);
    avro::long(created_at.0, out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use apache_avro::Schema;
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;

    use super::*;
    use crate::schema::event::{platform_event, platform_event_key};

    const OWN: &str = r#"{"type":"record","name":"Shipment__e","namespace":"com.sforce.eventbus","fields":[
        {"name":"CreatedDate","type":"long"},
        {"name":"Number__c","type":["null","string"],"default":null}]}"#;

    fn decoded(schema: &str, bytes: &[u8]) -> Vec<(String, Value)> {
        let schema = Schema::parse_str(schema).unwrap();
        let mut rest = &bytes[5..];
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let Value::Record(fields) = reader.read_value(&mut rest).unwrap() else { panic!("a record") };
        assert!(rest.is_empty());
        fields
    }

    #[test]
    fn a_reader_of_the_registered_schemas_gets_our_fields_and_the_events_own() {
        let ids = SchemaIds { key: 7, value: 258 };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        event_key(ids, "u1", &mut key);
        let replay_id: ReplayId = "00ff".parse().unwrap();
        event_value(ids, &replay_id, Stamp(5), &[10, 2, 6, b'O', b'-', b'1'], &mut value);
        assert_eq!((&key[..5], &value[..5]), (&[0, 0, 0, 0, 7][..], &[0, 0, 0, 1, 2][..]));
        let text = |text: &str| Value::String(text.to_owned());
        let named = |name: &str, value: Value| (name.to_owned(), value);
        assert_eq!(decoded(&platform_event_key("Shipment__e", "a"), &key), [named("Id", text("u1"))]);
        assert_eq!(
            decoded(&platform_event("Shipment__e", OWN, "a").unwrap(), &value),
            [
                named("replay_id", text("00ff")),
                named("created_at", Value::TimestampMillis(5)),
                named("CreatedDate", Value::Long(5)),
                named("Number__c", Value::Union(1, Box::new(text("O-1")))),
            ]
        );
    }
}
