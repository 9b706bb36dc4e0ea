//! Records of one object in order, bounded by cursor and id, as one snapshot sees them.
//!
//! Comes in: bounds, an order, and where an earlier scan stopped. Goes out: records, made when asked for.
//! The org is locked for a few hundred records at a time, never while the caller works on one.

use std::collections::VecDeque;
use std::ops::{Bound, Range};
use std::sync::Arc;

use super::id::Id;
use super::store::{Store, Version, version_in};
use super::view::{Row, View};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanOrder {
    /// By the cursor field, then by id.
    #[default]
    Cursor,
    Id,
}

/// A place between two records. In Id order only the id counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanKey {
    pub cursor_ms: i64,
    pub id: Id,
}

#[derive(Clone, Copy, Debug)]
pub struct ScanRange {
    pub order: ScanOrder,
    pub descending: bool,
    /// Bounds on the object's cursor field, in milliseconds.
    pub cursor: (Bound<i64>, Bound<i64>),
    pub id: (Bound<Id>, Bound<Id>),
    /// Only what comes after this in the scan's order.
    pub after: Option<ScanKey>,
    /// queryAll: with the recycle bin and archived records.
    pub include_deleted: bool,
}

impl Default for ScanRange {
    fn default() -> ScanRange {
        ScanRange {
            order: ScanOrder::Cursor,
            descending: false,
            cursor: (Bound::Unbounded, Bound::Unbounded),
            id: (Bound::Unbounded, Bound::Unbounded),
            after: None,
            include_deleted: false,
        }
    }
}

impl ScanRange {
    pub fn in_id_order() -> ScanRange {
        ScanRange { order: ScanOrder::Id, ..ScanRange::default() }
    }
}

/// (cursor, sequence); in Id order the cursor is 0.
type Key = (i64, u64);

pub struct Scan {
    view: Arc<View>,
    object: usize,
    range: ScanRange,
    /// Inclusive bounds of what is still wanted.
    cursor_low: i64,
    cursor_high: i64,
    sequence_low: u64,
    sequence_high: u64,
    after: Option<Key>,
    /// Generated records not looked at yet.
    base: Range<u64>,
    /// The last changed record handed out.
    overlay_after: Option<Key>,
    buffer: VecDeque<Row>,
    chunk: usize,
    done: bool,
}

impl Scan {
    pub(super) fn new(view: Arc<View>, object: usize, range: ScanRange) -> Scan {
        let cursor_low = match range.cursor.0 {
            Bound::Included(ms) => ms,
            Bound::Excluded(ms) => ms.saturating_add(1),
            Bound::Unbounded => i64::MIN,
        };
        let cursor_high = match range.cursor.1 {
            Bound::Included(ms) => ms,
            Bound::Excluded(ms) => ms.saturating_sub(1),
            Bound::Unbounded => i64::MAX,
        };
        let mut scan = Scan {
            cursor_low,
            cursor_high,
            sequence_low: 0,
            sequence_high: u64::MAX,
            after: None,
            base: 0..0,
            overlay_after: None,
            buffer: VecDeque::new(),
            chunk: 32,
            done: false,
            view,
            object,
            range,
        };
        scan.set_bounds();
        scan
    }

    fn set_bounds(&mut self) {
        let view = Arc::clone(&self.view);
        let state = view.org.read();
        let Some(store) = state.stores.get(self.object) else {
            self.done = true;
            return;
        };
        // An id of another object or org lies before or after all ids of this one.
        let first_not_below = |id: Id| match store.sequence_of(id) {
            Some(sequence) => sequence,
            None if id < store.id(0) => 0,
            None => u64::MAX,
        };
        self.sequence_low = match self.range.id.0 {
            Bound::Included(id) => first_not_below(id),
            Bound::Excluded(id) => match store.sequence_of(id) {
                Some(sequence) => sequence.saturating_add(1),
                None => first_not_below(id),
            },
            Bound::Unbounded => 0,
        };
        let below = |end: u64| end.checked_sub(1);
        let high = match self.range.id.1 {
            Bound::Included(id) => match store.sequence_of(id) {
                Some(sequence) => Some(sequence),
                None => below(first_not_below(id)),
            },
            Bound::Excluded(id) => below(first_not_below(id)),
            Bound::Unbounded => Some(u64::MAX),
        };
        let Some(high) = high else {
            self.done = true;
            return;
        };
        self.sequence_high = high;
        self.after = self.range.after.map(|key| {
            let sequence = store.sequence_of(key.id).unwrap_or(0);
            match self.range.order {
                ScanOrder::Cursor => (key.cursor_ms, sequence),
                ScanOrder::Id => (0, sequence),
            }
        });
        self.overlay_after = self.after;
        let shape = &store.shape;
        let start = shape.partition(|row, stamp| row < self.sequence_low || stamp < self.cursor_low);
        let end = shape.partition(|row, stamp| row <= self.sequence_high && stamp <= self.cursor_high);
        self.base = start..end.max(start);
        if let Some(after) = self.after {
            let key = |row: u64, stamp: i64| match self.range.order {
                ScanOrder::Cursor => (stamp, row),
                ScanOrder::Id => (0, row),
            };
            let (start, end) = if self.range.descending {
                (self.base.start, self.base.end.min(shape.partition(|row, stamp| key(row, stamp) < after)))
            } else {
                (self.base.start.max(shape.partition(|row, stamp| key(row, stamp) <= after)), self.base.end)
            };
            self.base = start..end.max(start);
        }
        if self.sequence_low > self.sequence_high || self.cursor_low > self.cursor_high {
            self.done = true;
        }
    }

