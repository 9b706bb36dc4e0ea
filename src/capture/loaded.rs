//! Which rows of a load say something beyond what was published.
//!
//! Comes in: a page before it is sequenced. Goes out: the rows that would be published of it now. It enters nothing.

use std::collections::HashSet;

use super::ledger::{Entry, Kind, RecordId};
use super::sequencer::Sequencer;
use crate::Result;
use crate::domain::content::content_hash;
use crate::domain::{Row, Rows, Stamp};

impl Sequencer {
    /// Rows of a page that [`Self::load_page`] would publish, by their places.
    pub fn load_news(&self, rows: &Rows, server_time: Stamp) -> Result<HashSet<usize>> {
        let keys = self.keys(rows, self.object.cursor, server_time)?;
        let is_news = |(row, (id, stamp)): &(Row<'_>, (RecordId, Stamp))| {
            self.ledger.newest(id).is_none_or(|newest| !self.is_loaded(&newest, *row, *stamp))
        };
        Ok(rows.iter().zip(keys).filter(is_news).map(|(row, _)| row.index()).collect())
    }

    /// Whether a loaded row says nothing beyond what was published.
    pub(super) fn is_loaded(&self, newest: &Entry, row: Row<'_>, stamp: Stamp) -> bool {
        newest.stamp >= stamp
            && !(newest.stamp == stamp && self.is_due_again(newest))
            // What did not fit a condition as it is now, and does: another condition is asked for since.
            && !(newest.kind == Kind::Deleted && newest.hash == content_hash(&self.object, row))
    }
}
