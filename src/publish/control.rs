//! Reading the control topic: partitions from their start to their end, folded by key.
//!
//! Comes in: partitions. Goes out: their newest committed records. A claim reads up to the high watermark as a client
//! that sees uncommitted records tells it, and waits until everything below it is decided; a reader without a claim
//! takes what is decided now. Reading is over at the end-of-partition event: the last offset is a transaction's marker,
//! not a record, and compaction leaves holes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::kafka::{Closing, Plain, Role, client_config, kafka_error, once_settled};
use super::topics::blocking;
use crate::config::Settings;
use crate::error::Kind;
use crate::{Error, Result};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Without any progress. An open transaction of a dead writer ends by its timeout; a claim has fenced it before.
const LONGEST: Duration = Duration::from_secs(150);

/// A record of the control topic and where it stands.
#[derive(Clone, Debug)]
pub struct ControlRecordAt {
    pub partition: i32,
    pub key: String,
    pub value: Vec<u8>,
}

type Folded = BTreeMap<String, Vec<u8>>;

/// The newest committed records of all control partitions, without claiming any. A transaction that is open, or that
/// a crash left open, does not hold it up.
pub async fn read_control(settings: &Settings) -> Result<Vec<ControlRecordAt>> {
    let settings = settings.clone();
    blocking(move || {
        let partitions = read_committed(&settings, 0..settings.kafka.control_partitions)?;
        let records = partitions.into_iter().flat_map(|(partition, records)| {
            records.into_iter().map(move |(key, value)| ControlRecordAt { partition, key, value })
        });
        Ok(records.collect())
    })
    .await
}

/// The newest committed records of one partition, up to all that was written when this was called. For a claim, which
/// has fenced whoever had a transaction open.
pub(super) fn read_claimed(settings: &Settings, partition: i32) -> Result<Folded> {
    let topic = settings.control_topic();
    let uncommitted = Closing::of(reader(settings, false)?);
    let end = end_of(&uncommitted, &topic, partition)?.1;
    let reader = Closing::of(reader(settings, true)?);
    let started = Instant::now();
    // First everything up to the end must be decided, then it is read: an end-of-partition event that came while a
    // transaction was open would end the reading before its records.
    while end_of(&reader, &topic, partition)?.1 < end {
        check_time(started, &topic)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(read(&reader, &topic, [partition])?.remove(&partition).unwrap_or_default())
}

/// The newest committed records of these partitions as they are decided now.
pub(super) fn read_committed(
    settings: &Settings,
    partitions: impl IntoIterator<Item = i32>,
) -> Result<BTreeMap<i32, Folded>> {
    read(&reader(settings, true)?, &settings.control_topic(), partitions)
}

pub(super) fn reader(settings: &Settings, committed: bool) -> Result<BaseConsumer<Plain>> {
    client_config(settings, &Role::Reader { committed })?
        .create_with_context(Plain)
        .map_err(|error| kafka_error("the reader of the control topic cannot start", error))
}

/// The first offset, and the end as this reader sees it: for a committed one everything below is decided.
pub(super) fn end_of(reader: &BaseConsumer<Plain>, topic: &str, partition: i32) -> Result<(i64, i64)> {
    once_settled(TIMEOUT, || reader.fetch_watermarks(topic, partition, TIMEOUT))
        .map_err(|error| kafka_error(format!("the end of {topic}/{partition} cannot be read"), error))
}

fn read(
    reader: &BaseConsumer<Plain>,
    topic: &str,
    partitions: impl IntoIterator<Item = i32>,
) -> Result<BTreeMap<i32, Folded>> {
    let cannot = |error| kafka_error(format!("topic {topic} cannot be read"), error);
    let mut folded = BTreeMap::new();
    // Where each partition ended when it was asked. A partition that is written to all the time has no other end.
    let mut open = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        let (first, end) = end_of(reader, topic, partition)?;
        if first < end {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).map_err(cannot)?;
            open.insert(partition, end);
        }
    }
    reader.assign(&assignment).map_err(cannot)?;
    let mut progress = Instant::now();
    while !open.is_empty() {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                progress = Instant::now();
                if open.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                    open.remove(&message.partition());
                }
                let records: &mut Folded = folded.entry(message.partition()).or_default();
                let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
                match message.payload() {
                    Some(value) => records.insert(key, value.to_vec()),
                    None => records.remove(&key),
                };
            }
            // It comes behind the last record and its marker, however compaction thinned what is before.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) if transient(&error) => {
                tracing::debug!(%error, "reading the control topic goes on");
            }
            Some(Err(error)) => return Err(cannot(error)),
            None => {}
        }
        check_time(progress, topic)?;
    }
    Ok(folded)
}

fn check_time(progress: Instant, topic: &str) -> Result<()> {
    if progress.elapsed() < LONGEST {
        return Ok(());
    }
    Err(Error::new(Kind::KafkaUnavailable, format!("control topic {topic} could not be read to its end")))
}

pub(super) fn transient(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
        )
    )
}
