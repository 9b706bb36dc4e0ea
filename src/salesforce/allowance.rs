//! What may be asked of the org: calls at once, calls per second, and a share of its daily allowance.
//!
//! Comes in: every call before it is made, and every answer's `Sforce-Limit-Info`. Goes out: a [`Permit`], sooner or
//! later, and an [`Allowance`] that people can watch. Followed changes go before loads: loads leave a quarter of
//! the places at once and a tenth of the daily share free. Never: a call without a permit.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::config::BudgetSettings;
use crate::domain::Stamp;
use crate::error::Kind;
use crate::status::{Board, now};

use super::fault::{Cure, Fault};
use super::{Calls, Pace, Purpose};

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

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Our calls are counted in pieces of this length, and leave the day in such pieces.
const PIECE: Duration = Duration::from_secs(10 * 60);
/// Loads stop this far below the share, for followed changes.
const KEPT_FROM_LOADS: f64 = 0.1;
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
    daily_share: f64,
    spending: Mutex<Spending>,
    shown: watch::Sender<Allowance>,
    board: OnceLock<Arc<Board>>,
}

#[derive(Default)]
struct Spending {
    used: Option<u64>,
    maximum: Option<u64>,
    /// Start of a piece, and our billed calls in it.
    pieces: VecDeque<(Instant, u64)>,
    own: u64,
    calls: BTreeMap<Purpose, u64>,
    /// Of these, what the org counts.
    billed: BTreeMap<Purpose, u64>,
    /// The org said that its allowance is spent.
    closed_until: Option<Instant>,
    closed_times: u32,
}

impl Governor {
    pub fn new(budget: &BudgetSettings) -> Self {
        let concurrent = budget.concurrent.clamp(1, 1_000);
        let for_loads = (concurrent - concurrent.div_ceil(4)).max(1);
        let per_second = NonZeroU32::new(budget.per_second.max(1)).unwrap_or(NonZeroU32::MIN);
        Self {
            any: Arc::new(Semaphore::new(concurrent)),
            loads: Arc::new(Semaphore::new(for_loads)),
            rate: RateLimiter::direct(Quota::per_second(per_second)),
            clock: DefaultClock::default(),
            daily_share: budget.daily_share.clamp(0.0, 1.0),
            spending: Mutex::new(Spending::default()),
            shown: watch::channel(Allowance::default()).0,
            board: OnceLock::new(),
        }
    }

    pub fn report_to(&self, board: &Arc<Board>) {
        let _ = self.board.set(Arc::clone(board));
        // What was asked before counts too.
        for (purpose, calls) in self.billed() {
            (0..calls).for_each(|_| board.billed(purpose.word()));
        }
    }

    pub fn watch(&self) -> watch::Receiver<Allowance> {
        self.shown.subscribe()
    }

    pub fn calls(&self) -> Calls {
        self.spending().calls.clone()
    }

    /// Calls made so far that count against the org's allowance, by purpose.
    pub fn billed(&self) -> Calls {
        self.spending().billed.clone()
    }

    /// Waits for a place, the pace and the day's share. `billed`: the call counts against the org's allowance.
    pub async fn admit(
        &self,
        api: &'static str,
        purpose: Purpose,
        billed: bool,
        pace: &Pace,
    ) -> Result<Permit, Fault> {
        if billed {
            self.wait_for_allowance(purpose, pace).await?;
        }
        let load = match purpose {
            Purpose::Load => Some(place(&self.loads).await?),
            _ => None,
        };
        let any = place(&self.any).await?;
        while let Err(too_early) = self.rate.check() {
            tokio::time::sleep(too_early.wait_time_from(self.clock.now())).await;
        }
        self.count(api, purpose, billed);
        Ok(Permit { _any: any, _load: load })
    }

