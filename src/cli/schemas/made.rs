//! The schema texts of everything that the configuration chooses, as a run would make them now.
//!
//! Comes in: the org's descriptions, the schemas of platform events, and from the control topic the names and places that
//! fields have since earlier runs. Goes out: a text for each subject; what cannot be made, with the reason. It only reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Failure;
use crate::cli::subjects::{self, Wanted};
use crate::config::{FieldRules, Settings, matches_object};
use crate::domain::Position;
use crate::error::Kind;
use crate::pipeline::token_store;
use crate::publish;
use crate::salesforce::pubsub::{PubSub, platform_topic};
use crate::salesforce::{Client, Describe, Pace, Purpose, discover};
use crate::schema::{Registry, SchemaLineage};
use crate::{Error, Result};

pub(super) struct Made {
    pub wanted: Vec<Wanted>,
    pub failures: Vec<Failure>,
}

/// What earlier runs left, by object.
#[derive(Default)]
struct Pinned {
    lineages: BTreeMap<String, std::result::Result<SchemaLineage, String>>,
    positions: BTreeMap<String, Vec<u8>>,
}

pub(super) async fn schemas(
    settings: &Settings,
    registry: &Registry,
    pattern: Option<&str>,
    without_kafka: bool,
) -> Result<Made> {
    let fits = |name: &str| pattern.is_none_or(|pattern| matches_object(pattern, name));
    let pinned = if without_kafka { Pinned::default() } else { read_pinned(settings).await? };
    let client = token_store::connect(settings, Pace::brief()).await?.for_purpose(Purpose::Describe);
    let mut made = Made { wanted: Vec::new(), failures: Vec::new() };
    let mut met = of_objects(settings, registry, &client, &fits, &pinned, &mut made).await?;
    for event in settings.platform_events.iter().filter(|event| fits(&event.name)) {
        met += 1;
        let key_id = key_id(&pinned, settings, &event.name);
        match of_event(settings, registry, &client, &event.name, key_id).await {
            Ok(wanted) => made.wanted.extend(wanted),
            Err(error) => made.failures.push(Failure::new(&event.name, &error)),
        }
    }
    match pattern {
        Some(pattern) if met == 0 => {
            let what = format!("the configuration chooses no object or platform event `{pattern}`");
            Err(Error::new(Kind::ObjectUnknown, what)
                .hint("`sf2kafka discover -c FILE` lists what the org has, and what is chosen"))
        }
        _ => Ok(made),
    }
}

/// How many objects were chosen.
async fn of_objects(
    settings: &Settings,
    registry: &Registry,
    client: &Client,
    fits: &impl Fn(&str) -> bool,
    pinned: &Pinned,
    made: &mut Made,
) -> Result<usize> {
    if settings.objects.is_empty() {
        return Ok(0);
    }
    let org = client.describe_global().await?;
    let (wanted, starters) = settings.wanted();
    let choices = discover::choose_with(&org, &wanted, &starters, &settings.exclude).map_err(|error| {
        match discover::first_unknown(&org, &wanted) {
            Some(entry) => settings.at_entry(entry, error),
            None => error,
        }
    })?;
    let choices: Vec<discover::Choice> = choices.into_iter().filter(|choice| fits(&choice.name)).collect();
    let names: Vec<&str> = choices
        .iter()
        .filter(|choice| choice.obstacle.is_none())
        .map(|choice| choice.name.as_str())
        .collect();
    let mut described = client.describe_many(&names).await.into_iter();
    for choice in &choices {
        let outcome = match &choice.obstacle {
            Some(obstacle) => Err(Error::new(Kind::ObjectUnsupported, obstacle)),
            None => match described.next() {
                Some(Ok(describe)) => of_object(settings, registry, choice, &describe, pinned),
                Some(Err(error)) => Err(error),
                None => Err(Error::new(Kind::Internal, "an object was not described")),
            },
        };
        match outcome {
            Ok(wanted) => made.wanted.extend(wanted),
            // A run leaves out what only a glob asks for and nobody can capture.
            Err(error) if !choice.by_name && error.kind() == Kind::ObjectUnsupported => {}
            Err(error) if is_the_objects_own(error.kind()) => {
                let error = settings.at_entry(choice.wanted, error);
                made.failures.push(Failure::new(&choice.name, &error));
            }
            Err(error) => return Err(error.during(format_args!("object {}", choice.name))),
        }
    }
    Ok(choices.len())
}

