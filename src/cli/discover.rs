//! `sf2kafka discover`: what the org has, how each object would be captured, and why some cannot be.
//!
//! Comes in: describeGlobal, a describe for each object that may be captured, the org's own row counts. Goes out: a
//! table. It reads metadata only, 25 describes a call: of 1,000 objects by some 50 calls, which it counts.

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::output::{self, FormatArgument, Table, count};
use super::{ConfigArgument, Outcome, block_on};
use crate::capture::unfollowed::{FULL_LOAD, not_followed};
use crate::config::{self, CaptureChoice, FieldRules, Method, ObjectSettings, Settings, matches_object};
use crate::domain::ObjectDescription;
use crate::error::Kind;
use crate::pipeline::token_store;
use crate::salesforce::pubsub::PubSub;
use crate::salesforce::{self, Client, Copying, ObjectSummary, Pace, Purpose, hides_deletions};
use crate::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Only objects of this name or glob, such as `Account` or `et4ae5__*`
    #[arg(long, value_name = "GLOB")]
    object: Option<String>,
    #[command(flatten)]
    format: FormatArgument,
}

/// Calls for row counts of objects that the org has no figure for: history, shares, feeds. `--object` counts what is left.
const COUNTS: usize = 10;

/// As JSON the objects alone.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Report {
    objects: Vec<Found>,
    /// Calls that the org counts.
    #[serde(skip)]
    calls: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Found {
    object: String,
    label: String,
    /// By the org's own count, which may be some hours old; with `where` counted.
    rows: Option<u64>,
    /// Whether the configuration chooses it.
    chosen: bool,
    capture: HowCaptured,
    /// Why it is captured so, or why it cannot be.
    reason: String,
    key: Option<String>,
    cursor: Option<String>,
    load: Option<String>,
    deletions: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum HowCaptured {
    Subscribe,
    Poll,
    FullLoad,
    /// By `platform_events`, not by `objects`.
    PlatformEvent,
    Unsupported,
}

impl HowCaptured {
    fn word(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Poll => "poll",
            Self::FullLoad => "full-load",
            Self::PlatformEvent => "platform-event",
            Self::Unsupported => "unsupported",
        }
    }
}

pub(super) fn run(arguments: &Arguments, bars: &MultiProgress) -> Result<Outcome> {
    let settings = config::load(&arguments.config.config)?;
    let report = block_on(discover(&settings, arguments.object.as_deref(), bars))?;
    output::report(arguments.format.output, &report, table);
    Ok(Outcome::Done)
}

async fn discover(settings: &Settings, pattern: Option<&str>, bars: &MultiProgress) -> Result<Report> {
    let client = token_store::connect(settings, Pace::brief()).await?.for_purpose(Purpose::Describe);
    let mut org = client.describe_global().await?;
    let absent = salesforce::discover::absent(&org, &settings.wanted().1);
    if !absent.is_empty() && pattern.is_none() {
        output::words(&format!("of `clouds`, the org does not have {}", absent.join(", ")));
    }
    if let Some(pattern) = pattern {
        org.retain(|object| matches_object(pattern, &object.name));
        if org.is_empty() {
            let what = format!("the org shows no object `{pattern}` to this user");
            return Err(Error::new(Kind::ObjectUnknown, what));
        }
    }
    org.sort_by(|one, other| one.name.cmp(&other.name));
    let descriptions = describe(&client, settings, &org, bars).await;
    let names: Vec<&str> = org.iter().map(|object| object.name.as_str()).collect();
    let condition = |object: &ObjectSummary| {
        let entry = chosen(settings, &object.name)?;
        Some((object.name.clone(), entry.condition.clone()?))
    };
    let conditions: Vec<(String, String)> = org.iter().filter_map(condition).collect();
    let rows = match client.estimate_fitting_by(&names, &conditions, COUNTS).await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::warn!(%error, "the org's row counts are not known");
            Default::default()
        }
    };
    let mut all = Vec::new();
    for (summary, description) in org.iter().zip(descriptions) {
        let mut found = judge(summary, description, chosen(settings, &summary.name))?;
        found.chosen |= settings.platform_events.iter().any(|event| event.name == summary.name);
        found.rows = rows.get(&summary.name).copied();
        all.push(found);
    }
    tell_subscriptions(&client, settings, &mut all).await;
    let is_deaf = |found: &&mut Found| found.capture == HowCaptured::Poll && found.deletions == Some("none");
    all.iter_mut().filter(is_deaf).for_each(|found| found.reason.push_str("; deletions are not seen"));
    Ok(Report { objects: all, calls: client.billed_calls().values().sum() })
}

