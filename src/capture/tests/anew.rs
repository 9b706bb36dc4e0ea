//! Objects loaded anew beside what they are followed by: for a new field, for a new topic, ended anywhere; from the simulator.

use super::streams::live;
use super::*;
use crate::domain::{NoticeKind, State};

/// Records have values in it that no stamp tells of when it is shown.
const FIELD: &str = "Fax";

/// An object without the field at first, whose records are read for it when it comes.
async fn without_field(rows: u64, settings: impl FnOnce(&Client) -> CaptureSettings) -> Practice {
    let mut org = Practice::start_with("Account", rows, settings).await;
    org.control("fields", json!({"object": "Account", "field": FIELD, "action": "hide"})).await;
    org.stage.backfills = true;
    org.stage.restart().await;
    org
}

impl Practice {
    async fn show_field(&mut self) {
        self.control("fields", json!({"object": "Account", "field": FIELD, "action": "show"})).await;
        self.stage.capture.expect_other_description();
    }

    /// Steps, with time going on, until everything is loaded and the field is there.
    async fn loads_anew(&mut self) {
        let done = |org: &Practice| {
            let position = org.stage.capture.position();
            position.state == State::Live && position.reload.is_none() && org.reloads().1 > 0
        };
        for _ in 0..2_000 {
            if done(self) {
                return;
            }
            self.pass(1);
            self.step_while_time_goes_on().await;
        }
        panic!("it is not loaded: {:?} {:?}", self.stage.capture.position(), self.stage.errors);
    }

    fn reloads(&self) -> (usize, usize) {
        let count = |wanted: fn(&NoticeKind) -> bool| {
            self.stage.notices.iter().filter(|notice| wanted(&notice.kind)).count()
        };
        (
            count(|kind| matches!(kind, NoticeKind::ReloadBegun { .. })),
            count(|kind| matches!(kind, NoticeKind::ReloadDone { .. })),
        )
    }

    fn assert_field(&self) {
        assert!(self.truth(FIELD).values().any(|value| !value.is_empty()), "there is something to be missed");
        assert_eq!(self.stage.folded(FIELD), self.truth(FIELD));
        self.assert_equals_org();
    }
}

#[tokio::test]
async fn a_field_that_comes_has_its_values_in_every_record_and_no_change_is_published_twice() {
    let mut org = without_field(60, |_| settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    org.pass(60);
    org.save(vec![org.rename(&ids[0], "changed"), org.delete(&ids[1])]);
    org.catch_up().await;
    assert_eq!(org.stage.published.len(), 62);
    assert!(org.stage.published.iter().all(|one| !one.cells.contains_key(FIELD)));
    org.show_field().await;
    org.loads_anew().await;
    org.catch_up().await;
    org.assert_field();
    // Each live record once more, whoever read it first; the deleted one not.
    assert_eq!(org.stage.published.len(), 62 + 59);
    assert_eq!(org.stage.of(&ids[1]), "RD");
    assert_eq!(org.reloads(), (1, 1));
    assert_eq!(org.stage.position().reload, None);
    assert!(org.stage.troubles.is_empty() && org.stage.errors.is_empty(), "{:?}", org.stage.errors);
}

#[tokio::test]
async fn a_field_that_returns_stands_in_its_old_place_also_after_a_restart() {
    let mut org = Practice::start("Account", 60, settings()).await;
    org.stage.backfills = true;
    org.catch_up().await;
    for action in ["hide", "show"] {
        org.control("fields", json!({"object": "Account", "field": FIELD, "action": action})).await;
        org.stage.capture.expect_other_description();
        org.catch_up().await;
    }
    org.loads_anew().await;
    org.catch_up().await;
    org.assert_field();
    let published = org.stage.published.len();
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.published.len(), published, "nothing looks changed to the polls of the next run");
}

#[tokio::test]
async fn a_load_anew_that_is_ended_anywhere_ends_complete_and_repeats_no_page() {
    for estimate in [None, Some(1)] {
        let mut org = without_field(6_000, |_| CaptureSettings { estimate, ..settings() }).await;
        org.control("settings", json!({"pageCap": 1_000, "bulkPageCap": 1_000})).await;
        org.catch_up().await;
        // Beyond what polls read again: only the load can bring the field.
        org.pass(40 * 60);
        org.catch_up().await;
        org.show_field().await;
        let mut runs = 0;
        while org.stage.position().reload.is_some() || org.stage.published.len() == 6_000 {
            // No time passes: a run that is ended at its first step would never get beyond a poll.
            org.stage.step().await;
            org.stage.restart().await;
            runs += 1;
            assert!(runs < 500, "{:?}", org.stage.position());
        }
        assert!(runs > 6, "{runs}");
        org.catch_up().await;
        org.assert_field();
        assert_eq!(org.stage.letters(), "R".repeat(12_000), "estimate {estimate:?}");
        assert_eq!(org.reloads(), (1, 1), "one decision, whatever ends");
    }
}

