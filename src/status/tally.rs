//! What one transaction publishes of one object, counted while it is made and noted when it is committed.
//!
//! Comes in: published records one by one. Goes out: to [`Board::committed`](super::Board::committed). A transaction
//! that is aborted drops its tallies; nothing that is not committed is ever counted.

use std::sync::Arc;

use crate::domain::{Operation, Stamp};

#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By output topic and operation: records. A handful of entries, so a list is searched faster than a map.
    pub(super) records: Vec<(Arc<str>, Operation, u64)>,
    /// Changes (not records: with two outputs a change makes two).
    pub(super) changes: u64,
    /// Commit times of changes that were followed rather than loaded, thinned to one a second: time and count.
    pub(super) commits: Vec<(Stamp, u64)>,
}

impl Tally {
    /// One record for one output.
    pub fn record(&mut self, output: &Arc<str>, operation: Operation) {
        match self.records.iter_mut().find(|(known, of, _)| *of == operation && known == output) {
            Some((_, _, count)) => *count += 1,
            None => self.records.push((output.clone(), operation, 1)),
        }
    }

    /// One change, whatever number of records it made; `timestamp` is its commit in Salesforce.
    pub fn change(&mut self, operation: Operation, timestamp: Stamp) {
        self.changes += 1;
        if operation == Operation::Refresh {
            return;
        }
        let second = timestamp.floor_second();
        match self.commits.last_mut() {
            Some((known, count)) if *known == second => *count += 1,
            _ => self.commits.push((second, 1)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.changes == 0 && self.records.is_empty()
    }
}
