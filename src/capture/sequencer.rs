//! The only place where the readings of one object meet: it decides what is a change, and numbers it.
//!
//! Comes in: rows of a load page, rows of a poll page, ids from getDeleted. Goes out: changes in publishing order,
//! each entered in the ledger if a later reading could meet it again. What is numbered first is published first.
//!
//! The rule for a polled row, by what the ledger holds as the newest of its id:
//! - nothing: a deleted row is a delete; a row created within the ledger's reach is an insert (had it been
//!   published before, its entry would be here); any other is an update.
//! - a deletion: a deleted row is the same deletion again, unless it was saved since: then it was back in between, unseen,
//!   and is deleted once more; a row that is back is an insert, unless it is older than the row that the deletion was
//!   published from.
//! - a live row: older stamps are stale, the same stamp with the same content is a repeat, everything else is an
//!   update or a delete (two saves within one second share a stamp, but not their content).
//!
//! With a condition (`where`) a row that would be published, but does not fit, is a delete with the id alone, if it may have
//! been published: there is a live row in the ledger, or nothing at all and the record is older than the ledger's reach.
//! Otherwise nothing is published. Either way the ledger holds a deletion with the content of the row, by which the same
//! reading is known again.
//!
//! A loaded row is dropped if something of its id, and not older, was published: a change that was followed beside
//! the load, or the row itself in an earlier attempt. Where everything is loaded anew only what was published since that was
//! decided counts; a row that is older than what was published before is read again by its id.
//!
//! Change events come in the order of their commits, so that among themselves only a repetition is dropped. Against a row
//! that was read (a load, a poll, a repair) the row wins if it is younger; if nobody can tell, the record is read again.

use std::collections::HashSet;
use std::sync::Arc;

use super::condition::{Fit, Fitting};
use super::ledger::{DELETED_BY_EVENT, Entry, Kind, Ledger, RecordId, UNKNOWN};
use crate::domain::content::content_hash;
use crate::domain::{
    Change, ChangeSequence, CursorField, Detail, ObjectDescription, Operation, Row, RowLayout, Rows, Source,
    Stamp,
};
use crate::{Error, Result, error};

/// The content hash of a deletion that getDeleted named: there was no row.
const NO_ROW: u64 = 0;

#[derive(Debug)]
pub struct Sequencer {
    pub(super) object: Arc<ObjectDescription>,
    pub ledger: Ledger,
    /// While everything is loaded anew: what was published up to this number does not count as loaded. 0: all counts.
    pub(super) beyond: u64,
    pub(super) sequence: ChangeSequence,
}

/// What came of a page.
#[derive(Debug)]
pub struct Sequenced {
    pub rows: Rows,
    pub changes: Vec<Change>,
    pub details: Vec<Detail>,
    /// Rows that were published before.
    pub repeated: u64,
    /// Rows older than what was published.
    pub stale: u64,
    /// Rows that do not fit the condition, and never did as far as is known.
    pub unfit: u64,
}

impl Sequenced {
    fn new(rows: Rows) -> Self {
        Self {
            changes: Vec::with_capacity(rows.len()),
            rows,
            details: Vec::new(),
            repeated: 0,
            stale: 0,
            unfit: 0,
        }
    }

    /// For changes that come one by one; their rows hold every field.
    pub fn one_by_one(object: &ObjectDescription) -> Self {
        Self::new(Rows::new(RowLayout::complete(object.fields.len())))
    }

    pub(super) fn detail(&mut self, detail: Detail) -> Option<u32> {
        if self.details.last() != Some(&detail) {
            self.details.push(detail);
        }
        u32::try_from(self.details.len() - 1).ok()
    }
}

/// How rows of a window are to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The ledger holds all that was published with a cursor field from here on.
    pub ledger_from: Stamp,
    /// The events of all changes that were saved before this are published, or will be: a row with the very stamp of one
    /// is that change. From here on it may be another save of that second, whose event is lost: the record is read again.
    pub events_to: Stamp,
}

