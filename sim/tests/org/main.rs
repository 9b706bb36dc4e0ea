//! The simulated org, tried from outside: its records, transactions, replication answers and catalogue.
//! Every clock here stands still until a test moves it.

#![expect(clippy::unwrap_used, reason = "a test may stop at what should not be")]

mod catalog;
mod commits;
mod records;
mod replication;
mod scans;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use sf2kafka_sim::org::{Change, Clock, Fields, Id, Org, OrgConfig, Row, ScanRange, Transaction, Value};

/// 2026-05-19T08:30:00Z
pub const START_MS: i64 = 1_779_179_400_000;

pub fn config() -> OrgConfig {
    OrgConfig::default().with_seed(7).with_clock(Clock::stopped_at(START_MS))
}

pub fn org() -> Arc<Org> {
    Org::new(config())
}

pub fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub fn rows(org: &Arc<Org>, object: &str, include_deleted: bool) -> Vec<Row> {
    org.snapshot().scan(object, ScanRange { include_deleted, ..ScanRange::default() }).unwrap().collect()
}

pub fn first_id(org: &Arc<Org>, object: &str) -> Id {
    org.snapshot().scan(object, ScanRange::in_id_order()).unwrap().next().unwrap().id()
}

pub fn row(org: &Arc<Org>, object: &str, id: Id) -> Option<Row> {
    org.snapshot().row(object, id, true).unwrap()
}

pub fn get(org: &Arc<Org>, object: &str, id: Id, field: &str) -> Value {
    row(org, object, id).expect("the record is there").get_by_name(field).expect("the field is there")
}

pub fn name(text: &str) -> Fields {
    vec![("Name".to_owned(), Value::text(text.to_owned()))]
}

pub fn one(change: Change) -> Transaction {
    Transaction::of(vec![change])
}
