//! What may be asked of the org: calls at once, calls per second, and a share of its daily allowance.
//!
//! Comes in: every call before it is made, and every answer's `Sforce-Limit-Info`. Goes out: a [`Permit`], sooner or
//! later, and an [`Allowance`] that people can watch. A process alone counts for itself; in a pipeline every shard has
//! an account of its own, and what is spent is reserved in the shard's control partition before. Followed changes go
//! before deletions, readings and loads (`classes`). Never: a billed call that is not charged to an account.

mod account;
mod books;
mod bucket;
mod classes;
mod handle;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::config::BudgetSettings;
use crate::domain::Stamp;
use crate::error::Kind;
use crate::status::{Board, BudgetReport, now};

use super::company::Seats;
use super::fault::{Cure, Fault};
use super::{Calls, Pace, Purpose};
use books::{Books, Obstacle};
use classes::Class;

pub use account::KEY as BUDGET_KEY;
#[cfg(any(test, feature = "fuzzing"))]
pub use account::budget_again;
pub use handle::BudgetAccount;

/// What the org and we have spent, and whether calls wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allowance {
    /// Calls of the last 24 hours by whomever, and the org's daily maximum, as last heard.
    pub used: Option<u64>,
    pub maximum: Option<u64>,
    /// Our own calls of the last 24 hours.
    pub own: u64,
    /// Calls wait until about then.
    pub waiting_until: Option<Stamp>,
    pub waiting_because: Option<String>,
}

/// While waiting, how often the numbers are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The right to make one call; hold it while the call is under way.
#[derive(Debug)]
pub(super) struct Permit {
    _any: OwnedSemaphorePermit,
    _load: Option<OwnedSemaphorePermit>,
}

pub(super) struct Governor {
    any: Arc<Semaphore>,
    loads: Arc<Semaphore>,
    rate: DefaultDirectRateLimiter,
    clock: DefaultClock,
    started: Instant,
    seats: Arc<Seats>,
    books: Mutex<Books>,
    /// Calls that wait look again.
    changed: Notify,
    /// Accounts that want a reservation look again.
    wanted: Notify,
    shown: watch::Sender<Allowance>,
    board: OnceLock<Arc<Board>>,
}

/// A call that is charged; if it is not made after all it is given back.
struct Charged<'g> {
    governor: &'g Governor,
    shard: i32,
    class: Class,
    made: bool,
}

impl Drop for Charged<'_> {
    fn drop(&mut self) {
        if !self.made {
            self.governor.books().give_back(self.shard, self.class);
            self.governor.changed.notify_waiters();
        }
    }
}

/// Calls that wait are shown while they do.
struct Waiting<'g>(&'g Governor, Purpose);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut books = self.0.books();
        books.waits_no_more(self.1);
        self.0.show(&books);
    }
}

impl Governor {
    pub fn new(budget: &BudgetSettings, day: Duration, seats: &Arc<Seats>) -> Self {
        let concurrent = budget.concurrent.clamp(1, 1_000);
        let for_loads = (concurrent - concurrent.div_ceil(4)).max(1);
        let per_second = NonZeroU32::new(budget.per_second.max(1)).unwrap_or(NonZeroU32::MIN);
        Self {
            any: Arc::new(Semaphore::new(concurrent)),
            loads: Arc::new(Semaphore::new(for_loads)),
            rate: RateLimiter::direct(Quota::per_second(per_second)),
            clock: DefaultClock::default(),
            started: Instant::now(),
            seats: seats.clone(),
            books: Mutex::new(Books::new(budget.daily_share.clamp(0.0, 1.0), day)),
            changed: Notify::new(),
            wanted: Notify::new(),
            shown: watch::channel(Allowance::default()).0,
            board: OnceLock::new(),
        }
    }

    pub fn report_to(&self, board: &Arc<Board>) {
        let _ = self.board.set(Arc::clone(board));
        self.show(&self.books());
        // What was asked before counts too.
        for (purpose, calls) in self.billed() {
            (0..calls).for_each(|_| board.billed(purpose.word()));
        }
    }

    pub fn watch(&self) -> watch::Receiver<Allowance> {
        self.shown.subscribe()
    }

    pub fn calls(&self) -> Calls {
        self.books().calls.clone()
    }

    /// Calls made so far that count against the org's allowance.
    pub fn billed(&self) -> Calls {
        self.books().billed.clone()
    }

    /// Our own clock: what accounts go by.
    fn now_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Waits for the day's share, a place and the pace. `billed`: the call counts against the org's allowance.
    pub async fn admit(
        &self,
        api: &'static str,
        purpose: Purpose,
        billed: bool,
        pace: &Pace,
    ) -> Result<Permit, Fault> {
        let load = match purpose {
            Purpose::Load => Some(place(&self.loads).await?),
            _ => None,
        };
        // Before the place: who waits for calls takes it from nobody.
        let mut charged = match billed {
            true => Some(self.charge(purpose, pace).await?),
            false => None,
        };
        let any = place(&self.any).await?;
        while let Err(too_early) = self.rate.check() {
            tokio::time::sleep(too_early.wait_time_from(self.clock.now())).await;
        }
        if let Some(charged) = &mut charged {
            charged.made = true;
        }
        self.count(api, purpose);
        if billed {
            *self.books().billed.entry(purpose).or_default() += 1;
            if let Some(board) = self.board.get() {
                board.billed(purpose.word());
            }
        }
        Ok(Permit { _any: any, _load: load })
    }

