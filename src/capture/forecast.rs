//! What an object will cost in calls: its load, and each day after it. A pure function of what is known before a run.
//!
//! Comes in: an [`Outlook`]: rows, sizes, settings, how it is followed. Goes out: [`Costs`] by purpose. It follows the same
//! rules and constants as the real readers (`load`, `poll`, `deletions`, `bulk`), so that a change there changes the forecast;
//! what cannot be known (how long a job takes, when changes come) is assumed here and nowhere else. It never asks anybody.

mod by_parts;

use std::collections::BTreeMap;
use std::time::Duration;

use super::blobs::FETCHES;
use super::condition::IDS_PER_QUESTION;
use super::deletions::{asks_for_deletions, deletions_interval};
use super::object::REST_LOAD_ROWS;
use super::page_size::PageSize;
use super::poll::pause_after;
use crate::config::PollSettings;
use crate::domain::ObjectDescription;
use crate::salesforce::{Calls, Copying, Pace, Part, Purpose, bulk, query};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A Bulk job waits and prepares about so long before its rows.
const JOB_BEGINS: Duration = Duration::from_secs(5);
/// And makes about so many rows a second; an org with many indexes or little load is several times as fast. The number of
/// looks hardly depends on it: they become rarer the longer a job takes.
const JOB_ROWS_PER_SECOND: u64 = 10_000;
/// From a question to the end of its answer.
const ANSWER: Duration = Duration::from_millis(200);
/// A quiet stream gives a sign of life this often (`pubsub.md` 1.6), and what is due is done then.
const SIGN_OF_LIFE: Duration = Duration::from_secs(270);
/// The server's clock is known to the second: the first window opens so long after the load began, beside the settle time.
const FIRST_WINDOW: Duration = Duration::from_secs(1);
/// Records that one reading by id takes.
const IDS_PER_CALL: f64 = 2_000.0;

/// Calls by purpose, as expected values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs(BTreeMap<Purpose, f64>);

impl Costs {
    pub fn add(&mut self, purpose: Purpose, calls: f64) {
        if calls > 0.0 {
            *self.0.entry(purpose).or_default() += calls;
        }
    }

    pub fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(purpose, calls)| self.add(*purpose, *calls));
    }

    pub fn of(&self, purpose: Purpose) -> f64 {
        self.0.get(&purpose).copied().unwrap_or_default()
    }

    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }

    /// In whole calls.
    pub fn rounded(&self) -> Calls {
        let whole = self.0.iter().map(|(purpose, calls)| (*purpose, calls.round() as u64));
        whole.filter(|(_, calls)| *calls > 0).collect()
    }
}

/// How changes are found once the object is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    Poll,
    /// `rereads`: records are read whole for what events leave out, gathered for so long.
    Subscribe {
        rereads: Option<Duration>,
    },
    None,
}

/// How a load reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Bulk,
    Rest,
}

/// What is known of an object before a run.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// Live rows that are still to be loaded; none: it is not loaded (any more).
    pub load: Option<u64>,
    /// Of a row as it is held in memory.
    pub row_bytes: u64,
    pub bulk: bool,
    /// Rows of a page by REST.
    pub page_rows: u64,
    /// What a load by REST reads one after the other.
    pub parts: &'static [Part],
    /// Records by whose ids rows are read, as many as a load meets; none: nobody told, or none are.
    pub parents: Option<u64>,
    pub following: Following,
    pub asks_for_deletions: bool,
    /// Of records that changed it is asked whether they fit a condition.
    pub asks_fit: bool,
    /// Fields of a record whose bytes are fetched, by a call each.
    pub blobs: u64,
    /// Rows saved in a day, taken to come evenly.
    pub changes_per_day: f64,
    /// What is read of the time before now: since the last run.
    pub behind: Duration,
    pub poll: PollSettings,
}

