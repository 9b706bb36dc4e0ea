//! The Salesforce side of a check: login, the objects one by one, Pub/Sub, platform events.
//!
//! Comes in: settings. Goes out: lines, and for each object that a run would capture what was found out about it. Questions
//! to many objects share calls: of 50 objects some 20 calls. It reads one row of each, for a plan up to 200 and two counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Line;
use crate::capture::condition_refused;
use crate::capture::unfollowed::{FULL_LOAD, not_followed};
use crate::cli::output::count;
use crate::config::{CaptureChoice, FieldRules, Method, PlatformEventSettings, Settings};
use crate::domain::{ObjectDescription, Stamp};
use crate::error::Kind;
use crate::pipeline::{self, Chosen, token_store};
use crate::salesforce::pubsub::{PubSub, change_topic, platform_topic};
use crate::salesforce::survey::{RowCounts, Sample};
use crate::salesforce::{
    Allowance, Client, Copying, Describe, ObjectSummary, Pace, Purpose, Select, Statement, discover,
    hides_deletions,
};
use crate::{Error, Result};

/// Rows that a plan weighs.
const SAMPLE_ROWS: u32 = 200;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An object that a run would capture.
pub(super) struct Examined {
    pub chosen: Chosen,
    pub description: Arc<ObjectDescription>,
    /// Why it is followed as it is.
    pub reason: String,
    /// Of one row as it is held in memory, if there was one.
    pub row_bytes: Option<u64>,
    /// Rows saved in the last day, deleted ones included.
    pub changes_per_day: Option<u64>,
    /// getDeleted answers for it.
    pub tells_deletions: bool,
}

/// What the org said.
#[derive(Default)]
pub(super) struct Org {
    pub lines: Vec<Line>,
    pub objects: Vec<Examined>,
    /// Met by a glob, and why a run leaves it out.
    pub left_out: Vec<(String, String)>,
    pub allowance: Allowance,
    /// The org's clock.
    pub now: Stamp,
    /// Calls of a start before any object is taken up, by purpose.
    pub start: Vec<(Purpose, u64)>,
    /// Login and API access worked, and the choice could be made.
    pub answered: bool,
}

impl Org {
    pub fn captured(&self) -> Vec<(&Chosen, &Arc<ObjectDescription>)> {
        self.objects.iter().map(|object| (&object.chosen, &object.description)).collect()
    }
}

pub(super) async fn examine(settings: &Settings, wants_plan: bool) -> Org {
    let mut org = Org::default();
    let client = match token_store::connect(settings, Pace::brief()).await {
        Ok(client) => client.for_purpose(Purpose::Check),
        Err(error) => {
            org.lines.push(Line::cross("login", &error));
            return org;
        }
    };
    org.lines.push(Line::tick("login", format!("org {} at {}", client.org_id(), client.instance())));
    let before = client.billed_calls().values().sum();
    org.start.push((Purpose::Check, before));
    let visible = match client.describe_global().await {
        Ok(visible) => visible,
        Err(error) => {
            org.lines.push(Line::cross("API access", &error));
            return org;
        }
    };
    org.start.push((Purpose::Describe, 1));
    let allowance = client.allowance().borrow().clone();
    let used = match (allowance.used, allowance.maximum) {
        (Some(used), Some(maximum)) => format!(", {} of {} daily calls used", count(used), count(maximum)),
        _ => String::new(),
    };
    org.lines.push(Line::tick("API access", format!("{} objects visible{used}", visible.len())));

    let (wanted, starters) = settings.wanted();
    let choices = match discover::choose_with(&visible, &wanted, &starters, &settings.exclude) {
        Ok(choices) => choices,
        Err(error) => {
            let error = match discover::first_unknown(&visible, &wanted) {
                Some(index) => settings.at_entry(index, error),
                None => error,
            };
            org.lines.push(Line::cross("objects", &error));
            return org;
        }
    };
    if choices.is_empty() && !settings.objects.is_empty() {
        let error = Error::new(Kind::ConfigInvalid, "no object of the org matches `objects` or `clouds`")
            .hint("`sf2kafka discover -c FILE` lists what the org has");
        org.lines.push(Line::cross("objects", &error));
    }
    if !starters.is_empty() {
        org.lines.push(Line::tick("clouds", starters_found(&visible, &starters)));
    }
    org.answered = true;
    one_by_one(&client, settings, choices, wants_plan, &mut org).await;
    org.lines.extend(platform_events(&client, settings).await);
    org.allowance = client.allowance().borrow().clone();
    org.now = client.server_time();
    org
}

