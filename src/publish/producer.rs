//! The one writer of a shard: data, control records and the group's offset in one transaction.
//!
//! Comes in: records and control records. Goes out: committed transactions, or an error after which this value must
//! be dropped. It blocks, and belongs to one thread. It never sends a record twice: what failed is given up whole.
//!
//! Why a committed transaction holds all of it, once:
//! - a record that was not delivered fails the commit: the client library aborts a transaction of which a message
//!   failed, and the first failure is kept besides (`an_undelivered_record_fails_the_commit`);
//! - the producer is idempotent with all replicas acknowledging: a retry of the library adds nothing;
//! - the group's metadata go with every transaction: a member of an old generation is refused by the broker, one that
//!   has lost just this shard already here (`a_member_that_lost_its_shard_cannot_commit`,
//!   `a_shard_that_went_to_another_member_cannot_be_committed`), a fenced producer as well
//!   (`a_zombie_is_fenced_and_its_records_never_show`);
//! - what is not committed is aborted at once, never left to a timeout, so that nobody who reads committed records
//!   waits for it (`a_dropped_transaction_is_aborted_at_once`);
//! - after an unknown outcome the next claim reads what became of it (`a_claim_reads_exactly_what_was_committed`).

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Statistics};

use super::Publisher;
use super::claim::{LAYOUT, layout_record};
use super::kafka::{Role, client_config, kafka_error, largest_batch, say, say_answers, say_error};
use super::membership::GroupHandle;
use crate::config::{Delivery, Settings};
use crate::domain::ControlRecord;
use crate::error::Kind;
use crate::status::{Board, KafkaCounters};
use crate::{Error, Result};

/// Fencing waits for the coordinator, which may itself wait for a predecessor's transaction to be ended.
const FENCE: Duration = Duration::from_secs(60);
/// A full queue or an undelivered rest is waited for this long: the transaction's own timeout.
const LONGEST: Duration = Duration::from_secs(120);
const TRIES: u32 = 5;
const IDLE: Duration = Duration::from_secs(1);
/// An abort that cannot be told to the broker is left to the next claim.
const ABORT: Duration = Duration::from_secs(10);
/// What a record's batch takes on the wire besides its key and value, generously: the broker measures batches.
const FRAME_BYTES: usize = 512;

/// Bytes of key and value that a record can have.
pub fn largest_record(settings: &Settings) -> Result<usize> {
    let config = client_config(settings, &Role::Producer { shard: 0 })?;
    Ok(largest_batch(&config).saturating_sub(FRAME_BYTES))
}

struct Deliveries {
    first_failure: Arc<Mutex<Option<KafkaError>>>,
    /// Where the client library's numbers go, and under which name.
    board: Option<Arc<Board>>,
    client: String,
}

/// How often the client library tells its numbers.
const STATISTICS_MS: &str = "10000";

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        say(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        say_error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let Some(board) = &self.board else { return };
        let brokers = || statistics.brokers.values();
        let round_trips = brokers().filter_map(|broker| broker.rtt.as_ref()).filter(|rtt| rtt.cnt > 0);
        let (sum, count) = round_trips.fold((0, 0), |(sum, count), rtt| (sum + rtt.sum, count + rtt.cnt));
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        board.kafka(
            &self.client,
            KafkaCounters {
                queued_records: statistics.msg_cnt,
                queued_bytes: statistics.msg_size,
                sent_records: unsigned(statistics.txmsgs),
                sent_bytes: unsigned(statistics.txmsg_bytes),
                failed_requests: brokers().map(|broker| broker.txerrs + broker.req_timeouts).sum(),
                round_trip_micros: unsigned(sum.checked_div(count).unwrap_or(0)),
            },
        );
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failure = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.as_ref().is_none_or(is_consequence) {
                *failure = Some(error.clone());
            }
        }
    }
}