    fn fill(&mut self) {
        let view = Arc::clone(&self.view);
        let state = view.org.read();
        let Some(store) = state.stores.get(self.object) else {
            self.done = true;
            return;
        };
        let commit = view.commit;
        let mut overlay = self.overlay(store).peekable();
        let overlaid = store
            .chains
            .range(self.base.clone())
            .filter(|(_, chain)| version_in(chain, commit).is_some())
            .map(|(sequence, _)| *sequence);
        let mut overlaid: Directed<'_, u64> =
            if self.range.descending { Box::new(overlaid.rev()) } else { Box::new(overlaid) };
        let mut next_overlaid = overlaid.next();
        let mut base = self.base.clone();
        let mut overlay_after = self.overlay_after;
        let mut looked_at = 0usize;
        while self.buffer.len() < self.chunk && looked_at < LOOK_LIMIT {
            looked_at += 1;
            let next_base = if base.is_empty() {
                None
            } else if self.range.descending {
                Some(base.end - 1)
            } else {
                Some(base.start)
            };
            if next_base.is_some() && next_base == next_overlaid {
                next_overlaid = overlaid.next();
                step(&mut base, self.range.descending);
                continue;
            }
            let base_key = next_base.map(|row| match self.range.order {
                ScanOrder::Cursor => (store.shape.stamp_ms(row), row),
                ScanOrder::Id => (0, row),
            });
            let takes_base = match (base_key, overlay.peek()) {
                (None, None) => {
                    self.done = true;
                    break;
                }
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(base), Some((changed, _))) => (base < *changed) != self.range.descending,
            };
            let row = match (takes_base, next_base) {
                (true, Some(row)) => {
                    step(&mut base, self.range.descending);
                    Row::generated(&view, store, self.object, row)
                }
                _ => {
                    let Some((key, version)) = overlay.next() else { break };
                    overlay_after = Some(key);
                    Row::changed(&view, self.object, key.1, Arc::clone(version))
                }
            };
            if row.is_seen(self.range.include_deleted) {
                self.buffer.push_back(row);
            }
        }
        drop(overlay);
        self.base = base;
        self.overlay_after = overlay_after;
        self.chunk = (self.chunk * 2).min(CHUNK_LIMIT);
    }

    /// Changed records from `overlay_after` on, as the snapshot's commit sees them.
    fn overlay<'s>(&self, store: &'s Store) -> Directed<'s, (Key, &'s Arc<Version>)> {
        let commit = self.view.commit;
        let (sequence_low, sequence_high) = (self.sequence_low, self.sequence_high);
        let (cursor_low, cursor_high) = (self.cursor_low, self.cursor_high);
        if sequence_low > sequence_high || cursor_low > cursor_high {
            return Box::new(std::iter::empty());
        }
        match self.range.order {
            ScanOrder::Cursor => {
                let mut low = Bound::Included((cursor_low, 0, 0));
                let mut high = Bound::Included((cursor_high, u64::MAX, u64::MAX));
                match self.overlay_after {
                    Some((ms, sequence))
                        if self.range.descending && (ms, sequence) <= (cursor_high, u64::MAX) =>
                    {
                        high = Bound::Excluded((ms, sequence, 0));
                    }
                    Some((ms, sequence)) if !self.range.descending && (ms, sequence) >= (cursor_low, 0) => {
                        low = Bound::Excluded((ms, sequence, u64::MAX));
                    }
                    _ => {}
                }
                if is_empty_range(&low, &high) {
                    return Box::new(std::iter::empty());
                }
                let found = store.by_cursor.range((low, high)).filter_map(move |(ms, sequence, made_by)| {
                    let version = store.version_at(*sequence, commit)?;
                    let wanted =
                        version.commit == *made_by && (sequence_low..=sequence_high).contains(sequence);
                    wanted.then_some(((*ms, *sequence), version))
                });
                if self.range.descending { Box::new(found.rev()) } else { Box::new(found) }
            }
            ScanOrder::Id => {
                let mut low = Bound::Included(sequence_low);
                let mut high = Bound::Included(sequence_high);
                match self.overlay_after {
                    Some((_, sequence)) if self.range.descending && sequence <= sequence_high => {
                        high = Bound::Excluded(sequence);
                    }
                    Some((_, sequence)) if !self.range.descending && sequence >= sequence_low => {
                        low = Bound::Excluded(sequence);
                    }
                    _ => {}
                }
                if is_empty_range(&low, &high) {
                    return Box::new(std::iter::empty());
                }
                let found = store.chains.range((low, high)).filter_map(move |(sequence, chain)| {
                    let version = version_in(chain, commit)?;
                    (cursor_low..=cursor_high)
                        .contains(&version.cursor_ms)
                        .then_some(((0, *sequence), version))
                });
                if self.range.descending { Box::new(found.rev()) } else { Box::new(found) }
            }
        }
    }
}

/// At most so many records wait in a scan.
const CHUNK_LIMIT: usize = 1_024;
/// At most so many are looked at under one lock, however few are seen.
const LOOK_LIMIT: usize = 16_384;

type Directed<'s, T> = Box<dyn Iterator<Item = T> + 's>;

/// Ranges that the ordered maps would panic on, or that hold nothing.
fn is_empty_range<T: Ord>(low: &Bound<T>, high: &Bound<T>) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Excluded(low) | Bound::Included(low), Bound::Excluded(high) | Bound::Included(high)) => {
            low >= high
        }
        _ => false,
    }
}

fn step(base: &mut Range<u64>, descending: bool) {
    if descending {
        base.end -= 1;
    } else {
        base.start += 1;
    }
}

impl Iterator for Scan {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        while self.buffer.is_empty() && !self.done {
            self.fill();
        }
        self.buffer.pop_front()
    }
}