/// What `clouds` came to.
fn starters_found(visible: &[ObjectSummary], starters: &[&str]) -> String {
    let absent = discover::absent(visible, starters);
    match absent.as_slice() {
        [] => "the org has all of their objects".to_owned(),
        absent => format!("not in the org, left out: {}", absent.join(", ")),
    }
}

/// What became of one object: its line is made when all is known.
enum Found {
    Examined(Box<Examined>),
    Cross(Error),
    /// A glob leaves out what cannot be captured; `discover` shows it.
    LeftOut(String),
}

async fn one_by_one(
    client: &Client,
    settings: &Settings,
    choices: Vec<discover::Choice>,
    wants_plan: bool,
    org: &mut Org,
) {
    let names: Vec<&str> = choices
        .iter()
        .filter(|choice| choice.obstacle.is_none())
        .map(|choice| choice.name.as_str())
        .collect();
    let condition = |choice: &discover::Choice| {
        let entry = settings.objects.get(choice.wanted)?;
        Some((choice.name.clone(), entry.condition.clone()?))
    };
    let conditions: Vec<(String, String)> =
        choices.iter().filter(|choice| choice.obstacle.is_none()).filter_map(condition).collect();
    let (described, estimates) = futures_util::future::join(
        client.describe_many(&names),
        estimates(client, &names, &conditions, wants_plan),
    )
    .await;
    let (estimates, estimate_calls) = estimates;
    org.start.push((Purpose::Describe, estimate_calls));
    let mut described = described.into_iter();
    let mut found: Vec<(String, Found)> = Vec::new();
    for choice in choices {
        let name = choice.name.clone();
        let outcome = match &choice.obstacle {
            Some(obstacle) => Err(Error::new(Kind::ObjectUnsupported, obstacle)),
            None => match described.next() {
                Some(Ok(describe)) => compile(settings, &choice, &describe),
                Some(Err(error)) => Err(error),
                None => Err(Error::new(Kind::Internal, "an object was not described")),
            },
        };
        let outcome = match outcome {
            Ok(mut examined) => {
                let counts = estimates.get(&name).copied().unwrap_or_default();
                (examined.chosen.estimate, examined.chosen.parents) = (counts.rows, counts.parents);
                Found::Examined(Box::new(examined))
            }
            Err(error) => not_captured(settings, choice.by_name, choice.wanted, error),
        };
        found.push((name, outcome));
    }
    let subscriptions = ask_objects(client, settings, &mut found, wants_plan).await;
    if subscriptions.is_some() {
        org.start.push((Purpose::Subscribe, 1));
    }
    for (name, outcome) in found {
        let what = format!("object {name}");
        match outcome {
            Found::Examined(examined) => {
                org.lines.push(Line::tick(what, examined.words()));
                org.objects.push(*examined);
            }
            Found::Cross(error) => org.lines.push(Line::cross(what, &error)),
            Found::LeftOut(reason) => org.left_out.push((name, reason)),
        }
    }
    let chosen: Vec<Chosen> = org.objects.iter().map(|object| object.chosen.clone()).collect();
    if let Err(error) = pipeline::refuse_shared_topics(settings, &chosen) {
        org.lines.push(Line::cross("objects", &error));
    }
    let mute = org.objects.iter().filter(|object| !object.tells_deletions && object.should_tell_deletions());
    let mute: Vec<&str> = mute.map(|object| &*object.chosen.name).collect();
    if !mute.is_empty() {
        let what = format!("Salesforce does not say what was deleted from {}", mute.join(", "));
        let error = Error::new(Kind::ObjectForbidden, what).hint(
            "records that are purged or deleted hard would not be seen: give the integration user View All on them",
        );
        org.lines.push(Line::cross("deletions", &error));
    }
    org.lines.extend(subscriptions);
}

