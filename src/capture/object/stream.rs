//! Following by subscription: when to open the stream, what its losses mean, when to poll instead.
//!
//! Comes in: what [`Live`] hears and flushes. Goes out: batches and positions.
//! - A position names a replay id only while nothing before it is missing. While a stretch is being repaired it names none:
//!   whoever starts from it opens a new stream and repairs again, from the cursor.
//! - A repair waits until the new stream has stood for a while, and reads from the cursor less the look-back to the
//!   present, deletions included, beside the stream. Never: a jump to the newest event alone.
//! - While the stream is away changes are polled for, from the same cursor; when it is back it goes on behind the last
//!   event that was taken, and what was polled meanwhile is folded.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{ObjectCapture, Step};
use crate::capture::event::LONGEST_TRANSACTION;
use crate::capture::ledger::RecordId;
use crate::capture::live::{Heard, Live, Lost};
use crate::capture::reading::read_records;
use crate::capture::sequencer::{Reading, Sequenced};
use crate::domain::{
    Batch, Capture, Detail, Need, Notice, NoticeKind, ObjectDescription, ReloadReason, Source, Stamp,
};
use crate::error::Kind;
use crate::{Error, Result};

/// A stretch that must be read again.
#[derive(Debug)]
pub(super) struct Repair {
    reason: &'static str,
    from: Stamp,
    /// The window in hand was opened beside a stream that stood: when it is read to its end, all is repaired.
    window_counts: bool,
    /// Changes that were found so far.
    records: usize,
    /// All is read up to here, but for what leaves no row.
    read_to: Option<Stamp>,
}

impl ObjectCapture {
    /// What the stream has to say now; nothing if something else may go on.
    pub(super) async fn stream_step(&mut self) -> Result<Option<Step>> {
        let Some(live) = &mut self.live else { return Ok(None) };
        if live.is_due() {
            live.open(&self.client, self.position.replay_id.as_ref());
        }
        if live.flush_at().is_some_and(|at| at <= Instant::now()) {
            return self.flush().await.map(Some);
        }
        if live.has_other_schema() {
            // Whether or not the describe's own stamp has moved: it goes by the second.
            self.expect_other_description();
            return Ok(None);
        }
        if self.described_at.elapsed() >= self.describe_interval() {
            self.describe_due = true;
            return Ok(None);
        }
        if let Some(step) = self.end_repair().await? {
            return Ok(Some(step));
        }
        let Some(live) = &self.live else { return Ok(None) };
        // What leaves no event: purged records, and deletions that pass the recycle bin by.
        if let (true, false, Some(cursor)) =
            (live.stands(), self.position.is_first_load(), self.position.cursor)
            && let Some(found) = self.deletions.due(&self.client, &self.position, cursor).await
        {
            return self.publish_deletions(found).await.map(Some);
        }
        Ok(None)
    }

    fn opened(&mut self, anew: bool, before: Stamp) {
        match self.position.cursor {
            _ if !anew => {}
            None => self.position.follow_from(before, before),
            Some(from) if self.repair.is_none() => self.begin_repair("no-position", from, None),
            Some(_) => {}
        }
    }

    /// What was heard, or what its error means.
    pub(super) fn heard(&mut self, heard: Result<Heard>) -> Result<()> {
        match heard {
            Ok(Heard::Opened { anew, before }) => self.opened(anew, before),
            Ok(Heard::OtherSchema) => self.expect_other_description(),
            Ok(Heard::Something) => {}
            Err(error) => return self.refused(error),
        }
        Ok(())
    }

