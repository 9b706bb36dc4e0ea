//! A Salesforce to practise on: an org with a catalogue of objects, deterministic data, transactions with
//! commit lag, and the truth about all of it for tests.
//!
//! In: a seed, row counts, changes. Out: what Salesforce's doors would show (REST, Bulk, Pub/Sub), and what really
//! happened.
//! Imports nothing of the program that is tested with it.

mod arguments;
pub mod catalog;
mod http;
pub mod org;
pub mod pubsub;
pub mod soql;

pub use arguments::SimulatorArgs;
pub use http::{Simulator, SimulatorConfig};
