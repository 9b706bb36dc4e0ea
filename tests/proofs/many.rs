//! A thousand objects in one configuration: what a first start asks about them, and that a restart serves from what is
//! pinned.
//!
//! The simulator's own counters are the judge of the calls. How soon a restart serves is the bench `restart`'s to show; here
//! it is said.

use std::time::{Duration, Instant};

use serde_json::Value;
use simulator::org::{Change, OrgConfig, ScanRange, Transaction};

use crate::stage::{Stage, seed};

const OBJECTS: u16 = 1_000;
/// Far beyond what is promised: a record that did not come.
const PATIENCE: Duration = Duration::from_secs(60);

async fn counted(stage: &Stage) -> Value {
    let url = format!("{}/counters", stage.simulator.control_url());
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

fn of_kind(counters: &Value, kind: &str) -> u64 {
    counters["byKind"][kind].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_thousand_objects_describes_none_and_serves() {
    let org = OrgConfig::default().with_seed(seed()).with_custom_objects(OBJECTS);
    let stage = Stage::new(org, "[ 'Bulk*__c' ]", "capture: poll", "").await;
    stage.rewrite("topics: { partitions: 3 }", "topics: { partitions: 1 }");
    // What changed within the last two seconds may change again with the same stamp.
    stage.simulator.org().clock().advance(Duration::from_secs(60));
    let began = Instant::now();
    stage.start(&["run", "--once"]).ends_well(Duration::from_secs(900)).await;
    let first = counted(&stage).await;
    let describes = of_kind(&first, "describe");
    eprintln!(
        "{OBJECTS} objects loaded by {} calls in {:?}, {describes} describes",
        first["calls"],
        began.elapsed()
    );
    assert_eq!(describes, u64::from(OBJECTS), "each object once");

    // One record of one object is saved while nobody runs.
    let object = "Bulk0500__c";
    let rows = stage.simulator.org().snapshot().scan(object, ScanRange::in_id_order()).unwrap();
    let id = rows.map(|row| row.id()).next().unwrap();
    let changes = vec![Change::Touch { object: object.to_owned(), id }];
    stage.simulator.org().commit(Transaction { changes, ..Transaction::default() }).unwrap();
    stage.simulator.org().clock().advance(Duration::from_secs(10));
    let follower = stage.follower("Bulk0500_c");

    let began = Instant::now();
    let running = stage.start(&["run"]);
    // The simulator goes on beside this thread.
    assert!(follower.sees_one(PATIENCE), "words: {}", stage.words());
    let served = began.elapsed();
    let second = counted(&stage).await;
    eprintln!("a restart serves after {served:?}");
    assert_eq!(of_kind(&second, "describe"), describes, "the pinned descriptions serve");
    running.stop(Duration::from_secs(60)).await;
}
