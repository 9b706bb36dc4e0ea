//! A platform event as it goes into its topic, and the parcel that carries some of them.
//!
//! Comes in: from the event's capture. Goes out: into one transaction, whole or not at all. The payload stays as
//! Salesforce wrote it: what is published is these bytes behind two fields of ours.

use std::fmt;
use std::sync::Arc;

use super::{ControlRecord, Notice, ReplayId, Stamp};
use crate::error::Result;

pub struct PlatformEvent {
    /// `EventUuid` of the payload, else the id that the event was delivered with.
    pub id: String,
    pub replay_id: ReplayId,
    /// Salesforce's id of the schema that wrote the payload.
    pub schema_id: String,
    pub payload: Vec<u8>,
    /// `CreatedDate`. An error: the payload does not read by its schema, and the event goes to the dead letters.
    pub created_at: Result<Stamp>,
}

impl fmt::Debug for PlatformEvent {
    /// Without the payload, which holds values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlatformEvent")
            .field("id", &self.id)
            .field("replay_id", &self.replay_id)
            .field("schema_id", &self.schema_id)
            .field("bytes", &self.payload.len())
            .field("created_at", &self.created_at)
            .finish()
    }
}

#[derive(Debug)]
pub struct EventBatch {
    /// API name: `Shipment__e`.
    pub event: Arc<str>,
    /// In the order of the stream.
    pub events: Vec<PlatformEvent>,
    /// Events that Salesforce delivered again, and that were dropped.
    pub repeated: u64,
    /// What is to be told when this is committed.
    pub notices: Vec<Notice>,
    /// The position that becomes true with these events.
    pub control: Vec<ControlRecord>,
}
