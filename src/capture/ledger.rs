//! What was published lately, so that no reading of an object repeats it or steps back behind it.
//!
//! Comes in: published changes (id, stamp, hash, number), and at a claim the parts that earlier transactions wrote.
//! Goes out: the newest entry of an id, and control records: append-only parts of bounded size, filed by the minute
//! of the cursor stamp, and their tombstones once the minute is out of reach. Entries of deletions are filed apart,
//! for getDeleted is asked less often than the look-back is long; and so are entries of records that came back, which
//! must stand as long as the deletion that they undo: else a restart would find the deletion alone, and take the next
//! one for the same. Entries of change events also hold a hash that tells the event again, however often the bus
//! delivers it. It must never forget a minute that a poll still reads again (`design.md` section 2).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::domain::{ControlRecord, Stamp};

/// 44 bytes an entry, times 4/3 for base64: a part stays below 256 KiB.
const ENTRIES_PER_PART: usize = 4_000;
const ENTRY_BYTES: usize = 18 + 2 + 8 + 8;

/// Numbers of parts from here on were never given, and would leave none for those that follow.
const NO_NUMBER: u32 = 1 << 31;

/// The content hash of what an event or getDeleted showed only a part of.
pub const UNKNOWN: u64 = 0;
/// The content hash of a deletion that an event told of, or a reading by id: unlike one that getDeleted names it has
/// its place among the readings.
pub const DELETED_BY_EVENT: u64 = 1;

/// A record id: 15 or 18 characters, padded with zero bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId([u8; 18]);

impl RecordId {
    pub fn new(text: &[u8]) -> Option<Self> {
        let mut id = [0; 18];
        id.get_mut(..text.len())?.copy_from_slice(text);
        (!text.is_empty()).then_some(Self(id))
    }

    pub fn as_bytes(&self) -> &[u8] {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        self.0.get(..length).unwrap_or_default()
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Live,
    Deleted,
}

/// How long an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Family {
    Live,
    Deleted,
    /// Live again after a deletion, and kept as long as that is.
    Restored,
}

impl Family {
    fn kind(self) -> Kind {
        match self {
            Self::Live | Self::Restored => Kind::Live,
            Self::Deleted => Kind::Deleted,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Deleted => "deleted",
            Self::Restored => "restored",
        }
    }
}

/// The newest that was published of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub stamp: Stamp,
    /// Of the whole content; 0: not known, because an event or getDeleted showed only a part.
    pub hash: u64,
    /// The number of its `change_seq`: which of two entries is newer.
    pub number: u64,
    /// Tells a change event of this record again; 0: it was not published from an event.
    pub event: u64,
}

impl Entry {
    /// Whether it was published from a change event without a reading of its record.
    pub fn is_of_event_alone(&self) -> bool {
        self.event != 0 && matches!(self.hash, UNKNOWN | DELETED_BY_EVENT)
    }

    /// Of a deletion: whether its stamp is that of the save, or of its commit. Of what getDeleted named, or what a reading did
    /// not find any more, it is another.
    pub fn is_deletion_of_its_time(&self) -> bool {
        self.hash != UNKNOWN && (self.event != 0 || self.hash != DELETED_BY_EVENT)
    }
}

#[derive(Serialize, Deserialize)]
struct Part {
    version: u32,
    object: String,
    #[serde(rename = "kind")]
    family: Family,
    /// The minute the entries' stamps lie in.
    minute: Stamp,
    /// base64 of 36 bytes an entry: id (18, zero padded), milliseconds in the minute (2, big-endian), content hash
    /// (8), number (8).
    entries: String,
    /// base64 of 8 bytes an entry, in the same order: what tells its change event again, or zeros. Left out if no
    /// entry of the part came from an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<String>,
}

type Filed = (Family, i64);

#[derive(Debug)]
pub struct Ledger {
    object: String,
    entries: HashMap<RecordId, Entry>,
    /// Change events that were published, with the family and minute they are filed by.
    events: HashMap<u64, Filed>,
    /// Numbers of the parts that stand in the control partition, or will with the next batch.
    parts: BTreeMap<Filed, BTreeSet<u32>>,
    /// Entered since the last call of `take_records`.
    fresh: BTreeMap<Filed, Vec<(RecordId, Entry)>>,
    tombstones: Vec<ControlRecord>,
}

impl Ledger {
    pub fn new(object: &str) -> Self {
        Self {
            object: object.to_owned(),
            entries: HashMap::new(),
            events: HashMap::new(),
            parts: BTreeMap::new(),
            fresh: BTreeMap::new(),
            tombstones: Vec::new(),
        }
    }

