//! The records of one object: the generated ones as arithmetic, the changed ones as chains of versions.
//!
//! Comes in: versions, each under the commit that made it. Goes out: the version (or the generated record)
//! that a given commit sees. A generated record costs memory only once it was changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::config::{OrgConfig, to_ms};
use super::generate::mix;
use super::id::Id;
use super::shape::Shape;
use super::value::Value;
use crate::catalog::{Catalog, ObjectDef};

#[derive(Debug)]
pub(super) struct Store {
    pub shape: Shape,
    pub prefix: [u8; 3],
    pub next_sequence: u64,
    /// Changed and inserted records by sequence number; versions by rising commit.
    pub chains: BTreeMap<u64, Vec<Arc<Version>>>,
    /// Every kept version by (cursor stamp, sequence, commit).
    pub by_cursor: BTreeSet<(i64, u64, u64)>,
    /// Current cascading parents of records in `chains`: (field, parent sequence) to sequences.
    pub children: HashMap<(usize, u64), BTreeSet<u64>>,
    /// Live, not archived records now, less the generated ones that began so.
    pub live_delta: i64,
    pub base_live: u64,
    pub salt: u64,
    /// Generated records with a stamp before this are archived (activities only).
    pub archived_before_ms: i64,
    /// Generated records from this stamp on may lie in the recycle bin.
    deleted_from_ms: i64,
    deleted_one_in: u64,
    pub deletions: super::replication::DeleteLog,
}

/// One state of a record.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub commit: u64,
    pub cursor_ms: i64,
    pub created_ms: i64,
    pub created_by: Id,
    pub modified_ms: i64,
    pub modified_by: Id,
    pub system_modstamp_ms: i64,
    pub life: Life,
    pub archived: bool,
    pub master: Option<Id>,
    /// The record whose deletion took this one along.
    pub deleted_with: Option<(usize, u64)>,
    /// Fields without a value of their own are generated, else null.
    pub filled: bool,
    /// By field index, rising.
    pub values: Vec<(usize, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Live,
    /// In the recycle bin since then.
    Deleted {
        at_ms: i64,
    },
    Purged,
}

impl Version {
    pub fn value(&self, field: usize) -> Option<&Value> {
        self.values.binary_search_by_key(&field, |(index, _)| *index).ok().map(|at| &self.values[at].1)
    }

    pub fn set(&mut self, field: usize, value: Value) {
        match self.values.binary_search_by_key(&field, |(index, _)| *index) {
            Ok(at) => self.values[at].1 = value,
            Err(at) => self.values.insert(at, (field, value)),
        }
    }

    pub fn is_counted(&self) -> bool {
        self.life == Life::Live && !self.archived
    }
}

impl Store {
    pub fn new(object: &ObjectDef, catalog: &Catalog, config: &OrgConfig, start_ms: i64) -> Store {
        let rows = match object.name.as_str() {
            // These describe the catalogue itself.
            "EntityDefinition" => catalog.objects().len() as u64,
            "FieldDefinition" => {
                catalog.objects().iter().map(|object| object.all_fields().len() as u64).sum()
            }
            "RecordType" => {
                let types = catalog.objects().iter().flat_map(|object| &object.record_types);
                types.filter(|record_type| record_type.row.is_some()).count() as u64
            }
            name => config.rows_of(name).unwrap_or(object.default_rows),
        };
        let last_ms = start_ms - to_ms(config.quiet_before_start);
        let first_ms = start_ms - to_ms(config.history).max(to_ms(config.quiet_before_start));
        let shape = Shape::new(rows, first_ms, last_ms, config.same_second_group);
        // A deleted parent would have taken its children along; so parents begin undeleted.
        let is_parent = object.child_relationships.iter().any(|child| child.cascade_delete);
        let bin = object.system().is_deleted.is_some() && object.flags.undeletable && !is_parent;
        let year_ms = 365 * super::calendar::MS_PER_DAY;
        let mut store = Store {
            shape,
            prefix: object.id_prefix,
            next_sequence: rows,
            chains: BTreeMap::new(),
            by_cursor: BTreeSet::new(),
            children: HashMap::new(),
            live_delta: 0,
            base_live: 0,
            salt: mix(config.seed ^ salt_of(&object.name)),
            archived_before_ms: if object.system().is_archived.is_some() {
                start_ms - year_ms
            } else {
                i64::MIN
            },
            deleted_from_ms: start_ms - to_ms(config.recycle_bin),
            deleted_one_in: if bin { config.deleted_one_in } else { 0 },
            deletions: super::replication::DeleteLog::default(),
        };
        store.base_live = store.count_base_live();
        store
    }

    fn count_base_live(&self) -> u64 {
        let archived = self.shape.partition(|_, stamp| stamp < self.archived_before_ms);
        let recent = self.shape.partition(|_, stamp| stamp < self.deleted_from_ms);
        let deleted = match self.deleted_one_in {
            0 => 0,
            _ => (recent..self.shape.rows)
                .filter(|row| self.is_base_deleted(*row, self.shape.stamp_ms(*row)))
                .count() as u64,
        };
        self.shape.rows - archived - deleted
    }

    pub fn row_hash(&self, sequence: u64) -> u64 {
        mix(self.salt ^ sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Whether generated record `row` began in the recycle bin; its stamp is then the time of deletion.
    pub fn is_base_deleted(&self, row: u64, stamp_ms: i64) -> bool {
        self.deleted_one_in > 0
            && stamp_ms >= self.deleted_from_ms
            && mix(self.row_hash(row) ^ 0xDE1E).is_multiple_of(self.deleted_one_in)
    }

    pub fn is_base_archived(&self, stamp_ms: i64) -> bool {
        stamp_ms < self.archived_before_ms
    }

    /// Generated records that may lie in the recycle bin are among these.
    pub fn recent_base_rows(&self) -> std::ops::Range<u64> {
        self.shape.partition(|_, stamp| stamp < self.deleted_from_ms)..self.shape.rows
    }

    pub fn id(&self, sequence: u64) -> Id {
        Id::new(self.prefix, sequence)
    }

    /// The sequence number of an id of this object.
    pub fn sequence_of(&self, id: Id) -> Option<u64> {
        if id.prefix() == self.prefix { id.sequence() } else { None }
    }

    /// What `commit` sees of a record that was changed by then.
    pub fn version_at(&self, sequence: u64, commit: u64) -> Option<&Arc<Version>> {
        version_in(self.chains.get(&sequence)?, commit)
    }

    /// Whether `commit` sees the record as generated.
    pub fn is_base_at(&self, sequence: u64, commit: u64) -> bool {
        sequence < self.shape.rows && self.version_at(sequence, commit).is_none()
    }

    /// Adds a version and drops those that neither now nor any snapshot from `oldest_read` on can see.
    pub fn push(&mut self, sequence: u64, version: Version, oldest_read: u64) {
        let chain = self.chains.entry(sequence).or_default();
        self.by_cursor.insert((version.cursor_ms, sequence, version.commit));
        chain.push(Arc::new(version));
        let keep_from = chain.iter().rposition(|version| version.commit <= oldest_read).unwrap_or(0);
        for old in chain.drain(..keep_from) {
            self.by_cursor.remove(&(old.cursor_ms, sequence, old.commit));
        }
    }
}

pub(super) fn version_in(chain: &[Arc<Version>], commit: u64) -> Option<&Arc<Version>> {
    chain.iter().rev().find(|version| version.commit <= commit)
}

pub(super) fn salt_of(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.to_ascii_lowercase().as_bytes())
}
