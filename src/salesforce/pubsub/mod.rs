//! The Pub/Sub API: change events and platform events as they happen.
//!
//! Comes in: a [`Client`](super::Client) with its login. Goes out: [`Received`] messages of one topic's [`Subscription`],
//! their events decoded by the schema that each names, and by an [`EventPlan`] the cells of the object's fields, the
//! same that REST and Bulk give. Where to start, what to do about gaps and when to ask for more is the caller's. The
//! rules of the wire stand in `pubsub.md`; `eventbus.rs` is made from `proto/` by `cargo xtask codegen`.

mod avro;
mod bitmap;
mod captured;
mod cell;
mod connection;
mod event;
mod event_schema;
#[expect(clippy::allow_attributes_without_reason, reason = "made by tonic and prost")]
mod eventbus;
mod fault;
mod plan;
mod platform_schema;
mod road;
mod schema_cache;
mod subscription;
#[cfg(test)]
mod tests;
mod topic;

#[cfg(any(test, feature = "fuzzing"))]
pub use bitmap::named_slots;
pub use connection::{PubSub, Topic};
pub use event::{ChangeEvent, ChangeKind, RawEvent};
pub use event_schema::EventSchema;
pub use plan::{EventCells, EventPlan};
pub use platform_schema::PlatformSchema;
pub use subscription::{MOST_OUTSTANDING, Received, Start, Subscription};
pub use topic::{change_topic, event_name, object_of, platform_topic};
