//! Change events as the sequencer takes them: one record of an event at a time.
//!
//! Comes in: events as `salesforce::pubsub` decodes them, and records that were read again because of one. Goes out: changes
//! in publishing order. One event with n record ids is n changes that share its body. The values that an event gives
//! go before those that were read; a younger reading goes before an event.

use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use super::ledger::{DELETED_BY_EVENT, Entry, Kind, RecordId, UNKNOWN};
use super::sequencer::{Sequenced, Sequencer};
use crate::Result;
use crate::domain::content::{content_hash, value_hash};
use crate::domain::{Change, Detail, FieldSet, Operation, Row, Stamp};
use crate::salesforce::pubsub::EventCells;

/// A transaction may run this long between the save that stamps a record and its commit.
pub const LONGEST_TRANSACTION: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Create,
    Update,
    Delete,
    Undelete,
}

impl EventKind {
    pub fn operation(self) -> Operation {
        match self {
            Self::Create | Self::Undelete => Operation::Insert,
            Self::Update => Operation::Update,
            Self::Delete => Operation::Delete,
        }
    }
}

/// What an event says, for all of its records alike.
#[derive(Debug)]
pub struct EventBody {
    pub kind: EventKind,
    pub committed_at: Stamp,
    /// `LastModifiedDate`, if the event brings it: the stamp of the save.
    pub saved_at: Option<Stamp>,
    pub cells: EventCells,
    pub detail: Detail,
}

impl EventBody {
    /// The value that the event itself gives a field. Of an update only changed fields count: others may come along.
    pub fn own(&self, field: usize) -> Option<&[u8]> {
        if self.cells.unexpressed.contains(field)
            || (self.kind == EventKind::Update && !self.cells.changed.contains(field))
        {
            return None;
        }
        self.cells.cell(field)
    }

    /// Whether the event leaves out something that happened: it must be read from the record.
    pub fn is_partial(&self) -> bool {
        self.cells.name_is_due || !self.cells.unexpressed.is_empty()
    }

    /// The stamp that the record has for sure after the change, as far as the event tells.
    pub fn stamp(&self) -> Stamp {
        self.saved_at.unwrap_or(self.committed_at)
    }

    /// The earliest stamp that the record can have after the change.
    pub fn earliest(&self) -> Stamp {
        match self.kind {
            // A live row never shows the stamp of its deletion.
            EventKind::Delete => self.committed_at,
            _ => self.saved_at.unwrap_or(self.committed_at.minus(LONGEST_TRANSACTION)),
        }
    }
}

/// One record of an event.
#[derive(Clone, Debug)]
pub struct EventRecord {
    pub id: RecordId,
    /// Tells it again: see [`event_hash`].
    pub hash: u64,
    pub body: Arc<EventBody>,
}

/// A safe key of one change (`pubsub.md` 5.8): transaction, place in it, record. Never 0.
pub fn event_hash(transaction: &str, counter: i64, id: &RecordId) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(transaction.as_bytes());
    hasher.update(&counter.to_be_bytes());
    hasher.update(id.as_bytes());
    hasher.digest().max(1)
}

/// What the ledger says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// To be published.
    Never,
    /// This very event was published.
    Repeated,
    /// A younger reading of the record was.
    Folded,
    /// A reading of the same moment was: only another one tells whether it held this change.
    Tied,
}

impl Sequencer {
    /// Whether an event is to be published. It must be asked right before, in the order of the stream.
    pub fn seen(&self, record: &EventRecord) -> Seen {
        if self.ledger.knows_event(record.hash) {
            return Seen::Repeated;
        }
        let Some(newest) = self.ledger.newest(&record.id).filter(|newest| newest.event == 0) else {
            return Seen::Never;
        };
        let body = &record.body;
        if newest.kind == Kind::Deleted && body.kind == EventKind::Delete {
            return Seen::Folded;
        }
        if body.committed_at < newest.stamp {
            Seen::Folded
        } else if body.earliest() > newest.stamp {
            Seen::Never
        } else {
            Seen::Tied
        }
    }

