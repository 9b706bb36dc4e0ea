//! A life of schema changes: an administrator changes fields and objects while records are saved, and the program is
//! killed and stopped in between. Consumers made for the first schema read every record to the last, so do those made for the
//! newest, and those that take each record by its own; in the end the topics equal the org. What cannot go on stops alone,
//! with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use sf2kafka::domain::Stamp;
use simulator::SimulatorConfig;
use simulator::org::{Change, Id, Mix, OrgConfig, Traffic, TrafficConfig, Transaction, Value as Cell};
use simulator::pubsub::PubSubConfig;

use crate::stage::{Draw, Stage, field_names, seed};

/// Longer than anything takes that is waited for, on a machine busy with a build.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is saved so long after a change is still part of its step.
const AFTER: Duration = Duration::from_secs(2);

/// Followed by its events; polled.
const FOLLOWED: &str = "Account";
const POLLED: &str = "Life_Parcel__c";
const BOTH: [&str; 2] = [FOLLOWED, POLLED];
/// Only a glob asks for these.
const RENAMED: (&str, &str) = ("Life_Moved__c", "Life_There__c");
const LATE: &str = "Life_Late__c";
const REMOVED: &str = "Life_Gone__c";

/// What `BOTH` have beside what every object has, before anything is changed.
fn fields() -> Value {
    json!([
        { "name": "Gone__c", "type": "string" },
        { "name": "Before__c", "type": "string" },
        { "name": "Count__c", "type": "int" },
        { "name": "Code__c", "type": "string", "length": 40 },
        { "name": "Size__c", "type": "string", "length": 80 },
        { "name": "Must__c", "type": "string" },
        { "name": "Shy__c", "type": "string" },
        { "name": "Kind__c", "type": "picklist", "picklist": ["small", "large"] },
        { "name": "Price__c", "type": "currency", "precision": 16, "scale": 2 },
    ])
}

fn target(object: &str) -> String {
    object.replace("__c", "_c")
}

/// How it was with an object before a change.
struct Before {
    object: &'static str,
    versions: usize,
    names: Vec<String>,
    loads: usize,
}

struct Life {
    stage: Stage,
    /// Kind of change, and what became of it.
    table: Vec<(&'static str, String)>,
    traffic: Vec<(Arc<AtomicBool>, JoinHandle<u64>)>,
    seed: u64,
}

impl Life {
    async fn field(&self, object: &str, field: &str, action: &str, mut more: Value) {
        let order = more.as_object_mut().unwrap();
        order.extend(
            [("object", object), ("field", field), ("action", action)].map(|(k, v)| (k.to_owned(), json!(v))),
        );
        self.stage.control("fields", more).await;
    }

    /// Records are saved from now on, in transactions over all of these.
    fn keep_saving(&mut self, objects: &[&str], rate: f64) {
        let config = TrafficConfig {
            seed: self.seed ^ self.traffic.len() as u64,
            objects: objects.iter().map(|object| (*object).to_owned()).collect(),
            // Saves that only move the stamp make no event.
            mix: Mix { touch: 0, ..Mix::default() },
            lagging_one_in: 8,
            largest_lag: Duration::from_secs(10),
            ..TrafficConfig::default()
        };
        let mut traffic = Traffic::new(self.stage.simulator.org(), config).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let saving = std::thread::spawn(move || traffic.run_for(rate, Duration::from_secs(86_400), &stopped));
        self.traffic.push((stop, saving));
    }

    /// Every record has a value in every field.
    fn fill(&self, object: &str, mut draw: Draw) {
        let org = self.stage.simulator.org();
        let ids: Vec<Id> =
            org.truth_rows(object).unwrap().filter_map(|row| Id::parse(row["Id"].as_str()?)).collect();
        let mut change = |id: &Id| {
            let number = draw.below(5_000);
            let text = |stem: &str| Cell::text(format!("{stem} {number}"));
            let fields = vec![
                ("Gone__c", text("gone")),
                ("Before__c", text("before")),
                ("Count__c", Cell::Int(number.try_into().unwrap())),
                // Half of them are numbers.
                (
                    "Code__c",
                    if number.is_multiple_of(2) { Cell::text(format!("{number}.5")) } else { text("code") },
                ),
                ("Size__c", text("size of more than forty characters, as is to be shown:")),
                ("Must__c", text("must")),
                ("Shy__c", text("shy")),
                ("Kind__c", Cell::text("small")),
                ("Price__c", Cell::Double(f64::from(u32::try_from(number).unwrap()) + 0.25)),
            ];
            let fields = fields.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect();
            Change::Update { object: object.to_owned(), id: *id, fields }
        };
        for some in ids.chunks(500) {
            let changes = some.iter().map(&mut change).collect();
            org.commit(Transaction { changes, ..Transaction::default() }).unwrap();
        }
    }

