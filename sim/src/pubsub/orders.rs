//! Events that no transaction made: gaps, overflows, wildcards, duplicates, platform events, raw bytes.
//!
//! Comes in: an order of the control interface. Goes out: the events' replay ids. What is ordered is published as it
//! is said, true or not: a test must be able to lie.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::avro;
use super::bus::{Change, Entry, New};
use super::capture::{ChangeEvent, GAP_OVERFLOW, NO_RECORD, commit_number};
use super::encode::{Datum, Header, write_body};
use super::schema::{CHANGE_TYPES, EventSchema};
use super::topic::Topic;
use super::{Events, uuid};
use crate::catalog::ObjectDef;
use crate::http::lock;
use crate::org::Value;
use crate::org::calendar::truncate_to_second;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EventOrder {
    /// An event without a body, of this object.
    #[serde(default)]
    object: Option<String>,
    /// `GAP_UPDATE`, `GAP_OVERFLOW`, `UPDATE` with a wildcard, `SNAPSHOT`, …
    #[serde(default)]
    change_type: Option<String>,
    /// Record ids, or a wildcard such as `001*`.
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    transaction_key: Option<String>,
    /// An event once more under another replay id: its replay id in hex, or `last`.
    #[serde(default)]
    duplicate: Option<String>,
    /// Raw bytes, as base64, under a schema id, to this topic.
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    schema_id: Option<String>,
    #[serde(default)]
    payload: Option<String>,
    /// Instead of bytes: a platform event made now, with these custom fields; the others are null.
    #[serde(default)]
    fields: Option<Map<String, Json>>,
    #[serde(default)]
    event_id: Option<String>,
}

impl Events {
    /// The events that were published, or why none was.
    pub fn order(&self, order: EventOrder) -> Result<Vec<Arc<Entry>>, String> {
        match (&order.duplicate, &order.topic, &order.object) {
            (Some(which), None, None) => self.duplicate(which),
            (None, Some(topic), None) => self.raw(topic, &order),
            (None, None, Some(object)) => self.bodiless(object, &order),
            _ => Err("give one of object, duplicate and topic".to_owned()),
        }
    }

    fn bodiless(&self, object: &str, order: &EventOrder) -> Result<Vec<Arc<Entry>>, String> {
        let object = self.org.object(object).map_err(|error| error.to_string())?;
        let name = order.change_type.as_deref().unwrap_or("GAP_UPDATE");
        let change_type = CHANGE_TYPES.iter().position(|known| *known == name);
        let change_type = change_type.ok_or_else(|| format!("no change type is called {name}"))?;
        let record_ids = match (order.ids.is_empty(), change_type) {
            (true, GAP_OVERFLOW) => vec![NO_RECORD.to_owned()],
            _ => order.ids.clone(),
        };
        let (schema, commit) = (self.schema_of(&object), self.org.commit_number());
        let header = Header {
            entity: object.name.clone(),
            record_ids,
            change_type,
            origin: String::new(),
            transaction_key: match &order.transaction_key {
                Some(key) => key.clone(),
                None => uuid(self.seed ^ 0x6A90, self.bus.newest()),
            },
            sequence: 1,
            commit_timestamp_ms: truncate_to_second(self.org.now_ms()),
            commit_number: commit_number(commit),
            commit_user: self.org.user_id().as_str().to_owned(),
            nulled: Vec::new(),
            diffs: Vec::new(),
            changed: Vec::new(),
        };
        Ok(self.publish_changes(vec![ChangeEvent::new(&schema, header, &[])]))
    }

    fn duplicate(&self, which: &str) -> Result<Vec<Arc<Entry>>, String> {
        let entry = match which {
            "last" => self.bus.last(),
            hex => bytes_of(hex).and_then(|id| self.bus.position(&id)).and_then(|at| self.bus.entry(at)),
        };
        let entry = entry.ok_or("no such event is retained")?;
        let change = entry.change.as_ref().map(|change| Change {
            header: change.header.clone(),
            body_at: change.body_at,
            ids: change.ids.clone(),
            changed: change.changed.clone(),
            standard: change.standard,
            channels: Arc::clone(&change.channels),
        });
        Ok(self.bus.append(vec![New {
            event_id: Some(entry.event_id.clone()),
            schema: Arc::clone(&entry.schema),
            schema_id: Arc::clone(&entry.schema_id),
            payload: entry.payload.clone(),
            change,
        }]))
    }

    /// CreatedDate and CreatedById, then the custom fields.
    fn platform_payload(
        &self,
        object: &ObjectDef,
        schema: &EventSchema,
        fields: &Map<String, Json>,
    ) -> Result<Vec<u8>, String> {
        let mut values = Vec::new();
        for (name, json) in fields {
            let at = schema.fields.iter().position(|field| field.name == *name);
            let known = at.and_then(|at| Some((at, schema.fields.get(at)?, object.field(name)?.1)));
            let (at, field, defined) = known.ok_or_else(|| format!("the event has no field {name}"))?;
            let value = Value::from_json(defined, json).map_err(|why| format!("{name}: {why}"))?;
            values.push((at + 1, Datum::of(field.kind, &value)));
        }
        let mut payload = Vec::new();
        avro::long(&mut payload, self.org.now_ms());
        avro::text(&mut payload, self.org.user_id().as_str());
        write_body(schema, &values, &mut payload);
        Ok(payload)
    }

    fn raw(&self, topic: &str, order: &EventOrder) -> Result<Vec<Arc<Entry>>, String> {
        let named = Topic::named(topic).filter(|topic| self.exists(topic));
        let object = named.as_ref().and_then(|topic| self.object_of(topic));
        let object = object.ok_or_else(|| format!("{topic} is no topic of one kind of event"))?;
        let schema = self.schema_of(&object);
        let payload = match (&order.fields, &order.payload) {
            (Some(_), Some(_)) => return Err("give one of fields and payload".to_owned()),
            (Some(fields), None) if matches!(named, Some(Topic::Platform(_))) => {
                self.platform_payload(&object, &schema, fields)?
            }
            (Some(_), None) => return Err("fields are of platform events".to_owned()),
            (None, payload) => STANDARD
                .decode(payload.as_deref().unwrap_or_default())
                .map_err(|error| format!("the payload is not base64: {error}"))?,
        };
        let change = matches!(named, Some(Topic::Object { .. })).then(|| {
            let (standard, channels) = lock(&self.channels).membership(&object.name);
            let header = Header {
                entity: object.name.clone(),
                record_ids: Vec::new(),
                change_type: 0,
                origin: String::new(),
                transaction_key: String::new(),
                sequence: 1,
                commit_timestamp_ms: 0,
                commit_number: 0,
                commit_user: String::new(),
                nulled: Vec::new(),
                diffs: Vec::new(),
                changed: Vec::new(),
            };
            let changed = std::collections::BTreeSet::new();
            Change { header, body_at: payload.len(), ids: Vec::new(), changed, standard, channels }
        });
        Ok(self.bus.append(vec![New {
            event_id: order.event_id.clone(),
            schema_id: order.schema_id.as_deref().map_or_else(|| Arc::clone(&schema.id), Arc::from),
            schema,
            payload: payload.into(),
            change,
        }]))
    }
}

pub(crate) fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect()
}
