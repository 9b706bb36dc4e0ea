//! From an object's description to registered Avro schemas, and how they change.
//!
//! Comes in: descriptions, and the lineage that the control topic pins. Goes out: schema texts and registry ids. The
//! order and the names of an object's fields never change once published; nothing here knows Salesforce's wire.

pub mod asked;
pub mod avro;
pub mod event;
pub mod lineage;
pub mod registry;

pub use asked::Asked;
pub use lineage::{PinnedField, SchemaLineage};
pub use registry::{Foreseen, Registry, Subject};
