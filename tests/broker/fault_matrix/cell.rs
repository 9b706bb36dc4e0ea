//! One fault and some columns, in one pipeline with an object for each column and a witness that no fault concerns.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sf2kafka::config::Settings;
use sf2kafka::pipeline::{self, Options};
use sf2kafka::publish::TopicAdmin;
use sf2kafka::status::{Board, ObjectReport, Phase, Snapshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::rows::{Fault, Outcome, Row};
use crate::stage::{Setup, Stage};

/// Longer than anything takes, the wait for a daily allowance included, on a machine that is busy with others.
const PATIENCE: Duration = Duration::from_secs(300);
/// Changes that are made while the fault is there.
const SAVED: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    LoadRest,
    LoadBulk,
    Poll,
    Subscribe,
}

const ROWS: &[(&str, u64)] =
    &[("Contact", 250), ("Account", 2_100), ("Campaign", 60), ("Opportunity", 60), (WITNESS, 20)];
const WITNESS: &str = "Lead";

impl Column {
    fn object(self) -> &'static str {
        match self {
            Self::LoadRest => "Contact",
            Self::LoadBulk => "Account",
            Self::Poll => "Campaign",
            Self::Subscribe => "Opportunity",
        }
    }

    fn is_load(self) -> bool {
        matches!(self, Self::LoadRest | Self::LoadBulk)
    }

    /// What the calls have in them that the fault is to meet.
    fn calls(self) -> &'static str {
        match self {
            Self::LoadRest => "FROM Contact",
            Self::LoadBulk => "/results",
            Self::Poll => "FROM Campaign",
            Self::Subscribe => "/composite/sobjects/Opportunity",
        }
    }
}

/// A pipeline that runs in this process.
struct Run {
    board: Arc<Board>,
    stop: CancellationToken,
    task: JoinHandle<sf2kafka::Result<()>>,
}

impl Run {
    fn start(settings: &Arc<Settings>, once: bool) -> Self {
        let (board, stop) = (Arc::new(Board::new()), CancellationToken::new());
        let options = Options::new(once, TopicAdmin::Kafka);
        let task = tokio::spawn(pipeline::run(settings.clone(), board.clone(), stop.clone(), options));
        Self { board, stop, task }
    }

    /// Until the board says so, or the pipeline ends.
    async fn until(&mut self, what: &str, said: impl Fn(&Snapshot) -> bool) -> Result<Told, String> {
        let waited = tokio::time::timeout(PATIENCE, async {
            tokio::select! {
                snapshot = self.board.wait_until(said) => Told::Board(Box::new(snapshot)),
                ended = &mut self.task => Told::End(ended.unwrap()),
            }
        });
        waited.await.map_err(|_| format!("never {what}: {:?}", self.board.snapshot().objects))
    }

    async fn stop(self) -> Result<(), String> {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        let ended = ended.map_err(|_| "it does not stop".to_owned())?.unwrap();
        ended.map_err(|error| format!("it ended with {error:?}"))
    }
}

enum Told {
    Board(Box<Snapshot>),
    End(sf2kafka::Result<()>),
}

pub type Cells = Vec<(Column, Result<Outcome, String>)>;

/// What became of the fault in each of these columns.
pub async fn try_out(row: &Row, columns: &[Column]) -> Cells {
    match attempt(row, columns).await {
        Ok(cells) => cells,
        Err(why) => columns.iter().map(|column| (*column, Err(why.clone()))).collect(),
    }
}

