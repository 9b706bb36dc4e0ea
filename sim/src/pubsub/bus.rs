//! The event bus: one log of all events, one rising sequence of positions.
//!
//! Comes in: events with what they belong to, in the order of commits. Goes out: those of a topic behind a position,
//! at once to whoever waits. Replay ids are positions in bytes; only those that were given out are known. Events
//! older than the retention, or beyond the log's size, are gone and their ids with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;

use super::encode::Header;
use super::schema::EventSchema;
use super::topic::Topic;
use crate::http::lock;
use crate::org::{Clock, Id};

/// Positions given out in keepalives are remembered, the newest of them.
const MOST_MARKS: usize = 10_000;
/// After an invalidation, positions go on so far away.
const MIGRATION: u64 = 1 << 32;

#[derive(Debug)]
pub(crate) struct Entry {
    pub number: u64,
    pub published_ms: i64,
    pub event_id: String,
    pub schema: Arc<EventSchema>,
    /// May differ from the schema's where a test publishes raw bytes.
    pub schema_id: Arc<str>,
    pub payload: Bytes,
    pub change: Option<Change>,
}

/// What a change event belongs to beside its own topic.
#[derive(Debug)]
pub(crate) struct Change {
    pub header: Header,
    pub body_at: usize,
    pub ids: Vec<Id>,
    /// Positions of changed fields, compound ones included.
    pub changed: BTreeSet<usize>,
    pub standard: bool,
    pub channels: Arc<[String]>,
}

/// An event that has no position yet.
pub(crate) struct New {
    pub event_id: Option<String>,
    pub schema: Arc<EventSchema>,
    pub schema_id: Arc<str>,
    pub payload: Bytes,
    pub change: Option<Change>,
}

pub(crate) struct Bus {
    log: Mutex<Log>,
    tail: watch::Sender<u64>,
    clock: Clock,
    seed: u64,
}

struct Log {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// The last position given out.
    newest: u64,
    /// Positions in keepalives, and when.
    marks: BTreeMap<u64, i64>,
    /// Everything up to here is gone.
    purged_through: u64,
    retention_ms: i64,
    most_bytes: usize,
    short_ids: bool,
    published: u64,
}

/// What a look behind a position found.
pub(crate) struct Found {
    pub entries: Vec<Arc<Entry>>,
    /// Everything of the topic up to here has been seen.
    pub through: u64,
}

impl Bus {
    pub fn new(seed: u64, clock: Clock, retention_ms: i64, most_bytes: usize) -> Bus {
        let newest = 1_500_000 + seed % 100_000;
        let now_ms = clock.now_ms();
        let log = Log {
            entries: VecDeque::new(),
            bytes: 0,
            newest,
            marks: BTreeMap::from([(newest, now_ms)]),
            purged_through: 0,
            retention_ms,
            most_bytes,
            short_ids: false,
            published: 0,
        };
        Bus { log: Mutex::new(log), tail: watch::Sender::new(newest), clock, seed }
    }

    /// Appends what one transaction published; positions of one transaction are neighbours.
    pub fn append(&self, events: Vec<New>) -> Vec<Arc<Entry>> {
        if events.is_empty() {
            return Vec::new();
        }
        let now_ms = self.clock.now_ms();
        let mut log = lock(&self.log);
        // Other orgs' events lie between.
        log.newest += crate::org::hash(self.seed ^ log.newest) % 7;
        let mut added = Vec::with_capacity(events.len());
        for event in events {
            log.newest += 1;
            let number = log.newest;
            let entry = Arc::new(Entry {
                number,
                published_ms: now_ms,
                event_id: event.event_id.unwrap_or_else(|| super::uuid(self.seed ^ 0xE7E7, number)),
                schema: event.schema,
                schema_id: event.schema_id,
                payload: event.payload,
                change: event.change,
            });
            log.bytes += entry.payload.len();
            log.published += 1;
            log.entries.push_back(Arc::clone(&entry));
            added.push(entry);
        }
        log.trim(now_ms);
        let newest = log.newest;
        drop(log);
        self.tail.send_replace(newest);
        added
    }

    /// Changes when events came.
    pub fn tail(&self) -> watch::Receiver<u64> {
        self.tail.subscribe()
    }

