//! A day of the org's allowance, lived in two minutes: 1,000 calls for thirty objects that change all the time.
//!
//! The simulator's own counter is the judge: in no stretch of a day it counts more calls than the budget has. Beside
//! that every object is loaded, and what changes in Salesforce is published within a bound, from the first hour of
//! the day to the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sf2kafka::domain::Stamp;
use sf2kafka::pipeline::{self, Options};
use sf2kafka::publish::TopicAdmin;
use sf2kafka::status::Board;
use simulator::SimulatorConfig;
use simulator::org::{Change, Org, OrgConfig, ScanRange, Transaction};
use tokio_util::sync::CancellationToken;

use crate::stage::{Stage, seed};

const BUDGET: u64 = 1_000;
/// A day, and how much longer the run is: what was spent in its first hours may be spent again.
const DAY: Duration = Duration::from_secs(120);
const RUN: Duration = Duration::from_secs(144);
/// Seconds of the org in one of ours.
const RATE: f64 = 86_400.0 / 120.0;
/// A change is published within half a day: without a pace the calls would be gone after an hour or two, and none would
/// come back before the day is over.
const BOUND: Duration = Duration::from_secs(12 * 60 * 60);
/// Loaded, and followed from then on.
const CAUGHT_UP: Duration = Duration::from_secs(3 * 60 * 60);

const OBJECTS: [&str; 30] = [
    "Account",
    "Contact",
    "Lead",
    "Opportunity",
    "OpportunityLineItem",
    "Campaign",
    "CampaignMember",
    "Product2",
    "Pricebook2",
    "PricebookEntry",
    "Task",
    "Event",
    "Case",
    "CaseComment",
    "EmailMessage",
    "Entitlement",
    "WorkOrder",
    "Idea",
    "WebStore",
    "WebCart",
    "CartItem",
    "CartDeliveryGroup",
    "Order",
    "OrderItem",
    "Invoice__c",
    "InvoiceLine__c",
    "AllTypes__c",
    "et4ae5__Business_Unit__c",
    "et4ae5__SendDefinition__c",
    "et4ae5__IndividualEmailResult__c",
];

/// What the simulator counted.
async fn counters(stage: &Stage) -> Value {
    let url = format!("{}/counters", stage.simulator.control_url());
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

/// An automated process saves one record of each object after the other, until it is to stop.
fn keep_changing(org: &Arc<Org>, stop: &AtomicBool) -> u64 {
    let ids = |object: &str| {
        let rows = org.snapshot().scan(object, ScanRange::in_id_order()).unwrap();
        rows.filter(|row| !row.is_deleted()).map(|row| row.id()).take(50).collect::<Vec<_>>()
    };
    let ids: Vec<_> = OBJECTS.iter().map(|object| (*object, ids(object))).collect();
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        for (object, ids) in &ids {
            let id = ids[rounds as usize % ids.len()];
            let changes = vec![Change::Touch { object: (*object).to_owned(), id }];
            org.commit(Transaction { changes, ..Transaction::default() }).unwrap();
        }
        rounds += 1;
        std::thread::sleep(Duration::from_millis(500));
    }
    rounds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_a_thousand_calls_lasts_for_thirty_objects_that_change_all_day() {
    // One load alone takes a third of what loads may spend in a day.
    let org = OrgConfig::default().with_seed(seed()).with_rows("Account", 8_000);
    org.clock.set_rate(RATE);
    let config = SimulatorConfig { org, daily_limit: BUDGET, ..SimulatorConfig::default() };
    let objects = format!("[ {} ]", OBJECTS.join(", "));
    let defaults = "capture: poll, poll: { interval: 1s, max_interval: 1s }";
    let stage = Stage::with(config, &objects, defaults, "").await;
    let small_pages = json!({ "bulkPageCap": 100 });
    let url = format!("{}/settings", stage.simulator.control_url());
    assert!(reqwest::Client::new().post(url).json(&small_pages).send().await.unwrap().status().is_success());
    let org = stage.simulator.org().clone();
    let (board, stop) = (Arc::new(Board::new()), CancellationToken::new());
    let options = Options { day: DAY, ..Options::new(false, TopicAdmin::Kafka) };
    let mut settings = stage.settings();
    for object in &mut settings.objects {
        // Every minute of that day or so.
        object.poll.interval = Duration::from_millis(100);
    }
    let running = tokio::spawn(pipeline::run(Arc::new(settings), board.clone(), stop.clone(), options));
    let over = Arc::new(AtomicBool::new(false));
    let changing = std::thread::spawn({
        let (org, over) = (org.clone(), over.clone());
        move || keep_changing(&org, &over)
    });

    let started = Instant::now();
    let mut counted = vec![(Duration::ZERO, 0)];
    let mut longest: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut most = 0;
    while started.elapsed() < RUN {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!running.is_finished(), "the program goes on");
        // The count may be of a moment later, so that a stretch seems shorter than it is, never longer.
        let at = started.elapsed();
        let calls = counters(&stage).await["calls"].as_u64().unwrap();
        let day_ago = counted.partition_point(|(then, _)| *then + DAY < at);
        let within = calls - counted[day_ago.min(counted.len() - 1)].1;
        assert!(within <= BUDGET, "{within} calls in a day, of {BUDGET}");
        most = most.max(within);
        counted.push((started.elapsed(), calls));

        let now = Stamp(org.now_ms());
        let snapshot = board.snapshot();
        for object in OBJECTS {
            let committed_to = snapshot.object(object).and_then(|report| report.committed_to);
            let lag = committed_to.map(|to| now.since(to));
            // A load that is over has caught up when the window behind it is read, which goes back to its begin.
            let Some(lag) = lag.filter(|lag| *lag <= CAUGHT_UP || longest.contains_key(object)) else {
                let (report, calls) = (snapshot.object(object), &snapshot.calls_by_purpose);
                assert!(at < DAY, "{object} is not loaded after a day: {report:?}, {calls:?}");
                continue;
            };
            assert!(lag <= BOUND, "{object} is {} h behind", lag.as_secs() / 3_600);
            let longest = longest.entry(object).or_default();
            *longest = lag.max(*longest);
        }
    }
    over.store(true, Ordering::Relaxed);
    let rounds = changing.join().unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();

    let (snapshot, asked) = (board.snapshot(), counters(&stage).await);
    let a_day = DAY.as_secs_f64() / RUN.as_secs_f64();
    let per_object = |calls: u64| calls as f64 * a_day / OBJECTS.len() as f64;
    eprintln!("at most {most} of {BUDGET} calls in a day; {rounds} changes of each object");
    for (purpose, calls) in &snapshot.calls_by_purpose {
        eprintln!("{purpose}: {calls} calls, {:.1} per object and day", per_object(*calls));
    }
    for object in OBJECTS {
        let report = snapshot.object(object).unwrap();
        let behind = longest[object].as_secs() as f64 / 3_600.0;
        let (loaded, changes) = (report.rows_loaded, report.published.changes());
        // Parts of a call that several objects shared count each.
        let asked = asked["byObject"][object].as_u64().unwrap() as f64 * a_day;
        eprintln!(
            "{object}: asked for {asked:.0} times a day, {loaded} rows loaded, {changes} changes, at most {behind:.1} h behind"
        );
        assert!(changes > 0 && report.error.is_none(), "{report:?}");
    }
    assert!(snapshot.calls_by_purpose["load"] > 120, "{:?}", snapshot.calls_by_purpose);
    assert!(most >= BUDGET / 2, "{most} of {BUDGET}: a day's calls are there to be used");
}
