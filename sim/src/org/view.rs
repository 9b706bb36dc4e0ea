//! A look at the org as of one commit, and the records seen through it.
//!
//! Comes in: the org's newest commit and time. Goes out: scans, records by id, counts; a record hands out
//! single fields and builds no others. As long as a snapshot lives, the versions it can see are kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::config::to_ms;
use super::id::Id;
use super::plan::Plan;
use super::scan::{Scan, ScanRange};
use super::store::{Life, Store, Version};
use super::value::Value;
use super::{Org, OrgError};
use crate::catalog::{Catalog, ObjectDef};

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) view: Arc<View>,
}

#[derive(Debug)]
pub(super) struct View {
    pub org: Arc<Org>,
    pub commit: u64,
    pub time_ms: i64,
    pub catalog: Arc<Catalog>,
    pub plans: Arc<Vec<Arc<Plan>>>,
}

impl Drop for View {
    fn drop(&mut self) {
        let mut pinned = self.org.pinned();
        if let Some(count) = pinned.get_mut(&self.commit) {
            *count -= 1;
            if *count == 0 {
                pinned.remove(&self.commit);
            }
        }
    }
}

impl Snapshot {
    pub(super) fn take(org: &Arc<Org>) -> Snapshot {
        // The pin is set while the state is locked, so that no commit can drop what is seen here.
        let state = org.read();
        let commit = state.commit;
        *org.pinned().entry(commit).or_insert(0) += 1;
        let view = View {
            org: Arc::clone(org),
            commit,
            time_ms: org.now_ms(),
            catalog: Arc::clone(&state.catalog),
            plans: Arc::clone(&state.plans),
        };
        Snapshot { view: Arc::new(view) }
    }

    /// The newest commit that is seen.
    pub fn commit_number(&self) -> u64 {
        self.view.commit
    }

    /// The org time when the snapshot was taken.
    pub fn time_ms(&self) -> i64 {
        self.view.time_ms
    }

    /// The catalogue when the snapshot was taken.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.view.catalog
    }

    pub(super) fn index_of(&self, object: &str) -> Result<usize, OrgError> {
        self.view.catalog.index_of(object).ok_or_else(|| OrgError::NoSuchObject(object.to_owned()))
    }

    /// The records of a range, in its order.
    pub fn scan(&self, object: &str, range: ScanRange) -> Result<Scan, OrgError> {
        Ok(Scan::new(Arc::clone(&self.view), self.index_of(object)?, range))
    }

    /// One record by its id. Records in the recycle bin and archived ones only with `include_deleted`.
    pub fn row(&self, object: &str, id: Id, include_deleted: bool) -> Result<Option<Row>, OrgError> {
        let object = self.index_of(object)?;
        Ok(self.view.row(object, id).filter(|row| row.is_seen(include_deleted)))
    }

    /// The record an id belongs to, whatever the object; for polymorphic references.
    pub fn row_of_any_object(&self, id: Id) -> Option<Row> {
        let prefix = id.prefix();
        let mut objects = self.view.catalog.objects().iter();
        let object = objects.position(|object| object.id_prefix == prefix && !object.removed)?;
        self.view.row(object, id).filter(|row| row.is_seen(true))
    }

    /// `SELECT COUNT() FROM object`, quick for live records.
    pub fn count(&self, object: &str, include_deleted: bool) -> Result<u64, OrgError> {
        let index = self.index_of(object)?;
        if !include_deleted {
            let state = self.view.org.read();
            if let Some(store) = state.stores.get(index).filter(|_| state.commit == self.view.commit) {
                return Ok(store.base_live.saturating_add_signed(store.live_delta));
            }
        }
        Ok(self.scan(object, ScanRange { include_deleted, ..ScanRange::default() })?.count() as u64)
    }
}

impl View {
    pub fn row(self: &Arc<Self>, object: usize, id: Id) -> Option<Row> {
        let state = self.org.read();
        let store = state.stores.get(object)?;
        let sequence = store.sequence_of(id)?;
        self.row_in(store, object, sequence)
    }

    pub fn row_in(self: &Arc<Self>, store: &Store, object: usize, sequence: u64) -> Option<Row> {
        match store.version_at(sequence, self.commit) {
            Some(version) => Some(Row::changed(self, object, sequence, Arc::clone(version))),
            None if sequence < store.shape.rows => Some(Row::generated(self, store, object, sequence)),
            None => None,
        }
    }
}