    /// Up to `most` events of the topic behind `after`, and not more than `most_bytes` if there are several.
    /// Events of `hidden` objects are left out.
    pub fn read(
        &self,
        topic: &Topic,
        hidden: &[String],
        after: u64,
        most: usize,
        most_bytes: usize,
    ) -> Found {
        let mut log = lock(&self.log);
        log.trim(self.clock.now_ms());
        let start = log.entries.partition_point(|entry| entry.number <= after);
        let mut found = Found { entries: Vec::new(), through: log.newest };
        let mut bytes = 0;
        for entry in log.entries.range(start..) {
            if !topic.has(entry, hidden) {
                continue;
            }
            bytes += entry.payload.len();
            if found.entries.len() >= most || (bytes > most_bytes && !found.entries.is_empty()) {
                found.through = found.entries.last().map_or(after, |entry| entry.number);
                break;
            }
            found.entries.push(Arc::clone(entry));
        }
        found
    }

    /// A position for a keepalive: beyond all that was read up to `through`, unless more has come meanwhile.
    pub fn mark(&self, through: u64) -> Option<u64> {
        let mut log = lock(&self.log);
        if log.newest != through {
            return None;
        }
        log.newest += 1;
        let (newest, now_ms) = (log.newest, self.clock.now_ms());
        log.marks.insert(newest, now_ms);
        if log.marks.len() > MOST_MARKS {
            log.marks.pop_first();
        }
        drop(log);
        // Other waiting streams have nothing to fetch, but their position moves on.
        self.tail.send_replace(newest);
        Some(newest)
    }

    /// A position that can be asked for again without moving the sequence.
    pub fn newest(&self) -> u64 {
        let mut log = lock(&self.log);
        let (newest, now_ms) = (log.newest, self.clock.now_ms());
        log.marks.entry(newest).or_insert(now_ms);
        newest
    }

    /// Before the oldest retained event.
    pub fn oldest(&self) -> u64 {
        let mut log = lock(&self.log);
        log.trim(self.clock.now_ms());
        log.purged_through
    }

    /// The position a replay id names; none if it was never given out, or is gone.
    pub fn position(&self, replay_id: &[u8]) -> Option<u64> {
        let number = match replay_id {
            [number @ .., 0, 0] if number.len() == 8 => u64::from_be_bytes(number.try_into().ok()?),
            number => u64::from_be_bytes(number.try_into().ok()?),
        };
        let mut log = lock(&self.log);
        log.trim(self.clock.now_ms());
        let known = log.marks.contains_key(&number)
            || log.entries.binary_search_by_key(&number, |entry| entry.number).is_ok();
        (known && number > log.purged_through).then_some(number)
    }

    /// Ten bytes, or eight where that is asked for.
    pub fn replay_id(&self, number: u64) -> Vec<u8> {
        let mut id = number.to_be_bytes().to_vec();
        if !lock(&self.log).short_ids {
            id.extend_from_slice(&[0, 0]);
        }
        id
    }

    pub fn entry(&self, number: u64) -> Option<Arc<Entry>> {
        let log = lock(&self.log);
        let at = log.entries.binary_search_by_key(&number, |entry| entry.number).ok()?;
        log.entries.get(at).cloned()
    }

    pub fn last(&self) -> Option<Arc<Entry>> {
        lock(&self.log).entries.back().cloned()
    }

    pub fn set(&self, retention_ms: Option<i64>, short_ids: Option<bool>) {
        let mut log = lock(&self.log);
        log.retention_ms = retention_ms.unwrap_or(log.retention_ms);
        log.short_ids = short_ids.unwrap_or(log.short_ids);
        log.trim(self.clock.now_ms());
    }

    /// The org has moved: no replay id of before is known, and no event of before is there.
    pub fn invalidate(&self) {
        let mut log = lock(&self.log);
        log.entries.clear();
        log.bytes = 0;
        log.marks.clear();
        log.purged_through = log.newest;
        log.newest += MIGRATION;
        let (newest, now_ms) = (log.newest, self.clock.now_ms());
        log.marks.insert(newest, now_ms);
        drop(log);
        self.tail.send_replace(newest);
    }

    /// Events published ever, events in the log, their bytes.
    pub fn counts(&self) -> (u64, usize, usize) {
        let mut log = lock(&self.log);
        log.trim(self.clock.now_ms());
        (log.published, log.entries.len(), log.bytes)
    }
}

impl Log {
    fn trim(&mut self, now_ms: i64) {
        let oldest_ms = now_ms.saturating_sub(self.retention_ms);
        while let Some(entry) = self.entries.front()
            && (entry.published_ms < oldest_ms || self.bytes > self.most_bytes)
        {
            self.purged_through = entry.number;
            self.bytes -= entry.payload.len();
            self.entries.pop_front();
        }
        let newest = self.newest;
        while let Some((number, at_ms)) = self.marks.first_key_value().map(|(number, at)| (*number, *at))
            && at_ms < oldest_ms
            && number != newest
        {
            self.purged_through = self.purged_through.max(number);
            self.marks.pop_first();
        }
    }
}
