//! A login that is kept in the control topic: shared by instances, rotated once at a time, readable with the key only.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use sf2kafka::publish::token::TokenTopic;
use sf2kafka::publish::topics::ensure_control;

use crate::json_schema::{misfits, of_key};
use crate::services::{bootstrap, ends, read_committed, settings, topics, unique};
use crate::stage::{Setup, Stage};

/// Longer than anything takes that is waited for, on a machine busy with a build.
const PATIENCE: Duration = Duration::from_secs(120);
const LOST: &str = "was interrupted before its answer was stored, and what it gave is lost";

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SEED: &str = "5AepSimulatorRefreshToken";

async fn stage() -> Stage {
    rotating(Stage::new("[ Account ]").await).await
}

async fn rotating(stage: Stage) -> Stage {
    stage.control("logins/app", json!({"rotation": true})).await;
    stage.rewrite(
        "auth: client-credentials,",
        &format!("auth: refresh-token, refresh_token: {SEED}, token_store: kafka, token_key: '{KEY}',"),
    );
    stage
}

async fn ask(stage: &Stage, what: &str) -> Value {
    let url = format!("{}/{what}", stage.simulator.control_url());
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

async fn refreshes(stage: &Stage) -> u64 {
    ask(stage, "logins").await["refreshes"].as_u64().unwrap()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The newest turn of a pipeline, and where it stands.
fn turn(name: &str) -> (i32, Value) {
    let key = format!("turn/{name}");
    let records = read_committed(&format!("{name}.control"));
    let newest = records.into_iter().rfind(|record| record.key == key.as_bytes()).unwrap();
    (newest.partition, serde_json::from_slice(&newest.value.unwrap()).unwrap())
}

/// Another instance says this about the turn.
fn say(name: &str, partition: i32, turn: &Value) {
    put(name, partition, &format!("turn/{name}"), Some(&turn.to_string()));
}

fn put(name: &str, partition: i32, key: &str, value: Option<&str>) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", bootstrap()).create().unwrap();
    let topic = format!("{name}.control");
    let mut record = BaseRecord::to(&topic).partition(partition).key(key);
    record.payload = value;
    producer.send(record).unwrap();
    producer.flush(Duration::from_secs(60)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_the_control_topic_is_shared_sealed_and_does_not_disturb_the_shards() {
    let stage = stage().await;
    let (code, data, words) = stage.run(&["login"]).await;
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(topics(&stage.name), [format!("{}.control", stage.name)], "a login makes no other topic");
    assert!(
        data.contains(&format!("kept in topic {}.control, sealed with the token key", stage.name)),
        "{data}"
    );
    stage.completes().await;
    stage.equals_the_org("Account").await;
    assert_eq!(refreshes(&stage).await, 1, "the run went on with the session that was kept");
    let (code, report, words) = stage.run(&["check"]).await;
    assert_eq!(code, Some(0), "{report}\n{words}");
    assert!(report.contains("✓ login: "), "{report}");

    let records = sf2kafka::publish::read_control(&settings(&stage.name, 2)).await.unwrap();
    let mut kinds = Vec::new();
    for record in &records {
        let text = String::from_utf8_lossy(&record.value);
        assert!(!text.contains("5Aep") && !text.contains("refresh_token"), "{}: {text}", record.key);
        if record.key.starts_with('t') {
            kinds.push(record.key.clone());
            assert_eq!(misfits(&of_key(&record.key), &serde_json::from_str(&text).unwrap()), [""; 0]);
        }
    }
    kinds.sort();
    assert_eq!(kinds, [format!("token/{}", stage.name), format!("turn/{}", stage.name)]);

    stage.rewrite(KEY, &KEY.replace("00112233", "99999999"));
    let (code, _, words) = stage.run(&["login"]).await;
    assert_eq!(code, Some(1));
    assert!(
        words.contains("error[token-store-failed]") && words.contains("sealed with another key"),
        "{words}"
    );
    assert!(words.contains("give all instances the same `salesforce.token_key_file`"), "{words}");

    // The key is lost: a record without a value takes the login away, and the configuration's token is all there is.
    let token = records.iter().find(|record| record.key.starts_with("token/")).unwrap();
    put(&stage.name, token.partition, &token.key, None);
    let (code, _, words) = stage.run(&["login"]).await;
    assert_eq!(code, Some(1));
    assert!(words.contains("error[login-needed]"), "the first token was used up long ago: {words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_instances_that_meet_an_expired_session_one_refreshes_and_the_others_use_what_it_got() {
    let stage = stage().await;
    let (code, _, words) = stage.run(&["login"]).await;
    assert_eq!(code, Some(0), "{words}");
    for round in 1..=3 {
        stage.control("sessions/expire", json!({})).await;
        // The refresh takes its time, so that the others come while it is under way.
        stage.control("logins/pause", json!({"beforeMillis": 200, "afterMillis": 200})).await;
        let instances = (0..4).map(|_| stage.run(&["discover", "--object", "Account"]));
        for (code, _, words) in futures_util::future::join_all(instances).await {
            assert_eq!(code, Some(0), "{words}");
        }
        assert_eq!(refreshes(&stage).await, 1 + round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_share_a_login_that_rotates_and_the_data_is_complete() {
    // Of two shards, so that each run has one of them to do.
    let rows = &[("Account", 300), ("Contact", 40)];
    let stage = rotating(Stage::of(Setup { rows, ..Setup::new("[ Account, Contact ]") }).await).await;
    let mut runs = [stage.start(&["run"]), stage.start(&["run"])];
    for run in &mut runs {
        run.says("status server listens address=").await;
    }
    let published = |object: &str| ends(&stage.topic(object), 2, "read_committed").iter().sum::<i64>();
    for (object, rows) in rows {
        until("the topic", async || topics(&stage.name).contains(&stage.topic(object))).await;
        until("the load", async || published(object) >= i64::try_from(*rows).unwrap()).await;
    }
    for round in 1..=8 {
        let before = rows.map(|(object, _)| published(object));
        stage.control("sessions/expire", json!({})).await;
        // Saved after that, so that only a new session reads it.
        for (object, _) in rows {
            let id = stage.ids(object, 40)[round];
            stage.save(object, &[id], "Description", "saved while the login was refreshed");
        }
        for ((object, _), before) in rows.iter().zip(before) {
            until("what was saved", async || published(object) > before).await;
        }
        assert_eq!(refreshes(&stage).await, 1 + u64::try_from(round).unwrap(), "one refresh for both");
    }
    for run in runs {
        let (code, words) = run.stop().await;
        assert_eq!(code, Some(0), "{words}");
    }
    stage.completes().await;
    for (object, _) in rows {
        stage.equals_the_org(object).await;
    }
    let logins = ask(&stage, "logins").await;
    assert!(logins["grants"].as_array().unwrap().iter().all(|grant| grant["active"] == true), "{logins:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_the_mark_and_the_answer_is_said_by_the_next_instance() {
    let stage = stage().await;
    let (code, _, words) = stage.run(&["login"]).await;
    assert_eq!(code, Some(0), "{words}");
    stage.control("sessions/expire", json!({})).await;
    let before = ask(&stage, "logins/requests").await.as_array().unwrap().len();
    stage.control("logins/hold", json!({"at": "reply"})).await;
    let killed = stage.start(&["discover", "--object", "Account"]);
    until("the exchange", async || ask(&stage, "logins/requests").await[before]["effectAt"].is_number())
        .await;
    drop(killed);
    let url = format!("{}/logins/hold", stage.simulator.control_url());
    reqwest::Client::new().delete(url).send().await.unwrap();
    until("an idle grant", async || {
        let logins = ask(&stage, "logins").await;
        logins["grants"].as_array().unwrap().iter().all(|grant| grant["busy"] == false)
    })
    .await;
    // The turn of the dead instance; nobody waits here until its time is up.
    let (partition, held) = turn(&stage.name);
    assert!(held["done"].is_null(), "{held}");
    say(&stage.name, partition, &json!({"version": 1, "owner": held["owner"], "done": true}));
    let (code, _, words) = stage.run(&["discover", "--object", "Account"]).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("error[login-needed]") && words.contains(LOST), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_control_partitions_is_refused_before_a_token_is_sent() {
    let stage = stage().await;
    let (code, _, words) = stage.run(&["login"]).await;
    assert_eq!(code, Some(0), "{words}");
    stage.rewrite("control: { partitions: 2 }", "control: { partitions: 3 }");
    for command in [&["discover", "--object", "Account"][..], &["check"], &["login"]] {
        let (code, data, words) = stage.run(command).await;
        assert_eq!(code, Some(1), "{data}{words}");
        let said = format!("{data}{words}");
        assert!(said.contains("has 2 partitions where the configuration says 3"), "{command:?}: {said}");
    }
    assert_eq!(refreshes(&stage).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_turn_writes_nothing_and_ends_nobody_elses_turn() {
    let settings = settings(&unique("turns"), 2);
    ensure_control(&settings).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let topic = TokenTopic::new(&settings, Duration::from_secs(60));
        let mut stale = topic.claim("stale").unwrap();
        let (partition, held) = turn(&settings.name);
        say(&settings.name, partition, &json!({"version": 1, "owner": "other", "after": held["owner"]}));
        assert!(!stale.mark(b"mark").unwrap());
        assert_eq!(topic.read().unwrap(), None);
        // Its release is written, and does not count: who comes next waits for the other's.
        drop(stale);
        let next = std::thread::spawn({
            let topic = topic.clone();
            move || topic.claim("next").map(drop)
        });
        assert!(!next.is_finished());
        say(&settings.name, partition, &json!({"version": 1, "owner": "other", "done": true}));
        next.join().unwrap().unwrap();
        let records = read_committed(&topic.name());
        let said: Vec<Value> = records
            .iter()
            .filter(|record| record.key.starts_with(b"turn/"))
            .map(|record| serde_json::from_slice(record.value.as_ref().unwrap()).unwrap())
            .collect();
        let owners: Vec<&str> = said.iter().map(|said| said["owner"].as_str().unwrap()).collect();
        assert_eq!(owners, ["stale.1", "other", "stale.1", "other", "next.1", "next.1"], "{said:#?}");
    })
    .await
    .unwrap();
}
