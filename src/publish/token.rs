//! A login in the control topic: its newest contents, and whose turn it is to replace them.
//!
//! Comes in: contents that are sealed already. Goes out: the same, to every instance. They stand under keys of their own
//! (`token/<pipeline>`, `turn/<pipeline>`), outside of the shards' transactions: nobody's open transaction holds them up,
//! and a login does not wait for data. Who holds the turn is `turns`' to say; what a holder does is over before anybody
//! may follow it, by bounds that are constants here. All of it blocks. Never: contents in a message, a mark written by
//! who lost the turn, a write that lands after it was given up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::control::transient;
use super::kafka::{Plain, Role, client_config, kafka_error, once_settled, say, say_error};
use super::shard_of;
use super::topics::check_partitions;
use super::turns::{self, Turns, Watch};
use crate::config::Settings;
use crate::error::Kind;
use crate::{Error, Result};

/// Reading what is new in the topic.
const READ: Duration = Duration::from_secs(30);
/// A write is acknowledged or given up.
const WRITE: Duration = Duration::from_secs(30);
/// The client library gives a record up before we do: nothing lands behind our back.
const DELIVERY_MS: &str = "25000";
/// Between two looks of who waits.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct TokenTopic {
    settings: Settings,
    partition: i32,
    contents_key: String,
    turn_key: String,
    /// What the holder does between its mark and its answer takes no longer.
    request: Duration,
}

/// A turn; it ends with the value.
pub struct TokenClaim {
    topic: TokenTopic,
    writer: Writer,
    log: Log,
    owner: String,
    /// Before the claim was written.
    since: Instant,
    /// What was claimed in vain is not given back.
    holds: bool,
}

impl TokenTopic {
    pub fn new(settings: &Settings, request: Duration) -> Self {
        let contents_key = format!("token/{}", settings.name);
        Self {
            partition: shard_of(&contents_key, settings.kafka.control_partitions),
            turn_key: format!("turn/{}", settings.name),
            contents_key,
            settings: settings.clone(),
            request,
        }
    }

    pub fn name(&self) -> String {
        self.settings.control_topic()
    }

    /// The claim, two looks, the mark; then all that follows a mark.
    pub fn turn(&self) -> Duration {
        WRITE + READ + READ + WRITE + self.after_mark()
    }

    /// The request, a look, the answer.
    fn after_mark(&self) -> Duration {
        self.request + READ + WRITE
    }

