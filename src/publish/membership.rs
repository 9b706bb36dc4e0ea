//! Membership in the pipeline's consumer group: who owns which control partition, that is, which shard.
//!
//! Comes in: rebalances of the broker. Goes out: events, and the group's metadata that every transaction carries. The
//! group's client reads no records: its partitions are paused. A revocation waits, within bounds, until the shard is
//! released; the broker fences whoever does not let go in time. What is ours is also known here: the broker checks a
//! member's generation, not whether the partition is this member's.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, Rebalance,
};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use super::kafka::{Role, client_config, is_away, kafka_error, once_settled, say, say_error};
use super::topics::blocking;
use crate::config::Settings;
use crate::error::Kind;
use crate::status::Board;
use crate::{Error, Result};

/// A shard has this long to finish its transaction before its partition goes; below the session's bounds.
const RELEASE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// How long a claim waits for a group coordinator that is just taking over.
const PROOF: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub enum ShardEvent {
    Assigned(Vec<i32>),
    /// To be released; `done` lets the group go on.
    Revoked {
        shards: Vec<i32>,
        done: oneshot::Sender<()>,
    },
    /// Gone already: nothing can be committed any more.
    Lost(Vec<i32>),
    /// The group cannot be a member of at all.
    Failed(Error),
}

/// The shards that the group has given us and not taken back.
#[derive(Default)]
struct Owned(Mutex<BTreeSet<i32>>);

impl Owned {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, shards: &[i32]) {
        self.lock().extend(shards);
    }

    fn remove(&self, shards: &[i32]) {
        self.lock().retain(|shard| !shards.contains(shard));
    }

    fn check(&self, shard: i32) -> Result<()> {
        if self.lock().contains(&shard) {
            return Ok(());
        }
        Err(Error::new(Kind::ShardLost, format!("shard {shard} is not ours any more")))
    }
}

struct Context {
    owned: Arc<Owned>,
    events: mpsc::UnboundedSender<ShardEvent>,
    /// Set once all shards are released: nobody listens any more.
    leaving: Arc<AtomicBool>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        say(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        say_error(&error, reason);
    }
}

impl Context {
    /// Waits until the shards are released, if anybody is there to do it.
    fn release(&self, shards: Vec<i32>) {
        let (done, mut released) = oneshot::channel();
        if self.events.send(ShardEvent::Revoked { shards, done }).is_err() {
            return;
        }
        // This thread is the group's own; the heartbeat goes on beside it.
        let started = Instant::now();
        while started.elapsed() < RELEASE {
            match released.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(2)),
                _ => return,
            }
        }
        tracing::warn!("a shard was not released in time; what it has not committed is given up");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else { return };
        let shards = shards(partitions);
        if shards.is_empty() {
            return;
        }
        if self.leaving.load(Ordering::Relaxed) {
            self.owned.remove(&shards);
        } else if consumer.assignment_lost() {
            self.owned.remove(&shards);
            // The receiver is gone only when nothing runs any more.
            let _ = self.events.send(ShardEvent::Lost(shards));
        } else {
            // While it is released a shard may still commit, and not behind this.
            self.release(shards.clone());
            self.owned.remove(&shards);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                if let Err(error) = consumer.pause(partitions) {
                    tracing::warn!(%error, "control partitions of the group are not paused");
                }
                let shards = shards(partitions);
                if !shards.is_empty() {
                    self.owned.add(&shards);
                    let _ = self.events.send(ShardEvent::Assigned(shards));
                }
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "the group could not be rebalanced"),
        }
    }
}

fn shards(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions
        .elements()
        .iter()
        .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
        .collect()
}

/// What shards need of the group.
#[derive(Clone)]
pub struct GroupHandle {
    consumer: Arc<BaseConsumer<Context>>,
    owned: Arc<Owned>,
    topic: Arc<str>,
    board: Option<Arc<Board>>,
}

impl GroupHandle {
    /// Producers of shards that are claimed by this handle tell their client's numbers to the board.
    #[must_use]
    pub fn reporting_to(mut self, board: &Arc<Board>) -> Self {
        self.board = Some(board.clone());
        self
    }

    pub(super) fn board(&self) -> Option<Arc<Board>> {
        self.board.clone()
    }

    /// The metadata of the current generation, if the shard is ours in it.
    pub(super) fn metadata(&self, shard: i32) -> Result<ConsumerGroupMetadata> {
        let metadata = self.consumer.group_metadata();
        // A member that lost only this shard is in good standing with the broker, which would take its commit.
        self.owned.check(shard)?;
        metadata.ok_or_else(|| Error::new(Kind::ShardLost, "not a member of the group"))
    }

