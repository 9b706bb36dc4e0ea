//! Salesforce's maintenance windows: told once when one begins, and once when it is over.
//!
//! Comes in: calls that were refused for maintenance, and what became of them. Goes out: one warning, one word when it is
//! over, and the error on the board. Calls wait it out where they are made (`transport`); no object counts it as its own
//! trouble. It is over when no call waits any more: in read-only mode some calls are answered and others not. Never: a line
//! for every call that waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::error::Error;
use crate::status::Board;

/// One service of Salesforce's.
#[derive(Clone, Debug)]
pub(super) struct Maintenance {
    service: &'static str,
    window: Arc<Mutex<Window>>,
    board: Arc<Mutex<Option<Arc<Board>>>>,
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    /// Calls that wait for its end.
    waiting: usize,
}

/// A call that waits. To be told when it was answered; else it was given up, or nobody wants its answer any more.
#[derive(Debug)]
pub(super) struct Waiting {
    of: Maintenance,
    answered: bool,
}

impl Maintenance {
    pub fn new(service: &'static str) -> Self {
        Self { service, window: Arc::default(), board: Arc::default() }
    }

    /// Another service, told to the same board.
    pub fn of(&self, service: &'static str) -> Self {
        Self { service, window: Arc::default(), board: Arc::clone(&self.board) }
    }

    pub fn report_to(&self, board: &Arc<Board>) {
        *lock(&self.board) = Some(Arc::clone(board));
    }

    /// A call was refused for maintenance, and waits from now on.
    pub fn met(&self, error: &Error) -> Waiting {
        let begins = {
            let mut window = lock(&self.window);
            window.waiting += 1;
            let begins = window.since.is_none();
            window.since.get_or_insert_with(Instant::now);
            begins
        };
        if begins {
            tracing::warn!(
                service = self.service,
                code = error.kind().code(),
                %error,
                hint = error.advice(),
                "Salesforce is in maintenance, calls wait until it is over"
            );
            if let Some(board) = &*lock(&self.board) {
                board.failed(error);
            }
        }
        Waiting { of: self.clone(), answered: false }
    }

    #[cfg(test)]
    pub fn is_on(&self) -> bool {
        lock(&self.window).since.is_some()
    }
}

impl Waiting {
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut window = lock(&self.of.window);
        window.waiting = window.waiting.saturating_sub(1);
        if window.waiting > 0 {
            return;
        }
        if let (Some(since), true) = (window.since.take(), self.answered) {
            let (service, seconds) = (self.of.service, since.elapsed().as_secs());
            tracing::info!(service, seconds, "Salesforce's maintenance is over, calls go on");
        }
    }
}

/// What is in there is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_window_is_over_for_each_service_when_its_last_call_is_answered_and_stands_on_the_board() {
        let board = Arc::new(Board::new());
        let rest = Maintenance::new("REST");
        let events = rest.of("Pub/Sub");
        rest.report_to(&board);
        let error = Error::new(Kind::SalesforceMaintenance, "Salesforce answered 503 ORG_IN_MAINTENANCE");
        let (first, second) = (rest.met(&error), rest.met(&error));
        assert!(rest.is_on() && !events.is_on());
        assert_eq!(board.snapshot().error.unwrap().code, "salesforce-maintenance");
        first.answered();
        assert!(rest.is_on(), "in read-only mode some calls are answered");
        let other = events.met(&error);
        drop(second);
        assert!(!rest.is_on() && events.is_on());
        other.answered();
        assert!(!events.is_on());
    }
}