async fn attempt(row: &Row, columns: &[Column]) -> Result<Cells, String> {
    let stage = stage(columns).await;
    let settings = Arc::new(sf2kafka::config::load(stage.file().as_ref()).unwrap());
    for column in columns.iter().filter(|column| column.is_load()) {
        make(&stage, row, *column).await;
    }
    let mut run = Run::start(&settings, false);
    let followed: Vec<&str> = columns.iter().filter(|column| !column.is_load()).map(|c| c.object()).collect();
    let mut ended = None;
    if !followed.is_empty() {
        let all_live = |snapshot: &Snapshot| {
            followed
                .iter()
                .all(|name| snapshot.object(name).is_some_and(|object| has_loaded(&stage, name, object)))
        };
        match run.until("live", all_live).await? {
            Told::Board(_) => {}
            Told::End(end) => ended = Some(end),
        }
        if columns.contains(&Column::Subscribe) {
            has_opened(&stage).await?;
        }
        for column in columns.iter().filter(|column| !column.is_load()) {
            make(&stage, row, *column).await;
        }
        for name in &followed {
            let ids = stage.ids(name, SAVED);
            stage.save(name, &ids, "Name", "saved in trouble");
        }
    }
    if ended.is_none() {
        let settled = |snapshot: &Snapshot| {
            columns.iter().all(|column| {
                let object = snapshot.object(column.object());
                object.is_some_and(|object| has_all(&stage, *column, object) || has_stopped(object, snapshot))
            })
        };
        match run.until("settled", settled).await? {
            Told::Board(_) => {}
            Told::End(end) => ended = Some(end),
        }
    }
    let mut cells: Cells = Vec::new();
    if let Some(end) = ended {
        let outcome = match end {
            Ok(()) => Err("the program ended as if all were well".to_owned()),
            Err(error) if error.advice().is_empty() => Err(format!("no advice: {error:?}")),
            Err(error) => Ok(Outcome::ProgramStopped(error.kind().code())),
        };
        cells.extend(columns.iter().map(|column| (*column, outcome.clone())));
    } else {
        // One sick object never stops the others. What is saved before the witness is loaded comes with its load.
        let loaded = |snapshot: &Snapshot| {
            snapshot.object(WITNESS).is_some_and(|object| has_loaded(&stage, WITNESS, object))
        };
        let Told::Board(_) = run.until("loaded the witness", loaded).await? else {
            return Err("the program ended while it loaded beside a sick object".to_owned());
        };
        let ids = stage.ids(WITNESS, SAVED);
        stage.save(WITNESS, &ids, "Company", "saved beside trouble");
        let seen = |snapshot: &Snapshot| {
            snapshot.object(WITNESS).is_some_and(|object| object.published.updated >= SAVED as u64)
        };
        let Told::Board(snapshot) = run.until("witnessed", seen).await? else {
            return Err("the program ended beside a sick object".to_owned());
        };
        for column in columns {
            let object = snapshot.object(column.object()).unwrap();
            cells.push((*column, outcome(object)));
        }
        run.stop().await?;
    }
    // Who stopped where that was not to be has left what was still to come.
    let as_told = cells.iter().all(|(column, had)| had.as_ref().ok() == row.outcome(*column).as_ref());
    if row.waits_for_rules() && as_told {
        let left = left(&stage).await;
        if !left.is_empty() {
            return Err(format!("the fault was never met by {left:?}"));
        }
    }
    stage.clear_faults().await;
    clear_event_faults(&stage).await;
    if cells.iter().any(|(_, outcome)| !matches!(outcome, Ok(Outcome::Recovered))) {
        // After the fault, with what was committed before it.
        let mut run = Run::start(&settings, true);
        match run.until("completed", |_| false).await? {
            Told::End(Ok(())) => {}
            Told::End(Err(error)) => return Err(format!("a run after it fails: {error:?}")),
            Told::Board(_) => return Err("nobody asked the board".to_owned()),
        }
    }
    for column in columns {
        complete(&stage, *column).await?;
    }
    Ok(cells)
}

async fn stage(columns: &[Column]) -> Stage {
    let objects = match columns {
        [Column::LoadRest] => "[ Contact, Lead ]",
        [Column::LoadBulk] => "[ Account, Lead ]",
        [Column::Poll] => "[ Campaign, Lead ]",
        [Column::Subscribe] => "[ { name: Opportunity, capture: subscribe }, Lead ]",
        [Column::LoadRest, Column::Poll] => "[ Contact, Campaign, Lead ]",
        _ => "[ Contact, Account, Campaign, { name: Opportunity, capture: subscribe }, Lead ]",
    };
    let stage = Stage::of(Setup { rows: ROWS, ..Setup::new(objects) }).await;
    stage.control("settings", json!({"pageCap": 100, "bulkPageCap": 1_000, "jobDelayMillis": 10})).await;
    stage.control("pubsub/selection", json!({"select": ["Opportunity"]})).await;
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    stage
}