/// A record that the library threw out because another one of its transaction failed: that one's failure is the reason.
/// The two are reported in any order.
fn is_consequence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{PurgeInflight, PurgeQueue};
    matches!(error.rdkafka_error_code(), Some(PurgeInflight | PurgeQueue))
}

pub struct ShardProducer {
    producer: Arc<BaseProducer<Deliveries>>,
    idle: Thread,
    first_failure: Arc<Mutex<Option<KafkaError>>>,
    group: GroupHandle,
    control_topic: String,
    control_partitions: i32,
    shard: i32,
    delivery: Delivery,
    write_layout: bool,
    most_bytes: usize,
    sent: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Open,
    /// Something failed: what the broker holds is known only to the next claim.
    Over,
}

impl ShardProducer {
    /// A producer that has fenced every earlier one of the shard.
    pub(super) fn fence(settings: &Settings, group: GroupHandle, shard: i32) -> Result<Self> {
        let first_failure = Arc::default();
        let board = group.board();
        let client = format!("shard-{shard}");
        let mut config = client_config(settings, &Role::Producer { shard })?;
        if board.is_some() {
            config.set("statistics.interval.ms", STATISTICS_MS);
        }
        let context = Deliveries { first_failure: Arc::clone(&first_failure), board, client };
        let delivery = settings.kafka.delivery;
        if delivery == Delivery::AtLeastOnce {
            config.remove("transactional.id");
        }
        let most_bytes = largest_batch(&config).saturating_sub(FRAME_BYTES);
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(context)
            .map_err(|error| kafka_error("the producer cannot start", error))?;
        let producer = Arc::new(producer);
        let idle = serve_while_idle(&producer, shard)?;
        if delivery == Delivery::ExactlyOnce {
            retried("fencing", || producer.init_transactions(FENCE)).map_err(fencing_hint)?;
        }
        Ok(Self {
            producer,
            idle,
            first_failure,
            group,
            control_topic: settings.control_topic(),
            control_partitions: settings.kafka.control_partitions,
            shard,
            delivery,
            write_layout: false,
            most_bytes,
            sent: 0,
            state: State::Idle,
        })
    }

    pub(super) fn write_layout_first(&mut self) {
        self.write_layout = true;
    }