    /// A login is not billed and not paced, but counted.
    pub fn count(&self, api: &'static str, purpose: Purpose) {
        {
            let mut books = self.books();
            books.called(purpose);
            self.show(&books);
        }
        if let Some(board) = self.board.get() {
            board.called(api, purpose.word());
        }
    }

    /// Learns from an answer.
    pub fn heard(&self, headers: &HeaderMap) {
        let Some((used, maximum)) =
            headers.get("sforce-limit-info").and_then(|value| value.to_str().ok()).and_then(parse_limit_info)
        else {
            return;
        };
        {
            let mut books = self.books();
            let differs = books.maximum != Some(maximum);
            books.used = Some(used);
            books.maximum = Some(maximum);
            self.show(&books);
            if differs {
                self.changed.notify_waiters();
                self.wanted.notify_waiters();
            }
        }
        if let Some(board) = self.board.get() {
            board.allowance(used, maximum);
        }
    }

    /// A billed call was answered. Calls that were under way when the org closed do not open it.
    pub fn succeeded(&self) {
        let mut books = self.books();
        if books.closed_until.is_none_or(|until| until <= Instant::now()) {
            books.closed_times = 0;
            books.closed_until = None;
        }
    }

    /// The org refused a call because its allowance is spent.
    pub fn refused(&self, pace: &Pace) {
        let mut books = self.books();
        let now = Instant::now();
        if books.closed_until.is_some_and(|until| until > now) {
            return;
        }
        let pause = pace.limit_pause * 2u32.saturating_pow(books.closed_times).min(10);
        books.closed_times += 1;
        books.closed_until = Some(now + pause);
    }

    /// How far apart regular calls of this purpose should be, at least `interval`.
    pub fn stretched(&self, purpose: Purpose, interval: Duration) -> Duration {
        self.books().stretched(purpose, interval, &self.seats)
    }

    /// A window was read to its end: what polls cost is measured.
    pub fn polled(&self) {
        self.books().polled();
    }

    async fn charge(&self, purpose: Purpose, pace: &Pace) -> Result<Charged<'_>, Fault> {
        let class = Class::of(purpose);
        let mut waiting: Option<Waiting<'_>> = None;
        let mut said = false;
        loop {
            // What changes from here on wakes us.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let obstacle = {
                let mut books = self.books();
                let now_ms = self.now_ms();
                let obstacle = match books.charge(purpose, now_ms, &self.seats) {
                    Ok(shard) => {
                        if books.wants(now_ms) {
                            self.wanted.notify_waiters();
                        }
                        drop(books);
                        if said {
                            tracing::info!(purpose = purpose.word(), "the allowance has room again");
                        }
                        drop(waiting);
                        return Ok(Charged { governor: self, shard, class, made: false });
                    }
                    Err(obstacle) => obstacle,
                };
                if books.wants(now_ms) {
                    self.wanted.notify_waiters();
                }
                if let Obstacle::Limit { wait, because } = &obstacle
                    && pace.wait_for_allowance
                {
                    let first = books.waits(purpose, now().plus(*wait), because, waiting.is_none());
                    waiting.get_or_insert_with(|| Waiting(self, purpose));
                    self.show(&books);
                    if first {
                        said = true;
                        tracing::warn!(
                            purpose = purpose.word(),
                            until = %now().plus(*wait),
                            because,
                            "calls wait for the org's allowance"
                        );
                    }
                }
                obstacle
            };
            let wait = match obstacle {
                Obstacle::Limit { because, .. } if !pace.wait_for_allowance => {
                    return Err(Fault::new(Kind::ApiLimitReached, Cure::None, because));
                }
                Obstacle::Limit { wait, .. } => wait.min(LOOK_AGAIN),
                Obstacle::Reservation => LOOK_AGAIN,
            };
            // Whichever comes first.
            let _ = tokio::time::timeout(wait, changed).await;
        }
    }

    fn show(&self, books: &Books) {
        let waiting = books.waiting.values().min_by_key(|waits| waits.until);
        let next = Allowance {
            used: books.used,
            maximum: books.maximum,
            own: books.spent().iter().sum(),
            waiting_until: waiting.map(|waits| waits.until),
            waiting_because: waiting.map(|waits| waits.because.clone()),
        };
        self.shown.send_if_modified(|shown| {
            let differs = *shown != next;
            *shown = next;
            differs
        });
        if let Some(board) = self.board.get() {
            board.budget(BudgetReport {
                limit: books.limit(),
                spent: books.spent().iter().sum(),
                by_class: Class::ALL
                    .iter()
                    .zip(books.spent())
                    .map(|(class, spent)| (class.word(), spent))
                    .collect(),
                waiting: books.waiting.values().cloned().collect(),
            });
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(|_| Fault::new(Kind::Internal, Cure::None, "the places for calls are closed"))
}

/// `api-usage=10018/100000` anywhere in the header.
fn parse_limit_info(text: &str) -> Option<(u64, u64)> {
    // "per-app-api-usage=" ends alike.
    let numbers = text.split([';', ',', ' ']).find_map(|part| part.trim().strip_prefix("api-usage="))?;
    let (used, maximum) = numbers.split_once('/')?;
    let digits = |text: &str| {
        let end = text.bytes().take_while(u8::is_ascii_digit).count();
        text.get(..end)?.parse().ok()
    };
    Some((digits(used)?, digits(maximum)?))
}