    /// A login is not billed and not paced, but counted.
    pub fn count(&self, api: &'static str, purpose: Purpose, billed: bool) {
        {
            let mut spending = self.spending();
            *spending.calls.entry(purpose).or_default() += 1;
            if billed {
                *spending.billed.entry(purpose).or_default() += 1;
                spending.spend(Instant::now());
            }
            self.show(&spending, None);
        }
        if let Some(board) = self.board.get() {
            board.called(api, purpose.word());
            if billed {
                board.billed(purpose.word());
            }
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
            let mut spending = self.spending();
            spending.used = Some(used);
            spending.maximum = Some(maximum);
            self.show(&spending, None);
        }
        if let Some(board) = self.board.get() {
            board.allowance(used, maximum);
        }
    }

    /// A billed call was answered. Calls that were under way when the org closed do not open it.
    pub fn succeeded(&self) {
        let mut spending = self.spending();
        if spending.closed_until.is_none_or(|until| until <= Instant::now()) {
            spending.closed_times = 0;
            spending.closed_until = None;
        }
    }

    /// The org refused a call because its allowance is spent.
    pub fn refused(&self, pace: &Pace) {
        let mut spending = self.spending();
        let now = Instant::now();
        if spending.closed_until.is_some_and(|until| until > now) {
            return;
        }
        let pause = pace.limit_pause * 2u32.saturating_pow(spending.closed_times).min(10);
        spending.closed_times += 1;
        spending.closed_until = Some(now + pause);
    }

    async fn wait_for_allowance(&self, purpose: Purpose, pace: &Pace) -> Result<(), Fault> {
        let mut said = false;
        loop {
            let (wait, because) = {
                let mut spending = self.spending();
                let Some((wait, because)) = spending.obstacle(purpose, self.daily_share) else {
                    if said {
                        tracing::info!(purpose = purpose.word(), "the allowance has room again");
                    }
                    self.show(&spending, None);
                    return Ok(());
                };
                if pace.wait_for_allowance {
                    self.show(&spending, Some((wait, &because)));
                }
                (wait, because)
            };
            if !pace.wait_for_allowance {
                return Err(Fault::new(Kind::ApiLimitReached, Cure::None, because));
            }
            if !said {
                said = true;
                tracing::warn!(
                    purpose = purpose.word(),
                    until = %now().plus(wait),
                    because,
                    "calls wait for the org's allowance"
                );
            }
            tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
        }
    }

    fn show(&self, spending: &Spending, waiting: Option<(Duration, &str)>) {
        self.shown.send_if_modified(|shown| {
            let next = Allowance {
                used: spending.used,
                maximum: spending.maximum,
                own: spending.own,
                waiting_until: waiting.map(|(wait, _)| now().plus(wait)),
                waiting_because: waiting.map(|(_, because)| because.to_owned()),
            };
            let differs = *shown != next;
            *shown = next;
            differs
        });
    }

    fn spending(&self) -> MutexGuard<'_, Spending> {
        self.spending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(|_| Fault::new(Kind::Internal, Cure::None, "the places for calls are closed"))
}

impl Spending {
    fn spend(&mut self, at: Instant) {
        self.forget(at);
        self.own += 1;
        match self.pieces.back_mut() {
            Some((start, count)) if at.duration_since(*start) < PIECE => *count += 1,
            _ => self.pieces.push_back((at, 1)),
        }
    }

    /// What lies a day back is no longer spent.
    fn forget(&mut self, at: Instant) {
        while let Some((start, count)) = self.pieces.front().copied() {
            if at.duration_since(start) < DAY + PIECE {
                break;
            }
            self.own = self.own.saturating_sub(count);
            self.pieces.pop_front();
        }
    }