    /// The prefix of the keys of an object's parts.
    pub fn key_prefix(object: &str) -> String {
        format!("ledger/{object}/")
    }

    /// Reads back one part. An error says what is wrong with it; the object must not run without it.
    pub fn restore(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        let part: Part = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if part.version != crate::domain::position::VERSION || part.object != self.object {
            return Err(format!("version {} of object {}", part.version, part.object));
        }
        let number: u32 = key
            .rsplit('/')
            .next()
            .and_then(|number| number.parse().ok())
            .filter(|number| *number < NO_NUMBER)
            .ok_or_else(|| "its key does not end in a part number".to_owned())?;
        let filed = (part.family, part.minute.minute());
        let bytes = STANDARD.decode(&part.entries).map_err(|error| error.to_string())?;
        if bytes.len() % ENTRY_BYTES != 0 {
            return Err(format!("{} bytes of entries, not a multiple of {ENTRY_BYTES}", bytes.len()));
        }
        let events = match &part.events {
            Some(events) => STANDARD.decode(events).map_err(|error| error.to_string())?,
            None => vec![0; bytes.len() / ENTRY_BYTES * 8],
        };
        if events.len() / 8 != bytes.len() / ENTRY_BYTES || events.len() % 8 != 0 {
            return Err(format!("{} bytes of events for {} of entries", events.len(), bytes.len()));
        }
        for (entry, event) in bytes.chunks_exact(ENTRY_BYTES).zip(events.chunks_exact(8)) {
            let (id, entry) =
                decode_entry(entry, part.family.kind(), part.minute).ok_or("an entry is cut")?;
            let event = event.first_chunk().map_or(0, |event| u64::from_be_bytes(*event));
            self.keep(id, Entry { event, ..entry }, filed);
        }
        self.parts.entry(filed).or_default().insert(number);
        Ok(())
    }

    pub fn newest(&self, id: &RecordId) -> Option<Entry> {
        self.entries.get(id).copied()
    }

    /// Whether this change event was published.
    pub fn knows_event(&self, event: u64) -> bool {
        self.events.contains_key(&event)
    }

    pub fn enter(&mut self, id: RecordId, mut entry: Entry) {
        let family = match (entry.kind, self.newest(&id)) {
            (Kind::Deleted, _) => Family::Deleted,
            (Kind::Live, Some(newest)) if newest.kind == Kind::Deleted => {
                // A row that came back may show an older stamp than its deletion had.
                entry.stamp = entry.stamp.max(newest.stamp);
                Family::Restored
            }
            (Kind::Live, _) => Family::Live,
        };
        let filed = (family, entry.stamp.minute());
        self.keep(id, entry, filed);
        self.fresh.entry(filed).or_default().push((id, entry));
    }

    fn keep(&mut self, id: RecordId, entry: Entry, filed: Filed) {
        if entry.event != 0 {
            self.events.insert(entry.event, filed);
        }
        self.entries
            .entry(id)
            .and_modify(|known| {
                if known.number <= entry.number {
                    *known = entry;
                }
            })
            .or_insert(entry);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the minutes before these bounds, and leaves tombstones for their parts.
    pub fn forget(&mut self, live_before: Stamp, deleted_before: Stamp) {
        let bound = |family| match family {
            Family::Live => live_before.minute(),
            Family::Deleted | Family::Restored => deleted_before.minute(),
        };
        let gone: Vec<Filed> = self
            .parts
            .keys()
            .chain(self.fresh.keys())
            .filter(|(family, minute)| *minute < bound(*family))
            .copied()
            .collect();
        if gone.is_empty() {
            return;
        }
        for filed in gone {
            self.fresh.remove(&filed);
            for number in self.parts.remove(&filed).unwrap_or_default() {
                self.tombstones.push(ControlRecord { key: self.key(filed, number), value: None });
            }
        }
        self.entries.retain(|_, entry| {
            let before = match entry.kind {
                Kind::Live => live_before,
                Kind::Deleted => deleted_before,
            };
            entry.stamp.minute() >= before.minute()
        });
        self.events.retain(|_, (family, minute)| *minute >= bound(*family));
        if self.entries.capacity() > 4 * self.entries.len() + 1_024 {
            self.entries.shrink_to_fit();
        }
    }

    /// The control records that make the control partition hold what this ledger holds.
    pub fn take_records(&mut self) -> Vec<ControlRecord> {
        let mut records = std::mem::take(&mut self.tombstones);
        for (filed, entries) in std::mem::take(&mut self.fresh) {
            for chunk in entries.chunks(ENTRIES_PER_PART) {
                let numbers = self.parts.entry(filed).or_default();
                let number = numbers.last().map_or(0, |last| last + 1);
                numbers.insert(number);
                let mut bytes = Vec::with_capacity(chunk.len() * ENTRY_BYTES);
                let mut events = Vec::new();
                for (id, entry) in chunk {
                    encode_entry(*id, *entry, &mut bytes);
                    events.extend_from_slice(&entry.event.to_be_bytes());
                }
                let with_events = chunk.iter().any(|(_, entry)| entry.event != 0);
                let part = Part {
                    version: crate::domain::position::VERSION,
                    object: self.object.clone(),
                    family: filed.0,
                    minute: Stamp(filed.1 * 60_000),
                    entries: STANDARD.encode(&bytes),
                    events: with_events.then(|| STANDARD.encode(&events)),
                };
                let value = serde_json::to_vec(&part).expect("plain data with text keys always serializes");
                records.push(ControlRecord { key: self.key(filed, number), value: Some(value) });
            }
        }
        records
    }

    fn key(&self, (family, minute): Filed, number: u32) -> String {
        let minute = Stamp(minute * 60_000).to_string();
        let minute = minute.get(..16).unwrap_or(&minute);
        format!("{}{}/{minute}/{number}", Self::key_prefix(&self.object), family.word())
    }
}

fn encode_entry(id: RecordId, entry: Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.0);
    let millis = u16::try_from(entry.stamp.0.rem_euclid(60_000)).unwrap_or(0);
    out.extend_from_slice(&millis.to_be_bytes());
    out.extend_from_slice(&entry.hash.to_be_bytes());
    out.extend_from_slice(&entry.number.to_be_bytes());
}