fn not_captured(settings: &Settings, by_name: bool, entry: usize, error: Error) -> Found {
    // A run leaves out what only a glob asks for and no query can give as a whole.
    if !by_name && matches!(error.kind(), Kind::ObjectUnsupported | Kind::QueryRefused) {
        return Found::LeftOut(error.to_string());
    }
    match error.kind() {
        Kind::ObjectUnsupported | Kind::ObjectMisconfigured => Found::Cross(settings.at_entry(entry, error)),
        _ => Found::Cross(error),
    }
}

fn compile(settings: &Settings, choice: &discover::Choice, describe: &Describe) -> Result<Examined> {
    let none = FieldRules::default();
    let entry = settings.objects.get(choice.wanted);
    let rules = entry.map_or(&none, |object| &object.fields);
    if choice.by_name {
        describe.check_rules(rules, &[])?;
    }
    let description = Arc::new(describe.compile(rules, &[])?);
    if let Some(obstacle) = &description.unsupported {
        return Err(Error::new(Kind::ObjectUnsupported, obstacle));
    }
    let entry = entry.ok_or_else(|| Error::new(Kind::Internal, "a choice without an entry"))?;
    let chosen = Chosen {
        name: choice.name.as_str().into(),
        settings: entry.clone(),
        by_name: choice.by_name,
        estimate: None,
        parents: None,
        live: false,
    };
    let mut examined = Examined {
        chosen,
        description,
        reason: String::new(),
        row_bytes: None,
        changes_per_day: None,
        tells_deletions: false,
    };
    examined.reason = examined.polled_because("");
    Ok(examined)
}

/// For a plan: rows by object, and what a run's start spends on them.
async fn estimates(
    client: &Client,
    names: &[&str],
    conditions: &[(String, String)],
    wanted: bool,
) -> (BTreeMap<String, RowCounts>, u64) {
    if !wanted || names.is_empty() {
        return (BTreeMap::new(), 0);
    }
    let client = client.for_purpose(Purpose::Describe);
    let rows = client.estimate_fitting(names, conditions).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the org's row counts are not known");
        BTreeMap::new()
    });
    (rows, client.billed_calls().get(&Purpose::Describe).copied().unwrap_or_default())
}

