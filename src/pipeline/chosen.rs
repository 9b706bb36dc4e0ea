//! Which objects this pipeline captures: the configuration's names and globs against what the org shows.
//!
//! Comes in: settings, describeGlobal. Goes out: the objects to run, each with its settings and the org's own count.
//! What is asked for by name and can never be captured is refused before anything is read or written; but an object that
//! was captured before and is gone since fails alone, when its turn comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{CaptureChoice, Method, ObjectSettings, Settings, is_glob};
use crate::domain::Position;
use crate::domain::name::target_object;
use crate::error::Kind;
use crate::publish::{self, topics};
use crate::salesforce::discover::Choice;
use crate::salesforce::pubsub::PubSub;
use crate::salesforce::{Client, ObjectSummary, Purpose, discover};
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
    /// The same of the records by whose ids its rows are read, where they are.
    pub parents: Option<u64>,
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
    let gone = gone(settings, &org).await?;
    let (all, starters) = settings.wanted();
    let absent = discover::absent(&org, &starters);
    if !absent.is_empty() {
        tracing::info!(objects = absent.join(", "), "of `clouds`, the org does not have these");
    }
    let kept = all.iter().enumerate().filter(|(place, _)| !gone.contains(place));
    let (mut places, wanted): (Vec<usize>, Vec<&str>) = kept.map(|(place, name)| (place, *name)).unzip();
    // Starters count on behind the names.
    places.extend(all.len()..all.len() + starters.len());
    let place_of = |entry: usize| places.get(entry).copied().unwrap_or(entry);
    let mut choices =
        discover::choose_with(&org, &wanted, &starters, &settings.exclude).map_err(|error| {
            match discover::first_unknown(&org, &wanted) {
                Some(entry) => settings.at_entry(place_of(entry), error),
                None => error,
            }
        })?;
    for choice in &mut choices {
        choice.wanted = place_of(choice.wanted);
    }
    let mut chosen = capturable(choices, settings)?;
    chosen.extend(gone.iter().filter_map(|place| settings.objects.get(*place)).map(|object| Chosen {
        name: object.name.as_str().into(),
        settings: object.clone(),
        by_name: true,
        estimate: None,
        parents: None,
        live: false,
    }));
    if chosen.is_empty() {
        return Err(Error::new(Kind::ConfigInvalid, "no object of the org matches `objects` or `clouds`")
            .hint("`sf2kafka discover -c FILE` lists what the org has"));
    }
    refuse_shared_topics(settings, &chosen)?;
    count_rows(&client, &mut chosen).await;
    Ok(chosen)
}

/// The entries of objects that earlier runs captured and the org does not show any more. That one is gone is no reason to
/// stop all others, as a start that nobody looks at would do.
async fn gone(settings: &Settings, org: &[ObjectSummary]) -> Result<Vec<usize>> {
    let shows = |name: &str| org.iter().any(|object| object.name.eq_ignore_ascii_case(name));
    let (all, _) = settings.wanted();
    let entries = all.into_iter().enumerate();
    let mut missing: Vec<(usize, &str)> =
        entries.filter(|(_, name)| !is_glob(name) && !shows(name)).collect();
    if missing.is_empty() || !topics::has_control(settings).await? {
        return Ok(Vec::new());
    }
    let records = publish::read_control(settings).await?;
    missing.retain(|(_, name)| records.iter().any(|record| record.key == Position::key(name)));
    Ok(missing.into_iter().map(|(place, _)| place).collect())
}

/// The objects of this list that are to run, however many there are: names that the org does not have (any more) choose
/// nothing.
pub fn select(org: &[ObjectSummary], settings: &Settings) -> Result<Vec<Chosen>> {
    let has = |name: &str| org.iter().any(|object| object.name.eq_ignore_ascii_case(name));
    let (all, starters) = settings.wanted();
    let kept = all.iter().enumerate().filter(|(_, name)| is_glob(name) || has(name));
    let (mut places, wanted): (Vec<usize>, Vec<&str>) = kept.map(|(place, name)| (place, *name)).unzip();
    // Starters count on behind the names.
    places.extend(all.len()..all.len() + starters.len());
    let mut choices = discover::choose_with(org, &wanted, &starters, &settings.exclude)?;
    for choice in &mut choices {
        choice.wanted = places.get(choice.wanted).copied().unwrap_or(choice.wanted);
    }
    // What cannot be captured by name was refused at the start, or has become so: no reason to refuse the others.
    choices.retain(|choice| !(choice.by_name && choice.obstacle.is_some()));
    capturable(choices, settings)
}

fn capturable(choices: Vec<Choice>, settings: &Settings) -> Result<Vec<Chosen>> {
    let mut chosen = Vec::new();
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
                    parents: None,
                    live: false,
                });
            }
        }
    }
    Ok(chosen)
}

/// A figure for progress and for the choice between REST and Bulk; nothing fails for want of it.
pub async fn count_rows(client: &Client, chosen: &mut [Chosen]) {
    let names: Vec<&str> = chosen.iter().map(|object| &*object.name).collect();
    let condition = |object: &Chosen| Some((object.name.to_string(), object.settings.condition.clone()?));
    let conditions: Vec<(String, String)> = chosen.iter().filter_map(condition).collect();
    let client = client.for_purpose(Purpose::Describe);
    let estimates = match client.estimate_fitting(&names, &conditions).await {
        Ok(estimates) => estimates,
        Err(error) => {
            tracing::info!(%error, "the org's row counts are not known");
            BTreeMap::new()
        }
    };
    for object in chosen {
        let counts = estimates.get(&*object.name).copied().unwrap_or_default();
        (object.estimate, object.parents) = (counts.rows, counts.parents);
    }
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
