//! What one shard may spend and has spent: kept in its control partition, moving with it.
//!
//! Comes in: calls, and what an earlier owner left. Goes out: the control record `budget`, which must be committed before
//! the calls that it reserves are made. So the record never says less than what was spent, whenever the process dies: what
//! was reserved and not known to be spent counts as spent when the shard is claimed again. Times are milliseconds on the
//! process's own clock; in the record they are Salesforce's, rounded to the later side.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::classes::{Class, Counts};
use crate::domain::Stamp;

/// The key of the record, in every control partition.
pub const KEY: &str = "budget";
const VERSION: u32 = 1;
/// Calls are counted in so many pieces of a day.
const PIECES: i64 = 144;
/// A reservation is this part of the day's calls, and at most so many.
const BLOCKS: u64 = 64;
const LARGEST_BLOCK: u64 = 500;

/// More calls than any org has in a day. What a record tells beyond that is told in vain, and would not add up.
const MOST: u64 = 1 << 40;

#[derive(Debug)]
pub(super) struct Account {
    day_ms: i64,
    pieces: VecDeque<Piece>,
    spent: Counts,
    /// Reserved in a committed record and not spent yet. None: nothing has to be reserved.
    reserved: Option<u64>,
    /// A reservation that is being committed.
    asked: u64,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    start_ms: i64,
    counts: Counts,
}

/// The record as it is written.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct BudgetRecord {
    version: u32,
    /// The org's daily maximum when this was written; left out: not heard yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<u64>,
    /// Calls that may be made without another record, and may have been made already.
    reserved: u64,
    spent: Vec<SpentRecord>,
    updated_at: Stamp,
}