impl Outlook {
    /// An object of `rows` rows that nothing is known of but its description.
    pub fn new(object: &ObjectDescription, rows: u64, following: Following, poll: &PollSettings) -> Self {
        Self {
            load: Some(rows),
            row_bytes: row_bytes(object),
            bulk: object.bulk,
            page_rows: query::page_rows(object),
            parts: Copying::of(&object.name).parts(),
            parents: None,
            following: if object.cursor.is_some() { following } else { Following::None },
            asks_for_deletions: asks_for_deletions(object),
            asks_fit: false,
            blobs: object.blobs().count() as u64,
            changes_per_day: 0.0,
            behind: Duration::ZERO,
            poll: poll.clone(),
        }
    }
}

/// What all objects together do to the cost of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sharing {
    /// Polls that share a call, on average.
    pub polls_per_call: f64,
    /// The budget lets nobody poll more often.
    pub least_pause: Duration,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { polls_per_call: 1.0, least_pause: Duration::ZERO }
    }
}

impl Sharing {
    /// So many polls at the same moment.
    pub fn at_once(polls: usize) -> Self {
        let calls = polls.div_ceil(query::QUERIES_PER_CALL);
        let polls_per_call = if calls > 0 { polls as f64 / calls as f64 } else { 1.0 };
        Self { polls_per_call, ..Self::default() }
    }

    /// Of objects that are followed day after day: all polls of a process come at the moments of one grid, each object's at
    /// those that its pauses lead to.
    pub fn of(objects: &[Outlook]) -> Self {
        let alone = Self::default();
        let polled: Vec<&Outlook> =
            objects.iter().filter(|object| object.following == Following::Poll).collect();
        let Some(grid) = polled.iter().map(|object| object.poll.interval).min() else { return alone };
        let moments = DAY.as_secs_f64() / grid.as_secs_f64().max(0.001);
        // How likely it is that so many polls meet at a moment.
        let mut meet = vec![1.0];
        let mut polls = 0.0;
        for object in polled {
            let due = (object.polls_a_day(&alone) / moments).min(1.0);
            polls += due;
            meet.push(0.0);
            for many in (0..meet.len()).rev() {
                let one_less =
                    many.checked_sub(1).and_then(|less| meet.get(less)).copied().unwrap_or_default();
                if let Some(chance) = meet.get_mut(many) {
                    *chance = *chance * (1.0 - due) + one_less * due;
                }
            }
        }
        let calls = |(polls, chance): (usize, &f64)| polls.div_ceil(query::QUERIES_PER_CALL) as f64 * chance;
        let calls: f64 = meet.iter().enumerate().map(calls).sum();
        Self { polls_per_call: if calls > 0.0 { (polls / calls).max(1.0) } else { 1.0 }, ..alone }
    }
}

/// How often a process asks whether descriptions have changed, in so long a time: one call for all its objects.
pub fn descriptions(during: Duration, interval: Duration) -> f64 {
    (during.as_secs_f64() / interval.as_secs_f64()).floor()
}

/// A load, until its last row is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    pub door: Option<Door>,
    pub rows: u64,
    pub bytes: u64,
    pub jobs: u64,
    pub pages: u64,
    pub calls: f64,
    pub takes: Duration,
}

impl Outlook {
    /// The load alone.
    pub fn load(&self, pace: &Pace) -> Load {
        let Some(rows) = self.load else { return Load::default() };
        let bytes = rows.saturating_mul(self.row_bytes);
        if self.bulk && rows > REST_LOAD_ROWS {
            let (calls, pages, takes) = self.job(rows, pace);
            return Load { door: Some(Door::Bulk), rows, bytes, jobs: 1, pages, calls, takes };
        }
        let pages = by_parts::calls(self.parts, rows, self.parents, self.page_rows);
        let blobs = rows.saturating_mul(self.blobs);
        let takes = answers(pages.saturating_add(blobs / FETCHES as u64));
        let calls = pages.saturating_add(blobs) as f64;
        Load { door: Some(Door::Rest), rows, bytes, jobs: 0, pages, calls, takes }
    }