/// Whose changes come as events, if the configuration leaves it open or wants it.
async fn tell_subscriptions(client: &Client, settings: &Settings, all: &mut [Found]) {
    let wish =
        |found: &Found| chosen(settings, &found.object).map_or(CaptureChoice::Auto, |entry| entry.capture);
    let asked = |found: &Found| found.capture == HowCaptured::Poll && wish(found) != CaptureChoice::Poll;
    let names: Vec<&str> =
        all.iter().filter(|found| asked(found)).map(|found| found.object.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let switched_on = match PubSub::new(client) {
        Ok(pubsub) => pubsub.captured_objects(&names).await,
        Err(error) => Err(error),
    };
    for found in all.iter_mut().filter(|found| asked(found)) {
        let polled = &found.reason;
        match &switched_on {
            Ok(on) if on.contains(&found.object) => {
                found.capture = HowCaptured::Subscribe;
                found.reason = "Change Data Capture is switched on for it".to_owned();
            }
            Ok(_) => found.reason = format!("{polled}: Change Data Capture is not switched on for it"),
            Err(error) => {
                found.reason =
                    format!("{polled}: what is switched on for Change Data Capture is not known: {error}");
            }
        }
    }
}

fn progress(bars: &MultiProgress, objects: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("describing objects {bar:32} {pos} of {len} {eta:>4}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bars.add(ProgressBar::new(objects as u64)).with_style(style.progress_chars("=> "))
}

/// A custom one; standard ones look like other objects.
fn is_platform_event(name: &str) -> bool {
    name.ends_with("__e")
}

/// None: describeGlobal alone says that it cannot be captured.
async fn describe(
    client: &Client,
    settings: &Settings,
    org: &[ObjectSummary],
    bars: &MultiProgress,
) -> Vec<Result<Option<ObjectDescription>>> {
    let is_asked =
        |summary: &&ObjectSummary| summary.obstacle().is_none() && !is_platform_event(&summary.name);
    let names: Vec<&str> = org.iter().filter(is_asked).map(|summary| summary.name.as_str()).collect();
    let bar = progress(bars, names.len());
    let mut described = client.describe_telling(&names, |objects| bar.inc(objects as u64)).await.into_iter();
    bar.finish_and_clear();
    let none = FieldRules::default();
    org.iter()
        .map(|summary| {
            if !is_asked(&summary) {
                return Ok(None);
            }
            let rules = chosen(settings, &summary.name).map_or(&none, |object| &object.fields);
            match described.next() {
                Some(describe) => describe?.compile(rules, &[]).map(Some),
                None => Ok(None),
            }
        })
        .collect()
}

/// The entry of the configuration that the object falls under: its own name goes before globs, and `clouds` bring what
/// neither does.
pub(super) fn chosen<'a>(settings: &'a Settings, object: &str) -> Option<&'a ObjectSettings> {
    let excluded = settings.exclude.iter().any(|pattern| matches_object(pattern, object));
    let own = || settings.objects.iter().filter(|entry| entry.cloud.is_none());
    let starters = || settings.objects.iter().filter(|entry| entry.cloud.is_some());
    let fits = |entry: &&ObjectSettings| !excluded && matches_object(&entry.name, object);
    own()
        .find(|entry| entry.name.eq_ignore_ascii_case(object))
        .or_else(|| own().find(fits))
        .or_else(|| starters().find(fits))
}

