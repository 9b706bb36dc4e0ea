//! The stretch of time that one poll reads, cut into pieces that Salesforce can answer.
//!
//! Comes in: the cursor, the server's time, the look-back. Goes out: pieces `(low, high]` one after another, narrower
//! after a timeout. All bounds are moments of the cursor field on Salesforce's clock.

use std::time::Duration;

use crate::domain::Stamp;

/// Narrower than this no piece is cut: Salesforce's stamps have one-second resolution.
const NARROWEST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Window {
    /// Read up to here (exclusive lower bound of the next piece).
    low: Stamp,
    /// The poll ends here (inclusive).
    to: Stamp,
    /// Width of the next piece.
    step: Duration,
    /// Everything published with a cursor field from here on is in the ledger.
    pub ledger_from: Stamp,
    /// What was saved behind its end meanwhile is read too.
    open_ended: bool,
}

impl Window {
    /// From `cursor` less the look-back (but not below `floor`) to `to`; none if that is no progress.
    pub fn open(cursor: Stamp, floor: Option<Stamp>, look_back: Duration, to: Stamp) -> Option<Self> {
        if to <= cursor {
            return None;
        }
        let reach = cursor.minus(look_back);
        let ledger_from = floor.map_or(reach, |floor| reach.max(floor));
        // The lower bound is exclusive, the reach inclusive.
        let low = ledger_from.minus(Duration::from_millis(1));
        Some(Self { low, to, step: to.since(low), ledger_from, open_ended: false })
    }

    /// Beside a stream that missed something: a record that is saved again before it is read must not leave the window,
    /// for the event of that save need not hold what was missed.
    pub fn open_ended(self) -> Self {
        Self { open_ended: true, ..self }
    }

    /// The bounds to ask for: the piece, without its end if that is open.
    pub fn bounds(&self) -> (Stamp, Option<Stamp>) {
        let (low, high) = self.piece();
        (low, (high < self.to || !self.open_ended).then_some(high))
    }

    /// The piece to read now: `(low, high]`.
    pub fn piece(&self) -> (Stamp, Stamp) {
        (self.low, self.low.plus(self.step).min(self.to))
    }

    pub fn to(&self) -> Stamp {
        self.to
    }

    /// The piece is read; what is left of the window, if anything.
    pub fn advance(&mut self) -> bool {
        self.low = self.piece().1;
        self.low < self.to
    }

    /// The piece is read up to here (inclusive): it begins behind that, and ends where it did.
    pub fn read_to(&mut self, read_to: Stamp) {
        let (low, high) = self.piece();
        if low < read_to && read_to < high {
            self.low = read_to;
            self.step = high.since(read_to);
        }
    }

    /// Cuts the piece to this share; false if it is as narrow as can be.
    pub fn narrow(&mut self, parts: u32) -> bool {
        let (low, high) = self.piece();
        let width = high.since(low);
        if width <= NARROWEST {
            return false;
        }
        let millis = u64::try_from(width.as_millis()).unwrap_or(u64::MAX).div_ceil(u64::from(parts.max(2)));
        self.step = Duration::from_millis(millis).max(NARROWEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_window_without_holes() {
        let seconds = |seconds: i64| Stamp(seconds * 1_000);
        let mut window =
            Window::open(seconds(1_000), None, Duration::from_secs(900), seconds(1_030)).unwrap();
        assert_eq!(window.piece(), (Stamp(99_999), seconds(1_030)));
        assert!(window.narrow(4));
        let mut bounds = vec![window.piece()];
        while window.advance() {
            bounds.push(window.piece());
        }
        assert_eq!(bounds.first().unwrap().0, Stamp(99_999));
        assert_eq!(bounds.last().unwrap().1, seconds(1_030));
        assert!(bounds.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert_eq!(bounds.len(), 4);
    }

    #[test]
    fn only_the_last_piece_is_open_ended() {
        let window = Window::open(Stamp(0), None, Duration::ZERO, Stamp(60_000)).unwrap();
        assert_eq!(window.bounds(), (Stamp(-1), Some(Stamp(60_000))));
        let mut window = window.open_ended();
        assert_eq!(window.bounds(), (Stamp(-1), None));
        assert!(window.narrow(2));
        assert!(window.bounds().1.is_some());
        assert!(window.advance());
        assert_eq!((window.bounds().1, window.piece().1), (None, Stamp(60_000)));
    }

    #[test]
    fn a_piece_that_is_partly_read_keeps_its_end() {
        let mut window = Window::open(Stamp(0), None, Duration::ZERO, Stamp(60_000)).unwrap();
        window.read_to(Stamp(9_999));
        assert_eq!(window.piece(), (Stamp(9_999), Stamp(60_000)));
        window.read_to(Stamp(5_000));
        window.read_to(Stamp(60_000));
        assert_eq!(window.piece(), (Stamp(9_999), Stamp(60_000)), "neither back nor out");
    }

    #[test]
    fn a_window_never_reaches_below_its_floor_nor_backwards() {
        let window =
            Window::open(Stamp(50_000), Some(Stamp(40_000)), Duration::from_secs(900), Stamp(60_000));
        assert_eq!(window.map(|window| window.ledger_from), Some(Stamp(40_000)));
        assert!(Window::open(Stamp(50_000), None, Duration::ZERO, Stamp(50_000)).is_none());
    }

    #[test]
    fn a_piece_of_one_second_is_not_cut_further() {
        let mut window = Window::open(Stamp(0), None, Duration::ZERO, Stamp(3_000)).unwrap();
        while window.narrow(2) {}
        let (low, high) = window.piece();
        assert_eq!(high.since(low), NARROWEST);
    }
}
