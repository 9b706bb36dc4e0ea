//! The subjects of what the configuration chooses, and what registering would come to: for `check` and `schemas`.
//!
//! Comes in: descriptions, the schemas that earlier runs wrote by, the registry. Goes out: each subject with the text that a run
//! would register under it, and the registry's word on it. Nothing is registered; no level is set.

use serde::Serialize;

use crate::Result;
use crate::config::{ObjectSettings, Settings};
use crate::domain::ObjectDescription;
use crate::schema::{FieldNames, Foreseen, OutputSchemas, Registry, SchemaLineage, Subject, event};

/// A subject and the text that a run would register under it.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Object or platform event.
    pub object: String,
    pub topic: String,
    pub subject: Subject,
    pub text: String,
    /// The id of the key schema that the topic's keys hold.
    pub pinned: Option<u64>,
}

/// What a run makes of the subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(super) enum Becomes {
    New,
    Same { id: u32 },
    NextVersion,
    Refused { reason: String, hint: String },
}

/// The same texts that a run would make of an object.
pub(super) fn of_object(
    settings: &Settings,
    registry: &Registry,
    chosen: &ObjectSettings,
    description: &ObjectDescription,
    pinned: Option<&SchemaLineage>,
) -> Result<Vec<Wanted>> {
    let names = FieldNames::new(settings.field_naming, &chosen.outputs);
    let lineage = SchemaLineage::follow(pinned, description, &names)?;
    let mut wanted = Vec::new();
    for output in &chosen.outputs {
        let topic = output.topic_for(&settings.name, &description.target_name);
        let schemas = OutputSchemas::new(&lineage, output)?;
        let key_id = lineage.key_ids.get(&topic).copied().map(u64::from);
        let texts = schemas.key.into_iter().map(|text| (registry.key_subject(&topic, &text), text, key_id));
        let value = (registry.value_subject(&topic, &schemas.value), schemas.value, None);
        wanted.extend(texts.chain([value]).map(|(subject, text, pinned)| Wanted {
            object: description.name.to_string(),
            topic: topic.clone(),
            subject,
            text,
            pinned,
        }));
    }
    Ok(wanted)
}

/// The same of a platform event; `schema` as Salesforce gives it.
pub(super) fn of_event(
    settings: &Settings,
    registry: &Registry,
    name: &str,
    schema: &str,
    key_id: Option<u64>,
) -> Result<Vec<Wanted>> {
    let (topic, namespace) = (settings.event_topic(name), settings.event_namespace());
    let value = event::platform_event(name, schema, &namespace)?;
    let key = event::platform_event_key(name, &namespace);
    let texts = [
        (registry.key_subject(&topic, &key), key, key_id),
        (registry.value_subject(&topic, &value), value, None),
    ];
    let wanted = texts.map(|(subject, text, pinned)| Wanted {
        object: name.to_owned(),
        topic: topic.clone(),
        subject,
        text,
        pinned,
    });
    Ok(wanted.into())
}

/// What the registry says to a subject, and the level that holds for it, or that a run sets.
pub(super) async fn ask(registry: &Registry, wanted: &Wanted) -> Result<(Becomes, Option<String>)> {
    let pinned = wanted.pinned;
    let outcome = match registry.foresee(&wanted.subject, &wanted.text).await? {
        Foreseen::New if pinned.is_none() => Becomes::New,
        Foreseen::Same(id) if pinned.is_none_or(|pinned| pinned == u64::from(id)) => Becomes::Same { id },
        Foreseen::NextVersion if pinned.is_none() => Becomes::NextVersion,
        Foreseen::Refused { reason, hint } => Becomes::Refused { reason, hint },
        _ => Becomes::Refused {
            reason: "the topic's keys hold another schema id: this is not the registry it was written with"
                .to_owned(),
            hint:
                "use that registry, or start a new topic: keys with another id would go to other partitions"
                    .to_owned(),
        },
    };
    let level = match outcome {
        Becomes::New => registry.level_of_new().await?,
        _ => registry.level(Some(&wanted.subject)).await?,
    };
    Ok((outcome, level))
}
