//! All accounts of this process together, and who may spend from them now.
//!
//! Comes in: accounts that open and close, calls, what the org tells. Goes out: the account that a call is charged to, or
//! what stands against it and until when; and how far apart regular calls should be. An instance may spend what its
//! shards may, from whichever of them has something reserved. Nothing here waits.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::company::Seats;
use super::super::{Calls, Purpose};
use super::account::{Account, limit_of};
use super::bucket::Bucket;
use super::classes::{Class, Counts, Work};
use crate::domain::Stamp;
use crate::status::WaitingReport;

/// A load that was asked for within this part of a day counts as work that is there.
const LOADS_PART: u32 = 24;
/// Before the org told its maximum an account has one call, and one more in this part of a day.
const FIRST_CALLS_PART: i64 = 1_440;
/// How quickly the measure of what polls cost forgets.
const MEMORY: f64 = 0.98;

pub(super) enum Obstacle {
    /// No call of this class now; until about then, and why.
    Limit { wait: Duration, because: String },
    /// There is room, and it is being reserved; or no shard is ours yet.
    Reservation,
}

pub(super) struct Books {
    daily_share: f64,
    day: Duration,
    pub used: Option<u64>,
    pub maximum: Option<u64>,
    /// How many shards share the budget; none: this process is alone.
    shards: Option<i32>,
    accounts: BTreeMap<i32, Open>,
    /// Spent before any account was there: the first one takes it over.
    carried: Counts,
    pub calls: Calls,
    /// Of these, what the org counts.
    pub billed: Calls,
    /// The org said that its allowance is spent.
    pub closed_until: Option<Instant>,
    pub closed_times: u32,
    pub waiting: BTreeMap<Purpose, WaitingReport>,
    for_loads: Bucket,
    last_load_ms: Option<i64>,
    now_ms: i64,
    poll_calls: f64,
    windows: f64,
}

struct Open {
    account: Account,
    since_ms: i64,
}

impl Books {
    pub fn new(daily_share: f64, day: Duration) -> Self {
        let alone = Open { account: Account::alone(day), since_ms: 0 };
        Self {
            daily_share,
            day,
            used: None,
            maximum: None,
            shards: None,
            accounts: BTreeMap::from([(0, alone)]),
            carried: [0; 4],
            calls: Calls::new(),
            billed: Calls::new(),
            closed_until: None,
            closed_times: 0,
            waiting: BTreeMap::new(),
            for_loads: Bucket::default(),
            last_load_ms: None,
            now_ms: 0,
            poll_calls: 0.0,
            windows: 0.0,
        }
    }

    pub fn day(&self) -> Duration {
        self.day
    }

    // ---- accounts ----

    /// From now on nothing is spent but from accounts of shards.
    pub fn share_with(&mut self, shards: i32) {
        if self.shards.is_none() {
            self.carried = self.spent();
            self.accounts.clear();
            self.shards = Some(shards);
        }
    }

    pub fn open(&mut self, shard: i32, mut account: Account, now_ms: i64) {
        for class in Class::ALL {
            for _ in 0..std::mem::take(self.carried.get_mut(class as usize).unwrap_or(&mut 0)) {
                account.spend(class, now_ms);
            }
        }
        self.accounts.insert(shard, Open { account, since_ms: now_ms });
    }

    pub fn close(&mut self, shard: i32) -> Option<Account> {
        self.accounts.remove(&shard).map(|open| open.account)
    }

    pub fn account(&mut self, shard: i32) -> Option<&mut Account> {
        self.accounts.get_mut(&shard).map(|open| &mut open.account)
    }

    /// Calls that the account should reserve now.
    pub fn wanted_by(&self, shard: i32, now_ms: i64) -> Option<u64> {
        let open = self.accounts.get(&shard)?;
        open.account.wants(self.limit_of(shard, open, now_ms))
    }

    /// Whether any account wants a reservation.
    pub fn wants(&self, now_ms: i64) -> bool {
        self.accounts.keys().any(|shard| self.wanted_by(*shard, now_ms).is_some())
    }

    /// What the account of a shard may spend in a day.
    fn limit_of(&self, shard: i32, open: &Open, now_ms: i64) -> u64 {
        match (self.maximum, self.shards) {
            (Some(maximum), shards) => limit_of(self.share(maximum), shard, shards.unwrap_or(1)),
            (None, None) => u64::MAX,
            (None, Some(_)) => {
                let part = i64::try_from(self.day.as_millis()).unwrap_or(i64::MAX) / FIRST_CALLS_PART;
                1 + u64::try_from((now_ms - open.since_ms) / part.max(1)).unwrap_or(0)
            }
        }
    }

    fn share(&self, maximum: u64) -> u64 {
        (maximum as f64 * self.daily_share) as u64
    }

    /// What all accounts here may spend in a day; none: the org has not told its maximum.
    pub fn limit(&self) -> Option<u64> {
        let all = self.share(self.maximum?);
        Some(self.accounts.keys().map(|shard| limit_of(all, *shard, self.shards.unwrap_or(1))).sum())
    }

    pub fn spent(&self) -> Counts {
        let mut all = self.carried;
        for open in self.accounts.values() {
            for (all, spent) in all.iter_mut().zip(open.account.spent()) {
                *all += spent;
            }
        }
        all
    }

    // ---- calls ----

