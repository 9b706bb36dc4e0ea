//! The generated records of one object, as arithmetic: which stamp has record i, and which i have a stamp.
//!
//! Comes in: a row count, the span of time to spread them over, how many share one second. Goes out: stamps
//! that never fall as i rises, so that a range of stamps is a range of i. Never: memory per record.

use std::ops::Range;

use super::calendar::MS_PER_SECOND;

/// Records that one ordinary save of several people or a small batch leaves on one second.
const ORDINARY_TIE: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub rows: u64,
    first_ms: i64,
    span_seconds: u64,
    /// The middle group of records that share one second.
    tied: u64,
    tied_from: u64,
}

impl Shape {
    /// Spreads `rows` over `[first_ms, last_ms]`, `tied` of them in one second in the middle.
    pub fn new(rows: u64, first_ms: i64, last_ms: i64, tied: u64) -> Shape {
        let tied = tied.clamp(1, (rows / 2).max(1));
        Shape {
            rows,
            first_ms: first_ms.div_euclid(MS_PER_SECOND) * MS_PER_SECOND,
            span_seconds: u64::try_from((last_ms - first_ms) / MS_PER_SECOND).unwrap_or(0),
            tied,
            tied_from: (rows - tied.min(rows)) / 2,
        }
    }

    /// The cursor stamp of record `row`.
    pub fn stamp_ms(&self, row: u64) -> i64 {
        let squeezed = if row < self.tied_from {
            row
        } else if row < self.tied_from + self.tied {
            self.tied_from
        } else {
            row - (self.tied - 1)
        };
        // The group gets a second of its own: neighbours before and after round to other groups.
        let group = if row < self.tied_from {
            squeezed / ORDINARY_TIE
        } else if row < self.tied_from + self.tied {
            self.tied_from / ORDINARY_TIE + 1
        } else {
            squeezed / ORDINARY_TIE + 2
        };
        let groups = (self.rows - (self.tied - 1)) / ORDINARY_TIE + 2;
        let second = u128::from(group) * u128::from(self.span_seconds) / u128::from(groups.max(1));
        self.first_ms + second as i64 * MS_PER_SECOND
    }

    /// The records for which `is_before` holds form the range `0..n`; this is n.
    pub fn partition(&self, is_before: impl Fn(u64, i64) -> bool) -> u64 {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(middle, self.stamp_ms(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Records with a stamp in `[from_ms, to_ms)`.
    pub fn rows_between(&self, from_ms: i64, to_ms: i64) -> Range<u64> {
        let start = self.partition(|_, stamp| stamp < from_ms);
        let end = self.partition(|_, stamp| stamp < to_ms);
        start..end.max(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: i64 = 365 * 86_400_000;

    #[test]
    fn stamps_never_fall_and_stay_in_the_span() {
        for (rows, tied) in [(1, 1), (2, 5_000), (10, 3), (1_000, 400), (50_000, 5_000)] {
            let shape = Shape::new(rows, 1_000, 1_000 + YEAR_MS, tied);
            let mut last = i64::MIN;
            for row in 0..rows {
                let stamp = shape.stamp_ms(row);
                assert!(stamp >= last && (1_000..=1_000 + YEAR_MS).contains(&stamp));
                assert_eq!(stamp % 1_000, 0);
                last = stamp;
            }
        }
    }

    #[test]
    fn exactly_the_asked_number_shares_one_second() {
        let shape = Shape::new(50_000, 0, YEAR_MS, 5_000);
        let middle = shape.stamp_ms(25_000);
        assert_eq!((0..50_000).filter(|row| shape.stamp_ms(*row) == middle).count(), 5_000);
    }

    #[test]
    fn a_range_of_stamps_is_found_without_looking_at_all_records() {
        let shape = Shape::new(10_000_000, 0, 2 * YEAR_MS, 5_000);
        let (from, to) = (YEAR_MS / 3, YEAR_MS);
        let range = shape.rows_between(from, to);
        assert!(shape.stamp_ms(range.start) >= from && shape.stamp_ms(range.start - 1) < from);
        assert!(shape.stamp_ms(range.end) >= to && shape.stamp_ms(range.end - 1) < to);
        assert!(shape.rows_between(to, from).is_empty());
    }
}
