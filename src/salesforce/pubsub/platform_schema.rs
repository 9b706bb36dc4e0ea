//! The schema of a platform event, and what the program has to know of a payload: that it reads, when it was made, its id.
//!
//! Comes in: Avro JSON as GetSchema gives it, and payloads. Goes out: the text, for whoever registers it, and
//! [`PlatformEvent`]s with their payloads as they were. A payload is walked once, front to back, and must be used up
//! exactly; whatever does not fit is an error of that event. A schema by which no event could be published is refused.

use crate::domain::{PlatformEvent, Stamp};
use crate::error::{Error, Kind, Result};

use super::avro::{Read, Reader, Type, TypeId, Types, Unreadable};
use super::event::RawEvent;

const CREATED: &str = "CreatedDate";
const UUID: &str = "EventUuid";

#[derive(Debug)]
pub struct PlatformSchema {
    id: String,
    /// Name of the event: `Shipment__e`.
    name: String,
    text: String,
    types: Types,
    fields: Vec<(Part, TypeId)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Created,
    Uuid,
    Other,
}

impl PlatformSchema {
    pub fn parse(id: &str, text: &str) -> Result<Self> {
        Self::compile(id, text).map_err(|why| {
            let what = format!("schema {} of a platform event: {why}", shown(id));
            Error::new(Kind::SchemaUnsupported, what)
                .hint("take the event out of `platform_events`, and report this with the message")
        })
    }

    fn compile(id: &str, text: &str) -> Read<Self> {
        let types = Types::parse(text)?;
        let Type::Record(root) = types.root() else {
            return Err(Unreadable::new("the schema is no record"));
        };
        let is = |of: &TypeId, wanted: fn(&Type) -> bool| {
            types.branches(of).iter().any(|of| wanted(types.get(*of)))
        };
        let fields: Vec<(Part, TypeId)> = root
            .fields
            .iter()
            .map(|(name, of)| {
                let part = match name.as_str() {
                    CREATED if is(of, |of| matches!(of, Type::Long)) => Part::Created,
                    UUID if is(of, |of| matches!(of, Type::Text)) => Part::Uuid,
                    _ => Part::Other,
                };
                (part, *of)
            })
            .collect();
        if !fields.iter().any(|(part, _)| *part == Part::Created) {
            return Err(Unreadable::new(format!("the schema has no {CREATED} that is a long")));
        }
        let name = root.name.clone();
        Ok(Self { id: id.to_owned(), name, text: text.to_owned(), types, fields })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Name of the event: `Shipment__e`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As GetSchema gave it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The event, by this schema, which must be the one that it names.
    pub fn read(&self, raw: RawEvent) -> PlatformEvent {
        let mut reader = Reader::new(&raw.payload);
        let read = self.walk(&mut reader).and_then(|read| reader.finish().map(|()| read));
        let at = reader.at();
        let (created_at, uuid) = match read {
            Ok((created, uuid)) => (Ok(Stamp(created)), uuid),
            Err(why) => {
                let place = format!("event at replay id {}, byte {at}", raw.replay_id);
                let what = format!("{place}: schema {}: {why}", shown(&self.id));
                (Err(Error::new(Kind::EventUnreadable, what)), None)
            }
        };
        event(raw, uuid, created_at)
    }

    /// An event whose schema Salesforce does not give.
    pub fn unread(raw: RawEvent, error: Error) -> PlatformEvent {
        event(raw, None, Err(error))
    }

    fn walk(&self, reader: &mut Reader<'_>) -> Read<(i64, Option<String>)> {
        let (mut created, mut uuid) = (None, None);
        for (part, of) in &self.fields {
            let of = match self.types.get(*of) {
                Type::Union(branches) => reader.branch(branches)?,
                _ => *of,
            };
            match (part, self.types.get(of)) {
                (Part::Created, Type::Long) => created = Some(reader.long()?),
                (Part::Uuid, Type::Text) => uuid = Some(reader.text()?.to_owned()),
                _ => reader.skip(&self.types, of)?,
            }
        }
        let created = created.ok_or_else(|| Unreadable::new(format!("{CREATED} is null")))?;
        Ok((created, uuid.filter(|uuid| !uuid.is_empty())))
    }
}

fn event(raw: RawEvent, uuid: Option<String>, created_at: Result<Stamp>) -> PlatformEvent {
    // Every event has an id by one of these; the last is its place in the stream.
    let own = uuid.or_else(|| (!raw.event_id.is_empty()).then_some(raw.event_id));
    PlatformEvent {
        id: own.unwrap_or_else(|| raw.replay_id.to_string()),
        replay_id: raw.replay_id,
        schema_id: raw.schema_id,
        payload: raw.payload,
        created_at,
    }
}

/// What should be an id, as far as a message bears it.
fn shown(id: &str) -> String {
    id.chars().filter(|letter| letter.is_ascii_graphic()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The second field is one that Salesforce's newer schemas have.
    const TEXT: &str = r#"{"type":"record","name":"Shipment__e","namespace":"com.sforce.eventbus","fields":[
        {"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"},
        {"name":"EventUuid","type":["null","string"],"default":null},
        {"name":"Number__c","type":["null","string"],"default":null},
        {"name":"Weight__c","type":["null","double"],"default":null}]}"#;

