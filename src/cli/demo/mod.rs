//! `sf2kafka demo`: everything in one process, from an org to a consumer, ending with a comparison of the two.
//!
//! Comes in: how long and how many rows. Goes out: progress on stderr; changes as lines and the verdict on stdout; exit code
//! 3 if a topic differs from the org. It is the real pipeline between a practice org and a mock cluster; that the mock
//! cluster has no real transactions is said aloud.

mod cell;
mod cluster;
mod fold;
mod practice;
mod reader;
mod registry;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use indicatif::MultiProgress;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::output::{self, count};
use super::{Outcome, block_on, progress, stop};
use crate::config::{KafkaSettings, RegistrySettings, SalesforceSettings, Settings};
use crate::domain::name::target_object;
use crate::error::Kind;
use crate::pipeline::{self, Options};
use crate::publish::TopicAdmin;
use crate::status::server::Server;
use crate::status::{Board, Phase, Snapshot};
use crate::{Error, Result};
use cluster::Cluster;
use fold::{Comparison, Topic};
use practice::Practice;
use reader::Reader;
use registry::DemoRegistry;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How long changes are made and shown, the loads included
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// Records of each object
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    rows: u64,
    /// Go on until Ctrl-C, to attach consumers of your own
    #[arg(long)]
    keep_running: bool,
}

const PIPELINE: &str = "demo";
const PARTITIONS: i32 = 4;
const SHARDS: i32 = 2;
/// Time between two transactions in the org.
const PACE: Duration = Duration::from_millis(350);
/// Changes are made for so long at least, however long the loads took.
const LEAST_CHANGES: Duration = Duration::from_secs(5);
/// How long the topics may take to catch up with the org at the end.
const CATCH_UP: Duration = Duration::from_secs(60);

fn duration(text: &str) -> std::result::Result<Duration, String> {
    crate::config::parse_duration(text).ok_or_else(|| "write a duration such as `20s` or `2m`".to_owned())
}

pub(super) fn run(arguments: &Arguments, bars: &MultiProgress) -> Result<Outcome> {
    block_on(show(arguments, bars))
}

async fn show(arguments: &Arguments, bars: &MultiProgress) -> Result<Outcome> {
    let stop = stop::on_signals()?;
    let ends_at = Instant::now() + arguments.duration;
    let house = House::open(arguments.rows, bars, &stop).await?;
    house.introduce();

    let mut pipeline = house.start_pipeline();
    let loaded = tokio::select! {
        snapshot = house.board.wait_until(all_loaded) => Some(snapshot),
        ended = &mut pipeline.task => return Err(ended_early(ended)),
        () = stop.cancelled() => None,
    };
    if let Some(loaded) = loaded {
        let rows: u64 = loaded.objects.iter().map(|object| object.rows_loaded).sum();
        bars.suspend(|| {
            output::words(&format!("loaded {} records; changes follow as they arrive", count(rows)))
        });
        let ends_at = ends_at.max(Instant::now() + LEAST_CHANGES);
        tokio::select! {
            () = house.practice.change(PACE) => {}
            () = tokio::time::sleep_until(ends_at), if !arguments.keep_running => {}
            ended = &mut pipeline.task => return Err(ended_early(ended)),
            () = stop.cancelled() => {}
        }
    }
    bars.suspend(|| output::words("no more changes; comparing the topics with the org"));
    let verdict = tokio::select! {
        verdict = house.compare() => verdict?,
        ended = &mut pipeline.task => return Err(ended_early(ended)),
    };
    pipeline.stop.cancel();
    let ended = pipeline.task.await;
    house.close().await;
    ended.map_err(broke_down)??;
    Ok(report(&verdict))
}

fn all_loaded(snapshot: &Snapshot) -> bool {
    let live = |object: &str| snapshot.object(object).is_some_and(|object| object.phase == Phase::Live);
    practice::OBJECTS.iter().all(|(_, object)| live(object))
}

fn ended_early(ended: std::result::Result<Result<()>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Ok(())) => Error::new(Kind::Internal, "the pipeline ended before the demo did"),
        Ok(Err(error)) => error,
        Err(error) => broke_down(error),
    }
}

fn broke_down(error: tokio::task::JoinError) -> Error {
    Error::new(Kind::Internal, "a task of the demo broke down").source(error)
}

