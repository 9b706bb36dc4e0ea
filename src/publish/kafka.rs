//! Settings of Kafka clients: the user's properties, and over them what exactly once rests on.
//!
//! Comes in: settings. Goes out: client configurations by role, and errors of the client library as ours. A property
//! that would break a promise is refused by name; values never show.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaConfRes;
use rdkafka::{ClientConfig, ClientContext};

use crate::config::{OWN_PROPERTIES, Settings};
use crate::error::Kind;
use crate::{Error, Result};

#[derive(Clone, Debug)]
pub enum Role {
    Admin,
    /// Member of the group that shares out shards.
    Member,
    /// Reads a control partition; sees committed records only, or all.
    Reader {
        committed: bool,
    },
    /// The one writer of a shard.
    Producer {
        shard: i32,
    },
}

/// Names of one property; of two spellings in one configuration the client library would take either.
const SPELLINGS: &[(&str, &str)] =
    &[("queue.buffering.max.ms", "linger.ms"), ("compression.codec", "compression.type")];

/// A batch must hold a dead letter or a part of a ledger, which are at most half of this.
pub(super) const LEAST_BATCH: usize = 512 * 1024;

/// The configuration of a client.
pub fn client_config(settings: &Settings, role: &Role) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Warning);
    config.set("client.id", format!("sf2kafka-{}", settings.name));
    // A default that the user may set otherwise. The library's 10 s are a whole session of a group's member: it would lose its
    // shards to an outage of which it was the last to learn that it is over. The library refuses a first pause above the most.
    if !settings.kafka.properties.contains_key("reconnect.backoff.ms") {
        config.set("reconnect.backoff.max.ms", "1000");
    }
    if let Role::Producer { .. } = role {
        // Defaults that the user may set otherwise. 50,000 records or 8 MiB of a shard wait for the broker at most:
        // more only costs memory. lz4: of 1 KB records 332,000 a second, where zstd makes 189,000 and none 655,000
        // (2 cores, mock cluster in the same process, November 2026).
        config
            .set("linger.ms", "5")
            .set("batch.size", "1000000")
            .set("batch.num.messages", "50000")
            .set("queue.buffering.max.messages", "50000")
            .set("queue.buffering.max.kbytes", "8192")
            .set("compression.type", "lz4")
            .set("transaction.timeout.ms", "120000")
            .set("message.max.bytes", "1000000");
    }
    if let Role::Member = role {
        // A restart after a crash waits until the group gives up the dead member: the library's 45 s are long for that,
        // and its heartbeats come from a thread that nothing of ours holds up.
        config.set("session.timeout.ms", "10000");
    }
    if let Role::Reader { .. } = role {
        // Whoever reads waits for the end. The library leaves a partition alone for a second once it holds what the bound
        // below allows, and for half a second where nothing comes, which is how it learns that a partition is at its end.
        config.set("fetch.queue.backoff.ms", "5").set("fetch.wait.max.ms", "20");
    }
    for (name, value) in &settings.kafka.properties {
        let name = name.as_str();
        if OWN_PROPERTIES.contains(&name) {
            let what = format!("`kafka.properties.{name}` is set by the program");
            return Err(Error::new(Kind::ConfigInvalid, what).hint("leave it out: exactly-once rests on it"));
        }
        let name = SPELLINGS.iter().find(|(other, _)| *other == name).map_or(name, |(_, spelling)| *spelling);
        config.set(name, value.expose());
    }
    config.set("bootstrap.servers", &settings.kafka.bootstrap_servers);
    match role {
        Role::Admin => {
            config.remove("group.instance.id");
        }
        Role::Member => {
            config
                .set("group.id", settings.group_id())
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("enable.auto.commit", "false")
                .set("enable.auto.offset.store", "false")
                .set("auto.offset.reset", "latest")
                .set("queued.min.messages", "1")
                .set("queued.max.messages.kbytes", "64");
        }
        Role::Reader { committed } => {
            config
                // The library reads nothing without a group; it does not join it. The group's own name needs no
                // further right.
                .set("group.id", settings.group_id())
                .set("enable.auto.commit", "false")
                .set("enable.auto.offset.store", "false")
                .set("auto.offset.reset", "earliest")
                .set("enable.partition.eof", "true")
                .set("queued.max.messages.kbytes", "8192")
                .set("isolation.level", if *committed { "read_committed" } else { "read_uncommitted" });
            config.remove("group.instance.id");
        }
        Role::Producer { shard } => {
            config
                .set("transactional.id", settings.transactional_id(*shard))
                .set("enable.idempotence", "true")
                .set("acks", "all")
                .set("partitioner", "murmur2_random");
            config.remove("group.instance.id");
            if largest_batch(&config) < LEAST_BATCH {
                let what = format!("`kafka.properties.message.max.bytes` is below {LEAST_BATCH}");
                return Err(Error::new(Kind::ConfigInvalid, what)
                    .hint("control records and dead letters need that much; topics must take it too"));
            }
        }
    }
    Ok(config)
}

