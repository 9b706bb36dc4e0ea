//! What really happened and what is really there, for tests to compare with.
//!
//! Comes in: the org. Goes out: every live record in full, the ids of deleted ones, and the ordered change
//! log, all in pages or streams. Never: through a door that a fault could close.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::calendar::rest_datetime;
use super::id::Id;
use super::scan::{Scan, ScanRange};
use super::store::Life;
use super::value::Value;
use super::{Org, OrgError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Insert,
    Update,
    /// Only SystemModstamp moved.
    Touch,
    Delete,
    Undelete,
    /// Gone for good; also the deletion of a record whose object has no recycle bin.
    Purge,
}

impl ChangeKind {
    pub fn name(self) -> &'static str {
        match self {
            ChangeKind::Insert => "insert",
            ChangeKind::Update => "update",
            ChangeKind::Touch => "touch",
            ChangeKind::Delete => "delete",
            ChangeKind::Undelete => "undelete",
            ChangeKind::Purge => "purge",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeCause {
    Direct,
    Cascade,
    Merge,
}

impl ChangeCause {
    pub fn name(self) -> &'static str {
        match self {
            ChangeCause::Direct => "direct",
            ChangeCause::Cascade => "cascade",
            ChangeCause::Merge => "merge",
        }
    }
}

/// As the org keeps it.
#[derive(Clone, Debug)]
pub(super) struct LogEntry {
    pub commit: u64,
    pub transaction: u64,
    pub committed_at_ms: i64,
    pub visible_at_ms: i64,
    pub stamp_ms: i64,
    pub object: usize,
    pub sequence: u64,
    pub kind: ChangeKind,
    pub cause: ChangeCause,
    pub fields: Vec<(usize, Value)>,
}

/// One change of one record, in the order of visibility.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeEntry {
    /// Place in the log, from 1.
    pub number: u64,
    pub commit: u64,
    pub transaction: u64,
    /// When it was saved, in org time; before `visible_at_ms` when it lagged.
    pub committed_at_ms: i64,
    pub visible_at_ms: i64,
    pub stamp_ms: i64,
    pub object: String,
    pub id: Id,
    pub kind: ChangeKind,
    pub cause: ChangeCause,
    /// The fields that were set, with their new values.
    pub fields: Vec<(String, Value)>,
}

impl ChangeEntry {
    pub fn to_json(&self) -> Json {
        let fields: Map<String, Json> =
            self.fields.iter().map(|(name, value)| (name.clone(), value.to_rest_json())).collect();
        json!({
            "number": self.number,
            "commit": self.commit,
            "transaction": self.transaction,
            "committedAt": rest_datetime(self.committed_at_ms),
            "visibleAt": rest_datetime(self.visible_at_ms),
            "stamp": rest_datetime(self.stamp_ms),
            "object": self.object,
            "id": self.id.as_str(),
            "kind": self.kind.name(),
            "cause": self.cause.name(),
            "fields": fields,
        })
    }
}

/// Every live record of one object, in id order, in full.
pub struct TruthRows {
    scan: Scan,
}

impl Iterator for TruthRows {
    type Item = Map<String, Json>;

    fn next(&mut self) -> Option<Map<String, Json>> {
        self.scan.by_ref().find(|row| !row.is_deleted()).map(|row| row.to_json())
    }
}

impl Org {
    /// All live records (archived ones too) with every visible field in REST form, as of now, in id order.
    pub fn truth_rows(self: &Arc<Self>, object: &str) -> Result<TruthRows, OrgError> {
        let range = ScanRange { include_deleted: true, ..ScanRange::in_id_order() };
        Ok(TruthRows { scan: self.snapshot().scan(object, range)? })
    }

    /// The bytes behind a live record's base64 field, as of now.
    pub fn truth_blob(
        self: &Arc<Self>,
        object: &str,
        id: Id,
        field: &str,
    ) -> Result<Option<Vec<u8>>, OrgError> {
        let row = self.snapshot().row(object, id, true)?.filter(|row| !row.is_deleted());
        Ok(row.and_then(|row| row.blob(row.object().field(field)?.0)))
    }

    /// Ids of records that are not there any more, in order: deleted, purged, or past the recycle bin.
    pub fn deleted_ids(&self, object: &str) -> Result<Vec<Id>, OrgError> {
        self.settle();
        let state = self.read();
        let store = &state.stores[state.object_index(object)?];
        let mut sequences: Vec<u64> = store
            .recent_base_rows()
            .filter(|row| store.is_base_at(*row, state.commit))
            .filter(|row| store.is_base_deleted(*row, store.shape.stamp_ms(*row)))
            .collect();
        sequences.extend(store.chains.iter().filter_map(|(sequence, chain)| {
            chain.last().is_some_and(|version| version.life != Life::Live).then_some(*sequence)
        }));
        sequences.sort_unstable();
        Ok(sequences.into_iter().map(|sequence| store.id(sequence)).collect())
    }

    /// Up to `limit` changes after log number `after` (0 for the beginning), in order of visibility.
    pub fn change_log(&self, after: u64, limit: usize) -> Vec<ChangeEntry> {
        self.settle();
        let state = self.read();
        let start = usize::try_from(after).unwrap_or(usize::MAX).min(state.log.len());
        state.log[start..]
            .iter()
            .take(limit)
            .enumerate()
            .map(|(at, entry)| {
                let object = &state.catalog.objects()[entry.object];
                let name = |field: usize| {
                    object.field_at(field).map_or_else(String::new, |field| field.name.clone())
                };
                ChangeEntry {
                    number: (start + at) as u64 + 1,
                    commit: entry.commit,
                    transaction: entry.transaction,
                    committed_at_ms: entry.committed_at_ms,
                    visible_at_ms: entry.visible_at_ms,
                    stamp_ms: entry.stamp_ms,
                    object: object.name.clone(),
                    id: state.stores[entry.object].id(entry.sequence),
                    kind: entry.kind,
                    cause: entry.cause,
                    fields: entry.fields.iter().map(|(field, value)| (name(*field), value.clone())).collect(),
                }
            })
            .collect()
    }

    /// The number of the newest log entry.
    pub fn change_count(&self) -> u64 {
        self.settle();
        self.read().log.len() as u64
    }

    /// Live records, for `limits/recordCount` (rest.md 3.9).
    pub fn approximate_count(&self, object: &str) -> Result<u64, OrgError> {
        self.settle();
        let state = self.read();
        let store = &state.stores[state.object_index(object)?];
        Ok(store.base_live.saturating_add_signed(store.live_delta))
    }
}