    fn raw(payload: &[u8]) -> RawEvent {
        RawEvent {
            replay_id: "00000000001790500000".parse().unwrap(),
            event_id: "wire".to_owned(),
            schema_id: "S".to_owned(),
            payload: payload.to_vec(),
        }
    }

    fn read(payload: &[u8]) -> PlatformEvent {
        PlatformSchema::parse("S", TEXT).unwrap().read(raw(payload))
    }

    #[test]
    fn an_event_is_named_by_its_uuid_or_else_by_the_wire() {
        let event = read(&[2, 2, 4, b'u', b'1', 2, 2, b'x', 0]);
        assert_eq!((event.id.as_str(), event.created_at.unwrap()), ("u1", Stamp(1)));
        assert_eq!(event.payload, [2, 2, 4, b'u', b'1', 2, 2, b'x', 0]);
        let event = read(&[2, 0, 0, 0]);
        assert_eq!((event.id.as_str(), event.created_at.unwrap()), ("wire", Stamp(1)));
    }

    #[test]
    fn bytes_that_do_not_read_by_the_schema_are_an_error_of_their_event_and_stay_as_they_were() {
        for (payload, why) in [
            (&[][..], "too early"),
            (&[2, 0, 0], "too early"),
            (&[2, 0, 0, 0, 9], "1 bytes are left over"),
            (&[2, 0, 2, 2, 0xff, 0], "UTF-8"),
            (&[2, 4, 0, 0], "no such branch"),
        ] {
            let event = read(payload);
            let error = event.created_at.unwrap_err();
            assert_eq!(error.kind(), Kind::EventUnreadable);
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!((event.id.as_str(), event.payload.as_slice()), ("wire", payload));
        }
    }

    #[test]
    fn a_schema_by_which_nothing_can_be_published_is_refused() {
        for (text, why) in [
            ("", "no JSON"),
            ("\"string\"", "no record"),
            (r#"{"type":"record","name":"X__e","fields":[]}"#, "no CreatedDate"),
            (
                r#"{"type":"record","name":"X__e","fields":[{"name":"CreatedDate","type":"string"}]}"#,
                "a long",
            ),
        ] {
            let error = PlatformSchema::parse("S", text).unwrap_err();
            assert_eq!(error.kind(), Kind::SchemaUnsupported);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_recorded_schema_is_taken() {
        let text = include_str!("../../../sim/tests/pubsub/data/Order_Event__e._CADE3qaegX3ECEW0rlbYA.avsc");
        let schema = PlatformSchema::parse("_CADE3qaegX3ECEW0rlbYA", text).unwrap();
        assert_eq!((schema.name(), schema.id()), ("Order_Event__e", "_CADE3qaegX3ECEW0rlbYA"));
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let event = read(&payload);
            prop_assert_eq!(event.payload, payload);
        }
    }
}
