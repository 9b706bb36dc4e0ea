//! The circuit of one object: how long it waits after which error, by the reaction table; when it opens, and when to give up.
//!
//! Comes in: the errors of one object or event, and that it moved again. Goes out: pauses, and the log's word on each.
//! - Closed: what may pass is tried again after pauses that grow to a minute.
//! - Open: after an error that only a person can help against, or after [`OPENS_AFTER`] others in a row. The object counts as
//!   failed and asks Salesforce nothing until its pause is over; pauses grow with every probe that fails.
//! - Half-open: one try. It closes the circuit by moving, or opens it again.
//!
//! What is no trouble of this object (maintenance, a spent allowance) opens nothing. Other objects have circuits of their own.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::error::{Kind, Reaction};

pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Failures in a row that open the circuit. Each lasted as long as its calls were tried over.
const OPENS_AFTER: u32 = 5;
/// Of an open circuit, after what passes by itself. Not longer: it may be all of Salesforce that was away.
const OPEN_PAUSE: Duration = Duration::from_secs(60);
const LONGEST_OPEN_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The same after a reason that only a person can take away: rights come back.
const STOPPED_PAUSE: Duration = Duration::from_secs(5 * 60);
const LONGEST_STOPPED_PAUSE: Duration = Duration::from_secs(60 * 60);
/// With `--once` an object that fails this often in a row, pauses growing, is given up.
const MOST_FAILURES_ONCE: u32 = 10;

/// What becomes of an object after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Tried again after this pause.
    Again(Duration),
    /// Failed, and tried again after this pause.
    Open(Duration),
    GiveUp,
}

pub struct Circuit {
    object: Arc<str>,
    once: bool,
    pause: Duration,
    failures: u32,
    /// The next pause of the open circuit; none: closed.
    open: Option<Duration>,
}

impl Circuit {
    /// `once`: the run is to end by itself.
    pub fn new(object: Arc<str>, once: bool) -> Self {
        Self { object, once, pause: FIRST_PAUSE, failures: 0, open: None }
    }

    pub fn moved(&mut self) {
        if self.open.take().is_some() {
            tracing::info!(object = %self.object, failures = self.failures, "object goes on");
        }
        (self.pause, self.failures) = (FIRST_PAUSE, 0);
    }

