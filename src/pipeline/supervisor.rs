//! One owned shard: claimed, its objects run, its transactions made; after trouble all of that anew.
//!
//! Comes in: a shard number from the group. Goes out: reports (finished with `--once`, or fatal). Nothing in memory
//! survives an abort, a fencing or an unknown commit outcome: the next claim reads the control partition again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::arrivals;
use super::budget::Keeper;
use super::chosen::Chosen;
use super::encoders::EncoderFactory;
use super::event::EventTask;
use super::event_encoders::EventEncoderFactory;
use super::object::{Ended, ObjectTask};
use super::opening::{Opening, Stored};
use super::shard::{Parcel, Shard};
use super::{Options, Until, plan};
use crate::capture::{CaptureSettings, LiveSettings};
use crate::config::{After, CaptureChoice, Settings};
use crate::domain::Position;
use crate::error::{Kind, Reaction};
use crate::publish::{self, Claimed, GroupHandle};
use crate::salesforce::Client;
use crate::salesforce::pubsub::PubSub;
use crate::schema::Registry;
use crate::status::Board;
use crate::{Error, Result};

/// Parcels that wait in a shard's queue. A parcel is up to a page of a load.
const QUEUE_PARCELS: usize = 1;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What every shard of the process shares.
pub struct Context {
    pub settings: Arc<Settings>,
    pub client: Client,
    pub pubsub: PubSub,
    pub board: Arc<Board>,
    /// The objects to run, once a shard is ours.
    pub plan: OnceCell<Vec<Chosen>>,
    /// Objects that came since.
    pub arrivals: arrivals::Sender,
    pub options: Options,
    /// Platform events, by API name.
    pub events: Vec<Arc<str>>,
    pub group: GroupHandle,
    pub registry: Registry,
    pub until: Until,
    /// Loads that may read at once: each holds a few pages in memory.
    pub loads: Arc<Semaphore>,
    pub reports: mpsc::UnboundedSender<ShardReport>,
}

impl Context {
    async fn plan(&self) -> Result<&Vec<Chosen>> {
        let make = || plan(&self.client, &self.pubsub, &self.settings, &self.board, self.options);
        self.plan.get_or_try_init(make).await
    }
}

/// With `--once`: what became of a shard's objects.
#[derive(Debug, Default)]
pub struct Finished {
    pub failed: Vec<(Arc<str>, Error)>,
}

pub enum ShardReport {
    Finished(i32, Finished),
    /// The whole program cannot go on.
    Fatal(Error),
}

pub struct Supervised {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Supervised {
    pub fn start(context: Arc<Context>, shard: i32) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(supervise(context, shard, stop.clone()));
        Self { stop, task }
    }

    pub fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    pub async fn stopped(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a shard's task broke down");
        }
    }
}

async fn supervise(context: Arc<Context>, shard: i32, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let started = tokio::time::Instant::now();
        match run_shard(&context, shard, &stop).await {
            Ok(()) => return,
            Err(error) if stops_program(&error) => {
                let _ = context.reports.send(ShardReport::Fatal(error));
                stop.cancelled().await;
            }
            Err(error) => {
                let (code, hint) = (error.kind().code(), error.advice());
                tracing::warn!(shard, code, %error, again_in = ?pause, hint, "claiming the shard anew");
                context.board.transaction_aborted();
                context.board.failed(&error);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                let lasted = started.elapsed() > LONGEST_PAUSE;
                pause = if lasted { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            }
        }
    }
}

/// A control record of the shard itself, not of an object, is read by every claim alike.
fn stops_program(error: &Error) -> bool {
    error.reaction() == Reaction::StopProgram || error.kind() == Kind::ControlRecordUnreadable
}

/// Claims and runs the shard until it is to stop, or fails. A shard without objects is claimed too: its part of the
/// org's allowance is ours.
async fn run_shard(context: &Arc<Context>, shard: i32, stop: &CancellationToken) -> Result<()> {
    let settings = &context.settings;
    let claimed = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        claimed = publish::claim(settings, &context.group, shard) => claimed?,
    };
    let Claimed { producer, records } = claimed;
    let (queue, parcels) = mpsc::channel(QUEUE_PARCELS);
    let keeper = Keeper::open(&context.client, shard, &records, queue.clone())?;
    let publishing = Shard::new(Handle::current(), producer, settings, context.board.clone());
    // The client library blocks: its loop gets a thread of its own.
    let mut publishing = tokio::task::spawn_blocking(move || publishing.run(parcels));

    let outcome = tokio::select! {
        result = &mut publishing => {
            // Nothing in memory is known to be committed; the tasks end with this.
            thread_result(result)?;
            return Err(Error::new(Kind::Internal, "the shard's thread ended before its queue"));
        }
        outcome = run_objects(context, shard, stop, &records, &queue) => outcome?,
        () = keeper.run() => None,
    };
    drop(queue);
    keeper.close().await;
    // All queue ends are dropped: the loop commits what is left and ends.
    thread_result(publishing.await)?;
    outcome.map_or(Ok(()), Err)
}