impl View {
    /// The records that refer to a cascading parent, deleted ones included.
    pub fn children(self: &Arc<Self>, object: usize, reference: usize, parent: u64) -> Vec<Row> {
        let (Some(plan), state) = (self.plans.get(object), self.org.read()) else { return Vec::new() };
        let Some(store) = state.stores.get(object) else { return Vec::new() };
        let mut candidates: BTreeSet<u64> = plan.block(reference, parent).into_iter().flatten().collect();
        candidates.extend(store.children.get(&(reference, parent)).into_iter().flatten());
        let rows: Vec<Row> = candidates.iter().filter_map(|at| self.row_in(store, object, *at)).collect();
        drop(state);
        let refers = |row: &Row| row.get(reference).as_id().and_then(|id| id.sequence()) == Some(parent);
        rows.into_iter().filter(|row| row.life != Life::Purged && refers(row)).collect()
    }
}

/// One record as one snapshot sees it.
#[derive(Clone, Debug)]
pub struct Row {
    pub(super) view: Arc<View>,
    pub(super) object: usize,
    pub(super) sequence: u64,
    pub(super) cursor_ms: i64,
    pub(super) hash: u64,
    pub(super) life: Life,
    pub(super) archived: bool,
    pub(super) version: Option<Arc<Version>>,
}

impl Row {
    pub(super) fn generated(view: &Arc<View>, store: &Store, object: usize, sequence: u64) -> Row {
        let cursor_ms = store.shape.stamp_ms(sequence);
        let deleted = store.is_base_deleted(sequence, cursor_ms);
        Row {
            view: Arc::clone(view),
            object,
            sequence,
            cursor_ms,
            hash: store.row_hash(sequence),
            life: if deleted { Life::Deleted { at_ms: cursor_ms } } else { Life::Live },
            archived: store.is_base_archived(cursor_ms),
            version: None,
        }
    }

    pub(super) fn changed(view: &Arc<View>, object: usize, sequence: u64, version: Arc<Version>) -> Row {
        Row {
            view: Arc::clone(view),
            object,
            sequence,
            cursor_ms: version.cursor_ms,
            hash: view.plans.get(object).map_or(0, |plan| plan.row_hash(sequence)),
            life: version.life,
            archived: version.archived,
            version: Some(version),
        }
    }

    pub(super) fn is_seen(&self, include_deleted: bool) -> bool {
        match self.life {
            Life::Live => include_deleted || !self.archived,
            Life::Deleted { at_ms } => {
                include_deleted && self.view.time_ms - at_ms < to_ms(self.view.org.config.recycle_bin)
            }
            Life::Purged => false,
        }
    }

    pub fn object(&self) -> &Arc<ObjectDef> {
        &self.view.catalog.objects()[self.object]
    }

    /// The record's own id, also where its Id field answers a constant.
    pub fn id(&self) -> Id {
        Id::new(self.object().id_prefix, self.sequence)
    }

    /// The value of the cursor field.
    pub fn cursor_ms(&self) -> i64 {
        self.cursor_ms
    }

    /// Where a later scan can go on (`ScanRange::after`).
    pub fn key(&self) -> super::ScanKey {
        super::ScanKey { cursor_ms: self.cursor_ms, id: self.id() }
    }

    pub fn is_deleted(&self) -> bool {
        self.life != Life::Live
    }

    /// Shown by queryAll only, though not deleted (rest.md 3.6).
    pub fn is_archived(&self) -> bool {
        self.archived
    }

    /// The value of the field at this index of `ObjectDef::all_fields`; null for an index out of range.
    /// Hidden fields answer too: who asks must have looked the field up.
    pub fn get(&self, field: usize) -> Value {
        match self.view.plans.get(self.object) {
            Some(plan) => plan.value(self, field),
            None => Value::Null,
        }
    }

    /// The bytes behind a base64 field; none if it is null or no such field.
    pub fn blob(&self, field: usize) -> Option<Vec<u8>> {
        self.view.plans.get(self.object)?.blob(self, field)
    }

    /// The value of a visible field by its name in any case.
    pub fn get_by_name(&self, name: &str) -> Option<Value> {
        let (index, _) = self.object().field(name)?;
        Some(self.get(index))
    }

    /// Every visible field in REST form, without `attributes`.
    pub fn to_json(&self) -> Map<String, Json> {
        self.object()
            .visible_fields()
            .map(|(index, field)| (field.name.clone(), self.get(index).to_rest_json()))
            .collect()
    }
}
