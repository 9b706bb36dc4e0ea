//! Topics: made if allowed, checked in any case.
//!
//! Comes in: the names a run needs. Goes out: nothing, or an error that says which command makes the topic or which
//! setting is wrong. It never changes a topic that exists.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::kafka::{Closing, LEAST_BATCH, Plain, Role, client_config, kafka_error, largest_batch};
use crate::config::{Settings, TokenPlace};
use crate::error::Kind;
use crate::{Error, Result};

const TIMEOUT: Duration = Duration::from_secs(30);
/// How long new topics are waited for.
const SHOWN: Duration = Duration::from_secs(10);

/// Who makes and checks topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicAdmin {
    /// The broker's admin calls.
    Kafka,
    /// Nobody: topics are there. For the client library's mock cluster, which answers no admin calls.
    Existing,
}

/// Longer than a turn to refresh the login (docs/adr/0010-refresh-tokens.md): while it lasts, its claim is not taken away
/// because of one that came behind it.
pub(super) const MIN_COMPACTION_LAG_MS: &str = "600000";

/// Settings of the control topic: small segments, so that compaction really happens.
const CONTROL: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.bytes", "16777216"),
    ("segment.ms", "600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
    ("min.compaction.lag.ms", MIN_COMPACTION_LAG_MS),
    ("max.compaction.lag.ms", "1800000"),
];

pub(super) struct Wanted<'a> {
    pub name: String,
    pub partitions: i32,
    pub replication: i32,
    pub config: Vec<(&'a str, &'a str)>,
    pub create: bool,
}

/// Whether the control topic is there: whether this pipeline has run before.
pub async fn has_control(settings: &Settings) -> Result<bool> {
    let reader: BaseConsumer<Plain> = client_config(settings, &Role::Reader { committed: true })?
        .create_with_context(Plain)
        .map_err(|error| kafka_error("the Kafka client cannot start", error))?;
    let (control, at) = (settings.control_topic(), settings.kafka.bootstrap_servers.clone());
    let listed = blocking(move || listed(&reader, &at)).await?;
    Ok(listed.iter().any(|(name, _)| *name == control))
}

/// Makes sure that the control topic, `data` and the topics beside them are there and fit.
pub async fn ensure(settings: &Settings, admin: TopicAdmin, data: &[String]) -> Result<()> {
    ensure_these(settings, admin, wanted(settings, data)).await
}

/// The control topic alone: what keeps the login must be there before the rest is known.
pub async fn ensure_control(settings: &Settings) -> Result<()> {
    ensure_these(settings, TopicAdmin::Kafka, vec![control(settings)]).await
}

async fn ensure_these(settings: &Settings, admin: TopicAdmin, wanted: Vec<Wanted<'_>>) -> Result<()> {
    let reader: BaseConsumer<Plain> = client_config(settings, &Role::Reader { committed: true })?
        .create_with_context(Plain)
        .map_err(|error| kafka_error("the Kafka client cannot start", error))?;
    let reader = Arc::new(Closing::of(reader));
    let listed = {
        let (reader, at) = (reader.clone(), settings.kafka.bootstrap_servers.clone());
        blocking(move || listed(&reader, &at)).await?
    };
    let partitions_of =
        |name: &str| listed.iter().find(|(listed, _)| listed == name).map(|(_, partitions)| *partitions);
    let missing: Vec<_> = wanted.iter().filter(|wanted| partitions_of(&wanted.name).is_none()).collect();

    let not_ours = missing.iter().filter(|topic| !topic.create || admin == TopicAdmin::Existing);
    let not_ours: Vec<&Wanted<'_>> = not_ours.copied().collect();
    if !not_ours.is_empty() {
        return Err(missing_topics(settings, &not_ours));
    }
    if admin == TopicAdmin::Existing {
        return Ok(());
    }
    let client: AdminClient<Plain> = client_config(settings, &Role::Admin)?
        .create_with_context(Plain)
        .map_err(|error| kafka_error("the Kafka admin client cannot start", error))?;
    let client = Closing::of(client);
    create(&client, &missing).await?;
    let made: Vec<String> = missing.iter().map(|topic| topic.name.clone()).collect();
    let at = settings.kafka.bootstrap_servers.clone();
    blocking(move || wait_until_listed(&reader, &at, &made)).await?;
    let control = settings.control_topic();
    if let Some(partitions) = partitions_of(&control) {
        check_partitions(settings, partitions)?;
    }
    let batch = largest_batch(&client_config(settings, &Role::Producer { shard: 0 })?);
    for resource in describe(&client, &wanted).await? {
        let OwnedResourceSpecifier::Topic(topic) = &resource.specifier else { continue };
        check_batch(&resource, topic, batch)?;
        if *topic == control {
            check_control(&resource, topic)?;
            check_lag(settings, &resource, topic);
        }
    }
    Ok(())
}

