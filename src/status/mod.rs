//! What people watch: the board with the state of every object, the metrics, and the server that shows both.
//!
//! Comes in: notes from the rooms above (read, committed, failed, called). Goes out: snapshots, Prometheus text,
//! health answers. It never influences the path: nobody decides by what stands here, and no note waits.

mod board;
mod histogram;
pub mod metrics;
mod object;
mod process;
pub mod server;
mod snapshot;
mod tally;

pub use board::{Board, KafkaCounters};
pub use object::ObjectStatus;
pub use snapshot::{BudgetReport, ErrorReport, LoadCalls, ObjectReport, Phase, Snapshot, WaitingReport};
pub use tally::Tally;

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::Stamp;

/// Our own clock, for what is shown to people; positions and windows go by Salesforce's.
pub fn now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