    /// All of these are loaded, and what was saved until now and a while longer is published.
    async fn goes_on(&self, what: &str, objects: &[&str]) {
        let now = self.stage.simulator.org().now_ms();
        let to = Stamp(now).plus(AFTER);
        let there = |object: &Value| {
            let reached = object["committed_to"].as_str().and_then(|text| Stamp::parse(text.as_bytes()));
            object["phase"] == "live" && reached >= Some(to)
        };
        self.stage.until(what, |all| objects.iter().all(|name| all.get(*name).is_some_and(there))).await;
    }

    /// How many versions the object's value schema has, and the names of the newest.
    async fn versions(&self, object: &str) -> (usize, Vec<String>) {
        let versions = self.stage.versions(&target(object)).await;
        (versions.len(), versions.last().map(field_names).unwrap_or_default())
    }

    fn loads(&self, object: &str) -> usize {
        let is_one =
            |line: &&str| line.contains("full load begins") && line.contains(&format!("object={object} "));
        self.stage.words().lines().filter(is_one).count()
    }

    /// One kind of change, to both objects, and life goes on.
    async fn change(&mut self, kind: &'static str, field: &str, action: &str, more: Value) {
        let before = self.changed(field, action, &more).await;
        self.came_of(kind, before).await;
    }

    async fn changed(&self, field: &str, action: &str, more: &Value) -> Vec<Before> {
        let mut before = Vec::new();
        for object in BOTH {
            let (versions, names) = self.versions(object).await;
            before.push(Before { object, versions, names, loads: self.loads(object) });
            self.field(object, field, action, more.clone()).await;
        }
        before
    }

    async fn came_of(&mut self, kind: &'static str, before: Vec<Before>) {
        self.goes_on(kind, &BOTH).await;
        for Before { object, versions, names, loads } in before {
            let (now, fields) = self.versions(object).await;
            let new: Vec<_> = fields.iter().filter(|field| !names.contains(field)).cloned().collect();
            let new =
                if new.is_empty() { "no new field".to_owned() } else { format!("new {}", new.join(", ")) };
            let (versions, loads) = (now - versions, self.loads(object) - loads);
            self.table.push((kind, format!("{object}: versions +{versions}, {new}, loads +{loads}")));
        }
    }

