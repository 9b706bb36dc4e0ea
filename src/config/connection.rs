//! The sections that say where things are: `salesforce`, `kafka`; `schema_registry` has a file of its own.
//!
//! Comes in: a section of the file. Goes out: its settings, or problems with their lines. What exactly-once rests on
//! cannot be overridden here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reader::{Section, Text};
use super::settings::DESCRIBE_INTERVAL;
use super::{
    Authorities, BudgetSettings, Delivery, KafkaSettings, PubsubSettings, SalesforceSettings, Secret,
    TopicSettings, login, origin,
};

const LOGIN_HINT: &str = "for example `login.salesforce.com`, or your My Domain `acme.my.salesforce.com`";

/// `pipeline` names the file that a login is kept in, unless the section names another.
pub(super) fn salesforce(section: Section<'_>, pipeline: &str) -> Option<SalesforceSettings> {
    let method = login::method(&section);
    let by_token = method == Some(login::Method::AccessToken);
    let text = |key, needed, hint| if needed { section.required(key, hint) } else { section.text(key) };
    let login_origin = text("login_domain", method.is_some() && !by_token, LOGIN_HINT)
        .and_then(|text| taken(&section, "login_domain", origin::login(&text.text), &text));
    let instance = text("instance", by_token, "an access token is good for one instance only: give its host")
        .and_then(|text| taken(&section, "instance", origin::instance(&text.text), &text));
    let auth = login::auth(&section, method, pipeline);
    let authorities = authorities(&section);
    let api_version = api_version(&section);
    let describe_interval = section.duration("describe_interval", SECOND..=SECOND * 86_400);
    let pubsub = pubsub(section.section("pubsub"));
    let budget = budget(section.section("budget"));
    section.finish();

    let auth = auth?;
    let login_origin = match (login_origin, &instance) {
        (Some(origin), _) => origin,
        (None, Some((origin, _))) => origin.clone(),
        (None, None) => return None,
    };
    let (instance, instance_label) = match instance {
        Some((url, label)) => (Some(url), label),
        None => (None, None),
    };
    Some(SalesforceSettings {
        login_origin,
        instance,
        instance_label,
        auth,
        authorities,
        api_version,
        describe_interval: describe_interval.unwrap_or(DESCRIBE_INTERVAL),
        pubsub,
        budget,
    })
}

fn taken<T>(section: &Section<'_>, key: &str, value: Result<T, origin::Refusal>, text: &Text) -> Option<T> {
    let refuse = |(why, hint): origin::Refusal| {
        // The value of a variable is not shown.
        let why =
            if text.shown == text.text { why } else { format!("{} holds no host or origin", text.shown) };
        section.context().problem(text.place, format!("`salesforce.{key}`: {why}"), Some(hint));
    };
    value.map_err(refuse).ok()
}

fn authorities(section: &Section<'_>) -> Option<Authorities> {
    let file = section.text("ca_file")?;
    section.context().authorities(&file)
}

fn api_version(section: &Section<'_>) -> String {
    let version = section.parsed("api_version", "an API version such as `65.0`, at least 57.0", |text| {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let known = (57..=199).contains(&major.parse::<u32>().ok()?) && minor == "0";
        known.then(|| format!("{major}.0"))
    });
    version.unwrap_or_else(|| "65.0".to_owned())
}

/// The token goes along with every call, so plain text is refused but to this machine itself.
fn pubsub(section: Section<'_>) -> PubsubSettings {
    let default = PubsubSettings::default();
    let given = section.text("endpoint");
    let endpoint = given
        .as_ref()
        .and_then(|text| taken(&section, "pubsub.endpoint", origin::endpoint(&text.text, PUBSUB_PORT), text));
    let tls = section.flag("tls").unwrap_or(default.tls);
    let (endpoint, is_loopback) = endpoint.unwrap_or((default.endpoint, false));
    if !tls && !is_loopback {
        let message = "`salesforce.pubsub.tls: false`: the access token would travel unprotected";
        let hint = "leave it out; plain text is only for this machine itself (127.0.0.1, localhost)";
        section.context().problem(section.place_of("tls"), message, Some(hint));
    }
    section.finish();
    PubsubSettings { endpoint, tls }
}