    /// Whether the newest that was published of a record is this reading of it (none: it is gone).
    pub fn holds(&self, id: &RecordId, row: Option<Row<'_>>) -> bool {
        self.ledger.newest(id).is_some_and(|newest| match row {
            Some(row) => newest.kind == Kind::Live && newest.hash == content_hash(&self.object, row),
            None => newest.kind == Kind::Deleted,
        })
    }

    /// Publishes an event's record. `row`: the record as it was read since, no older than the event; the event's own
    /// values go before it, unless it was asked of the row whether it fits a condition (`as_read`): then nothing else is to be
    /// seen. Without a row the event's fields go out alone, and the column mask says which they are.
    pub fn event(
        &mut self,
        out: &mut Sequenced,
        record: &EventRecord,
        row: Option<Row<'_>>,
        as_read: bool,
    ) -> Result<()> {
        let body = &record.body;
        let is_back = self.ledger.newest(&record.id).is_some_and(|newest| newest.kind == Kind::Deleted);
        let operation = match body.kind {
            // It did not fit the condition and was published as gone, and all of it is here.
            EventKind::Update if as_read && is_back && row.is_some() => Operation::Insert,
            kind => kind.operation(),
        };
        let deleted = body.kind == EventKind::Delete;
        let mut detail = body.detail.clone();
        let key = self.object.key;
        let mut overlaid = false;
        let cells: Vec<&[u8]> = (0..self.object.fields.len())
            .map(|field| {
                if field == key {
                    return record.id.as_bytes();
                }
                let read = row.and_then(|row| row.cell(field));
                match body.own(field).filter(|_| !(deleted || as_read && read.is_some())) {
                    Some(own) => {
                        overlaid |= read.is_some_and(|read| self.differs(field, own, read));
                        own
                    }
                    None => read.unwrap_or_default(),
                }
            })
            .collect();
        if row.is_none() || deleted {
            let own = |field: &usize| !deleted && body.own(*field).is_some();
            let carried: FieldSet =
                (0..self.object.fields.len()).filter(|field| *field == key || own(field)).collect();
            detail.carried = Some(carried);
        }
        let hash = match row.filter(|_| !overlaid) {
            _ if deleted => DELETED_BY_EVENT,
            Some(row) => content_hash(&self.object, row),
            None => UNKNOWN,
        };
        // What is published as its stamp, if it was read.
        let stamp = match (self.object.cursor, row.filter(|_| !deleted)) {
            (Some(cursor), Some(row)) => self.stamp(row, cursor.0)?,
            _ => body.stamp(),
        };
        out.rows.push(cells).map_err(|_| self.unreadable("a page of events is too long"))?;
        self.push(out, operation, body.committed_at, detail);
        let kind = if deleted { Kind::Deleted } else { Kind::Live };
        let number = self.sequence.number();
        self.ledger.enter(record.id, Entry { kind, stamp, hash, number, event: record.hash });
        Ok(())
    }

    /// An event of a record that does not fit the condition, or that is deleted, whether or not it did. `row`: the record as
    /// it was read since. A record that an event brings into being was not published before.
    pub fn unfit_event(
        &mut self,
        out: &mut Sequenced,
        record: &EventRecord,
        row: Option<Row<'_>>,
    ) -> Result<()> {
        let body = &record.body;
        let never = matches!(body.kind, EventKind::Create | EventKind::Undelete);
        let (stamp, hash) = match (self.object.cursor, row) {
            (Some(cursor), Some(row)) => (self.stamp(row, cursor.0)?, content_hash(&self.object, row)),
            _ => (body.stamp(), DELETED_BY_EVENT),
        };
        let entry = Entry { kind: Kind::Deleted, stamp, hash, number: 0, event: record.hash };
        self.leave(out, record.id, never, entry, body.committed_at, body.detail.clone())
    }

