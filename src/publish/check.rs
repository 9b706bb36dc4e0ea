//! What `check` asks of a cluster before anything is published.
//!
//! Comes in: settings. Goes out: what is there, or the error a run would meet. It makes no topic and writes no record; its
//! transactional id is its own, so that it fences no running instance.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};

use super::kafka::{Plain, Role, client_config, kafka_error};
use super::topics::blocking;
use crate::Result;
use crate::config::Settings;

const TIMEOUT: Duration = Duration::from_secs(15);

/// What a cluster shows to this principal.
#[derive(Clone, Debug)]
pub struct Reached {
    pub brokers: usize,
    /// Name and partition count.
    pub topics: Vec<(String, usize)>,
}

/// Asks the cluster for its brokers and topics.
pub async fn reach(settings: &Settings) -> Result<Reached> {
    let config = client_config(settings, &Role::Reader { committed: true })?;
    let what = format!("Kafka at {} does not answer", settings.kafka.bootstrap_servers);
    blocking(move || {
        let consumer: BaseConsumer<Plain> = config
            .create_with_context(Plain)
            .map_err(|error| kafka_error("the Kafka client cannot start", error))?;
        let metadata = consumer.fetch_metadata(None, TIMEOUT).map_err(|error| kafka_error(what, error))?;
        let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
        Ok(Reached {
            brokers: metadata.brokers().len(),
            topics: topics.map(|topic| (topic.name().to_owned(), topic.partitions().len())).collect(),
        })
    })
    .await
}

/// Begins a transaction and gives it up.
pub async fn try_transaction(settings: &Settings) -> Result<()> {
    let mut config = client_config(settings, &Role::Producer { shard: 0 })?;
    config.set("transactional.id", format!("sf2kafka-{}-check", settings.name));
    blocking(move || {
        let producer: BaseProducer<Plain> = config
            .create_with_context(Plain)
            .map_err(|error| kafka_error("the producer cannot start", error))?;
        let tried = |step: &str, outcome: rdkafka::error::KafkaResult<()>| {
            outcome.map_err(|error| kafka_error(format!("{step} is not possible"), error))
        };
        tried("fencing", producer.init_transactions(TIMEOUT))?;
        tried("beginning a transaction", producer.begin_transaction())?;
        tried("giving a transaction up", producer.abort_transaction(TIMEOUT))
    })
    .await
}