    /// A Bulk job of so many rows: created, looked at, its pages, deleted.
    fn job(&self, rows: u64, pace: &Pace) -> (f64, u64, Duration) {
        let made = JOB_BEGINS + Duration::from_secs(rows / JOB_ROWS_PER_SECOND);
        let pages = PageSize::pages(rows, self.row_bytes);
        let calls = 1 + bulk::looks(pace, made) + pages + 1;
        (calls as f64, pages, made + answers(pages))
    }

    /// Everything from the start to the moment when the object is loaded and caught up; `loaded`: how long after the start
    /// its load is over. What `run --once` uses.
    pub fn until_caught_up(&self, loaded: Duration, sharing: &Sharing, pace: &Pace) -> Costs {
        let mut costs = Costs::default();
        if self.asks_fit {
            // A condition is tried before anything is read by it.
            costs.add(Purpose::Describe, 1.0);
        }
        costs.add(Purpose::Load, self.load(pace).calls);
        if self.following != Following::None {
            // What was saved since the last run, and while it is loaded.
            let days = (self.behind + loaded).as_secs_f64() / DAY.as_secs_f64();
            costs.add(Purpose::Refetch, self.changes_per_day * days * self.blobs as f64);
        }
        let first = self.poll.settle + FIRST_WINDOW;
        if self.following == Following::Poll {
            let beside = if self.load.is_some() && loaded > first {
                1.0 + self.polls_of_the_first(loaded - first, sharing)
            } else {
                0.0
            };
            self.add_polls(&mut costs, beside, Duration::ZERO, sharing, pace);
            // Since the last run. A load that begins in this one is a reading of all up to its start.
            if self.load.is_none() || !self.behind.is_zero() {
                self.add_polls(&mut costs, 1.0, loaded.max(self.behind), sharing, pace);
            }
        }
        if self.following != Following::None && self.asks_for_deletions {
            costs.add(Purpose::Deletions, 1.0);
        }
        costs
    }

    /// A day of following, after the load.
    pub fn day(&self, sharing: &Sharing, pace: &Pace) -> Costs {
        let mut costs = Costs::default();
        let day = DAY.as_secs_f64();
        if self.following != Following::None {
            costs.add(Purpose::Refetch, self.changes_per_day * self.blobs as f64);
        }
        let pause = match self.following {
            Following::None => return costs,
            Following::Poll => {
                let polls = self.polls_a_day(sharing);
                let pause = Duration::from_secs_f64(day / polls.max(1.0));
                self.add_polls(&mut costs, polls, pause, sharing, pace);
                if self.asks_fit && polls > 0.0 {
                    // Polls that find a change, each with a question or more.
                    let finding = polls * (1.0 - (-self.changes_per_day / polls).exp());
                    costs.add(Purpose::Poll, finding.max(self.changes_per_day / IDS_PER_QUESTION as f64));
                }
                pause
            }
            Following::Subscribe { rereads } => {
                if let Some(gathers) = rereads
                    && self.changes_per_day > 0.0
                {
                    // A reading waits for its first change, and then for company.
                    let apart = day / self.changes_per_day + gathers.as_secs_f64();
                    let readings = (day / apart).max(self.changes_per_day / IDS_PER_CALL);
                    costs.add(Purpose::Refetch, readings);
                    if self.asks_fit {
                        let questions = self.changes_per_day / IDS_PER_QUESTION as f64;
                        costs.add(Purpose::Refetch, readings.max(questions));
                    }
                }
                // Deletions wait for the stream's next word.
                Duration::from_secs_f64(day / self.changes_per_day.max(1.0)).min(SIGN_OF_LIFE)
            }
        };
        if self.asks_for_deletions {
            costs.add(Purpose::Deletions, every(deletions_interval(&self.poll), pause));
        }
        costs
    }

    /// So many polls, each over a window of so long beside the look-back.
    fn add_polls(&self, costs: &mut Costs, polls: f64, window: Duration, sharing: &Sharing, pace: &Pace) {
        let seconds = (window + self.poll.look_back).as_secs_f64();
        let rows = (self.changes_per_day / DAY.as_secs_f64() * seconds) as u64;
        let further = if self.bulk && rows > self.poll.bulk_from {
            self.job(rows, pace).0
        } else {
            (rows.div_ceil(self.page_rows.max(1)).max(1) - 1) as f64
        };
        costs.add(Purpose::Poll, polls * (1.0 / sharing.polls_per_call.max(1.0) + further));
    }

