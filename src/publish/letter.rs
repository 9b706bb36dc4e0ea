//! Dead letters: JSON that a person or a script reads.
//!
//! Comes in: a change that cannot be published, and why. Goes out: the record of the dead-letter topic, with the raw
//! cells, so that nothing of the change is lost. Dead letters hold record values by design; logs never do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::domain::{Batch, Change, PlatformEvent, Source};

/// Raw cells above this are cut,
const LONGEST_CELL: usize = 4_096;
/// and cells are left out that would make the letter's record longer than this as JSON, where a byte can take six: a
/// letter must always fit into a batch (`kafka::LEAST_BATCH`), for it has no dead letter of its own.
const LONGEST_RECORD: usize = 200 * 1024;
const LONGEST_REASON: usize = 1_000;

#[derive(Debug)]
pub struct Letter {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// The letter for a change that could not go to `topic`.
pub fn dead_letter(batch: &Batch, change: &Change, topic: &str, error: &Error) -> Letter {
    let row = batch.rows.row(change.row as usize);
    let id = row.and_then(|row| row.value(batch.object.key)).map(|id| text(id).0).unwrap_or_default();
    let mut cells = Map::new();
    let mut bytes = 0;
    let mut cut = false;
    for (index, field) in batch.object.fields.iter().enumerate() {
        let Some(cell) = row.and_then(|row| row.cell(index)) else { continue };
        let (cell, shortened) = text(cell);
        cut |= shortened;
        let value = if cell.is_empty() { Value::Null } else { Value::from(cell) };
        let needed = field.name.len() + value.to_string().len() + 4;
        if bytes + needed > LONGEST_RECORD {
            cut = true;
            continue;
        }
        bytes += needed;
        cells.insert(field.name.clone(), value);
    }
    let reason: String = error.context().chars().take(LONGEST_REASON).collect();
    let value = json!({
        "version": 1,
        "object": &*batch.object.name,
        "id": id,
        "topic": topic,
        "change_seq": change.sequence.to_string(),
        "operation": change.operation.word(),
        "source": batch.detail(change).map_or(batch.source, |detail| detail.source).word(),
        "committed_at": change.timestamp.to_string(),
        "stream_position": &*batch.stream_position,
        "error": error.kind().code(),
        "reason": reason,
        "record": cells,
        "cut": cut,
    });
    Letter { key: id.into_bytes(), value: value.to_string().into_bytes() }
}

/// The letter for a platform event that could not go to `topic`, with its payload as it came, in base64.
pub fn event_dead_letter(event: &str, letter: &PlatformEvent, topic: &str, error: &Error) -> Letter {
    // In base64 four bytes stand for three.
    let kept = letter.payload.get(..LONGEST_RECORD / 4 * 3).unwrap_or(&letter.payload);
    let reason: String = error.context().chars().take(LONGEST_REASON).collect();
    // Whoever publishes gives it: nobody bounds it.
    let id: String = letter.id.chars().take(LONGEST_REASON).collect();
    let value = json!({
        "version": 1,
        "object": event,
        "id": id,
        "topic": topic,
        "source": Source::Subscribe.word(),
        "committed_at": letter.created_at.as_ref().ok().map(ToString::to_string),
        "stream_position": letter.replay_id.to_string(),
        "error": error.kind().code(),
        "reason": reason,
        "schema_id": letter.schema_id.chars().take(LONGEST_REASON).collect::<String>(),
        "payload": STANDARD.encode(kept),
        "cut": kept.len() < letter.payload.len(),
    });
    Letter { key: id.into_bytes(), value: value.to_string().into_bytes() }
}

/// A cell as text, and whether it was cut.
fn text(cell: &[u8]) -> (String, bool) {
    let kept = cell.get(..LONGEST_CELL).unwrap_or(cell);
    (String::from_utf8_lossy(kept).into_owned(), kept.len() < cell.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{
        Blobs, ChangeSequence, Field, FieldKind, ObjectDescription, Operation, RowLayout, Rows, Source, Stamp,
    };
    use crate::error::Kind;

    fn batch(fields: usize, cells: &[&[u8]]) -> Batch {
        let field = |index: usize| Field {
            name: if index == 0 { "Id".to_owned() } else { format!("Field{index}__c") },
            label: String::new(),
            help: None,
            salesforce_type: "string".to_owned(),
            kind: FieldKind::Text,
            length: 0,
            precision: 0,
            scale: 0,
            calculated: false,
            filterable: true,
            sortable: true,
        };
        let object = ObjectDescription {
            name: "Account".into(),
            target_name: "Account".into(),
            label: String::new(),
            fields: (0..fields).map(field).collect(),
            key: 0,
            cursor: None,
            created_date: None,
            is_deleted: None,
            compounds: Vec::new(),
            replicateable: true,
            bulk: true,
            unsupported: None,
            revision: 0,
        };
        // The last field was not selected.
        let columns: Vec<_> = (0..fields - 1).map(Some).collect();
        let mut rows = Rows::new(RowLayout::new(&columns, fields));
        rows.push(cells.iter().copied()).unwrap();
        Batch {
            object: Arc::new(object),
            rows,
            changes: Vec::new(),
            blobs: Blobs::default(),
            details: Vec::new(),
            notices: Vec::new(),
            source: Source::Poll,
            only: None,
            load_id: None,
            stream_position: "2026-05-19T08:30:00.000Z".into(),
            control: Vec::new(),
        }
    }

    fn letter(batch: &Batch) -> (Vec<u8>, Value) {
        let change = Change {
            row: 0,
            operation: Operation::Update,
            sequence: ChangeSequence::default(),
            timestamp: Stamp(0),
            detail: None,
        };
        let error = Error::new(Kind::ValueUnfit, "x".repeat(2_000_000));
        let letter = dead_letter(batch, &change, "crm.Account", &error);
        let value = serde_json::from_slice(&letter.value).unwrap();
        assert!(letter.value.len() < super::super::kafka::LEAST_BATCH / 2, "{} bytes", letter.value.len());
        (letter.key, value)
    }

    #[test]
    fn a_letter_holds_the_record_as_it_was_read() {
        let (key, letter) = letter(&batch(4, &[b"001A", b"", b"caf\xc3\xa9"]));
        assert_eq!(key, b"001A");
        assert_eq!(letter["record"], json!({ "Id": "001A", "Field1__c": null, "Field2__c": "caf\u{e9}" }));
        assert_eq!((&letter["error"], &letter["cut"]), (&json!("value-unfit"), &json!(false)));
    }

    #[test]
    fn an_events_letter_holds_its_payload_and_fits_into_a_batch() {
        let error = Error::new(Kind::EventUnreadable, "x".repeat(2_000_000));
        for (bytes, cut) in [(3, false), (1_000_000, true)] {
            let event = PlatformEvent {
                id: "\u{1}".repeat(1_000_000),
                replay_id: "01".parse().unwrap(),
                schema_id: "S".to_owned(),
                payload: vec![0xff; bytes],
                created_at: Ok(Stamp(0)),
            };
            let letter = event_dead_letter("Shipment__e", &event, "crm.Shipment__e", &error);
            assert!(
                letter.value.len() < super::super::kafka::LEAST_BATCH / 2,
                "{} bytes",
                letter.value.len()
            );
            let value: Value = serde_json::from_slice(&letter.value).unwrap();
            assert_eq!((&value["error"], &value["cut"]), (&json!("event-unreadable"), &json!(cut)));
            let payload = STANDARD.decode(value["payload"].as_str().unwrap()).unwrap();
            assert!(event.payload.starts_with(&payload) && payload.len() >= 3);
        }
    }

    #[test]
    fn a_letter_fits_into_a_batch_whatever_the_record_holds() {
        let worst = vec![1u8; LONGEST_CELL * 2];
        let unreadable = vec![0xffu8; LONGEST_CELL * 2];
        for cell in [worst, unreadable] {
            let mut cells = vec![b"001A".as_slice()];
            cells.extend(std::iter::repeat_n(cell.as_slice(), 900));
            let (key, letter) = letter(&batch(902, &cells));
            assert_eq!((key.as_slice(), &letter["cut"]), (b"001A".as_slice(), &json!(true)));
            assert!(letter["record"]["Field1__c"].is_string());
        }
    }
}
