//! What a whole run will cost: every object's forecast, and what is asked before and beside them.
//!
//! Comes in: an outlook for each object, the calls of the start. Goes out: calls by purpose until everything is caught up, and
//! for each day after it. It knows what this room decides: how many loads read at once, what a start asks.

use std::time::Duration;

use super::CONCURRENT_LOADS;
use crate::capture::forecast::{Costs, Following, Load, Outlook, Sharing, descriptions};
use crate::salesforce::survey::SUBREQUESTS_PER_CALL;
use crate::salesforce::{Pace, Purpose};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug)]
pub struct Forecast {
    /// Until every object is loaded and caught up, the start included: what `run --once` uses.
    pub load: Costs,
    /// A day after that.
    pub day: Costs,
    /// In the order of the outlooks.
    pub loads: Vec<Load>,
    pub days: Vec<Costs>,
    /// Until the last load is over.
    pub takes: Duration,
}

impl Forecast {
    pub fn rows(&self) -> u64 {
        self.loads.iter().map(|load| load.rows).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.loads.iter().map(|load| load.bytes).sum()
    }

    pub fn jobs(&self) -> u64 {
        self.loads.iter().map(|load| load.jobs).sum()
    }
}

/// `start`: what is asked before any object is taken up; `describe`: how often it is asked what looks different.
pub fn forecast(start: &Costs, objects: &[Outlook], pace: &Pace, describe: Duration) -> Forecast {
    let loads: Vec<Load> = objects.iter().map(|object| object.load(pace)).collect();
    let sharing = Sharing::of(objects);
    let days: Vec<Costs> = objects.iter().map(|object| object.day(&sharing, pace)).collect();
    let (mut load, mut day) = (start.clone(), Costs::default());
    // Objects that are not loaded poll once, all at the same moment; a load ends when it ends.
    let unloaded = |object: &&Outlook| object.following == Following::Poll && object.load.is_none();
    let together = Sharing::at_once(objects.iter().filter(unloaded).count());
    let mut lanes = [Duration::ZERO; CONCURRENT_LOADS];
    for (object, its_load) in objects.iter().zip(&loads) {
        let mut loaded = Duration::ZERO;
        if its_load.door.is_some()
            && let Some(lane) = lanes.iter_mut().min()
        {
            *lane += its_load.takes;
            loaded = *lane;
        }
        let sharing = if object.load.is_none() { together } else { Sharing::default() };
        load.add_all(&object.until_caught_up(loaded, &sharing, pace));
    }
    days.iter().for_each(|costs| day.add_all(costs));
    let takes = lanes.into_iter().max().unwrap_or_default();
    if objects.iter().any(|object| object.following != Following::None) {
        load.add(Purpose::Describe, descriptions(takes, describe));
        day.add(Purpose::Describe, descriptions(DAY, describe));
    }
    Forecast { load, day, loads, days, takes }
}

/// Calls that describe so many objects of each shard: they share calls if they are taken up at once.
pub fn describes(by_shard: impl IntoIterator<Item = usize>) -> f64 {
    by_shard.into_iter().map(|objects| objects.div_ceil(SUBREQUESTS_PER_CALL)).sum::<usize>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DESCRIBE_INTERVAL, PollSettings};
    use crate::salesforce::Copying;

    #[test]
    fn a_thousand_objects_of_eight_shards_are_described_by_forty_calls() {
        assert_eq!(describes([125; 8]), 40.0);
        assert_eq!(describes([1, 0, 26, 25]), 4.0);
    }

    #[test]
    fn loads_that_wait_for_a_place_are_polled_meanwhile() {
        let outlook = Outlook {
            load: Some(2_000_000),
            row_bytes: 100,
            bulk: true,
            page_rows: 2_000,
            parts: Copying::Bulk.parts(),
            parents: None,
            following: Following::Poll,
            asks_for_deletions: true,
            asks_fit: false,
            blobs: 0,
            changes_per_day: 0.0,
            behind: Duration::ZERO,
            poll: PollSettings::default(),
        };
        let mut start = Costs::default();
        start.add(Purpose::Describe, 3.0);
        let of = |objects: usize| {
            let objects = vec![outlook.clone(); objects];
            forecast(&start, &objects, &Pace::default(), DESCRIBE_INTERVAL)
        };
        let (four, eight) = (of(4), of(8));
        assert_eq!(eight.takes, four.takes * 2, "four read at once");
        assert_eq!((four.jobs(), four.rows(), four.bytes()), (4, 8_000_000, 800_000_000));
        assert_eq!(eight.load.of(Purpose::Describe), 3.0);
        assert_eq!(eight.load.of(Purpose::Load), four.load.of(Purpose::Load) * 2.0);
        let (first, all) = (four.load.of(Purpose::Poll), eight.load.of(Purpose::Poll));
        assert!(all > first * 2.5, "the other four wait as long again: {first} {all}");
        let (of_four, of_eight) = (four.day.of(Purpose::Poll), eight.day.of(Purpose::Poll));
        assert!(of_eight < of_four * 2.0 && of_eight > of_four * 1.5, "some of them share calls");
        assert_eq!(eight.day.of(Purpose::Describe), 144.0, "one question for all");
    }

    #[test]
    fn a_restart_polls_all_objects_by_few_calls() {
        let outlook = Outlook {
            load: None,
            row_bytes: 100,
            bulk: true,
            page_rows: 2_000,
            parts: Copying::Bulk.parts(),
            parents: None,
            following: Following::Poll,
            asks_for_deletions: true,
            asks_fit: false,
            blobs: 0,
            changes_per_day: 0.0,
            behind: Duration::ZERO,
            poll: PollSettings::default(),
        };
        let restart = forecast(&Costs::default(), &vec![outlook; 8], &Pace::default(), DESCRIBE_INTERVAL);
        let calls = restart.load.rounded();
        assert_eq!(calls[&Purpose::Poll], 2, "{calls:?}");
        assert_eq!((calls.get(&Purpose::Describe), calls[&Purpose::Deletions]), (None, 8));
    }
}
