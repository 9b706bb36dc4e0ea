//! One object's place on the board: notes come in, a report goes out.
//!
//! Comes in: what was read, committed, what failed; batch by batch, never row by row. Goes out: [`ObjectReport`].
//! Alive is not moving: `committed_to` moves only when what lies before it is committed, and contact only when
//! Salesforce answered.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::board::Counters;
use super::snapshot::{ErrorReport, LoadCalls, ObjectReport, Phase, Published};
use super::{Tally, now};
use crate::Error;
use crate::domain::{Batch, Capture, EventBatch, Operation, Position, Stamp, State};

/// Longer than the longest pause between polls by default, and a poll's own retries.
const CONTACT_BOUND: Duration = Duration::from_secs(20 * 60);

#[derive(Debug)]
pub(super) struct Standing {
    phase: Phase,
    /// What it goes back to when it moves again.
    phase_before: Phase,
    capture: Capture,
    not_followed: Option<String>,
    rows_loaded: u64,
    rows_expected: Option<u64>,
    load_calls: Option<LoadCalls>,
    reload: Option<String>,
    pub(super) published: Vec<(Arc<str>, Operation, u64)>,
    dead_letters: u64,
    pub(super) repeated: u64,
    last_contact: Option<Stamp>,
    last_commit: Option<Stamp>,
    committed_to: Option<Stamp>,
    error: Option<ErrorReport>,
    owned_since: Option<Stamp>,
    /// It was described and goes on from a position; before that nobody knows how it is captured.
    opened: bool,
    contact_bound: Duration,
    /// Changes handed over and committed since the last claim.
    handed: u64,
    committed: u64,
    /// `committed_to` that becomes true once so many changes are committed.
    marks: VecDeque<(u64, Stamp)>,
}

/// The handle that an object's task notes by. Cheap to clone; notes do not wait.
#[derive(Clone, Debug)]
pub struct ObjectStatus {
    name: Arc<str>,
    state: Arc<Mutex<Standing>>,
    counters: Arc<Mutex<Counters>>,
    version: Arc<watch::Sender<u64>>,
}

