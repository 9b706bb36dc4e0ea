//! The board: one place per object, and what is counted for the whole process.
//!
//! Comes in: handles for objects, notes from the shard and from the wire. Goes out: [`Snapshot`] and metrics. Tests and
//! `--once` wait on it by [`Board::wait_until`]. Nothing in here blocks longer than a few assignments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::histogram::Histogram;
use super::snapshot::{BudgetReport, ErrorReport, Snapshot};
use super::{ObjectStatus, Tally, now};
use crate::Error;
use crate::domain::Stamp;

/// Seconds; a transaction is 0.1 s of data and a commit.
const TRANSACTION_BOUNDS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds; polling brings half an interval and more.
const END_TO_END_BOUNDS: &[f64] =
    &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 14_400.0];

#[derive(Debug)]
pub struct Board {
    objects: Mutex<BTreeMap<Arc<str>, ObjectStatus>>,
    counters: Arc<Mutex<Counters>>,
    version: Arc<watch::Sender<u64>>,
    started_at: Stamp,
}

/// What the Kafka client says of itself, the part that people watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KafkaCounters {
    /// Records and bytes that wait in the client's queue.
    pub queued_records: u64,
    pub queued_bytes: u64,
    /// Since the client was made.
    pub sent_records: u64,
    pub sent_bytes: u64,
    pub failed_requests: u64,
    pub round_trip_micros: u64,
}

