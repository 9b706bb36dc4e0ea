//! A registry that is away, slow, emptied or another one, or says something else than a registry, at a start and in mid-run:
//! what a person reads, and that nothing is lost or repeated or written by an id that means nothing.
//!
//! In: a front before the real registry that does as a test says. Out: topics that equal the org.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use simulator::catalog::{FieldDef, FieldType};
use simulator::org::{Change, Transaction, Value as Cell};
use tokio::net::TcpListener;

use crate::services::{read_committed, registry_url};
use crate::stage::{Setup, Stage};

#[derive(Clone, Copy)]
enum Habit {
    Open,
    /// Every answer comes so much later.
    Slow(Duration),
    Says(u16, &'static str),
    /// Another registry that holds the same schemas: its ids are so much larger.
    OtherIds(u64),
}

/// A registry's address whose habits can be changed.
#[derive(Clone)]
struct Front {
    asks: Arc<Mutex<Asks>>,
    url: String,
}

struct Asks {
    habit: Habit,
    /// Methods and paths behind the registry's own.
    seen: Vec<String>,
}

impl Front {
    async fn new(habit: Habit) -> Self {
        let asks = Arc::new(Mutex::new(Asks { habit, seen: Vec::new() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url: url::Url = registry_url().parse().unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let router = Router::new().fallback(answer).with_state(asks.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { asks, url: url.to_string() }
    }

    fn becomes(&self, habit: Habit) {
        self.asks.lock().unwrap().habit = habit;
    }

    /// What it was asked since the last call.
    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut self.asks.lock().unwrap().seen);
        asked.sort();
        asked
    }

    async fn stage(&self, objects: &'static str) -> Stage {
        Stage::of(Setup { registry_url: self.url.clone(), ..Setup::new(objects) }).await
    }
}

async fn answer(State(asks): State<Arc<Mutex<Asks>>>, request: Request) -> Response {
    let habit = {
        let mut asks = asks.lock().unwrap();
        let root: url::Url = registry_url().parse().unwrap();
        let path = request.uri().path().trim_start_matches(root.path()).trim_start_matches('/');
        asks.seen.push(format!("{} {path}", request.method()));
        asks.habit
    };
    match habit {
        Habit::Says(status, body) => return (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Habit::Slow(pause) => tokio::time::sleep(pause).await,
        Habit::Open | Habit::OtherIds(_) => {}
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut url: url::Url = registry_url().parse().unwrap();
    url.set_path(parts.uri.path());
    url.set_query(parts.uri.query());
    let mut request = reqwest::Client::new().request(parts.method, url).body(body);
    if let Some(of) = parts.headers.get(header::CONTENT_TYPE) {
        request = request.header(header::CONTENT_TYPE, of);
    }
    let answer = request.send().await.unwrap();
    let (status, mut text) = (answer.status(), answer.text().await.unwrap());
    if let Habit::OtherIds(larger) = habit
        && let Ok(mut answer) = serde_json::from_str::<Value>(&text)
        && let Some(id) = answer["id"].as_u64()
    {
        answer["id"] = json!(id + larger);
        text = answer.to_string();
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    (status, headers, text).into_response()
}

async fn holds(stage: &Stage, object: &str, records: u64) {
    let (topic, deadline) = (stage.topic(object), Instant::now() + Duration::from_secs(90));
    while (read_committed(&topic).len() as u64) < records {
        assert!(Instant::now() < deadline, "{topic} never holds {records} records");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_gets_through_a_registry_that_fails_in_every_way_that_may_pass() {
    let front = Front::new(Habit::Says(503, "busy")).await;
    let stage = front.stage("[ Account ]").await;
    let mut running = stage.start(&["run"]);
    running.says("the schema registry answers 503").await;
    front.becomes(Habit::Says(200, "<html>please log in</html>"));
    running.says("the schema registry's answer is not JSON: is its URL right?").await;
    front.becomes(Habit::Says(200, r#"{"id":-7}"#));
    running.says("holds an id that no record can: -7").await;
    assert_eq!(read_committed(&stage.topic("Account")), [], "nothing without a schema");
    front.becomes(Habit::Slow(Duration::from_secs(1)));
    running.says("full load complete object=Account").await;
    front.becomes(Habit::Open);
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
    stage.holds_each_row_once("Account").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_when_a_new_version_is_needed_holds_up_its_object_and_loses_nothing() {
    let front = Front::new(Habit::Open).await;
    let stage = front.stage("[ { name: Account, capture: subscribe }, Invoice__c ]").await;
    stage.rewrite("capture: poll, poll", "capture: poll, on_new_field: ignore, poll");
    stage.control("pubsub/selection", json!({"select": ["Account"]})).await;
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    let mut running = stage.start(&["run"]);
    running.says("full load complete object=Account").await;
    running.says("full load complete object=Invoice__c").await;
    let (rows, invoices) = (stage.rows("Account"), stage.rows("Invoice__c"));
    let ids = stage.ids("Account", 6);
    stage.save("Account", &ids[..2], "AccountNumber", "before");
    holds(&stage, "Account", rows + 2).await;

    front.becomes(Habit::Says(503, "{}"));
    let org = stage.simulator.org();
    org.add_field("Account", FieldDef::new("Region__c", FieldType::String)).unwrap();
    let change = |id| Change::Update {
        object: "Account".to_owned(),
        id,
        fields: vec![("Region__c".to_owned(), Cell::text("north"))],
    };
    let changes = ids[2..5].iter().copied().map(change).collect();
    org.commit(Transaction { changes, ..Transaction::default() }).unwrap();
    running.says("object=Account code=\"registry-unavailable\"").await;
    // Others go on meanwhile, and what is saved now waits too.
    let other = stage.ids("Invoice__c", 1);
    stage.save("Invoice__c", &other, "Remarks__c", "saved while the registry was away");
    holds(&stage, "Invoice_c", invoices + 1).await;
    stage.save("Account", &ids[5..6], "AccountNumber", "saved while the registry was away");
    assert_eq!(read_committed(&stage.topic("Account")).len() as u64, rows + 2, "nothing by an old schema");

    front.becomes(Habit::Open);
    holds(&stage, "Account", rows + 6).await;
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": rows, "U": 6}), "{report}");
    let subject = format!("{}-value", stage.topic("Account"));
    let versions = reqwest::get(format!("{}/subjects/{subject}/versions", registry_url())).await.unwrap();
    assert_eq!(versions.json::<Value>().await.unwrap(), json!([1, 2]));
    stage.equals_the_org("Invoice__c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_this_user_stops_the_objects_with_what_to_do() {
    let front = Front::new(Habit::Says(401, r#"{"error_code":40101,"message":"Unauthorized"}"#)).await;
    let stage = front.stage("[ Account ]").await;
    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1));
    let cross = "✗ schema registry: subjects: the schema registry answers 401 Unauthorized\n  hint: check `schema_registry.username`";
    assert!(report.contains(cross), "{report}");
    let words = stage.fails(1).await;
    assert!(words.contains("\nerror[registry-refused]: subject "), "{words}");
    assert!(
        words.contains("\nhint: check `schema_registry.username` and `password` (or `token`)"),
        "{words}"
    );
    let (code, report, _) = stage.run(&["schemas", "--check"]).await;
    assert_eq!(code, Some(1), "{report}");

    front.becomes(Habit::Says(404, "<html>nothing here</html>"));
    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1));
    assert!(report.contains("Apicurio's below `/apis/ccompat/v7`"), "{report}");
    front.becomes(Habit::Open);
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
}

/// Of a subject and all its versions, as if it had never been there.
async fn forget(subject: &str) {
    for query in ["", "?permanent=true"] {
        let url = format!("{}/subjects/{subject}{query}", registry_url());
        reqwest::Client::new().delete(url).send().await.unwrap();
    }
    let gone = reqwest::get(format!("{}/subjects/{subject}/versions", registry_url())).await.unwrap();
    assert_eq!(gone.status(), 404, "{subject}");
}

fn subject(stage: &Stage, target: &str, part: &str) -> String {
    format!("{}-{part}", stage.topic(target))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_asks_the_registry_one_question_and_again_before_the_first_record_of_an_object() {
    let front = Front::new(Habit::Open).await;
    let stage = front.stage("[ Account, Invoice__c ]").await;
    stage.completes().await;
    assert!(front.asked().len() >= 4, "keys and values of both");
    let lookup = |target, part| format!("POST subjects/{}", subject(&stage, target, part));
    let (account, invoice) = (lookup("Account", "value"), lookup("Invoice_c", "value"));
    let words = stage.completes().await;
    let asked = front.asked();
    assert!(asked == [account.clone()] || asked == [invoice.clone()], "{asked:?}");
    assert!(!words.contains("WARN the registry"), "{words}");

    stage.save("Account", &stage.ids("Account", 1), "AccountNumber", "saved while nobody ran");
    stage.simulator.org().clock().advance(Duration::from_secs(60));
    stage.completes().await;
    // Whichever object comes first asks the one question.
    let asked = front.asked();
    let with = |question: &String| {
        let mut all = vec![lookup("Account", "key"), account.clone(), question.clone()];
        all.sort();
        all
    };
    assert!(asked == with(&account) || asked == with(&invoice), "{asked:?}");
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": stage.rows("Account"), "U": 1}), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_was_emptied_is_met_at_a_restart_though_there_is_nothing_to_write() {
    let front = Front::new(Habit::Open).await;
    let stage = front.stage("[ Account, Invoice__c ]").await;
    stage.completes().await;
    for (target, part) in
        [("Account", "key"), ("Account", "value"), ("Invoice_c", "key"), ("Invoice_c", "value")]
    {
        forget(&subject(&stage, target, part)).await;
    }
    stage.rewrite("schema_registry: {", "schema_registry: { auto_register: false, ");
    let words = stage.fails(1).await;
    assert!(words.contains("was emptied, or it is another one"), "{words}");
    assert!(words.contains("error[registry-refused]: objects "), "{words}");
    assert!(words.contains(" is not there, and auto_register is false"), "{words}");
    // Registered anew the keys would have other ids, and go to other partitions.
    stage.rewrite("auto_register: false, ", "");
    let words = stage.fails(1).await;
    assert!(words.contains("hint: use the registry that the topic was written with"), "{words}");
    for (object, target) in [("Account", "Account"), ("Invoice__c", "Invoice_c")] {
        assert_eq!(read_committed(&stage.topic(target)).len() as u64, stage.rows(object));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_subject_lost_is_registered_again_before_the_first_record_whichever_subject_was_asked_for() {
    let front = Front::new(Habit::Open).await;
    let stage = front.stage("[ Account, Invoice__c ]").await;
    stage.completes().await;
    for (lost, saved, field) in
        [("Account", "Account", "AccountNumber"), ("Invoice_c", "Invoice__c", "Remarks__c")]
    {
        forget(&subject(&stage, lost, "value")).await;
        stage.save(saved, &stage.ids(saved, 1), field, "saved while nobody ran");
        stage.simulator.org().clock().advance(Duration::from_secs(60));
        stage.completes().await;
        let url = format!("{}/subjects/{}/versions/latest", registry_url(), subject(&stage, lost, "value"));
        let newest = reqwest::get(url).await.unwrap().json::<Value>().await.unwrap();
        let records = read_committed(&stage.topic(lost));
        let text = b"saved while nobody ran";
        let is_new = |value: &&Vec<u8>| value.windows(text.len()).any(|part| part == text);
        let value = records.iter().filter_map(|record| record.value.as_ref()).find(is_new).unwrap();
        let id = u64::from(u32::from_be_bytes(value[1..5].try_into().unwrap()));
        assert_eq!(newest["id"].as_u64(), Some(id));
        // The schema of the records before it is gone with the subject: nobody can judge them any more.
        assert_eq!(records.len() as u64, stage.rows(saved) + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_registry_that_gives_keys_other_ids_gets_no_record() {
    let front = Front::new(Habit::Open).await;
    let stage = front.stage("[ Account ]").await;
    stage.completes().await;
    let records = read_committed(&stage.topic("Account")).len();
    front.becomes(Habit::OtherIds(1_000_000));
    stage.save("Account", &stage.ids("Account", 1), "AccountNumber", "saved while nobody ran");
    stage.simulator.org().clock().advance(Duration::from_secs(60));
    let words = stage.fails(1).await;
    assert!(words.contains("was emptied, or it is another one"), "{words}");
    assert!(words.contains("error[registry-refused]: topic "), "{words}");
    assert!(words.contains("hint: use the registry that the topic was written with"), "{words}");
    assert_eq!(read_committed(&stage.topic("Account")).len(), records);
    front.becomes(Habit::Open);
    stage.completes().await;
    stage.equals_the_org("Account").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_read_while_the_registry_is_away_is_written_once_when_it_answers() {
    let front = Front::new(Habit::Open).await;
    let stage = front.stage("[ Account ]").await;
    stage.completes().await;
    let rows = stage.rows("Account");
    front.asked();
    let mut running = stage.start(&["run"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while front.asks.lock().unwrap().seen.is_empty() {
        assert!(Instant::now() < deadline, "it asks whether the registry is as before");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    front.becomes(Habit::Says(503, "{}"));
    let ids = stage.ids("Account", 2);
    stage.save("Account", &ids[..1], "AccountNumber", "read while the registry was away");
    running.says("object=Account code=\"registry-unavailable\"").await;
    stage.save("Account", &ids[1..], "AccountNumber", "saved while the registry was away");
    assert_eq!(read_committed(&stage.topic("Account")).len() as u64, rows, "nothing by an id not told again");
    front.becomes(Habit::Open);
    holds(&stage, "Account", rows + 2).await;
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": rows, "U": 2}), "{report}");
}