#[tokio::test]
async fn a_load_anew_never_overtakes_what_is_followed_beside_it() {
    let mut org = without_field(9_000, |_| settings()).await;
    org.control("settings", json!({"pageCap": 1_000, "bulkPageCap": 1_000})).await;
    org.catch_up().await;
    let ids = org.ids();
    org.pass(20 * 60);
    org.save(vec![org.rename(&ids[3], "before")]);
    org.catch_up().await;
    org.show_field().await;
    while org.stage.capture.position().load.as_ref().is_none_or(|load| load.done) {
        org.pass(1);
        org.stage.step().await;
    }
    // The job holds what was there.
    org.pass(10);
    let made = org.save(vec![
        org.rename(&ids[0], "changed beside"),
        org.delete(&ids[1]),
        org.hard_delete(&ids[2]),
        org.new_record("new beside"),
    ]);
    org.loads_anew().await;
    org.catch_up_with_purges().await;
    org.assert_field();
    assert_eq!(org.stage.of(made[3].as_str()), "I");
    for id in &ids[..3] {
        let of = org.stage.of(id);
        assert!(!of.ends_with('R') && of.starts_with('R'), "{of}");
    }
    assert_eq!(org.stage.of(&ids[3]).len(), 3, "its change was before, and lacked the field");
}

#[tokio::test]
async fn records_that_were_published_from_events_get_the_new_field_as_well() {
    for whole in [true, false] {
        let mut org = without_field(30, |client| live(client, whole)).await;
        org.arrives(|org| org.stage.published.len() >= org.ids().len()).await;
        let ids = org.ids();
        // Its commit is younger than its stamp: the loaded row looks older than the event.
        org.save_late(vec![org.rename(&ids[0], "late")], 30);
        org.save(vec![org.rename(&ids[1], "at once"), org.delete(&ids[2])]);
        org.pass(31);
        org.equals_org().await;
        org.show_field().await;
        org.save(vec![org.rename(&ids[4], "meanwhile")]);
        org.loads_anew().await;
        org.save(vec![org.rename(&ids[5], "after")]);
        org.equals_org().await;
        org.assert_field();
        assert_eq!(org.reloads(), (1, 1), "whole {whole}");
        assert_eq!(org.stage.of(&ids[2]), "RD");
        assert_eq!(org.gaps(), [""; 0]);
        let read_by_id =
            org.stage.published.iter().filter(|one| one.source == Source::Refetch).count() as u64;
        let told = org.stage.notices.iter().filter_map(|notice| match notice.kind {
            NoticeKind::RecordsReread { reason: "load", records } => Some(records),
            _ => None,
        });
        assert!(whole || read_by_id > 0);
        assert_eq!(told.sum::<u64>(), read_by_id, "whole {whole}");
    }
}

#[tokio::test]
async fn a_field_that_comes_while_a_load_runs_begins_it_again_with_the_field() {
    let mut org = without_field(9_000, |_| settings()).await;
    org.control("settings", json!({"bulkPageCap": 1_000})).await;
    while org.stage.published.is_empty() {
        org.stage.step().await;
    }
    let first = org.stage.position().load.unwrap().id;
    assert!(org.stage.published.len() < 9_000);
    org.pass(1);
    org.show_field().await;
    org.loads_anew().await;
    assert_ne!(org.stage.position().load.unwrap().id, first);
    org.stage.restart().await;
    org.catch_up().await;
    org.assert_field();
    assert!(org.stage.letters().len() < 18_000, "what had not come is loaded once");
}

#[tokio::test]
async fn what_is_committed_late_behind_a_load_that_began_again_is_found() {
    let mut org = without_field(3_000, |_| settings()).await;
    org.control("settings", json!({"bulkPageCap": 1_000})).await;
    let ids = org.ids();
    // Saved before anything is read, seen when the second load's job has long been made.
    org.save_late(vec![org.rename(&ids[0], "late")], 300);
    org.pass(1);
    while org.stage.published.is_empty() {
        org.stage.step().await;
    }
    org.pass(1);
    org.show_field().await;
    org.loads_anew().await;
    assert_ne!(org.truth("Name")[&ids[0]], "late");
    org.pass(300);
    assert_eq!(org.truth("Name")[&ids[0]], "late");
    org.stage.restart().await;
    org.catch_up().await;
    org.assert_field();
}

