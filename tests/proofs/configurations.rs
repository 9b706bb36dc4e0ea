//! A life of configurations: somebody changes what is asked for, again and again, while records are saved, and the program
//! is stopped or killed in between and in the middle of what that brings with it. After each change the topics equal the org
//! under the configuration of now, nothing that is hidden from now on shows in what is published from now on, what is loaded
//! anew is told with its reason, and nothing is loaded that need not be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sf2kafka::domain::Stamp;
use simulator::SimulatorConfig;
use simulator::org::{Change, Id, Mix, OrgConfig, Traffic, TrafficConfig, Transaction, Value as Cell};
use simulator::pubsub::PubSubConfig;

use crate::asked::{
    ALL, ALWAYS, Asked, BOTH, FIRST, FOLLOWED, OTHER, POLLED, SECOND, SECRETS, STILL, fields,
};
use crate::stage::{Draw, Running, Stage, field_names, seed};

/// Longer than anything takes that is waited for, on a machine busy with a build.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long records are saved at least under each configuration.
const WHILE: Duration = Duration::from_secs(1);
/// A transaction shows so long after it was saved, at most.
const LAG: Duration = Duration::from_secs(10);
const RATE: f64 = 40.0;

/// How the program ends before it starts with another configuration.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Asked,
    Killed,
}

/// Somebody kills the program that has just started, when these calls have been met.
struct Cut {
    calls: &'static str,
    after: u64,
    /// What it has said by then, for at least one object.
    said: &'static str,
}

/// An option of the judge, and the field or text it is about.
type Rule = (&'static str, &'static str);

/// What hides a field or what text is not to be seen, and from which offset of each partition on.
type HiddenSince = (&'static str, &'static str, BTreeMap<i32, i64>);

struct Life {
    stage: Stage,
    /// The configuration of now.
    asked: Asked,
    running: Option<Running>,
    draw: Draw,
    traffic: Option<(Arc<AtomicBool>, JoinHandle<u64>)>,
    changes: u64,
    /// By topic.
    since: BTreeMap<String, Vec<HiddenSince>>,
    /// By topic: records of loads.
    loaded: BTreeMap<String, u64>,
    /// By object: notices of loads that were read.
    told: BTreeMap<(String, String), usize>,
    /// While there were conditions.
    under: Option<(Stamp, Option<Stamp>)>,
    table: Vec<String>,
}

impl Life {
    fn now(&self) -> Stamp {
        Stamp(self.stage.simulator.org().now_ms())
    }

    fn ids(&self, object: &str) -> Vec<Id> {
        let rows = self.stage.simulator.org().truth_rows(object).unwrap();
        rows.filter_map(|row| Id::parse(row["Id"].as_str()?)).collect()
    }

    fn save(&self, changes: Vec<Change>) {
        self.stage.simulator.org().commit(Transaction { changes, ..Transaction::default() }).unwrap();
    }

    /// Records are saved from now on, in transactions over all objects.
    fn keep_saving(&mut self) {
        let config = TrafficConfig {
            seed: self.draw.below(u64::MAX),
            objects: ALL.map(str::to_owned).to_vec(),
            // Saves that only move the stamp make no event; what is deleted hard is asked for now and then only.
            mix: Mix { touch: 0, hard_delete: 0, ..Mix::default() },
            lagging_one_in: 8,
            largest_lag: LAG,
            ..TrafficConfig::default()
        };
        let mut traffic = Traffic::new(self.stage.simulator.org(), config).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let saving = std::thread::spawn(move || traffic.run_for(RATE, Duration::from_secs(86_400), &stopped));
        self.traffic = Some((stop, saving));
    }