    /// What a stream's end with an error means; the error itself, if it means nothing but to try again.
    fn refused(&mut self, error: Error) -> Result<()> {
        let required = self.live.as_ref().is_some_and(Live::is_required);
        match error.kind() {
            Kind::ReplayIdExpired => {
                self.position.replay_id = None;
                self.stream_position = None;
                if let Some(from) = self.position.cursor {
                    self.begin_repair("replay-id", from, Some(&error));
                }
                Ok(())
            }
            Kind::SubscriptionRefused if !required => {
                tracing::warn!(object = %self.description().name, code = error.kind().code(), %error, "following by polling instead");
                self.live = None;
                self.repair = None;
                self.poll_on();
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn begin_repair(&mut self, reason: &'static str, from: Stamp, error: Option<&Error>) {
        let from = self.position.behind().map_or(from, |behind| behind.min(from));
        self.position.events_to = None;
        let code = error.map(|error| error.kind().code());
        let error = error.map(tracing::field::display);
        tracing::warn!(object = %self.description().name, reason, %from, code, error, "a stretch of changes is read again");
        self.position.replay_id = None;
        self.position.cursor = Some(from);
        self.notices.push(Notice {
            object: self.description().name.clone(),
            kind: NoticeKind::GapFound { reason, from },
        });
        self.repair = Some(Repair { reason, from, window_counts: false, records: 0, read_to: None });
        if let Some(follow) = &mut self.follow {
            follow.window = None;
            follow.next_at = Instant::now();
        }
    }

    async fn flush(&mut self) -> Result<Step> {
        let at_once = self.at_once();
        let Some(live) = &mut self.live else {
            return Err(Error::new(Kind::Internal, "a flush without a stream"));
        };
        let (sequenced, flushed) = live
            .flush(&self.client, &mut self.sequencer, &mut self.doubts, at_once)
            .await
            .map_err(|error| error.during(format_args!("changes of {}", self.position.object)))?;
        if flushed.doubtful {
            self.expect_other_description();
        }
        if flushed.folded > 0 {
            tracing::debug!(object = %self.position.object, folded = flushed.folded, "events of what was read since");
        }
        let object = self.description().name.clone();
        if flushed.reread > 0 {
            tracing::info!(object = %object, records = flushed.reread, "records were read that events did not tell of");
            let kind = NoticeKind::RecordsReread { reason: "event", records: flushed.reread };
            self.notices.push(Notice { object, kind });
        }
        self.stream_position = flushed.latest.or(self.stream_position.take());
        for lost in flushed.lost {
            match lost {
                Lost::Stretch { reason, from } => {
                    let Some(from) = from.or(self.position.cursor) else { continue };
                    self.begin_repair(reason, from, None);
                }
                Lost::AllRecords => {
                    // No stamp moved, and the object may look different.
                    self.reload(&Need::of(ReloadReason::AllRecords));
                    self.expect_other_description();
                }
            }
        }
        if self.repair.is_none() {
            self.position.replay_id = self.stream_position.clone();
            self.reached(flushed.committed_to);
        }
        let at = self.stream_position.as_ref().map(ToString::to_string).unwrap_or_default();
        let batch = self.batch(sequenced, Source::Subscribe, None, &at);
        Ok(Step::Batch { batch, urgent: false })
    }

    /// Everything committed up to here was handed over.
    fn reached(&mut self, to: Option<Stamp>) {
        self.position.cursor = self.position.cursor.max(to);
        self.position.events_to =
            self.position.events_to.max(to.filter(|_| self.position.events_to.is_some()));
        if self.position.events_to >= self.position.cursor {
            // The stream has caught up with the polls.
            self.position.events_to = None;
        }
        if !self.position.is_first_load() {
            self.position.committed_to = self.position.committed_to.max(self.position.cursor);
        }
        self.forget_out_of_reach();
    }

    /// Polls go on from where the stream ended.
    pub(super) fn poll_on(&mut self) {
        self.position.capture = Capture::Poll;
        self.seat = Some(self.client.seat(true, self.settings.poll.interval));
        self.position.replay_id = None;
        self.position.cursor = self.position.behind();
        self.position.events_to = None;
        if let Some(follow) = &mut self.follow {
            follow.window = None;
        }
    }

    /// When a window is to be opened, or read on.
    pub(super) fn next_poll(&self) -> Option<Instant> {
        let follow = self.follow.as_ref()?;
        let Some(live) = &self.live else { return Some(follow.next_at) };
        if let Some(firm) = live.stands_from() {
            return self.repair.as_ref().map(|_| follow.next_at.max(firm));
        }
        live.missed_at().map(|missed| missed.max(follow.next_at))
    }

    /// A load may begin beside a stream that stands, or beside polls.
    pub(super) fn may_load(&self) -> bool {
        self.live.as_ref().is_none_or(|live| {
            self.position.load.is_some()
                || live.stands_firm()
                || live.missed_at().is_some_and(|at| at <= Instant::now())
        })
    }

    /// Waits until the stream says something, or it is time for something else.
    pub(super) async fn wait_for_stream(&mut self, next_poll: Option<Instant>) -> Result<()> {
        let object = self.sequencer.object().clone();
        let Some(live) = &mut self.live else { return Ok(()) };
        let describe = Some(self.described_at + self.client.describe_interval());
        let others = [next_poll, live.retry_at(), live.missed_at(), live.stands_from(), describe];
        // What is past was looked at, and waits for something else.
        let now = Instant::now();
        let next = others.into_iter().flatten().filter(|at| *at > now).min();
        let other = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let heard = tokio::select! {
            heard = live.hear(&object) => heard,
            () = other => return Ok(()),
        };
        self.heard(heard)
    }

    /// How the rows of the window in hand are taken.
    pub(super) fn reading(&self, ledger_from: Stamp) -> Reading {
        let events_to = match (&self.live, &self.repair) {
            // A transaction that was open then may have saved a record long before.
            (Some(_), Some(repair)) => repair.from.minus(LONGEST_TRANSACTION),
            // What is missed comes when the stream is back.
            (Some(_), None) => Stamp(i64::MAX),
            (None, _) => Stamp(i64::MIN),
        };
        Reading { ledger_from, events_to }
    }

    /// The window in hand brought so many changes.
    pub(super) fn found(&mut self, changes: usize) {
        self.window_had_changes |= changes > 0;
        if let Some(repair) = &mut self.repair {
            repair.records += changes;
        }
    }

    /// The window in hand is read to here.
    pub(super) fn polled(&mut self, read_to: Stamp) {
        if self.live.is_some() && self.repair.is_none() {
            // Its events come when the stream is back. Until then nothing that was polled may be forgotten.
            self.position.events_to = self.position.events_to.or(self.position.cursor);
        }
        self.position.cursor = self.position.cursor.max(Some(read_to));
        self.forget_out_of_reach();
        if let (Some(live), Some(_)) = (&mut self.live, self.position.events_to)
            && live.begins_anew_beyond(self.sequencer.ledger.len())
        {
            self.stream_position = None;
            self.begin_repair("away", read_to, None);
        }
    }

    pub(super) fn window_source(&self) -> Source {
        if self.repair.is_some() { Source::Refetch } else { Source::Poll }
    }

    /// Whether the window to be opened is to repair a stretch.
    pub(super) fn window_opened(&mut self) -> bool {
        let stands = self.live.as_ref().is_some_and(Live::stands_firm);
        // While the first load runs windows do not reach below its start.
        let reaches = !self.position.is_first_load();
        let Some(repair) = &mut self.repair else { return false };
        repair.window_counts = stands && reaches;
        repair.window_counts
    }

    /// The window is read to its end.
    pub(super) fn window_closed(&mut self, to: Stamp) {
        if let Some(repair) = self.repair.as_mut().filter(|repair| repair.window_counts) {
            repair.read_to = Some(to);
        }
    }

    /// The end of a repair: deletions that left no row, and then the position has a place in the stream again.
    async fn end_repair(&mut self) -> Result<Option<Step>> {
        let (Some(cursor), Some(to)) =
            (self.position.cursor, self.repair.as_ref().and_then(|repair| repair.read_to))
        else {
            return Ok(None);
        };
        self.deletions.hurry();
        let found = self.deletions.due(&self.client, &self.position, cursor).await;
        let found = match found {
            Some(found) => Some(self.confirmed(found).await?),
            None => None,
        };
        let deletions = found.as_ref().map_or(0, |found| self.sequencer.unpublished(&found.ids).len());
        self.repaired(to, deletions);
        Ok(Some(match found {
            Some(found) => self.deletions_batch(found)?,
            None => Step::Batch { batch: self.control_only(), urgent: false },
        }))
    }

    fn repaired(&mut self, to: Stamp, deletions: usize) {
        let Some(mut repair) = self.repair.take() else { return };
        repair.records += deletions;
        let (reason, from, records) = (repair.reason, repair.from, repair.records);
        tracing::info!(object = %self.description().name, reason, %from, %to, records, "all of the stretch is published");
        let kind = NoticeKind::GapRepaired { reason: repair.reason, from: repair.from, to };
        self.notices.push(Notice { object: self.description().name.clone(), kind });
        self.position.replay_id = self.stream_position.clone();
    }

    /// As many records as go into one batch; the others are found again.
    pub(super) fn some_of(&self, mut ids: Vec<RecordId>) -> Vec<RecordId> {
        ids.truncate(self.at_once().unwrap_or(usize::MAX));
        ids
    }

    /// Reads these records and publishes them before the page in hand, of a load or of a poll (`page`), is taken.
    pub(super) async fn restate(&mut self, ids: &[RecordId], page: &'static str) -> Result<Batch> {
        let object = self.sequencer.object().clone();
        // Not older than what was read before.
        let known = |id: &RecordId| self.sequencer.read_at(id).map(|stamp| (*id, stamp));
        let due: HashMap<RecordId, Stamp> = ids.iter().filter_map(known).collect();
        let condition = self.settings.condition.as_deref();
        let read = read_records(&self.client, &object, ids, &due, condition).await?;
        let at = self.client.server_time();
        let mut out = Sequenced::one_by_one(&object);
        for id in ids {
            match read.row(id) {
                Some(row) if !read.fits(id) => {
                    self.sequencer.unfit_refetched(&mut out, *id, row, at, Detail::refetch())?;
                }
                row => drop(self.sequencer.refetched(&mut out, *id, row, at, Detail::refetch())?),
            }
        }
        if !out.changes.is_empty() {
            let kind = NoticeKind::RecordsReread { reason: page, records: out.changes.len() as u64 };
            self.notices.push(Notice { object: object.name.clone(), kind });
        }
        let position = at.to_string();
        Ok(self.batch(out, Source::Refetch, None, &position))
    }
}

/// The stream's next word; without a stream there is none.
pub(super) async fn hear(live: Option<&mut Live>, object: &Arc<ObjectDescription>) -> Result<Heard> {
    match live {
        Some(live) => live.hear(object).await,
        None => std::future::pending().await,
    }
}
