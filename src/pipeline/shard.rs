//! The transactions of one shard: parcels in, records and control records out, together or not at all.
//!
//! Comes in: parcels of the shard's objects through one bounded queue, in publishing order. Goes out: transactions
//! through a [`Publisher`]. It runs on a thread of its own, for the client library blocks. Any error ends it; the shard
//! must then be claimed anew, for nothing in memory is known to be committed.
//!
//! A transaction ends after an interval or by bytes, always behind a whole parcel; control records of parcels without
//! changes wait for the next transaction, but not for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::encoders::ObjectEncoders;
use super::event_encoders::EventEncoders;
use crate::config::Settings;
use crate::domain::{Batch, Change, ControlRecord, EventBatch, Notice, Operation, Stamp};
use crate::error::Kind;
use crate::publish::{self, Publisher};
use crate::status::{Board, Tally};
use crate::{Error, Result};

/// A live change waits at most this long for company.
const INTERVAL: Duration = Duration::from_millis(100);
/// While only loaded rows flow a transaction may grow to this age,
const LOAD_INTERVAL: Duration = Duration::from_secs(1);
/// and any transaction to this many bytes.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Control records without data go out after this long at the latest.
const IDLE_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub enum Parcel {
    Batch {
        batch: Box<Batch>,
        /// None: there are no changes in it.
        encoders: Option<Arc<ObjectEncoders>>,
        urgent: bool,
    },
    /// Events of a platform event.
    Events { batch: Box<EventBatch>, encoders: Arc<EventEncoders> },
    /// A record of the shard itself; answered once it is committed.
    Control { record: ControlRecord, committed: Option<oneshot::Sender<()>> },
    /// Answered once everything before it is committed.
    Barrier(oneshot::Sender<()>),
}

pub struct Shard<P> {
    runtime: Handle,
    publisher: P,
    dead_letter_topic: String,
    notification_topic: String,
    board: Arc<Board>,
    /// Control records that wait for a transaction, in the order of their first arrival; the newest of a key counts.
    waiting: Waiting,
    key: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Default)]
struct Waiting {
    records: Vec<ControlRecord>,
    /// Where the record of a key stands: a batch after an outage brings a part for every minute of it.
    places: HashMap<String, usize>,
    since: Option<Instant>,
}

impl Waiting {
    fn add(&mut self, records: Vec<ControlRecord>) {
        if records.is_empty() {
            return;
        }
        self.since.get_or_insert_with(Instant::now);
        for record in records {
            let known = self.places.get(&record.key).and_then(|place| self.records.get_mut(*place));
            match known {
                Some(known) => *known = record,
                None => {
                    self.places.insert(record.key.clone(), self.records.len());
                    self.records.push(record);
                }
            }
        }
    }

    fn take(&mut self) -> Vec<ControlRecord> {
        self.since = None;
        self.places.clear();
        std::mem::take(&mut self.records)
    }
}