/// Puts the fault in the column's way.
async fn make(stage: &Stage, row: &Row, column: Column) {
    match &row.fault_made {
        Fault::Http { action, times } => {
            let mut rule = json!({"contains": column.calls(), "action": action});
            if let Some(times) = times {
                rule["times"] = json!(times);
            }
            stage.control("faults", rule).await;
        }
        Fault::Job { action, times } => {
            let rule = json!({"method": "POST", "contains": "/jobs/query", "times": times, "action": action});
            stage.control("faults", rule).await;
        }
        Fault::Events(rules) => {
            for rule in rules {
                let mut rule = rule.clone();
                rule["topic"] = json!("/data/OpportunityChangeEvent");
                if rule["rpc"] == "GetSchema" {
                    // A schema is no topic's.
                    rule.as_object_mut().unwrap().remove("topic");
                }
                stage.control("pubsub/faults", rule).await;
            }
        }
    }
}

/// Waits until the simulator has an open stream: before that a fault of streams would meet none.
async fn has_opened(stage: &Stage) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let counters = ask(stage, "counters").await;
        if counters["byKind"]["pubsub/Subscribe"].as_u64().unwrap_or(0) > 0 {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(format!("no stream was opened: {counters}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn ask(stage: &Stage, what: &str) -> Value {
    let url = format!("{}/{what}", stage.simulator.control_url());
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

/// The rules that no call has used up.
async fn left(stage: &Stage) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    for what in ["faults", "pubsub/faults"] {
        let rules = ask(stage, what).await;
        left.extend(rules.as_array().unwrap().iter().map(|rule| rule.as_str().unwrap().to_owned()));
    }
    left
}

async fn clear_event_faults(stage: &Stage) {
    let url = format!("{}/pubsub/faults", stage.simulator.control_url());
    assert!(reqwest::Client::new().delete(url).send().await.unwrap().status().is_success());
}

fn has_loaded(stage: &Stage, name: &str, object: &ObjectReport) -> bool {
    object.phase == Phase::Live && object.published.refreshed >= stage.rows(name)
}

/// Whether everything that can be known of this column's object is committed.
fn has_all(stage: &Stage, column: Column, object: &ObjectReport) -> bool {
    let loaded = has_loaded(stage, column.object(), object);
    loaded && (column.is_load() || object.published.updated >= SAVED as u64)
}

/// Stopped alone: what ends the program is not tried again.
fn has_stopped(object: &ObjectReport, snapshot: &Snapshot) -> bool {
    let again_at = object.error.as_ref().and_then(|error| error.again_at);
    object.phase == Phase::Failed && again_at.is_some_and(|at| at > snapshot.at)
}

fn outcome(object: &ObjectReport) -> Result<Outcome, String> {
    match &object.error {
        _ if object.phase != Phase::Failed => Ok(Outcome::Recovered),
        Some(error) if error.hint.is_empty() || error.again_at.is_none() => {
            Err(format!("no advice, or no word on when it is tried again: {error:?}"))
        }
        Some(error) => Ok(Outcome::ObjectStopped(error.code)),
        None => Err("failed without an error".to_owned()),
    }
}

/// The topic equals the org, every change is there once, and what was loaded twice is restated, not changed.
async fn complete(stage: &Stage, column: Column) -> Result<(), String> {
    let object = column.object();
    let report = stage.judged(object).await?;
    let operation = |letter: &str| report["operations"][letter].as_u64().unwrap_or(0);
    let updated = if column.is_load() { 0 } else { SAVED as u64 };
    let restated = operation("R") > stage.rows(object);
    let reloads = column.is_load();
    if operation("U") != updated || (restated && !reloads) || operation("R") < stage.rows(object) {
        return Err(format!("{object} is not complete and once: {report}"));
    }
    Ok(())
}
