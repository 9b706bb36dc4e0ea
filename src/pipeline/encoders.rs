//! Encoders of an object: lineage, schemas, registry ids and plans, made anew when the object looks different.
//!
//! Comes in: descriptions. Goes out: encoders by output, and the control record that pins the lineage. The record must
//! go with the first batch that is written by it.

use std::sync::Arc;

use super::chosen::Chosen;
use super::opening::schema_key;
use crate::config::{FieldNaming, OutputSettings, Settings};
use crate::domain::{ControlRecord, ObjectDescription};
use crate::envelope::{Encoder, SchemaIds};
use crate::error::Kind;
use crate::schema::{FieldNames, OutputSchemas, Registry, SchemaLineage};
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
    outputs: Vec<OutputSettings>,
    naming: FieldNaming,
    registry: Registry,
    lineage: Option<SchemaLineage>,
    /// The pinned record, if it has to be written.
    record: Option<ControlRecord>,
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
            outputs: object.settings.outputs.clone(),
            naming: settings.field_naming,
            registry: registry.clone(),
            lineage,
            record: None,
        })
    }

    /// Salesforce's names in the order of the schema so far.
    pub fn pinned_fields(&self) -> Vec<String> {
        self.lineage.as_ref().map(SchemaLineage::source_names).unwrap_or_default()
    }

    /// Registers what is new and compiles the plans. After an error the lineage is as before.
    pub async fn make(&mut self, object: &Arc<ObjectDescription>) -> Result<ObjectEncoders> {
        let names = FieldNames::new(self.naming, &self.outputs);
        let mut lineage = SchemaLineage::follow(self.lineage.as_ref(), object, &names)?;
        let mut outputs = Vec::new();
        for output in &self.outputs {
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
            self.record =
                Some(ControlRecord { key: schema_key(&object.name), value: Some(lineage.encode()) });
            self.lineage = Some(lineage);
        }
        Ok(ObjectEncoders { revision: object.revision, outputs })
    }

    /// The record that pins the lineage, once after it changed.
    pub fn take_record(&mut self) -> Option<ControlRecord> {
        self.record.take()
    }
}
