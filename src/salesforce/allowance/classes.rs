//! Who goes first when calls are short: followed changes, deletions, readings of single records, loads.
//!
//! Comes in: what may be spent in a day, what was spent by class, what there is to do. Goes out: how many calls a class
//! may make now, and how far apart regular calls have to be so that a day's calls last for a day. A class cannot eat
//! into what is kept for those before it. Pure numbers; nothing here waits.

use std::time::Duration;

use super::super::Purpose;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Polls, streams and the descriptions that both need.
    Live,
    Deletions,
    Refetch,
    Load,
}

/// Calls by class, in the order of [`Class`].
pub(super) type Counts = [u64; 4];

impl Class {
    pub const ALL: [Self; 4] = [Self::Live, Self::Deletions, Self::Refetch, Self::Load];

    pub fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Load => Self::Load,
            Purpose::Deletions => Self::Deletions,
            Purpose::Refetch => Self::Refetch,
            Purpose::Login | Purpose::Check | Purpose::Describe | Purpose::Poll | Purpose::Subscribe => {
                Self::Live
            }
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Deletions => "deletions",
            Self::Refetch => "refetch",
            Self::Load => "loads",
        }
    }
}

/// Shares of the day's calls that are kept for a class while there is work for it.
const FOR_DELETIONS: f64 = 0.10;
const FOR_DESCRIPTIONS: f64 = 0.05;
const FOR_LOADS: f64 = 0.25;
/// With subscribed objects, and with polled ones alone.
const FOR_READINGS: (f64, f64) = (0.15, 0.05);
/// More is kept for polls than they need by plan: pages, repeats, sessions that end.
const SPARE: f64 = 1.5;

/// The work of this process, as far as it decides on shares.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Objects that are followed, and those of them that are polled.
    pub following: usize,
    pub polling: usize,
    /// Calls that one poll takes, on average: below 1 where polls share calls.
    pub calls_per_poll: f64,
    /// Polls that the settings ask for in a day, all objects together.
    pub polls_wanted: f64,
    /// There is a load.
    pub loads: bool,
    /// Calls of the last day.
    pub spent: Counts,
}

impl Work {
    fn readings(self) -> f64 {
        match self.following {
            0 => 0.0,
            following if following > self.polling => FOR_READINGS.0,
            _ => FOR_READINGS.1,
        }
    }

    /// The calls of a day that polls may use up: what nobody else has a claim on, nor had. What a load has spent is not there
    /// again before it is a day old.
    fn polls(self, limit: f64) -> f64 {
        let [_, deletions, readings, loads] = self.spent.map(|spent| spent as f64);
        let loads = loads.max(if self.loads { limit * FOR_LOADS } else { 0.0 });
        let deletions = deletions.max(limit * FOR_DELETIONS);
        let readings = readings.max(limit * self.readings());
        (limit * (1.0 - FOR_DESCRIPTIONS) - deletions - readings - loads).max(1.0)
    }

    /// Calls of a day that are kept for each class.
    fn kept(self, limit: u64) -> [f64; 4] {
        let limit = limit as f64;
        if self.following == 0 {
            return [limit * FOR_DESCRIPTIONS, 0.0, 0.0, 0.0];
        }
        let needed = self.polls_wanted * self.calls_per_poll * SPARE;
        let polls = self.polls(limit).min(needed);
        [polls + limit * FOR_DESCRIPTIONS, limit * FOR_DELETIONS, limit * self.readings(), 0.0]
    }

    /// How many calls a class may make now, of `limit` a day.
    pub fn room(self, class: Class, limit: u64) -> u64 {
        let spent = &self.spent;
        let all: u64 = spent.iter().sum();
        let kept = self.kept(limit);
        let before: f64 = Class::ALL
            .iter()
            .zip(kept.iter().zip(spent))
            .filter(|(other, _)| **other < class)
            .map(|(_, (kept, spent))| (kept - *spent as f64).max(0.0))
            .sum();
        limit.saturating_sub(all).saturating_sub(before.ceil() as u64)
    }

    /// What loads may spend in a day.
    pub fn for_loads(self, limit: u64) -> f64 {
        (limit as f64 - self.kept(limit).iter().sum::<f64>()).max(0.0)
    }

    /// Whether single records were read so often that the day's calls for it may not last.
    pub fn readings_are_short(self, limit: u64) -> bool {
        let [_, _, readings, _] = self.spent;
        readings as f64 > limit as f64 * self.readings() / 2.0
    }

