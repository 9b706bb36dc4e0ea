//! Salesforce's maintenance windows: told once when one begins, and once when it is over.
//!
//! Comes in: calls that were refused for maintenance, and calls that were answered. Goes out: one warning, one word when it
//! is over, and the error on the board. Calls wait it out where they are made (`transport`); no object counts it as its
//! own trouble. Never: a line for every call that waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::error::Error;
use crate::status::Board;

/// One service of Salesforce's.
#[derive(Clone, Debug)]
pub(super) struct Maintenance {
    service: &'static str,
    /// Since when this service has been in maintenance.
    since: Arc<Mutex<Option<Instant>>>,
    board: Arc<Mutex<Option<Arc<Board>>>>,
}

impl Maintenance {
    pub fn new(service: &'static str) -> Self {
        Self { service, since: Arc::default(), board: Arc::default() }
    }

    /// Another service, told to the same board.
    pub fn of(&self, service: &'static str) -> Self {
        Self { service, since: Arc::default(), board: Arc::clone(&self.board) }
    }

    pub fn report_to(&self, board: &Arc<Board>) {
        *lock(&self.board) = Some(Arc::clone(board));
    }

    /// A call was refused for maintenance. True: it is the first.
    pub fn met(&self, error: &Error) -> bool {
        let mut since = lock(&self.since);
        if since.is_some() {
            return false;
        }
        *since = Some(Instant::now());
        drop(since);
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
        true
    }

    /// A call was answered.
    pub fn is_over(&self) {
        let Some(since) = lock(&self.since).take() else { return };
        let seconds = since.elapsed().as_secs();
        tracing::info!(service = self.service, seconds, "Salesforce's maintenance is over, calls go on");
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
    fn a_window_is_told_once_for_each_service_and_stands_on_the_board() {
        let board = Arc::new(Board::new());
        let (rest, events) = {
            let rest = Maintenance::new("REST");
            let events = rest.of("Pub/Sub");
            (rest, events)
        };
        rest.report_to(&board);
        let error = Error::new(Kind::SalesforceMaintenance, "Salesforce answered 503 ORG_IN_MAINTENANCE");
        assert_eq!([rest.met(&error), rest.met(&error), events.met(&error)], [true, false, true]);
        assert_eq!(board.snapshot().error.unwrap().code, "salesforce-maintenance");
        rest.is_over();
        assert_eq!([rest.met(&error), events.met(&error)], [true, false]);
    }
}
