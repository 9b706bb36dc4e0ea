//! The org: its records, its time and its truth.
//!
//! Comes in: a configuration, transactions, changes of the catalogue. Goes out: snapshots to read from,
//! replication answers, and the change log. Never: two transactions half mixed; whatever is read through one
//! snapshot is as of one commit.

pub mod calendar;
mod clock;
mod commit;
mod config;
mod conversion;
mod draft;
mod edits;
mod feed;
mod generate;
mod id;
mod plan;
mod replication;
mod scan;
mod shape;
mod store;
mod traffic;
mod transaction;
mod truth;
mod value;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use clock::Clock;
pub use config::OrgConfig;
pub use edits::EditError;
pub use feed::{Visible, VisibleRecord};
pub use id::Id;
pub use replication::{Deleted, DeletedRecord, ReplicationError, Updated};
pub use scan::{Scan, ScanKey, ScanOrder, ScanRange};
pub use traffic::{Mix, Traffic, TrafficConfig};
pub use transaction::{Change, CommitError, Fields, Receipt, Stamp, Transaction};
pub use truth::{ChangeCause, ChangeEntry, ChangeKind, TruthRows};
pub use value::{Address, Value};
pub use view::{Row, Snapshot};

use crate::catalog::{Catalog, ObjectDef};
use plan::Plan;
use store::Store;

/// An even hash of a number, for what looks drawn and is not.
pub(crate) fn hash(number: u64) -> u64 {
    generate::mix(number)
}

/// Ids of record types begin with this.
pub const RECORD_TYPE_PREFIX: [u8; 3] = *b"012";
const USER_PREFIX: [u8; 3] = *b"005";
const ORGANIZATION_PREFIX: [u8; 3] = *b"00D";

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrgError {
    #[error("no object is called {0}")]
    NoSuchObject(String),
    #[error("object {object} has no field {field}")]
    NoSuchField { object: String, field: String },
}

/// Share it as `Arc<Org>`; every method takes `&self`.
#[derive(Debug)]
pub struct Org {
    config: OrgConfig,
    /// When the org began; generated records are spread over the time before.
    start_ms: i64,
    state: RwLock<State>,
    listener: feed::Listener,
    /// Commits that snapshots still read, with how many. Locked after `state`, if both.
    pinned: Mutex<BTreeMap<u64, usize>>,
}

#[derive(Debug)]
struct State {
    catalog: Arc<Catalog>,
    plans: Arc<Vec<Arc<Plan>>>,
    stores: Vec<Store>,
    /// The number of the newest visible commit; 0 is the generated org.
    commit: u64,
    last_transaction: u64,
    /// Transactions that are saved but not visible, by the moment they become so.
    pending: BTreeMap<(i64, u64), commit::Pending>,
    /// Records that a pending transaction holds: object, sequence, to its transaction.
    locks: HashMap<(usize, u64), u64>,
    log: Vec<truth::LogEntry>,
    feed: feed::Feed,
    cascade_keeps_stamp: bool,
    bin_ms: i64,
}

impl Org {
    pub fn new(config: OrgConfig) -> Arc<Org> {
        let start_ms = config.clock.now_ms();
        let mut catalog = config.catalog.clone();
        for object in config.catalog.objects() {
            let mut object = ObjectDef::clone(object);
            object.last_modified_ms = calendar::truncate_to_second(start_ms);
            catalog.replace(object);
        }
        let stores: Vec<Store> =
            catalog.objects().iter().map(|object| Store::new(object, &catalog, &config, start_ms)).collect();
        let plans = plan::compile_all(&catalog, &stores, &config, None);
        Arc::new(Org {
            start_ms,
            state: RwLock::new(State {
                catalog: Arc::new(catalog),
                plans: Arc::new(plans),
                stores,
                commit: 0,
                last_transaction: 0,
                pending: BTreeMap::new(),
                locks: HashMap::new(),
                log: Vec::new(),
                feed: feed::Feed::default(),
                cascade_keeps_stamp: config.cascade_keeps_stamp,
                bin_ms: config::to_ms(config.recycle_bin),
            }),
            listener: feed::Listener::default(),
            pinned: Mutex::new(BTreeMap::new()),
            config,
        })
    }

    pub fn config(&self) -> &OrgConfig {
        &self.config
    }

    pub fn clock(&self) -> &Clock {
        &self.config.clock
    }

    pub fn now_ms(&self) -> i64 {
        self.config.clock.now_ms()
    }

    /// When the org began, in its own time.
    pub fn start_ms(&self) -> i64 {
        self.start_ms
    }

    pub fn organization_id(&self) -> Id {
        Id::new(ORGANIZATION_PREFIX, 0)
    }

    /// The integration user: the first generated User, who also saves what nobody else does.
    pub fn user_id(&self) -> Id {
        Id::new(USER_PREFIX, 0)
    }

    /// The catalogue as it is now; later changes do not touch what was handed out.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.read().catalog)
    }

    pub fn object(&self, name: &str) -> Result<Arc<ObjectDef>, OrgError> {
        self.read().catalog.object(name).cloned().ok_or_else(|| OrgError::NoSuchObject(name.to_owned()))
    }

    /// The number of the newest visible commit; 0 for the org as generated.
    pub fn commit_number(&self) -> u64 {
        self.settle();
        self.read().commit
    }

    /// The org as of the newest visible commit. While it is held, reading through it gives the same records.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        self.settle();
        view::Snapshot::take(self)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn pinned(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn object_index(&self, name: &str) -> Result<usize, OrgError> {
        self.catalog.index_of(name).ok_or_else(|| OrgError::NoSuchObject(name.to_owned()))
    }
}