    fn enqueue(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        let bytes = key.len() + value.map_or(0, <[u8]>::len);
        if bytes > self.most_bytes {
            let what = format!("topic {topic}: a record of {bytes} bytes, where {} fit", self.most_bytes);
            return Err(Error::new(Kind::RecordTooLarge, what).hint(
                "raise `max.message.bytes` of the topic and `message.max.bytes` under `kafka.properties`, or exclude the large field",
            ));
        }
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).key(key);
        record.partition = partition;
        record.payload = value;
        let started = Instant::now();
        loop {
            record = match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => {
                    if started.elapsed() > LONGEST {
                        let what = format!("topic {topic}: Kafka took nothing for {} s", LONGEST.as_secs());
                        return Err(Error::new(Kind::KafkaUnavailable, what));
                    }
                    self.serve(Duration::from_millis(5));
                    record
                }
                Err((error, _)) => {
                    // A transaction of which an earlier record failed takes no more: that record's failure is the reason.
                    self.drain()?;
                    return Err(kafka_error(format!("topic {topic}: record not sent"), error));
                }
            };
        }
        self.sent = self.sent.wrapping_add(1);
        if self.sent.is_multiple_of(256) {
            self.serve(Duration::ZERO);
        }
        Ok(())
    }

    /// Takes delivery reports; waits for one at most so long.
    fn serve(&self, wait: Duration) {
        self.producer.poll(wait);
    }

    /// Waits until all that was sent is acknowledged, or one of it is refused. The library's own flush polls in steps of
    /// 100 ms, which every commit would wait for.
    fn drain(&self) -> Result<()> {
        let started = Instant::now();
        let error = loop {
            // In this order: the idle thread may take the last report, and leave its failure, at any moment.
            let all_reported = self.producer.in_flight_count() == 0;
            let failed = |error: &mut KafkaError| all_reported || !is_consequence(error);
            let mut failure = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(error) = failure.take_if(failed) {
                break error;
            }
            drop(failure);
            if all_reported {
                return Ok(());
            }
            if started.elapsed() > LONGEST {
                return Err(Error::new(Kind::KafkaUnavailable, "records were not acknowledged in time"));
            }
            self.serve(Duration::from_millis(1));
        };
        // A fenced producer drops what it held; the reason is the fatal error behind it.
        let error = match self.producer.client().fatal_error() {
            Some((code, _)) => KafkaError::MessageProduction(code),
            None => error,
        };
        let error = kafka_error("a record was not delivered", error);
        Err(match error.kind() {
            // Which of the batch it was is not known here, so that no record can be set aside.
            Kind::RecordTooLarge => Error::new(Kind::CommitFailed, error.context())
                .source(error)
                .hint("a topic takes less than at the start: raise its `max.message.bytes` again"),
            _ => error,
        })
    }

    fn send_control(&mut self, control: &[ControlRecord]) -> Result<()> {
        let topic = self.control_topic.clone();
        if self.write_layout {
            let layout = layout_record(self.control_partitions);
            self.enqueue(&topic, Some(self.shard), LAYOUT.as_bytes(), Some(&layout))?;
        }
        for record in control {
            self.enqueue(&topic, Some(self.shard), record.key.as_bytes(), record.value.as_deref()).map_err(
                |error| match error.kind() {
                    // It cannot be set aside as a data record can.
                    Kind::RecordTooLarge => Error::new(Kind::KafkaMisconfigured, error.context()).hint(
                        "control records need 512 KiB: raise `message.max.bytes` under `kafka.properties`",
                    ),
                    _ => error,
                },
            )?;
        }
        Ok(())
    }

    fn commit_transaction(&mut self, control: &[ControlRecord]) -> Result<()> {
        self.send_control(control)?;
        self.drain()?;
        let (metadata, offset) = (self.group.metadata(self.shard)?, self.group.offset(self.shard)?);
        retried("the group's offset", || {
            self.producer.send_offsets_to_transaction(&offset, &metadata, FENCE)
        })?;
        retried("the commit", || self.producer.commit_transaction(LONGEST))?;
        say_answers();
        Ok(())
    }
}

impl Publisher for ShardProducer {
    fn begin(&mut self) -> Result<()> {
        self.step(State::Idle, State::Open, |producer| match producer.delivery {
            Delivery::ExactlyOnce => producer
                .producer
                .begin_transaction()
                .map_err(|error| transaction_error("a transaction cannot begin", error)),
            Delivery::AtLeastOnce => Ok(()),
        })
    }

    fn send(&mut self, topic: &str, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.step(State::Open, State::Open, |producer| producer.enqueue(topic, None, key, value))
    }

    fn commit(&mut self, control: &[ControlRecord]) -> Result<()> {
        self.step(State::Open, State::Idle, |producer| match producer.delivery {
            Delivery::ExactlyOnce => producer.commit_transaction(control),
            Delivery::AtLeastOnce => {
                // Positions only behind data that is acknowledged: a crash between repeats, it never loses. Without
                // transactions nobody is fenced; the group is asked instead.
                producer.drain()?;
                producer.group.prove(producer.shard)?;
                producer.send_control(control)?;
                producer.drain()
            }
        })?;
        self.write_layout = false;
        Ok(())
    }
}

impl ShardProducer {
    /// Goes from one state to the other, or is over; a record that is too large changes nothing.
    fn step(&mut self, from: State, to: State, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if self.state != from {
            return Err(Error::new(Kind::Internal, "a shard's producer was used out of turn"));
        }
        let outcome = work(self);
        match &outcome {
            Ok(()) => self.state = to,
            Err(error) if error.kind() == Kind::RecordTooLarge => {}
            Err(_) => {
                self.abort();
                self.state = State::Over;
            }
        }
        outcome
    }

