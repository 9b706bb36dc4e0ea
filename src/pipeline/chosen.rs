//! Which objects this pipeline captures: the configuration's names and globs against what the org shows.
//!
//! Comes in: settings, describeGlobal. Goes out: the objects to run, each with its settings and the org's own count.
//! What is asked for by name and can never be captured is refused before anything is read or written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{CaptureChoice, Method, ObjectSettings, Settings};
use crate::domain::name::target_object;
use crate::error::Kind;
use crate::salesforce::pubsub::PubSub;
use crate::salesforce::{Client, Purpose, discover};
use crate::{Error, Result};

/// How long a start may wait to learn what is switched on for Change Data Capture.
const LONGEST_QUESTION: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Chosen {
    /// API name, as the org spells it.
    pub name: Arc<str>,
    pub settings: ObjectSettings,
    /// Named in `objects`, not only met by a glob.
    pub by_name: bool,
    /// Rows by the org's own count, if it tells.
    pub estimate: Option<u64>,
    /// Followed by subscription.
    pub live: bool,
}

/// The objects to run, in the configuration's order; none if there are only platform events.
pub async fn choose(client: &Client, settings: &Settings) -> Result<Vec<Chosen>> {
    if settings.objects.is_empty() && !settings.platform_events.is_empty() {
        return Ok(Vec::new());
    }
    let client = client.for_purpose(Purpose::Describe);
    let org = client.describe_global().await?;
    let wanted: Vec<&str> = settings.objects.iter().map(|object| object.name.as_str()).collect();
    let mut chosen = Vec::new();
    let choices =
        discover::choose(&org, &wanted, &settings.exclude).map_err(|error| match discover::first_unknown(
            &org, &wanted,
        ) {
            Some(entry) => settings.at_entry(entry, error),
            None => error,
        })?;
    for choice in choices {
        match choice.obstacle {
            Some(obstacle) if choice.by_name => {
                let what = format!("object {} cannot be captured: {obstacle}", choice.name);
                let error = Error::new(Kind::ConfigInvalid, what)
                    .hint(format!("take {} out of `objects`", choice.name));
                return Err(settings.at_entry(choice.wanted, error));
            }
            Some(obstacle) => tracing::info!(object = choice.name, obstacle, "object left out"),
            None => {
                let Some(settings) = settings.objects.get(choice.wanted) else { continue };
                chosen.push(Chosen {
                    name: choice.name.into(),
                    settings: settings.clone(),
                    by_name: choice.by_name,
                    estimate: None,
                    live: false,
                });
            }
        }
    }
    if chosen.is_empty() {
        return Err(Error::new(Kind::ConfigInvalid, "no object of the org matches `objects`")
            .hint("`sf2kafka discover -c FILE` lists what the org has"));
    }
    refuse_shared_topics(settings, &chosen)?;
    let names: Vec<&str> = chosen.iter().map(|object| &*object.name).collect();
    let condition = |object: &Chosen| Some((object.name.to_string(), object.settings.condition.clone()?));
    let conditions: Vec<(String, String)> = chosen.iter().filter_map(condition).collect();
    // A figure for progress and for the choice between REST and Bulk; nothing fails for want of it.
    let estimates = match client.estimate_fitting(&names, &conditions).await {
        Ok(estimates) => estimates,
        Err(error) => {
            tracing::info!(%error, "the org's row counts are not known");
            BTreeMap::new()
        }
    };
    for object in &mut chosen {
        object.estimate = estimates.get(&*object.name).copied();
    }
    Ok(chosen)
}

/// Decides who is followed by subscription: whoever must, and with `auto` whoever the org has switched on. A run that
/// ends by itself (`once`) polls where it may: a stream can take minutes to say how far it is.
pub async fn choose_live(pubsub: &PubSub, chosen: &mut [Chosen], once: bool) -> Result<()> {
    let asked = |object: &Chosen| {
        object.settings.method == Method::Cdc
            && match object.settings.capture {
                CaptureChoice::Subscribe => true,
                CaptureChoice::Auto => !once,
                CaptureChoice::Poll => false,
            }
    };
    let names: Vec<&str> = chosen.iter().filter(|object| asked(object)).map(|object| &*object.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    // Where Pub/Sub does not answer nobody waits for it: polling needs nothing of it.
    let asking = tokio::time::timeout(LONGEST_QUESTION, pubsub.captured_objects(&names)).await;
    let switched_on = match asking.unwrap_or_else(|_| {
        let what = format!("no answer within {} s", LONGEST_QUESTION.as_secs());
        Err(Error::new(Kind::PubsubUnavailable, what))
    }) {
        Ok(switched_on) => switched_on,
        Err(error) => {
            tracing::warn!(code = error.kind().code(), %error, "what is switched on for Change Data Capture is not known: polling");
            std::collections::BTreeSet::new()
        }
    };
    for object in chosen.iter_mut().filter(|object| asked(object)) {
        object.live =
            object.settings.capture == CaptureChoice::Subscribe || switched_on.contains(&*object.name);
    }
    Ok(())
}

/// Two objects, or an object and a platform event, that would write into one topic.
pub fn refuse_shared_topics(settings: &Settings, chosen: &[Chosen]) -> Result<()> {
    let events = settings.platform_events.iter();
    let mut topics: BTreeMap<String, &str> =
        events.map(|event| (settings.event_topic(&event.name), event.name.as_str())).collect();
    for object in chosen {
        for output in &object.settings.outputs {
            let topic = output.topic_for(&settings.name, &target_object(&object.name));
            if let Some(other) = topics.insert(topic.clone(), &object.name) {
                let what = format!("{other} and {} would share topic {topic}", object.name);
                return Err(Error::new(Kind::ConfigInvalid, what)
                    .hint("give one of them another `topic` under `outputs`, or leave it out"));
            }
        }
    }
    Ok(())
}