/// What a description means for capture. An object that cannot be described is a line of the report; a lost login or
/// network is an error of the command.
fn judge(
    summary: &ObjectSummary,
    description: Result<Option<ObjectDescription>>,
    settings: Option<&ObjectSettings>,
) -> Result<Found> {
    let mut found = Found {
        object: summary.name.clone(),
        label: summary.label.clone(),
        rows: None,
        chosen: settings.is_some(),
        capture: HowCaptured::Unsupported,
        reason: String::new(),
        key: None,
        cursor: None,
        load: None,
        deletions: None,
    };
    if is_platform_event(&summary.name) {
        found.capture = HowCaptured::PlatformEvent;
        found.reason = "its events have a topic if it is listed under `platform_events`".to_owned();
        return Ok(found);
    }
    let description = match description {
        Ok(Some(description)) => description,
        Ok(None) => {
            found.reason = summary.obstacle().unwrap_or_else(|| "Salesforce does not describe it".to_owned());
            return Ok(found);
        }
        Err(error) => match error.kind() {
            Kind::ObjectUnknown
            | Kind::ObjectForbidden
            | Kind::ObjectUnsupported
            | Kind::SchemaUnsupported
            | Kind::ReplyUnreadable => {
                found.reason = error.to_string();
                return Ok(found);
            }
            _ => return Err(error.during(format_args!("object {}", summary.name))),
        },
    };
    if let Some(obstacle) = &description.unsupported {
        found.reason.clone_from(obstacle);
        return Ok(found);
    }
    found.key = description.fields.get(description.key).map(|field| field.name.clone());
    let copying = match Copying::of(&summary.name) {
        Copying::Bulk if !description.bulk => Copying::Rest,
        copying => copying,
    };
    found.load = Some(copying.words());
    let Some(cursor) = description.cursor.and_then(|cursor| description.fields.get(cursor.0)) else {
        found.capture = HowCaptured::FullLoad;
        found.reason = format!("loaded once and not followed: {}", not_followed(&description));
        return Ok(found);
    };
    found.cursor = Some(cursor.name.clone());
    found.deletions = Some(match (description.is_deleted.is_some(), description.replicateable) {
        (_, true) => "all",
        (true, false) if !hides_deletions(&summary.name) => "while in the recycle bin",
        (_, false) => "none",
    });
    if settings.is_some_and(|settings| settings.method == Method::FullLoad) {
        found.capture = HowCaptured::FullLoad;
        found.reason = FULL_LOAD.to_owned();
    } else {
        found.capture = HowCaptured::Poll;
        found.reason = format!("polled by {}", cursor.name);
        if let Some(reason) = copying.reason() {
            found.reason = format!("{}; {reason}", found.reason);
        }
    }
    Ok(found)
}

fn table(report: &Report) -> String {
    let found = &report.objects;
    let mut table = Table::new(&["object", "rows", "chosen", "capture", "key", "cursor", "load", "reason"]);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for object in found {
        table.row([
            object.object.clone(),
            object.rows.map_or("-".to_owned(), count),
            if object.chosen { "yes" } else { "-" }.to_owned(),
            object.capture.word().to_owned(),
            or_dash(&object.key),
            or_dash(&object.cursor),
            or_dash(&object.load),
            object.reason.clone(),
        ]);
    }
    let capturable = found.iter().filter(|object| object.capture != HowCaptured::Unsupported).count();
    let (objects, capturable) = (count(found.len() as u64), count(capturable as u64));
    format!("{table}\n{objects} objects, {capturable} can be captured; {} calls", count(report.calls))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, KafkaSettings, SalesforceSettings, Secret};

    fn summary(name: &str) -> ObjectSummary {
        ObjectSummary {
            name: name.to_owned(),
            label: name.to_owned(),
            queryable: true,
            retrieveable: true,
            replicateable: true,
            deprecated_and_hidden: false,
        }
    }

    #[test]
    fn an_object_that_cannot_be_captured_is_a_line_with_its_reason() {
        let refused =
            Error::new(Kind::ObjectUnsupported, "it can only be queried with a filter on its parent");
        let found = judge(&summary("Vote"), Err(refused), None).unwrap();
        assert_eq!(found.capture, HowCaptured::Unsupported);
        assert!(
            table(&Report { objects: vec![found], calls: 3 })
                .contains("unsupported  -    -       -     it can only be queried")
        );
    }

    #[test]
    fn a_platform_event_is_a_line_that_names_its_setting() {
        let found = judge(&summary("Shipment__e"), Ok(None), None).unwrap();
        assert_eq!(found.capture, HowCaptured::PlatformEvent);
        assert!(table(&Report { objects: vec![found], calls: 3 }).contains("`platform_events`"));
    }

    #[test]
    fn a_lost_login_is_an_error_of_the_whole_command() {
        let lost = Error::new(Kind::LoginRefused, "invalid_client");
        assert_eq!(judge(&summary("Account"), Err(lost), None).unwrap_err().kind(), Kind::LoginRefused);
    }

    #[test]
    fn an_objects_own_entry_goes_before_a_glob_and_exclude_takes_away_from_globs_only() {
        let token = Auth::AccessToken { access_token: Secret::new("x") };
        let origin = url::Url::parse("https://acme.my.salesforce.com").unwrap();
        let salesforce = SalesforceSettings::new(origin, token);
        let mut settings = Settings::new("crm", salesforce, KafkaSettings::new("x:1"), None)
            .with_objects(["Acc*", "account"]);
        settings.exclude = vec!["*Share".to_owned()];
        assert_eq!(chosen(&settings, "Account").unwrap().name, "account");
        assert_eq!(chosen(&settings, "AccountContactRole").unwrap().name, "Acc*");
        assert!(chosen(&settings, "AccountShare").is_none() && chosen(&settings, "Case").is_none());
    }
}