/// The most bytes that a producer of this configuration puts into one batch.
pub(super) fn largest_batch(config: &ClientConfig) -> usize {
    config.get("message.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(1_000_000)
}

/// An error of the client library as ours, by its code.
pub fn kafka_error(what: impl Into<String>, error: KafkaError) -> Error {
    let kind = match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::Authentication,
        ) => Kind::KafkaRefused,
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Kind::TopicMissing
        }
        Some(
            RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch,
        ) => Kind::ShardFenced,
        Some(
            RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::FencedInstanceId
            | RDKafkaErrorCode::RebalanceInProgress,
        ) => Kind::ShardLost,
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => Kind::RecordTooLarge,
        _ => match error {
            // Its own text holds the value, which may be a secret.
            KafkaError::ClientConfig(outcome, _, name, _) => {
                let trouble = match outcome {
                    RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN => "is not a property of the client library",
                    _ => "has a value that the client library does not take",
                };
                let what = format!("{}: `kafka.properties.{name}` {trouble}", what.into());
                return Error::new(Kind::ConfigInvalid, what);
            }
            KafkaError::ClientCreation(_) => Kind::ConfigInvalid,
            _ => Kind::KafkaUnavailable,
        },
    };
    Error::new(kind, what).source(error)
}

/// What the client library says by itself. It tries again by itself too: what it could not do shows in the error of
/// the call that needed it, so that nothing here is louder than a warning.
pub(super) fn say(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        // A failed connection: the same comes as an error.
        _ if facility == "FAIL" => tracing::debug!(facility, "Kafka client: {line}"),
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, "Kafka client: {line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "Kafka client: {line}"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, "Kafka client: {line}"),
    }
}

/// The same for errors of no call in particular: a broker that is away, a connection that was closed.
pub(super) fn say_error(error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        // For readers the end of a partition is what they wait for.
        Some(RDKafkaErrorCode::PartitionEOF) => {}
        // Behind the errors of each broker, which say why.
        Some(RDKafkaErrorCode::AllBrokersDown) => tracing::debug!("Kafka client: {reason}"),
        Some(code) if is_away(code) => say_away(reason),
        _ => tracing::warn!(%error, "Kafka client: {reason}"),
    }
}

/// What the client library says of a broker that it does not reach, many times a second.
pub(super) fn is_away(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
    )
}

/// Asks again, for at most so long, while the cluster is putting up what it is asked about: a topic or the groups' own topic
/// that was just made, a leader that was just elected.
pub(super) fn once_settled<T>(
    most: Duration,
    mut ask: impl FnMut() -> Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    let began = Instant::now();
    loop {
        match ask() {
            Err(error) if error.rdkafka_error_code().is_some_and(is_settling) && began.elapsed() < most => {
                tracing::debug!(%error, "Kafka is asked again");
                std::thread::sleep(Duration::from_millis(100));
            }
            outcome => return outcome,
        }
    }
}

fn is_settling(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::CoordinatorLoadInProgress
    )
}

/// Of all clients of the process: since when a broker is away, and when that was last said.
static AWAY: Mutex<Away> = Mutex::new(Away { since: None, said: None });

struct Away {
    since: Option<Instant>,
    said: Option<Instant>,
}

/// An outage is said at once and then once in so long, whatever the number of clients that meet it.
const SAY_AGAIN: Duration = Duration::from_secs(60);

fn say_away(reason: &str) {
    if !is_news() {
        return tracing::debug!("Kafka client: {reason}");
    }
    let kind = Kind::KafkaUnavailable;
    let (code, hint) = (kind.code(), kind.advice());
    tracing::warn!(code, error = reason, hint, "no connection to a Kafka broker, trying again");
}

fn is_news() -> bool {
    let now = Instant::now();
    let mut away = AWAY.lock().unwrap_or_else(PoisonError::into_inner);
    let is_news = away.said.is_none_or(|said| now.duration_since(said) >= SAY_AGAIN);
    if is_news {
        away.since.get_or_insert(now);
        away.said = Some(now);
    }
    is_news
}

/// A transaction was committed or a shard claimed: if a broker was said to be away, that is over.
pub(super) fn say_answers() {
    let since = AWAY.lock().unwrap_or_else(PoisonError::into_inner).since.take();
    if let Some(since) = since {
        tracing::info!(after = ?Duration::from_secs(since.elapsed().as_secs()), "Kafka answers again");
    }
}

/// A client that is closed on a thread of its own: that takes the library a tenth of a second, which a start would spend
/// several times over. Only in a run, which goes on: a process should not end while a client is being closed.
pub(super) struct Closing<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Closing<T> {
    pub fn of(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> std::ops::Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> Drop for Closing<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Without a thread it is closed here.
        let _ = std::thread::Builder::new().name("closing".to_owned()).spawn(move || drop(client));
    }
}

/// A client that only speaks up by [`say`].
pub(super) struct Plain;

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        say(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        say_error(&error, reason);
    }
}

impl ConsumerContext for Plain {}
impl ProducerContext for Plain {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::producer::BaseProducer;

