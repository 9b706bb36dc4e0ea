//! Whole objects captured without a broker: from the simulator, or from an org that answers by script.
//!
//! In here: the stage. It keeps what a control partition would keep, so that a test may end a run anywhere and go on
//! from what was committed, and it checks of every batch that its numbers rise. Beside it, by topic: the tests.

mod anew;
mod blobs;
mod conditions;
mod deletions;
mod hidden;
mod loads;
mod platform_events;
mod polls;
mod repairs;
mod retyped;
mod special;
mod streams;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ::simulator::org::{Change, Clock, Id, OrgConfig, Transaction, Value};
use ::simulator::{Simulator, SimulatorConfig};
use serde_json::json;
use tokio::sync::Semaphore;

use super::ledger::Ledger;
use super::{CaptureSettings, ObjectCapture, Step};
use crate::config::{Auth, FieldRules, Method, PollSettings, PubsubSettings, SalesforceSettings, Secret};
use crate::domain::{ChangeSequence, Need, Notice, Operation, Position, ReloadReason, Source, Stamp};
use crate::error::{Kind, Reaction};
use crate::salesforce::Client;
use crate::salesforce::scripted::quick;

/// 2026-05-19T08:30:00Z
const START_MS: i64 = 1_779_179_400_000;

#[derive(Clone, Debug)]
struct Published {
    id: String,
    operation: Operation,
    /// Cells by field; none where the batch did not carry the field.
    cells: BTreeMap<String, String>,
    /// Bytes by field.
    blobs: BTreeMap<String, Vec<u8>>,
    /// Why it goes to the dead letters.
    refused: Option<(Kind, String)>,
    source: Source,
    /// Who saved it, as the header tells.
    commit_user: Option<String>,
    /// Topics that are not new do not get it.
    left_out_elsewhere: bool,
}

/// What the pipeline's lineage knows: every field that ever was, in its place, and those that there are.
#[derive(Clone, Debug, Default)]
struct Fields {
    order: Vec<String>,
    current: BTreeSet<String>,
}

/// An object in capture, and all that came of it.
struct Stage {
    client: Client,
    settings: CaptureSettings,
    object: String,
    capture: ObjectCapture,
    control: BTreeMap<String, Vec<u8>>,
    published: Vec<Published>,
    last: ChangeSequence,
    notices: Vec<Notice>,
    errors: Vec<crate::Error>,
    /// What was counted without stopping anything.
    troubles: Vec<Kind>,
    /// A field that comes is read for, as the pipeline has it by default.
    backfills: bool,
    /// Fields that the topic has, and those of them that are committed.
    fields: [Fields; 2],
}

fn settings() -> CaptureSettings {
    let pause = Duration::from_millis(150);
    CaptureSettings {
        method: Method::Cdc,
        initial_load: true,
        poll: PollSettings {
            interval: pause,
            max_interval: pause,
            settle: Duration::ZERO,
            ..PollSettings::default()
        },
        fields: FieldRules::default(),
        hash_key: None,
        condition: None,
        estimate: None,
        parents: None,
        largest_record: 1_000_000,
        loads: Arc::new(Semaphore::new(4)),
        until: None,
        live: None,
    }
}

impl Stage {
    async fn new(client: Client, object: &str, settings: CaptureSettings) -> Self {
        let control = BTreeMap::new();
        let capture = open(&client, object, &settings, &control, &[]).await;
        let last = ChangeSequence::default();
        let (published, notices, errors, troubles) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let object = object.to_owned();
        let (backfills, fields) = (false, [Fields::default(), Fields::default()]);
        Self {
            client,
            settings,
            object,
            capture,
            control,
            published,
            last,
            notices,
            errors,
            troubles,
            backfills,
            fields,
        }
    }

    /// The run ends here; the next one goes on from what was committed.
    async fn restart(&mut self) {
        self.fields[0] = self.fields[1].clone();
        let pinned = &self.fields[0].order;
        self.capture = open(&self.client, &self.object, &self.settings, &self.control, pinned).await;
    }