#[derive(Debug)]
pub(super) struct Counters {
    /// By API (`rest`, `bulk`, `login`) and purpose (`load`, `poll`, …).
    pub calls: BTreeMap<(&'static str, &'static str), u64>,
    /// By purpose, what the org counts of them.
    pub billed: BTreeMap<&'static str, u64>,
    pub allowance_used: Option<f64>,
    pub budget: Option<BudgetReport>,
    pub gaps: BTreeMap<(String, &'static str), u64>,
    pub transactions: BTreeMap<&'static str, u64>,
    pub transaction_seconds: Histogram,
    pub end_to_end_seconds: Histogram,
    pub errors: BTreeMap<&'static str, u64>,
    pub kafka: BTreeMap<String, KafkaCounters>,
    pub error: Option<ErrorReport>,
}

impl Counters {
    pub fn error(&mut self, error: &Error) {
        *self.errors.entry(error.kind().code()).or_default() += 1;
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    pub fn new() -> Self {
        let counters = Counters {
            calls: BTreeMap::new(),
            billed: BTreeMap::new(),
            allowance_used: None,
            budget: None,
            gaps: BTreeMap::new(),
            transactions: BTreeMap::from([("committed", 0), ("aborted", 0)]),
            transaction_seconds: Histogram::new(TRANSACTION_BOUNDS),
            end_to_end_seconds: Histogram::new(END_TO_END_BOUNDS),
            errors: BTreeMap::new(),
            kafka: BTreeMap::new(),
            error: None,
        };
        Self {
            objects: Mutex::default(),
            counters: Arc::new(Mutex::new(counters)),
            version: Arc::new(watch::Sender::new(0)),
            started_at: now(),
        }
    }

    /// The object's place; made when first asked for.
    pub fn object(&self, name: &str) -> ObjectStatus {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = objects.get(name) {
            return status.clone();
        }
        let name: Arc<str> = name.into();
        let status = ObjectStatus::new(name.clone(), self.counters.clone(), self.version.clone());
        objects.insert(name, status.clone());
        self.version.send_modify(|version| *version += 1);
        status
    }

    // ---- notes from the shard ----

    /// What a committed transaction brought of this object; call it after the commit only.
    pub fn committed(&self, object: &str, tally: &Tally) {
        let at = now();
        {
            let mut counters = self.counters();
            for (committed, count) in &tally.commits {
                counters.end_to_end_seconds.observe(at.since(*committed).as_secs_f64(), *count);
            }
        }
        self.object(object).committed(tally);
    }

    /// A transaction was committed, after so long from its begin.
    pub fn transaction_committed(&self, took: Duration) {
        self.note(|counters| {
            *counters.transactions.entry("committed").or_default() += 1;
            counters.transaction_seconds.observe(took.as_secs_f64(), 1);
            counters.error = None;
        });
    }

    pub fn transaction_aborted(&self) {
        self.note(|counters| *counters.transactions.entry("aborted").or_default() += 1);
    }

    /// A record went to the dead-letter topic.
    pub fn dead_letter(&self, object: &str, error: &Error) {
        self.object(object).dead_letter(error);
    }

    /// An error that concerns more than one object: a shard, the login, the cluster. It is shown until the next
    /// commit.
    pub fn failed(&self, error: &Error) {
        let report = ErrorReport::of(error, now(), None);
        self.note(|counters| {
            counters.error(error);
            counters.error = Some(report);
        });
    }

    /// The newest numbers of one Kafka client, by its name.
    pub fn kafka(&self, client: &str, numbers: KafkaCounters) {
        self.note(|counters| {
            counters.kafka.insert(client.to_owned(), numbers);
        });
    }

    // ---- notes from the wire ----

    /// A call to Salesforce: which API, and what for.
    pub fn called(&self, api: &'static str, purpose: &'static str) {
        self.note(|counters| *counters.calls.entry((api, purpose)).or_default() += 1);
    }

    /// One of these calls counts against the org's allowance.
    pub fn billed(&self, purpose: &'static str) {
        self.note(|counters| *counters.billed.entry(purpose).or_default() += 1);
    }

    /// The org's daily allowance as Salesforce last said.
    pub fn allowance(&self, used: u64, allowed: u64) {
        self.note(|counters| {
            counters.allowance_used = (allowed > 0).then(|| used as f64 / allowed as f64);
        });
    }

    /// What may be spent, what was, and what waits.
    pub fn budget(&self, budget: BudgetReport) {
        let known = self.counters().budget.as_ref() == Some(&budget);
        if !known {
            self.note(|counters| counters.budget = Some(budget));
        }
    }

    /// A stretch that was or will be read again because its changes could not be captured.
    pub fn gap(&self, object: &str, reason: &'static str) {
        self.note(|counters| *counters.gaps.entry((object.to_owned(), reason)).or_default() += 1);
    }

    // ---- what goes out ----

    pub fn snapshot(&self) -> Snapshot {
        let at = now();
        let objects = self.handles().iter().map(|status| status.report(at)).collect();
        let counters = self.counters();
        let mut calls_by_purpose: BTreeMap<&'static str, u64> = BTreeMap::new();
        for ((_, purpose), count) in &counters.calls {
            *calls_by_purpose.entry(*purpose).or_default() += count;
        }
        Snapshot {
            at,
            started_at: self.started_at,
            objects,
            calls: counters.calls.values().sum(),
            billed_calls: counters.billed.clone(),
            calls_by_purpose,
            budget: counters.budget.clone(),
            allowance_used: counters.allowance_used,
            error: counters.error.clone(),
        }
    }

    /// Changes with every note.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The first snapshot that satisfies the condition; the caller sets the deadline.
    pub async fn wait_until(&self, condition: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut changes = self.subscribe();
        loop {
            changes.borrow_and_update();
            let snapshot = self.snapshot();
            if condition(&snapshot) {
                return snapshot;
            }
            // The sender lives as long as this board.
            let _ = changes.changed().await;
        }
    }

    pub(super) fn handles(&self) -> Vec<ObjectStatus> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.counters());
        self.version.send_modify(|version| *version += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Batch, Blobs, Change, ChangeSequence, ObjectDescription, Operation, Position, RowLayout, Rows,
        Source, State,
    };
    use crate::error::Kind;
    use crate::status::Phase;

    const MINUTE: Duration = Duration::from_secs(60);

    fn position(committed_to: Stamp) -> Position {
        let text = r#"{"version":1,"object":"Account","epoch":1,"state":"live","capture":"poll",
            "change_seq":"20260519083007120000000000000000001","updated_at":"2026-05-19T08:30:00Z"}"#;
        let mut position = Position::decode(text.as_bytes()).unwrap();
        position.committed_to = Some(committed_to);
        position.state = State::Live;
        position
    }

    fn batch(changes: usize) -> Batch {
        let object = ObjectDescription {
            name: "Account".into(),
            target_name: "Account".into(),
            label: "Account".to_owned(),
            fields: Vec::new(),
            key: 0,
            cursor: None,
            created_date: None,
            is_deleted: None,
            compounds: Vec::new(),
            replicateable: true,
            bulk: true,
            unsupported: None,
            revision: 1,
        };
        let change = Change {
            row: 0,
            operation: Operation::Update,
            sequence: ChangeSequence::default(),
            timestamp: Stamp(0),
            detail: None,
        };
        Batch {
            object: Arc::new(object),
            rows: Rows::new(RowLayout::complete(0)),
            changes: vec![change; changes],
            blobs: Blobs::default(),
            details: Vec::new(),
            notices: Vec::new(),
            source: Source::Poll,
            only: None,
            load_id: None,
            stream_position: "".into(),
            control: Vec::new(),
        }
    }