    /// None: nobody has logged in, or there is no control topic yet.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        let mut log = Log::default();
        match log.look(self) {
            Ok(()) => Ok(log.turns.contents),
            Err(error) if error.kind() == Kind::TopicMissing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for its turn. `word` must be nobody else's.
    pub fn claim(&self, word: &str) -> Result<TokenClaim> {
        let (begun, mut pause, mut said) = (Instant::now(), FIRST_PAUSE, false);
        let (mut watch, mut log, mut number) = (Watch::default(), Log::default(), 0_u32);
        let mut writer = None;
        while begun.elapsed() < self.turn() * 3 {
            log.look(self)?;
            let holder = log.turns.holder.clone();
            let free =
                holder.as_ref().is_none_or(|holder| watch.is_over(holder, self.turn(), Instant::now()));
            if free {
                number += 1;
                let mut claim = TokenClaim {
                    topic: self.clone(),
                    writer: writer.take().map_or_else(|| Writer::new(&self.settings), Ok)?,
                    log,
                    owner: format!("{word}.{number}"),
                    since: Instant::now(),
                    holds: true,
                };
                claim.say(&turns::claim(&claim.owner, holder.as_deref()))?;
                claim.log.look(self)?;
                if claim.log.turns.is_of(&claim.owner) {
                    return Ok(claim);
                }
                (writer, log) = claim.in_vain();
            }
            if !said && begun.elapsed() > Duration::from_secs(5) {
                said = true;
                tracing::info!(
                    topic = self.name(),
                    "waiting for another instance that is logging in, or for the time of one that died meanwhile"
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(Error::new(Kind::TokenStoreFailed, format!("no turn to log in came in topic {}", self.name()))
            .hint("look for an instance that logs in again and again"))
    }
}

impl TokenClaim {
    /// The newest contents now.
    pub fn read(&mut self) -> Result<Option<Vec<u8>>> {
        self.log.look(&self.topic)?;
        Ok(self.log.turns.contents.clone())
    }

    /// Writes what says that a request is about to be sent. False: the turn is another's, or its time is too short for
    /// the request and its answer. Then nothing may be sent, and what stands in the topic must be read again.
    pub fn mark(&mut self, contents: &[u8]) -> Result<bool> {
        let after = self.topic.after_mark();
        if !self.is_ours_for(WRITE + after)? {
            return Ok(false);
        }
        self.write(contents)?;
        // A process that stood still meanwhile sends nothing.
        self.is_ours_for(after)
    }

    /// Durable on all replicas in sync when it returns. It looks at nothing: what was got must not be lost.
    pub fn write(&self, contents: &[u8]) -> Result<()> {
        let TokenTopic { partition, contents_key, .. } = &self.topic;
        self.writer.write(&self.topic.name(), *partition, contents_key, contents)
    }

    fn is_ours_for(&mut self, needed: Duration) -> Result<bool> {
        self.log.look(&self.topic)?;
        Ok(self.log.turns.is_of(&self.owner) && self.since.elapsed() + needed <= self.topic.turn())
    }

    fn say(&self, value: &[u8]) -> Result<()> {
        self.writer.write(&self.topic.name(), self.topic.partition, &self.topic.turn_key, value)
    }

    fn in_vain(mut self) -> (Option<Writer>, Log) {
        self.holds = false;
        let writer = self.writer.clone();
        (Some(writer), std::mem::take(&mut self.log))
    }
}

impl Drop for TokenClaim {
    fn drop(&mut self) {
        if !self.holds {
            return;
        }
        // Else it is over when its time is up.
        if let Err(error) = self.say(&turns::release(&self.owner)) {
            tracing::warn!(%error, "the turn to log in could not be given back, others wait for some minutes");
        }
    }
}

/// What was read so far; each look goes on from there.
#[derive(Default)]
struct Log {
    turns: Turns,
    next: i64,
}

impl Log {
    /// Takes in everything that was written before this call. Read uncommitted: these records are in no transaction, and one
    /// of a shard that is open must not hide them.
    fn look(&mut self, at: &TokenTopic) -> Result<()> {
        let topic = at.name();
        let cannot = |error| kafka_error(format!("topic {topic} cannot be read"), error);
        let reader: BaseConsumer<Plain> = client_config(&at.settings, &Role::Reader { committed: false })?
            .create_with_context(Plain)
            .map_err(|error| kafka_error("the reader of the control topic cannot start", error))?;
        let begun = Instant::now();
        if self.next == 0 {
            has_its_size(&reader, &at.settings, &topic)?;
        }
        let left = || READ.saturating_sub(begun.elapsed());
        let (first, end) =
            once_settled(left(), || reader.fetch_watermarks(&topic, at.partition, left())).map_err(cannot)?;
        if end < self.next {
            // Somebody made the topic anew.
            *self = Self::default();
        }
        let from = first.max(self.next);
        if from >= end {
            return Ok(());
        }
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&topic, at.partition, Offset::Offset(from)).map_err(cannot)?;
        reader.assign(&assignment).map_err(cannot)?;
        while begun.elapsed() < READ {
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let key = message.key().unwrap_or_default();
                    if key == at.contents_key.as_bytes() {
                        self.turns.contents = message.payload().map(<[u8]>::to_vec);
                    } else if key == at.turn_key.as_bytes() {
                        self.turns.hear(message.payload().unwrap_or_default());
                    }
                    self.next = message.offset() + 1;
                    if self.next >= end {
                        return Ok(());
                    }
                }
                // The last ones are marks of transactions, or compaction took them.
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.next = self.next.max(end);
                    return Ok(());
                }
                Some(Err(error)) if transient(&error) => {}
                Some(Err(error)) => return Err(cannot(error)),
                None => {}
            }
        }
        Err(Error::new(Kind::KafkaUnavailable, format!("control topic {topic} could not be read to its end")))
    }
}

/// With another number of partitions the login would be looked for in another one, and not be found.
fn has_its_size(reader: &BaseConsumer<Plain>, settings: &Settings, topic: &str) -> Result<()> {
    let cannot = |error| kafka_error(format!("topic {topic} cannot be read"), error);
    let metadata = reader.fetch_metadata(Some(topic), READ).map_err(cannot)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    if let Some(code) = found.and_then(|found| found.error()) {
        return Err(cannot(KafkaError::MetadataFetch(code.into())));
    }
    match found.map(|found| found.partitions().len()) {
        None | Some(0) => Err(Error::new(Kind::TopicMissing, format!("topic {topic} does not exist"))),
        Some(partitions) => check_partitions(settings, partitions),
    }
}

/// What became of one record.
type Report = Arc<Mutex<Option<Result<(), KafkaError>>>>;

struct Reporting;

impl ClientContext for Reporting {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        say(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        say_error(&error, reason);
    }
}

impl ProducerContext for Reporting {
    type DeliveryOpaque = Report;

