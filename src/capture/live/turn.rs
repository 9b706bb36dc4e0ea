//! How much of what waits of a stream goes out at once.
//!
//! Comes in: what waits, and how many records a batch takes. Goes out: how far a flush goes. To the end of a message, where
//! that is near enough; where bytes are fetched for each record not even that far: then the position stays where it
//! was, and the ledger knows what was published of the message.

use super::{Live, MOST_WAITING, Waiting};

impl Live {
    /// From now on every change goes out with its whole record.
    pub fn read_whole(&mut self) {
        self.settings.whole = true;
    }

    /// Places to be flushed, and whether more is due at once.
    pub(super) fn turn(&self, at_once: Option<usize>) -> (usize, bool) {
        let all = self.waiting.len();
        let is_end = |(place, waiting): &(usize, &Waiting)| {
            *place + 1 >= MOST_WAITING && matches!(waiting, Waiting::Mark { .. })
        };
        let ends = self.waiting.iter().enumerate().find(is_end).map_or(all, |(place, _)| place + 1);
        let is_record =
            |(_, waiting): &(usize, &Waiting)| matches!(waiting, Waiting::Record(_) | Waiting::Reread { .. });
        let beyond = at_once.and_then(|most| self.waiting.iter().enumerate().filter(is_record).nth(most));
        match beyond {
            Some((place, _)) if place < ends => (place, true),
            _ => (ends, false),
        }
    }
}