impl ObjectStatus {
    pub(super) fn new(
        name: Arc<str>,
        counters: Arc<Mutex<Counters>>,
        version: Arc<watch::Sender<u64>>,
    ) -> Self {
        let state = Standing {
            phase: Phase::Waiting,
            phase_before: Phase::Waiting,
            capture: Capture::None,
            not_followed: None,
            rows_loaded: 0,
            rows_expected: None,
            load_calls: None,
            reload: None,
            published: Vec::new(),
            dead_letters: 0,
            repeated: 0,
            last_contact: None,
            last_commit: None,
            committed_to: None,
            error: None,
            owned_since: None,
            opened: false,
            contact_bound: CONTACT_BOUND,
            handed: 0,
            committed: 0,
            marks: VecDeque::new(),
        };
        Self { name, state: Arc::new(Mutex::new(state)), counters, version }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object is ours from now on; whether Salesforce lets it be opened is not known yet.
    pub fn owned(&self, contact_bound: Duration) {
        self.note(|state| {
            state.owned_since = Some(now());
            state.opened = false;
            state.contact_bound = contact_bound;
        });
    }

    /// The object is ours and goes on from `position`: what was handed over before and not committed is
    /// forgotten. `contact_bound`: how long it may be without contact before it counts as not moving.
    pub fn claimed(&self, position: &Position, contact_bound: Duration) {
        self.note(|state| {
            state.owned_since = Some(now());
            state.opened = true;
            state.contact_bound = contact_bound;
            (state.handed, state.committed) = (0, 0);
            state.marks.clear();
            state.stand_at(position);
            state.committed_to = position.committed_to;
        });
    }

    /// Another instance has it now, or nobody: it cannot make us unready any more.
    pub fn released(&self) {
        self.note(|state| {
            state.owned_since = None;
            state.phase = Phase::Waiting;
        });
    }

    /// How many rows a full load is expected to bring, before the load itself announces them.
    pub fn expect_rows(&self, rows: u64) {
        self.note(|state| state.rows_expected = Some(rows));
    }

    /// Why changes are not captured once it is loaded; none: they are.
    pub fn not_followed(&self, why: Option<String>) {
        self.note(|state| state.not_followed = why);
    }

    /// A full load is over, and cost so much.
    pub fn loaded(&self, calls: LoadCalls) {
        self.note(|state| state.load_calls = Some(calls));
    }

    /// How long it may be without contact from now on before it counts as not moving.
    pub fn contact_within(&self, bound: Duration) {
        if self.lock().contact_bound != bound {
            self.note(|state| state.contact_bound = bound);
        }
    }

    /// Salesforce answered something for this object.
    pub fn contact(&self) {
        self.note(|state| state.last_contact = Some(now()));
    }

    /// A batch was read and is about to be handed over; `position` is the one behind it.
    pub fn read(&self, batch: &Batch, position: &Position) {
        self.handed_over(batch.changes.len(), position);
    }

    /// The same for events of a platform event.
    pub fn read_events(&self, batch: &EventBatch, position: &Position) {
        self.handed_over(batch.events.len(), position);
        if batch.repeated > 0 {
            self.note(|state| state.repeated += batch.repeated);
        }
    }

    fn handed_over(&self, changes: usize, position: &Position) {
        self.note(|state| {
            state.last_contact = Some(now());
            state.error = None;
            state.handed += changes as u64;
            state.stand_at(position);
            state.mark(position.committed_to);
        });
    }

    /// Nothing more is there to be read; everything up to `read_to` was.
    pub fn caught_up(&self, read_to: Option<Stamp>) {
        self.note(|state| {
            state.error = None;
            if state.phase == Phase::Failed {
                state.phase = state.phase_before;
            }
            state.mark(read_to);
        });
    }

    /// It stands, and is tried again at the given time. `open`: it counts as failed until it moves.
    pub fn failed(&self, error: &Error, again_at: Instant, open: bool) {
        self.lock_counters().error(error);
        let at = now();
        let again_at = at.plus(again_at.saturating_duration_since(Instant::now()));
        self.note(|state| {
            state.error = Some(ErrorReport::of(error, at, Some(again_at)));
            if open && state.phase != Phase::Failed {
                state.phase_before = state.phase;
                state.phase = Phase::Failed;
            }
        });
    }

    /// Something went wrong that does not stop the object: counted.
    pub fn noticed(&self, error: &Error) {
        self.lock_counters().error(error);
    }

    pub(super) fn committed(&self, tally: &Tally) {
        self.note(|state| {
            state.last_commit = Some(now());
            state.committed += tally.changes;
            for (output, operation, records) in &tally.records {
                let known =
                    state.published.iter_mut().find(|known| known.1 == *operation && known.0 == *output);
                match known {
                    Some((_, _, count)) => *count += records,
                    None => state.published.push((output.clone(), *operation, *records)),
                }
            }
            state.reach_marks();
        });
    }

    pub(super) fn dead_letter(&self, error: &Error) {
        self.lock_counters().error(error);
        self.note(|state| state.dead_letters += 1);
    }

    pub(super) fn report(&self, at: Stamp) -> ObjectReport {
        let state = self.lock();
        let mut published = Published::default();
        for (_, operation, count) in &state.published {
            *match operation {
                Operation::Refresh => &mut published.refreshed,
                Operation::Insert => &mut published.inserted,
                Operation::Update => &mut published.updated,
                Operation::Delete => &mut published.deleted,
            } += count;
        }
        let touched = state.last_contact.max(state.owned_since);
        let out_of_touch = state.owned_since.is_some()
            && (state.capture != Capture::None || !state.opened)
            && touched.is_some_and(|touched| at.since(touched) > state.contact_bound);
        ObjectReport {
            object: self.name.to_string(),
            phase: state.phase,
            capture: match state.capture {
                Capture::Poll => "poll",
                Capture::Subscribe => "subscribe",
                Capture::None => "none",
            },
            not_followed: state.not_followed.clone(),
            rows_loaded: state.rows_loaded,
            rows_expected: state.rows_expected,
            load_calls: state.load_calls,
            reload: state.reload.clone(),
            published,
            dead_letters: state.dead_letters,
            last_contact: state.last_contact,
            last_commit: state.last_commit,
            committed_to: state.committed_to,
            lag_seconds: state.committed_to.map(|to| at.since(to).as_secs_f64()),
            error: state.error.clone(),
            out_of_touch,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Standing> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn lock_counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.lock());
        self.version.send_modify(|version| *version += 1);
    }
}

impl Standing {
    fn stand_at(&mut self, position: &Position) {
        self.capture = position.capture;
        self.phase = match position.state {
            State::Loading => Phase::Loading,
            State::Live => Phase::Live,
            State::Paused => Phase::Paused,
            State::Failed => Phase::Failed,
        };
        self.reload = position.reload.as_ref().map(ToString::to_string);
        if let Some(load) = &position.load {
            self.rows_loaded = load.rows;
            self.rows_expected = load.announced.or(self.rows_expected);
        }
    }

    /// `to` becomes true once everything handed over so far is committed.
    fn mark(&mut self, to: Option<Stamp>) {
        let Some(to) = to else { return };
        match self.marks.back_mut() {
            Some((handed, known)) if *handed == self.handed => *known = to,
            _ => self.marks.push_back((self.handed, to)),
        }
        self.reach_marks();
    }

    fn reach_marks(&mut self) {
        while let Some((_, to)) = self.marks.pop_front_if(|(handed, _)| *handed <= self.committed) {
            self.committed_to = Some(to);
        }
    }
}

impl ErrorReport {
    pub(super) fn of(error: &Error, at: Stamp, again_at: Option<Stamp>) -> Self {
        Self {
            code: error.kind().code(),
            message: error.to_string(),
            now: error.reaction().sentence(),
            hint: error.advice().to_owned(),
            at,
            again_at,
        }
    }
}