/// What a transaction in the making has come to.
struct Open {
    deadline: Instant,
    bytes: usize,
    barriers: Vec<oneshot::Sender<()>>,
    begun: Instant,
    /// What is published, by object, for the board.
    tallies: Vec<(Arc<str>, Tally)>,
    gaps: Vec<(Arc<str>, &'static str)>,
}

impl Open {
    fn tally_place(&mut self, object: &Arc<str>) -> usize {
        self.tallies.iter().position(|(known, _)| known == object).unwrap_or_else(|| {
            self.tallies.push((object.clone(), Tally::default()));
            self.tallies.len() - 1
        })
    }
}

impl<P: Publisher> Shard<P> {
    pub fn new(runtime: Handle, publisher: P, settings: &Settings, board: Arc<Board>) -> Self {
        Self {
            runtime,
            publisher,
            dead_letter_topic: settings.dead_letter_topic(),
            notification_topic: settings.notification_topic(),
            board,
            waiting: Waiting::default(),
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Publishes until the queue is closed and empty, then commits what is left.
    pub fn run(mut self, mut queue: mpsc::Receiver<Parcel>) -> Result<()> {
        loop {
            let deadline = self.waiting.since.map(|since| since + IDLE_INTERVAL);
            match self.receive(&mut queue, deadline) {
                Received::Parcel(parcel) => {
                    let closed = self.transaction(Some(parcel), &mut queue)?;
                    if closed {
                        return self.finish();
                    }
                }
                Received::Nothing => {
                    self.transaction(None, &mut queue)?;
                }
                Received::Closed => return self.finish(),
            }
        }
    }

    fn finish(mut self) -> Result<()> {
        if self.waiting.records.is_empty() {
            return Ok(());
        }
        self.publisher.begin()?;
        let control = self.waiting.take();
        self.publisher.commit(&control)
    }

    /// One transaction, or none if the parcel only brings positions. True if the queue was closed on the way.
    fn transaction(&mut self, first: Option<Parcel>, queue: &mut mpsc::Receiver<Parcel>) -> Result<bool> {
        let mut open: Option<Open> = None;
        let mut closed = false;
        let mut next = first;
        if next.is_none() {
            self.open(&mut open)?.deadline = Instant::now();
        }
        loop {
            match next.take() {
                Some(Parcel::Barrier(answer)) => {
                    let open = self.open(&mut open)?;
                    open.barriers.push(answer);
                    open.deadline = Instant::now();
                }
                Some(Parcel::Control { record, committed }) => {
                    self.waiting.add(vec![record]);
                    if let Some(committed) = committed {
                        let open = self.open(&mut open)?;
                        open.barriers.push(committed);
                        open.deadline = Instant::now();
                    }
                }
                Some(Parcel::Batch { batch, encoders, urgent }) => {
                    if !batch.changes.is_empty() {
                        let missing = || Error::new(Kind::Internal, "changes without what encodes them");
                        self.publish(&batch, encoders.as_ref().ok_or_else(missing)?, &mut open)?;
                    }
                    self.tell(&batch.notices, &mut open)?;
                    if urgent {
                        self.open(&mut open)?.deadline = Instant::now();
                    }
                    self.waiting.add(batch.control);
                }
                Some(Parcel::Events { batch, encoders }) => {
                    if !batch.events.is_empty() {
                        self.publish_events(&batch, &encoders, &mut open)?;
                    }
                    self.tell(&batch.notices, &mut open)?;
                    self.waiting.add(batch.control);
                }
                None => {}
            }
            let Some(transaction) = &open else { return Ok(closed) };
            if closed || transaction.bytes >= MOST_BYTES || Instant::now() >= transaction.deadline {
                break;
            }
            match self.receive(queue, Some(transaction.deadline)) {
                Received::Parcel(parcel) => next = Some(parcel),
                Received::Nothing => break,
                Received::Closed => closed = true,
            }
        }
        if let Some(open) = open {
            let control = self.waiting.take();
            self.publisher.commit(&control)?;
            for answer in open.barriers {
                // Whoever asked may have been stopped meanwhile.
                let _ = answer.send(());
            }
            self.board.transaction_committed(open.begun.elapsed());
            for (object, reason) in &open.gaps {
                self.board.gap(object, reason);
            }
            for (object, tally) in &open.tallies {
                self.board.committed(object, tally);
            }
        }
        Ok(closed)
    }

    fn open<'a>(&mut self, open: &'a mut Option<Open>) -> Result<&'a mut Open> {
        if open.is_none() {
            self.publisher.begin()?;
        }
        Ok(open.get_or_insert_with(|| Open {
            deadline: Instant::now() + LOAD_INTERVAL,
            bytes: 0,
            barriers: Vec::new(),
            begun: Instant::now(),
            tallies: Vec::new(),
            gaps: Vec::new(),
        }))
    }

    /// What is to be told in the transaction of its batch.
    fn tell(&mut self, notices: &[Notice], open: &mut Option<Open>) -> Result<()> {
        for notice in notices {
            let open = self.open(open)?;
            open.gaps.extend(notice.kind.gap().map(|reason| (notice.object.clone(), reason)));
            let value = notice.encode(crate::status::now());
            let topic = &self.notification_topic;
            self.publisher.send(topic, notice.object.as_bytes(), Some(&value))?;
        }
        Ok(())
    }