    fn tally(changes: u64) -> Tally {
        let mut tally = Tally::default();
        for _ in 0..changes {
            tally.change(Operation::Update, now());
            tally.record(&"crm.Account".into(), Operation::Update);
        }
        tally
    }

    fn committed_to(board: &Board) -> Option<Stamp> {
        board.snapshot().object("Account").unwrap().committed_to
    }

    #[test]
    fn committed_to_moves_only_when_what_lies_before_it_is_committed() {
        let board = Board::new();
        let status = board.object("Account");
        status.claimed(&position(Stamp(1)), MINUTE);
        status.read(&batch(2), &position(Stamp(2)));
        status.read(&batch(3), &position(Stamp(3)));
        status.caught_up(Some(Stamp(4)));
        assert_eq!(committed_to(&board), Some(Stamp(1)));
        board.committed("Account", &tally(2));
        assert_eq!(committed_to(&board), Some(Stamp(2)));
        board.committed("Account", &tally(3));
        assert_eq!(committed_to(&board), Some(Stamp(4)));
        status.caught_up(Some(Stamp(5)));
        assert_eq!(committed_to(&board), Some(Stamp(5)), "nothing is outstanding");
        assert_eq!(board.snapshot().object("Account").unwrap().published.updated, 5);
    }

    #[test]
    fn what_was_in_flight_is_forgotten_when_the_shard_is_claimed_again() {
        let board = Board::new();
        let status = board.object("Account");
        status.claimed(&position(Stamp(1)), MINUTE);
        status.read(&batch(2), &position(Stamp(9)));
        status.claimed(&position(Stamp(1)), MINUTE);
        status.read(&batch(1), &position(Stamp(2)));
        board.committed("Account", &tally(1));
        assert_eq!(committed_to(&board), Some(Stamp(2)));
    }

    #[test]
    fn an_owned_object_without_contact_makes_the_program_unready() {
        let board = Board::new();
        let status = board.object("Account");
        assert!(board.snapshot().is_ready(), "nobody claimed it yet");
        status.claimed(&position(Stamp(1)), MINUTE);
        let report = status.report(now().plus(MINUTE * 2));
        assert!(report.out_of_touch);
        status.contact();
        assert!(!status.report(now().plus(MINUTE / 2)).out_of_touch);
        status.released();
        assert!(!status.report(now().plus(MINUTE * 2)).out_of_touch);
    }

    #[test]
    fn an_owned_object_that_cannot_even_be_opened_makes_the_program_unready() {
        let board = Board::new();
        let status = board.object("Account");
        status.owned(MINUTE);
        status.failed(&Error::new(Kind::NetworkFailed, "no connection"), tokio::time::Instant::now(), false);
        assert!(!status.report(now().plus(MINUTE / 2)).out_of_touch);
        assert!(status.report(now().plus(MINUTE * 2)).out_of_touch);
    }

    #[tokio::test]
    async fn an_error_stands_on_the_board_with_its_hint_until_the_object_moves_again() {
        let board = Board::new();
        let status = board.object("Account");
        let error = Error::new(Kind::ObjectForbidden, "object Account may not be read");
        status.failed(&error, tokio::time::Instant::now() + MINUTE, true);
        let snapshot = board.wait_until(|snapshot| snapshot.objects.len() == 1).await;
        let report = snapshot.object("Account").unwrap();
        assert_eq!(report.phase, Phase::Failed);
        assert_eq!(report.error.as_ref().unwrap().code, "object-forbidden");
        status.read(&batch(0), &position(Stamp(2)));
        let snapshot = board.snapshot();
        let report = snapshot.object("Account").unwrap();
        assert_eq!((report.phase, &report.error), (Phase::Live, &None));
        // A probe that finds nothing new is a move as well.
        status.failed(&error, tokio::time::Instant::now() + MINUTE, true);
        status.caught_up(None);
        assert_eq!(board.snapshot().object("Account").unwrap().phase, Phase::Live);
        // What passes by itself does not count as failed.
        status.failed(&Error::new(Kind::NetworkFailed, "no connection"), tokio::time::Instant::now(), false);
        assert_eq!(board.snapshot().object("Account").unwrap().phase, Phase::Live);
    }
}
