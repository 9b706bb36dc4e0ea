//! Bytes of binary fields on the real broker and registry: equal to the org's as another library reads them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use simulator::org::{Change, Id, Transaction, Value as Cell};

use crate::services::{bootstrap, read_committed, registry_url, variable};
use crate::stage::{Setup, Stage};

const PATIENCE: Duration = Duration::from_secs(90);
const FILES: &str = "[ Attachment, { name: AllTypes__c, capture: subscribe } ]";

fn set(object: &str, field: &str, id: Id, bytes: &[u8]) -> Change {
    let fields = vec![(field.to_owned(), Cell::text(STANDARD.encode(bytes)))];
    Change::Update { object: object.to_owned(), id, fields }
}

fn save(stage: &Stage, changes: Vec<Change>) {
    stage.simulator.org().commit(Transaction { changes, ..Transaction::default() }).unwrap();
}

/// What the org answered so far: calls for bytes.
async fn fetched(stage: &Stage) -> u64 {
    let url = format!("{}/counters", stage.simulator.control_url());
    let counters: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    counters["byKind"]["blob"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_blobs_equal_the_org_and_are_fetched_once_also_across_a_kill() {
    let rows = &[("Attachment", 300), ("AllTypes__c", 60)];
    let stage = Stage::of(Setup { rows, ..Setup::new(FILES) }).await;
    stage.rewrite("defaults: {", "defaults: { blobs: include,");
    stage.control("pubsub/selection", json!({"select": ["AllTypes__c"]})).await;
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    let mut running = stage.start(&["run"]);
    for object in ["Attachment", "AllTypes__c"] {
        running.says(&format!("full load complete object={object}")).await;
    }
    for object in ["Attachment", "AllTypes__c"] {
        stage.holds_each_row_once(object).await;
    }
    let loaded = fetched(&stage).await;
    assert!(loaded <= 360, "{loaded}");

    let changed = [("Attachment", "Body"), ("AllTypes__c", "Blob__c")];
    for (object, field) in changed {
        let ids = stage.ids(object, 20);
        save(&stage, ids.iter().map(|id| set(object, field, *id, &[0xff, 0, 1, 2])).collect());
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for (object, _) in changed {
        while let Err(why) = stage.judged(object).await {
            assert!(tokio::time::Instant::now() < deadline, "{object}: {why}");
        }
    }
    drop(running);
    let before = fetched(&stage).await;
    assert_eq!(before, loaded + 40, "a call for each that is published");
    stage.completes().await;
    for (object, _) in changed {
        let report = stage.judged(object).await.unwrap();
        assert_eq!(report["operations"]["U"], json!(20), "{report}");
    }
    assert_eq!(fetched(&stage).await, before, "what was published is not fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_become_bytes_go_on_under_a_new_name_and_all_rows_are_loaded() {
    let stage = Stage::of(Setup { rows: &[("Attachment", 40)], ..Setup::new("[ Attachment ]") }).await;
    stage.rewrite("defaults: {", "defaults: { blobs: reference,");
    stage.completes().await;
    stage.rewrite("blobs: reference", "blobs: include");
    let words = stage.completes().await;
    assert!(words.contains("all records are loaded anew"), "{words}");
    let topic = stage.topic("Attachment");
    assert_eq!(read_committed(&topic).len() as u64, 2 * stage.rows("Attachment"));
    let (topic, truth) = (topic.as_str(), format!("{}/truth/Attachment", stage.simulator.control_url()));
    let mut command = std::process::Command::new(variable("SF2KAFKA_PYTHON"));
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/verify_topic.py"))
        .args(["--bootstrap", &bootstrap(), "--registry", &registry_url()])
        .args(["--topic", topic, "--truth", &truth, "--leave-out", "Body", "--source", "Body_2", "Body"])
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_no_record_holds_goes_to_the_dead_letters_with_its_path() {
    let stage = Stage::of(Setup { rows: &[("Attachment", 30)], ..Setup::new("[ Attachment ]") }).await;
    stage.rewrite("defaults: {", "defaults: { blobs: include,");
    let ids = stage.ids("Attachment", 3);
    // One that no record holds, one that fits with its bytes alone and not as a record, one that just fits.
    for (id, bytes) in [(ids[0], 3_000_000), (ids[1], 999_480), (ids[2], 990_000)] {
        save(&stage, vec![set("Attachment", "Body", id, &vec![7; bytes])]);
    }
    let rows = stage.rows("Attachment");
    let (code, plan, words) = stage.run(&["check", "--plan", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{plan}{words}");
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let planned = &plan["plan"]["objects"][0];
    assert_eq!(planned["load_calls"], json!(rows + 1), "{planned}");
    assert!(planned["load_note"].as_str().unwrap().starts_with("the bytes of Body: a call"), "{planned}");
    stage.completes().await;
    assert_eq!(fetched(&stage).await, rows);
    assert_eq!(read_committed(&stage.topic("Attachment")).len() as u64, rows - 2);
    let letters = read_committed(&format!("{}.dead-letters", stage.name));
    let mut letters: Vec<Value> = letters
        .iter()
        .map(|letter| serde_json::from_slice(letter.value.as_deref().unwrap()).unwrap())
        .collect();
    letters.sort_by_key(|letter| letter["id"].as_str().unwrap().to_owned());
    assert_eq!(letters.len(), 2, "{letters:?}");
    for (letter, id) in letters.iter().zip(&ids) {
        assert_eq!((&letter["id"], &letter["error"]), (&json!(id.as_str()), &json!("record-too-large")));
        let path = format!("/sobjects/Attachment/{}/Body", id.as_str());
        assert!(letter["record"]["Body"].as_str().unwrap().ends_with(&path), "{letter}");
    }
    let reason = "object Attachment: field Body: more than the 999488 bytes of a record";
    assert_eq!(letters[0]["reason"], json!(reason));
}
