//! `sf2kafka run`: the main job, until it is asked to stop, or with `--once` until everything is published.
//!
//! Comes in: a configuration, signals. Goes out: progress and log lines on stderr, the status server; all data go to Kafka.
//! A clean stop commits what is captured and ends with 0.

use std::sync::Arc;

use clap::Args;
use indicatif::MultiProgress;
use tokio_util::sync::CancellationToken;

use super::output::{self, Table, count};
use super::{ConfigArgument, Outcome, block_on, progress, stop};
use crate::Result;
use crate::config::{self, Settings};
use crate::pipeline::{self, Options};
use crate::publish::TopicAdmin;
use crate::status::server::Server;
use crate::status::{Board, Snapshot};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Load, catch up with everything up to the start, and end
    #[arg(long)]
    once: bool,
}

pub(super) fn run(arguments: &Arguments, bars: &MultiProgress) -> Result<Outcome> {
    let settings = Arc::new(config::load(&arguments.config.config)?);
    block_on(follow(settings, arguments.once, bars))
}

async fn follow(settings: Arc<Settings>, once: bool, bars: &MultiProgress) -> Result<Outcome> {
    let stop = stop::on_signals()?;
    let board = Arc::new(Board::new());
    // What shows the board outlives the pipeline: a slow stop can be watched too.
    let shown = CancellationToken::new();
    let mut showing = Vec::new();
    if let Some(listen) = settings.http_listen {
        let server = Server::bind(listen).await?;
        tracing::info!(address = %server.address(), "status server listens");
        showing.push(tokio::spawn(server.serve(board.clone(), shown.clone())));
    }
    showing.push(tokio::spawn(progress::show(board.clone(), bars.clone(), shown.clone())));
    tracing::info!(pipeline = %settings.name, once, "starting");
    let outcome =
        pipeline::run(settings, board.clone(), stop.clone(), Options::new(once, TopicAdmin::Kafka)).await;
    shown.cancel();
    for task in showing {
        // What only shows cannot make the run fail.
        let _ = task.await;
    }
    if once && !stop.is_cancelled() {
        let snapshot = board.snapshot();
        let worked = snapshot.objects.iter().any(|object| object.committed_to.is_some());
        if outcome.is_ok() || worked {
            output::words(&summary(&snapshot, outcome.is_ok()));
        }
    }
    outcome.map(|()| Outcome::Done)
}

fn summary(snapshot: &Snapshot, all_done: bool) -> String {
    let mut table = Table::new(&["object", "outcome", "loaded", "changes", "dead letters", "committed to"]);
    for object in &snapshot.objects {
        table.row([
            object.object.clone(),
            match &object.error {
                Some(error) => format!("failed ({})", error.code),
                None if all_done || object.committed_to.is_some() => "done".to_owned(),
                None => "-".to_owned(),
            },
            count(object.published.refreshed),
            count(object.published.changes()),
            count(object.dead_letters),
            object.committed_to.map_or("-".to_owned(), |to| to.to_string()),
        ]);
    }
    format!("{table}{}", calls(snapshot))
}

/// What the org counted, and what the loads cost beside what was forecast for them.
fn calls(snapshot: &Snapshot) -> String {
    let by_purpose = |(purpose, calls): (&&str, &u64)| format!("{purpose} {}", count(*calls));
    let purposes: Vec<String> = snapshot.billed_calls.iter().map(by_purpose).collect();
    let all = count(snapshot.billed_calls.values().sum());
    let mut text = format!("{all} calls to Salesforce: {}", purposes.join(", "));
    let loads = || snapshot.objects.iter().filter_map(|object| object.load_calls);
    if loads().next().is_some() {
        let (used, forecast) = (loads().map(|load| load.used).sum(), loads().map(|load| load.forecast).sum());
        text.push_str(&format!("; full loads used {} where {} were forecast", count(used), count(forecast)));
    }
    text
}
