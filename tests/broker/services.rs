//! Where the broker and the registry are, a pipeline of its own for every test, and a plain consumer.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use sf2kafka::config::{Auth, KafkaSettings, RegistrySettings, SalesforceSettings, Secret, Settings};

use crate::settling::{is_settling, settled};

/// What `cargo xtask test` tells its tests.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

pub fn bootstrap() -> String {
    variable("KAFKA_BOOTSTRAP")
}

pub fn registry_url() -> String {
    variable("SCHEMA_REGISTRY_URL")
}

/// A name that no other test and no other run uses.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    format!("{stem}-{run}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Settings of a pipeline of this name against the real broker, with so many shards.
pub fn settings(name: &str, shards: i32) -> Settings {
    let auth = Auth::AccessToken { access_token: Secret::new("unused") };
    let salesforce = SalesforceSettings::new("http://127.0.0.1:9".parse().unwrap(), auth);
    let mut kafka = KafkaSettings::new(&bootstrap());
    kafka.control_partitions = shards;
    kafka.topics.partitions = 2;
    let registry = RegistrySettings::new(registry_url().parse().unwrap());
    Settings::new(name, salesforce, kafka, Some(registry))
}

/// A consumer that does nothing by itself.
pub fn consumer(isolation: &str) -> BaseConsumer {
    consumer_at(&bootstrap(), isolation)
}

fn consumer_at(bootstrap: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", unique("reader"))
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

/// The ends of a topic's first partitions, as a reader of this isolation sees them.
pub fn ends(topic: &str, partitions: i32, isolation: &str) -> Vec<i64> {
    let consumer = consumer(isolation);
    let end = |partition| settled(|| consumer.fetch_watermarks(topic, partition, Duration::from_secs(10))).1;
    (0..partitions).map(end).collect()
}

pub fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bootstrap()).create().unwrap()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// All records that a committed reader sees in a topic now.
pub fn read_committed(topic: &str) -> Vec<Seen> {
    read_committed_at(&bootstrap(), topic)
}

/// The same on another broker than that of all tests.
pub fn read_committed_at(bootstrap: &str, topic: &str) -> Vec<Seen> {
    let consumer = consumer_at(bootstrap, "read_committed");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, i32::try_from(partition).unwrap(), Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut seen, mut ended) = (Vec::new(), 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while ended < partitions {
        assert!(Instant::now() < deadline, "topic {topic} has no end");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => seen.push(Seen {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().unwrap_or_default().to_vec(),
                value: message.payload().map(<[u8]>::to_vec),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) if is_settling(&error) => {}
            Some(Err(error)) => panic!("topic {topic}: {error}"),
            None => {}
        }
    }
    seen
}

/// The names of a pipeline's topics that are there.
pub fn topics(pipeline: &str) -> Vec<String> {
    let metadata = consumer("read_committed").fetch_metadata(None, Duration::from_secs(10)).unwrap();
    let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
    names.filter(|name| name.starts_with(&format!("{pipeline}."))).collect()
}