    /// Somebody saves what is to be hidden, with and without other values, in a few records.
    fn save_secrets(&mut self) {
        for object in BOTH {
            let ids = self.ids(object);
            let mut saved = 0;
            for _ in 0..12 {
                let number = self.draw.below(100_000);
                let id = ids[self.draw.below(ids.len() as u64) as usize];
                let mut fields: Vec<_> = SECRETS
                    .iter()
                    .map(|(name, stem)| ((*name).to_owned(), Cell::text(format!("{stem}{number}"))))
                    .collect();
                fields.push(("Late__c".to_owned(), Cell::text(format!("late {number}"))));
                fields.truncate(1 + self.draw.below(3) as usize);
                let changes = vec![Change::Update { object: object.to_owned(), id, fields }];
                // Of a transaction that lags, records are locked until it shows.
                let transaction = Transaction { changes, ..Transaction::default() };
                saved += usize::from(self.stage.simulator.org().commit(transaction).is_ok());
            }
            assert!(saved > 5, "{saved}");
        }
    }

    /// Nothing is saved any more, all that was saved shows, and all of it is published and loaded.
    async fn comes_to_rest(&mut self, what: &'static str) {
        let (stop, saving) = self.traffic.take().unwrap();
        stop.store(true, Ordering::Relaxed);
        self.changes += saving.join().unwrap();
        let clock = self.stage.simulator.org().clock().clone();
        clock.advance(LAG + Duration::from_secs(2));
        let to = self.now();
        clock.advance(Duration::from_secs(1));
        // Behind all others: a position without a change may wait for long.
        for object in ALL {
            let field = match object {
                FOLLOWED => "Name",
                POLLED => "FirstName",
                _ => "Remarks__c",
            };
            let (id, fields) = (self.ids(object)[0], vec![(field.to_owned(), Cell::text(what))]);
            self.save(vec![Change::Update { object: object.to_owned(), id, fields }]);
        }
        let there = |object: &Value| {
            let reached = object["committed_to"].as_str().and_then(|text| Stamp::parse(text.as_bytes()));
            object["phase"] == "live" && object["reload"].is_null() && reached > Some(to)
        };
        self.stage.until(what, |all| ALL.iter().all(|name| all.get(*name).is_some_and(there))).await;
    }

