//! The corridor: who owns which shard, and the tasks that run in it.
//!
//! Comes in: settings and a stop token. Goes out: nothing but an end; everything durable is in Kafka. The group gives
//! and takes shards; each owned shard is claimed, run, and after any trouble claimed anew. No domain rule lives here.

mod arrivals;
mod budget;
mod chosen;
mod circuit;
#[cfg(test)]
mod doors;
mod encoders;
mod event;
mod event_encoders;
pub mod forecast;
mod object;
mod opening;
mod shard;
mod supervisor;
#[cfg(test)]
mod tests;
pub mod token_store;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use chosen::{Chosen, choose, choose_live, refuse_shared_topics};
pub use supervisor::Finished;

use crate::config::Settings;
use crate::domain::Stamp;
use crate::error::Kind;
use crate::publish::{Membership, ShardEvent, TopicAdmin, topics};
use crate::salesforce::pubsub::PubSub;
use crate::salesforce::{Client, Pace};
use crate::schema::Registry;
use crate::status::Board;
use crate::{Error, Result};
use supervisor::{Context, ShardReport, Supervised};

/// Three pages of each are in memory (`capture::load`), and Salesforce serves few large answers at once.
const CONCURRENT_LOADS: usize = 4;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// End when everything up to the start is published.
    pub once: bool,
    /// Who makes and checks topics.
    pub topics: TopicAdmin,
    /// How long a day of the org's allowance is.
    pub day: Duration,
}

impl Options {
    /// For a run on a real day.
    pub fn new(once: bool, topics: TopicAdmin) -> Self {
        Self { once, topics, day: Pace::default().day }
    }
}

/// Runs the pipeline until `stop` is cancelled, or with `once` until all is done. What was captured is committed
/// when this returns. An error means that the program cannot do its work at all; trouble of single objects is on
/// the board, and with `once` in the error.
pub async fn run(
    settings: Arc<Settings>,
    board: Arc<Board>,
    stop: CancellationToken,
    options: Options,
) -> Result<()> {
    // Nothing is owned yet: a stop need not wait for an org or a cluster that does not answer.
    let prepared = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        prepared = prepare(&settings, &board, options) => prepared?,
    };
    let Prepared { client, pubsub, started_at, plan, registry } = prepared;
    tracing::debug!("prepared: joining the group");
    let (membership, mut events) = Membership::join(&settings).await?;
    let (reports, mut shard_reports) = mpsc::unbounded_channel();
    let context = Arc::new(Context {
        settings: settings.clone(),
        client,
        pubsub,
        group: membership.handle().reporting_to(&board),
        board,
        plan: OnceCell::new_with(plan),
        arrivals: watch::Sender::new(arrivals::Arrivals::default()),
        options,
        events: settings.platform_events.iter().map(|event| event.name.as_str().into()).collect(),
        registry,
        // Stamps are cut to the second: what was saved in the second of the start is below its end.
        until: options.once.then(|| started_at.floor_second().plus(Duration::from_secs(1))),
        loads: Arc::new(Semaphore::new(CONCURRENT_LOADS)),
        reports,
    });
    // A run that ends by itself takes what is there at its start.
    let follows = !options.once && !settings.objects.is_empty();
    let _watch = follows
        .then(|| AbortOnDropHandle::new(tokio::spawn(arrivals::watch(context.clone(), stop.child_token()))));
    let mut shards = Shards { context, running: HashMap::new(), finished: HashMap::new() };

    let outcome = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            event = events.recv() => match event {
                Some(ShardEvent::Assigned(assigned)) => shards.start(assigned),
                Some(ShardEvent::Revoked { shards: revoked, done }) => {
                    shards.end(&revoked).await;
                    // The group waits for this, but not for ever; it may be gone.
                    let _ = done.send(());
                }
                Some(ShardEvent::Lost(lost)) => shards.end(&lost).await,
                Some(ShardEvent::Failed(error)) => break Err(error),
                None => break Err(Error::new(Kind::KafkaUnavailable, "the consumer group's client ended")),
            },
            Some(report) = shard_reports.recv() => match report {
                ShardReport::Fatal(error) => break Err(error),
                ShardReport::Finished(shard, finished) => {
                    shards.finished.insert(shard, finished);
                    if shards.all_finished() {
                        break shards.result();
                    }
                }
            },
        }
    };
    let owned: Vec<i32> = shards.running.keys().copied().collect();
    shards.end(&owned).await;
    // All shards are released: nobody answers revocations any more, and the leave must not wait for that.
    drop(events);
    membership.leave().await;
    outcome
}