/// Rows, counts, deletions and subscriptions, side by side; the line on Pub/Sub, if anybody would subscribe.
async fn ask_objects(
    client: &Client,
    settings: &Settings,
    found: &mut [(String, Found)],
    wants_plan: bool,
) -> Option<Line> {
    let examined: Vec<&Examined> = found
        .iter()
        .filter_map(|(_, found)| match found {
            Found::Examined(examined) => Some(&**examined),
            _ => None,
        })
        .collect();
    let rows = if wants_plan { SAMPLE_ROWS } else { 1 };
    let first_rows = |object: &&Examined| {
        let select = match Copying::of(&object.chosen.name).parents() {
            // A query on the object itself must name some of them.
            Some(parents) => return Select::all(&parents.description()).limit(1).statement(),
            None => Select::all(&object.description).limit(rows),
        };
        match &object.chosen.settings.condition {
            Some(condition) => select.condition(condition).statement(),
            None => select.statement(),
        }
    };
    let statements: Vec<Result<Statement>> = examined.iter().map(first_rows).collect();
    let since = client.server_time().minus(DAY);
    let changed = |object: &&Examined| {
        let wanted = wants_plan && object.is_followed();
        wanted.then(|| Select::only(&object.description, []).window(Some(since), None).count().ok()).flatten()
    };
    let counted: Vec<Option<String>> = examined.iter().map(changed).collect();
    let mut counts: Vec<String> = counted.iter().flatten().cloned().collect();
    // As a load reads them, deleted ones too: the org's own count leaves those out.
    let parents: Vec<(&str, String)> = if wants_plan { parents_of(&examined) } else { Vec::new() };
    counts.extend(parents.iter().map(|(_, statement)| statement.clone()));
    let mute: Vec<&str> = examined
        .iter()
        .filter(|object| object.should_tell_deletions())
        .map(|object| &*object.chosen.name)
        .collect();
    let asked: Vec<&str> =
        examined.iter().filter(|object| object.may_subscribe()).map(|object| &*object.chosen.name).collect();
    let samples = async {
        let good: Vec<&Statement> =
            statements.iter().filter_map(|statement| statement.as_ref().ok()).collect();
        client.samples(&good).await
    };
    let (samples, counts, deletions, subscriptions) = tokio::join!(
        samples,
        client.counts(&counts),
        client.try_deletions(&mute, client.server_time()),
        switched_on(client, settings, &asked, &examined),
    );
    let told: BTreeMap<String, Result<()>> = mute.into_iter().map(str::to_owned).zip(deletions).collect();
    let (mut samples, mut counts) = (samples.into_iter(), counts.into_iter());
    let readings: Vec<(Result<Sample>, Option<u64>)> = statements
        .into_iter()
        .zip(counted)
        .map(|(statement, counted)| {
            let sample = statement.and_then(|_| samples.next().unwrap_or_else(|| Err(lost())));
            let changes = counted.and_then(|_| counts.next()).and_then(Result::ok);
            (sample, changes)
        })
        .collect();
    let parents: BTreeMap<&str, u64> =
        parents.iter().zip(counts).filter_map(|((name, _), count)| Some((*name, count.ok()?))).collect();
    let (on, line) = match subscriptions {
        Some((on, line)) => (Some(on), Some(line)),
        None => (None, None),
    };
    let mut readings = readings.into_iter();
    for (name, found) in found.iter_mut() {
        let Found::Examined(object) = found else { continue };
        let Some((sample, changes)) = readings.next() else { continue };
        object.changes_per_day = changes;
        let read_by = Copying::of(name).reads_by();
        let exact = read_by.and_then(|of| parents.get(of.object)).copied();
        object.chosen.parents = exact.or(object.chosen.parents);
        object.tells_deletions = told.get(name).is_some_and(Result::is_ok);
        object.choose_capture(on.as_ref());
        match sample {
            Ok(sample) if Copying::of(name).parents().is_none() => object.row_bytes = row_bytes(&sample),
            Ok(_) => {}
            Err(error) => {
                let error = match &object.chosen.settings.condition {
                    Some(_) => condition_refused(&object.description, error),
                    None => error,
                };
                let entry =
                    settings.objects.iter().position(|entry| entry.place == object.chosen.settings.place);
                *found = not_captured(settings, object.chosen.by_name, entry.unwrap_or(usize::MAX), error);
            }
        }
    }
    line
}

/// What counts the records by whose ids rows are read, each once.
fn parents_of(examined: &[&Examined]) -> Vec<(&'static str, String)> {
    let mut counts: Vec<(&str, String)> = Vec::new();
    for of in examined.iter().filter_map(|object| Copying::of(&object.chosen.name).reads_by()) {
        if counts.iter().all(|(known, _)| *known != of.object)
            && let Ok(statement) = Select::all(&of.description()).count()
        {
            counts.push((of.object, statement));
        }
    }
    counts
}

fn lost() -> Error {
    Error::new(Kind::Internal, "an object's row was not asked for")
}

fn row_bytes(sample: &Sample) -> Option<u64> {
    let rows = sample.rows.len() as u64;
    (rows > 0).then(|| (sample.rows.byte_size() as u64).div_ceil(rows))
}

impl Examined {
    fn is_followed(&self) -> bool {
        self.chosen.settings.method == Method::Cdc && self.description.cursor.is_some()
    }

    fn should_tell_deletions(&self) -> bool {
        self.is_followed() && crate::capture::asks_for_deletions(&self.description)
    }

    fn may_subscribe(&self) -> bool {
        self.is_followed() && self.chosen.settings.capture != CaptureChoice::Poll
    }

    fn polled_because(&self, why: &str) -> String {
        let Some(cursor) = self.description.cursor_field().filter(|_| self.is_followed()) else {
            return match self.chosen.settings.method {
                Method::FullLoad => FULL_LOAD.to_owned(),
                Method::Cdc => format!("loaded once and not followed: {}", not_followed(&self.description)),
            };
        };
        match Copying::of(&self.chosen.name).reason() {
            Some(reason) => format!("polled by {}{why}; {reason}", cursor.name),
            None => format!("polled by {}{why}", cursor.name),
        }
    }

