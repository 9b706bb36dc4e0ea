//! `sf2kafka check`: everything a run needs, tested one after the other: a tick or a cross per line.
//!
//! Comes in: a configuration. Goes out: a report; each cross says what to do, and makes the exit code 1. It reads one row of
//! each object, makes no topic, registers no schema, publishes nothing.

use std::sync::Arc;

use clap::Args;
use futures_util::StreamExt;
use serde::Serialize;

use super::output::{self, FormatArgument, count};
use super::{ConfigArgument, Outcome, block_on};
use crate::config::{self, CaptureChoice, FieldRules, Method, PlatformEventSettings, Settings};
use crate::domain::name::target_object;
use crate::error::Kind;
use crate::pipeline::token_store;
use crate::publish::{self, check::Reached};
use crate::salesforce::pubsub::{PubSub, change_topic, platform_topic};
use crate::salesforce::{Client, Pace, Purpose, Select, discover};
use crate::schema::Registry;
use crate::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    format: FormatArgument,
}

/// Objects tested at once; the client's own bound on calls stands above it.
const CONCURRENT: usize = 8;

#[derive(Debug, Serialize)]
struct Line {
    what: String,
    passed: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Line {
    fn tick(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), passed: true, detail: detail.into(), code: None, hint: None }
    }

    fn cross(what: impl Into<String>, error: &Error) -> Self {
        Self {
            what: what.into(),
            passed: false,
            detail: error.to_string(),
            code: Some(error.kind().code()),
            hint: Some(error.advice().to_owned()),
        }
    }

    fn of(what: impl Into<String>, outcome: Result<String>) -> Self {
        match outcome {
            Ok(detail) => Self::tick(what, detail),
            Err(error) => Self::cross(what, &error),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let file = arguments.config.config.display().to_string();
    let settings = match config::load(&arguments.config.config) {
        Ok(settings) => settings,
        Err(error) => {
            // What the file says decides everything else; the message itself goes to stderr.
            if arguments.format.output == output::Format::Json {
                output::report(output::Format::Json, &[Line::cross("configuration", &error)], |_| {
                    String::new()
                });
            }
            return Err(error);
        }
    };
    let mut lines = vec![Line::tick("configuration", format!("{file}: pipeline {}", settings.name))];
    block_on(async {
        // Both may take their time to fail; the report keeps its order.
        let ((of_salesforce, objects), (of_kafka, reached)) =
            futures_util::future::join(salesforce(&settings), kafka(&settings)).await;
        lines.extend(of_salesforce);
        lines.extend(of_kafka);
        if let Some(reached) = reached {
            lines.push(Line::of("topics", topics(&settings, &objects, &reached)));
        }
        lines.extend(registry(&settings).await);
        Ok(())
    })?;
    output::report(arguments.format.output, &lines, |lines| text(lines));
    let failed = lines.iter().filter(|line| !line.passed).count();
    if failed > 0 {
        output::words(&format!("{failed} of {} checks failed", lines.len()));
        return Ok(Outcome::Failed);
    }
    Ok(Outcome::Done)
}

fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let mark = if line.passed { '✓' } else { '✗' };
        text.push_str(&format!("{mark} {}: {}\n", line.what, line.detail));
        if let Some(hint) = &line.hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
    }
    text
}

