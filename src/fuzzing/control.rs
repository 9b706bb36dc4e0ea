//! Records of the control topic: a key, a zero byte, a value.
//!
//! What is accepted is the same written and read again; a ledger holds what its parts say, forgets all of it, and takes no
//! more memory than they have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::two_parts;
use crate::capture::ledger::{Entry, Kind, Ledger, RecordId};
use crate::domain::{ChangeSequence, Position, Stamp};
use crate::pipeline::token_store;
use crate::publish::{layout_again, turns_heard};
use crate::salesforce::fuzzing::{budget_again, kept_again};
use crate::schema::SchemaLineage;

pub fn record(input: &[u8]) {
    let (key, value) = two_parts(input, 0);
    let Ok(key) = std::str::from_utf8(key) else { return };
    match key.split('/').next().unwrap_or_default() {
        "position" => position(value),
        "schema" => {
            if let Ok(lineage) = SchemaLineage::decode(value) {
                assert_eq!(SchemaLineage::decode(&lineage.encode()), Ok(lineage));
            }
        }
        "ledger" => ledger(key, value),
        "budget" => {
            if let Some(written) = budget_again(value) {
                assert_eq!(budget_again(&written), Some(written));
            }
        }
        "turn" => turns(value),
        "layout" => {
            let fits = (1..=8).filter(|partitions| layout_again(value, *partitions)).count();
            assert!(fits <= 1, "one layout for two sizes");
        }
        "token" => assert_eq!(token_store::opened(value), None, "nobody has this key"),
        "login" => assert_ne!(kept_again(value), Some(false), "a login is another one written again"),
        _ => {}
    }
}

fn position(value: &[u8]) {
    let Ok(position) = Position::decode(value) else { return };
    assert_eq!(Position::decode(&position.encode()).as_ref(), Ok(&position));
    let behind = position.behind();
    assert!(behind.is_none() || behind <= position.cursor, "behind what is still to come");
    let next: ChangeSequence = position.change_seq.next(Stamp(0));
    assert!(next > position.change_seq, "the next change does not come after this one");
    assert!(next.to_string() > position.change_seq.to_string(), "the next change does not sort behind");
    assert_eq!(next.to_string().len(), 35, "the next change cannot be kept");
}

fn turns(value: &[u8]) {
    // Foreign words in between change nothing of what follows.
    let values: Vec<&[u8]> = value.split(|byte| *byte == b'\n').collect();
    let (_, holder) = turns_heard(&values, "next");
    assert_eq!(holder.as_deref(), Some("next"), "a turn that was given back cannot be claimed");
}

fn ledger(key: &str, value: &[u8]) {
    let object = key.split('/').nth(1).unwrap_or_default();
    let mut ledger = Ledger::new(object);
    if ledger.restore(key, value).is_err() {
        return;
    }
    for (id, number) in entries(value) {
        let newest = ledger.newest(&id).expect("an entry of the part is known");
        assert!(newest.number >= number, "an older entry stands for a newer one");
    }
    // Written again among others, it is still there after a restart.
    let id = RecordId::new(b"001000000000001AAA").expect("an id of 18 letters");
    let entry = Entry { kind: Kind::Live, stamp: Stamp(60_000), hash: 7, number: u64::MAX, event: 0 };
    ledger.enter(id, entry);
    let mut after = Ledger::new(object);
    for record in ledger.take_records() {
        let value = record.value.expect("nothing was forgotten");
        after.restore(&record.key, &value).expect("what is written reads");
    }
    assert_eq!(after.newest(&id).map(|entry| (entry.kind, entry.number)), Some((Kind::Live, u64::MAX)));
    let all = Stamp(i64::MAX / 2);
    ledger.forget(all, all);
    assert!(ledger.is_empty(), "something is never forgotten");
    let gone = ledger.take_records();
    assert!(gone.iter().all(|record| record.value.is_none()));
    assert!(gone.len() <= 2, "{} tombstones for one part", gone.len());
}

/// What a part says, read without the ledger: 36 bytes an entry, the last eight of which are its number.
fn entries(value: &[u8]) -> Vec<(RecordId, u64)> {
    // In keys that the ledger passes over a text may be none.
    let Ok(part) = serde_json::from_slice::<Value>(value) else { return Vec::new() };
    let text = part.get("entries").and_then(Value::as_str).unwrap_or_default();
    let bytes = STANDARD.decode(text).expect("the ledger has decoded it");
    let entry = |entry: &[u8]| {
        let id = RecordId::new(entry.get(..18)?)?;
        let number = entry.last_chunk::<8>()?;
        Some((id, u64::from_be_bytes(*number)))
    };
    bytes.chunks_exact(36).filter_map(entry).collect()
}
