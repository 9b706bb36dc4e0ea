//! How many rows to ask for in one Bulk result page, so that a page has a bounded number of bytes.
//!
//! Comes in: rows and bytes of the pages seen. Goes out: `maxRecords` for the next. A page is held in memory until
//! it is complete, for it is published whole or not at all (docs/adr/0003).

/// About what a page should weigh. Three pages of a load are in memory at once: one being read, one waiting, one
/// being published.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// A page above this is given up and asked for again with fewer rows.
const BYTE_LIMIT: usize = 4 * PAGE_BYTES;
const FIRST_ROWS: u32 = 2_000;
const MOST_ROWS: u32 = 50_000;

#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    rows: u32,
}

impl Default for PageSize {
    fn default() -> Self {
        Self { rows: FIRST_ROWS }
    }
}

impl PageSize {
    pub fn rows(self) -> u32 {
        self.rows
    }

    /// Bytes at which a page is given up; a single row is never too large.
    pub fn byte_limit(self) -> usize {
        if self.rows <= 1 { usize::MAX } else { BYTE_LIMIT }
    }

    pub fn seen(&mut self, rows: usize, bytes: usize) {
        if rows > 0 {
            let per_row = bytes.div_ceil(rows).max(1);
            let fitting = u32::try_from(PAGE_BYTES / per_row).unwrap_or(MOST_ROWS);
            // Grow by steps: one page of short rows says little about the next.
            self.rows = fitting.clamp(1, MOST_ROWS).min(self.rows.saturating_mul(4));
        }
    }

    /// How many pages a result of so many rows of this size comes in, if the server sends as many as are asked for.
    pub fn pages(rows: u64, row_bytes: u64) -> u64 {
        let (mut size, mut left, mut pages) = (Self::default(), rows, 0);
        let row_bytes = usize::try_from(row_bytes).unwrap_or(usize::MAX);
        loop {
            let asked = u64::from(size.rows());
            pages += 1;
            if left <= asked {
                return pages;
            }
            left -= asked;
            size.seen(size.rows() as usize, (size.rows() as usize).saturating_mul(row_bytes));
        }
    }

    pub fn too_large(&mut self) {
        self.rows = (self.rows / 4).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_a_result_are_counted_as_they_will_be_asked_for() {
        // 2,000, then 8,000, then as many as 4 MiB hold.
        assert_eq!([0, 2_000, 2_001, 10_001].map(|rows| PageSize::pages(rows, 100)), [1, 1, 2, 3]);
        let steady = (PAGE_BYTES / 1_000) as u64;
        assert_eq!(PageSize::pages(2_000 + steady * 10, 1_000), 11);
        assert_eq!(PageSize::pages(2_000 + steady * 10 + 1, 1_000), 12);
        assert_eq!(PageSize::pages(5, u64::MAX), 1);
    }

    #[test]
    fn pages_settle_at_the_bytes_they_may_have() {
        let mut size = PageSize::default();
        for _ in 0..5 {
            size.seen(size.rows() as usize, size.rows() as usize * 500);
        }
        assert_eq!(size.rows() as usize, PAGE_BYTES / 500);
        size.too_large();
        assert_eq!(size.rows() as usize, PAGE_BYTES / 500 / 4);
        for _ in 0..20 {
            size.too_large();
        }
        assert_eq!((size.rows(), size.byte_limit()), (1, usize::MAX));
    }
}