    /// Whether two texts of a field mean two values.
    fn differs(&self, field: usize, one: &[u8], other: &[u8]) -> bool {
        one != other
            && self
                .object
                .fields
                .get(field)
                .is_none_or(|field| value_hash(field, one) != value_hash(field, other))
    }

    /// The same as [`Self::refetched`] of a record that does not fit the condition.
    pub fn unfit_refetched(
        &mut self,
        out: &mut Sequenced,
        id: RecordId,
        row: Row<'_>,
        at: Stamp,
        detail: Detail,
    ) -> Result<()> {
        let stamp = match self.object.cursor {
            Some(cursor) => self.stamp(row, cursor.0)?,
            None => at,
        };
        let never = self.created(row).is_some_and(|created| created == stamp);
        let hash = content_hash(&self.object, row);
        self.leave(
            out,
            id,
            never,
            Entry { kind: Kind::Deleted, stamp, hash, number: 0, event: 0 },
            at,
            detail,
        )
    }

    /// A record that was read again because an event could not say what happened to it: a restatement. `row`: none if it
    /// is gone. True if something was published.
    pub fn refetched(
        &mut self,
        out: &mut Sequenced,
        id: RecordId,
        row: Option<Row<'_>>,
        at: Stamp,
        detail: Detail,
    ) -> Result<bool> {
        let newest = self.ledger.newest(&id);
        let Some(row) = row else { return self.refetched_gone(out, id, at, at) };
        let hash = content_hash(&self.object, row);
        let stamp = match self.object.cursor {
            Some(cursor) => self.stamp(row, cursor.0)?,
            None => at,
        };
        let operation = match newest {
            Some(newest)
                if newest.kind == Kind::Live && newest.hash == hash && !self.is_due_again(&newest) =>
            {
                out.repeated += 1;
                return Ok(false);
            }
            Some(newest) if newest.kind == Kind::Live => Operation::Update,
            Some(_) => Operation::Insert,
            None => {
                if self.created(row).is_some_and(|created| created == stamp) {
                    Operation::Insert
                } else {
                    Operation::Update
                }
            }
        };
        let cells = (0..self.object.fields.len()).map(|field| row.cell(field).unwrap_or_default());
        out.rows.push(cells).map_err(|_| self.unreadable("a page of events is too long"))?;
        self.push(out, operation, at, detail);
        let number = self.sequence.number();
        self.ledger.enter(id, Entry { kind: Kind::Live, stamp, hash, number, event: 0 });
        Ok(true)
    }

    /// The same of a record that is gone. `known_at`: events from then on may be younger than the reading; `gone_at`: as its
    /// deletion is dated, no earlier than the save that made it.
    pub fn refetched_gone(
        &mut self,
        out: &mut Sequenced,
        id: RecordId,
        known_at: Stamp,
        gone_at: Stamp,
    ) -> Result<bool> {
        if self.ledger.newest(&id).is_some_and(|newest| newest.kind == Kind::Deleted) {
            out.repeated += 1;
            return Ok(false);
        }
        self.delete_id(out, id, gone_at, Detail::refetch())?;
        let number = self.sequence.number();
        let entry = Entry { kind: Kind::Deleted, stamp: known_at, hash: DELETED_BY_EVENT, number, event: 0 };
        self.ledger.enter(id, entry);
        Ok(true)
    }