/// What a run needs before it joins the group.
struct Prepared {
    client: Client,
    pubsub: PubSub,
    started_at: Stamp,
    /// None: to be made by whoever claims the first shard.
    plan: Option<Vec<Chosen>>,
    registry: Registry,
}

/// Without a call that counts against the org's allowance: those are made when a shard is ours, and charged to it. Only
/// the very first start asks before there is a shard: what cannot run makes no topic. Those calls are carried over.
async fn prepare(settings: &Settings, board: &Arc<Board>, options: Options) -> Result<Prepared> {
    token_store::prepare(settings).await?;
    let pace = Pace { day: options.day, ..Pace::default() };
    let client = token_store::log_in(settings, pace).await?;
    client.report_to(board);
    let started_at = client.fetch_server_time().await?;
    let pubsub = PubSub::new(&client)?;
    let registry = settings.schema_registry.as_ref().ok_or_else(|| {
        Error::new(Kind::ConfigInvalid, "`schema_registry` is missing: Avro needs a registry")
    })?;
    let registry = Registry::new(registry)?;
    let plan = if topics::has_control(settings).await? {
        None
    } else {
        Some(plan(&client, &pubsub, settings, board, options).await?)
    };
    client.share_budget(settings.kafka.control_partitions);
    Ok(Prepared { client, pubsub, started_at, plan, registry })
}

/// The objects to run; their topics are there then.
async fn plan(
    client: &Client,
    pubsub: &PubSub,
    settings: &Settings,
    board: &Board,
    options: Options,
) -> Result<Vec<Chosen>> {
    client.prove().await?;
    let mut chosen = choose(client, settings).await?;
    choose_live(pubsub, &mut chosen, options.once).await?;
    for object in &chosen {
        if let (status, Some(rows)) = (board.object(&object.name), object.estimate) {
            status.expect_rows(rows);
        }
    }
    tracing::debug!(objects = chosen.len(), "objects chosen");
    topics::ensure(settings, options.topics, &topic_names(settings, &chosen)).await?;
    tracing::debug!("topics are there");
    Ok(chosen)
}

struct Shards {
    context: Arc<Context>,
    running: HashMap<i32, Supervised>,
    finished: HashMap<i32, Finished>,
}

impl Shards {
    fn start(&mut self, assigned: Vec<i32>) {
        for shard in assigned {
            // An assignment may name what is held already.
            self.running.entry(shard).or_insert_with(|| Supervised::start(self.context.clone(), shard));
        }
    }

    /// Stops these shards: open transactions are finished, and no source reads on.
    async fn end(&mut self, shards: &[i32]) {
        let ending: Vec<Supervised> = shards.iter().filter_map(|shard| self.running.remove(shard)).collect();
        for supervised in &ending {
            supervised.ask_to_stop();
        }
        for supervised in ending {
            supervised.stopped().await;
        }
        self.finished.retain(|shard, _| !shards.contains(shard));
    }

    fn all_finished(&self) -> bool {
        !self.running.is_empty() && self.running.keys().all(|shard| self.finished.contains_key(shard))
    }

    fn result(&mut self) -> Result<()> {
        let failed: Vec<(Arc<str>, Error)> =
            self.finished.drain().flat_map(|(_, finished)| finished.failed).collect();
        let names: Vec<String> = failed.iter().map(|(name, _)| name.to_string()).collect();
        match failed.into_iter().next() {
            None => Ok(()),
            Some((_, error)) if names.len() == 1 => Err(error),
            Some((_, error)) => {
                Err(error.during(format_args!("objects {} failed, the first with", names.join(", "))))
            }
        }
    }
}

fn topic_names(settings: &Settings, chosen: &[Chosen]) -> Vec<String> {
    let mut names: Vec<String> = chosen
        .iter()
        .flat_map(|object| {
            let target = crate::domain::name::target_object(&object.name);
            object.settings.outputs.iter().map(move |output| output.topic_for(&settings.name, &target))
        })
        .chain(settings.platform_events.iter().map(|event| settings.event_topic(&event.name)))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The server time that `--once` runs up to.
type Until = Option<Stamp>;