    /// How long a call has to wait at least, and why.
    fn obstacle(&mut self, purpose: Purpose, daily_share: f64) -> Option<(Duration, String)> {
        let now = Instant::now();
        if let Some(until) = self.closed_until
            && until > now
        {
            let because = "Salesforce answered that the org's calls of the last 24 hours are used up";
            return Some((until - now, because.to_owned()));
        }
        self.forget(now);
        let maximum = self.maximum?;
        let share = match purpose {
            Purpose::Load => daily_share * (1.0 - KEPT_FROM_LOADS),
            _ => daily_share,
        };
        let limit = (maximum as f64 * share) as u64;
        if self.own < limit {
            return None;
        }
        let oldest = self
            .pieces
            .front()
            .map_or(LOOK_AGAIN, |(start, _)| (DAY + PIECE).saturating_sub(now.duration_since(*start)));
        let because = format!(
            "{} calls of the last 24 hours are ours, and {limit} of the org's {maximum} are the share for this work (`budget.daily_share`)",
            self.own
        );
        Some((oldest.max(Duration::from_secs(1)), because))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn governor(daily_share: f64, concurrent: usize) -> Governor {
        Governor::new(&BudgetSettings { daily_share, concurrent, per_second: 1_000 })
    }

    fn limit(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("sforce-limit-info", text.parse().unwrap());
        headers
    }

    #[test]
    fn the_usage_is_found_among_other_parts() {
        assert_eq!(parse_limit_info("api-usage=10018/100000"), Some((10_018, 100_000)));
        assert_eq!(
            parse_limit_info("per-app-api-usage=17/250(appName=x); api-usage=5/20; api-bursts=1/750"),
            Some((5, 20))
        );
        assert_eq!(parse_limit_info("per-app-api-usage=17/250"), None);
        assert_eq!(parse_limit_info("api-usage=/"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn loads_stop_before_followed_changes_and_both_go_on_when_the_day_has_passed() {
        let governor = governor(0.5, 4);
        let pace = Pace { wait_for_allowance: false, ..Pace::default() };
        governor.heard(&limit("api-usage=1/40"));
        let admit = async |purpose| governor.admit("rest", purpose, true, &pace).await;
        for _ in 0..18 {
            admit(Purpose::Load).await.unwrap();
        }
        let fault = admit(Purpose::Load).await.unwrap_err();
        assert_eq!(fault.kind, Kind::ApiLimitReached);
        assert!(fault.message.contains("18 of the org's 40"), "{}", fault.message);
        admit(Purpose::Poll).await.unwrap();
        admit(Purpose::Poll).await.unwrap();
        admit(Purpose::Poll).await.unwrap_err();

        let patient = Pace::default();
        let waiting = governor.watch();
        let before = Instant::now();
        governor.admit("rest", Purpose::Poll, true, &patient).await.unwrap();
        assert!(before.elapsed() >= DAY, "{:?}", before.elapsed());
        assert_eq!(waiting.borrow().waiting_until, None);
        assert_eq!(governor.calls()[&Purpose::Load], 18);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_org_is_left_alone_and_the_wait_is_told() {
        let governor = Arc::new(governor(1.0, 4));
        let pace = Pace::default();
        governor.refused(&pace);
        let mut shown = governor.watch();
        let before = Instant::now();
        let task = tokio::spawn({
            let (governor, pace) = (Arc::clone(&governor), pace.clone());
            async move { governor.admit("rest", Purpose::Poll, true, &pace).await.map(drop) }
        });
        shown.wait_for(|allowance| allowance.waiting_until.is_some()).await.unwrap();
        assert!(shown.borrow().waiting_because.as_deref().unwrap().contains("used up"));
        governor.succeeded();
        task.await.unwrap().unwrap();
        assert!(before.elapsed() >= pace.limit_pause, "an answer that was under way opens nothing");
        governor.refused(&pace);
        let again = Instant::now();
        governor.admit("rest", Purpose::Poll, true, &pace).await.unwrap();
        assert!(again.elapsed() >= pace.limit_pause * 2, "refused again, left alone for longer");
    }

    #[tokio::test(start_paused = true)]
    async fn loads_leave_places_for_followed_changes() {
        let governor = governor(1.0, 2);
        let pace = Pace::default();
        let _load = governor.admit("bulk", Purpose::Load, true, &pace).await.unwrap();
        let second = governor.admit("bulk", Purpose::Load, true, &pace);
        assert!(tokio::time::timeout(Duration::from_secs(5), second).await.is_err());
        governor.admit("rest", Purpose::Poll, true, &pace).await.unwrap();
    }
}
