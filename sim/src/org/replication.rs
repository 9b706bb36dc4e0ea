//! getUpdated and getDeleted, and the delete log behind the latter (rest.md 3.5).
//!
//! Comes in: an object and a window. Goes out: ids and the times up to which they are complete, or the refusal
//! with Salesforce's code. Never: an answer that claims to cover a transaction which is saved but not seen.

use std::collections::{BTreeSet, HashMap};

use super::calendar::{MS_PER_DAY, MS_PER_MINUTE, truncate_to_minute};
use super::config::to_ms;
use super::id::Id;
use super::store::{Life, Store};
use super::{Change, CommitError, Org, OrgError, Receipt, State, Transaction};
use crate::catalog::ObjectDef;

/// At most so many ids in one answer.
const ID_LIMIT: usize = 600_000;
const UPDATED_REACH_MS: i64 = 30 * MS_PER_DAY;
const TWO_HOURS_MS: i64 = 120 * MS_PER_MINUTE;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    pub ids: Vec<Id>,
    pub latest_date_covered_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub records: Vec<DeletedRecord>,
    pub earliest_date_available_ms: i64,
    pub latest_date_covered_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletedRecord {
    pub id: Id,
    pub deleted_ms: i64,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReplicationError {
    #[error(transparent)]
    Org(#[from] OrgError),
    #[error("entity type {0} does not support replication")]
    NotReplicateable(String),
    #[error("endDate must be at least one minute greater than startDate")]
    WindowTooShort,
    #[error("startDate before org replication enabled date")]
    StartTooEarly,
    #[error("the delete log was cut back beyond startDate: a full pull of the object is needed")]
    LogTrimmed,
    #[error("more than 600000 ids: use a shorter window")]
    TooManyIds,
}

impl ReplicationError {
    pub fn code(&self) -> &'static str {
        match self {
            ReplicationError::Org(_) => "NOT_FOUND",
            ReplicationError::NotReplicateable(_) => "INVALID_TYPE_FOR_OPERATION",
            ReplicationError::WindowTooShort
            | ReplicationError::StartTooEarly
            | ReplicationError::LogTrimmed => "INVALID_REPLICATION_DATE",
            ReplicationError::TooManyIds => "EXCEEDED_ID_LIMIT",
        }
    }
}

/// Deletions of one object since the org began.
#[derive(Debug, Default)]
pub(super) struct DeleteLog {
    by_time: BTreeSet<(i64, u64)>,
    by_sequence: HashMap<u64, i64>,
    /// Older entries are gone.
    trimmed_before_ms: Option<i64>,
    last_trim_ms: Option<i64>,
    last_purge_ms: Option<i64>,
}

impl DeleteLog {
    pub fn record(&mut self, sequence: u64, at_ms: i64) {
        self.forget(sequence);
        self.by_time.insert((at_ms, sequence));
        self.by_sequence.insert(sequence, at_ms);
    }

    pub fn forget(&mut self, sequence: u64) {
        if let Some(at_ms) = self.by_sequence.remove(&sequence) {
            self.by_time.remove(&(at_ms, sequence));
        }
    }

    pub fn note_purge(&mut self, at_ms: i64) {
        self.last_purge_ms = self.last_purge_ms.max(Some(at_ms));
    }

    /// Every two hours, when there are more entries than `limit`: what is older than two hours goes.
    pub fn trim(&mut self, now_ms: i64, limit: usize) {
        let due = self.last_trim_ms.is_none_or(|last| now_ms - last >= TWO_HOURS_MS);
        let old = now_ms - TWO_HOURS_MS;
        let has_old = self.by_time.first().is_some_and(|(at_ms, _)| *at_ms < old);
        if due && has_old && self.by_time.len() > limit {
            self.last_trim_ms = Some(now_ms);
            self.cut(old);
        }
    }

    pub fn cut(&mut self, before_ms: i64) {
        let kept = self.by_time.split_off(&(before_ms, 0));
        for (_, sequence) in std::mem::replace(&mut self.by_time, kept) {
            self.by_sequence.remove(&sequence);
        }
        self.trimmed_before_ms = self.trimmed_before_ms.max(Some(before_ms));
    }
}

/// A window with its seconds cut off, checked for its length.
fn window(start_ms: i64, end_ms: i64) -> Result<(i64, i64), ReplicationError> {
    let (start, end) = (truncate_to_minute(start_ms), truncate_to_minute(end_ms));
    if end - start <= MS_PER_MINUTE { Err(ReplicationError::WindowTooShort) } else { Ok((start, end)) }
}

impl Org {
    /// Ids of records changed in a window, deleted ones left out.
    pub fn updated(&self, object: &str, start_ms: i64, end_ms: i64) -> Result<Updated, ReplicationError> {
        self.settle();
        let now_ms = self.now_ms();
        let state = self.read();
        let (index, _) = replicateable(&state, object)?;
        let (start, end) = window(start_ms, end_ms)?;
        if start < now_ms - UPDATED_REACH_MS {
            return Err(ReplicationError::StartTooEarly);
        }
        let covered = latest_covered(&state, end, now_ms);
        let store = &state.stores[index];
        let mut sequences: Vec<u64> = store
            .shape
            .rows_between(start, end)
            .filter(|row| store.is_base_at(*row, state.commit))
            .filter(|row| !store.is_base_deleted(*row, store.shape.stamp_ms(*row)))
            .collect();
        for (_, sequence, commit) in store.by_cursor.range((start, 0, 0)..(end, 0, 0)) {
            let current = store.version_at(*sequence, state.commit);
            if current.is_some_and(|version| version.commit == *commit && version.life == Life::Live) {
                sequences.push(*sequence);
            }
        }
        if sequences.len() > ID_LIMIT {
            return Err(ReplicationError::TooManyIds);
        }
        sequences.sort_unstable();
        let ids = sequences.into_iter().map(|sequence| store.id(sequence)).collect();
        Ok(Updated { ids, latest_date_covered_ms: covered })
    }

    /// Records deleted in a window. For a history object: of all history objects (rest.md 3.5).
    pub fn deleted(&self, object: &str, start_ms: i64, end_ms: i64) -> Result<Deleted, ReplicationError> {
        self.settle();
        let now_ms = self.now_ms();
        let state = self.read();
        let (index, definition) = replicateable(&state, object)?;
        let (start, end) = window(start_ms, end_ms)?;
        if start < truncate_to_minute(now_ms - to_ms(self.config.recycle_bin)) {
            return Err(ReplicationError::StartTooEarly);
        }
        let is_history = |object: &ObjectDef| object.associate_entity_type.as_deref() == Some("History");
        let stores: Vec<&Store> = if is_history(definition) && definition.name != "OpportunityHistory" {
            let objects = state.catalog.objects().iter().enumerate();
            objects.filter(|(_, object)| is_history(object)).map(|(at, _)| &state.stores[at]).collect()
        } else {
            vec![&state.stores[index]]
        };
        let mut records = Vec::new();
        for store in &stores {
            if store.deletions.trimmed_before_ms.is_some_and(|trimmed| start < trimmed) {
                return Err(ReplicationError::LogTrimmed);
            }
            let generated = store
                .shape
                .rows_between(start, end)
                .filter(|row| store.is_base_at(*row, state.commit))
                .map(|row| (row, store.shape.stamp_ms(row)))
                .filter(|(row, stamp)| store.is_base_deleted(*row, *stamp));
            records
                .extend(generated.map(|(row, deleted_ms)| DeletedRecord { id: store.id(row), deleted_ms }));
            let logged = store.deletions.by_time.range((start, 0)..(end, 0));
            records
                .extend(logged.map(|(at_ms, row)| DeletedRecord { id: store.id(*row), deleted_ms: *at_ms }));
        }
        if records.len() > ID_LIMIT {
            return Err(ReplicationError::TooManyIds);
        }
        records.sort_by_key(|record| (record.deleted_ms, record.id));
        let deletions = &state.stores[index].deletions;
        let mut earliest = self.start_ms - to_ms(self.config.recycle_bin);
        earliest = earliest.max(deletions.trimmed_before_ms.unwrap_or(i64::MIN));
        if self.config.purge_moves_earliest_date {
            earliest = earliest.max(deletions.last_purge_ms.unwrap_or(i64::MIN));
        }
        Ok(Deleted {
            records,
            earliest_date_available_ms: earliest,
            latest_date_covered_ms: latest_covered(&state, end, now_ms),
        })
    }

    /// Cuts an object's delete log: a getDeleted that reaches before `before_ms` fails from now on.
    pub fn trim_delete_log(&self, object: &str, before_ms: i64) -> Result<(), OrgError> {
        let mut state = self.write();
        let index = state.object_index(object)?;
        state.stores[index].deletions.cut(before_ms);
        Ok(())
    }

    /// Purges all deleted records of an object.
    pub fn empty_recycle_bin(&self, object: &str) -> Result<Receipt, CommitError> {
        let name = self.object(object)?.name.clone();
        let purged: BTreeSet<Id> = {
            let state = self.read();
            let store = &state.stores[state.object_index(object)?];
            let gone = |sequence: &u64| {
                store.version_at(*sequence, state.commit).is_some_and(|version| version.life == Life::Purged)
            };
            store
                .chains
                .keys()
                .filter(|sequence| gone(sequence))
                .map(|sequence| store.id(*sequence))
                .collect()
        };
        let in_bin = self.deleted_ids(object)?.into_iter().filter(|id| !purged.contains(id));
        self.commit(Transaction::of(in_bin.map(|id| Change::hard_delete(&name, id)).collect()))
    }

    /// Whether children deleted with their parent keep their old stamp.
    pub fn set_cascade_keeps_stamp(&self, keeps: bool) {
        self.write().cascade_keeps_stamp = keeps;
    }
}

fn replicateable<'s>(state: &'s State, object: &str) -> Result<(usize, &'s ObjectDef), ReplicationError> {
    let index = state.object_index(object)?;
    let definition = &state.catalog.objects()[index];
    match definition.flags.replicateable {
        true => Ok((index, definition)),
        false => Err(ReplicationError::NotReplicateable(definition.name.clone())),
    }
}

/// The end of the window, the present, or the minute of the oldest transaction that is not seen yet.
fn latest_covered(state: &State, end_ms: i64, now_ms: i64) -> i64 {
    let oldest_unseen = state.pending.values().map(|pending| pending.stamp_ms).min();
    let complete = oldest_unseen.unwrap_or(i64::MAX).min(now_ms);
    end_ms.min(truncate_to_minute(complete))
}