    /// How far apart calls of this purpose have to be, at least `interval`, that a day's calls last for a day.
    pub fn stretched(self, purpose: Purpose, interval: Duration, limit: u64, day: Duration) -> Duration {
        let limit = limit as f64;
        let (calls, a_day) = match purpose {
            Purpose::Poll => (self.polling as f64 * self.calls_per_poll, self.polls(limit)),
            Purpose::Deletions => (self.following as f64, limit * FOR_DELETIONS),
            Purpose::Refetch => {
                ((self.following - self.polling.min(self.following)) as f64, limit * self.readings())
            }
            Purpose::Describe => (1.0, limit * FOR_DESCRIPTIONS),
            _ => return interval,
        };
        if calls <= 0.0 {
            return interval;
        }
        let needed = day.as_secs_f64() * calls / a_day.max(f64::MIN_POSITIVE);
        let needed = Duration::try_from_secs_f64(needed).unwrap_or(day * 1_000);
        let factor = needed.as_secs_f64() / interval.as_secs_f64().max(1e-3);
        if factor <= 1.0 { interval } else { interval.mul_f64(step(factor)) }
    }
}

/// The next of 1, 2, 3, 4, 6, 8, 12, …: those who ask one after another get the same answer and stay on one grid.
fn step(factor: f64) -> f64 {
    let mut step = 1.0;
    while step < factor && step < 1e9 {
        if step * 1.5 >= factor && step > 1.0 {
            return step * 1.5;
        }
        step *= 2.0;
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// Thirty objects that are polled every 30 s, five to a call, and loads beside them.
    fn thirty() -> Work {
        let polls_wanted = 30.0 * DAY.as_secs_f64() / 30.0;
        Work { following: 30, polling: 30, calls_per_poll: 0.2, polls_wanted, loads: true, spent: [0; 4] }
    }

    fn room(work: Work, class: Class, spent: Counts) -> u64 {
        Work { spent, ..work }.room(class, 1_000)
    }

    #[test]
    fn polls_of_thirty_objects_last_for_a_day_of_a_thousand_calls() {
        let interval = thirty().stretched(Purpose::Poll, Duration::from_secs(30), 1_000, DAY);
        let calls = 6.0 * DAY.as_secs_f64() / interval.as_secs_f64();
        assert!((250.0..=550.0).contains(&calls), "{interval:?}: {calls} calls a day");
        let alone = Work { loads: false, ..thirty() };
        assert!(alone.stretched(Purpose::Poll, Duration::from_secs(30), 1_000, DAY) <= interval);
        let rich = thirty().stretched(Purpose::Poll, Duration::from_secs(30), 50_000, DAY);
        assert_eq!(rich, Duration::from_secs(30), "nothing is stretched that lasts");
    }

    #[test]
    fn what_is_kept_for_a_class_cannot_be_had_by_those_behind_it() {
        let work = thirty();
        assert_eq!(room(work, Class::Live, [0; 4]), 1_000);
        let for_loads = room(work, Class::Load, [0; 4]);
        assert!((200..=300).contains(&for_loads), "{for_loads}");
        // Loads have had all that they can get: everybody before them has its own still.
        let spent = [0, 0, 0, for_loads];
        assert_eq!(room(work, Class::Load, spent), 0);
        assert!(room(work, Class::Refetch, spent) >= 50);
        assert!(room(work, Class::Deletions, spent) >= 100);
        assert_eq!(room(work, Class::Live, spent), 1_000 - for_loads);
        // What live capture has spent of its own takes nothing from the others.
        assert_eq!(room(work, Class::Load, [400, 0, 0, 0]), for_loads);
        assert_eq!(room(work, Class::Live, [700, 100, 50, 150]), 0);
    }

    #[test]
    fn what_a_load_has_spent_is_not_promised_to_polls_when_it_is_over() {
        let over = Work { loads: false, ..thirty() };
        let spent = [356, 30, 0, 185];
        assert!(room(over, Class::Deletions, spent) >= 70, "deletions have their own still");
        assert!(room(over, Class::Refetch, spent) >= 50);
        let interval = |spent| {
            let work = Work { spent, ..over };
            work.stretched(Purpose::Poll, Duration::from_secs(1), 1_000, DAY)
        };
        assert!(interval([0, 0, 0, 600]) > interval([0; 4]) * 2);
        // Polls that use up what they may leave everybody else's.
        let polls = over.polls(1_000.0) as u64 - 185;
        assert!(room(over, Class::Deletions, [polls, 30, 0, 185]) >= 70);
    }

    #[test]
    fn loads_get_nearly_all_where_nothing_is_followed_or_little_is_needed() {
        assert_eq!(Work::default().room(Class::Load, 1_000), 950);
        let few = Work { following: 1, polling: 1, calls_per_poll: 1.0, polls_wanted: 2_880.0, ..thirty() };
        assert!(few.room(Class::Load, 100_000) > 70_000);
    }

    #[test]
    fn stretched_intervals_come_in_steps() {
        let steps: Vec<f64> =
            [0.5, 1.1, 2.0, 2.1, 3.5, 4.5, 7.0, 12.1].iter().map(|factor| step(*factor)).collect();
        assert_eq!(steps, [1.0, 2.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0]);
    }
}