    pub fn react(&mut self, error: &Error) -> Verdict {
        let reaction = error.reaction();
        let (object, code, hint) = (&self.object, error.kind().code(), error.advice());
        if error.kind() == Kind::SalesforceMaintenance || reaction == Reaction::WaitForQuota {
            let again_in = jittered(self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            tracing::warn!(%object, code, %error, ?again_in, hint, "{}", reaction.sentence());
            return Verdict::Again(again_in);
        }
        self.failures += 1;
        match reaction {
            // Said by whoever stops it.
            Reaction::StopProgram => Verdict::GiveUp,
            Reaction::StopObject | Reaction::DeadLetter | Reaction::ReleaseShard if self.once => {
                tracing::error!(%object, code, %error, hint, "object given up, all others go on");
                Verdict::GiveUp
            }
            Reaction::StopObject | Reaction::DeadLetter | Reaction::ReleaseShard => {
                let again_in = self.opened(STOPPED_PAUSE, LONGEST_STOPPED_PAUSE);
                let object = &self.object;
                tracing::error!(%object, code, %error, ?again_in, hint, "object stopped, all others go on");
                Verdict::Open(again_in)
            }
            _ if self.once && self.failures >= MOST_FAILURES_ONCE => {
                tracing::error!(%object, code, %error, failures = self.failures, hint, "object given up, all others go on");
                Verdict::GiveUp
            }
            _ if !self.once && (self.failures >= OPENS_AFTER || self.open.is_some()) => {
                let again_in = self.opened(OPEN_PAUSE, LONGEST_OPEN_PAUSE);
                let (object, failures) = (&self.object, self.failures);
                tracing::error!(%object, code, %error, failures, ?again_in, hint, "object keeps failing, all others go on");
                Verdict::Open(again_in)
            }
            // The first time nothing needs to pass.
            Reaction::DescribeAgain if self.failures == 1 => {
                tracing::warn!(%object, code, %error, hint, "{}", reaction.sentence());
                Verdict::Again(Duration::ZERO)
            }
            Reaction::RetryLater
            | Reaction::LogInAgain
            | Reaction::WaitForQuota
            | Reaction::DescribeAgain
            | Reaction::UseRest
            | Reaction::Reload
            | Reaction::Refetch => {
                let again_in = jittered(self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                tracing::warn!(%object, code, %error, ?again_in, hint, "{}", reaction.sentence());
                Verdict::Again(again_in)
            }
        }
    }

    /// Opens it, or opens it again; how long it stays open.
    fn opened(&mut self, first: Duration, longest: Duration) -> Duration {
        let pause = match self.open {
            None => first,
            Some(grown) => jittered(grown.clamp(first, longest)),
        };
        self.open = Some((self.open.unwrap_or(first).max(first) * 2).min(longest));
        pause
    }
}

/// Between three quarters and all of it, in whole milliseconds, so that objects do not come back together.
fn jittered(pause: Duration) -> Duration {
    let whole = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    let less = whole / 4;
    Duration::from_millis(whole - RandomState::new().hash_one(whole) % (less + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: Kind) -> Error {
        Error::new(kind, "said")
    }

    fn circuit(once: bool) -> Circuit {
        Circuit::new("Account".into(), once)
    }

    fn seconds(verdict: Verdict) -> (bool, u64) {
        match verdict {
            Verdict::Again(pause) => (false, pause.as_secs_f64().ceil() as u64),
            Verdict::Open(pause) => (true, pause.as_secs_f64().ceil() as u64),
            Verdict::GiveUp => panic!("given up"),
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_stays_open_longer_each_time_and_closes_by_moving() {
        let mut circuit = circuit(false);
        for longest in [1, 2, 4, 8] {
            let (open, pause) = seconds(circuit.react(&error(Kind::NetworkFailed)));
            assert!(!open && pause <= longest && pause * 4 >= longest * 3, "{pause} of {longest}");
        }
        for longest in [60, 120, 240, 300, 300] {
            let (open, pause) = seconds(circuit.react(&error(Kind::NetworkFailed)));
            assert!(open && pause <= longest && pause * 4 >= longest * 3, "{pause} of {longest}");
        }
        circuit.moved();
        assert_eq!(seconds(circuit.react(&error(Kind::NetworkFailed))), (false, 1));
    }

    #[test]
    fn what_only_a_person_can_help_against_opens_it_at_once() {
        let mut circuit = circuit(false);
        assert_eq!(seconds(circuit.react(&error(Kind::ObjectForbidden))), (true, 300));
        for longest in [600, 1_200, 2_400, 3_600, 3_600] {
            let (open, pause) = seconds(circuit.react(&error(Kind::SalesforceError)));
            assert!(open && pause <= longest && pause * 4 >= longest * 3, "{pause} of {longest}");
        }
        // A probe that fails otherwise finds it open still.
        let (open, pause) = seconds(circuit.react(&error(Kind::NetworkFailed)));
        assert!(open && pause <= 300, "{pause}");
    }

    #[test]
    fn maintenance_and_a_spent_allowance_never_open_it() {
        let mut circuit = circuit(false);
        for _ in 0..40 {
            for kind in [Kind::SalesforceMaintenance, Kind::ApiLimitReached, Kind::EventsLimitReached] {
                let (open, pause) = seconds(circuit.react(&error(kind)));
                assert!(!open && pause <= 60);
            }
        }
        assert!(!seconds(circuit.react(&error(Kind::NetworkFailed))).0);
    }

    #[test]
    fn a_field_that_stays_unknown_is_not_asked_for_without_a_pause() {
        let mut circuit = circuit(false);
        assert_eq!(circuit.react(&error(Kind::FieldUnknown)), Verdict::Again(Duration::ZERO));
        assert_eq!(seconds(circuit.react(&error(Kind::FieldUnknown))), (false, 1));
    }

    #[test]
    fn a_run_that_is_to_end_gives_up() {
        let mut circuit = circuit(true);
        for _ in 1..MOST_FAILURES_ONCE {
            assert!(matches!(circuit.react(&error(Kind::NetworkFailed)), Verdict::Again(_)));
        }
        assert_eq!(circuit.react(&error(Kind::NetworkFailed)), Verdict::GiveUp);
        circuit.moved();
        assert_eq!(circuit.react(&error(Kind::ObjectForbidden)), Verdict::GiveUp);
        for once in [true, false] {
            assert_eq!(super::tests::circuit(once).react(&error(Kind::OrgLocked)), Verdict::GiveUp);
        }
    }
}