    use super::*;
    use crate::config::{Auth, KafkaSettings, SalesforceSettings, Secret};

    fn settings(properties: &[(&str, &str)]) -> Settings {
        let auth = Auth::AccessToken { access_token: Secret::new("unused") };
        let salesforce = SalesforceSettings::new("http://127.0.0.1:9".parse().unwrap(), auth);
        let mut kafka = KafkaSettings::new("127.0.0.1:9");
        kafka.properties =
            properties.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        Settings::new("crm", salesforce, kafka, None)
    }

    #[test]
    fn what_exactly_once_rests_on_cannot_be_overridden() {
        for name in OWN_PROPERTIES {
            let error = client_config(&settings(&[(name, "x")]), &Role::Producer { shard: 0 }).unwrap_err();
            assert_eq!(error.kind(), Kind::ConfigInvalid);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn an_error_names_the_property_and_never_its_value() {
        let wrong = [
            ("security.protocol", "hunter2", "has a value that the client library does not take"),
            ("sasl.pasword", "hunter2", "is not a property of the client library"),
        ];
        for (name, value, trouble) in wrong {
            let config = client_config(&settings(&[(name, value)]), &Role::Member).unwrap();
            let refused = config.create_with_context::<_, BaseConsumer<Plain>>(Plain).err().unwrap();
            let error = kafka_error("the group's client cannot start", refused);
            assert_eq!(error.kind(), Kind::ConfigInvalid);
            assert!(error.to_string().contains(&format!("`kafka.properties.{name}` {trouble}")), "{error}");
            assert!(!format!("{error} {error:?} {}", error.report()).contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_property_of_two_spellings_is_set_once() {
        let given = settings(&[("compression.codec", "zstd"), ("queue.buffering.max.ms", "50")]);
        let config = client_config(&given, &Role::Producer { shard: 3 }).unwrap();
        assert_eq!((config.get("compression.type"), config.get("compression.codec")), (Some("zstd"), None));
        assert_eq!((config.get("linger.ms"), config.get("queue.buffering.max.ms")), (Some("50"), None));
        assert_eq!(config.get("transactional.id"), Some("sf2kafka-crm-3"));
    }

    #[test]
    fn a_cluster_that_settles_is_asked_again_and_one_that_refuses_is_not() {
        use RDKafkaErrorCode::{GroupAuthorizationFailed, NotCoordinator, NotLeaderForPartition};
        let ask = |most: u64, answers: &[RDKafkaErrorCode]| {
            let mut asked = 0;
            let outcome = once_settled(Duration::from_millis(most), || {
                asked += 1;
                answers.get(asked - 1).map_or(Ok(asked), |code| Err(KafkaError::MetadataFetch(*code)))
            });
            (outcome.map_err(|error| error.rdkafka_error_code().unwrap()), asked)
        };
        assert_eq!(ask(60_000, &[NotCoordinator, NotLeaderForPartition]), (Ok(3), 3));
        assert_eq!(ask(60_000, &[GroupAuthorizationFailed]), (Err(GroupAuthorizationFailed), 1));
        assert_eq!(ask(0, &[NotCoordinator]), (Err(NotCoordinator), 1));
    }

    #[test]
    fn connections_are_tried_again_well_within_a_session() {
        let most = |properties: &[(&str, &str)], role| {
            let config = client_config(&settings(properties), &role).unwrap();
            assert!(config.create_native_config().is_ok());
            config.get("reconnect.backoff.max.ms").map(str::to_owned)
        };
        for role in [Role::Admin, Role::Member, Role::Reader { committed: true }, Role::Producer { shard: 0 }]
        {
            assert_eq!(most(&[], role.clone()).as_deref(), Some("1000"));
            assert_eq!(most(&[("reconnect.backoff.max.ms", "5000")], role.clone()).as_deref(), Some("5000"));
            assert_eq!(most(&[("reconnect.backoff.ms", "2000")], role), None);
        }
    }

    #[test]
    fn a_batch_that_holds_no_control_record_is_refused() {
        let small = settings(&[("message.max.bytes", "524287")]);
        let error = client_config(&small, &Role::Producer { shard: 0 }).unwrap_err();
        assert_eq!(error.kind(), Kind::ConfigInvalid);
        let enough = settings(&[("message.max.bytes", "524288")]);
        assert!(client_config(&enough, &Role::Producer { shard: 0 }).is_ok());
    }

    #[test]
    fn the_instance_id_is_the_members_alone() {
        let given = settings(&[("group.instance.id", "one")]);
        let member = client_config(&given, &Role::Member).unwrap();
        assert_eq!(member.get("group.instance.id"), Some("one"));
        for role in [Role::Admin, Role::Reader { committed: true }, Role::Producer { shard: 0 }] {
            assert_eq!(client_config(&given, &role).unwrap().get("group.instance.id"), None, "{role:?}");
        }
        // And the client library takes what we set for a producer.
        let config = client_config(&given, &Role::Producer { shard: 0 }).unwrap();
        assert!(config.create_with_context::<_, BaseProducer<Plain>>(Plain).is_ok());
    }
}
