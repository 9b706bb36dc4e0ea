//! Readings of an object, and what becomes of them: full load, polling, deletions, the sequencer and its ledger.
//!
//! Comes in: Salesforce's answers through `salesforce`, positions from the control partition. Goes out: batches.
//! Rules on order, gaps and completeness live here and nowhere else; nothing here knows Avro or Kafka.

mod blobs;
mod condition;
mod deletions;
mod disguise;
mod event;
pub mod forecast;
pub mod ledger;
mod live;
mod load;
mod loaded;
mod misfit;
mod object;
mod page_size;
mod platform_event;
mod poll;
mod reading;
mod sequencer;
#[cfg(test)]
mod tests;
pub mod unfollowed;
mod window;

pub use condition::{probe as probe_condition, refused as condition_refused};
pub use deletions::asks_for_deletions;
pub use live::LiveSettings;
pub use object::{CaptureSettings, ObjectCapture, Step};
pub use platform_event::{EventCapture, EventStep};