fn is_the_objects_own(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ObjectUnknown
            | Kind::ObjectForbidden
            | Kind::ObjectUnsupported
            | Kind::FieldUnknown
            | Kind::SchemaUnsupported
            | Kind::ReplyUnreadable
            | Kind::SalesforceError
            | Kind::ControlRecordUnreadable
    )
}

fn of_object(
    settings: &Settings,
    registry: &Registry,
    choice: &discover::Choice,
    describe: &Describe,
    pinned: &Pinned,
) -> Result<Vec<Wanted>> {
    let entry = settings
        .objects
        .get(choice.wanted)
        .ok_or_else(|| Error::new(Kind::Internal, "a choice without an entry"))?;
    let rules: &FieldRules = &entry.fields;
    let lineage = match pinned.lineages.get(&choice.name) {
        None => None,
        Some(Ok(lineage)) => Some(lineage),
        Some(Err(why)) => {
            let what = format!("control record schema/{} cannot be read: {why}", choice.name);
            return Err(Error::new(Kind::ControlRecordUnreadable, what));
        }
    };
    let fields = lineage.map(SchemaLineage::source_names).unwrap_or_default();
    let description = Arc::new(describe.compile(rules, &fields)?);
    if let Some(obstacle) = &description.unsupported {
        return Err(Error::new(Kind::ObjectUnsupported, obstacle));
    }
    subjects::of_object(settings, registry, entry, &description, lineage)
}

async fn of_event(
    settings: &Settings,
    registry: &Registry,
    client: &Client,
    name: &str,
    key_id: Option<u64>,
) -> Result<Vec<Wanted>> {
    let pubsub = PubSub::new(client)?;
    let topic = pubsub.topic_info(&platform_topic(name)).await?;
    let id = topic.schema_id.ok_or_else(|| {
        Error::new(Kind::SchemaUnsupported, format!("Salesforce names no schema for platform event {name}"))
    })?;
    let schema = pubsub.platform_schema(&id).await?;
    subjects::of_event(settings, registry, name, schema.text(), key_id)
}

/// The id that the keys of a platform event's topic hold.
fn key_id(pinned: &Pinned, settings: &Settings, event: &str) -> Option<u64> {
    let position = Position::decode(pinned.positions.get(event)?).ok()?;
    position.schema_ids.get(&settings.event_topic(event))?.get("key")?.as_u64()
}

async fn read_pinned(settings: &Settings) -> Result<Pinned> {
    const HINT: &str = "the control topic holds the names and places of fields since earlier runs; before the first run `--without-kafka` does without";
    let reached = publish::check::reach(settings).await.map_err(|error| error.hint(HINT))?;
    let control = settings.control_topic();
    let mut pinned = Pinned::default();
    let Some((_, partitions)) = reached.topics.iter().find(|(topic, _)| *topic == control) else {
        // There was no run yet.
        return Ok(pinned);
    };
    if usize::try_from(settings.kafka.control_partitions) != Ok(*partitions) {
        let what = format!(
            "control topic {control} has {partitions} partitions, the configuration says {}",
            settings.kafka.control_partitions
        );
        return Err(Error::new(Kind::ControlTopicChanged, what));
    }
    for record in publish::read_control(settings).await? {
        if let Some(object) = record.key.strip_prefix("schema/") {
            pinned.lineages.insert(object.to_owned(), SchemaLineage::decode(&record.value));
        } else if let Some(object) = record.key.strip_prefix("position/") {
            pinned.positions.insert(object.to_owned(), record.value);
        }
    }
    Ok(pinned)
}