fn decode_entry(bytes: &[u8], kind: Kind, minute: Stamp) -> Option<(RecordId, Entry)> {
    let (id, rest) = bytes.split_first_chunk::<18>()?;
    let (millis, rest) = rest.split_first_chunk::<2>()?;
    let (hash, rest) = rest.split_first_chunk::<8>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    let stamp = Stamp(minute.0 + i64::from(u16::from_be_bytes(*millis)));
    let (hash, number) = (u64::from_be_bytes(*hash), u64::from_be_bytes(*number));
    let entry = Entry { kind, stamp, hash, number, event: 0 };
    Some((RecordId(*id), entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> RecordId {
        RecordId::new(format!("0015g0000{number:06}AAA").as_bytes()).unwrap()
    }

    fn entry(stamp: i64, number: u64) -> Entry {
        Entry { kind: Kind::Live, stamp: Stamp(stamp), hash: number * 7, number, event: 0 }
    }

    fn apply(partition: &mut BTreeMap<String, Vec<u8>>, records: Vec<ControlRecord>) {
        for record in records {
            match record.value {
                Some(value) => partition.insert(record.key, value),
                None => partition.remove(&record.key),
            };
        }
    }

    fn restored(partition: &BTreeMap<String, Vec<u8>>) -> Ledger {
        let mut ledger = Ledger::new("Account");
        for (key, value) in partition {
            ledger.restore(key, value).unwrap();
        }
        ledger
    }

    #[test]
    fn a_restart_knows_what_was_known() {
        let mut partition = BTreeMap::new();
        let mut ledger = Ledger::new("Account");
        for number in 0..12_000 {
            ledger.enter(id(number), entry(i64::from(number) * 10, u64::from(number)));
            if number % 1_000 == 0 {
                apply(&mut partition, ledger.take_records());
            }
        }
        apply(&mut partition, ledger.take_records());
        assert!(partition.values().all(|value| value.len() < 256 * 1024));
        let restored = restored(&partition);
        assert_eq!(restored.entries, ledger.entries);
        assert_eq!(restored.parts, ledger.parts);
    }

    #[test]
    fn a_key_with_an_absurd_part_number_is_refused() {
        let mut ledger = Ledger::new("Account");
        ledger.enter(id(1), entry(60_000, 1));
        let record = ledger.take_records().remove(0);
        let value = record.value.unwrap();
        let stem = record.key.strip_suffix('0').unwrap();
        for number in ["4294967295", "2147483648", "-1", "", "x"] {
            assert!(Ledger::new("Account").restore(&format!("{stem}{number}"), &value).is_err(), "{number}");
        }
        // A large one is a number like others, and costs no more than they do.
        let mut ledger = Ledger::new("Account");
        ledger.restore(&format!("{stem}2147483647"), &value).unwrap();
        ledger.forget(Stamp(120_000), Stamp(120_000));
        assert_eq!(ledger.take_records().len(), 1);
    }

    #[test]
    fn the_newest_entry_wins_whatever_part_is_read_first() {
        let mut partition = BTreeMap::new();
        let mut ledger = Ledger::new("Account");
        // An undelete that kept the stamp of the deletion: only the number tells which came last.
        ledger.enter(id(1), Entry { kind: Kind::Deleted, ..entry(120_000, 4) });
        ledger.enter(id(1), entry(120_000, 5));
        apply(&mut partition, ledger.take_records());
        assert_eq!(restored(&partition).newest(&id(1)), Some(entry(120_000, 5)));
    }

    #[test]
    fn a_record_that_came_back_is_never_taken_for_deleted_after_a_restart() {
        for back_at in [180_000, 60_000] {
            let mut partition = BTreeMap::new();
            let mut ledger = Ledger::new("Account");
            ledger.enter(id(1), Entry { kind: Kind::Deleted, ..entry(120_000, 1) });
            ledger.enter(id(1), entry(back_at, 2));
            apply(&mut partition, ledger.take_records());
            // Deletions stand longer than what else is published.
            ledger.forget(Stamp(600_000), Stamp(60_000));
            apply(&mut partition, ledger.take_records());
            let mut ledger = restored(&partition);
            assert_eq!(ledger.newest(&id(1)).map(|entry| entry.kind), Some(Kind::Live));
            ledger.forget(Stamp(600_000), Stamp(600_000));
            apply(&mut partition, ledger.take_records());
            assert!(partition.is_empty());
        }
    }

    #[test]
    fn an_event_is_known_again_after_a_restart_until_its_minute_is_out_of_reach() {
        let mut partition = BTreeMap::new();
        let mut ledger = Ledger::new("Account");
        ledger.enter(id(1), Entry { event: 71, ..entry(60_000, 1) });
        ledger.enter(id(1), Entry { event: 72, hash: 0, ..entry(61_000, 2) });
        ledger.enter(id(2), entry(62_000, 3));
        apply(&mut partition, ledger.take_records());
        let mut ledger = restored(&partition);
        assert!(ledger.knows_event(71) && ledger.knows_event(72) && !ledger.knows_event(0));
        assert_eq!(ledger.newest(&id(1)).map(|entry| entry.event), Some(72));
        ledger.forget(Stamp(120_000), Stamp(120_000));
        assert!(!ledger.knows_event(71));
    }

    #[test]
    fn minutes_out_of_reach_are_forgotten_and_tombstoned_but_deletions_stay_longer() {
        let mut partition = BTreeMap::new();
        let mut ledger = Ledger::new("Account");
        ledger.enter(id(1), entry(60_000, 1));
        ledger.enter(id(2), Entry { kind: Kind::Deleted, ..entry(60_000, 2) });
        ledger.enter(id(3), entry(180_000, 3));
        apply(&mut partition, ledger.take_records());
        ledger.forget(Stamp(179_999), Stamp(60_000));
        apply(&mut partition, ledger.take_records());
        assert_eq!((ledger.newest(&id(1)), ledger.newest(&id(3)).is_some()), (None, true));
        assert!(ledger.newest(&id(2)).is_some());
        assert_eq!(partition.len(), 2);
        ledger.forget(Stamp(600_000), Stamp(600_000));
        apply(&mut partition, ledger.take_records());
        assert!(partition.is_empty() && ledger.is_empty());
    }

    #[test]
    fn a_part_that_cannot_be_read_is_an_error_not_a_gap() {
        let mut ledger = Ledger::new("Account");
        for (key, value) in [
            ("ledger/Account/live/2026-05-19T08:30/0", "not json"),
            (
                "ledger/Account/live/2026-05-19T08:30/x",
                r#"{"version":1,"object":"Account","kind":"live","minute":"2026-05-19T08:30:00Z","entries":""}"#,
            ),
            (
                "ledger/Account/live/2026-05-19T08:30/0",
                r#"{"version":1,"object":"Account","kind":"live","minute":"2026-05-19T08:30:00Z","entries":"AAAA"}"#,
            ),
            (
                "ledger/Account/live/2026-05-19T08:30/0",
                r#"{"version":1,"object":"Account","kind":"live","minute":"2026-05-19T08:30:00Z","entries":"","events":"AAAAAAAAAAA="}"#,
            ),
            (
                "ledger/Account/live/2026-05-19T08:30/0",
                r#"{"version":2,"object":"Account","kind":"live","minute":"2026-05-19T08:30:00Z","entries":""}"#,
            ),
        ] {
            assert!(ledger.restore(key, value.as_bytes()).is_err(), "{value}");
        }
    }
}