enum Decision {
    Publish(Operation),
    Repeated,
    Stale,
    /// The record must be read again.
    Unclear,
}

impl Sequencer {
    pub fn new(object: Arc<ObjectDescription>, ledger: Ledger, sequence: ChangeSequence) -> Self {
        Self { object, ledger, beyond: 0, sequence }
    }

    pub fn object(&self) -> &Arc<ObjectDescription> {
        &self.object
    }

    pub fn sequence(&self) -> ChangeSequence {
        self.sequence
    }

    /// The object was described again; what was published keeps its numbers and its entries.
    pub fn describe(&mut self, object: Arc<ObjectDescription>) {
        self.object = object;
    }

    /// Rows of a full load, read at `server_time`. Those with a cursor field from `remember_from` on are entered,
    /// for polling will meet them again.
    pub fn load_page(
        &mut self,
        rows: Rows,
        server_time: Stamp,
        remember_from: Option<Stamp>,
    ) -> Result<Sequenced> {
        let keys = self.keys(&rows, self.object.cursor, server_time)?;
        let mut out = Sequenced::new(rows);
        for (row, (id, stamp)) in out.rows.iter().zip(keys) {
            if let Some(newest) = self.ledger.newest(&id).filter(|newest| self.is_loaded(newest, row, stamp))
            {
                // Within one second nobody can tell which is younger; the polls up to the load's end read it again.
                if newest.stamp > stamp {
                    out.stale += 1
                } else {
                    out.repeated += 1
                }
                continue;
            }
            self.sequence = self.sequence.next(server_time);
            out.changes.push(change(row, Operation::Refresh, self.sequence, stamp));
            if remember_from.is_some_and(|from| stamp >= from) {
                let hash = content_hash(&self.object, row);
                let number = self.sequence.number();
                self.ledger.enter(id, Entry { kind: Kind::Live, stamp, hash, number, event: 0 });
            }
        }
        Ok(out)
    }

    /// Rows of a window, live and deleted. `fitting`: which of the [`Self::news`] fit the condition; none: there is no
    /// condition. `of`: the source of what goes out for a record that does not fit any more.
    pub fn poll_page(
        &mut self,
        rows: Rows,
        reading: Reading,
        fitting: Option<&Fitting>,
        of: Source,
    ) -> Result<Sequenced> {
        let Some(cursor) = self.object.cursor else { return Ok(Sequenced::new(rows)) };
        let keys = self.keys(&rows, Some(cursor), Stamp::default())?;
        let mut out = Sequenced::new(rows);
        for (place, (id, stamp)) in keys.into_iter().enumerate() {
            let Some(row) = out.rows.row(place) else { continue };
            let deleted = self.is_deleted(row);
            let hash = content_hash(&self.object, row);
            let operation = match self.decide(row, &id, stamp, deleted, hash, reading) {
                Decision::Repeated => {
                    out.repeated += 1;
                    continue;
                }
                Decision::Stale => {
                    out.stale += 1;
                    continue;
                }
                // Whoever asked `unclear` before has read it since.
                Decision::Unclear => {
                    out.repeated += 1;
                    continue;
                }
                Decision::Publish(operation) => operation,
            };
            match fitting.map_or(Fit::Yes, |fitting| fitting.of(&id, Some(stamp))) {
                Fit::Yes => {
                    self.sequence = self.sequence.next(stamp);
                    out.changes.push(change(row, operation, self.sequence, stamp));
                    let kind = if deleted { Kind::Deleted } else { Kind::Live };
                    let number = self.sequence.number();
                    self.ledger.enter(id, Entry { kind, stamp, hash, number, event: 0 });
                }
                // It was saved behind what this reading shows: a later window shows it as it is then.
                Fit::Later => out.stale += 1,
                Fit::No => {
                    let is_new = self.created(row).is_some_and(|created| created >= reading.ledger_from);
                    let detail = Detail { source: of, ..Detail::refetch() };
                    let entry = Entry { kind: Kind::Deleted, stamp, hash, number: 0, event: 0 };
                    self.leave(&mut out, id, is_new, entry, stamp, detail)?;
                }
            }
        }
        Ok(out)
    }