    fn publish(&mut self, batch: &Batch, encoders: &ObjectEncoders, open: &mut Option<Open>) -> Result<()> {
        let open = self.open(open)?;
        if batch.load_id.is_none() {
            open.deadline = open.deadline.min(Instant::now() + INTERVAL);
        }
        let place = open.tally_place(&batch.object.name);
        for change in &batch.changes {
            let row = batch
                .rows
                .row(change.row as usize)
                .ok_or_else(|| Error::new(Kind::Internal, "a change without its row"))?;
            let mut tally = open.tallies.get_mut(place).map(|(_, tally)| tally);
            for output in &encoders.outputs {
                if batch.only.as_ref().is_some_and(|only| only.leaves_out(&output.topic, change)) {
                    continue;
                }
                if let Some(refusal) = batch.blobs.refusal(change.row) {
                    open.bytes += self.dead_letter(batch, change, &output.topic, refusal)?;
                    continue;
                }
                self.key.clear();
                self.value.clear();
                let encoded = output
                    .encoder
                    .encode_key(row, &mut self.key)
                    .and_then(|()| output.encoder.encode_value(batch, change, &mut self.value));
                let outcome = match encoded {
                    Ok(()) => self.publisher.send(&output.topic, &self.key, Some(&self.value)),
                    Err(unfit) => Err(Error::new(Kind::ValueUnfit, unfit.to_string())),
                };
                match outcome {
                    Ok(()) => {
                        open.bytes += self.key.len() + self.value.len();
                        if let Some(tally) = &mut tally {
                            tally.record(&output.topic, change.operation);
                        }
                    }
                    Err(error) if matches!(error.kind(), Kind::ValueUnfit | Kind::RecordTooLarge) => {
                        open.bytes += self.dead_letter(batch, change, &output.topic, &error)?;
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(tally) = tally {
                tally.change(change.operation, change.timestamp);
            }
        }
        Ok(())
    }

    fn publish_events(
        &mut self,
        batch: &EventBatch,
        encoders: &EventEncoders,
        open: &mut Option<Open>,
    ) -> Result<()> {
        let open = self.open(open)?;
        open.deadline = open.deadline.min(Instant::now() + INTERVAL);
        let place = open.tally_place(&batch.event);
        for event in &batch.events {
            self.key.clear();
            self.value.clear();
            let too_large;
            let trouble = match &event.created_at {
                Err(unreadable) => Some(unreadable),
                Ok(created_at) => {
                    encoders.encode(event, *created_at, &mut self.key, &mut self.value)?;
                    match self.publisher.send(&encoders.topic, &self.key, Some(&self.value)) {
                        Ok(()) => None,
                        Err(error) if error.kind() == Kind::RecordTooLarge => {
                            too_large = error;
                            Some(&too_large)
                        }
                        Err(error) => return Err(error),
                    }
                }
            };
            let mut tally = open.tallies.get_mut(place).map(|(_, tally)| tally);
            match trouble {
                None => {
                    open.bytes += self.key.len() + self.value.len();
                    if let Some(tally) = &mut tally {
                        tally.record(&encoders.topic, Operation::Insert);
                    }
                }
                Some(error) => {
                    let letter = publish::event_dead_letter(&batch.event, event, &encoders.topic, error);
                    self.board.dead_letter(&batch.event, error);
                    self.publisher.send(&self.dead_letter_topic, &letter.key, Some(&letter.value))?;
                    open.bytes += letter.value.len();
                }
            }
            if let Some(tally) = tally {
                // Whoever publishes may set it as they like; of what does not read it is not known.
                let created_at = event.created_at.as_ref().map_or(crate::status::now(), |at| *at);
                tally.change(Operation::Insert, created_at.max(Stamp(0)));
            }
        }
        Ok(())
    }

    /// A record that cannot be published goes where it is kept with its reason, in the same transaction.
    fn dead_letter(&mut self, batch: &Batch, change: &Change, topic: &str, error: &Error) -> Result<usize> {
        let letter = publish::dead_letter(batch, change, topic, error);
        self.board.dead_letter(&batch.object.name, error);
        self.publisher.send(&self.dead_letter_topic, &letter.key, Some(&letter.value))?;
        Ok(letter.value.len())
    }

    fn receive(&self, queue: &mut mpsc::Receiver<Parcel>, deadline: Option<Instant>) -> Received {
        match queue.try_recv() {
            Ok(parcel) => return Received::Parcel(parcel),
            Err(mpsc::error::TryRecvError::Disconnected) => return Received::Closed,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        let received = match deadline {
            None => self.runtime.block_on(queue.recv()),
            Some(deadline) => {
                let waited = self
                    .runtime
                    .block_on(async { tokio::time::timeout_at(deadline.into(), queue.recv()).await });
                match waited {
                    Ok(received) => received,
                    Err(_) => return Received::Nothing,
                }
            }
        };
        received.map_or(Received::Closed, Received::Parcel)
    }
}

enum Received {
    Parcel(Parcel),
    Nothing,
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_every_key_the_newest_record_waits_in_the_place_of_the_first() {
        let record = |key: &str, value: Option<&str>| ControlRecord {
            key: key.to_owned(),
            value: value.map(|value| value.as_bytes().to_vec()),
        };
        let mut waiting = Waiting::default();
        waiting.add(Vec::new());
        assert_eq!(waiting.since, None);
        waiting.add(vec![record("a", Some("1")), record("b", Some("1"))]);
        waiting.add(vec![record("c", None), record("a", None), record("b", Some("2"))]);
        assert_eq!(waiting.take(), [record("a", None), record("b", Some("2")), record("c", None)]);
        waiting.add(vec![record("b", Some("3"))]);
        assert_eq!(waiting.take(), [record("b", Some("3"))]);
    }
}