    /// Ends an open transaction on the broker. The library's abort waits for delivery reports that only a poll hands
    /// out, so that it is called in turns with one.
    fn abort(&mut self) {
        if self.state != State::Open || self.delivery == Delivery::AtLeastOnce {
            return;
        }
        let started = Instant::now();
        while started.elapsed() < ABORT {
            match self.producer.abort_transaction(Duration::from_millis(100)) {
                Ok(()) => return,
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                    self.serve(Duration::from_millis(5));
                }
                Err(error) => return tracing::debug!(%error, "a transaction is left to the next claim"),
            }
        }
        tracing::debug!("a transaction is left to the next claim");
    }
}

impl Drop for ShardProducer {
    fn drop(&mut self) {
        self.abort();
        self.idle.unpark();
    }
}

/// Takes the library's numbers, errors and log lines while the shard has nothing to publish: unserved they would be
/// silent, and pile up for as long as Salesforce is away. It ends with the producer.
fn serve_while_idle(producer: &Arc<BaseProducer<Deliveries>>, shard: i32) -> Result<Thread> {
    let producer = Arc::downgrade(producer);
    let serve = move || {
        while let Some(producer) = producer.upgrade() {
            producer.poll(Duration::ZERO);
            drop(producer);
            std::thread::park_timeout(IDLE);
        }
    };
    std::thread::Builder::new()
        .name(format!("shard-{shard}-idle"))
        .spawn(serve)
        .map(|handle| handle.thread().clone())
        .map_err(|error| Error::new(Kind::Internal, "no thread for an idle shard").source(error))
}

fn fencing_hint(error: Error) -> Error {
    match error.kind() {
        Kind::KafkaUnavailable | Kind::CommitFailed => error.hint(
            "see that the brokers can make the topic __transaction_state: one or two brokers need `transaction.state.log.replication.factor` and `transaction.state.log.min.isr` lowered",
        ),
        Kind::KafkaMisconfigured => error.hint(
            "set `transaction.timeout.ms` under `kafka.properties` to at most the brokers' `transaction.max.timeout.ms`",
        ),
        _ => error,
    }
}

/// Calls again while the client library says that the same call may help.
fn retried(what: &str, call: impl Fn() -> Result<(), KafkaError>) -> Result<()> {
    let mut tries = 0;
    loop {
        match call() {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error)) if error.is_retriable() && tries < TRIES => {
                tries += 1;
                tracing::debug!(what, tries, error = %error, "Kafka asks to try again");
                std::thread::sleep(Duration::from_millis(100 << tries));
            }
            Err(error) => return Err(transaction_error(what, error)),
        }
    }
}

fn transaction_error(what: &str, error: KafkaError) -> Error {
    let (fatal, code) = match &error {
        KafkaError::Transaction(error) => (error.is_fatal(), error.code()),
        _ => (false, error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)),
    };
    let kind = match code {
        RDKafkaErrorCode::Fenced
        | RDKafkaErrorCode::ProducerFenced
        | RDKafkaErrorCode::InvalidProducerEpoch => Kind::ShardFenced,
        RDKafkaErrorCode::IllegalGeneration
        | RDKafkaErrorCode::UnknownMemberId
        | RDKafkaErrorCode::FencedInstanceId
        | RDKafkaErrorCode::RebalanceInProgress => Kind::ShardLost,
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed
        | RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::GroupAuthorizationFailed
        | RDKafkaErrorCode::ClusterAuthorizationFailed => Kind::KafkaRefused,
        RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::InvalidTransactionTimeout => {
            Kind::KafkaMisconfigured
        }
        RDKafkaErrorCode::BrokerTransportFailure
        | RDKafkaErrorCode::AllBrokersDown
        | RDKafkaErrorCode::OperationTimedOut
            if !fatal =>
        {
            Kind::KafkaUnavailable
        }
        _ => Kind::CommitFailed,
    };
    Error::new(kind, format!("{what} was not taken by Kafka")).source(error)
}