    /// `on`: what is switched on for Change Data Capture; none: that is not known, or nobody asked.
    fn choose_capture(&mut self, on: Option<&BTreeSet<String>>) {
        if !self.may_subscribe() {
            self.reason = self.polled_because("");
            return;
        }
        let is_on = on.is_some_and(|on| on.contains(&*self.chosen.name));
        self.chosen.live = is_on || self.chosen.settings.capture == CaptureChoice::Subscribe;
        self.reason = match (is_on, on) {
            (true, _) => "subscribed to: Change Data Capture is switched on for it".to_owned(),
            _ if self.chosen.live => "to be subscribed to, as the configuration says".to_owned(),
            (_, Some(_)) => self.polled_because(": Change Data Capture is not switched on for it"),
            (_, None) => self.polled_because(": what is switched on for Change Data Capture is not known"),
        };
    }

    fn words(&self) -> String {
        let fields = self.description.fields.len();
        let deletions = match (self.is_followed(), self.tells_deletions, self.description.is_deleted) {
            (false, ..) => "",
            (_, true, _) => "; all deletions",
            (_, false, Some(_)) if !hides_deletions(&self.chosen.name) => {
                "; deletions while in the recycle bin"
            }
            (_, false, _) => "; deletions are not seen",
        };
        format!("readable, {fields} fields, {}{deletions}", self.reason)
    }
}

/// Whether the changes of those objects that may be subscribed to can be, and whether the endpoint answers. None: nobody
/// subscribes.
async fn switched_on(
    client: &Client,
    settings: &Settings,
    asked: &[&str],
    examined: &[&Examined],
) -> Option<(BTreeSet<String>, Line)> {
    if asked.is_empty() {
        return None;
    }
    let must = |object: &&&Examined| object.chosen.settings.capture == CaptureChoice::Subscribe;
    let outcome = async {
        let pubsub = PubSub::new(client)?;
        let on = pubsub.captured_objects(asked).await?;
        Ok::<_, Error>((pubsub, on))
    };
    let (pubsub, on) = match outcome.await {
        Ok(answered) => answered,
        Err(error) => return Some((BTreeSet::new(), Line::cross("Pub/Sub", &error))),
    };
    let off = examined
        .iter()
        .filter(must)
        .find(|object| object.may_subscribe() && !on.contains(&*object.chosen.name));
    if let Some(object) = off {
        let what = format!("object {} is not switched on for Change Data Capture", object.chosen.name);
        let error = Error::new(Kind::SubscriptionRefused, what);
        return Some((on, Line::cross("Pub/Sub", &error)));
    }
    let line = match on.first() {
        None => Ok("no object is switched on for Change Data Capture: all are polled".to_owned()),
        Some(one) => pubsub.topic_info(&change_topic(one)).await.map(|_| {
            let (on, all) = (on.len(), asked.len());
            format!("{} answers, {on} of {all} objects are switched on", settings.salesforce.pubsub.endpoint)
        }),
    };
    Some((on, Line::of("Pub/Sub", line)))
}

/// Whether each platform event is there and may be subscribed to.
async fn platform_events(client: &Client, settings: &Settings) -> Vec<Line> {
    let ask = async |event: &PlatformEventSettings| {
        let topic = platform_topic(&event.name);
        if !PubSub::new(client)?.topic_info(&topic).await?.can_subscribe {
            let what = format!("the user may not subscribe to {topic}");
            return Err(Error::new(Kind::SubscriptionRefused, what)
                .hint("give the integration user read access to the platform event"));
        }
        Ok(format!("can be subscribed to, goes to {}", settings.event_topic(&event.name)))
    };
    let mut lines = Vec::new();
    for event in &settings.platform_events {
        let outcome = ask(event).await.map_err(|error| match error.kind() {
            Kind::SubscriptionRefused if !event.place.is_empty() => error.during(&event.place),
            _ => error,
        });
        lines.push(Line::of(format!("platform event {}", event.name), outcome));
    }
    lines
}
