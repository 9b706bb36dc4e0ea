//! From a commit in Salesforce to a `read_committed` consumer: the distribution, printed.
//!
//! In: a real broker and registry (`KAFKA_BOOTSTRAP`, `SCHEMA_REGISTRY_URL`, as `cargo xtask kafka up --output env` prints
//! them). Out: a line for `after: changed-only`, and one for `after: full`, which waits to gather its readings. 200
//! changes a second over five objects; the moment of a commit is that at which the simulator's transaction returns.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on should say where")]
#![expect(clippy::print_stdout, reason = "the figures are its data")]

mod stage;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use simulator::org::{Change, Id, Org, ScanRange, Transaction, Value};
use simulator::pubsub::Habits;

use crate::stage::Stage;

/// Objects, and a text field of each.
const OBJECTS: [(&str, &str); 5] = [
    ("Account", "Site"),
    ("Contact", "Department"),
    ("Lead", "Company"),
    ("Case", "Subject"),
    ("Opportunity", "NextStep"),
];
const ROWS: u64 = 200;
const PER_SECOND: u32 = 200;
const SECONDS: u32 = 30;
const TOKEN: &str = "latency-";

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for after in ["changed-only", "full"] {
        runtime.block_on(measure(after));
    }
}

async fn measure(after: &str) {
    let objects = OBJECTS.map(|(object, _)| object);
    let stage = Stage::new("latency", &objects, ROWS, after, Habits::default()).await;
    let program = stage.start();
    let consumer = stage.consumer(&objects);
    let loaded = OBJECTS.len() * ROWS as usize;
    let (ready, is_ready) = std::sync::mpsc::channel();
    // Read on a thread of its own: what waits here would count as latency.
    let reading = std::thread::spawn(move || {
        let mut arrived: HashMap<u32, Instant> = HashMap::new();
        let mut rows = 0;
        let expected = (PER_SECOND * SECONDS) as usize;
        let mut heard = Instant::now();
        while arrived.len() < expected && heard.elapsed() < Duration::from_secs(60) {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
            heard = Instant::now();
            match message.payload().and_then(token) {
                Some(number) => drop(arrived.entry(number).or_insert(heard)),
                None => rows += 1,
            }
            if rows == loaded {
                rows += 1;
                ready.send(()).unwrap();
            }
        }
        arrived
    });
    is_ready.recv_timeout(Duration::from_secs(120)).expect("the load arrives");
    tokio::time::sleep(Duration::from_secs(2)).await;

    let org = stage.simulator.org().clone();
    let ids: Vec<Vec<Id>> = objects.iter().map(|object| ids(&org, object)).collect();
    let begun = Instant::now();
    let mut committed = Vec::new();
    for number in 0..PER_SECOND * SECONDS {
        tokio::time::sleep_until((begun + Duration::from_secs(1) * number / PER_SECOND).into()).await;
        let place = number as usize % OBJECTS.len();
        let (object, field) = OBJECTS[place];
        let id = ids[place][number as usize / OBJECTS.len() % ids[place].len()];
        let fields = vec![(field.to_owned(), Value::text(format!("{TOKEN}{number:08}")))];
        let changes = vec![Change::Update { object: object.to_owned(), id, fields }];
        org.commit(Transaction { changes, ..Transaction::default() }).unwrap();
        committed.push(Instant::now());
    }
    let arrived = tokio::task::spawn_blocking(|| reading.join().unwrap()).await.unwrap();
    drop(program);
    let mut millis: Vec<f64> = committed
        .iter()
        .enumerate()
        .filter_map(|(number, at)| {
            let seen = arrived.get(&u32::try_from(number).unwrap())?;
            Some(seen.saturating_duration_since(*at).as_secs_f64() * 1_000.0)
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    let at = |share: f64| millis[((millis.len() - 1) as f64 * share) as usize];
    println!(
        "after: {after}: {} of {} changes, ms: median {:.0}, 90 % {:.0}, 99 % {:.0}, most {:.0}",
        millis.len(),
        committed.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

fn ids(org: &std::sync::Arc<Org>, object: &str) -> Vec<Id> {
    org.snapshot().scan(object, ScanRange::in_id_order()).unwrap().map(|row| row.id()).collect()
}

/// The number of the change that a record carries, wherever in it.
fn token(value: &[u8]) -> Option<u32> {
    let at = value.windows(TOKEN.len()).position(|window| window == TOKEN.as_bytes())? + TOKEN.len();
    std::str::from_utf8(value.get(at..at + 8)?).ok()?.parse().ok()
}