    fn delivery(&self, result: &DeliveryResult<'_>, report: Report) {
        let outcome = result.as_ref().map(drop).map_err(|(error, _)| error.clone());
        *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

/// One record at a time, acknowledged by all replicas in sync.
#[derive(Clone)]
struct Writer {
    producer: Arc<BaseProducer<Reporting>>,
}

impl Writer {
    fn new(settings: &Settings) -> Result<Self> {
        let mut config = client_config(settings, &Role::Admin)?;
        // The other spelling of the same.
        config.remove("delivery.timeout.ms");
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("message.timeout.ms", DELIVERY_MS);
        let producer = config
            .create_with_context(Reporting)
            .map_err(|error| kafka_error("the producer for the login cannot start", error))?;
        Ok(Self { producer: Arc::new(producer) })
    }

    fn write(&self, topic: &str, partition: i32, key: &str, value: &[u8]) -> Result<()> {
        let cannot = |error| kafka_error(format!("the login cannot be written to topic {topic}"), error);
        let report = Report::default();
        let record = BaseRecord::with_opaque_to(topic, Arc::clone(&report))
            .partition(partition)
            .key(key)
            .payload(value);
        self.producer.send(record).map_err(|(error, _)| cannot(error))?;
        let begun = Instant::now();
        while begun.elapsed() < WRITE {
            self.producer.poll(Duration::from_millis(50));
            if let Some(outcome) = report.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return outcome.map_err(cannot);
            }
        }
        self.producer.purge(PurgeConfig::default().queue().inflight());
        Err(Error::new(
            Kind::KafkaUnavailable,
            format!("topic {topic} took no login within {} s", WRITE.as_secs()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    use super::*;
    use crate::config::{Auth, KafkaSettings, SalesforceSettings, Secret};
    use crate::publish::topics::MIN_COMPACTION_LAG_MS;

    const REQUEST: Duration = Duration::from_secs(60);

    fn topic(at: &str, partitions: i32) -> TokenTopic {
        let auth = Auth::AccessToken { access_token: Secret::new("unused") };
        let salesforce = SalesforceSettings::new("http://127.0.0.1:9".parse().unwrap(), auth);
        let mut kafka = KafkaSettings::new(at);
        kafka.control_partitions = partitions;
        TokenTopic::new(&Settings::new("t", salesforce, kafka, None), REQUEST)
    }

    /// One record at a time is all that is asked of it; the order of a real log is judged in `tests/broker`.
    fn cluster() -> (MockCluster<'static, DefaultProducerContext>, TokenTopic) {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t.control", 2, 1).unwrap();
        let topic = topic(&cluster.bootstrap_servers(), 2);
        (cluster, topic)
    }

    #[test]
    fn the_steps_of_a_turn_end_within_it_and_compaction_leaves_it_alone() {
        let topic = topic("127.0.0.1:9", 2);
        assert_eq!(topic.turn(), 3 * WRITE + 3 * READ + REQUEST);
        assert_eq!(topic.turn(), Duration::from_secs(240), "what the ADR and the docs say");
        assert!(Duration::from_millis(DELIVERY_MS.parse().unwrap()) < WRITE);
        assert!(Duration::from_millis(MIN_COMPACTION_LAG_MS.parse().unwrap()) > 2 * topic.turn());
    }

    #[test]
    fn a_holder_marks_and_writes_and_the_next_one_reads_it() {
        let (_cluster, topic) = cluster();
        assert_eq!(topic.read().unwrap(), None);
        let mut claim = topic.claim("one").unwrap();
        assert!(claim.mark(b"mark").unwrap());
        assert_eq!(claim.read().unwrap().as_deref(), Some(&b"mark"[..]));
        claim.write(b"answer").unwrap();
        drop(claim);
        let mut next = topic.claim("two").unwrap();
        assert_eq!(next.read().unwrap().as_deref(), Some(&b"answer"[..]));
    }

    #[test]
    fn who_lost_the_turn_writes_no_mark_and_its_release_ends_nobody_elses() {
        let (_cluster, topic) = cluster();
        let mut claim = topic.claim("one").unwrap();
        claim.say(&turns::claim("two.1", Some("one.1"))).unwrap();
        assert!(!claim.mark(b"mark").unwrap());
        assert_eq!(topic.read().unwrap(), None);
        drop(claim);
        let mut log = Log::default();
        log.look(&topic).unwrap();
        assert!(log.turns.is_of("two.1"), "{:?}", log.turns);
    }

    #[test]
    fn who_has_too_little_time_for_a_request_writes_no_mark() {
        let (_cluster, topic) = cluster();
        let mut claim = topic.claim("one").unwrap();
        let spare = topic.turn() - topic.after_mark() - WRITE;
        claim.since -= spare;
        assert!(!claim.mark(b"mark").unwrap());
        assert_eq!(topic.read().unwrap(), None);
        claim.since += spare / 2;
        assert!(claim.mark(b"mark").unwrap());
    }

    #[test]
    fn a_topic_of_another_size_is_refused_before_anything_is_looked_for() {
        let (cluster, _) = cluster();
        let other = topic(&cluster.bootstrap_servers(), 1);
        assert_eq!(other.read().unwrap_err().kind(), Kind::ControlTopicChanged);
        assert_eq!(other.claim("one").map(drop).unwrap_err().kind(), Kind::ControlTopicChanged);
    }

    #[test]
    fn a_look_goes_on_where_the_last_one_ended() {
        let (_cluster, topic) = cluster();
        let mut log = Log::default();
        let claim = topic.claim("one").unwrap();
        log.look(&topic).unwrap();
        let seen = log.next;
        assert!(seen > 0 && log.turns.is_of("one.1"));
        // Were it read again from the start, this would come to light.
        log.turns = Turns::default();
        claim.write(b"answer").unwrap();
        log.look(&topic).unwrap();
        assert_eq!((log.next, log.turns.contents.as_deref()), (seen + 1, Some(&b"answer"[..])));
        assert_eq!(log.turns.holder, None);
    }
}