    fn pause(&self, quiet: f64, sharing: &Sharing) -> f64 {
        let quiet = Duration::from_secs_f64(quiet.clamp(0.0, DAY.as_secs_f64() * 365.0));
        let grid = self.poll.interval.max(sharing.least_pause);
        let pause = (pause_after(grid, self.poll.max_interval, quiet) + ANSWER).as_secs_f64();
        // The last moment of the grid before the pause is over.
        let grid = grid.as_secs_f64().max(0.001);
        (pause / grid).floor().max(1.0) * grid
    }

    fn longest_pause(&self, sharing: &Sharing) -> f64 {
        self.pause(f64::MAX, sharing)
    }

    /// Polls of an object in the first stretch of a run: it begins as one that was changed this moment.
    fn polls_of_the_first(&self, stretch: Duration, sharing: &Sharing) -> f64 {
        let (mut at, mut polls) = (self.pause(0.0, sharing), 0.0);
        let longest = self.longest_pause(sharing);
        while at <= stretch.as_secs_f64() {
            polls += 1.0;
            let pause = self.pause(at, sharing);
            if pause >= longest {
                return polls + ((stretch.as_secs_f64() - at) / longest).floor();
            }
            at += pause;
        }
        polls.max((self.polls_a_day(sharing) * stretch.as_secs_f64() / DAY.as_secs_f64()).floor())
    }

    /// Changes that come evenly, but each for itself: with every poll that finds one the pauses are short again. The mean over
    /// one turn from a change to the next poll that finds one.
    pub fn polls_a_day(&self, sharing: &Sharing) -> f64 {
        let day = DAY.as_secs_f64();
        let rate = self.changes_per_day / day;
        let longest = self.longest_pause(sharing);
        // `still`: how likely it is that nothing has changed yet.
        let (mut quiet, mut still, mut polls, mut length) = (0.0, 1.0, 0.0, 0.0);
        while still > 1e-6 {
            let pause = self.pause(quiet, sharing);
            if pause >= longest {
                let found = 1.0 - (-rate * longest).exp();
                if found <= 1e-9 {
                    // In the long run it is always quiet.
                    return day / longest;
                }
                polls += still / found;
                length += longest * still / found;
                break;
            }
            polls += still;
            length += pause * still;
            quiet += pause;
            still = (-rate * quiet).exp();
        }
        if length > 0.0 { day * polls / length } else { 0.0 }
    }
}

/// How often a day what is due so often is done, if it is looked for only after each pause.
fn every(due: Duration, pause: Duration) -> f64 {
    let pauses = (due.as_secs_f64() / pause.as_secs_f64().max(0.001)).ceil().max(1.0);
    DAY.as_secs_f64() / (pauses * pause.as_secs_f64()).max(due.as_secs_f64()).max(1.0)
}

fn answers(pages: u64) -> Duration {
    ANSWER.saturating_mul(u32::try_from(pages).unwrap_or(u32::MAX))
}

