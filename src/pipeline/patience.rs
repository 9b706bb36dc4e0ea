//! How long to wait after which error, by the reaction table; and when to give up.
//!
//! Comes in: the errors of one object or event, and that it moved again. Goes out: pauses, and the log's word on each.

use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::error::Reaction;

pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// An object that was stopped for a reason of its own is tried again after this, for rights come back.
const STOPPED_PAUSE: Duration = Duration::from_secs(5 * 60);
/// With `--once` an object that fails this often in a row, pauses growing, is given up.
const MOST_FAILURES_ONCE: u32 = 10;

pub struct Patience {
    object: Arc<str>,
    once: bool,
    pause: Duration,
    failures: u32,
}

impl Patience {
    /// `once`: the run is to end by itself.
    pub fn new(object: Arc<str>, once: bool) -> Self {
        Self { object, once, pause: FIRST_PAUSE, failures: 0 }
    }

    pub fn moved(&mut self) {
        (self.pause, self.failures) = (FIRST_PAUSE, 0);
    }

    /// How long to wait before the next try; none: give up.
    pub fn react(&mut self, error: &Error) -> Option<Duration> {
        self.failures += 1;
        let (object, pause) = (&self.object, self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let (code, hint) = (error.kind().code(), error.advice());
        match error.reaction() {
            // Said by whoever stops it.
            Reaction::StopProgram => None,
            Reaction::StopObject | Reaction::DeadLetter | Reaction::ReleaseShard if self.once => {
                tracing::error!(%object, code, %error, hint, "object given up, all others go on");
                None
            }
            Reaction::StopObject | Reaction::DeadLetter | Reaction::ReleaseShard => {
                tracing::error!(%object, code, %error, again_in = ?STOPPED_PAUSE, hint, "object stopped, all others go on");
                Some(STOPPED_PAUSE)
            }
            _ if self.once && self.failures >= MOST_FAILURES_ONCE => {
                tracing::error!(%object, code, %error, failures = self.failures, hint, "object given up, all others go on");
                None
            }
            Reaction::DescribeAgain => {
                let again_in = if self.failures == 1 { Duration::ZERO } else { pause };
                let pause = (!again_in.is_zero()).then(|| tracing::field::debug(again_in));
                tracing::warn!(%object, code, %error, again_in = pause, hint, "{}", error.reaction().sentence());
                Some(again_in)
            }
            Reaction::RetryLater
            | Reaction::LogInAgain
            | Reaction::WaitForQuota
            | Reaction::UseRest
            | Reaction::Reload
            | Reaction::Refetch => {
                tracing::warn!(%object, code, %error, again_in = ?pause, hint, "{}", error.reaction().sentence());
                Some(pause)
            }
        }
    }
}
