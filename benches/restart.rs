//! A restart with a thousand objects: from the start of the process to its first record at a `read_committed` consumer.
//!
//! In: a real broker and registry (`KAFKA_BOOTSTRAP`, `SCHEMA_REGISTRY_URL`, as `cargo xtask kafka up --output env` prints
//! them). Out: a line for a pipeline of one object, one for a pipeline of a thousand, and their ratio. Each restart finds
//! one record that was saved while nobody ran, of another object each time.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on should say where")]
#![expect(clippy::print_stdout, reason = "the figures are its data")]

mod stage;

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use simulator::SimulatorConfig;
use simulator::org::{Change, OrgConfig, ScanRange, Transaction};

use crate::stage::Stage;

const OBJECTS: u16 = 1_000;
const RESTARTS: u16 = 5;
/// What a restart with a thousand objects is to keep within.
const WANTED: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let one = runtime.block_on(measure(1));
    let many = runtime.block_on(measure(OBJECTS));
    println!(
        "{OBJECTS} objects take {:.1} times as long as one; the longest restart is {:.2} of {} s",
        many[many.len() / 2].as_secs_f64() / one[one.len() / 2].as_secs_f64(),
        many[many.len() - 1].as_secs_f64() / WANTED.as_secs_f64(),
        WANTED.as_secs(),
    );
}

/// The times of all restarts, the shortest first.
async fn measure(objects: u16) -> Vec<Duration> {
    let org = OrgConfig::default().with_custom_objects(objects);
    let config = SimulatorConfig { org, ..SimulatorConfig::default() };
    let name = format!("restart-{}-{objects}", std::process::id());
    let kafka = ", topics: { partitions: 1 }";
    let stage = Stage::with(config, name, "'Bulk*__c'", "capture: poll", kafka).await;
    let org = stage.simulator.org().clone();
    // What changed within the last two seconds may change again with the same stamp.
    org.clock().advance(Duration::from_secs(60));
    let first = stage.run(&["--once"]);
    tokio::task::spawn_blocking(|| first.ends_well()).await.unwrap();
    let mut times = Vec::new();
    for restart in 0..RESTARTS {
        let number = 1 + restart * (objects / RESTARTS);
        let (object, target) = (format!("Bulk{number:04}__c"), format!("Bulk{number:04}_c"));
        let id = org.snapshot().scan(&object, ScanRange::in_id_order()).unwrap().next().unwrap().id();
        let (consumer, topic) = (stage.consumer(&[]), stage.topic(&target));
        let reading = tokio::task::spawn_blocking(move || at_the_end(consumer, &topic));
        let consumer = reading.await.unwrap();
        org.commit(Transaction { changes: vec![Change::Touch { object, id }], ..Transaction::default() })
            .unwrap();
        org.clock().advance(Duration::from_secs(60));
        let began = Instant::now();
        let program = stage.start();
        let restarted = tokio::task::spawn_blocking(move || {
            wait_for_record(&consumer);
            let took = began.elapsed();
            program.stop();
            took
        });
        times.push(restarted.await.unwrap());
    }
    times.sort();
    println!(
        "{objects} objects, {RESTARTS} restarts, s to the first record: least {:.2}, median {:.2}, most {:.2}",
        times[0].as_secs_f64(),
        times[times.len() / 2].as_secs_f64(),
        times[times.len() - 1].as_secs_f64(),
    );
    times
}

/// The consumer behind the last record of the only partition.
fn at_the_end(consumer: BaseConsumer, topic: &str) -> BaseConsumer {
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::End).unwrap();
    consumer.assign(&partitions).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !matches!(consumer.poll(Duration::from_millis(100)), Some(Err(KafkaError::PartitionEOF(_)))) {
        assert!(Instant::now() < deadline, "the end of {topic} is not found");
    }
    consumer
}

fn wait_for_record(consumer: &BaseConsumer) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => return,
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => panic!("the topic cannot be read: {error}"),
        }
        assert!(Instant::now() < deadline, "no record came");
    }
}
