//! An hour of changes that show late and share their seconds, followed by polls across restarts.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use simulator::org::{Change, Org, OrgConfig, ScanRange, Traffic, TrafficConfig, Transaction};

use crate::stage::{Draw, Stage, seed};

/// Seconds of the org in one of ours.
const RATE: u64 = 60;
const HOUR: Duration = Duration::from_secs(3_600);
const CROWD: usize = 5_000;

/// Saves so many records in one transaction: they share one second of the cursor field.
fn crowd(org: &Arc<Org>, visible_after: Duration) {
    let leads = org.snapshot().scan("Lead", ScanRange::in_id_order()).unwrap();
    let touch = |id| Change::Touch { object: "Lead".to_owned(), id };
    let changes: Vec<Change> = leads.map(|row| touch(row.id())).take(CROWD).collect();
    assert_eq!(changes.len(), CROWD);
    org.commit(Transaction { changes, visible_after, ..Transaction::default() }).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_late_and_crowded_changes_is_followed_across_restarts_without_loss_or_repeat() {
    let seed = seed();
    eprintln!("seed {seed}");
    let org = OrgConfig::default()
        .with_seed(seed)
        .with_rows("Account", 3_000)
        .with_rows("Contact", 2_000)
        .with_rows("Lead", 7_000);
    org.clock.set_rate(RATE as f64);
    // The look-back is the default. The broker notices sooner that a killed one is gone.
    let stage = Stage::new(
        org,
        "[ Account, Contact, Lead ]",
        "capture: poll, poll: { interval: 1s, max_interval: 1s }",
        "properties: { session.timeout.ms: 6000 }",
    )
    .await;
    let org = stage.simulator.org().clone();
    let traffic = {
        let config = TrafficConfig {
            seed,
            objects: vec!["Account".to_owned(), "Contact".to_owned()],
            lagging_one_in: 3,
            largest_lag: Duration::from_secs(60),
            ..TrafficConfig::default()
        };
        let mut traffic = Traffic::new(&org, config).unwrap();
        std::thread::spawn(move || traffic.run_for(4.0, HOUR, &AtomicBool::new(false)))
    };
    let mut draw = Draw(seed);
    let quarter = Duration::from_secs(HOUR.as_secs() / RATE / 4);
    for part in 0..4u64 {
        let running = stage.start(&["run"]);
        tokio::time::sleep(quarter / 3).await;
        // Every second one shows late.
        crowd(&org, Duration::from_secs(part % 2 * (1 + draw.below(60))));
        tokio::time::sleep(quarter - quarter / 3).await;
        if part % 2 == 0 { running.kill().await } else { running.stop(Duration::from_secs(30)).await }
    }
    let changes = traffic.join().unwrap();
    eprintln!("{changes} changes and {} records in crowds", 4 * CROWD);
    for _ in 0..2 {
        org.clock().advance(Duration::from_secs(900));
        stage.start(&["run", "--once"]).ends_well(Duration::from_secs(300)).await;
    }
    for object in ["Account", "Contact", "Lead"] {
        stage.judge_exactly_once(object, object).await;
    }
}
