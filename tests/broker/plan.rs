//! What `check --plan` foretells against what a run then uses, by the org's own count; and what a check of many objects costs.
//!
//! In: three configurations as people have them. Out: a table, and a failure if the plan was more than 15 % off. The clock of
//! a slow machine must not decide: polls are minutes apart where a load is judged, and the live stretch ends by count.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simulator::org::Id;

use crate::services::topics;
use crate::stage::{Setup, Stage};

const PATIENCE: Duration = Duration::from_secs(120);

/// Calls that the org has counted.
async fn billed(stage: &Stage) -> u64 {
    let url = format!("{}/counters", stage.simulator.control_url());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["calls"].as_u64().unwrap()
}

/// A plan, which must find nothing wrong and make nothing.
async fn plan(stage: &Stage) -> Value {
    let before = topics(&stage.name);
    let (code, json, words) = stage.run(&["check", "--plan", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{json}{words}");
    assert_eq!(topics(&stage.name), before, "a plan makes no topic");
    serde_json::from_str::<Value>(&json).unwrap()["plan"].take()
}

struct Row {
    what: String,
    /// Else it is judged in a sum.
    judged: bool,
    planned: f64,
    used: f64,
    by_purpose: String,
}

impl Row {
    fn new(what: &str, costs: &Value, scale: f64, used: u64) -> Self {
        let planned = costs["total"].as_f64().unwrap() * scale;
        let purposes = costs["by_purpose"].as_object().unwrap().iter();
        let by_purpose = purposes.map(|(purpose, calls)| format!("{purpose} {calls}")).collect::<Vec<_>>();
        Self {
            what: what.to_owned(),
            judged: true,
            planned,
            used: used as f64,
            by_purpose: by_purpose.join(", "),
        }
    }

    fn difference(&self) -> f64 {
        (self.planned - self.used) / self.used * 100.0
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = format!("{:<34} {:>8} {:>8} {:>7}  planned\n", "configuration", "planned", "used", "off");
    for row in rows {
        let off = format!("{:+.0} %", row.difference());
        writeln!(
            table,
            "{:<34} {:>8.0} {:>8.0} {off:>7}  {}",
            row.what, row.planned, row.used, row.by_purpose
        )
        .unwrap();
    }
    table
}

/// Plans, runs to the end, compares; and once more from where that run stopped.
async fn load_and_restart(what: &str, stage: &Stage, rows: &mut Vec<Row>) -> Value {
    let first = plan(stage).await;
    let before = billed(stage).await;
    let words = stage.completes().await;
    let mut load =
        Row::new(&format!("{what}, load"), &first["calls"]["load"], 1.0, billed(stage).await - before);
    let (_, used) = words.split_once(" calls to Salesforce: ").unwrap();
    load.by_purpose += &format!(" (used: {})", used.lines().next().unwrap_or_default());
    rows.push(load);
    assert!(words.contains("; full loads used "), "{words}");
    for object in first["objects"].as_array().unwrap().iter().filter(|object| object["capture"] == "none") {
        let said = format!("its changes are not followed object={}", object["object"].as_str().unwrap());
        assert!(words.contains(&said), "{words}");
    }

    let again = plan(stage).await;
    for object in again["objects"].as_array().unwrap() {
        assert_eq!(object["load"], "none", "{object}");
        assert!(object["load_note"].as_str().unwrap().contains("a run goes on from there"), "{object}");
    }
    let before = billed(stage).await;
    stage.completes().await;
    let used = billed(stage).await - before;
    let restart = Row::new(&format!("{what}, restart"), &again["calls"]["load"], 1.0, used);
    // How many of its few polls meet in one call is chance on a busy machine.
    let load = rows.last().unwrap();
    let both = Row {
        what: format!("{what}, both"),
        judged: true,
        planned: load.planned + restart.planned,
        used: load.used + restart.used,
        by_purpose: String::new(),
    };
    rows.extend([Row { judged: false, ..restart }, both]);
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plans_calls_are_within_15_percent_of_what_the_runs_then_used() {
    let mut rows = Vec::new();
    small_objects_by_rest(&mut rows).await;
    large_objects_by_bulk(&mut rows).await;
    mixed_with_a_live_stretch(&mut rows).await;
    let table = table(&rows);
    eprintln!("{table}");
    judge(&rows, &table);
}

fn judge(rows: &[Row], table: &str) {
    for row in rows.iter().filter(|row| row.judged) {
        assert!(row.difference().abs() <= 15.0, "{} is off by {:.0} %\n{table}", row.what, row.difference());
    }
}

async fn small_objects_by_rest(rows: &mut Vec<Row>) {
    let names = "[ Account, Case, EmailMessage, Invoice__c, Contact, Lead, Campaign, Product2 ]";
    // The first four have two long texts, and so pages of 200 rows.
    let small = &[
        ("Account", 1_950),
        ("Case", 1_950),
        ("EmailMessage", 1_950),
        ("Invoice__c", 1_950),
        ("Contact", 1_900),
        ("Lead", 20),
    ];
    let stage = Stage::of(Setup { rows: small, ..Setup::new(names) }).await;
    stage.rewrite("interval: 1s, max_interval: 1s", "interval: 10m, max_interval: 10m");
    let plan = load_and_restart("eight small objects by REST", &stage, rows).await;
    let objects = plan["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 8);
    assert!(objects.iter().all(|object| object["load"] == "rest"), "{plan}");
    assert_eq!(plan["calls"]["jobs"], 0);
}

async fn large_objects_by_bulk(rows: &mut Vec<Row>) {
    let large = &[("Account", 24_000), ("Contact", 20_000), ("Invoice__c", 16_000)];
    let stage = Stage::of(Setup { rows: large, ..Setup::new("[ Account, Contact, Invoice__c ]") }).await;
    stage.rewrite("interval: 1s, max_interval: 1s", "interval: 10m, max_interval: 10m");
    // As long as the forecast takes an org to need for jobs of this size.
    stage.control("settings", json!({"jobDelayMillis": 3_000})).await;
    let plan = load_and_restart("three large objects by Bulk", &stage, rows).await;
    assert_eq!(plan["calls"]["jobs"], 3);
    assert!(plan["calls"]["bytes"].as_u64().unwrap() > 10_000_000, "{plan}");
    assert!(plan["objects"][0]["load_calls"].as_u64().unwrap() > 14, "many pages: {plan}");
}

/// 150 parents a query, one parent a query, and versions of articles, of which some are read by article.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_counts_the_calls_of_loads_by_parents_and_says_what_is_not_followed() {
    let mut rows = Vec::new();
    let sizes = &[
        ("ContentDocument", 3_000),
        ("ContentDocumentLink", 9_000),
        ("ContentFolder", 80),
        ("ContentFolderMember", 200),
        ("KnowledgeArticle", 600),
        ("KnowledgeArticleVersion", 1_500),
    ];
    let names = "[ ContentDocumentLink, ContentFolderMember, KnowledgeArticleVersion ]";
    let stage = Stage::of(Setup { rows: sizes, ..Setup::new(names) }).await;
    stage.rewrite("interval: 1s, max_interval: 1s", "interval: 10m, max_interval: 10m");
    let (code, text, words) = stage.run(&["check", "--plan"]).await;
    assert_eq!(code, Some(0), "{text}{words}");
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
    let links = line("ContentDocumentLink ");
    assert!(
        links.contains(" not followed ") && links.contains("loaded once and not followed: Salesforce"),
        "{text}"
    );
    assert!(
        line("ContentDocumentLink: ").contains("read by the ids of ContentDocument: a call for each 150 of ")
    );
    assert!(line("ContentFolderMember: ").contains("read by the ids of ContentFolder: a call for each of "));
    let articles = line("KnowledgeArticleVersion: ");
    assert!(
        articles
            .contains("replaced versions are read by the ids of KnowledgeArticle: a call for each 150 of ")
    );

    let plan = load_and_restart("three objects by their parents", &stage, &mut rows).await;
    let table = table(&rows);
    eprintln!("{table}");
    judge(&rows, &table);
    let of = |object: usize, key: &str| plan["objects"][object][key].as_u64().unwrap();
    // Two lists of documents and 21 queries; the folders counted, listed, and a query each; three by status and a list with four.
    let calls = [0, 1, 2].map(|object| of(object, "load_calls"));
    assert_eq!(calls, [23, 82, 8], "deleted parents count too: {plan}");
    assert!(rows[0].by_purpose.contains("full loads used 113 where "), "{}", rows[0].by_purpose);
    assert_eq!((of(0, "calls_a_day"), of(1, "calls_a_day")), (0, 0), "{plan}");
}

/// Two objects polled, two followed by events, one of them busy; then so many polls long.
async fn mixed_with_a_live_stretch(rows: &mut Vec<Row>) {
    let objects = "[ Contact, Campaign, Product2, { name: Account, capture: subscribe }, \
                   { name: Invoice__c, capture: subscribe, after: changed-only } ]";
    let sizes =
        &[("Account", 6_000), ("Contact", 500), ("Campaign", 50), ("Product2", 50), ("Invoice__c", 40)];
    let stage = Stage::of(Setup { rows: sizes, ..Setup::new(objects) }).await;
    // An interval that a slow machine's own time does not stretch by much.
    stage.rewrite("interval: 1s, max_interval: 1s", "interval: 2s, max_interval: 2s");
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 5})).await;
    // What a day brings to Account, as the plan will find it: in a stretch one change each 15 s.
    let ids = stage.ids("Account", 5_760);
    stage.save("Account", &ids, "Name", "saved in the last day");
    stage.simulator.org().clock().advance(Duration::from_secs(2 * 3_600));

    let plan = plan(&stage).await;
    let captures: Vec<&str> = plan["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| object["capture"].as_str().unwrap())
        .collect();
    assert_eq!(captures, ["poll", "poll", "poll", "subscribe", "subscribe"], "{plan}");
    assert_eq!(plan["objects"][3]["changes_in_the_last_day"], 5_760, "{plan}");

    let mut running = stage.start(&["run"]);
    for object in ["Account", "Contact", "Campaign", "Product2", "Invoice__c"] {
        running.says(&format!("full load complete object={object}")).await;
    }
    // The first event of a stream has the object described once more: not part of a day.
    change_and_wait(&stage, &ids[..1]).await;
    let (began, before) = (Instant::now(), billed(&stage).await);
    let mut next = ids.iter();
    let mut due = Duration::from_secs(15);
    // Long enough for three dozen calls of each polled object.
    let stretch = Duration::from_secs(120);
    while began.elapsed() < stretch {
        if began.elapsed() >= due {
            due += Duration::from_secs(15);
            stage.save("Account", &[*next.next().unwrap()], "Name", "a change as it comes");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (took, used) = (began.elapsed(), billed(&stage).await - before);
    assert_eq!(running.stop().await.0, Some(0));
    let scale = took.as_secs_f64() / 86_400.0;
    let what = format!("mixed, {} s of a day live", took.as_secs());
    rows.push(Row::new(&what, &plan["calls"]["a_day"], scale, used));

    // What a run of this configuration takes until it has caught up, from the start.
    let fresh = Stage::of(Setup { rows: sizes, ..Setup::new(objects) }).await;
    fresh.rewrite("interval: 1s, max_interval: 1s", "interval: 10m, max_interval: 10m");
    fresh.control("pubsub/settings", json!({"keepaliveSeconds": 2})).await;
    fresh.control("settings", json!({"jobDelayMillis": 3_000})).await;
    load_and_restart("mixed", &fresh, rows).await;
}

/// Saves records one by one, and waits until the position of the object has passed them.
async fn change_and_wait(stage: &Stage, ids: &[Id]) {
    stage.save("Account", ids, "Name", "the first event of the stream");
    let retrieved = async || {
        let url = format!("{}/counters", stage.simulator.control_url());
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["byKind"]["retrieve"].as_u64().unwrap_or(0)
    };
    let deadline = Instant::now() + PATIENCE;
    while retrieved().await == 0 {
        assert!(Instant::now() < deadline, "the first event's record is read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_objects_are_checked_in_ten_seconds_by_few_calls() {
    let stage = Stage::new("[ \"*\" ]").await;
    let fifty = fifty_names(&stage).await;
    stage.rewrite("[ \"*\" ]", &format!("[ {} ]", fifty.join(", ")));
    stage.rewrite("capture: poll, poll", "capture: auto, poll");
    stage.control("faults", json!({"contains": "/services/", "action": {"delay": {"millis": 40}}})).await;
    let mut best = Duration::MAX;
    // A machine that is busy for a moment does not decide.
    for _ in 0..3 {
        let before = billed(&stage).await;
        let began = Instant::now();
        let (code, report, words) = stage.run(&["check"]).await;
        let (took, calls) = (began.elapsed(), billed(&stage).await - before);
        assert_eq!(code, Some(0), "{report}{words}");
        assert_eq!(report.lines().filter(|line| line.starts_with("✓ object ")).count(), 50, "{report}");
        eprintln!("check of 50 objects, 40 ms a call: {:.1} s, {calls} calls", took.as_secs_f64());
        assert!(calls <= 25, "{calls} calls");
        best = best.min(took);
    }
    assert!(best < Duration::from_secs(10), "{best:?}");
    assert_eq!(topics(&stage.name), [""; 0], "nothing was made");
}

/// Of the objects that can be captured as a whole.
async fn fifty_names(stage: &Stage) -> Vec<String> {
    let (code, json, words) = stage.run(&["discover", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{words}");
    let found: Vec<Value> = serde_json::from_str(&json).unwrap();
    let capturable =
        found.iter().filter(|object| object["capture"] == "poll" || object["capture"] == "subscribe");
    let names: Vec<String> =
        capturable.map(|object| object["object"].as_str().unwrap().to_owned()).take(50).collect();
    assert_eq!(names.len(), 50);
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_would_be_made_what_is_refused_and_what_is_missing() {
    let stage =
        Stage::new("[ Account, Invoice__c, { name: Contact, fields: { include: [ Phone, Secret__c ] } } ]")
            .await;
    let (code, text, _) = stage.run(&["check", "--plan"]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("✗ object Contact: ")
            && text.contains("has no field Secret__c, or the user may not see it"),
        "{text}"
    );
    stage.rewrite(", { name: Contact, fields: { include: [ Phone, Secret__c ] } }", "");

    // A schema of the same subject that ours cannot follow.
    let subject = format!("{}-value", stage.topic("Account"));
    let other =
        json!({"schema": r#"{"type":"record","name":"Other","fields":[{"name":"Id","type":"int"}]}"#});
    let url = format!("{}/subjects/{subject}/versions", crate::services::registry_url());
    let client = reqwest::Client::new();
    let answer =
        client.post(url).header("content-type", "application/json").body(other.to_string()).send().await;
    assert!(answer.unwrap().status().is_success());
    let level = format!("{}/config/{subject}", crate::services::registry_url());
    let backward = json!({"compatibility": "BACKWARD"}).to_string();
    let answer = client.put(level).header("content-type", "application/json").body(backward).send().await;
    assert!(answer.unwrap().status().is_success());
    let (code, json, words) = stage.run(&["check", "--plan", "--output", "json"]).await;
    assert_eq!(code, Some(1), "{json}{words}");
    let report: Value = serde_json::from_str(&json).unwrap();
    let subjects = report["plan"]["schemas"].as_array().unwrap();
    let outcome = |name: &str| {
        subjects.iter().find(|known| known["subject"] == name).unwrap_or_else(|| panic!("{name} in {json}"))
    };
    assert_eq!(outcome(&subject)["outcome"], "refused");
    assert!(outcome(&subject)["reason"].as_str().unwrap().contains("not compatible"), "{json}");
    assert_eq!(outcome(&format!("{}-value", stage.topic("Invoice_c")))["outcome"], "new");
    let cross = report["checks"].as_array().unwrap().iter().find(|line| line["passed"] == false).unwrap();
    assert_eq!(
        (&cross["what"], &cross["code"]),
        (&json!(format!("subject {subject}")), &json!("registry-refused"))
    );

    let made: Vec<&Value> = report["plan"]["topics"].as_array().unwrap().iter().collect();
    assert_eq!(made.len(), 5, "{json}");
    assert!(made.iter().all(|topic| topic["there"] == false), "{json}");
    let control = made.iter().find(|topic| topic["topic"] == stage.topic("control")).unwrap();
    assert_eq!(
        (&control["partitions"], &control["config"]["cleanup.policy"]),
        (&json!(2), &json!("compact"))
    );
    assert_eq!(topics(&stage.name), [""; 0], "nothing was made");
}