    /// One step, committed at once; an error is noted.
    async fn step(&mut self) -> Option<Step> {
        self.note_fields();
        let step = self.capture.next().await;
        self.troubles.extend(self.capture.take_troubles().iter().map(crate::Error::kind));
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                // As the pipeline does.
                if error.reaction() == Reaction::DescribeAgain {
                    self.capture.expect_other_description();
                }
                self.errors.push(error);
                assert!(self.errors.len() < 20, "{:?}", self.errors);
                return None;
            }
        };
        if let Step::Batch { batch, .. } = &step {
            self.fields[1] = self.fields[0].clone();
            for change in &batch.changes {
                assert!(change.sequence > self.last);
                self.last = change.sequence;
                let row = batch.rows.row(change.row as usize).unwrap();
                let detail = batch.detail(change);
                let carried = |index| {
                    detail.and_then(|detail| detail.carried.as_ref()).is_none_or(|set| set.contains(index))
                };
                let fields = batch.object.fields.iter().enumerate().filter(|(index, _)| carried(*index));
                let cells = fields.filter_map(|(index, field)| {
                    Some((field.name.clone(), String::from_utf8(row.cell(index)?.to_vec()).unwrap()))
                });
                let cells: BTreeMap<_, _> = cells.collect();
                let blobs = batch.object.fields.iter().enumerate().filter_map(|(index, field)| {
                    Some((field.name.clone(), batch.blobs.get(change.row, index)?.to_vec()))
                });
                let refused = batch.blobs.refusal(change.row);
                self.published.push(Published {
                    id: cells["Id"].clone(),
                    operation: change.operation,
                    cells,
                    blobs: blobs.collect(),
                    refused: refused.map(|error| (error.kind(), error.to_string())),
                    source: detail.map_or(batch.source, |detail| detail.source),
                    commit_user: detail.and_then(|detail| detail.commit_user.as_deref()).map(str::to_owned),
                    left_out_elsewhere: batch
                        .only
                        .as_ref()
                        .is_some_and(|only| only.leaves_out("another", change)),
                });
            }
            self.notices.extend(batch.notices.iter().cloned());
            for record in &batch.control {
                match &record.value {
                    Some(value) => self.control.insert(record.key.clone(), value.clone()),
                    None => self.control.remove(&record.key),
                };
            }
        }
        Some(step)
    }

    /// What the pipeline's encoders find out before a step: fields that came, remembered with the next batch.
    fn note_fields(&mut self) {
        let known = &mut self.fields[0];
        let is_first = known.order.is_empty();
        let names = || self.capture.description().fields.iter().map(|field| field.name.clone());
        let fields: Vec<String> = names().filter(|name| !known.current.contains(name)).collect();
        known.current = names().collect();
        let new: Vec<String> = names().filter(|name| !known.order.contains(name)).collect();
        known.order.extend(new);
        let pinned = known.order.clone();
        self.capture.set_pinned_fields(pinned);
        if self.backfills && !fields.is_empty() && !is_first {
            self.capture.load_anew(vec![Need { fields, ..Need::of(ReloadReason::NewField) }]);
        }
    }

    /// Until everything visible up to `to` is handed over.
    async fn catch_up(&mut self, to: Stamp) {
        for _ in 0..500 {
            if let Some(Step::CaughtUp { read_to, pause }) = self.step().await {
                if read_to.is_none_or(|read_to| read_to >= to) {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        }
        panic!("not caught up with {to}: {:?}", self.errors);
    }

    /// The operations published of an id, as letters.
    fn of(&self, id: &str) -> String {
        self.published.iter().filter(|one| one.id == id).map(|one| one.operation.letter()).collect()
    }

    fn letters(&self) -> String {
        self.published.iter().map(|one| one.operation.letter()).collect()
    }

    fn position_or_none(&self) -> Option<Position> {
        self.control.get(&Position::key(&self.object)).map(|value| Position::decode(value).unwrap())
    }

    fn position(&self) -> Position {
        self.position_or_none().unwrap()
    }

    /// What a reader holds who applied everything: id and one field.
    fn folded(&self, field: &str) -> BTreeMap<String, String> {
        let mut rows = BTreeMap::new();
        for one in &self.published {
            match one.operation {
                Operation::Delete => rows.remove(&one.id),
                _ => {
                    // What an event does not carry stays as it was.
                    let cell = one.cells.get(field).cloned();
                    let cell = cell.or_else(|| rows.get(&one.id).cloned()).unwrap_or_default();
                    rows.insert(one.id.clone(), cell)
                }
            };
        }
        rows
    }
}

async fn open(
    client: &Client,
    object: &str,
    settings: &CaptureSettings,
    control: &BTreeMap<String, Vec<u8>>,
    pinned: &[String],
) -> ObjectCapture {
    let position = control.get(&Position::key(object)).map(|value| Position::decode(value).unwrap());
    let mut ledger = Ledger::new(object);
    let prefix = Ledger::key_prefix(object);
    for (key, value) in control.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        ledger.restore(key, value).unwrap();
    }
    let describe = client.describe(object, None).await.unwrap().unwrap();
    let described = describe.compile(&settings.fields, pinned).unwrap();
    let described = (Arc::new(described), describe.last_modified, client.known_metadata_changes());
    ObjectCapture::new(client, settings.clone(), described, position, ledger)
}

/// The simulator, its clock standing still until a test moves it, and one object of it on stage.
struct Practice {
    simulator: Simulator,
    stage: Stage,
}

impl Practice {
    async fn start(object: &str, rows: u64, settings: CaptureSettings) -> Self {
        Self::start_with(object, rows, |_| settings).await
    }

    async fn start_with(object: &str, rows: u64, settings: impl FnOnce(&Client) -> CaptureSettings) -> Self {
        Self::start_in(OrgConfig::default().with_rows(object, rows), object, settings).await
    }

