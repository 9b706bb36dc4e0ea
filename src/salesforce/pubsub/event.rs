//! A change event: what happened to which records, and the fields' values as they came.
//!
//! Comes in: made by [`EventSchema`] from a payload. Goes out: the header in our words, and values by slot for the
//! plan that knows the object. An event may name many records, or none in particular: then it is the whole object
//! that must be read again (`pubsub.md` 5).

use std::fmt;
use std::sync::Arc;

use crate::domain::{FieldSet, ReplayId, Stamp};

use super::event_schema::EventSchema;

/// An event as it came, not yet decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// Not unique: copies of one event can share it.
    pub replay_id: ReplayId,
    pub event_id: String,
    pub schema_id: String,
    pub payload: Vec<u8>,
}

impl fmt::Debug for RawEvent {
    /// Without the payload, which holds values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawEvent")
            .field("replay_id", &self.replay_id)
            .field("event_id", &self.event_id)
            .field("schema_id", &self.schema_id)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    Create,
    Update,
    Delete,
    Undelete,
    /// The event says only that there was a change: the records must be read.
    GapCreate,
    GapUpdate,
    GapDelete,
    GapUndelete,
    /// Too many changes in one transaction: the object must be read.
    GapOverflow,
    /// What Salesforce brings later (`SNAPSHOT` is announced): to be treated as a gap.
    Unknown(String),
}

impl ChangeKind {
    pub(super) fn of(symbol: &str) -> Self {
        match symbol {
            "CREATE" => Self::Create,
            "UPDATE" => Self::Update,
            "DELETE" => Self::Delete,
            "UNDELETE" => Self::Undelete,
            "GAP_CREATE" => Self::GapCreate,
            "GAP_UPDATE" => Self::GapUpdate,
            "GAP_DELETE" => Self::GapDelete,
            "GAP_UNDELETE" => Self::GapUndelete,
            "GAP_OVERFLOW" => Self::GapOverflow,
            other => Self::Unknown(other.to_owned()),
        }
    }

    /// Salesforce's word.
    pub fn word(&self) -> &str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Undelete => "UNDELETE",
            Self::GapCreate => "GAP_CREATE",
            Self::GapUpdate => "GAP_UPDATE",
            Self::GapDelete => "GAP_DELETE",
            Self::GapUndelete => "GAP_UNDELETE",
            Self::GapOverflow => "GAP_OVERFLOW",
            Self::Unknown(word) => word,
        }
    }

    /// Whether the event carries no values: what happened must be read from the records.
    pub fn is_gap(&self) -> bool {
        match self {
            Self::Create | Self::Update | Self::Delete | Self::Undelete => false,
            Self::GapCreate
            | Self::GapUpdate
            | Self::GapDelete
            | Self::GapUndelete
            | Self::GapOverflow
            | Self::Unknown(_) => true,
        }
    }
}

/// A value of a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Boolean(bool),
    /// int or long
    Integer(i64),
    Double(f64),
    /// A stretch of the payload that is UTF-8.
    Text(u32, u32),
    /// A compound that is there; its parts have slots of their own.
    Parts,
    /// There, and of a type that no field of an object has.
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub entity_name: String,
    pub record_ids: Vec<String>,
    pub change_type: String,
    pub change_origin: String,
    pub transaction_key: String,
    pub sequence_number: i64,
    pub commit_timestamp: i64,
    pub commit_number: i64,
    pub commit_user: String,
    pub nulled: FieldSet,
    pub diff: FieldSet,
    pub changed: FieldSet,
}

#[derive(Clone)]
pub struct ChangeEvent {
    pub replay_id: ReplayId,
    pub event_id: String,
    /// API name of the object: `Vendor_Profile__c`.
    pub entity_name: String,
    pub record_ids: Vec<String>,
    pub kind: ChangeKind,
    /// Empty for changes that were not made through an API or Lightning.
    pub change_origin: String,
    pub transaction_key: String,
    /// The event's place within the transaction.
    pub sequence_number: i64,
    pub committed_at: Stamp,
    /// Says nothing about order.
    pub commit_number: i64,
    pub commit_user: String,
    pub(super) schema: Arc<EventSchema>,
    /// Sets of slots of the schema, as the bitmaps say.
    pub(super) nulled: FieldSet,
    pub(super) diff: FieldSet,
    pub(super) changed: FieldSet,
    pub(super) payload: Vec<u8>,
    pub(super) values: Vec<Value>,
}

impl fmt::Debug for ChangeEvent {
    /// Without values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeEvent")
            .field("replay_id", &self.replay_id)
            .field("event_id", &self.event_id)
            .field("schema_id", &self.schema_id())
            .field("entity_name", &self.entity_name)
            .field("record_ids", &self.record_ids)
            .field("kind", &self.kind)
            .field("committed_at", &self.committed_at)
            .finish_non_exhaustive()
    }
}

/// The record id that an overflow carries.
const NO_RECORD: &str = "000000000000000AAA";

impl ChangeEvent {
    /// The schema that the event was written with.
    pub fn schema(&self) -> &Arc<EventSchema> {
        &self.schema
    }

    pub fn schema_id(&self) -> &str {
        self.schema.id()
    }

    /// Whether no list of records says what must be read: an overflow, or a conversion of a field that changed all
    /// records at once (`001*`).
    pub fn concerns_whole_object(&self) -> bool {
        self.kind == ChangeKind::GapOverflow
            || self.record_ids.is_empty()
            || self.record_ids.iter().any(|id| is_wildcard(id) || id == NO_RECORD)
    }

    /// Paths of the fields that the event says were changed: `LastModifiedDate`, `BillingAddress.Street`. Empty
    /// for everything but updates.
    pub fn changed(&self) -> impl Iterator<Item = &str> {
        self.schema.paths(&self.changed)
    }

    /// Paths of the fields that were set to null.
    pub fn nulled(&self) -> impl Iterator<Item = &str> {
        self.schema.paths(&self.nulled)
    }

    /// Paths of the long texts of which the event carries only a difference.
    pub fn diff(&self) -> impl Iterator<Item = &str> {
        self.schema.paths(&self.diff)
    }

    pub(super) fn value(&self, slot: usize) -> Value {
        self.values.get(slot).copied().unwrap_or(Value::Null)
    }

    pub(super) fn text(&self, start: u32, end: u32) -> &[u8] {
        self.payload.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// A key prefix and a star: all records of the object.
fn is_wildcard(id: &str) -> bool {
    id.ends_with('*')
}
