//! What a change looks like in Kafka: keys and values as bytes.
//!
//! Comes in: batches, and schema ids. Goes out: Confluent wire format around Avro. No I/O; nothing of capture or
//! Salesforce's wire is known here.

mod avro;
mod change_table;
mod mask;
mod platform_event;
mod unfit;

pub use change_table::{Encoder, SchemaIds};
pub use platform_event::{event_key, event_value};
pub use unfit::Unfit;
