//! What `schemas/control` says of control records is what the program reads and writes.
//!
//! In: the JSON Schemas and their examples. Out: a failure if an example does not fit, if the program cannot read it, or
//! if the program writes what the schema does not list. `tests/broker` holds the records of real runs against them too.

use std::collections::BTreeSet;

use serde_json::Value;
use sf2kafka::capture::ledger::{Entry, Kind, Ledger, RecordId};
use sf2kafka::domain::{Capture, Leaving, LoadPosition, Position, Reload, ReloadReason, Stamp, State};
use sf2kafka::schema::SchemaLineage;

use crate::json_schema::{misfits, of_key};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/control/examples");

fn example(name: &str) -> Vec<u8> {
    std::fs::read(format!("{EXAMPLES}/{name}.json")).unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn every_example_fits_its_schema_and_every_schema_has_one() {
    let mut kinds = BTreeSet::new();
    for entry in std::fs::read_dir(EXAMPLES).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let kind = name.split('-').next().unwrap().to_owned();
        assert_eq!(misfits(&of_key(&kind), &json(&example(&name))), [""; 0], "{name}");
        kinds.insert(kind);
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["budget", "layout", "ledger", "position", "schema", "token", "turn"]
    );
}

#[test]
fn examples_are_read_and_written_back_as_they_are() {
    for name in ["position-loading", "position-live", "position-reloading", "position-event"] {
        let position = Position::decode(&example(name)).unwrap();
        assert_eq!(json(&position.encode()), json(&example(name)), "{name}");
    }
    let lineage = SchemaLineage::decode(&example("schema")).unwrap();
    assert_eq!(json(&lineage.encode()), json(&example("schema")));

    let mut ledger = Ledger::new("Invoice__c");
    ledger.restore("ledger/Invoice__c/live/2026-05-19T08:59/0", &example("ledger")).unwrap();
    let entry = ledger.newest(&RecordId::new(b"a015g00000AbCdEAAV").unwrap()).unwrap();
    let stamp = Stamp::parse(b"2026-05-19T08:59:07.120Z").unwrap();
    assert_eq!(
        entry,
        Entry { kind: Kind::Live, stamp, hash: 1_123_415_317_562_253_941, number: 1_203, event: 0 }
    );
    let mut anew = Ledger::new("Invoice__c");
    anew.enter(RecordId::new(b"a015g00000AbCdEAAV").unwrap(), entry);
    let records = anew.take_records();
    assert_eq!(records[0].key, "ledger/Invoice__c/live/2026-05-19T08:59/0");
    assert_eq!(json(records[0].value.as_ref().unwrap()), json(&example("ledger")));
}

#[test]
fn all_that_a_position_can_hold_is_listed() {
    let stamp = Stamp::parse(b"2026-05-19T08:30:00.000Z").unwrap();
    let text = || Some("x".to_owned());
    let mut position = Position::new("Account");
    position.follow_from(stamp, stamp);
    position.replay_id = "00000000001790500000".parse().ok();
    position.committed_to = Some(stamp);
    position.events_to = Some(stamp);
    position.error = text();
    position.schema_ids.insert("crm.Account".to_owned(), serde_json::json!({"key": 1, "value": 2}));
    position.load = Some(LoadPosition {
        id: "x".to_owned(),
        started_at: stamp,
        job: text(),
        locator: text(),
        after_id: text(),
        rows: 1,
        announced: Some(2),
        done: false,
    });
    use ReloadReason::{AllRecords, Condition, FieldRules, NewField, NewOutput, Values};
    position.reload = Some(Reload {
        reasons: vec![AllRecords, NewField, NewOutput, FieldRules, Values, Condition],
        fields: vec!["x".to_owned()],
        outputs: Some(vec!["x".to_owned()]),
        beyond: 1,
        leaving: Some(Leaving { conditions: vec![String::new()], after_id: text() }),
    });
    let schema = of_key(&Position::key("Account"));
    for state in [State::Loading, State::Live, State::Paused, State::Failed] {
        for capture in [Capture::Poll, Capture::Subscribe, Capture::None] {
            (position.state, position.capture) = (state, capture);
            assert_eq!(misfits(&schema, &json(&position.encode())), [""; 0]);
        }
    }
    // Nothing is listed that no position holds, either.
    let held = json(&position.encode());
    let listed = schema["properties"].as_object().unwrap();
    assert_eq!(listed.keys().collect::<BTreeSet<_>>(), held.as_object().unwrap().keys().collect());
    for part in ["load", "reload"] {
        let listed = schema["properties"][part]["properties"].as_object().unwrap();
        assert_eq!(listed.keys().collect::<BTreeSet<_>>(), held[part].as_object().unwrap().keys().collect());
    }
}

#[test]
fn what_is_wrong_is_found() {
    let schema = of_key("position/Account");
    let good = json(&example("position-live"));
    for (name, value) in [
        ("version", serde_json::json!(2)),
        ("state", serde_json::json!("running")),
        ("change_seq", serde_json::json!("1")),
        ("cursor", serde_json::json!("yesterday")),
        ("epoch", serde_json::json!(-1)),
        ("load", serde_json::json!({"id": "x"})),
        ("unheard_of", serde_json::json!(null)),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert_eq!(misfits(&schema, &bad).len(), 1, "{name}");
    }
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("object");
    assert_eq!(misfits(&schema, &bad).len(), 1);
}
