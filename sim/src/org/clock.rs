//! The org's own time: real time by default, faster or pushed ahead when a test wants it.
//!
//! Comes in: the machine's clock, a rate, jumps. Goes out: milliseconds since 1970 UTC that never run
//! backwards. Everything that stamps, expires or becomes visible asks here and nowhere else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<Mutex<Face>>,
}

#[derive(Debug)]
struct Face {
    /// Org time when `since` was taken.
    base_ms: i64,
    since: Instant,
    rate: f64,
}

impl Face {
    fn now_ms(&self) -> i64 {
        self.base_ms + (self.since.elapsed().as_secs_f64() * self.rate * 1_000.0) as i64
    }

    fn rebase(&mut self) {
        self.base_ms = self.now_ms();
        self.since = Instant::now();
    }
}

impl Clock {
    /// The machine's time, running at its speed.
    pub fn real() -> Clock {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock::starting_at(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
    }

    /// A clock that starts at the given moment and runs at real speed.
    pub fn starting_at(ms: i64) -> Clock {
        Clock { inner: Arc::new(Mutex::new(Face { base_ms: ms, since: Instant::now(), rate: 1.0 })) }
    }

    /// A clock that stands still until it is advanced.
    pub fn stopped_at(ms: i64) -> Clock {
        let clock = Clock::starting_at(ms);
        clock.set_rate(0.0);
        clock
    }

    fn face(&self) -> std::sync::MutexGuard<'_, Face> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now_ms(&self) -> i64 {
        self.face().now_ms()
    }

    /// How many org seconds pass in a real second; 60 makes an hour pass in a minute, 0 stops the clock.
    /// Negative or unreal rates count as 0.
    pub fn set_rate(&self, rate: f64) {
        let mut face = self.face();
        face.rebase();
        face.rate = if rate.is_finite() { rate.max(0.0) } else { 0.0 };
    }

    pub fn rate(&self) -> f64 {
        self.face().rate
    }

    /// Jumps ahead.
    pub fn advance(&self, by: Duration) {
        let mut face = self.face();
        face.rebase();
        face.base_ms += i64::try_from(by.as_millis()).unwrap_or(0);
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::real()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_clock_moves_only_when_pushed() {
        let clock = Clock::stopped_at(1_000);
        assert_eq!(clock.now_ms(), 1_000);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(clock.now_ms(), 3_601_000);
    }

    #[test]
    fn a_changed_rate_never_takes_time_back() {
        let clock = Clock::starting_at(0);
        clock.set_rate(1_000_000.0);
        let mut last = clock.now_ms();
        for rate in [60.0, 0.0, 3_600.0, f64::NAN, -5.0, 1.0] {
            clock.set_rate(rate);
            let now = clock.now_ms();
            assert!(now >= last);
            last = now;
        }
    }
}