    /// Records of a page that [`Self::poll_page`] would publish, with their places: of these it must be known whether they fit
    /// the condition.
    pub fn news(&self, rows: &Rows, reading: Reading) -> Result<Vec<(usize, RecordId)>> {
        let Some(cursor) = self.object.cursor else { return Ok(Vec::new()) };
        let keys = self.keys(rows, Some(cursor), Stamp::default())?;
        let is_news = |(row, (id, stamp)): &(Row<'_>, (RecordId, Stamp))| {
            let hash = content_hash(&self.object, *row);
            let decision = self.decide(*row, id, *stamp, self.is_deleted(*row), hash, reading);
            matches!(decision, Decision::Publish(_))
        };
        Ok(rows.iter().zip(keys).filter(is_news).map(|(row, (id, _))| (row.index(), id)).collect())
    }

    /// A record does not fit the condition: a delete of its id goes out if it may have been published. `never`: it was
    /// not, if the ledger holds nothing of it. `entry`: what is to be known of this reading.
    pub(super) fn leave(
        &mut self,
        out: &mut Sequenced,
        id: RecordId,
        never: bool,
        mut entry: Entry,
        at: Stamp,
        detail: Detail,
    ) -> Result<()> {
        let newest = self.ledger.newest(&id);
        let is_gone = match &newest {
            Some(newest) => newest.kind == Kind::Deleted,
            None => never,
        };
        if is_gone {
            out.unfit += 1;
        } else {
            self.delete_id(out, id, at, detail)?;
        }
        if let Some(newest) = newest.filter(|newest| newest.kind == Kind::Deleted) {
            // getDeleted named it with a moment, and may name it again.
            entry.stamp = entry.stamp.max(newest.stamp);
        }
        self.ledger.enter(id, Entry { number: self.sequence.number(), ..entry });
        Ok(())
    }

    /// Nothing of its content: it does not fit.
    pub(super) fn delete_id(
        &mut self,
        out: &mut Sequenced,
        id: RecordId,
        at: Stamp,
        detail: Detail,
    ) -> Result<()> {
        let key = self.object.key;
        out.rows.push_only(key, id.as_bytes()).map_err(|_| self.unreadable("a page has no ids"))?;
        let detail = Detail { changed: None, carried: Some([key].into_iter().collect()), ..detail };
        self.push(out, Operation::Delete, at, detail);
        Ok(())
    }

    /// Records that were published by another condition and do not fit the one of now, read at `at`. Those with a stamp from
    /// `remember_from` on are entered, for polls will meet them again.
    pub(super) fn left(
        &mut self,
        records: &[(RecordId, Option<Stamp>)],
        at: Stamp,
        remember_from: Option<Stamp>,
    ) -> Result<Sequenced> {
        let mut out = Sequenced::one_by_one(&self.object);
        for (id, stamp) in records {
            let stamp = stamp.unwrap_or(at);
            let entry = Entry { kind: Kind::Deleted, stamp, hash: DELETED_BY_EVENT, number: 0, event: 0 };
            if self.ledger.newest(id).is_none() && remember_from.is_some_and(|from| stamp < from) {
                self.delete_id(&mut out, *id, at, Detail::refetch())?;
            } else {
                self.leave(&mut out, *id, false, entry, at, Detail::refetch())?;
            }
        }
        Ok(out)
    }

    fn is_deleted(&self, row: Row<'_>) -> bool {
        self.object.is_deleted.and_then(|field| row.value(field)) == Some(b"true")
    }

    pub(super) fn created(&self, row: Row<'_>) -> Option<Stamp> {
        self.object.created_date.and_then(|field| row.value(field)).and_then(Stamp::parse)
    }

