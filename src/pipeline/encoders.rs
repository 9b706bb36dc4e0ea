//! Encoders of an object: lineage, schemas, registry ids and plans, made anew when the object looks different.
//!
//! Comes in: descriptions. Goes out: encoders by output, the control record that pins the lineage, and what must be loaded
//! because fields came or the configuration changed. Record and needs must go with the first batch that is written by them.

use std::sync::Arc;

use super::chosen::Chosen;
use super::opening::schema_key;
use crate::config::{FieldNaming, ObjectSettings, OnNewField, Secret, Settings};
use crate::domain::{ControlRecord, Need, ObjectDescription, ReloadReason};
use crate::envelope::{Encoder, SchemaIds};
use crate::error::Kind;
use crate::schema::{Asked, FieldNames, OutputSchemas, Registry, SchemaLineage};
use crate::{Error, Result};

#[derive(Debug)]
pub struct OutputEncoder {
    pub topic: Arc<str>,
    pub encoder: Encoder,
    ids: SchemaIds,
}

#[derive(Debug)]
pub struct ObjectEncoders {
    /// Of the description they were made for.
    pub revision: u64,
    pub outputs: Vec<OutputEncoder>,
}

impl ObjectEncoders {
    /// For the position: by topic, the ids of key and value.
    pub fn schema_ids(&self) -> serde_json::Map<String, serde_json::Value> {
        self.outputs
            .iter()
            .map(|output| {
                let ids = serde_json::json!({"key": output.ids.key, "value": output.ids.value});
                (output.topic.to_string(), ids)
            })
            .collect()
    }
}

pub struct EncoderFactory {
    pipeline: String,
    settings: ObjectSettings,
    naming: FieldNaming,
    hash_key: Option<Secret>,
    registry: Registry,
    lineage: Option<SchemaLineage>,
    /// The pinned record, if it has to be written.
    record: Option<ControlRecord>,
    needs: Vec<Need>,
}

impl EncoderFactory {
    /// `stored`: the control record that pins the lineage, if there is one. A record that cannot be read stops the
    /// object: without it fields would change their places.
    pub fn restore(
        settings: &Settings,
        registry: &Registry,
        object: &Chosen,
        stored: Option<&[u8]>,
    ) -> Result<Self> {
        let lineage = stored.map(SchemaLineage::decode).transpose().map_err(|why| {
            let key = schema_key(&object.name);
            Error::new(
                Kind::ControlRecordUnreadable,
                format!("control record {key} of object {} cannot be read: {why}", object.name),
            )
        })?;
        Ok(Self {
            pipeline: settings.name.clone(),
            settings: object.settings.clone(),
            naming: settings.field_naming,
            hash_key: settings.hash_key.clone(),
            registry: registry.clone(),
            lineage,
            record: None,
            needs: Vec::new(),
        })
    }

    /// Salesforce's names in the order of the schema so far.
    pub fn pinned_fields(&self) -> Vec<String> {
        self.lineage.as_ref().map(SchemaLineage::source_names).unwrap_or_default()
    }

    fn follow(&self, object: &ObjectDescription) -> Result<SchemaLineage> {
        let names = FieldNames::new(self.naming, &self.settings.outputs);
        let mut lineage = SchemaLineage::follow(self.lineage.as_ref(), object, &names)?;
        lineage.asked =
            Some(Asked::of(&self.settings, self.hash_key.as_ref(), &self.pipeline, &object.target_name));
        Ok(lineage)
    }