/// The folded topics, by object.
type Folded = Arc<Mutex<BTreeMap<String, Topic>>>;

fn lock(folded: &Folded) -> MutexGuard<'_, BTreeMap<String, Topic>> {
    folded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that stands around the pipeline.
struct House {
    practice: Practice,
    cluster: Cluster,
    settings: Arc<Settings>,
    board: Arc<Board>,
    status_address: std::net::SocketAddr,
    folded: Folded,
    reading: JoinHandle<Error>,
    /// Ends what serves and shows.
    shown: CancellationToken,
    showing: Vec<JoinHandle<()>>,
}

struct Pipeline {
    task: JoinHandle<Result<()>>,
    stop: CancellationToken,
}

impl House {
    async fn open(rows: u64, bars: &MultiProgress, stop: &CancellationToken) -> Result<Self> {
        let shown = CancellationToken::new();
        let mut showing = Vec::new();
        let practice = Practice::open(rows).await?;
        let registry = DemoRegistry::bind().await?;
        let registry_url = registry.url().clone();
        showing.push(tokio::spawn(registry.serve(shown.clone())));

        let data: Vec<(String, i32)> = practice::OBJECTS
            .iter()
            .map(|(_, object)| (format!("{PIPELINE}.{}", target_object(object)), PARTITIONS))
            .collect();
        let mut topics = data.clone();
        topics.push((format!("{PIPELINE}.control"), SHARDS));
        topics.push((format!("{PIPELINE}.dead-letters"), 1));
        topics.push((format!("{PIPELINE}.notifications"), 1));
        let cluster = Cluster::start(topics)?;
        // Before the producer: the mock cluster forgets.
        let reader = Reader::open(cluster.bootstrap(), &registry_url, &data)?;
        let folded = Folded::default();
        let reading = tokio::spawn(read(reader, folded.clone(), bars.clone(), stop.clone()));

        let board = Arc::new(Board::new());
        let server = Server::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let status_address = server.address();
        showing.push(tokio::spawn(server.serve(board.clone(), shown.clone())));
        showing.push(tokio::spawn(progress::show(board.clone(), bars.clone(), shown.clone())));
        let settings = Arc::new(settings(&practice, &cluster, RegistrySettings::new(registry_url)));
        Ok(Self { practice, cluster, settings, board, status_address, folded, reading, shown, showing })
    }

    fn introduce(&self) {
        let registry = self.settings.schema_registry.as_ref().map_or("", |registry| registry.url.as_str());
        let bootstrap = self.cluster.bootstrap();
        let mut text =
            String::from("a practice Salesforce, a mock Kafka and a schema registry, in this process\n");
        for (cloud, object) in practice::OBJECTS {
            text.push_str(&format!("  {cloud:<24} {object} → topic {PIPELINE}.{}\n", target_object(object)));
        }
        text.push_str(&format!(
            "attach a consumer of your own while this runs: bootstrap {bootstrap}, registry {registry}\n  \
             kcat -C -b {bootstrap} -t {PIPELINE}.Account -o beginning -s avro -r {}\n\
             watch: http://{}/api/status\n\
             the mock cluster keeps nothing and has no real transactions: exactly-once is not shown here, \
             but by the tests on a real broker",
            registry.trim_end_matches('/'),
            self.status_address
        ));
        output::words(&text);
    }

    fn start_pipeline(&self) -> Pipeline {
        let stop = CancellationToken::new();
        let options = Options::new(false, TopicAdmin::Existing);
        let running = pipeline::run(self.settings.clone(), self.board.clone(), stop.clone(), options);
        Pipeline { task: tokio::spawn(running), stop }
    }

    /// Compares until all are equal, or the topics had time enough.
    async fn compare(&self) -> Result<Vec<(&'static str, Comparison)>> {
        let deadline = Instant::now() + CATCH_UP;
        let mut changes = self.board.subscribe();
        loop {
            if self.reading.is_finished() {
                return Err(Error::new(Kind::KafkaUnavailable, "the demo's consumer ended; see the log"));
            }
            let comparisons = self.compare_now()?;
            let equal = comparisons.iter().all(|(_, comparison)| comparison.differences.is_empty());
            if equal || Instant::now() >= deadline {
                return Ok(comparisons);
            }
            // Whatever is noted may be the last change; the reader is a moment behind the board.
            let _ = tokio::time::timeout(PACE, changes.changed()).await;
            tokio::time::sleep(PACE).await;
        }
    }

