//! How a platform event's records are written: registry ids by Salesforce's own schema ids.
//!
//! Comes in: schemas as the stream brings them, and what the position says of the key. Goes out: [`EventEncoders`], which
//! write every event whose schema was registered. The key's id never changes: it stands in the bytes that decide the
//! partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Settings;
use crate::domain::{PlatformEvent, Position, Stamp};
use crate::envelope::{SchemaIds, event_key, event_value};
use crate::error::Kind;
use crate::salesforce::pubsub::PlatformSchema;
use crate::schema::{Registry, event};
use crate::{Error, Result};

#[derive(Clone, Debug)]
pub struct EventEncoders {
    pub topic: Arc<str>,
    ids: BTreeMap<String, SchemaIds>,
}

impl EventEncoders {
    /// Appends key and value.
    pub fn encode(
        &self,
        event: &PlatformEvent,
        created_at: Stamp,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Result<()> {
        let ids = *self
            .ids
            .get(&event.schema_id)
            .ok_or_else(|| Error::new(Kind::Internal, "an event whose schema was not registered"))?;
        event_key(ids, &event.id, key);
        event_value(ids, &event.replay_id, created_at, &event.payload, value);
        Ok(())
    }
}

pub struct EventEncoderFactory {
    event: Arc<str>,
    namespace: String,
    registry: Registry,
    encoders: Arc<EventEncoders>,
}

impl EventEncoderFactory {
    pub fn new(settings: &Settings, registry: &Registry, event: &Arc<str>) -> Self {
        let topic: Arc<str> = settings.event_topic(event).into();
        Self {
            event: event.clone(),
            namespace: settings.event_namespace(),
            registry: registry.clone(),
            encoders: Arc::new(EventEncoders { topic, ids: BTreeMap::new() }),
        }
    }

    pub fn encoders(&self) -> &Arc<EventEncoders> {
        &self.encoders
    }

    /// Registers what this schema makes of the topic's records; gives the registry ids for the position.
    pub async fn admit(
        &mut self,
        schema: &PlatformSchema,
        position: &Position,
    ) -> Result<serde_json::Map<String, serde_json::Value>> {
        let topic = self.encoders.topic.clone();
        let value = event::platform_event(&self.event, schema.text(), &self.namespace)?;
        let value = self.registry.register(&self.registry.value_subject(&topic, &value), &value).await?;
        let key = event::platform_event_key(&self.event, &self.namespace);
        let key = self.registry.register(&self.registry.key_subject(&topic, &key), &key).await?;
        let pinned = position.schema_ids.get(&*topic).and_then(|ids| ids.get("key")?.as_u64());
        if let Some(pinned) = pinned.filter(|pinned| *pinned != u64::from(key)) {
            return Err(Error::new(
                Kind::RegistryRefused,
                format!("topic {topic}: the registry gives the key schema the id {key}, the topic's keys hold {pinned}"),
            )
            .hint("use the registry that the topic was written with, or start a new topic: keys with another id would go to other partitions"));
        }
        tracing::info!(event = %self.event, schema_id = schema.id(), registry_id = value, "schema registered");
        let ids = SchemaIds { key, value };
        Arc::make_mut(&mut self.encoders).ids.insert(schema.id().to_owned(), ids);
        let ids = serde_json::json!({"key": key, "value": value});
        Ok(serde_json::Map::from_iter([(topic.to_string(), ids)]))
    }
}
