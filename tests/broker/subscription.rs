//! Following by subscription on the real broker: what a person reads when a stretch was missed, and that nothing is.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::org::{Change, Transaction};

use crate::stage::{Setup, Stage};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the position of an object names a replay id.
async fn has_a_replay_id(stage: &Stage, object: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, data, words) = stage.run(&["offsets", "show", object, "--output", "json"]).await;
        let position: Value = serde_json::from_str(&data).unwrap_or_else(|_| panic!("{data}{words}"));
        if position["replay_id"].is_string() {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{position}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_past_the_retention_nothing_is_missing_and_two_lines_tell() {
    let setup = Setup::new("[ { name: Account, capture: subscribe } ]");
    let stage = Stage::of(Setup { rows: &[("Account", 300)], ..setup }).await;
    stage.control("pubsub/selection", json!({"select": ["Account"]})).await;
    stage.control("pubsub/settings", json!({"keepaliveSeconds": 1})).await;
    let mut running = stage.start(&["run"]);
    running.says("full load complete object=Account").await;
    let ids = stage.ids("Account", 40);
    stage.save("Account", &ids[..10], "Name", "before");
    has_a_replay_id(&stage, "Account").await;
    assert_eq!(running.stop().await.0, Some(0));

    let org = stage.simulator.org();
    stage.save("Account", &ids[10..20], "Name", "missed");
    let gone = |hard: bool| {
        move |id: &simulator::org::Id| match hard {
            true => Change::hard_delete("Account", *id),
            false => Change::Delete { object: "Account".to_owned(), id: *id },
        }
    };
    let mut changes: Vec<Change> = ids[20..25].iter().map(gone(false)).collect();
    changes.extend(ids[25..30].iter().map(gone(true)));
    changes.push(Change::Insert { object: "Account".to_owned(), fields: Vec::new(), id: None, fill: true });
    org.commit(Transaction { changes, ..Transaction::default() }).unwrap();
    stage.control("pubsub/settings", json!({"retentionSeconds": 60})).await;
    org.clock().advance(Duration::from_secs(4 * 24 * 3_600));
    stage.save("Account", &ids[30..31], "Name", "long after");

    let mut running = stage.start(&["run"]);
    running.says("all of the stretch is published object=Account").await;
    let (code, words) = running.stop().await;
    assert_eq!(code, Some(0), "{words}");
    let told: Vec<&str> = words.lines().filter(|line| line.contains("object=Account")).collect();
    let [found, repaired] = told.as_slice() else { panic!("{words}") };
    assert!(found.contains("WARN") && found.contains("replay-id-expired"), "{found}");
    assert!(found.contains("a stretch of changes is read again") && found.contains("from=20"), "{found}");
    assert!(repaired.contains("INFO") && repaired.contains("records="), "{repaired}");
    stage.completes().await;
    let report = stage.equals_the_org("Account").await;
    assert_eq!(report["operations"], json!({"R": 300, "U": 21, "D": 10, "I": 1}), "{report}");
    assert_eq!(report["repeats"], json!({}), "{report}");
}
