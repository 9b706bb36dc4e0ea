//! Everything with a broker: topics, the group that shares out shards, transactions, the control topic.
//!
//! Comes in: encoded records and control records. Goes out: committed transactions, and at a claim what earlier ones
//! left. One control partition is one shard is one transactional id is one writer. Nothing here knows Salesforce.

pub mod check;
mod claim;
mod control;
#[cfg(test)]
mod faults;
pub mod foresee;
mod kafka;
mod letter;
mod membership;
pub mod memory;
mod producer;
pub mod token;
pub mod topics;
mod turns;

#[cfg(any(test, feature = "fuzzing"))]
pub use claim::layout_again;
pub use claim::{Claimed, claim};
pub use control::{ControlRecordAt, read_control};
pub use kafka::{Role, client_config};
pub use letter::{Letter, dead_letter, event_dead_letter};
pub use membership::{GroupHandle, Membership, ShardEvent};
pub use producer::{ShardProducer, largest_record};
pub use topics::TopicAdmin;
#[cfg(any(test, feature = "fuzzing"))]
pub use turns::turns_heard;

use crate::Result;
use crate::domain::ControlRecord;

/// Takes transactions: data and the control records that say how far it goes, together or not at all.
///
/// `begin`, any number of `send`, then `commit`. After an error the publisher must be dropped: what became of the
/// transaction is not known here, and the next claim finds out. `RecordTooLarge` from `send` is the exception: nothing
/// was sent, and the transaction goes on.
pub trait Publisher: Send + 'static {
    fn begin(&mut self) -> Result<()>;
    fn send(&mut self, topic: &str, key: &[u8], value: Option<&[u8]>) -> Result<()>;
    fn commit(&mut self, control: &[ControlRecord]) -> Result<()>;
}

/// The shard of an object: Kafka's own hash of a key over so many partitions.
pub fn shard_of(object: &str, shards: i32) -> i32 {
    let hash = murmur2(object.as_bytes()) & 0x7fff_ffff;
    i32::try_from(hash % u32::try_from(shards.max(1)).unwrap_or(1)).unwrap_or(0)
}

/// Kafka's murmur2 (32 bits, seed 0x9747b28c), as its default partitioner uses it.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut word =
            chunk.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte)).wrapping_mul(M);
        word = (word ^ word >> 24).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ word).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_answers_as_kafkas_does() {
        // The values that Kafka's own UtilsTest holds.
        for (text, hash) in [
            ("21", -973_932_308i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }

    #[test]
    fn every_object_has_a_shard_that_exists() {
        for object in ["Account", "Contact", "Invoice__c", ""] {
            assert!((0..8).contains(&shard_of(object, 8)));
            assert_eq!(shard_of(object, 1), 0);
        }
    }
}