/// Runs the shard's objects until the shard is to stop; with an error if the whole program cannot go on.
async fn run_objects(
    context: &Arc<Context>,
    shard: i32,
    stop: &CancellationToken,
    records: &BTreeMap<String, Vec<u8>>,
    queue: &mpsc::Sender<Parcel>,
) -> Result<Option<Error>> {
    let settings = &context.settings;
    let chosen = tokio::select! {
        () = stop.cancelled() => return Ok(None),
        chosen = context.plan() => chosen,
    };
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(error) => {
            // The main loop may be gone already; then nobody asks.
            let _ = context.reports.send(ShardReport::Fatal(error));
            stop.cancelled().await;
            return Ok(None);
        }
    };
    let is_mine = |name: &str| publish::shard_of(name, settings.kafka.control_partitions) == shard;
    let mut arrivals = context.arrivals.subscribe();
    let mut arrived = arrivals.borrow_and_update().objects.clone();
    let mine: Vec<&Chosen> = chosen.iter().chain(&arrived).filter(|object| is_mine(&object.name)).collect();
    let my_events: Vec<&Arc<str>> = context.events.iter().filter(|event| is_mine(event)).collect();
    let is_empty = mine.is_empty() && my_events.is_empty();
    tracing::info!(shard, objects = mine.len(), events = my_events.len(), "shard claimed");

    let objects_stop = stop.child_token();
    let mut finished = Finished::default();
    let mut tasks = JoinSet::new();
    // What the partition held of an object at the claim is true until its task runs, and each has one task a claim.
    let take_up = |object: &Chosen| object_task(context, object, records, queue, &objects_stop);
    for object in mine {
        match take_up(object) {
            Ok(task) => drop(tasks.spawn(named(object.name.clone(), task.run()))),
            Err(error) => finished.failed.push((object.name.clone(), error)),
        }
    }
    for event in my_events {
        let task = EventTask {
            pubsub: context.pubsub.clone(),
            event: event.clone(),
            stored: records.get(&Position::key(event)).cloned(),
            factory: EventEncoderFactory::new(settings, &context.registry, event),
            queue: queue.clone(),
            status: context.board.object(event),
            stop: objects_stop.clone(),
            until: context.until,
        };
        tasks.spawn(named(event.clone(), task.run()));
    }

    let mut stopped = false;
    let mut fatal = None;
    let mut reported = is_empty && context.until.is_none();
    loop {
        let is_over = tasks.is_empty();
        if is_over && (fatal.is_some() || stopped) {
            return Ok(fatal);
        }
        if is_over && !reported {
            let finished = std::mem::take(&mut finished);
            let _ = context.reports.send(ShardReport::Finished(shard, finished));
            reported = true;
        }
        let ended = tokio::select! {
            Some(ended) = tasks.join_next(), if !is_over => ended,
            // Its part of the allowance is there for others as long as it is ours.
            () = stop.cancelled(), if is_over => return Ok(None),
            Ok(()) = arrivals.changed(), if context.until.is_none() && !objects_stop.is_cancelled() => {
                let now = arrivals.borrow_and_update().objects.clone();
                let new = now.iter().filter(|object| arrived.iter().all(|known| known.name != object.name));
                for object in new.filter(|object| is_mine(&object.name)) {
                    if let Ok(task) = take_up(object) {
                        tasks.spawn(named(object.name.clone(), task.run()));
                    }
                }
                arrived = now;
                continue;
            }
        };
        match ended {
            Ok((_, Ended::Failed(error))) if error.reaction() == Reaction::StopProgram => {
                // What the others captured is committed first.
                objects_stop.cancel();
                fatal.get_or_insert(error);
            }
            Ok((name, Ended::Failed(error))) => finished.failed.push((name, error)),
            Ok((_, Ended::Done)) => {}
            Ok((_, Ended::Stopped)) => stopped = true,
            Err(error) => {
                return Err(Error::new(Kind::CommitFailed, "a task of the shard broke down").source(error));
            }
        }
    }
}

async fn named(name: Arc<str>, task: impl Future<Output = Ended>) -> (Arc<str>, Ended) {
    (name, task.await)
}

/// An object's task; an error is on the board, and stops this object alone.
fn object_task(
    context: &Context,
    object: &Chosen,
    records: &BTreeMap<String, Vec<u8>>,
    queue: &mpsc::Sender<Parcel>,
    stop: &CancellationToken,
) -> Result<ObjectTask> {
    let stored = Stored::of(&object.name, records);
    let largest_record = publish::largest_record(&context.settings)?;
    let status = context.board.object(&object.name);
    let factory =
        EncoderFactory::restore(&context.settings, &context.registry, object, stored.schema.as_deref())
            .inspect_err(|error| {
                let again = tokio::time::Instant::now();
                tracing::error!(object = %object.name, code = error.kind().code(), %error, hint = error.advice(), "object stopped, all others go on");
                status.failed(error, again, true);
            })?;
    Ok(ObjectTask {
        factory,
        optional: !object.by_name,
        opening: Opening {
            client: context.client.clone(),
            name: object.name.clone(),
            by_name: object.by_name,
            settings: CaptureSettings {
                method: object.settings.method,
                initial_load: object.settings.initial_load,
                poll: object.settings.poll.clone(),
                fields: object.settings.fields.clone(),
                hash_key: context.settings.hash_key.clone(),
                condition: object.settings.condition.clone(),
                estimate: object.estimate,
                parents: object.parents,
                largest_record,
                loads: context.loads.clone(),
                live: object.live.then(|| LiveSettings {
                    whole: object.settings.after == After::Full,
                    required: object.settings.capture == CaptureChoice::Subscribe,
                    refetch_wait: object.settings.refetch_wait,
                    ..LiveSettings::new(context.pubsub.clone())
                }),
                until: context.until,
            },
            stored,
        },
        queue: queue.clone(),
        status,
        stop: stop.clone(),
        until: context.until,
        arrivals: context.arrivals.subscribe(),
    })
}

fn thread_result(result: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    result.unwrap_or_else(|error| {
        Err(Error::new(Kind::CommitFailed, "the shard's thread broke down").source(error))
    })
}
