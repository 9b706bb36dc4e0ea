//! The parcel that goes down the road: changes of one object, and the control records that say how far they go.
//!
//! Comes in: from an object's sequencer. Goes out: into one transaction, whole or not at all. Records and control
//! records of a batch must never be committed apart.

use std::sync::Arc;

use super::{Blobs, Change, Detail, Notice, ObjectDescription, Rows, Source, Stamp};

/// A record of the control topic: its key, and its value or a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRecord {
    pub key: String,
    pub value: Option<Vec<u8>>,
}

/// Loaded rows that single topics lack: the others hold them already, but for those that may have changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Only {
    pub topics: Arc<[String]>,
    /// Rows with an older stamp go to these topics alone.
    pub before: Stamp,
}

impl Only {
    pub fn leaves_out(&self, topic: &str, change: &Change) -> bool {
        change.timestamp < self.before && !self.topics.iter().any(|only| only == topic)
    }
}

#[derive(Debug)]
pub struct Batch {
    pub object: Arc<ObjectDescription>,
    pub rows: Rows,
    /// With `blobs: include`: what the paths in the rows lead to.
    pub blobs: Blobs,
    pub changes: Vec<Change>,
    /// What single changes refer to.
    pub details: Vec<Detail>,
    pub source: Source,
    pub load_id: Option<Arc<str>>,
    /// None: for all topics of the object.
    pub only: Option<Only>,
    /// `header__stream_position`: the cursor of the poll or load.
    pub stream_position: Arc<str>,
    /// What is to be told when this is committed.
    pub notices: Vec<Notice>,
    /// Position and ledger records that become true with these changes.
    pub control: Vec<ControlRecord>,
}

impl Batch {
    pub fn detail(&self, change: &Change) -> Option<&Detail> {
        self.details.get(change.detail? as usize)
    }
}