/// Of a row of this object as it is held in memory, where none was seen: what fields of these types mostly hold.
pub fn row_bytes(object: &ObjectDescription) -> u64 {
    const CELL_END: u64 = 4;
    let cell = |field: &crate::domain::Field| match field.salesforce_type.as_str() {
        "id" => 18,
        "reference" => 9,
        "datetime" => 24,
        "date" => 8,
        "boolean" => 5,
        "int" | "long" | "double" | "currency" | "percent" => 5,
        _ => u64::from(field.length).min(40) / 4,
    };
    object.fields.iter().map(|field| cell(field) + CELL_END).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn outlook(rows: u64) -> Outlook {
        Outlook {
            load: Some(rows),
            row_bytes: 1_000,
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
        }
    }

    fn day(outlook: &Outlook) -> Costs {
        outlook.day(&Sharing::default(), &Pace::default())
    }

    #[test]
    fn a_small_object_is_loaded_by_pages_and_a_large_one_by_a_job() {
        let load = |rows: u64| outlook(rows).load(&Pace::default());
        assert_eq!((load(0).calls, load(0).door), (1.0, Some(Door::Rest)));
        assert_eq!((load(2_000).calls, load(2_000).jobs), (1.0, 0));
        let large = load(1_000_000);
        // 2,000 rows, then 4,194 a page; made in 105 s, looked at 16 times; created and deleted.
        assert_eq!((large.door, large.jobs, large.pages, large.calls), (Some(Door::Bulk), 1, 239, 257.0));
        assert_eq!(large.bytes, 1_000_000_000);
        let refused = Outlook { bulk: false, page_rows: 200, ..outlook(1_000_000) };
        assert_eq!(refused.load(&Pace::default()).calls, 5_000.0);
        let loaded = Outlook { load: None, ..outlook(0) };
        assert_eq!(loaded.load(&Pace::default()), Load::default());
    }

    #[test]
    fn catching_up_is_a_poll_behind_the_last_run_or_during_a_long_load_and_one_question_for_deletions() {
        let costs = |outlook: Outlook, loaded| {
            outlook.until_caught_up(loaded, &Sharing::default(), &Pace::default()).rounded()
        };
        let short = costs(outlook(10), Duration::from_secs(1));
        assert_eq!(short, Calls::from([(Purpose::Deletions, 1), (Purpose::Load, 1)]));
        let long = costs(outlook(10), MINUTE * 3);
        assert_eq!(long[&Purpose::Poll], 6, "at 3 s, then every 30 s");
        let restarted = Outlook { load: None, behind: MINUTE, ..outlook(10) };
        let expected = [(Purpose::Poll, 1), (Purpose::Deletions, 1)];
        assert_eq!(costs(restarted, Duration::ZERO), Calls::from(expected));
        let copied = Outlook { following: Following::None, ..outlook(10) };
        assert_eq!(costs(copied, MINUTE), Calls::from([(Purpose::Load, 1)]));
    }

    #[test]
    fn a_quiet_object_is_polled_as_rarely_as_it_may_be_and_a_busy_one_at_every_interval() {
        let polls =
            |changes_per_day: f64| day(&Outlook { changes_per_day, ..outlook(10) }).of(Purpose::Poll).round();
        assert_eq!(polls(0.0), 96.0);
        assert_eq!(polls(80_000.0), 2_880.0);
        let some: Vec<f64> = [0.0, 1.0, 10.0, 100.0, 1_000.0, 20_000.0].map(polls).into();
        assert!(some.is_sorted() && some[2] > 250.0 && some[3] > 1_500.0, "{some:?}");
    }

    #[test]
    fn more_changes_than_a_page_holds_cost_a_page_each_time_the_look_back_is_read() {
        let of = |changes_per_day| day(&Outlook { changes_per_day, ..outlook(10) }).of(Purpose::Poll);
        let (one, four) = (of(100_000.0), of(600_000.0));
        assert!((four / one - 4.0).abs() < 0.01, "{one} {four}");
    }

    #[test]
    fn polls_that_share_calls_and_wait_longer_cost_less() {
        let outlook = Outlook { changes_per_day: 80_000.0, ..outlook(10) };
        let of = |sharing: Sharing| outlook.day(&sharing, &Pace::default()).of(Purpose::Poll);
        let alone = of(Sharing::default());
        assert!((alone / of(Sharing { polls_per_call: 5.0, ..Sharing::default() }) - 5.0).abs() < 0.01);
        let slow = of(Sharing { least_pause: MINUTE * 10, ..Sharing::default() });
        assert_eq!(slow.round(), 144.0);
    }

    #[test]
    fn polls_that_meet_on_the_grid_share_calls_and_quiet_ones_meet_less() {
        let of = |objects: usize, changes_per_day: f64| {
            Sharing::of(&vec![Outlook { changes_per_day, ..outlook(10) }; objects]).polls_per_call
        };
        // All of them at every moment.
        assert_eq!([1, 3, 5, 6, 30].map(|objects| of(objects, 80_000.0).round()), [1.0, 3.0, 5.0, 3.0, 5.0]);
        let quiet = [1, 5, 30, 300].map(|objects| of(objects, 0.0));
        assert!(quiet.is_sorted() && quiet[0] == 1.0 && quiet[1] < 1.2 && quiet[3] > 3.5, "{quiet:?}");
        assert_eq!(Sharing::at_once(8).polls_per_call, 4.0);
        assert_eq!((Sharing::of(&[]), Sharing::at_once(0)), (Sharing::default(), Sharing::default()));
    }

    #[test]
    fn a_condition_costs_a_question_for_each_poll_that_finds_a_change() {
        let of = |changes_per_day, asks_fit| {
            day(&Outlook { changes_per_day, asks_fit, ..outlook(10) }).of(Purpose::Poll).round()
        };
        assert_eq!((of(0.0, true), of(0.0, false)), (96.0, 96.0));
        assert_eq!(of(80_000.0, true), 2.0 * 2_880.0);
        let costs = Outlook { asks_fit: true, ..outlook(10) };
        let costs = costs.until_caught_up(Duration::ZERO, &Sharing::default(), &Pace::default());
        assert_eq!(costs.of(Purpose::Describe), 1.0, "it is tried first");
    }

    #[test]
    fn each_blob_of_a_row_that_is_loaded_or_changed_is_a_call() {
        let with = |blobs| Outlook { blobs, bulk: false, changes_per_day: 4_800.0, ..outlook(3_000) };
        let load = |blobs| with(blobs).load(&Pace::default());
        assert_eq!((load(0).calls, load(1).calls, load(2).calls), (2.0, 3_002.0, 6_002.0));
        assert!(load(1).takes > load(0).takes * 100);
        let refetch = |blobs| day(&with(blobs)).of(Purpose::Refetch);
        assert_eq!((refetch(0), refetch(2)), (0.0, 9_600.0));
        assert_eq!(day(&with(1)).of(Purpose::Poll), day(&with(0)).of(Purpose::Poll), "polls cost as before");
        let copied = Outlook { following: Following::None, ..with(1) };
        assert_eq!(day(&copied).total(), 0.0);
        let restarted = Outlook { load: None, behind: MINUTE * 30, ..with(1) };
        let costs = restarted.until_caught_up(Duration::ZERO, &Sharing::default(), &Pace::default());
        assert_eq!(costs.of(Purpose::Refetch), 100.0, "half an hour of 200 an hour");
    }

    #[test]
    fn what_is_due_waits_for_the_next_poll() {
        // Quiet: a poll each 15 minutes, and with it what is due every 10.
        let quiet = day(&outlook(10));
        assert_eq!(quiet.of(Purpose::Deletions).round(), 96.0);
        let busy = day(&Outlook { changes_per_day: 80_000.0, ..outlook(10) });
        assert_eq!(busy.of(Purpose::Deletions).round(), 144.0);
    }

    #[test]
    fn a_subscription_costs_only_what_events_leave_out() {
        let following = Following::Subscribe { rereads: Some(Duration::from_secs(1)) };
        let of = |changes_per_day, following| day(&Outlook { following, changes_per_day, ..outlook(10) });
        let quiet = of(0.0, following);
        assert_eq!((quiet.of(Purpose::Poll), quiet.of(Purpose::Refetch)), (0.0, 0.0));
        assert_eq!(quiet.of(Purpose::Deletions).round(), 107.0, "at every third sign of life");
        // Every 9 s and a second of waiting.
        assert_eq!(of(9_600.0, following).of(Purpose::Refetch).round(), 8_640.0);
        let asked = day(&Outlook { following, asks_fit: true, changes_per_day: 9_600.0, ..outlook(10) });
        assert_eq!(asked.of(Purpose::Refetch).round(), 2.0 * 8_640.0, "a question for each reading");
        let bare = Following::Subscribe { rereads: None };
        assert_eq!(of(9_600.0, bare).of(Purpose::Refetch), 0.0);
    }
}
