//! The commands as a person types them, against the simulator, a real broker and a real registry.

use std::process::Command;
use std::time::{Duration, Instant};

use simulator::org::{Change, Transaction, Value};

use crate::json_schema::{misfits, of_key};
use crate::services::{bootstrap, read_committed, topics};
use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn check_run_once_and_offsets_tell_the_same_story() {
    let stage = Stage::new("[ Account, Invoice__c ]").await;
    let (code, _, words) = stage.run(&["offsets", "list"]).await;
    assert_eq!(code, Some(1));
    assert!(words.starts_with("error[topic-missing]: pipeline "), "{words}");

    let (code, report, words) = stage.run(&["check"]).await;
    assert_eq!(code, Some(0), "{report}{words}");
    assert!(report.lines().all(|line| line.starts_with("✓ ")), "{report}");
    assert!(report.contains("✓ topics: 0 of 5 are there, a run makes the others\n"), "{report}");

    let (code, data, words) = stage.run(&["run", "--once"]).await;
    assert_eq!((code, data.as_str()), (Some(0), ""), "{words}");
    let live = stage.simulator.org().truth_rows("Invoice__c").unwrap().count();
    assert_eq!(read_committed(&stage.topic("Invoice_c")).len(), live);

    let (code, list, _) = stage.run(&["offsets", "list"]).await;
    assert_eq!(code, Some(0));
    let states: Vec<Vec<&str>> =
        list.lines().skip(1).map(|line| line.split_whitespace().take(3).collect()).collect();
    assert_eq!(states, [["Account", "live", "poll"], ["Invoice__c", "live", "poll"]]);
    let (code, json, _) = stage.run(&["offsets", "show", "invoice__C", "--output", "json"]).await;
    assert_eq!(code, Some(0));
    let position: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&position["version"], &position["load"]["rows"]), (&1.into(), &live.into()));

    // A second run finds nothing new, and publishes nothing again.
    let before = read_committed(&stage.topic("Account")).len();
    let (code, _, words) = stage.run(&["run", "--once"]).await;
    assert_eq!(code, Some(0), "{words}");
    assert_eq!(read_committed(&stage.topic("Account")).len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_says_why_vote_cannot_be_captured_and_run_refuses_it() {
    let stage = Stage::new("[ Account, Vote ]").await;
    let (code, json, words) = stage.run(&["discover", "--object", "Vote", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{words}");
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&found[0]["object"], &found[0]["capture"]), (&"Vote".into(), &"unsupported".into()));
    assert!(found[0]["reason"].as_str().unwrap().contains("only with a filter by ParentId"), "{json}");

    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1));
    assert!(
        report.contains("✗ object Vote: /")
            && report.contains(".yaml:7:21: ")
            && report.contains("✓ object Account: "),
        "{report}"
    );
    let (code, _, words) = stage.run(&["run", "--once"]).await;
    assert_eq!(code, Some(2), "{words}");
    let report = format!(
        "error[config-invalid]: {}:7:21: object Vote cannot be captured: Salesforce answers queries on it only with a filter by \
         ParentId, Parent.Type or Id, so it cannot be read as a whole\n  now: the program stops\nhint: take Vote out of `objects`\n",
        stage.file()
    );
    assert!(words.ends_with(&report), "{words}");
    assert_eq!(topics(&stage.name), [""; 0], "nothing was made");
    stage.rewrite("Account, Vote", "Account");
    stage.completes().await;
    stage.holds_each_row_once("Account").await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_commits_what_was_captured_and_ends_with_zero() {
    let stage = Stage::new("[ Account ]").await;
    let child = stage.command(&["run"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let topic = stage.topic("Account");
    let count = {
        let topic = topic.clone();
        move || read_committed(&topic).len()
    };
    let org = stage.simulator.org().clone();
    let rows = org.truth_rows("Account").unwrap().count();
    let deadline = Instant::now() + Duration::from_secs(60);
    // The topic is made by the run: before that there is nothing to read.
    let is_there = |topic: &str| {
        let consumer: rdkafka::consumer::BaseConsumer =
            rdkafka::ClientConfig::new().set("bootstrap.servers", bootstrap()).create().unwrap();
        let metadata =
            rdkafka::consumer::Consumer::fetch_metadata(&consumer, None, Duration::from_secs(10)).unwrap();
        metadata.topics().iter().any(|known| known.name() == topic)
    };
    while !is_there(&topic) || count() < rows {
        assert!(Instant::now() < deadline, "the load arrives");
    }
    let name = ("Name".to_owned(), Value::text("made while it ran"));
    let insert = Change::Insert { object: "Account".to_owned(), fields: vec![name], id: None, fill: true };
    org.commit(Transaction { changes: vec![insert], ..Transaction::default() }).unwrap();
    while count() < rows + 1 {
        assert!(Instant::now() < deadline, "the change arrives");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let stopped = Instant::now();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(stopped.elapsed() < Duration::from_secs(10), "the group's leave waits for nobody");
    assert!(words.contains("stopping: what is captured is committed first"), "{words}");

    let (code, list, _) = stage.run(&["offsets", "list"]).await;
    assert_eq!(code, Some(0));
    assert!(list.lines().any(|line| line.starts_with("Account  live")), "{list}");

    // Every control record is what `schemas/control` says.
    let mut kinds = std::collections::BTreeSet::new();
    for record in read_committed(&format!("{}.control", stage.name)) {
        let key = String::from_utf8(record.key).unwrap();
        kinds.insert(key.split('/').next().unwrap().to_owned());
        let Some(value) = record.value else { continue };
        let misfits = misfits(&of_key(&key), &serde_json::from_slice(&value).unwrap());
        assert_eq!(misfits, [""; 0], "{key}");
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["budget", "description", "layout", "ledger", "position", "schema"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn discover_and_check_tell_whose_changes_can_be_subscribed_to() {
    let stage = Stage::new("[ Account, { name: WebCart, capture: subscribe } ]").await;
    stage.rewrite("capture: poll, poll", "capture: auto, poll");
    let found = async |object: &str| {
        let (code, json, words) = stage.run(&["discover", "--object", object, "--output", "json"]).await;
        assert_eq!(code, Some(0), "{words}");
        let found: serde_json::Value = serde_json::from_str(&json).unwrap();
        let text = |key: &str| found[0][key].as_str().unwrap().to_owned();
        (text("capture"), text("reason"))
    };
    let on = ("subscribe".to_owned(), "Change Data Capture is switched on for it".to_owned());
    assert_eq!(found("Account").await, on);
    let off = "polled by SystemModstamp: Change Data Capture is not switched on for it";
    assert_eq!(found("WebCart").await, ("poll".to_owned(), off.to_owned()));

    let (code, report, _) = stage.run(&["check"]).await;
    assert_eq!(code, Some(1), "{report}");
    let refused = "✗ Pub/Sub: object WebCart is not switched on for Change Data Capture\n  hint: ";
    assert!(report.contains(refused), "{report}");
    stage.rewrite(", { name: WebCart, capture: subscribe }", "");
    let (code, report, words) = stage.run(&["check"]).await;
    assert_eq!(code, Some(0), "{report}{words}");
    assert!(report.contains(" answers, 1 of 1 objects are switched on\n"), "{report}");
}