    /// The group offset that a shard's transactions carry. Its value says nothing: it is the membership that counts.
    pub(super) fn offset(&self, shard: i32) -> Result<TopicPartitionList> {
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(&self.topic, shard, Offset::Offset(0))
            .map_err(|error| kafka_error("a group offset cannot be named", error))?;
        Ok(offsets)
    }

    /// Whether the shard is ours as far as is known here, without asking the broker.
    pub(super) fn check(&self, shard: i32) -> Result<()> {
        self.owned.check(shard)
    }

    /// Proves that the shard is still ours: a commit in the current generation, which the broker refuses to whoever is
    /// not a member of it, between two looks at what is ours in it.
    pub(super) fn prove(&self, shard: i32) -> Result<()> {
        self.owned.check(shard)?;
        let offset = self.offset(shard)?;
        once_settled(PROOF, || self.consumer.commit(&offset, CommitMode::Sync))
            .map_err(|error| kafka_error(format!("shard {shard} is not ours any more"), error))?;
        self.owned.check(shard)
    }
}

pub struct Membership {
    handle: GroupHandle,
    leaving: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Membership {
    /// Joins; events come as the broker gives and takes shards.
    pub async fn join(settings: &Settings) -> Result<(Self, mpsc::UnboundedReceiver<ShardEvent>)> {
        let (events, receiver) = mpsc::unbounded_channel();
        let config = client_config(settings, &Role::Member)?;
        let topic: Arc<str> = settings.control_topic().into();
        let leaving = Arc::new(AtomicBool::new(false));
        let owned = Arc::<Owned>::default();
        let context = Context { owned: owned.clone(), events: events.clone(), leaving: leaving.clone() };
        let consumer_topic = topic.clone();
        let consumer = blocking(move || {
            let consumer: BaseConsumer<Context> = config
                .create_with_context(context)
                .map_err(|error| kafka_error("the group's client cannot start", error))?;
            consumer
                .subscribe(&[&consumer_topic])
                .map_err(|error| kafka_error("the group cannot be joined", error))?;
            Ok(Arc::new(consumer))
        })
        .await?;
        let thread = {
            let (consumer, leaving) = (consumer.clone(), leaving.clone());
            std::thread::Builder::new()
                .name("group".to_owned())
                .spawn(move || follow(&consumer, &leaving, &events))
                .map_err(|error| Error::new(Kind::Internal, "no thread for the group").source(error))?
        };
        let handle = GroupHandle { consumer, owned, topic, board: None };
        Ok((Self { handle, leaving, thread: Some(thread) }, receiver))
    }

    pub fn handle(&self) -> GroupHandle {
        self.handle.clone()
    }

    /// Leaves the group, so that others take over at once. Shards must be released before.
    pub async fn leave(mut self) {
        self.leaving.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread ends within a poll; its panic would have been logged.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.leaving.store(true, Ordering::Relaxed);
    }
}

fn follow(
    consumer: &BaseConsumer<Context>,
    leaving: &AtomicBool,
    events: &mpsc::UnboundedSender<ShardEvent>,
) {
    while !leaving.load(Ordering::Relaxed) {
        match consumer.poll(POLL) {
            None | Some(Ok(_)) => {}
            Some(Err(error)) => {
                let fatal = matches!(&error, KafkaError::MessageConsumptionFatal(_));
                let code = error.rdkafka_error_code();
                let error = kafka_error("the group's client was answered with an error", error);
                match error.kind() {
                    Kind::KafkaRefused | Kind::ConfigInvalid => {
                        let _ = events.send(ShardEvent::Failed(error));
                    }
                    _ if fatal => {
                        let _ = events.send(ShardEvent::Failed(error));
                    }
                    // The client library tries again by itself. A broker that is away is said by it too.
                    _ if code.is_some_and(is_away) => {
                        tracing::debug!(%error, "the group's client has trouble")
                    }
                    _ => tracing::warn!(%error, "the group's client has trouble"),
                }
            }
        }
    }
    consumer.unsubscribe();
    // Rebalance callbacks of the leave are served here; the channel's other end may be gone.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until && consumer.assignment().is_ok_and(|assigned| assigned.count() > 0) {
        let _ = consumer.poll(Duration::from_millis(20));
    }
}
