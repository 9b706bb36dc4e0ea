//! A login in the control topic: its newest contents, and whose turn it is to replace them.
//!
//! Comes in: contents that are sealed already. Goes out: the same, to every instance. They stand under keys of their own
//! (`token/<pipeline>`, `turn/<pipeline>`), outside of the shards' transactions: nobody's open transaction holds them up,
//! and a login does not wait for data. Whose turn it is follows from the order of the records alone, so that all readers
//! agree: a claim counts if nobody holds one that is still good, and is over when it is released or its time is up.
//! All of it blocks. Never: contents in a message.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::control::{end_of, reader, transient};
use super::kafka::{Role, client_config, kafka_error, say, say_error};
use super::shard_of;
use crate::config::Settings;
use crate::error::Kind;
use crate::{Error, Result};

/// Longer than a login takes at most, by the clocks of the instances: they may differ by a minute.
const CLAIM_MS: i64 = 180_000;
/// Who waits for a claim sees it end.
const LONGEST: Duration = Duration::from_secs(240);
const READ: Duration = Duration::from_secs(60);
const WRITE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct TokenTopic {
    settings: Settings,
    partition: i32,
    contents_key: String,
    claim_key: String,
}

/// A turn; it ends with the value.
pub struct TokenClaim {
    topic: TokenTopic,
    writer: Writer,
}

#[derive(Serialize, Deserialize)]
struct Claim {
    version: u32,
    /// None: released.
    owner: Option<String>,
}

/// What the records say, one after the other.
#[derive(Debug, Default, PartialEq)]
struct Turns {
    contents: Option<Vec<u8>>,
    /// Whose turn it is, and until when.
    holder: Option<(String, i64)>,
}

impl Turns {
    fn claimed(&mut self, value: &[u8], at_ms: i64) {
        match serde_json::from_slice::<Claim>(value).ok().and_then(|claim| claim.owner) {
            None => self.holder = None,
            Some(owner) if self.is_free(at_ms) => self.holder = Some((owner, at_ms + CLAIM_MS)),
            Some(_) => {}
        }
    }

    fn is_free(&self, at_ms: i64) -> bool {
        self.holder.as_ref().is_none_or(|(_, until)| at_ms > *until)
    }

    fn is_of(&self, owner: &str) -> bool {
        self.holder.as_ref().is_some_and(|(holder, _)| holder == owner)
    }
}

impl TokenTopic {
    pub fn new(settings: &Settings) -> Self {
        let contents_key = format!("token/{}", settings.name);
        Self {
            partition: shard_of(&contents_key, settings.kafka.control_partitions),
            claim_key: format!("turn/{}", settings.name),
            contents_key,
            settings: settings.clone(),
        }
    }

    pub fn name(&self) -> String {
        self.settings.control_topic()
    }

    /// None: nobody has logged in, or there is no control topic yet.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        match self.turns() {
            Ok(turns) => Ok(turns.contents),
            Err(error) if error.kind() == Kind::TopicMissing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for its turn. `owner` must be nobody else's word.
    pub fn claim(&self, owner: &str) -> Result<TokenClaim> {
        let writer = Writer::new(&self.settings)?;
        let begun = Instant::now();
        let mut said = false;
        while begun.elapsed() < LONGEST {
            if self.turns()?.is_free(now_ms()) {
                self.write_claim(&writer, Some(owner))?;
                if self.turns()?.is_of(owner) {
                    return Ok(TokenClaim { topic: self.clone(), writer });
                }
            }
            if !said && begun.elapsed() > Duration::from_secs(5) {
                said = true;
                tracing::info!(
                    topic = self.name(),
                    "waiting for another instance that is logging in, or for the time of one that died meanwhile"
                );
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err(Error::new(Kind::TokenStoreFailed, format!("no turn to log in came in topic {}", self.name()))
            .hint("look for an instance that logs in again and again, and for clocks that differ by minutes"))
    }

    fn write_claim(&self, writer: &Writer, owner: Option<&str>) -> Result<()> {
        let claim = Claim { version: 1, owner: owner.map(str::to_owned) };
        let value = serde_json::to_vec(&claim).expect("a number and a text always serialize");
        writer.write(&self.name(), self.partition, &self.claim_key, &value)
    }

    /// Everything that was written before this call. Read uncommitted: these records are in no transaction, and one of a
    /// shard that is open must not hide them.
    fn turns(&self) -> Result<Turns> {
        let topic = self.name();
        let cannot = |error| kafka_error(format!("topic {topic} cannot be read"), error);
        let reader = reader(&self.settings, false)?;
        let (first, end) = end_of(&reader, &topic, self.partition)?;
        let mut turns = Turns::default();
        if first == end {
            return Ok(turns);
        }
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&topic, self.partition, Offset::Beginning).map_err(cannot)?;
        reader.assign(&assignment).map_err(cannot)?;
        let begun = Instant::now();
        while begun.elapsed() < READ {
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let key = message.key().unwrap_or_default();
                    if key == self.contents_key.as_bytes() {
                        turns.contents = message.payload().map(<[u8]>::to_vec);
                    } else if key == self.claim_key.as_bytes() {
                        let at = message.timestamp().to_millis().unwrap_or_default();
                        turns.claimed(message.payload().unwrap_or_default(), at);
                    }
                    if message.offset() + 1 >= end {
                        return Ok(turns);
                    }
                }
                // Compaction may have taken the last ones.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(turns),
                Some(Err(error)) if transient(&error) => {}
                Some(Err(error)) => return Err(cannot(error)),
                None => {}
            }
        }
        Err(Error::new(Kind::KafkaUnavailable, format!("control topic {topic} could not be read to its end")))
    }
}

