//! Crashes at random moments of a load with changes going on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use simulator::org::{OrgConfig, Traffic, TrafficConfig};

use crate::stage::{Draw, Stage, seed};

const KILLS: usize = 20;
const ROWS: u64 = 300_000;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_during_a_load_lose_nothing_and_repeat_nothing() {
    let seed = seed();
    eprintln!("seed {seed}");
    let org = OrgConfig::default().with_seed(seed).with_rows("Account", ROWS);
    // Who comes back under the same name need not wait until the group gives up the one that was killed.
    let kafka = "properties: { group.instance.id: proof }";
    let stage = Stage::new(
        org,
        // An account's new name shows in a formula of its invoices, whose stamps do not move: that is not followed.
        "[ Account, { name: Invoice__c, fields: { exclude: [ Account_Name__c ] } } ]",
        "capture: poll, poll: { interval: 1s, max_interval: 1s }",
        kafka,
    )
    .await;
    // Small pages that take their time: most kills shall fall into the load.
    let control = |path: &str, body: serde_json::Value| {
        reqwest::Client::new().post(format!("{}/{path}", stage.simulator.control_url())).json(&body).send()
    };
    control("settings", serde_json::json!({ "bulkPageCap": 2_000 })).await.unwrap();
    let slow = serde_json::json!({ "method": "GET", "contains": "/results", "action": { "delay": { "millis": 120 } } });
    assert!(control("faults", slow).await.unwrap().status().is_success());

    let stop = Arc::new(AtomicBool::new(false));
    let traffic = {
        let config = TrafficConfig {
            seed,
            objects: vec!["Account".to_owned(), "Invoice__c".to_owned()],
            ..TrafficConfig::default()
        };
        let mut traffic = Traffic::new(stage.simulator.org(), config).unwrap();
        let stop = stop.clone();
        std::thread::spawn(move || traffic.run_for(50.0, Duration::from_secs(3_600), &stop))
    };
    let mut draw = Draw(seed);
    let (mut kills, mut too_early, mut while_loading) = (0, 0, 0);
    while kills < KILLS {
        let running = stage.start(&["run"]);
        // Nothing is waited for here: the moment of the kill is the test.
        tokio::time::sleep(Duration::from_millis(300 + draw.below(2_200))).await;
        running.kill().await;
        match stage.position("Account").await {
            Some(position) => {
                kills += 1;
                while_loading += usize::from(position["state"] == "loading");
            }
            // What was committed once stays; until then the program was killed before it began.
            None => {
                too_early += 1;
                assert!(kills == 0 && too_early <= KILLS, "no position after {kills} kills with one");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    let changes = traffic.join().unwrap();
    eprintln!(
        "{kills} kills, {while_loading} of them while loading, {too_early} before the first commit, {changes} changes"
    );
    assert!(while_loading >= KILLS / 2, "only {while_loading} kills fell into the load");
    let deleted = serde_json::json!({ "advanceSeconds": 900 });
    for _ in 0..2 {
        control("clock", deleted.clone()).await.unwrap();
        stage.start(&["run", "--once"]).ends_well(Duration::from_secs(300)).await;
    }
    for (object, target) in [("Account", "Account"), ("Invoice__c", "Invoice_c")] {
        stage.judge_exactly_once(object, target).await;
    }
}
