//! How fast a backlog is drained: 100,000 change events that waited in the bus while the program was away.
//!
//! In: a real broker and registry (`KAFKA_BOOTSTRAP`, `SCHEMA_REGISTRY_URL`, as `cargo xtask kafka up --output env` prints
//! them). Out: a line for `after: changed-only` and one for `after: full`: changes a second from the start of the program to
//! the last record at a `read_committed` consumer, as a ratio of 10,000 a second, and how many records one call reads again.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on should say where")]
#![expect(clippy::print_stdout, reason = "the figures are its data")]

mod stage;

use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;
use simulator::org::{Change, Id, ScanRange, Transaction, Value};
use simulator::pubsub::Habits;

use crate::stage::Stage;

const OBJECT: &str = "Account";
const ROWS: u64 = 20_000;
const EVENTS: usize = 100_000;
/// Changes a second that are asked for.
const BASELINE: f64 = 10_000.0;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    sf2kafka::salesforce::install_tls();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for after in ["changed-only", "full"] {
        runtime.block_on(measure(after));
    }
}

async fn measure(after: &str) {
    // The bus keeps all of it, and its events stay apart.
    let habits = Habits { log_bytes: 1 << 30, merge_equal: false, ..Habits::default() };
    let stage = Stage::new("drain", &[OBJECT], ROWS, after, habits).await;
    let program = stage.start();
    let consumer = stage.consumer(&[OBJECT]);
    read(&consumer, ROWS as usize);
    // A place in the stream to go on from: behind an event of its own.
    let org = stage.simulator.org().clone();
    let scan = org.snapshot().scan(OBJECT, ScanRange::in_id_order()).unwrap();
    let ids: Vec<Id> = scan.map(|row| row.id()).collect();
    let save = |ids: &[Id], number: usize| {
        let update = |id: &Id| {
            let fields = vec![("Site".to_owned(), Value::text(format!("drained {number}")))];
            Change::Update { object: OBJECT.to_owned(), id: *id, fields }
        };
        let changes = ids.iter().map(update).collect();
        org.commit(Transaction { changes, ..Transaction::default() }).unwrap();
    };
    tokio::time::sleep(Duration::from_secs(7)).await;
    save(&ids[..1], 0);
    read(&consumer, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(program);

    for number in 0..EVENTS / 10 {
        let at = number * 10 % ids.len();
        save(&ids[at..at + 10], number + 1);
    }
    let calls_before = calls(&stage).await;
    let begun = Instant::now();
    let program = stage.start();
    let first = read(&consumer, 1);
    let last = read(&consumer, EVENTS - 1);
    let calls = calls(&stage).await - calls_before;
    drop(program);
    let (whole, flowing) = ((last - begun).as_secs_f64(), (last - first).as_secs_f64());
    let rate = EVENTS as f64 / flowing;
    println!(
        "after: {after}: {EVENTS} changes in {whole:.1} s from the start of the program, {flowing:.1} s from the first record: \
         {rate:.0} a second, {:.1} times {BASELINE:.0}; {calls} calls, {:.0} changes a call",
        rate / BASELINE,
        EVENTS as f64 / calls.max(1) as f64,
    );
}

/// Waits for so many records more; when the last of them came.
fn read(consumer: &BaseConsumer, records: usize) -> Instant {
    let mut heard = Instant::now();
    let mut missing = records;
    while missing > 0 {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                assert!(message.payload().is_some());
                heard = Instant::now();
                missing -= 1;
            }
            _ => assert!(heard.elapsed() < PATIENCE, "{missing} of {records} records do not come"),
        }
    }
    heard
}

async fn calls(stage: &Stage) -> u64 {
    let url = format!("{}/counters", stage.simulator.control_url());
    let counters: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    counters["calls"].as_u64().unwrap()
}
