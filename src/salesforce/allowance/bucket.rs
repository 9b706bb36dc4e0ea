//! How loads take their calls: a part of a day's calls at once, the rest evenly over the day.
//!
//! Comes in: what loads may spend in a day, and when. Goes out: how long the next call has to wait. It bounds the pace alone;
//! what may be spent at all is for `classes` to say.

use std::time::Duration;

/// Loads may spend this part of a day's calls at once; the rest comes evenly.
const AT_ONCE: f64 = 0.5;

/// None yet: nobody has asked.
#[derive(Debug, Default)]
pub(super) struct Bucket(Option<Filled>);

#[derive(Clone, Copy, Debug)]
struct Filled {
    calls: f64,
    at_ms: i64,
    /// What all work may spend in a day. It grows while the shards of a start are claimed one after the other: each brings its
    /// part of what may be spent at once.
    limit: u64,
}

impl Bucket {
    /// How long the next call has to wait; none: it need not. `a_day`: what loads may spend in a day, of `limit`.
    pub fn pause(&mut self, a_day: f64, limit: u64, day: Duration, now_ms: i64) -> Option<Duration> {
        let most = (a_day * AT_ONCE).max(1.0);
        let per_ms = (a_day * (1.0 - AT_ONCE) / day.as_millis().max(1) as f64).max(f64::MIN_POSITIVE);
        let known = self.0.unwrap_or(Filled { calls: most, at_ms: now_ms, limit });
        let grown = limit.saturating_sub(known.limit) as f64 / limit.max(1) as f64;
        let came = (now_ms - known.at_ms).max(0) as f64 * per_ms;
        let calls = (known.calls + most * grown + came).min(most);
        self.0 = Some(Filled { calls, at_ms: now_ms, limit });
        (calls < 1.0).then(|| Duration::from_millis(((1.0 - calls) / per_ms).min(1e12) as u64 + 1))
    }

    pub fn take(&mut self) {
        self.change(-1.0);
    }

    pub fn give_back(&mut self) {
        self.change(1.0);
    }

    fn change(&mut self, by: f64) {
        if let Some(filled) = &mut self.0 {
            filled.calls += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// Calls that may be made at this moment, of a quarter of `limit` a day.
    fn drain(bucket: &mut Bucket, limit: u64, now_ms: i64) -> u32 {
        let mut calls = 0;
        while bucket.pause(limit as f64 / 4.0, limit, DAY, now_ms).is_none() {
            bucket.take();
            calls += 1;
        }
        calls
    }

    #[test]
    fn half_a_day_may_be_spent_at_once_and_the_rest_comes_evenly() {
        let mut bucket = Bucket::default();
        assert_eq!(drain(&mut bucket, 1_000, 0), 125);
        let pause = bucket.pause(250.0, 1_000, DAY, 0).unwrap();
        assert!(pause <= DAY / 125 + Duration::from_secs(1), "{pause:?}");
        assert_eq!(drain(&mut bucket, 1_000, DAY.as_millis() as i64 / 2), 62);
        bucket.give_back();
        assert_eq!(drain(&mut bucket, 1_000, DAY.as_millis() as i64 / 2), 1);
    }

    #[test]
    fn shards_that_are_claimed_one_after_the_other_bring_their_part() {
        let mut bucket = Bucket::default();
        let calls: u32 = (1..=8).map(|shards| drain(&mut bucket, shards * 125, 0)).sum();
        assert!((120..=125).contains(&calls), "{calls}");
        // Who gives shards up and gets them back has no more than the bucket holds.
        drain(&mut bucket, 125, 0);
        assert!(drain(&mut bucket, 1_000, 0) <= 125);
    }
}