    /// The row that was pushed last is a change.
    pub(super) fn push(&mut self, out: &mut Sequenced, operation: Operation, at: Stamp, detail: Detail) {
        self.sequence = self.sequence.next(at);
        let row = u32::try_from(out.rows.len() - 1).unwrap_or(u32::MAX);
        let detail = out.detail(detail);
        out.changes.push(Change { row, operation, sequence: self.sequence, timestamp: at, detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_by_transaction_place_and_record() {
        let id = |text: &str| RecordId::new(text.as_bytes()).unwrap();
        let one = event_hash("0005", 1, &id("001A"));
        assert_eq!(one, event_hash("0005", 1, &id("001A")));
        assert_ne!(one, event_hash("0005", 2, &id("001A")));
        assert_ne!(one, event_hash("0005", 1, &id("001B")));
        assert_ne!(one, event_hash("0006", 1, &id("001A")));
    }

    fn record(kind: EventKind, committed: i64, saved: Option<i64>) -> EventRecord {
        let id = RecordId::new(b"0015g00000AbCdEAAV").unwrap();
        let body = EventBody {
            kind,
            committed_at: Stamp(committed * 1_000),
            saved_at: saved.map(|saved| Stamp(saved * 1_000)),
            cells: EventCells::default(),
            detail: Detail { source: crate::domain::Source::Subscribe, ..Detail::refetch() },
        };
        EventRecord { id, hash: 7, body: Arc::new(body) }
    }

    /// What the ledger says of an event if the newest that was published of its record is this.
    fn seen(newest: Option<Entry>, record: &EventRecord) -> Seen {
        let mut ledger = super::super::ledger::Ledger::new("Account");
        if let Some(newest) = newest {
            ledger.enter(record.id, newest);
        }
        let object = Arc::new(crate::domain::ObjectDescription {
            name: "Account".into(),
            target_name: "Account".into(),
            label: String::new(),
            fields: Vec::new(),
            key: 0,
            cursor: None,
            created_date: None,
            is_deleted: None,
            compounds: Vec::new(),
            replicateable: true,
            bulk: true,
            unsupported: None,
            revision: 0,
        });
        Sequencer::new(object, ledger, crate::domain::ChangeSequence::default()).seen(record)
    }

    fn row(kind: Kind, stamp: i64) -> Option<Entry> {
        Some(Entry { kind, stamp: Stamp(stamp * 1_000), hash: 1, number: 1, event: 0 })
    }

    #[test]
    fn an_event_is_folded_into_a_younger_row_and_published_after_an_older_one() {
        let update = record(EventKind::Update, 1_000, Some(1_000));
        assert_eq!(seen(None, &update), Seen::Never);
        assert_eq!(seen(row(Kind::Live, 1_001), &update), Seen::Folded);
        assert_eq!(seen(row(Kind::Live, 999), &update), Seen::Never);
        assert_eq!(seen(row(Kind::Live, 1_000), &update), Seen::Tied);
        // It was saved at 990 and committed later: a row of 995 is another save, behind which this one cannot lie.
        let late = record(EventKind::Update, 1_000, Some(990));
        assert_eq!(seen(row(Kind::Live, 990), &late), Seen::Tied);
        assert_eq!(seen(row(Kind::Live, 989), &late), Seen::Never);
    }

    #[test]
    fn without_the_stamp_of_its_save_a_row_of_the_same_transaction_decides_by_reading() {
        let silent = record(EventKind::Update, 1_000, None);
        assert_eq!(seen(row(Kind::Live, 900), &silent), Seen::Tied);
        assert_eq!(seen(row(Kind::Live, 1_001), &silent), Seen::Folded);
        assert_eq!(seen(row(Kind::Live, 399), &silent), Seen::Never, "no transaction is open for so long");
    }

    #[test]
    fn a_deletion_is_published_once_whoever_told_it_first() {
        let delete = record(EventKind::Delete, 1_000, None);
        assert_eq!(seen(row(Kind::Deleted, 990), &delete), Seen::Folded);
        assert_eq!(seen(row(Kind::Live, 990), &delete), Seen::Never);
        let back = record(EventKind::Undelete, 1_000, Some(1_000));
        assert_eq!(seen(row(Kind::Deleted, 990), &back), Seen::Never);
    }

    #[test]
    fn among_events_the_stream_decides_and_only_a_repetition_is_dropped() {
        let update = record(EventKind::Update, 1_000, Some(1_000));
        let event = |hash| Some(Entry { event: hash, ..row(Kind::Live, 2_000).unwrap() });
        assert_eq!(seen(event(8), &update), Seen::Never, "commit times of two servers may differ");
        assert_eq!(seen(event(7), &update), Seen::Repeated);
    }
}