/// Login, API access and objects; gives the names of the objects that a run would capture.
async fn salesforce(settings: &Settings) -> (Vec<Line>, Vec<String>) {
    let mut lines = Vec::new();
    let client = match token_store::connect(settings, Pace::brief()).await {
        Ok(client) => client.for_purpose(Purpose::Check),
        Err(error) => {
            lines.push(Line::cross("login", &error));
            return (lines, Vec::new());
        }
    };
    lines.push(Line::tick("login", format!("org {} at {}", client.org_id(), client.instance())));
    let org = match client.describe_global().await {
        Ok(org) => org,
        Err(error) => {
            lines.push(Line::cross("API access", &error));
            return (lines, Vec::new());
        }
    };
    let allowance = client.allowance().borrow().clone();
    let used = match (allowance.used, allowance.maximum) {
        (Some(used), Some(maximum)) => format!(", {} of {} daily calls used", count(used), count(maximum)),
        _ => String::new(),
    };
    lines.push(Line::tick("API access", format!("{} objects visible{used}", org.len())));

    let wanted: Vec<&str> = settings.objects.iter().map(|object| object.name.as_str()).collect();
    let choices = match discover::choose(&org, &wanted, &settings.exclude) {
        Ok(choices) => choices,
        Err(error) => {
            let error = match discover::first_unknown(&org, &wanted) {
                Some(index) => settings.at_entry(index, error),
                None => error,
            };
            lines.push(Line::cross("objects", &error));
            return (lines, Vec::new());
        }
    };
    if choices.is_empty() && !settings.objects.is_empty() {
        let error = Error::new(Kind::ConfigInvalid, "no object of the org matches `objects`")
            .hint("`sf2kafka discover -c FILE` lists what the org has");
        lines.push(Line::cross("objects", &error));
    }
    let tested: Vec<Option<Line>> = futures_util::stream::iter(&choices)
        .map(|choice| {
            let client = &client;
            async move {
                let what = format!("object {}", choice.name);
                match (&choice.obstacle, choice.by_name) {
                    (Some(obstacle), true) => {
                        let error = Error::new(Kind::ObjectUnsupported, obstacle);
                        Some(Line::cross(what, &settings.at_entry(choice.wanted, error)))
                    }
                    // A glob leaves out what cannot be captured; `discover` shows it.
                    (Some(_), false) => None,
                    (None, by_name) => match object(client, settings, choice).await {
                        Err(error) if error.kind() == Kind::ObjectUnsupported && !by_name => None,
                        outcome => Some(Line::of(what, outcome)),
                    },
                }
            }
        })
        .buffered(CONCURRENT)
        .collect()
        .await;
    let mut captured = Vec::new();
    for (choice, line) in choices.into_iter().zip(tested) {
        if let Some(line) = line {
            captured.push(choice.name);
            lines.push(line);
        }
    }
    lines.extend(subscription(&client, settings, &captured).await);
    lines.extend(platform_events(&client, settings).await);
    (lines, captured)
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

/// Whether the changes of those objects that may be subscribed to can be, and whether the endpoint answers. None: nobody
/// subscribes.
async fn subscription(client: &Client, settings: &Settings, captured: &[String]) -> Option<Line> {
    let entry = |object: &str| super::discover::chosen(settings, object);
    let wish = |object: &str| {
        entry(object)
            .filter(|entry| entry.method == Method::Cdc)
            .map_or(CaptureChoice::Poll, |entry| entry.capture)
    };
    let asked: Vec<&str> =
        captured.iter().map(String::as_str).filter(|object| wish(object) != CaptureChoice::Poll).collect();
    if asked.is_empty() {
        return None;
    }
    let outcome = async {
        let pubsub = PubSub::new(client)?;
        let switched_on = pubsub.captured_objects(&asked).await?;
        let off =
            |object: &&&str| wish(object) == CaptureChoice::Subscribe && !switched_on.contains(**object);
        if let Some(object) = asked.iter().find(off) {
            let what = format!("object {object} is not switched on for Change Data Capture");
            return Err(Error::new(Kind::SubscriptionRefused, what));
        }
        let Some(one) = switched_on.first() else {
            return Ok("no object is switched on for Change Data Capture: all are polled".to_owned());
        };
        pubsub.topic_info(&change_topic(one)).await?;
        let (on, all) = (switched_on.len(), asked.len());
        Ok(format!("{} answers, {on} of {all} objects are switched on", settings.salesforce.pubsub.endpoint))
    };
    Some(Line::of("Pub/Sub", outcome.await))
}

/// Describes the object and reads one row with all its captured fields.
async fn object(client: &Client, settings: &Settings, choice: &discover::Choice) -> Result<String> {
    let none = FieldRules::default();
    let rules = settings.objects.get(choice.wanted).map_or(&none, |object| &object.fields);
    let Some(describe) = client.describe(&choice.name, None).await? else {
        return Err(Error::new(Kind::ReplyUnreadable, "Salesforce gave no describe"));
    };
    let unknown = describe.unknown_fields(rules);
    if !unknown.is_empty() {
        let what = format!("the object has no field {}", unknown.join(", "));
        return Err(Error::new(Kind::FieldUnknown, what)
            .hint("check the spelling under `fields`, and field-level security"));
    }
    let description = Arc::new(describe.compile(rules, &[])?);
    if let Some(obstacle) = &description.unsupported {
        return Err(Error::new(Kind::ObjectUnsupported, obstacle));
    }
    let statement = Select::all(&description).limit(1).statement()?;
    client.query(&statement, false).next().await?;
    let fields = description.fields.len();
    Ok(match description.cursor_field() {
        Some(cursor) => format!("readable, {fields} fields, followed by {}", cursor.name),
        None => format!("readable, {fields} fields, loaded and not followed: it has no cursor field"),
    })
}

async fn kafka(settings: &Settings) -> (Vec<Line>, Option<Reached>) {
    let reached = match publish::check::reach(settings).await {
        Ok(reached) => reached,
        Err(error) => return (vec![Line::cross("Kafka", &error)], None),
    };
    let brokers = if reached.brokers == 1 { "broker" } else { "brokers" };
    let at = &settings.kafka.bootstrap_servers;
    let tried = publish::check::try_transaction(settings).await;
    let lines = vec![
        Line::tick("Kafka", format!("{} {brokers} behind {at}", reached.brokers)),
        Line::of("transactions", tried.map(|()| "begun and given up".to_owned())),
    ];
    (lines, Some(reached))
}

async fn registry(settings: &Settings) -> Option<Line> {
    let settings = settings.schema_registry.as_ref()?;
    let answered = match Registry::new(settings) {
        Ok(registry) => registry.ping().await,
        Err(error) => Err(error),
    };
    Some(Line::of("schema registry", answered.map(|()| format!("answers at {}", settings.url))))
}

/// What is there, and what a run would make. The control topic is always made.
fn topics(settings: &Settings, objects: &[String], reached: &Reached) -> Result<String> {
    let there = |name: &str| reached.topics.iter().find(|(topic, _)| topic == name);
    let control = settings.control_topic();
    if let Some((_, partitions)) = there(&control)
        && i32::try_from(*partitions) != Ok(settings.kafka.control_partitions)
    {
        let wanted = settings.kafka.control_partitions;
        let what =
            format!("control topic {control} has {partitions} partitions, the configuration says {wanted}");
        return Err(Error::new(Kind::ControlTopicChanged, what));
    }
    let mut wanted = vec![settings.dead_letter_topic(), settings.notification_topic()];
    for object in objects {
        let entry = super::discover::chosen(settings, object);
        for output in entry.into_iter().flat_map(|entry| &entry.outputs) {
            wanted.push(output.topic_for(&settings.name, &target_object(object)));
        }
    }
    wanted.extend(settings.platform_events.iter().map(|event| settings.event_topic(&event.name)));
    let missing: Vec<&String> = wanted.iter().filter(|name| there(name).is_none()).collect();
    let named = missing.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    if !settings.kafka.topics.create && !missing.is_empty() {
        let what = format!("missing, and `kafka.topics.create` is false: {named}");
        return Err(Error::new(Kind::TopicMissing, what));
    }
    let all = wanted.len() + 1;
    let missing = missing.len() + usize::from(there(&control).is_none());
    Ok(match missing {
        0 => format!("all {all} are there"),
        missing => format!("{} of {all} are there, a run makes the others", all - missing),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, KafkaSettings, SalesforceSettings, Secret};

    fn settings() -> Settings {
        let token = Auth::AccessToken { access_token: Secret::new("x") };
        let origin = url::Url::parse("https://acme.my.salesforce.com").unwrap();
        let salesforce = SalesforceSettings::new(origin, token);
        Settings::new("crm", salesforce, KafkaSettings::new("x:1"), None).with_objects(["Invoice__c"])
    }

    fn reached(topics: &[(&str, usize)]) -> Reached {
        let topics = topics.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions)).collect();
        Reached { brokers: 1, topics }
    }

    #[test]
    fn a_missing_topic_is_a_cross_only_if_nobody_may_make_it() {
        let mut settings = settings();
        let objects = ["Invoice__c".to_owned()];
        let there = reached(&[("crm.control", 8), ("crm.dead-letters", 1)]);
        let made = topics(&settings, &objects, &there).unwrap();
        assert_eq!(made, "2 of 4 are there, a run makes the others");
        settings.kafka.topics.create = false;
        let error = topics(&settings, &objects, &there).unwrap_err();
        assert_eq!(error.kind(), Kind::TopicMissing);
        assert!(error.to_string().ends_with("crm.Invoice_c"), "{error}");
    }

    #[test]
    fn the_topics_of_platform_events_are_asked_for_too() {
        let mut settings = settings().with_platform_events(["Shipment__e"]);
        settings.kafka.topics.create = false;
        let error = topics(&settings, &[], &reached(&[("crm.control", 8)])).unwrap_err();
        assert!(error.to_string().ends_with("crm.Shipment__e"), "{error}");
    }

    #[test]
    fn a_control_topic_with_another_partition_count_is_a_cross() {
        let error = topics(&settings(), &[], &reached(&[("crm.control", 4)])).unwrap_err();
        assert_eq!(error.kind(), Kind::ControlTopicChanged);
    }

    #[test]
    fn a_cross_says_what_to_do_on_the_line_below() {
        let lines = [
            Line::tick("login", "org 00D at https://x"),
            Line::cross("Kafka", &Error::new(Kind::KafkaUnavailable, "Kafka does not answer")),
        ];
        let text = text(&lines);
        assert!(
            text.starts_with("✓ login: org 00D at https://x\n✗ Kafka: Kafka does not answer\n  hint: "),
            "{text}"
        );
    }
}