    fn decide(
        &self,
        row: Row<'_>,
        id: &RecordId,
        stamp: Stamp,
        deleted: bool,
        hash: u64,
        reading: Reading,
    ) -> Decision {
        let Some(newest) = self.ledger.newest(id) else {
            if deleted {
                return Decision::Publish(Operation::Delete);
            }
            let is_new = self.created(row).is_some_and(|created| created >= reading.ledger_from);
            return Decision::Publish(if is_new { Operation::Insert } else { Operation::Update });
        };
        match (newest.kind, deleted) {
            // What getDeleted names, or a reading missed, has a time of its own: a row of the same deletion can bear a younger one.
            (Kind::Deleted, true) if newest.is_deletion_of_its_time() && stamp > newest.stamp => {
                Decision::Publish(Operation::Delete)
            }
            (Kind::Deleted, true) => Decision::Repeated,
            // A live row of this very content did not fit the condition.
            (Kind::Deleted, false) if newest.hash == hash => Decision::Repeated,
            // getDeleted was asked before this row was read: it is back, though its stamp may not have moved.
            (Kind::Deleted, false) if newest.hash == NO_ROW => Decision::Publish(Operation::Insert),
            // Of an event alone the stamp of the row is not known: it can be older than the commit.
            _ if stamp < newest.stamp && newest.is_of_event_alone() && stamp >= reading.events_to => {
                Decision::Unclear
            }
            _ if stamp < newest.stamp => Decision::Stale,
            (Kind::Deleted, false) => Decision::Publish(Operation::Insert),
            (Kind::Live, true) => Decision::Publish(Operation::Delete),
            // The hash holds the stamp: whole rows that an event completed have the event's in the ledger.
            (Kind::Live, false) if newest.hash == hash => Decision::Repeated,
            // Saved in the very second of an event: the same change, or another one that no event may have told of.
            (Kind::Live, false) if newest.event != 0 && stamp == newest.stamp => {
                if stamp < reading.events_to { Decision::Repeated } else { Decision::Unclear }
            }
            (Kind::Live, false) => Decision::Publish(Operation::Update),
        }
    }

    /// Records of a page that must be read by id before the page is taken. Of a load (`reading`: none): rows that will be
    /// dropped because of an event that did not hold the whole record. Of a window: rows that nobody can tell from an
    /// event. `reread`: those that were read since the page came.
    pub fn unclear(
        &self,
        rows: &Rows,
        reread: &HashSet<RecordId>,
        reading: Option<Reading>,
    ) -> Result<Vec<RecordId>> {
        let Some(cursor) = self.object.cursor else { return Ok(Vec::new()) };
        let mut unclear = Vec::new();
        for (row, (id, stamp)) in rows.iter().zip(self.keys(rows, Some(cursor), Stamp::default())?) {
            let Some(newest) = self.ledger.newest(&id) else { continue };
            if reread.contains(&id) {
                continue;
            }
            let is_unclear = match reading {
                // Loaded anew, and older than what was published before: by the stamp of a commit, or from a replica that lags.
                None if self.is_due_again(&newest) => newest.stamp > stamp,
                _ if newest.event == 0 => false,
                None => newest.kind == Kind::Live && newest.hash == UNKNOWN && newest.stamp >= stamp,
                Some(reading) => {
                    let hash = content_hash(&self.object, row);
                    let deleted = self.is_deleted(row);
                    matches!(self.decide(row, &id, stamp, deleted, hash, reading), Decision::Unclear)
                }
            };
            if is_unclear {
                unclear.push(id);
            }
        }
        Ok(unclear)
    }

    /// Whether what was published of a record lacks what everything is loaded anew for.
    pub(super) fn is_due_again(&self, newest: &Entry) -> bool {
        self.beyond > 0 && newest.number <= self.beyond
    }