    async fn start_in(
        config: OrgConfig,
        object: &str,
        settings: impl FnOnce(&Client) -> CaptureSettings,
    ) -> Self {
        let config = OrgConfig { deleted_one_in: 0, ..config.with_clock(Clock::stopped_at(START_MS)) };
        let simulator =
            Simulator::start(SimulatorConfig { org: config, ..SimulatorConfig::default() }).await.unwrap();
        let auth = Auth::ClientCredentials {
            client_id: "simulator-client".to_owned(),
            client_secret: Secret::new("simulator-secret"),
        };
        let origin = url::Url::parse(&simulator.origin()).unwrap();
        let mut salesforce = SalesforceSettings::new(origin, auth);
        salesforce.budget.per_second = 10_000;
        let endpoint = simulator.pubsub_origin().trim_start_matches("http://").to_owned();
        salesforce.pubsub = PubsubSettings { endpoint, tls: false };
        let client = Client::connect_with(&salesforce, quick()).await.unwrap();
        let settings = settings(&client);
        let practice = Self { stage: Stage::new(client, object, settings).await, simulator };
        practice.control("settings", json!({"jobDelayMillis": 0})).await;
        practice
    }

    async fn control(&self, path: &str, body: serde_json::Value) {
        let url = format!("{}/{path}", self.simulator.control_url());
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path} {body}");
    }

    /// Meets the next calls whose address contains `part`.
    async fn fault(&self, part: &str, times: u64, action: serde_json::Value) {
        self.control("faults", json!({"contains": part, "times": times, "action": action})).await;
    }

    async fn refuse(&self, part: &str, times: u64, status: u16, code: &str) {
        let body = json!([{"errorCode": code, "message": "as the test wants it"}]).to_string();
        self.fault(part, times, json!({"respond": {"status": status, "body": body}})).await;
    }

    /// The next job that is made meets this fate.
    async fn spoil_a_job(&self, fate: &str) {
        let action = json!({"job": {"fate": fate}});
        let rule = json!({"method": "POST", "contains": "jobs/query", "times": 1, "action": action});
        self.control("faults", rule).await;
    }

    fn pass(&self, seconds: u64) {
        self.simulator.org().clock().advance(Duration::from_secs(seconds));
    }

    fn now(&self) -> Stamp {
        Stamp(self.simulator.org().now_ms()).floor_second()
    }

    /// A second passes, and what is visible then is captured.
    async fn catch_up(&mut self) {
        self.pass(1);
        self.stage.catch_up(self.now()).await;
    }

    /// What no query shows as well: getDeleted is asked up to what is polled, at most once a minute, and leaves out the minute
    /// that is not over. A run that begins behind all of it asks at once.
    async fn catch_up_with_purges(&mut self) {
        self.pass(200);
        self.catch_up().await;
        self.stage.restart().await;
        self.catch_up().await;
    }

    /// A step, whole, as in the pipeline. Time goes on beside it: what is followed by a stream may have nothing to do for long.
    async fn step_while_time_goes_on(&mut self) {
        let clock = self.simulator.org().clock().clone();
        let goes_on = async {
            for _ in 0..2_000 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                clock.advance(Duration::from_secs(1));
            }
        };
        tokio::select! {
            _ = self.stage.step() => {}
            () = goes_on => panic!("a step does not end"),
        }
    }

    fn save(&self, changes: Vec<Change>) -> Vec<Id> {
        self.save_late(changes, 0)
    }

    /// Stamped now, visible so many seconds later.
    fn save_late(&self, changes: Vec<Change>, seconds: u64) -> Vec<Id> {
        let visible_after = Duration::from_secs(seconds);
        let transaction = Transaction { changes, visible_after, ..Transaction::default() };
        self.simulator.org().commit(transaction).unwrap().ids
    }

    fn rename(&self, id: &str, name: &str) -> Change {
        let fields = vec![("Name".to_owned(), Value::text(name.to_owned()))];
        Change::Update { object: self.stage.object.clone(), id: parsed(id), fields }
    }

    fn new_record(&self, name: &str) -> Change {
        let fields = vec![("Name".to_owned(), Value::text(name.to_owned()))];
        Change::Insert { object: self.stage.object.clone(), fields, id: None, fill: true }
    }

    fn delete(&self, id: &str) -> Change {
        Change::Delete { object: self.stage.object.clone(), id: parsed(id) }
    }

    fn hard_delete(&self, id: &str) -> Change {
        Change::HardDelete { object: self.stage.object.clone(), id: parsed(id) }
    }

    /// Ids of live records, in order.
    fn ids(&self) -> Vec<String> {
        self.truth("Id").into_keys().collect()
    }

    fn truth(&self, field: &str) -> BTreeMap<String, String> {
        let rows = self.simulator.org().truth_rows(&self.stage.object).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        rows.map(|row| (text(&row["Id"]), text(&row[field]))).collect()
    }

    fn assert_equals_org(&self) {
        assert_eq!(self.stage.folded("Name"), self.truth("Name"));
    }
}

fn parsed(id: &str) -> Id {
    Id::parse(id).unwrap()
}