    pub fn called(&mut self, purpose: Purpose) {
        *self.calls.entry(purpose).or_default() += 1;
        if purpose == Purpose::Poll {
            self.poll_calls += 1.0;
        }
    }

    /// The account that a call is charged to, or what stands against it.
    pub fn charge(&mut self, purpose: Purpose, now_ms: i64, seats: &Seats) -> Result<i32, Obstacle> {
        self.now_ms = now_ms;
        if let Some(until) = self.closed_until
            && until > Instant::now()
        {
            let because = "Salesforce answered that the org's calls of the last 24 hours are used up";
            return Err(Obstacle::Limit { wait: until - Instant::now(), because: because.to_owned() });
        }
        let class = Class::of(purpose);
        for open in self.accounts.values_mut() {
            open.account.forget(now_ms);
        }
        if class == Class::Load {
            self.last_load_ms = Some(now_ms);
        }
        if let (Some(limit), Some(maximum)) = (self.limit(), self.maximum)
            && !self.accounts.is_empty()
        {
            let work = self.work(seats);
            let room = work.room(class, limit);
            let paced = match class {
                Class::Load => self.for_loads.pause(work.for_loads(limit), limit, self.day, now_ms),
                _ => None,
            };
            if room == 0 || paced.is_some() {
                let wait = if room == 0 { self.next_release(now_ms) } else { paced.unwrap_or_default() };
                let own: u64 = work.spent.iter().sum();
                let because = format!(
                    "{own} calls of the last 24 hours are ours, of {limit} of the org's {maximum} that are our share (`budget.daily_share`); the rest is kept for work that goes first, or comes bit by bit"
                );
                return Err(Obstacle::Limit { wait, because });
            }
        }
        let with_most = self
            .accounts
            .iter()
            .map(|(shard, open)| (open.account.available(self.limit_of(*shard, open, now_ms)), *shard))
            .max()
            .filter(|(available, _)| *available > 0);
        let Some((_, shard)) = with_most else {
            let coming = self.accounts.is_empty()
                || self.wants(now_ms)
                || self.accounts.values().any(|open| open.account.is_asking());
            if coming || self.maximum.is_none() {
                return Err(Obstacle::Reservation);
            }
            let because =
                "all calls of the last 24 hours that are our share are spent or reserved".to_owned();
            return Err(Obstacle::Limit { wait: self.next_release(now_ms), because });
        };
        if let Some(account) = self.account(shard) {
            account.spend(class, now_ms);
        }
        if class == Class::Load {
            self.for_loads.take();
        }
        Ok(shard)
    }

    pub fn give_back(&mut self, shard: i32, class: Class) {
        if let Some(account) = self.account(shard) {
            account.give_back(class);
        }
        if class == Class::Load {
            self.for_loads.give_back();
        }
    }

    fn next_release(&self, now_ms: i64) -> Duration {
        let next = self.accounts.values().filter_map(|open| open.account.next_release_ms()).min();
        let wait = next.map_or(60_000, |next| (next - now_ms).max(1));
        Duration::from_millis(u64::try_from(wait).unwrap_or(0))
    }

    // ---- what waits ----

    /// True for the first that waits.
    pub fn waits(&mut self, purpose: Purpose, until: Stamp, because: &str, another: bool) -> bool {
        let first = !self.waiting.contains_key(&purpose);
        let waits = self.waiting.entry(purpose).or_insert_with(|| WaitingReport {
            purpose: purpose.word(),
            calls: 0,
            until,
            because: String::new(),
        });
        waits.calls += u64::from(another);
        waits.until = until;
        because.clone_into(&mut waits.because);
        first
    }

    pub fn waits_no_more(&mut self, purpose: Purpose) {
        if let Some(waits) = self.waiting.get_mut(&purpose) {
            waits.calls = waits.calls.saturating_sub(1);
            if waits.calls == 0 {
                self.waiting.remove(&purpose);
            }
        }
    }

    // ---- how far apart ----

    pub fn polled(&mut self) {
        self.windows = self.windows * MEMORY + 1.0;
        self.poll_calls *= MEMORY;
    }

    pub fn stretched(&self, purpose: Purpose, interval: Duration, seats: &Seats) -> Duration {
        let Some(limit) = self.limit() else { return interval };
        let work = self.work(seats);
        if purpose == Purpose::Refetch && !work.readings_are_short(limit) {
            return interval;
        }
        work.stretched(purpose, interval, limit, self.day)
    }

    fn work(&self, seats: &Seats) -> Work {
        let loads = self.last_load_ms.is_some_and(|at| {
            let part = i64::try_from((self.day / LOADS_PART).as_millis()).unwrap_or(i64::MAX);
            self.now_ms - at <= part
        });
        let waiting = self.waiting.contains_key(&Purpose::Load);
        let polling = seats.polling();
        // What sharing promises counts until it is measured.
        let expected = polling.div_ceil(super::super::query::QUERIES_PER_CALL) as f64 / polling.max(1) as f64;
        let calls_per_poll = (self.poll_calls + 4.0 * expected) / (self.windows + 4.0);
        Work {
            following: seats.following(),
            polling,
            calls_per_poll: calls_per_poll.clamp(0.2, 10.0),
            polls_wanted: seats.polls_a_day(self.day),
            loads: loads || waiting,
            spent: self.spent(),
        }
    }
}