    /// The stamp of the row that was published of a live record, if it was read.
    pub fn read_at(&self, id: &RecordId) -> Option<Stamp> {
        let read = |newest: &Entry| newest.kind == Kind::Live && newest.event == 0;
        self.ledger.newest(id).filter(read).map(|newest| newest.stamp)
    }

    /// Of the ids that getDeleted names those that would be published now. It names what was deleted, though it may have
    /// been undeleted since and published long ago: whoever publishes them must know that they are gone.
    pub fn unpublished<'a>(&self, deleted: &'a [(RecordId, Stamp)]) -> Vec<&'a RecordId> {
        let is_news = |(id, stamp): &&(RecordId, Stamp)| match self.ledger.newest(id) {
            Some(newest) => newest.kind != Kind::Deleted && newest.stamp <= *stamp,
            None => true,
        };
        deleted.iter().filter(is_news).map(|(id, _)| id).collect()
    }

    /// Ids that getDeleted names: those not published as deleted yet. Their rows hold the id alone.
    pub fn deletions(&mut self, deleted: &[(RecordId, Stamp)]) -> Result<Sequenced> {
        let layout = RowLayout::new(&[Some(self.object.key)], self.object.fields.len());
        let mut out = Sequenced::new(Rows::new(layout));
        for (id, stamp) in deleted {
            match self.ledger.newest(id) {
                Some(newest) if newest.kind == Kind::Deleted => {
                    if newest.stamp < *stamp {
                        // Its row kept an older stamp: the entry must last as long as getDeleted names the id.
                        self.ledger.enter(*id, Entry { stamp: *stamp, ..newest });
                    }
                    out.repeated += 1;
                }
                // Undeleted since, and published again.
                Some(newest) if newest.stamp > *stamp => out.stale += 1,
                _ => {
                    out.rows
                        .push([id.as_bytes()])
                        .map_err(|_| self.unreadable("a list of deletions is too long"))?;
                    self.sequence = self.sequence.next(*stamp);
                    let index = u32::try_from(out.rows.len() - 1).unwrap_or(u32::MAX);
                    out.changes.push(Change {
                        row: index,
                        operation: Operation::Delete,
                        sequence: self.sequence,
                        timestamp: *stamp,
                        detail: None,
                    });
                    let number = self.sequence.number();
                    let entry = Entry { kind: Kind::Deleted, stamp: *stamp, hash: NO_ROW, number, event: 0 };
                    self.ledger.enter(*id, entry);
                }
            }
        }
        Ok(out)
    }

    /// Id and stamp of every row, before any is entered: of a page that does not read, nothing may count as published.
    pub(super) fn keys(
        &self,
        rows: &Rows,
        cursor: Option<CursorField>,
        otherwise: Stamp,
    ) -> Result<Vec<(RecordId, Stamp)>> {
        rows.iter()
            .map(|row| {
                let stamp = cursor.map_or(Ok(otherwise), |cursor| self.stamp(row, cursor.0))?;
                Ok((self.id(row)?, stamp))
            })
            .collect()
    }

    fn id(&self, row: Row<'_>) -> Result<RecordId> {
        row.value(self.object.key)
            .and_then(RecordId::new)
            .ok_or_else(|| self.unreadable("a row came without a usable id"))
    }

    pub(super) fn stamp(&self, row: Row<'_>, field: usize) -> Result<Stamp> {
        row.value(field)
            .and_then(Stamp::parse)
            .ok_or_else(|| self.unreadable("a row came without a readable cursor field"))
    }

    pub(super) fn unreadable(&self, what: &str) -> Error {
        Error::new(error::Kind::ReplyUnreadable, format!("object {}: {what}", self.object.name))
    }
}

fn change(row: Row<'_>, operation: Operation, sequence: ChangeSequence, timestamp: Stamp) -> Change {
    let row = u32::try_from(row.index()).unwrap_or(u32::MAX);
    Change { row, operation, sequence, timestamp, detail: None }
}

#[cfg(test)]
mod tests;