#[derive(Debug, Deserialize, Serialize)]
struct SpentRecord {
    from: Stamp,
    #[serde(default, skip_serializing_if = "is_zero")]
    live: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    deletions: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    refetch: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    loads: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl BudgetRecord {
    pub fn decode(value: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        match record.version {
            VERSION => Ok(record),
            other => Err(format!("version {other} is not known")),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        // Numbers, times and fixed keys always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The part of a day's calls that is this shard's.
pub(super) fn limit_of(all: u64, shard: i32, shards: i32) -> u64 {
    let shards = u64::try_from(shards.max(1)).unwrap_or(1);
    let rest = u64::try_from(shard).is_ok_and(|shard| shard < all % shards);
    all / shards + u64::from(rest)
}

impl Account {
    /// For a process that shares its budget with nobody: nothing is kept.
    pub fn alone(day: Duration) -> Self {
        Self { reserved: None, ..Self::kept(day) }
    }

    /// Without a record: nothing was ever spent.
    pub fn kept(day: Duration) -> Self {
        Self {
            day_ms: i64::try_from(day.as_millis()).unwrap_or(i64::MAX / 4).max(PIECES),
            pieces: VecDeque::new(),
            spent: [0; 4],
            reserved: Some(0),
            asked: 0,
        }
    }

    /// Whether a reservation is being committed.
    pub fn is_asking(&self) -> bool {
        self.asked > 0
    }

    /// As an earlier owner left it; `server_now` and `now_ms` are the same moment.
    pub fn restored(day: Duration, record: &BudgetRecord, server_now: Stamp, now_ms: i64) -> Self {
        let mut account = Self::kept(day);
        for spent in &record.spent {
            let start_ms = now_ms - (server_now.0 - spent.from.0).max(0);
            let counts =
                [spent.live, spent.deletions, spent.refetch, spent.loads].map(|count| count.min(MOST));
            account.enter(start_ms, counts);
        }
        // Perhaps spent, and no later than now. Nobody knows for what.
        account.enter(now_ms, [0, 0, 0, record.reserved.min(MOST)]);
        account.forget(now_ms);
        account
    }

    fn enter(&mut self, start_ms: i64, counts: Counts) {
        if counts != [0; 4] {
            self.pieces.push_back(Piece { start_ms, counts });
            add(&mut self.spent, &counts);
        }
    }

    fn piece_ms(&self) -> i64 {
        self.day_ms / PIECES
    }

    /// A piece counts for a day behind its end, and one piece longer: an answer may come so much later than its call.
    fn over_ms(&self, piece: &Piece) -> i64 {
        piece.start_ms + self.day_ms + 2 * self.piece_ms()
    }

    pub fn spent(&self) -> &Counts {
        &self.spent
    }

    /// What lies a day back is no longer spent.
    pub fn forget(&mut self, now_ms: i64) {
        while let Some(piece) = self.pieces.front().copied().filter(|piece| self.over_ms(piece) <= now_ms) {
            for (spent, count) in self.spent.iter_mut().zip(piece.counts) {
                *spent = spent.saturating_sub(count);
            }
            self.pieces.pop_front();
        }
    }

    /// When some of what is spent is forgotten.
    pub fn next_release_ms(&self) -> Option<i64> {
        self.pieces.front().map(|piece| self.over_ms(piece))
    }

    /// Calls that can be made without a further record.
    pub fn available(&self, limit: u64) -> u64 {
        let all: u64 = self.spent.iter().sum();
        let left = limit.saturating_sub(all);
        self.reserved.map_or(left, |reserved| reserved.min(left))
    }

    pub fn spend(&mut self, class: Class, now_ms: i64) {
        self.reserved = self.reserved.map(|reserved| reserved.saturating_sub(1));
        let mut one = [0; 4];
        if let Some(count) = one.get_mut(class as usize) {
            *count = 1;
        }
        let piece_ms = self.piece_ms();
        match self.pieces.back_mut().filter(|piece| now_ms < piece.start_ms + piece_ms) {
            Some(piece) => add(&mut piece.counts, &one),
            None => self.pieces.push_back(Piece { start_ms: now_ms, counts: one }),
        }
        add(&mut self.spent, &one);
    }

    /// The call was not made after all.
    pub fn give_back(&mut self, class: Class) {
        let Some(piece) = self.pieces.back_mut() else { return };
        let (Some(of_piece), Some(spent)) =
            (piece.counts.get_mut(class as usize), self.spent.get_mut(class as usize))
        else {
            return;
        };
        if *of_piece > 0 && *spent > 0 {
            (*of_piece, *spent) = (*of_piece - 1, *spent - 1);
            self.reserved = self.reserved.map(|reserved| reserved + 1);
        }
    }

    /// How many calls should be reserved now; none: there are enough, or no more may be.
    pub fn wants(&self, limit: u64) -> Option<u64> {
        let reserved = self.reserved?;
        let block = (limit / BLOCKS).clamp(1, LARGEST_BLOCK);
        let all: u64 = self.spent.iter().sum();
        let room = limit.saturating_sub(all).saturating_sub(reserved);
        (self.asked == 0 && reserved * 2 <= block && room > 0).then_some(block.min(room))
    }

    /// The record that reserves so many calls more; they can be spent once it is committed.
    pub fn reserve(
        &mut self,
        calls: u64,
        maximum: Option<u64>,
        server_now: Stamp,
        now_ms: i64,
    ) -> BudgetRecord {
        self.asked = calls;
        self.record(self.reserved.unwrap_or(0) + calls, maximum, server_now, now_ms)
    }

    /// The reservation is committed.
    pub fn granted(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.reserved = self.reserved.map(|reserved| reserved + asked);
    }

    /// The record of an account that nobody spends from any more.
    pub fn closing(&self, maximum: Option<u64>, server_now: Stamp, now_ms: i64) -> BudgetRecord {
        self.record(0, maximum, server_now, now_ms)
    }

    fn record(&self, reserved: u64, maximum: Option<u64>, server_now: Stamp, now_ms: i64) -> BudgetRecord {
        let spent = self.pieces.iter().filter(|piece| piece.counts != [0; 4]).map(|piece| {
            // Our notion of Salesforce's clock is up to a second behind it.
            let from = server_now.0 - (now_ms - piece.start_ms).max(0);
            let from = Stamp((from + 1_999).div_euclid(1_000) * 1_000);
            let [live, deletions, refetch, loads] = piece.counts;
            SpentRecord { from, live, deletions, refetch, loads }
        });
        BudgetRecord { version: VERSION, maximum, reserved, spent: spent.collect(), updated_at: server_now }
    }
}

/// For `crate::fuzzing`: a record read, its account opened a day later and used, and the record written again.
#[cfg(any(test, feature = "fuzzing"))]
pub fn budget_again(value: &[u8]) -> Option<Vec<u8>> {
    let day = Duration::from_secs(86_400);
    let record = BudgetRecord::decode(value).ok()?;
    let mut account = Account::restored(day, &record, record.updated_at, 86_400_000);
    if account.available(u64::MAX) > 0 {
        account.spend(Class::Live, 86_400_000);
        account.give_back(Class::Live);
    }
    if let Some(calls) = account.wants(1_000) {
        account.reserve(calls, record.maximum, record.updated_at, 86_400_000);
        account.granted();
    }
    account.forget(i64::MAX / 2);
    Some(record.encode())
}

fn add(counts: &mut Counts, more: &Counts) {
    for (count, more) in counts.iter_mut().zip(more) {
        *count += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const HOUR_MS: i64 = 60 * 60 * 1_000;
    /// 2026-05-19T08:30:00Z
    const SERVER: Stamp = Stamp(1_779_179_400_000);

    fn all(account: &Account) -> u64 {
        account.spent().iter().sum()
    }

    /// Reserves as a shard does, if it is wanted; the record as it would be read.
    fn reserve(account: &mut Account, limit: u64, now_ms: i64) -> Option<BudgetRecord> {
        let calls = account.wants(limit)?;
        let record = account.reserve(calls, Some(limit * 2), Stamp(SERVER.0 + now_ms), now_ms);
        account.granted();
        Some(BudgetRecord::decode(&record.encode()).unwrap())
    }

    #[test]
    fn nothing_is_spent_before_it_is_reserved_and_a_crash_loses_no_call_from_the_count() {
        let mut account = Account::kept(DAY);
        assert_eq!(account.available(640), 0, "nothing is reserved");
        let calls = account.wants(640).unwrap();
        let record = account.reserve(calls, Some(640), SERVER, 0);
        assert_eq!((account.available(640), account.wants(640)), (0, None), "not committed yet");
        account.granted();
        assert_eq!(account.available(640), 10);
        // Whatever was spent of it since: the next owner counts all of it.
        for spent in 0..=10 {
            let mut died = Account::restored(DAY, &record, SERVER, 0);
            assert!(all(&died) >= spent);
            assert_eq!((all(&died), died.available(640)), (10, 0));
            died.forget(0);
        }
        // A reservation that was asked for and perhaps committed, with calls of the one before.
        for _ in 0..7 {
            account.spend(Class::Live, 1_000);
        }
        let calls = account.wants(640).unwrap();
        let record = account.reserve(calls, Some(640), SERVER, 2_000);
        account.spend(Class::Load, 3_000);
        assert_eq!(all(&Account::restored(DAY, &record, SERVER, 0)), 7 + 3 + 10);
    }

    #[test]
    fn what_an_owner_closes_is_what_it_spent() {
        let mut account = Account::kept(DAY);
        reserve(&mut account, 640, 0).unwrap();
        account.spend(Class::Live, 10);
        account.spend(Class::Load, 20);
        account.spend(Class::Load, 30);
        account.give_back(Class::Load);
        let record = account.closing(Some(640), SERVER, 40);
        let next = Account::restored(DAY, &BudgetRecord::decode(&record.encode()).unwrap(), SERVER, 5_000);
        assert_eq!(next.spent(), &[1, 0, 0, 1]);
    }

    #[test]
    fn no_day_holds_more_than_the_limit_whatever_dies_and_whoever_goes_on() {
        let limit = 100;
        let mut made: Vec<i64> = Vec::new();
        let mut account = Account::kept(DAY);
        let mut record = None;
        let mut draw = 7u64;
        for minute in 0..4 * 24 * 60 {
            let now_ms = minute * 60_000;
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            account.forget(now_ms);
            for _ in 0..(draw >> 33) % 3 {
                if let Some(newer) = reserve(&mut account, limit, now_ms) {
                    record = Some(newer);
                }
                if account.available(limit) > 0 {
                    account.spend(Class::Live, now_ms);
                    made.push(now_ms);
                }
            }
            if let (Some(record), true) = (&record, draw >> 40 & 0xff == 0) {
                // Nothing but the record is left, and its reader's clock is elsewhere.
                account = Account::restored(DAY, record, Stamp(SERVER.0 + now_ms), now_ms);
            }
        }
        for (place, first) in made.iter().enumerate() {
            let within = made.iter().skip(place).take_while(|at| **at < first + 24 * HOUR_MS).count();
            assert!(within as u64 <= limit, "{within} calls in the day from {first}");
        }
        assert!(made.len() > 200, "{} calls in four days: it goes on", made.len());
    }

    #[test]
    fn what_lies_a_day_back_may_be_spent_again_and_not_before() {
        let mut account = Account::alone(DAY);
        account.spend(Class::Live, 0);
        assert_eq!(account.available(1), 0);
        account.forget(24 * HOUR_MS);
        assert_eq!(account.available(1), 0);
        let release = account.next_release_ms().unwrap();
        assert!(release <= 25 * HOUR_MS, "{release}");
        account.forget(release);
        assert_eq!(account.available(1), 1);
    }

    #[test]
    fn the_shards_parts_are_the_whole() {
        for (all, shards) in [(1_000, 8), (1_003, 8), (3, 8), (0, 4), (5, 1)] {
            let parts: Vec<u64> = (0..shards).map(|shard| limit_of(all, shard, shards)).collect();
            assert_eq!(parts.iter().sum::<u64>(), all, "{parts:?}");
        }
    }

    #[test]
    fn a_record_with_absurd_numbers_spends_everything_and_ends_nothing() {
        let text = r#"{"version":1,"reserved":18446744073709551615,"updated_at":"2026-05-19T08:30:00Z",
            "spent":[{"from":"2026-05-19T08:30:00Z","live":18446744073709551615,"loads":18446744073709551615}]}"#;
        let record = BudgetRecord::decode(text.as_bytes()).unwrap();
        let account = Account::restored(DAY, &record, SERVER, 0);
        assert_eq!((account.available(1 << 40), account.wants(1 << 40)), (0, None));
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let text = br#"{"version":2,"reserved":0,"spent":[],"updated_at":"2026-05-19T08:30:00Z"}"#;
        assert!(BudgetRecord::decode(text).is_err());
        assert!(BudgetRecord::decode(b"?").is_err());
    }
}