#[tokio::test]
async fn rows_that_only_a_new_topic_lacks_go_to_it_alone_unless_they_may_be_news() {
    let mut org = without_field(40, |_| settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    org.pass(40 * 60);
    org.save(vec![org.rename(&ids[0], "changed")]);
    org.catch_up().await;
    let before = org.stage.published.len();
    // Saved and not polled when the load reads it: no other topic has it.
    org.stage.settings.poll.interval = Duration::from_secs(3_600);
    org.stage.settings.poll.max_interval = Duration::from_secs(3_600);
    org.stage.restart().await;
    let topic = vec!["crm.Account__ct".to_owned()];
    let need = Need { outputs: Some(topic), ..Need::of(ReloadReason::NewOutput) };
    org.stage.capture.load_anew(vec![need]);
    org.pass(2);
    org.stage.step().await;
    org.pass(1);
    org.save(vec![org.rename(&ids[1], "news")]);
    while org.stage.capture.position().reload.is_some() || org.stage.published.len() == before {
        org.stage.step().await;
    }
    let loaded = &org.stage.published[before..];
    let everywhere: Vec<_> =
        loaded.iter().filter(|one| !one.left_out_elsewhere).map(|one| one.id.as_str()).collect();
    assert!(everywhere.contains(&ids[1].as_str()), "{everywhere:?}");
    assert!(!everywhere.contains(&ids[5].as_str()) && everywhere.len() <= 3, "{everywhere:?}");
    assert_eq!(loaded.iter().filter(|one| one.operation == Operation::Refresh).count(), 40);
}

#[tokio::test]
async fn a_topic_that_is_added_before_the_first_load_is_done_gets_no_row_alone() {
    let mut org = without_field(3_000, |_| settings()).await;
    org.control("settings", json!({"bulkPageCap": 1_000})).await;
    while org.stage.published.is_empty() {
        org.stage.step().await;
    }
    org.pass(1);
    org.stage.restart().await;
    let topic = vec!["crm.Account__ct".to_owned()];
    org.stage.capture.load_anew(vec![Need { outputs: Some(topic), ..Need::of(ReloadReason::NewOutput) }]);
    org.loads_anew().await;
    assert!(org.stage.published.iter().all(|one| !one.left_out_elsewhere));
    org.assert_equals_org();
}

#[tokio::test]
async fn an_object_whose_rows_were_never_asked_for_is_not_loaded_for_a_field() {
    let mut org = without_field(20, |_| CaptureSettings { initial_load: false, ..settings() }).await;
    org.catch_up().await;
    org.show_field().await;
    let knows = |org: &Practice| org.stage.capture.description().field_index(FIELD).is_some();
    while !knows(&org) {
        org.pass(1);
        org.stage.step().await;
    }
    let ids = org.ids();
    org.save(vec![org.rename(&ids[0], "changed")]);
    org.catch_up().await;
    assert_eq!((org.stage.letters(), org.reloads()), ("U".to_owned(), (0, 0)));
}

/// Fifteen records with names that two conditions choose from, the rest with others.
async fn with_condition(condition: &str) -> Practice {
    let condition = Some(condition.to_owned());
    let mut org = Practice::start("Account", 60, CaptureSettings { condition, ..settings() }).await;
    let ids = org.ids();
    let names = ["only old", "both", "only new"];
    let named = names.iter().zip(ids.chunks(5)).flat_map(|(name, ids)| ids.iter().map(move |id| (id, *name)));
    let changes: Vec<Change> = named.map(|(id, name)| org.rename(id, name)).collect();
    org.save(changes);
    org.pass(40 * 60);
    org.catch_up().await;
    org
}

impl Practice {
    async fn changes_condition(&mut self, condition: &str) {
        let left = self.stage.settings.condition.replace(condition.to_owned());
        self.stage.restart().await;
        self.stage.capture.load_anew(vec![Need { left, ..Need::of(ReloadReason::Condition) }]);
        // The decision alone is the pipeline's to find again, until it is committed.
        self.stage.step().await;
    }

    fn names(&self) -> BTreeSet<String> {
        self.stage.folded("Name").into_values().collect()
    }
}

const OLD: &str = "Name IN ('only old', 'both')";
const NEW: &str = "Name IN ('both', 'only new')";

#[tokio::test]
async fn records_that_another_condition_leaves_out_are_deleted_and_those_that_it_lets_in_are_loaded() {
    let mut org = with_condition(OLD).await;
    let (old, both, new) = ("only old".to_owned(), "both".to_owned(), "only new".to_owned());
    assert_eq!((org.stage.published.len(), org.names()), (10, BTreeSet::from([old.clone(), both.clone()])));
    org.changes_condition(NEW).await;
    org.loads_anew().await;
    assert_eq!(org.names(), BTreeSet::from([new.clone(), both.clone()]));
    assert_eq!(org.stage.folded("Name").len(), 10);
    let deleted = org.stage.letters().chars().filter(|letter| *letter == 'D').count();
    assert_eq!(deleted, 5, "{}", org.stage.letters());
    // And back, within what the ledger remembers.
    org.changes_condition(OLD).await;
    org.loads_anew().await;
    assert_eq!(org.names(), BTreeSet::from([old, both]));
    assert_eq!(org.stage.folded("Name").len(), 10);
    let published = org.stage.published.len();
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.published.len(), published);
}

#[tokio::test]
async fn a_change_of_the_condition_that_is_ended_anywhere_ends_complete() {
    let mut org = with_condition(OLD).await;
    org.changes_condition(NEW).await;
    let mut runs = 0;
    while org.stage.position().reload.is_some() {
        org.stage.restart().await;
        org.stage.step().await;
        runs += 1;
        assert!(runs < 100, "{:?}", org.stage.position());
    }
    assert!(runs > 1, "{runs}");
    org.catch_up().await;
    assert_eq!(org.names(), BTreeSet::from(["both".to_owned(), "only new".to_owned()]));
    assert_eq!(org.stage.letters(), format!("{}{}{}", "R".repeat(10), "D".repeat(5), "R".repeat(10)));
}