/// Topics and their partition counts, as the cluster shows them now.
fn listed(reader: &BaseConsumer<Plain>, at: &str) -> Result<Vec<(String, usize)>> {
    let metadata = reader
        .fetch_metadata(None, TIMEOUT)
        .map_err(|error| away_at_start(kafka_error(format!("Kafka at {at} does not answer"), error)))?;
    let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
    Ok(topics.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect())
}

/// A topic is made a little before it is shown: a group that subscribes to it too early waits seconds for its next look,
/// and says so. What is not shown in time is left to the clients, which look again.
fn wait_until_listed(reader: &BaseConsumer<Plain>, at: &str, made: &[String]) -> Result<()> {
    let started = Instant::now();
    while !made.is_empty() && started.elapsed() < SHOWN {
        let listed = listed(reader, at)?;
        if made.iter().all(|name| listed.iter().any(|(listed, _)| listed == name)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Nothing runs yet that could go on by itself when the brokers are back.
fn away_at_start(error: Error) -> Error {
    match error.kind() {
        Kind::KafkaUnavailable => error
            .hint("check `kafka.bootstrap_servers` and the brokers, then start again: nothing was published"),
        _ => error,
    }
}

pub(super) fn wanted<'a>(settings: &'a Settings, data: &[String]) -> Vec<Wanted<'a>> {
    let kafka = &settings.kafka;
    let kept = |name: String, partitions| {
        let mut config = vec![("retention.ms", "-1")];
        for (key, value) in &kafka.topics.config {
            config.retain(|(known, _)| known != key);
            config.push((key, value));
        }
        let replication = kafka.topics.replication_factor;
        Wanted { name, partitions, replication, config, create: kafka.topics.create }
    };
    let mut wanted: Vec<_> = data.iter().map(|name| kept(name.clone(), kafka.topics.partitions)).collect();
    for event in &settings.platform_events {
        // Every event counts, whatever a cluster's own default is.
        let topic = settings.event_topic(&event.name);
        let of_event = wanted.iter_mut().find(|wanted| wanted.name == topic);
        if let Some(wanted) = of_event.filter(|_| !kafka.topics.config.contains_key("cleanup.policy")) {
            wanted.config.push(("cleanup.policy", "delete"));
        }
    }
    wanted.push(kept(settings.dead_letter_topic(), 1));
    wanted.push(kept(settings.notification_topic(), 1));
    wanted.push(control(settings));
    wanted
}

fn control(settings: &Settings) -> Wanted<'static> {
    Wanted {
        name: settings.control_topic(),
        partitions: settings.kafka.control_partitions,
        replication: settings.kafka.control_replication_factor,
        config: CONTROL.to_vec(),
        create: true,
    }
}

/// Topics that somebody else has to make, with the commands that make them.
pub(super) fn missing_topics(settings: &Settings, missing: &[&Wanted<'_>]) -> Error {
    let names: Vec<&str> = missing.iter().map(|topic| topic.name.as_str()).collect();
    let what = match names.as_slice() {
        [name] => format!("topic {name} does not exist"),
        names => format!("topics {} do not exist", names.join(", ")),
    };
    let mut hint = "set `kafka.topics.create: true`, or create what is missing:".to_owned();
    for topic in missing {
        hint.push_str(&format!(
            "\n  kafka-topics.sh --bootstrap-server {} --create --topic {} --partitions {}",
            settings.kafka.bootstrap_servers, topic.name, topic.partitions
        ));
        for (name, value) in &topic.config {
            hint.push_str(&format!(" --config {name}={value}"));
        }
    }
    Error::new(Kind::TopicMissing, what).hint(hint)
}

async fn create(client: &AdminClient<Plain>, missing: &[&Wanted<'_>]) -> Result<()> {
    for outcome in ask_to_create(client, missing, false).await? {
        outcome?;
    }
    Ok(())
}

/// What the brokers say to making each of these topics. `only_ask`: nothing is made.
pub(super) async fn ask_to_create(
    client: &AdminClient<Plain>,
    missing: &[&Wanted<'_>],
    only_ask: bool,
) -> Result<Vec<Result<()>>> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let topics: Vec<NewTopic<'_>> = missing
        .iter()
        .map(|topic| {
            let mut new =
                NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication));
            for (key, value) in &topic.config {
                new = new.set(key, value);
            }
            new
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).validate_only(only_ask);
    let results = client
        .create_topics(&topics, &options)
        .await
        .map_err(|error| kafka_error("topics cannot be created", error))?;
    let outcome = |result| match result {
        // Another instance was quicker.
        Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Ok(()),
        Err((name, code)) => {
            let kind = match code {
                RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
                    Kind::KafkaRefused
                }
                _ => Kind::KafkaMisconfigured,
            };
            Err(Error::new(kind, format!("topic {name} cannot be created: {code}")))
        }
    };
    Ok(results.into_iter().map(outcome).collect())
}

