//! Salesforce's clock, as its answers tell it: windows are cut by it, never by ours.
//!
//! Comes in: the `Date` header of every answer. Goes out: the server's time now, and a word when this machine's
//! clock is off. Never: a time of this machine taken for the server's.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::DATE;
use tokio::time::Instant;

use crate::domain::Stamp;

/// A clock that is off by more is told of: times in the log and the lag on the board are wrong by as much.
const NOTABLE: Duration = Duration::from_secs(30);
/// Told again only when it was right in between; this much less counts as right.
const RIGHT: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct ServerClock {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The server's clock and ours at the same moment.
    heard: Option<(Stamp, Instant)>,
    told: bool,
}

impl ServerClock {
    /// Whether it was ever heard.
    pub fn is_known(&self) -> bool {
        self.lock().heard.is_some()
    }

    /// Never ahead of the server; it may step back by a second between two answers. Before the first answer: 1970.
    pub fn now(&self) -> Stamp {
        self.lock().heard.map_or_else(Stamp::default, |(server, at)| server.plus(at.elapsed()))
    }

    /// An answer came just now.
    pub fn heard(&self, headers: &HeaderMap) {
        self.heard_at(headers, SystemTime::now());
    }

    fn heard_at(&self, headers: &HeaderMap, ours: SystemTime) {
        let date = headers
            .get(DATE)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| httpdate::parse_http_date(text).ok())
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let Some(server) = date else { return };
        let ours = ours.duration_since(UNIX_EPOCH).unwrap_or_default();
        let whole = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        // The header is cut to the second: on average half of one is missing.
        let ahead_ms = whole(ours) - whole(server) - 500;
        let off = Duration::from_millis(ahead_ms.unsigned_abs());
        let tell = {
            let mut state = self.lock();
            state.heard = Some((Stamp::default().plus(server), Instant::now()));
            let tell = off > NOTABLE && !state.told;
            state.told = off > NOTABLE || (state.told && off > RIGHT);
            tell
        };
        if tell {
            tracing::warn!(
                seconds = off.as_secs(),
                direction = if ahead_ms > 0 { "ahead" } else { "behind" },
                hint = "set this machine's clock (NTP): changes are cut by Salesforce's clock and none is lost, but lag and the log's times are wrong by as much",
                "this machine's clock differs from Salesforce's"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_difference_is_told_once_until_the_clock_was_right_again() {
        let clock = ServerClock::default();
        let server = UNIX_EPOCH + Duration::from_secs(1_779_179_400);
        let mut headers = HeaderMap::new();
        assert!(!clock.is_known());
        clock.heard_at(&headers, server);
        assert!(!clock.is_known(), "an answer without the header says nothing");
        headers.insert(DATE, HeaderValue::from_str(&httpdate::fmt_http_date(server)).unwrap());
        let told_at = |ahead: i64| {
            let ours = Duration::from_millis(ahead.unsigned_abs());
            clock.heard_at(&headers, if ahead < 0 { server - ours } else { server + ours });
            clock.lock().told
        };
        assert!(!told_at(30_000));
        assert!(told_at(31_000) && told_at(25_000));
        assert!(!told_at(900));
        assert!(told_at(-40_000));
        assert!(clock.now() >= Stamp(1_779_179_400_000), "the server's clock is none of ours");
    }
}
