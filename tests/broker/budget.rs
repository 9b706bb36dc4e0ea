//! Two instances of one pipeline and one budget: whatever dies and comes back, the simulator counts no call too many.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::services::read_committed;
use crate::stage::{Setup, Stage};

/// Half of what the org allows.
const BUDGET: u64 = 240;

async fn counted(stage: &Stage) -> u64 {
    let url = format!("{}/counters", stage.simulator.control_url());
    let counters: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    counters["calls"].as_u64().unwrap()
}

/// What the control topic says was spent or reserved, all shards together.
fn recorded(stage: &Stage) -> u64 {
    let mut newest = std::collections::BTreeMap::new();
    for record in read_committed(&format!("{}.control", stage.name)) {
        if record.key == b"budget" {
            newest.insert(record.partition, record.value.unwrap());
        }
    }
    let numbers = |value: &Vec<u8>| {
        let record: Value = serde_json::from_slice(value).unwrap();
        let spent = record["spent"].as_array().unwrap().iter();
        let spent = spent.flat_map(|piece| piece.as_object().unwrap().values().filter_map(Value::as_u64));
        record["reserved"].as_u64().unwrap() + spent.sum::<u64>()
    };
    newest.values().map(numbers).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_with_one_budget_stay_within_it_though_they_are_killed_again_and_again() {
    // Loads of a hundred pages each: more than the budget will ever let them read today.
    let rows =
        &[("Account", 4_000), ("Contact", 4_000), ("Case", 4_000), ("Lead", 4_000), ("Invoice__c", 4_000)];
    let setup = Setup { rows, ..Setup::new("[ Account, Contact, Case, Lead, Invoice__c ]") };
    let stage = Stage::of(setup).await;
    stage.control("settings", json!({"dailyLimit": 2 * BUDGET, "bulkPageCap": 40, "pageCap": 40})).await;
    stage.rewrite(", tls: false } }", ", tls: false }, budget: { daily_share: 0.5, per_second: 1000 } }");
    // Who comes back under the same name has its shard at once.
    let member = "control: { partitions: 2 }, properties: { group.instance.id: '${MEMBER}' } }";
    stage.rewrite("control: { partitions: 2 } }", member);
    let start = |member: &str| stage.start_with(&["run"], "MEMBER", member);
    let waits = "calls wait for the org's allowance";

    let (mut one, mut two) = (start("one"), start("two"));
    let mut seen = Vec::new();
    for life in 0..8 {
        one.says(waits).await;
        two.says(waits).await;
        seen.push(counted(&stage).await);
        // Killed, not asked to end: what it has reserved is lost.
        if life % 2 == 0 {
            drop(one);
            one = start("one");
        } else {
            drop(two);
            two = start("two");
        }
    }
    one.says(waits).await;
    two.says(waits).await;
    // Wherever they are in the day, a while changes nothing.
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let calls = counted(&stage).await;
        assert!(calls <= BUDGET, "{calls} of {BUDGET}");
    }
    for running in [one, two] {
        let (code, said) = running.stop().await;
        assert_eq!(code, Some(0), "{said}");
    }
    let calls = counted(&stage).await;
    eprintln!("{calls} of {BUDGET} calls; after each life {seen:?}; recorded {}", recorded(&stage));
    assert!((BUDGET / 4..=BUDGET).contains(&calls), "{calls} of {BUDGET}: {seen:?}");
    let recorded = recorded(&stage);
    assert!(recorded >= calls && recorded <= BUDGET, "{calls} made, {recorded} recorded");
}