    /// The last page is committed too: the status shows what was handed over.
    async fn has_loaded(&self, what: &str, said: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut words = String::new();
        while !BOTH.iter().all(|name| words.contains(&format!("full load complete object={name} "))) {
            assert!(Instant::now() < deadline, "{what}: never loaded: {words}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            words = self.stage.words().split_off(said);
        }
    }

    /// The topics of an object.
    fn topics(&self, object: &str) -> Vec<String> {
        let target = object.replace("__c", "_c");
        let second = (self.asked.second && object != STILL).then(|| format!("{target}{SECOND}"));
        [target].into_iter().chain(second).collect()
    }

    /// A topic, folded, is the org under the configuration of now: the judge's report.
    async fn judged(&self, object: &str, topic: &str) -> Value {
        let control = self.stage.simulator.control_url();
        let mut words = vec!["--truth".to_owned(), format!("{control}/truth/{object}")];
        if object != STILL {
            let names = self.stage.versions(topic).await.last().map(field_names).unwrap_or_default();
            let mut say = |text: &str| words.extend(text.split(' ').map(str::to_owned));
            for option in self.asked.judged_by(&names.iter().map(String::as_str).collect()) {
                say(&option);
            }
            for (option, what, ends) in self.since.get(topic).into_iter().flatten() {
                for (partition, offset) in ends {
                    say(&format!("{option} {what} {partition} {offset}"));
                }
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let report = self.stage.judge(topic, &words).await;
        assert!(report["holds"] == true, "{topic}: {report:#}");
        for (_, what, _) in self.since.get(topic).into_iter().flatten() {
            assert!(report["looked_at"][what].as_u64() > Some(0), "nothing since: {what}: {report:#}");
        }
        report
    }

    /// From now on records do not show this.
    fn hides(&mut self, rules: &[Rule]) {
        if rules.is_empty() {
            return;
        }
        let topics: Vec<String> = BOTH.iter().flat_map(|object| self.topics(object)).collect();
        for topic in topics {
            let ends = self.stage.ends(&topic);
            let since = self.since.entry(topic).or_default();
            since.extend(rules.iter().map(|(option, what)| (*option, *what, ends.clone())));
        }
    }

    /// The configuration is another one when the program starts again, and life goes on.
    async fn change(
        &mut self,
        what: &'static str,
        (end, cut): (End, Option<Cut>),
        asked: impl FnOnce(&mut Asked),
        hidden: &[Rule],
        reasons: &[&str],
    ) {
        let begun = Instant::now();
        self.keep_saving();
        self.save_secrets();
        tokio::time::sleep(Duration::from_millis(300 + self.draw.below(500))).await;
        let (old, said) = (self.asked.objects(), self.stage.words().len());
        asked(&mut self.asked);
        self.stage.rewrite(&old, &self.asked.objects());
        self.ends(end).await;
        // Whatever is behind these was published under the new configuration.
        self.hides(hidden);
        // Of records saved while nobody runs.
        self.save_secrets();
        if let Some(cut) = cut {
            self.cut_short(what, &cut, said).await;
        }
        self.running = Some(self.stage.start(&["run"]));
        // For that long it goes on beside what the change brings.
        tokio::time::sleep(WHILE).await;
        self.save_secrets();
        self.comes_to_rest(what).await;
        if !reasons.is_empty() {
            self.has_loaded(what, said).await;
        }
        let words = self.stage.words().split_off(said);
        self.is_told(what, &words, reasons);
        let mut counts = Vec::new();
        for (object, topic, report) in self.all_judged().await {
            let reasons = if object == STILL { &[] } else { reasons };
            counts.extend(self.is_right(what, (object, &topic), &report, reasons));
        }
        let reasons = if reasons.is_empty() { "nothing".to_owned() } else { reasons.join(", ") };
        let took = begun.elapsed().as_secs_f64();
        self.note(format!("{what:<34} loads for {reasons:<32} {} ({took:.1} s)", counts.join(", ")));
    }

    async fn ends(&mut self, end: End) {
        let running = self.running.take().unwrap();
        match end {
            End::Asked => running.stop(PATIENCE).await,
            End::Killed => running.kill().await,
        }
    }

    /// The program starts, and is killed in the middle of what it does by the new configuration.
    async fn cut_short(&mut self, what: &str, cut: &Cut, said: usize) {
        // Two objects wait for their answers then, or one of them did without any.
        let hang = json!({ "delay": { "millis": 600_000 } });
        let rule = json!({ "contains": cut.calls, "after": cut.after, "times": 2, "action": hang });
        self.stage.control("faults", rule).await;
        self.running = Some(self.stage.start(&["run"]));
        let faults = format!("{}/faults", self.stage.simulator.control_url());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left: Value = reqwest::get(&faults).await.unwrap().json().await.unwrap();
            let words = self.stage.words().split_off(said);
            if left == json!([]) && words.contains(cut.said) {
                break;
            }
            assert!(Instant::now() < deadline, "never: {what}, {left}: {words}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The decision stands: in the status, and in the position that the next start reads.
        self.stage
            .until(what, |all| {
                BOTH.iter().any(|name| all.get(*name).is_some_and(|one| !one["reload"].is_null()))
            })
            .await;
        self.ends(End::Killed).await;
        reqwest::Client::new().delete(&faults).send().await.unwrap();
        let mut cut_off = Vec::new();
        for object in BOTH {
            let position = self.stage.position(object).await.unwrap();
            if position["state"] == "loading" {
                cut_off.push(object);
            }
        }
        assert!(!cut_off.is_empty(), "{what}: killed too late");
        self.note(format!("{what:<34} killed while {} was loaded", cut_off.join(" and ")));
    }

    /// What became of a change, said at once and again in the end.
    fn note(&mut self, line: String) {
        eprintln!("{line}");
        self.table.push(line);
    }

    /// Notices since the last look, by object and kind.
    fn news(&mut self) -> BTreeMap<(String, String), Vec<Value>> {
        let mut all = self.stage.notices();
        for (key, notices) in &mut all {
            let known = self.told.insert(key.clone(), notices.len()).unwrap_or(0);
            notices.drain(..known);
        }
        all
    }

    /// What is loaded anew is told once, with its reason, in the log and as notifications, and nothing else is.
    fn is_told(&mut self, what: &str, words: &str, reasons: &[&str]) {
        let news = self.news();
        let of = |object: &str, kind: &str| {
            let notices = news.get(&(object.to_owned(), kind.to_owned()));
            notices.map_or(&[][..], Vec::as_slice)
        };
        for object in ALL {
            let wanted: BTreeSet<&str> =
                if object == STILL { BTreeSet::new() } else { reasons.iter().copied().collect() };
            let begun: Vec<&str> =
                of(object, "reload-begun").iter().filter_map(|notice| notice["reason"].as_str()).collect();
            assert_eq!(begun.len(), wanted.len(), "{what}, {object}: {news:#?}");
            assert_eq!(begun.into_iter().collect::<BTreeSet<_>>(), wanted, "{what}, {object}: {news:#?}");
            let done = of(object, "reload-done");
            assert_eq!(done.len(), usize::from(!wanted.is_empty()), "{what}, {object}: {news:#?}");
            for notice in done {
                let told = notice["reasons"].as_array().unwrap().iter().filter_map(Value::as_str);
                assert_eq!(told.collect::<BTreeSet<_>>(), wanted, "{what}, {object}: {notice}");
            }
            let is_begun = |line: &&str| {
                line.contains("all records are loaded anew, changes go on meanwhile")
                    && line.contains(&format!("object={object} "))
            };
            let logged = words.lines().filter(is_begun);
            let reason = |line: &'_ str| {
                let rest = line.split_once(" reason=").unwrap().1.to_owned();
                rest.split_whitespace().next().unwrap().trim_matches('"').to_owned()
            };
            let logged: BTreeSet<String> = logged.map(reason).collect();
            assert!(
                logged.iter().map(String::as_str).eq(wanted.iter().copied()),
                "{what}, {object}: {words}"
            );
        }
    }

    /// The judge's report on every topic, each of which equals the org under the configuration of now.
    async fn all_judged(&self) -> Vec<(&'static str, String, Value)> {
        let topics = ALL.iter().flat_map(|object| {
            self.topics(object).into_iter().map(move |topic| async move {
                let report = self.judged(object, &topic).await;
                (*object, topic, report)
            })
        });
        join_all(topics).await
    }

    /// The topic has what it is to have, and was loaded as far as that was needed.
    fn is_right(
        &mut self,
        what: &str,
        (object, topic): (&str, &str),
        report: &Value,
        reasons: &[&str],
    ) -> Option<String> {
        if object == FOLLOWED {
            let lacking = [(self.asked.gone, "Gone__c"), (!self.asked.late, "Late__c")];
            let lacking: Vec<&str> =
                lacking.iter().filter(|(lacking, _)| *lacking).map(|(_, name)| *name).collect();
            assert_eq!(report["truth"]["fields_only_in_truth"], json!(lacking), "{what}: {report:#}");
        }
        let rows = report["folded_rows"].as_u64().unwrap();
        assert!(rows > 500, "{what}: {report:#}");
        let all = report["operations"]["R"].as_u64().unwrap_or(0);
        let loaded = all - self.loaded.insert(topic.to_owned(), all).unwrap_or(0);
        // Rows that changed since the load was decided come with their changes.
        let fits = match reasons {
            [] => loaded == 0,
            ["new-output"] if !topic.ends_with(SECOND) => loaded < rows / 2,
            _ => loaded > rows / 2,
        };
        assert!(fits, "{what}, {topic}: {loaded} of {rows} were loaded: {report:#}");
        (object != STILL).then(|| format!("{topic} {loaded} of {rows}"))
    }

    /// Every record has a value in every field, an hour ago.
    fn fill(&mut self, object: &str) {
        let changes: Vec<Change> = self
            .ids(object)
            .into_iter()
            .map(|id| {
                let number = self.draw.below(90_000);
                let text = |stem: &str| Cell::text(format!("{stem}{number}"));
                let half = f64::from(u32::try_from(number).unwrap()) + 0.5;
                let fields = [
                    ("Late__c", text("late ")),
                    ("Gone__c", text("gone ")),
                    ("Secret__c", text(SECRETS[0].1)),
                    ("Phone", text(SECRETS[1].1)),
                    ("Number__c", Cell::Double(half)),
                    ("Price__c", Cell::Double(half)),
                    ("Kind__c", Cell::text(["small", "large", ALWAYS][(number % 3) as usize])),
                ];
                let fields = fields.map(|(name, cell)| (name.to_owned(), cell)).to_vec();
                Change::Update { object: object.to_owned(), id, fields }
            })
            .collect();
        for some in changes.chunks(500) {
            self.save(some.to_vec());
        }
    }
}

/// A practice org, and the program, which has loaded it.
async fn begun(seed: u64) -> Life {
    let org = OrgConfig::default()
        .with_seed(seed)
        .with_rows(FOLLOWED, 2_400)
        .with_rows(POLLED, 2_400)
        .with_rows(STILL, 600);
    let pubsub = PubSubConfig { selected: vec![FOLLOWED.to_owned()], ..PubSubConfig::default() };
    let config = SimulatorConfig { org, pubsub, ..SimulatorConfig::default() };
    let asked = Asked::default();
    let defaults = "refetch_wait: 300ms, poll: { interval: 1s, max_interval: 1s, settle: 500ms }";
    let kafka = "properties: { group.instance.id: configurations }";
    let stage = Stage::with(config, &asked.objects(), defaults, kafka).await;
    // Loads have pages to be ended in.
    stage.control("settings", json!({ "bulkPageCap": 400, "jobDelayMillis": 100 })).await;
    stage.control("pubsub/settings", json!({ "keepaliveSeconds": 1 })).await;
    for (object, field) in BOTH.iter().flat_map(|object| {
        fields().as_array().unwrap().iter().map(|field| (*object, field.clone())).collect::<Vec<_>>()
    }) {
        let mut order = field;
        let name = order.as_object_mut().unwrap().remove("name").unwrap();
        order.as_object_mut().unwrap().extend(
            [("object", json!(object)), ("field", name), ("action", json!("add"))]
                .map(|(key, value)| (key.to_owned(), value)),
        );
        stage.control("fields", order).await;
    }
    let mut life = Life {
        stage,
        asked,
        running: None,
        draw: Draw(seed),
        traffic: None,
        changes: 0,
        since: BTreeMap::new(),
        loaded: BTreeMap::new(),
        told: BTreeMap::new(),
        under: None,
        table: Vec::new(),
    };
    for object in BOTH {
        life.fill(object);
    }
    // Older than the look-back.
    life.stage.simulator.org().clock().advance(Duration::from_secs(3_600));
    life.running = Some(life.stage.start(&["run"]));
    life.keep_saving();
    tokio::time::sleep(WHILE).await;
    life.comes_to_rest("the first load").await;
    for (_, topic, report) in life.all_judged().await {
        life.loaded.insert(topic, report["operations"]["R"].as_u64().unwrap());
    }
    assert!(life.news().is_empty(), "a first load is no load anew");
    life
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_in_the_configuration_the_topics_equal_the_org_under_it_and_no_load_is_in_vain() {
    let seed = seed();
    eprintln!("seed {seed}");
    let mut life = begun(seed).await;

    // Each change of the configuration of both objects.
    let cut = Cut { calls: "/results", after: 4, said: "all records are loaded anew" };
    life.change("a field added", (End::Asked, Some(cut)), |now| now.late = true, &[], &["new-field"]).await;
    life.change(
        "a field left out",
        (End::Killed, None),
        |now| now.gone = true,
        &[("--since", "Gone__c")],
        &[],
    )
    .await;
    let hidden = [("--since", "Secret__c"), ("--never", SECRETS[0].1)];
    let mask = |now: &mut Asked| now.masked = true;
    life.change("a field masked", (End::Asked, None), mask, &hidden, &["field-rules"]).await;

    life.under = Some((life.now(), None));
    let cut = Cut { calls: "LIMIT 2000", after: 1, said: "the changed `where` leaves out" };
    let first = |now: &mut Asked| now.kinds = Some(FIRST);
    life.change("`where` set", (End::Asked, Some(cut)), first, &[], &["where"]).await;
    let hidden = [
        ("--since", "Number__c_2"),
        ("--since", "Number__c"),
        ("--since", "Phone"),
        ("--never", SECRETS[1].1),
    ];
    let other = |now: &mut Asked| (now.hashed, now.kinds) = (true, Some(OTHER));
    // A number that is hashed goes on under a new name.
    let reasons = ["field-rules", "new-field", "where"];
    life.change("fields hashed, `where` changed", (End::Killed, None), other, &hidden, &reasons).await;
    life.change("`where` removed", (End::Asked, None), |now| now.kinds = None, &[], &["where"]).await;
    life.under = life.under.map(|(from, _)| (from, Some(life.now())));

    // Most of what was saved so far is no news any more.
    life.stage.simulator.org().clock().advance(Duration::from_secs(3_600));
    life.second_begins();
    life.change("an output added", (End::Killed, None), |now| now.second = true, &[], &["new-output"]).await;
    life.shows_again("Secret__c", SECRETS[0].1);
    let exact = |now: &mut Asked| (now.exact, now.masked) = (true, false);
    let reasons = ["field-rules", "new-field", "values"];
    life.change("`decimals`, `compounds`, no mask", (End::Asked, None), exact, &[], &reasons).await;
    let other = |now: &mut Asked| (now.second, now.poll_seconds) = (false, 2);
    life.change("an output gone, `poll` changed", (End::Asked, None), other, &[], &[]).await;

    life.running.take().unwrap().stop(PATIENCE).await;
    for line in &life.table {
        eprintln!("{line}");
    }
    eprintln!("{} changes were saved meanwhile", life.changes);
    life.ends_well().await;
}

impl Life {
    /// What may not show in the first output may not show in the second, from its beginning.
    fn second_begins(&mut self) {
        for object in BOTH {
            let rules = self.since.get(object).into_iter().flatten();
            let rules = rules.map(|(option, what, _)| (*option, *what, BTreeMap::from([(0, 0)]))).collect();
            self.since.insert(format!("{object}{SECOND}"), rules);
        }
    }

    fn shows_again(&mut self, field: &str, text: &str) {
        for rules in self.since.values_mut() {
            rules.retain(|(_, what, _)| *what != field && *what != text);
        }
    }

    /// No change of the org's log is lost, readers with the first schema read to the last record, and nothing hidden stands
    /// anywhere else.
    async fn ends_well(&self) {
        let control = self.stage.simulator.control_url();
        let log = format!("{control}/changes");
        let Some((from, Some(to))) = self.under else { panic!("there were conditions") };
        let (from, to) = (from.to_string(), to.to_string());
        let judged = ["--log", &log, "--object", FOLLOWED, "--under", &from, &to, "Kind__c", ALWAYS];
        let report = self.stage.judge(FOLLOWED, &judged).await;
        assert!(report["holds"] == true, "{report:#}");
        let log = &report["log"];
        eprintln!("{FOLLOWED}: {log}");
        for (count, least) in [("as_event", 200), ("fitted", 20)] {
            assert!(log[count].as_u64() > Some(least), "{report:#}");
        }
        for topic in BOTH.iter().flat_map(|object| [(*object).to_owned(), format!("{object}{SECOND}")]) {
            let report = self.stage.three_readers(&topic).await;
            eprintln!(
                "{topic}: {} records, {} versions, read by {}",
                report["records"], report["versions"], report["readers"]
            );
            assert!(report["holds"] == true, "{report:#}");
        }
        assert!(self.stage.committed("dead-letters").is_empty());
        let words = self.stage.words();
        assert!(!words.contains("claiming the shard anew"), "{words}");
        for said in [
            "fields are gone: they stay in the schema and are null",
            "records that are in the topics already keep their values",
            "a topic is no longer written to",
        ] {
            assert!(words.contains(said), "never said: {said}");
        }
        let elsewhere = ["notifications", "control"].map(|topic| self.stage.committed(topic));
        for (_, stem) in SECRETS {
            assert!(!words.contains(stem), "a value in the log");
            let holds = |bytes: &[u8]| memchr::memmem::find(bytes, stem.as_bytes()).is_some();
            assert!(!elsewhere.iter().flatten().any(|(key, value)| holds(key) || holds(value)));
        }
    }
}