/// The settings of the topics, as far as the principal may see them.
pub(super) async fn describe(
    client: &AdminClient<Plain>,
    topics: &[Wanted<'_>],
) -> Result<Vec<ConfigResource>> {
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let described = client
        .describe_configs(&resources, &options)
        .await
        .map_err(|error| kafka_error("settings of topics cannot be read", error))?;
    let mut readable = Vec::new();
    for resource in described {
        match resource {
            Ok(resource) => readable.push(resource),
            Err(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed),
            ) => {
                tracing::warn!(%code, "settings of a topic cannot be checked: the principal may not describe them")
            }
            // A topic that was made this moment is not known to all brokers yet.
            Err(code) => tracing::debug!(%code, "settings of a topic cannot be checked"),
        }
    }
    Ok(readable)
}

pub(super) fn check_partitions(settings: &Settings, partitions: usize) -> Result<()> {
    let configured = settings.kafka.control_partitions;
    if i32::try_from(partitions) == Ok(configured) {
        return Ok(());
    }
    let what = format!(
        "control topic {} has {partitions} partitions where the configuration says {configured}",
        settings.control_topic()
    );
    Err(Error::new(Kind::ControlTopicChanged, what).hint(format!(
        "set `kafka.control.partitions: {partitions}` if the topic is as it was made; see `sf2kafka explain control-topic-changed`"
    )))
}

pub(super) fn value_of<'a>(resource: &'a ConfigResource, name: &str) -> Option<&'a str> {
    resource.get(name).and_then(|entry| entry.value.as_deref())
}

/// A topic that takes less than the producer's largest batch would refuse batches, and with each its transaction.
pub(super) fn check_batch(resource: &ConfigResource, topic: &str, batch: usize) -> Result<()> {
    let most = value_of(resource, "max.message.bytes").and_then(|bytes| bytes.parse::<usize>().ok());
    let Some(most) = most.filter(|most| *most < batch) else { return Ok(()) };
    let what = format!("topic {topic} takes {most} bytes at once where the producer sends up to {batch}");
    let lower = if most < LEAST_BATCH {
        String::new()
    } else {
        format!(", or set `message.max.bytes: {most}` under `kafka.properties`")
    };
    Err(Error::new(Kind::KafkaMisconfigured, what)
        .hint(format!("raise `max.message.bytes` of the topic{lower}")))
}

pub(super) fn check_control(resource: &ConfigResource, topic: &str) -> Result<()> {
    let policy = value_of(resource, "cleanup.policy").unwrap_or("compact");
    if policy != "compact" {
        let what = format!("control topic {topic} has cleanup.policy={policy}");
        return Err(Error::new(Kind::KafkaMisconfigured, what).hint(format!(
            "positions would be deleted: kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=compact"
        )));
    }
    let late = later_than_ours(|name| value_of(resource, name));
    if !late.is_empty() {
        tracing::warn!(
            topic,
            settings = late.join(","),
            "the control topic is compacted late, so that a start takes longer: alter these settings of it"
        );
    }
    Ok(())
}

/// A topic that was made before has what it had.
fn check_lag(settings: &Settings, resource: &ConfigResource, topic: &str) {
    let shares_login = matches!(settings.salesforce.auth.token_store(), Some(TokenPlace::Kafka { .. }));
    if shares_login && is_below_ours(value_of(resource, "min.compaction.lag.ms")) {
        tracing::warn!(
            topic,
            settings = format!("min.compaction.lag.ms={MIN_COMPACTION_LAG_MS}"),
            "compaction could take the claim of an instance that is refreshing the login: alter this setting of the control topic"
        );
    }
}

fn is_below_ours(lag: Option<&str>) -> bool {
    let number = |text: &str| text.parse::<i64>().ok();
    lag.and_then(number).is_some_and(|theirs| Some(theirs) < number(MIN_COMPACTION_LAG_MS))
}

/// Our settings of the control topic where its own would put compaction off.
fn later_than_ours<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Vec<String> {
    let number = |text: &str| text.parse::<f64>().ok();
    CONTROL
        .iter()
        .filter(|(name, ours)| match (value(name).and_then(number), number(ours)) {
            (Some(theirs), Some(ours)) => theirs > ours,
            _ => false,
        })
        .map(|(name, ours)| format!("{name}={ours}"))
        .collect()
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(Kind::Internal, "a task broke down").source(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_put_compaction_off_are_named() {
        let brokers = |name: &str| match name {
            "cleanup.policy" => Some("compact"),
            "segment.bytes" => Some("1073741824"),
            "segment.ms" => Some("1000"),
            "min.cleanable.dirty.ratio" => Some("0.5"),
            "max.compaction.lag.ms" => Some("9223372036854775807"),
            _ => None,
        };
        let ours =
            ["segment.bytes=16777216", "min.cleanable.dirty.ratio=0.1", "max.compaction.lag.ms=1800000"];
        assert_eq!(later_than_ours(brokers), ours);
        let same = |name: &str| CONTROL.iter().find(|(ours, _)| *ours == name).map(|(_, value)| *value);
        assert!(later_than_ours(same).is_empty());
        assert!(is_below_ours(Some("0")) && is_below_ours(Some("240000")));
        assert!(!is_below_ours(same("min.compaction.lag.ms")) && !is_below_ours(None));
    }
}