    /// Whether the encoders can wait until there is something to write: the schemas are those that the topics were written
    /// by last, and the registry is the one that told their ids (`ids`, of the position), as one question for all objects
    /// shows. A registry that is empty or another one is so met before anything is read. That it holds these very schemas,
    /// and by which ids, is asked before the first record ([`Self::make`]): of what it told an earlier run nothing is taken
    /// for granted.
    pub async fn can_wait(
        &self,
        object: &ObjectDescription,
        ids: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<bool> {
        let lineage = self.follow(object)?;
        if self.lineage.as_ref() != Some(&lineage) {
            return Ok(false);
        }
        let mut told = Vec::new();
        for output in &self.settings.outputs {
            let topic = output.topic_for(&self.pipeline, &object.target_name);
            let id = ids.get(&topic).and_then(|ids| ids.get("value")?.as_u64());
            match id.and_then(|id| u32::try_from(id).ok()).filter(|_| lineage.key_ids.contains_key(&topic)) {
                Some(id) => told.push((topic, output, id)),
                None => return Ok(false),
            }
        }
        let Some((topic, output, id)) = told.first() else { return Ok(false) };
        let question = || {
            let schema = OutputSchemas::new(&lineage, output)?.value;
            Ok((self.registry.value_subject(topic, &schema), schema, *id))
        };
        self.registry.is_as_before(question).await
    }

    /// Registers what is new and compiles the plans. After an error the lineage is as before.
    pub async fn make(&mut self, object: &Arc<ObjectDescription>) -> Result<ObjectEncoders> {
        let mut lineage = self.follow(object)?;
        let mut outputs = Vec::new();
        for output in &self.settings.outputs {
            let topic = output.topic_for(&self.pipeline, &object.target_name);
            let schemas = OutputSchemas::new(&lineage, output)?;
            let subject = self.registry.value_subject(&topic, &schemas.value);
            let value = self.registry.register(&subject, &schemas.value).await?;
            let key = match &schemas.key {
                None => 0,
                Some(schema) => {
                    self.registry.register(&self.registry.key_subject(&topic, schema), schema).await?
                }
            };
            let pinned = *lineage.key_ids.entry(topic.clone()).or_insert(key);
            if pinned != key {
                return Err(Error::new(
                    Kind::RegistryRefused,
                    format!("topic {topic}: the registry gives the key schema the id {key}, the topic's keys hold {pinned}"),
                )
                .hint("use the registry that the topic was written with, or start a new topic: keys with another id would go to other partitions"));
            }
            let ids = SchemaIds { key, value };
            let encoder = Encoder::compile(object, &lineage, ids, output.key);
            outputs.push(OutputEncoder { topic: topic.into(), encoder, ids });
        }
        if self.lineage.as_ref() != Some(&lineage) {
            let needs = self.lineage.as_ref().map(|before| self.needed(before, &lineage));
            self.needs.extend(needs.into_iter().flatten());
            self.record =
                Some(ControlRecord { key: schema_key(&object.name), value: Some(lineage.encode()) });
            self.lineage = Some(lineage);
        }
        Ok(ObjectEncoders { revision: object.revision, outputs })
    }

    /// What topics lack that hold what was written by `before`.
    fn needed(&self, before: &SchemaLineage, now: &SchemaLineage) -> Vec<Need> {
        let object = &now.object;
        let (gained, lost) = (now.gained(before), now.lost(before));
        let mut needs = Vec::new();
        if let (Some(asked), Some(asked_before)) = (&now.asked, &before.asked) {
            needs = asked.needs(asked_before);
            let again = asked.outputs.keys().filter(|topic| {
                before.key_ids.contains_key(*topic) && !asked_before.outputs.contains_key(*topic)
            });
            for topic in again {
                tracing::warn!(
                    object,
                    topic,
                    "a topic is written to again: records that were deleted meanwhile stay in it, a new topic has none of them"
                );
            }
            if needs.iter().any(|need| need.reason == ReloadReason::FieldRules) {
                tracing::warn!(
                    object,
                    "other fields are hashed or masked: records that are in the topics already keep their values"
                );
            }
            for topic in asked.left_outputs(asked_before) {
                tracing::info!(object, topic, "a topic is no longer written to; it keeps what it holds");
            }
        }
        if !lost.is_empty() {
            tracing::info!(
                object,
                fields = lost.join(","),
                "fields are gone: they stay in the schema and are null"
            );
        }
        if !gained.is_empty() {
            match self.settings.on_new_field {
                OnNewField::Backfill => {
                    needs.push(Need { fields: gained, ..Need::of(ReloadReason::NewField) });
                }
                OnNewField::Ignore => {
                    tracing::info!(
                        object,
                        fields = gained.join(","),
                        "new fields come with changes: `on_new_field: ignore`"
                    );
                }
            }
        }
        needs
    }

    /// What must be loaded because of what `make` found, once.
    pub fn take_needs(&mut self) -> Vec<Need> {
        std::mem::take(&mut self.needs)
    }

    /// The record that pins the lineage, once after it changed.
    pub fn take_record(&mut self) -> Option<ControlRecord> {
        self.record.take()
    }
}
