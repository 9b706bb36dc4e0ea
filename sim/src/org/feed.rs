//! What is told of a transaction at the moment it becomes visible: the captured records, before and after.
//!
//! Comes in: the objects that somebody captures, and each visible transaction that touches one. Goes out: those
//! transactions, in the order of visibility, with rows to read from. Nothing is kept for objects that nobody
//! captures, nor for a record longer than until the listener has been called.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::commit::{Pending, Place};
use super::id::Id;
use super::plan::Plan;
use super::store::{Life, Version};
use super::truth::ChangeKind;
use super::view::{Row, View};
use super::{Org, State};
use crate::catalog::{Catalog, ObjectDef};

/// Called after a transaction became visible, by whoever made it so, without any lock of the org.
#[derive(Default)]
pub(super) struct Listener(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

#[derive(Debug, Default)]
pub(super) struct Feed {
    /// By object: captured or not.
    captured: Vec<bool>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    commit: u64,
    transaction: u64,
    visible_at_ms: i64,
    user: Id,
    origin: Option<String>,
    time_ms: i64,
    catalog: Arc<Catalog>,
    plans: Arc<Vec<Arc<Plan>>>,
    records: Vec<Touched>,
}

#[derive(Debug)]
struct Touched {
    place: Place,
    captured: bool,
    touch_only: bool,
    fields: Vec<usize>,
    /// None: the record was not there, or as it was generated.
    before: Option<Arc<Version>>,
    after: Option<Arc<Version>>,
}

/// A transaction that became visible.
#[derive(Clone, Debug)]
pub struct Visible {
    pub transaction: u64,
    /// Rises by one with every visible transaction, captured or not.
    pub commit: u64,
    pub visible_at_ms: i64,
    pub user: Id,
    pub origin: Option<String>,
    /// In the order in which the transaction came to them, each record once.
    pub records: Vec<VisibleRecord>,
}

/// What the transaction did to one record.
#[derive(Clone, Debug)]
pub struct VisibleRecord {
    pub object: Arc<ObjectDef>,
    pub id: Id,
    /// An automated process saved it: only SystemModstamp moved.
    pub touch_only: bool,
    /// Nobody captures its object: it has no rows.
    pub captured: bool,
    /// The fields that were set, by index.
    pub fields: Vec<usize>,
    pub before: Option<Row>,
    pub after: Option<Row>,
}

impl Org {
    /// Captures the records of these objects (places in the catalogue), and of no others.
    pub fn capture(&self, objects: &[usize]) {
        let mut state = self.write();
        let count = state.catalog.objects().len();
        state.feed.captured = (0..count).map(|object| objects.contains(&object)).collect();
    }

    /// Sets who is called when captured records may have changed; only the first call counts.
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) {
        // A second listener would take the first one's transactions.
        let _ = self.listener.0.set(Box::new(listener));
    }

    pub(super) fn call_listener(&self) {
        if let Some(listener) = self.listener.0.get()
            && !self.read().feed.waiting.is_empty()
        {
            listener();
        }
    }

    /// The captured transactions that became visible since the last call, in that order.
    pub fn take_visible(self: &Arc<Self>) -> Vec<Visible> {
        let waiting = std::mem::take(&mut self.write().feed.waiting);
        waiting.into_iter().map(|waiting| self.visible(waiting)).collect()
    }

    fn visible(self: &Arc<Self>, waiting: Waiting) -> Visible {
        // The pin was set when the transaction became visible; the view takes it over.
        let view = Arc::new(View {
            org: Arc::clone(self),
            commit: waiting.commit,
            time_ms: waiting.time_ms,
            catalog: waiting.catalog,
            plans: waiting.plans,
        });
        let state = self.read();
        let row = |(object, sequence): Place, version: &Option<Arc<Version>>| match version {
            Some(version) => Some(Row::changed(&view, object, sequence, Arc::clone(version))),
            None => {
                let store = state.stores.get(object)?;
                (sequence < store.shape.rows).then(|| Row::generated(&view, store, object, sequence))
            }
        };
        let records = waiting
            .records
            .iter()
            .filter_map(|touched| {
                let object = view.catalog.objects().get(touched.place.0)?;
                let (before, after) = match touched.captured {
                    true => (row(touched.place, &touched.before), row(touched.place, &touched.after)),
                    false => (None, None),
                };
                Some(VisibleRecord {
                    id: Id::new(object.id_prefix, touched.place.1),
                    object: Arc::clone(object),
                    touch_only: touched.touch_only,
                    captured: touched.captured,
                    fields: touched.fields.clone(),
                    before,
                    after,
                })
            })
            .collect();
        Visible {
            transaction: waiting.transaction,
            commit: waiting.commit,
            visible_at_ms: waiting.visible_at_ms,
            user: waiting.user,
            origin: waiting.origin,
            records,
        }
    }
}

impl Feed {
    fn captures(&self, object: usize) -> bool {
        self.captured.get(object).copied().unwrap_or(false)
    }
}

/// What has to be known of a transaction before its versions are put in their places; none if nobody captures it.
pub(super) struct Taken {
    records: Vec<Touched>,
    transaction: u64,
    visible_at_ms: i64,
    user: Id,
    origin: Option<String>,
}

pub(super) fn take(state: &State, pending: &Pending) -> Option<Taken> {
    if !pending.log.iter().any(|entry| state.feed.captures(entry.object)) {
        return None;
    }
    let mut records: Vec<Touched> = Vec::new();
    let mut known: HashMap<Place, usize> = HashMap::new();
    for entry in &pending.log {
        let place = (entry.object, entry.sequence);
        let at = *known.entry(place).or_insert_with(|| {
            let captured = state.feed.captures(place.0);
            let before = state.stores.get(place.0).filter(|_| captured);
            records.push(Touched {
                place,
                captured,
                touch_only: true,
                fields: Vec::new(),
                before: before.and_then(|store| store.version_at(place.1, u64::MAX).cloned()),
                after: None,
            });
            records.len() - 1
        });
        if let Some(record) = records.get_mut(at) {
            record.touch_only &= entry.kind == ChangeKind::Touch;
            if record.captured {
                record.fields.extend(entry.fields.iter().map(|(field, _)| *field));
            }
        }
    }
    for record in &mut records {
        record.fields.sort_unstable();
        record.fields.dedup();
    }
    let first = pending.log.first()?;
    Some(Taken {
        records,
        transaction: first.transaction,
        visible_at_ms: first.visible_at_ms,
        user: pending.user,
        origin: pending.origin.clone(),
    })
}

impl Org {
    /// Queues a transaction whose versions stand in their places now.
    pub(super) fn queue_visible(&self, state: &mut State, taken: Taken, time_ms: i64) {
        let commit = state.commit;
        *self.pinned().entry(commit).or_insert(0) += 1;
        let mut records = taken.records;
        for record in records.iter_mut().filter(|record| record.captured) {
            let store = state.stores.get(record.place.0);
            record.after = store.and_then(|store| store.version_at(record.place.1, commit).cloned());
        }
        let waiting = Waiting {
            commit,
            transaction: taken.transaction,
            visible_at_ms: taken.visible_at_ms,
            user: taken.user,
            origin: taken.origin,
            time_ms,
            catalog: Arc::clone(&state.catalog),
            plans: Arc::clone(&state.plans),
            records,
        };
        state.feed.waiting.push_back(waiting);
    }
}

impl Row {
    /// Not deleted, archived or not.
    pub fn is_live(&self) -> bool {
        self.life == Life::Live
    }

    /// In the recycle bin.
    pub fn is_in_bin(&self) -> bool {
        matches!(self.life, Life::Deleted { .. })
    }
}