    fn compare_now(&self) -> Result<Vec<(&'static str, Comparison)>> {
        let folded = lock(&self.folded);
        let nothing = Topic::default();
        let compare = |object: &'static str| {
            let topic = folded.get(&target_object(object)).unwrap_or(&nothing);
            let truth = self.practice.truth(object)?;
            Ok((object, topic.compare(truth, |field| self.practice.has_stamp(object, field))))
        };
        practice::OBJECTS.iter().map(|(_, object)| compare(object)).collect()
    }

    async fn close(self) {
        self.shown.cancel();
        self.reading.abort();
        // Its client must be gone before the cluster is.
        let _ = self.reading.await;
        self.practice.close().await;
        for task in self.showing {
            // What only shows cannot make the demo fail.
            let _ = task.await;
        }
    }
}

fn settings(practice: &Practice, cluster: &Cluster, registry: RegistrySettings) -> Settings {
    let mut salesforce = SalesforceSettings::new(practice.origin().clone(), practice.auth());
    salesforce.pubsub = practice.pubsub();
    let mut kafka = KafkaSettings::new(cluster.bootstrap());
    kafka.control_partitions = SHARDS;
    kafka.topics.partitions = PARTITIONS;
    let objects = practice::OBJECTS.iter().map(|(_, object)| *object);
    let mut settings = Settings::new(PIPELINE, salesforce, kafka, Some(registry)).with_objects(objects);
    for object in &mut settings.objects {
        object.poll.interval = Duration::from_secs(1);
        object.poll.max_interval = Duration::from_secs(2);
        object.poll.look_back = Duration::from_secs(60);
        object.poll.settle = Duration::from_secs(1);
        object.refetch_wait = Duration::from_millis(200);
    }
    settings
}

/// Folds what arrives and prints the changes, until something fails.
async fn read(mut reader: Reader, folded: Folded, bars: MultiProgress, stop: CancellationToken) -> Error {
    let prefix = format!("{PIPELINE}.");
    loop {
        let (topic, record) = match reader.next().await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, hint = error.advice(), "the demo's consumer ended");
                return error;
            }
        };
        let object = topic.strip_prefix(&prefix).unwrap_or(&topic);
        let line = lock(&folded).entry(object.to_owned()).or_default().fold(object, record);
        if let Some(line) = line
            && !stop.is_cancelled()
        {
            bars.suspend(|| output::data(&line));
        }
    }
}

/// Differences shown for each object.
const SHOWN: usize = 5;

fn report(verdict: &[(&'static str, Comparison)]) -> Outcome {
    let sum = |number: fn(&Comparison) -> u64| verdict.iter().map(|(_, comparison)| number(comparison)).sum();
    let records: u64 = sum(|comparison| comparison.records);
    let fields: u64 = sum(|comparison| comparison.fields);
    let differences: u64 = sum(|comparison| comparison.differences.len() as u64);
    if differences == 0 {
        let (objects, records, fields) = (verdict.len(), count(records), count(fields));
        output::data(&format!("topics equal the org: {objects} objects, {records} records, {fields} fields"));
        return Outcome::Done;
    }
    for (object, comparison) in verdict {
        for difference in comparison.differences.iter().take(SHOWN) {
            output::data(&format!("{object} {difference}"));
        }
        if let Some(more) = comparison.differences.len().checked_sub(SHOWN + 1) {
            output::data(&format!("{object} and {} more", more + 1));
        }
    }
    output::data(&format!("topics differ from the org: {} differences", count(differences)));
    Outcome::Differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_in_any_object_is_the_outcome() {
        let equal = Comparison { records: 2, fields: 9, differences: Vec::new() };
        let other = Comparison {
            differences: vec!["001A: in the org, not in the topic".to_owned(); 9],
            ..equal_of()
        };
        assert_eq!(report(&[("Account", equal)]), Outcome::Done);
        assert_eq!(report(&[("Account", equal_of()), ("Case", other)]), Outcome::Differences);
    }

    fn equal_of() -> Comparison {
        Comparison { records: 2, fields: 9, differences: Vec::new() }
    }
}