    fn note(&mut self, kind: &'static str, what: impl Into<String>) {
        self.table.push((kind, what.into()));
    }
}

/// A practice org with the objects of this life, and the program's configuration for it.
async fn begun(seed: u64) -> Life {
    let org = OrgConfig::default().with_seed(seed).with_rows(FOLLOWED, 400);
    let pubsub = PubSubConfig { selected: vec![FOLLOWED.to_owned()], ..PubSubConfig::default() };
    let config = SimulatorConfig { org, pubsub, ..SimulatorConfig::default() };
    let objects = format!(
        "[ {{ name: {FOLLOWED}, capture: subscribe }}, {{ name: {POLLED}, capture: poll }}, \
         {{ name: {REMOVED}, capture: poll }}, \"Life_*__c\" ]"
    );
    let defaults = "refetch_wait: 300ms, on_new_field: backfill, poll: { interval: 1s, max_interval: 1s, settle: 500ms }";
    let stage = Stage::with(config, &objects, defaults, "properties: { group.instance.id: schemas }").await;
    stage.rewrite("budget: {", "describe_interval: 1s, budget: {");
    let life = Life { stage, table: Vec::new(), traffic: Vec::new(), seed };
    for (object, rows) in [(POLLED, 2_500), (REMOVED, 200), (RENAMED.0, 200)] {
        let own = if object == POLLED { fields() } else { json!([{ "name": "Note__c", "type": "string" }]) };
        life.stage
            .control("objects", json!({ "object": object, "action": "add", "rows": rows, "fields": own }))
            .await;
    }
    for field in fields().as_array().unwrap() {
        let mut order = field.clone();
        let name = order.as_object_mut().unwrap().remove("name").unwrap();
        life.field(FOLLOWED, name.as_str().unwrap(), "add", order).await;
    }
    life.stage.control("pubsub/selection", json!({ "select": [RENAMED.0] })).await;
    for object in BOTH {
        life.fill(object, Draw(seed));
    }
    life
}

#[tokio::test(flavor = "multi_thread")]
async fn while_fields_and_objects_change_readers_of_any_version_see_every_record() {
    let seed = seed();
    eprintln!("seed {seed}");
    let mut draw = Draw(seed);
    let mut life = begun(seed).await;
    let none = || json!({});

    // A field comes while the job of the first load runs.
    life.stage.control("settings", json!({ "jobDelayMillis": 1_500 })).await;
    life.keep_saving(&[FOLLOWED, POLLED, REMOVED, RENAMED.0], 40.0);
    let mut running = life.stage.start(&["run"]);
    life.stage
        .until("the first load", |all| all.get(POLLED).is_some_and(|object| object["phase"] == "loading"))
        .await;
    life.change("a field added while a load runs", "Early__c", "add", json!({ "type": "double" })).await;
    life.stage.control("settings", json!({ "jobDelayMillis": 100 })).await;

    life.change("a field added", "Added__c", "add", json!({ "type": "string" })).await;
    life.change("a field added that all records have", "Flag__c", "add", json!({ "type": "boolean" })).await;
    life.change("a field removed", "Gone__c", "remove", none()).await;
    life.change("a field renamed", "Before__c", "rename", json!({ "name": "After__c" })).await;
    life.change("retyped: int, double", "Count__c", "retype", json!({ "type": "double" })).await;
    // The program dies somewhere in what this brings with it.
    let before = life.changed("Code__c", "retype", &json!({ "type": "double" })).await;
    tokio::time::sleep(Duration::from_millis(draw.below(4_000))).await;
    running.kill().await;
    running = life.stage.start(&["run"]);
    life.came_of("retyped: string, double; killed", before).await;
    life.change("made longer", "Size__c", "change", json!({ "length": 200 })).await;
    life.change("made shorter", "Size__c", "change", json!({ "length": 40 })).await;
    life.change("required", "Must__c", "change", json!({ "nillable": false })).await;
    life.change("hidden by permissions", "Shy__c", "hide", none()).await;
    let before = life.changed("Shy__c", "show", &none()).await;
    tokio::time::sleep(Duration::from_millis(draw.below(4_000))).await;
    running.stop(PATIENCE).await;
    running = life.stage.start(&["run"]);
    life.came_of("shown again; stopped and started", before).await;
    life.change("not required any more", "Must__c", "change", json!({ "nillable": true })).await;
    life.change(
        "another label and help",
        "Size__c",
        "change",
        json!({ "label": "Size", "help": "In words." }),
    )
    .await;
    life.change("other picklist values", "Kind__c", "change", json!({ "picklist": ["small", "huge"] })).await;
    life.change("another scale", "Price__c", "change", json!({ "scale": 4 })).await;

    let own = json!([{ "name": "Note__c", "type": "string" }]);
    life.stage
        .control("objects", json!({ "object": LATE, "action": "add", "rows": 150, "fields": own }))
        .await;
    life.keep_saving(&[LATE], 5.0);
    life.goes_on("an object added", &[FOLLOWED, POLLED, LATE]).await;
    life.note(
        "an object added",
        format!("{LATE}: versions {}, loads {}", life.versions(LATE).await.0, life.loads(LATE)),
    );
    let order = json!({ "object": RENAMED.0, "action": "rename", "name": RENAMED.1 });
    life.stage.control("objects", order).await;
    life.keep_saving(&[RENAMED.1], 5.0);
    life.goes_on("an object renamed", &[FOLLOWED, POLLED, LATE, RENAMED.1]).await;
    life.note(
        "an object renamed",
        format!(
            "{}: versions {}, loads {}",
            RENAMED.1,
            life.versions(RENAMED.1).await.0,
            life.loads(RENAMED.1)
        ),
    );
    life.stage.control("objects", json!({ "object": REMOVED, "action": "remove" })).await;
    let status = life.ends_alone(REMOVED).await;
    life.note("an object removed", format!("{REMOVED}: {}", status[REMOVED]["error"]["message"]));
    // Nobody has corrected the configuration when the program starts again by itself.
    running.kill().await;
    running = life.stage.start(&["run"]);
    life.ends_alone(REMOVED).await;
    life.note("an object removed", "the same after a restart");
    running.stop(PATIENCE).await;
    ends_well(life).await;
}

impl Life {
    /// The object fails for want of itself, and no other does.
    async fn ends_alone(&self, object: &str) -> BTreeMap<String, Value> {
        let code = |all: &BTreeMap<String, Value>, name: &str| {
            all.get(name).and_then(|object| object["error"]["code"].as_str().map(str::to_owned))
        };
        let status = self
            .stage
            .until("an object that is gone fails", |all| {
                code(all, object).as_deref() == Some("object-unknown")
            })
            .await;
        assert!(status[object]["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{status:#?}");
        let others = [FOLLOWED, POLLED, LATE, RENAMED.1];
        self.goes_on("the others go on", &others).await;
        let status = self
            .stage
            .until("the others have no error", |all| others.iter().all(|name| code(all, name).is_none()))
            .await;
        for other in others {
            assert_eq!(
                (&status[other]["error"], &status[other]["dead_letters"]),
                (&Value::Null, &json!(0)),
                "{status:#?}"
            );
        }
        status
    }
}

/// Everything is read to its end, and judged.
async fn ends_well(life: Life) {
    let Life { stage, table, traffic, .. } = life;
    let mut changes = 0;
    for (stop, saving) in traffic {
        stop.store(true, Ordering::Relaxed);
        changes += saving.join().unwrap();
    }
    // What lags becomes visible; then a run of its own ends when all up to its start is published, deletions included.
    let url = format!("{}/pubsub/settings", stage.simulator.control_url());
    reqwest::Client::new().post(url).json(&json!({ "keepaliveSeconds": 2 })).send().await.unwrap();
    stage.rewrite(&format!("{{ name: {REMOVED}, capture: poll }}, "), "");
    for _ in 0..2 {
        stage.simulator.org().clock().advance(Duration::from_secs(300));
        stage.start(&["run", "--once"]).ends_well(Duration::from_secs(300)).await;
    }
    for (kind, what) in &table {
        eprintln!("{kind:<40} {what}");
    }
    eprintln!("{changes} changes were saved meanwhile");

    for object in [FOLLOWED, POLLED, RENAMED.0, RENAMED.1, LATE, REMOVED] {
        let report = stage.three_readers(&target(object)).await;
        eprintln!(
            "{object}: {} records, {} versions, read by {}",
            report["records"], report["versions"], report["readers"]
        );
        assert!(report["holds"] == true, "{report:#}");
        let seen: BTreeSet<u64> =
            report["readers"].as_object().unwrap().values().filter_map(Value::as_u64).collect();
        assert_eq!(seen, BTreeSet::from([report["records"].as_u64().unwrap()]), "{report:#}");
    }
    let control = stage.simulator.control_url();
    for object in [FOLLOWED, POLLED, RENAMED.1, LATE] {
        let truth = format!("{control}/truth/{object}");
        let mut judged = vec!["--truth", &truth];
        if BOTH.contains(&object) {
            // What the org does not have any more, and what goes on under another name.
            judged.extend(
                ["Gone__c", "Before__c", "Count__c", "Code__c"]
                    .iter()
                    .flat_map(|field| ["--leave-out", *field]),
            );
            judged.extend(["--source", "Count__c_2", "Count__c", "--source", "Code__c_2", "Code__c"]);
        }
        let report = stage.judge(&target(object), &judged).await;
        assert!(report["holds"] == true, "{report:#}");
        assert_eq!(report["truth"]["fields_only_in_truth"], json!([]), "{report:#}");
    }
    for object in [RENAMED.0, REMOVED] {
        let report = stage.judge(&target(object), &[]).await;
        assert!(report["holds"] == true, "{report:#}");
    }
    let words = stage.words();
    assert!(!words.contains("claiming the shard anew"), "{words}");
    assert!(stage.committed("dead-letters").is_empty());
}