const SECOND: Duration = Duration::from_secs(1);
const PUBSUB_PORT: u16 = 7443;

fn budget(section: Section<'_>) -> BudgetSettings {
    let default = BudgetSettings::default();
    let daily_share = section.parsed("daily_share", "a share above 0, at most 1, such as `0.5`", |text| {
        text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share <= 1.0)
    });
    let concurrent = section.number("concurrent", 1..=100);
    let per_second = section.number("per_second", 1..=1_000);
    section.finish();
    BudgetSettings {
        daily_share: daily_share.unwrap_or(default.daily_share),
        concurrent: concurrent.unwrap_or(default.concurrent),
        per_second: per_second.unwrap_or(default.per_second),
    }
}

/// What the program sets itself, because exactly-once, the order of a record's changes, or a restart rests on it.
pub const OWN_PROPERTIES: &[&str] = &[
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "retries",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "partitioner",
    "sticky.partitioning.linger.ms",
    "transactional.id",
    "isolation.level",
    "group.id",
    "group.protocol",
    "group.remote.assignor",
    "partition.assignment.strategy",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "check.crcs",
    "enable.gapless.guarantee",
    "queuing.strategy",
    "delivery.report.only.error",
];

pub(super) fn kafka(section: Section<'_>) -> Option<KafkaSettings> {
    let bootstrap = section.required("bootstrap_servers", "for example `localhost:9092`");
    let mut settings = KafkaSettings::new(bootstrap.as_ref().map_or("", |bootstrap| bootstrap.text.as_str()));
    settings.properties = properties(&section);
    let delivery =
        section.choice("delivery", &[("exactly-once", Some(Delivery::ExactlyOnce)), ("at-least-once", None)]);
    settings.delivery = delivery.unwrap_or(settings.delivery);

    let control = section.section("control");
    if let Some(partitions) = control.number("partitions", 1..=1_000) {
        settings.control_partitions = partitions;
    }
    if let Some(factor) = replication_factor(&control) {
        settings.control_replication_factor = factor;
    }
    control.finish();

    let topics = section.section("topics");
    let default = TopicSettings::default();
    settings.topics = TopicSettings {
        create: topics.flag("create").unwrap_or(default.create),
        partitions: topics.number("partitions", 1..=10_000).unwrap_or(default.partitions),
        replication_factor: replication_factor(&topics).unwrap_or(default.replication_factor),
        config: topics
            .pairs("config")
            .into_iter()
            .filter_map(|(key, _, node)| Some((key.to_owned(), section.context().text(node)?.text)))
            .collect(),
    };
    topics.finish();
    section.finish();
    bootstrap.is_some().then_some(settings)
}

fn replication_factor(section: &Section<'_>) -> Option<i32> {
    section.parsed("replication_factor", "-1 (the broker's default) or a number from 1 to 32", |text| {
        text.parse().ok().filter(|factor| *factor == -1 || (1..=32).contains(factor))
    })
}

/// librdkafka's properties; those that end in `_file` are read from the named file.
fn properties(section: &Section<'_>) -> BTreeMap<String, Secret> {
    let context = section.context();
    let mut properties = BTreeMap::new();
    for (key, place, node) in section.pairs("properties") {
        let (name, from_file) = match key.strip_suffix("_file") {
            Some(name) => (name, true),
            None => (key, false),
        };
        if OWN_PROPERTIES.contains(&name) {
            let message = format!("`kafka.properties.{name}` is set by the program");
            context.problem(place, message, Some("leave it out: exactly-once rests on it"));
            continue;
        }
        if name == "bootstrap.servers" || name == "metadata.broker.list" {
            let message = format!("`kafka.properties.{name}` is given by `kafka.bootstrap_servers`");
            context.problem(place, message, Some("leave it out"));
            continue;
        }
        let Some(text) = context.text(node) else { continue };
        let value = if from_file { context.secret_file(&text) } else { Some(Secret::new(text.text)) };
        if let Some(value) = value
            && properties.insert(name.to_owned(), value).is_some()
        {
            let message = format!("`kafka.properties.{name}` and `{name}_file` are both given");
            context.problem(place, message, Some("keep one of them"));
        }
    }
    properties
}
