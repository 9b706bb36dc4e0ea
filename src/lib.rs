//! The map of the program: Salesforce's changes in, Kafka records out, one direction only.
//!
//! bytes -> `salesforce` -> `capture` (readings, sequencer, ledger) -> `domain::Batch` -> bounded queue ->
//! `envelope` (Avro bytes by a plan compiled in `schema`) -> `publish` (one transaction: records and positions).
//! `pipeline` is the corridor that runs the rooms, `cli` the door. A file imports only from a lower level:
//! error, domain < config, status < salesforce, schema < capture, envelope < publish < pipeline < cli;
//! `tests/layering.rs` holds that table and fails otherwise.

pub mod capture;
pub mod cli;
pub mod config;
pub mod domain;
pub mod envelope;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod pipeline;
pub mod publish;
pub mod salesforce;
pub mod schema;
pub mod status;

pub use error::{Error, Result};