impl TokenClaim {
    /// Durable on all replicas in sync when it returns.
    pub fn write(&self, contents: &[u8]) -> Result<()> {
        let TokenTopic { partition, contents_key, .. } = &self.topic;
        self.writer.write(&self.topic.name(), *partition, contents_key, contents)
    }
}

impl Drop for TokenClaim {
    fn drop(&mut self) {
        // Else it is over when its time is up.
        if let Err(error) = self.topic.write_claim(&self.writer, None) {
            tracing::warn!(%error, "the turn to log in could not be given back, others wait for some minutes");
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(since).unwrap_or(i64::MAX)
}

#[derive(Clone, Default)]
struct Delivered(Arc<Mutex<Option<Result<(), KafkaError>>>>);

impl ClientContext for Delivered {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        say(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        say_error(&error, reason);
    }
}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let outcome = result.as_ref().map(drop).map_err(|(error, _)| error.clone());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

/// One record at a time, acknowledged by all replicas in sync.
struct Writer {
    producer: BaseProducer<Delivered>,
    delivered: Delivered,
}

impl Writer {
    fn new(settings: &Settings) -> Result<Self> {
        let delivered = Delivered::default();
        let mut config = client_config(settings, &Role::Admin)?;
        config.set("enable.idempotence", "true").set("acks", "all").set("linger.ms", "0");
        let producer = config
            .create_with_context(delivered.clone())
            .map_err(|error| kafka_error("the producer for the login cannot start", error))?;
        Ok(Self { producer, delivered })
    }

    fn write(&self, topic: &str, partition: i32, key: &str, value: &[u8]) -> Result<()> {
        let cannot = |error| kafka_error(format!("the login cannot be written to topic {topic}"), error);
        let outcome = || self.delivered.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome();
        let record = BaseRecord::to(topic).partition(partition).key(key).payload(value);
        self.producer.send(record).map_err(|(error, _)| cannot(error))?;
        let begun = Instant::now();
        while begun.elapsed() < WRITE {
            self.producer.poll(Duration::from_millis(50));
            if let Some(outcome) = outcome() {
                return outcome.map_err(cannot);
            }
        }
        Err(Error::new(
            Kind::KafkaUnavailable,
            format!("topic {topic} took no login within {} s", WRITE.as_secs()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(owner: Option<&str>) -> Vec<u8> {
        serde_json::to_vec(&Claim { version: 1, owner: owner.map(str::to_owned) }).unwrap()
    }

    #[test]
    fn the_first_claim_counts_until_it_is_released_or_its_time_is_up() {
        let mut turns = Turns::default();
        turns.claimed(&claim(Some("one")), 1_000);
        turns.claimed(&claim(Some("two")), 1_001);
        assert!(turns.is_of("one") && !turns.is_free(2_000));
        turns.claimed(&claim(None), 2_000);
        turns.claimed(&claim(Some("two")), 2_001);
        assert!(turns.is_of("two"));
        turns.claimed(&claim(Some("three")), 2_001 + CLAIM_MS);
        assert!(turns.is_of("two"));
        turns.claimed(&claim(Some("three")), 2_002 + CLAIM_MS);
        assert!(turns.is_of("three"), "who died does not hold it for ever");
        turns.claimed(b"?", 0);
        assert_eq!(turns.holder, None);
    }
}
