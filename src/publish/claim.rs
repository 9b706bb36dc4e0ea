//! Claiming a shard: fence, prove, read, and only then produce.
//!
//! Comes in: a shard that the group gave us. Goes out: its producer, and what its control partition holds. The order
//! is the promise:
//! - `init_transactions` ends whatever a predecessor had open and refuses it from then on
//!   (`a_zombie_is_fenced_and_its_records_never_show`), so that nothing is written behind our reading;
//! - the proof refuses us if the group gave the shard to somebody else meanwhile
//!   (`a_member_that_lost_its_shard_cannot_commit`), so that two claims cannot fence each other in turns;
//! - the reading goes to the high watermark taken after both (`a_claim_reads_exactly_what_was_committed`);
//! - positions of another number of shards are never gone on from (`a_control_topic_that_grew_is_refused_by_the_claim`).

use std::collections::BTreeMap;
use std::time::Instant;

use super::control::{read_claimed, read_committed};
use super::kafka::say_answers;
use super::membership::GroupHandle;
use super::producer::ShardProducer;
use super::topics::blocking;
use crate::config::Settings;
use crate::error::Kind;
use crate::{Error, Result};

/// The record that says how many control partitions there are, in each of them.
pub(super) const LAYOUT: &str = "layout";

pub struct Claimed {
    pub producer: ShardProducer,
    /// Control records by key.
    pub records: BTreeMap<String, Vec<u8>>,
}

/// Claims a shard. An error leaves nothing behind but a fenced predecessor.
pub async fn claim(settings: &Settings, group: &GroupHandle, shard: i32) -> Result<Claimed> {
    let (settings, group) = (settings.clone(), group.clone());
    blocking(move || {
        // A claim that comes late must not fence the owner, only to be refused behind it.
        group.check(shard)?;
        let mut producer = ShardProducer::fence(&settings, group.clone(), shard)?;
        group.prove(shard)?;
        let began = Instant::now();
        let records = read_claimed(&settings, shard)?;
        tracing::debug!(shard, records = records.len(), after = ?began.elapsed(), "control partition read");
        let partitions = settings.kafka.control_partitions;
        match records.get(LAYOUT) {
            Some(layout) => check_layout(layout, partitions, shard)?,
            None => {
                // A partition that was added has no layout, but the ones before it do.
                let others = read_committed(&settings, (0..partitions).filter(|other| *other != shard))?;
                for (other, records) in &others {
                    if let Some(layout) = records.get(LAYOUT) {
                        check_layout(layout, partitions, *other)?;
                    }
                }
                producer.write_layout_first();
            }
        }
        say_answers();
        Ok(Claimed { producer, records })
    })
    .await
}

pub(super) fn layout_record(partitions: i32) -> Vec<u8> {
    format!(r#"{{"version":1,"partitions":{partitions}}}"#).into_bytes()
}

fn check_layout(layout: &[u8], partitions: i32, shard: i32) -> Result<()> {
    let unreadable = || {
        let what = format!("the control record `layout` of shard {shard} cannot be read");
        Error::new(Kind::ControlRecordUnreadable, what).hint(format!(
            "write {} under the key `layout` into control partition {shard}; see `sf2kafka explain control-record-unreadable`",
            String::from_utf8_lossy(&layout_record(partitions))
        ))
    };
    let layout: serde_json::Value =
        serde_json::from_slice(layout).map_err(|error| unreadable().source(error))?;
    let known = layout.get("partitions").and_then(serde_json::Value::as_i64).ok_or_else(unreadable)?;
    if known == i64::from(partitions) {
        return Ok(());
    }
    Err(Error::new(
        Kind::ControlTopicChanged,
        format!("the control topic was made with {known} partitions and is used with {partitions}"),
    )
    .hint(
        "partitions cannot be taken away: give the pipeline a new `name`, or restore the topic from a copy",
    ))
}

/// For `crate::fuzzing`: whether a record fits a topic of so many partitions.
#[cfg(any(test, feature = "fuzzing"))]
pub fn layout_again(value: &[u8], partitions: i32) -> bool {
    check_layout(value, partitions, 0).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_of_another_size_is_refused() {
        assert!(check_layout(&layout_record(8), 8, 0).is_ok());
        assert_eq!(check_layout(&layout_record(8), 9, 0).unwrap_err().kind(), Kind::ControlTopicChanged);
        let error = check_layout(b"?", 8, 3).unwrap_err();
        assert_eq!(error.kind(), Kind::ControlRecordUnreadable);
        assert!(error.advice().contains(r#"{"version":1,"partitions":8}"#), "{}", error.advice());
    }
}
