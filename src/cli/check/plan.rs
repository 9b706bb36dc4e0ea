//! What a run would do and cost, as `check --plan` tells it.
//!
//! Comes in: what was found out about the org, the cluster and the registry. Goes out: a [`Plan`], as text or JSON. It asks
//! nobody; the numbers come from `capture::forecast`, by the rules that a run goes by.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::kafka::Cluster;
use super::objects::{Examined, Org};
use super::schemas::PlannedSubject;
use crate::capture::forecast::{Costs, Door, Following, Outlook};
use crate::cli::output::{Table, count};
use crate::cli::subjects::Becomes;
use crate::config::{After, Method, Settings};
use crate::domain::{ObjectDescription, Position, Stamp, State};
use crate::pipeline::Chosen;
use crate::pipeline::forecast::{Forecast, describes, forecast};
use crate::publish;
use crate::salesforce::{Copying, Pace, Purpose};

#[derive(Debug, Serialize)]
pub(super) struct Plan {
    pub objects: Vec<PlannedObject>,
    pub left_out: Vec<LeftOut>,
    pub platform_events: Vec<String>,
    pub calls: PlannedCalls,
    pub topics: Vec<PlannedTopic>,
    pub schemas: Vec<PlannedSubject>,
}

#[derive(Debug, Serialize)]
pub(super) struct PlannedObject {
    pub object: String,
    pub method: &'static str,
    /// `subscribe`, `poll` or `none`.
    pub capture: &'static str,
    pub reason: String,
    /// `bulk`, `rest`; `none`: nothing is loaded.
    pub load: &'static str,
    /// Why nothing is loaded, or not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_note: Option<String>,
    pub rows: Option<u64>,
    pub rows_to_load: u64,
    pub bytes_to_load: u64,
    pub load_calls: u64,
    pub changes_in_the_last_day: Option<u64>,
    pub calls_a_day: u64,
    pub sees_deletions: bool,
    pub topics: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct LeftOut {
    pub object: String,
    pub reason: String,
}

#[derive(Debug, Serialize)]
pub(super) struct PlannedCalls {
    /// Until every object is loaded and caught up: what `run --once` uses.
    pub load: ByPurpose,
    /// For each day after that.
    pub a_day: ByPurpose,
    pub jobs: u64,
    pub rows: u64,
    pub bytes: u64,
    pub takes_seconds: u64,
    pub budget: Option<Budget>,
}

#[derive(Debug, Serialize)]
pub(super) struct ByPurpose {
    pub total: u64,
    pub by_purpose: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Budget {
    /// What this pipeline may spend in 24 hours: `budget.daily_share` of the org's calls.
    pub calls_a_day: u64,
    pub of_the_org: u64,
    /// Calls of the last 24 hours, by whomever.
    pub used_by_all: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct PlannedTopic {
    pub topic: String,
    pub there: bool,
    pub partitions: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
    pub config: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// None if the org did not say enough.
pub(super) fn make(
    settings: &Settings,
    org: &Org,
    cluster: &Cluster,
    subjects: Vec<PlannedSubject>,
) -> Option<Plan> {
    if !org.answered {
        return None;
    }
    let mut start = Costs::default();
    org.start.iter().for_each(|(purpose, calls)| start.add(*purpose, *calls as f64));
    let stands = |object: &Examined| cluster.positions.get(&*object.chosen.name);
    let outlooks: Vec<Outlook> =
        org.objects.iter().map(|object| outlook(object, stands(object), org.now)).collect();
    start.add(Purpose::Describe, describes_of(settings, org, cluster));
    let forecast = forecast(&start, &outlooks, &Pace::default(), settings.salesforce.describe_interval);
    let objects = org.objects.iter().enumerate();
    let objects = objects.map(|(place, object)| planned(settings, object, stands(object), &forecast, place));
    let left_out = org
        .left_out
        .iter()
        .map(|(object, reason)| LeftOut { object: object.clone(), reason: reason.clone() });
    Some(Plan {
        objects: objects.collect(),
        left_out: left_out.collect(),
        platform_events: settings.platform_events.iter().map(|event| event.name.clone()).collect(),
        calls: calls(settings, org, &forecast),
        topics: cluster.topics.iter().map(topic).collect(),
        schemas: subjects,
    })
}

/// Calls that describe the objects a run takes up: all but those whose description the control topic holds.
fn describes_of(settings: &Settings, org: &Org, cluster: &Cluster) -> f64 {
    let stands = |object: &Examined| cluster.positions.get(&*object.chosen.name);
    let is_pinned = |object: &Examined| stands(object).is_some_and(|position| position.described.is_some());
    let mut by_shard: BTreeMap<i32, usize> = BTreeMap::new();
    for object in org.objects.iter().filter(|object| !is_pinned(object)) {
        let shard = publish::shard_of(&object.chosen.name, settings.kafka.control_partitions);
        *by_shard.entry(shard).or_default() += 1;
    }
    describes(by_shard.into_values())
}

/// What a run would go by.
fn outlook(object: &Examined, stands: Option<&Position>, now: Stamp) -> Outlook {
    let settings = &object.chosen.settings;
    let following = match (settings.method, object.chosen.live) {
        (Method::Cdc, true) => {
            let whole = settings.after == After::Full || object.description.has_blobs();
            Following::Subscribe { rereads: whole.then_some(settings.refetch_wait) }
        }
        (Method::Cdc, false) => Following::Poll,
        _ => Following::None,
    };
    let rows = object.chosen.estimate.unwrap_or_default();
    let known = Outlook::new(&object.description, rows, following, &settings.poll);
    let behind = stands.and_then(Position::behind).map(|behind| now.since(behind));
    let to_load = rows_to_load(object, stands).0;
    // Of a load that goes on: parents are left as rows are.
    let share = to_load.map_or(0.0, |left| if rows > 0 { left as f64 / rows as f64 } else { 1.0 });
    let parents = object.chosen.parents.map(|parents| (parents as f64 * share).round() as u64);
    Outlook {
        load: to_load,
        parents,
        row_bytes: object.row_bytes.unwrap_or(known.row_bytes),
        asks_for_deletions: object.tells_deletions,
        asks_fit: settings.condition.is_some(),
        changes_per_day: object.changes_per_day.unwrap_or_default() as f64,
        behind: behind.unwrap_or_default(),
        ..known
    }
}

/// None: nothing is loaded. And why, if it is not all.
fn rows_to_load(object: &Examined, stands: Option<&Position>) -> (Option<u64>, Option<String>) {
    let rows = object.chosen.estimate.unwrap_or_default();
    let follows = object.chosen.settings.method == Method::Cdc && object.description.cursor.is_some();
    match stands {
        Some(position) if position.load.as_ref().is_some_and(|load| load.done) => {
            let to = position.committed_to.map_or_else(String::new, |to| format!(" up to {to}"));
            (None, Some(format!("loaded already, published{to}: a run goes on from there")))
        }
        Some(position) if position.state == State::Live => {
            (None, Some("followed without a load: a run goes on from where it stands".to_owned()))
        }
        Some(Position { load: Some(load), .. }) if load.rows > 0 => {
            let note = format!("{} rows are loaded already: the load goes on behind them", count(load.rows));
            (Some(rows.saturating_sub(load.rows)), Some(note))
        }
        _ if follows && !object.chosen.settings.initial_load => {
            (None, Some("`initial_load: false`: changes from now on".to_owned()))
        }
        _ if object.chosen.estimate.is_none() => {
            (Some(rows), Some("the org does not tell how many rows there are".to_owned()))
        }
        _ => (Some(rows), None),
    }
}

fn planned(
    settings: &Settings,
    object: &Examined,
    stands: Option<&Position>,
    forecast: &Forecast,
    place: usize,
) -> PlannedObject {
    let chosen = &object.chosen;
    let load = forecast.loads.get(place).cloned().unwrap_or_default();
    let day = forecast.days.get(place).cloned().unwrap_or_default();
    let follows = chosen.settings.method == Method::Cdc && object.description.cursor.is_some();
    let target = &object.description.target_name;
    PlannedObject {
        object: chosen.name.to_string(),
        method: match chosen.settings.method {
            Method::FullLoad => "full-load",
            Method::Cdc => "cdc",
        },
        capture: match (follows, chosen.live) {
            (true, true) => "subscribe",
            (true, false) => "poll",
            (false, _) => "none",
        },
        reason: object.reason.clone(),
        load: match load.door {
            Some(Door::Bulk) => "bulk",
            Some(Door::Rest) => "rest",
            None => "none",
        },
        load_note: rows_to_load(object, stands)
            .1
            .or_else(|| by_parents(chosen))
            .or_else(|| bytes_of(&object.description)),
        rows: chosen.estimate,
        rows_to_load: load.rows,
        bytes_to_load: load.bytes,
        load_calls: load.calls.round() as u64,
        changes_in_the_last_day: object.changes_per_day,
        calls_a_day: day.total().round() as u64,
        sees_deletions: object.tells_deletions,
        topics: chosen
            .settings
            .outputs
            .iter()
            .map(|output| output.topic_for(&settings.name, target))
            .collect(),
    }
}

/// What no number of rows tells.
fn by_parents(object: &Chosen) -> Option<String> {
    let copying = Copying::of(&object.name);
    let of = copying.reads_by()?;
    let rows = if copying.parents().is_some() { "read" } else { "replaced versions are read" };
    let each = if of.at_once == 1 { "each".to_owned() } else { format!("each {}", of.at_once) };
    let cost = match (object.parents, of.most) {
        (None, _) => format!("a call for {each} of them; the org does not tell how many there are"),
        (Some(there), Some(most)) if there > most => {
            format!("there are {} of them, and a run refuses more than {}", count(there), count(most))
        }
        (Some(there), _) => format!("a call for {each} of {}", count(there)),
    };
    Some(format!("{rows} by the ids of {}: {cost}", of.object))
}

fn bytes_of(object: &ObjectDescription) -> Option<String> {
    let names: Vec<&str> = object
        .blobs()
        .filter_map(|field| object.fields.get(field))
        .map(|field| field.name.as_str())
        .collect();
    let fields = names.join(", ");
    (!names.is_empty())
        .then(|| format!("the bytes of {fields}: a call for each, of every row that is loaded or changed"))
}

fn by_purpose(costs: &Costs) -> ByPurpose {
    let calls = costs.rounded();
    ByPurpose {
        total: calls.values().sum(),
        by_purpose: calls.iter().map(|(purpose, calls)| (purpose.word(), *calls)).collect(),
    }
}

fn calls(settings: &Settings, org: &Org, forecast: &Forecast) -> PlannedCalls {
    let share = settings.salesforce.budget.daily_share;
    PlannedCalls {
        load: by_purpose(&forecast.load),
        a_day: by_purpose(&forecast.day),
        jobs: forecast.jobs(),
        rows: forecast.rows(),
        bytes: forecast.bytes(),
        takes_seconds: forecast.takes.as_secs(),
        budget: org.allowance.maximum.map(|maximum| Budget {
            calls_a_day: (maximum as f64 * share) as u64,
            of_the_org: maximum,
            used_by_all: org.allowance.used.unwrap_or_default(),
        }),
    }
}

fn topic(topic: &crate::publish::foresee::ForeseenTopic) -> PlannedTopic {
    PlannedTopic {
        topic: topic.name.clone(),
        there: topic.there,
        partitions: topic.partitions,
        replication_factor: topic.replication,
        config: topic.config.clone(),
        problem: topic.problem.as_ref().map(ToString::to_string),
    }
}

// ---- as text ----

pub(super) fn text(plan: &Plan) -> String {
    let mut text = String::from("what a run would do; nothing of it is done yet\n\n");
    if !plan.objects.is_empty() {
        text.push_str(&objects_table(plan));
        text.push('\n');
    }
    text.push_str(&sum(&plan.calls));
    text.push('\n');
    text.push_str(&topics_table(plan));
    text.push_str(&subjects(plan));
    for object in &plan.objects {
        if let Some(note) = &object.load_note {
            text.push_str(&format!("{}: {note}\n", object.object));
        }
    }
    for event in &plan.platform_events {
        text.push_str(&format!(
            "{event}: subscribed to from the oldest event that the bus keeps, without calls\n"
        ));
    }
    if !plan.left_out.is_empty() {
        text.push_str("\nleft out, for only a glob asks for it:\n");
        for LeftOut { object, reason } in &plan.left_out {
            text.push_str(&format!("  {object}: {reason}\n"));
        }
    }
    text
}

fn objects_table(plan: &Plan) -> String {
    let head = ["object", "rows", "load", "calls", "then", "changes a day", "calls a day", "why"];
    let mut table = Table::new(&head);
    let or_dash = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), count);
    for object in &plan.objects {
        table.row([
            object.object.clone(),
            or_dash(object.rows),
            object.load.to_owned(),
            count(object.load_calls),
            if object.capture == "none" { "not followed" } else { object.capture }.to_owned(),
            or_dash(object.changes_in_the_last_day),
            count(object.calls_a_day),
            object.reason.clone(),
        ]);
    }
    table.to_string()
}

/// `this load: 4,100 of 100,000 calls, 38 jobs, 12 GB; then 2,900 calls a day`, and what that means for the budget.
fn sum(calls: &PlannedCalls) -> String {
    let of = calls.budget.as_ref().map(|budget| format!(" of {}", count(budget.calls_a_day)));
    let jobs = if calls.jobs == 1 { "job" } else { "jobs" };
    let mut text = format!(
        "this load: {}{} calls, {} {jobs}, {}, about {}; then {} calls a day\n",
        count(calls.load.total),
        of.unwrap_or_default(),
        count(calls.jobs),
        size(calls.bytes),
        span(calls.takes_seconds),
        count(calls.a_day.total),
    );
    for (what, costs) in [("the load", &calls.load), ("a day", &calls.a_day)] {
        let list: Vec<String> =
            costs.by_purpose.iter().map(|(purpose, calls)| format!("{purpose} {}", count(*calls))).collect();
        if !list.is_empty() {
            text.push_str(&format!("  {what}: {}\n", list.join(", ")));
        }
    }
    match &calls.budget {
        None => {
            text.push_str("  the org does not tell its daily calls: there is no budget to compare with\n")
        }
        Some(budget) => {
            text.push_str(&format!(
                "  the budget: {} calls a day (`budget.daily_share` of the org's {}, of which {} are used now, by whomever)\n",
                count(budget.calls_a_day),
                count(budget.of_the_org),
                count(budget.used_by_all)
            ));
            let days = calls.load.total.div_ceil(budget.calls_a_day.max(1));
            if days > 1 {
                text.push_str(&format!(
                    "  the load is more than a day's budget: it takes about {days} days\n"
                ));
            }
            if calls.a_day.total > budget.calls_a_day {
                text.push_str(
                    "  following is more than the budget: polls are then further apart, and changes come later\n",
                );
            }
        }
    }
    text
}

fn topics_table(plan: &Plan) -> String {
    if plan.topics.is_empty() {
        return "topics: Kafka did not tell\n".to_owned();
    }
    let mut table = Table::new(&["topic", "", "partitions", "replication", "settings"]);
    for topic in &plan.topics {
        let settings: Vec<String> =
            topic.config.iter().map(|(name, value)| format!("{name}={value}")).collect();
        table.row([
            topic.topic.clone(),
            match (&topic.problem, topic.there) {
                (Some(_), _) => "refused",
                (None, true) => "there",
                (None, false) => "made",
            }
            .to_owned(),
            topic.partitions.to_string(),
            match topic.replication_factor {
                None => "-".to_owned(),
                Some(-1) => "the broker's".to_owned(),
                Some(replication) => replication.to_string(),
            },
            settings.join(" "),
        ]);
    }
    format!("{table}\n")
}

fn subjects(plan: &Plan) -> String {
    if plan.schemas.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["subject", "outcome", "level", ""]);
    for subject in &plan.schemas {
        let (outcome, more) = match &subject.outcome {
            Becomes::New => ("new", String::new()),
            Becomes::Same { id } => ("same", format!("id {id}")),
            Becomes::NextVersion => ("next version", "compatible with the newest".to_owned()),
            Becomes::Refused { reason, .. } => ("refused", reason.clone()),
        };
        let level = subject.level.clone().unwrap_or_else(|| "-".to_owned());
        table.row([subject.subject.clone(), outcome.to_owned(), level, more]);
    }
    format!("{table}\n")
}

/// `12 GB`, in powers of ten.
fn size(bytes: u64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let unit = units.get(unit).copied().unwrap_or_default();
    if value < 9.95 && unit != "bytes" { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

fn span(seconds: u64) -> String {
    let of = Duration::from_secs(seconds).as_secs_f64();
    match seconds {
        0..=1 => "a second".to_owned(),
        2..=119 => format!("{seconds} seconds"),
        120..=7_199 => format!("{:.0} minutes", of / 60.0),
        7_200..=172_799 => format!("{:.0} hours", of / 3_600.0),
        _ => format!("{:.0} days", of / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_says_what_the_load_and_a_day_cost_of_which_budget() {
        let costs = |total, purpose| ByPurpose { total, by_purpose: BTreeMap::from([(purpose, total)]) };
        let mut calls = PlannedCalls {
            load: costs(4_100, "load"),
            a_day: costs(2_900, "poll"),
            jobs: 38,
            rows: 20_000_000,
            bytes: 12_000_000_000,
            takes_seconds: 5_400,
            budget: Some(Budget { calls_a_day: 50_000, of_the_org: 100_000, used_by_all: 1_234 }),
        };
        let text = sum(&calls);
        let first =
            "this load: 4,100 of 50,000 calls, 38 jobs, 12 GB, about 90 minutes; then 2,900 calls a day\n";
        assert!(text.starts_with(first), "{text}");
        assert!(text.contains("  the load: load 4,100\n  a day: poll 2,900\n"), "{text}");
        assert!(!text.contains("more than"), "{text}");
        calls.budget = Some(Budget { calls_a_day: 1_000, of_the_org: 2_000, used_by_all: 0 });
        let text = sum(&calls);
        assert!(text.contains("it takes about 5 days"), "{text}");
        assert!(text.contains("following is more than the budget"), "{text}");
    }

    #[test]
    fn sizes_and_spans_read_as_people_say_them() {
        assert_eq!(
            [0, 999, 1_500, 12_345_678, 999_900_000].map(size),
            ["0 bytes", "999 bytes", "1.5 kB", "12 MB", "1.0 GB"]
        );
        assert_eq!(
            [1, 90, 150, 10_000, 200_000].map(span),
            ["a second", "90 seconds", "2 minutes", "3 hours", "2 days"]
        );
    }
}
