//! Following by subscription, from the simulator: what arrives, what is repaired, what is never lost or repeated.

use std::collections::BTreeSet;

use super::*;
use crate::capture::LiveSettings;
use crate::domain::NoticeKind;
use crate::salesforce::pubsub::PubSub;
use ::simulator::org::{Mix, Traffic, TrafficConfig};

/// `whole`: `after: full`. A stream that stands at once, and little patience.
fn live(client: &Client, whole: bool) -> CaptureSettings {
    let live = LiveSettings {
        whole,
        refetch_wait: Duration::from_millis(20),
        stands_after: Duration::from_millis(50),
        patience: Duration::from_millis(300),
        longest_pause: Duration::from_secs(1),
        ..LiveSettings::new(PubSub::new(client).unwrap())
    };
    CaptureSettings { live: Some(live), ..settings() }
}

async fn subscribed(rows: u64, whole: bool) -> Practice {
    let mut org = Practice::start_with("Account", rows, |client| live(client, whole)).await;
    org.arrives(|org| org.stage.published.len() >= org.ids().len()).await;
    org
}

impl Practice {
    /// Steps until this holds.
    async fn arrives(&mut self, holds: impl Fn(&Practice) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            let step = tokio::time::timeout_at(deadline, self.stage.step());
            if step.await.is_err() {
                panic!(
                    "it does not come: {} published, {:?}, {:?}, {:?}",
                    self.stage.published.len(),
                    self.stage.notices,
                    self.stage.errors,
                    self.stage.position()
                );
            }
        }
    }

    async fn equals_org(&mut self) {
        self.arrives(|org| org.stage.folded("Name") == org.truth("Name")).await;
    }

    /// Whatever still comes within this time is taken.
    async fn settle(&mut self, millis: u64) {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(millis);
        while tokio::time::timeout_at(deadline, self.stage.step()).await.is_ok() {}
    }

    /// The stream ends and does not come back before `stream_returns`.
    async fn stream_goes(&self) {
        let unavailable = json!({"status": {"code": "UNAVAILABLE"}});
        self.pubsub("faults", json!({"rpc": "GetTopic", "action": unavailable})).await;
        self.pubsub("faults", json!({"action": unavailable})).await;
    }

    async fn stream_returns(&self) {
        let url = format!("{}/pubsub/faults", self.simulator.control_url());
        reqwest::Client::new().delete(url).send().await.unwrap();
    }

    /// Time goes on until a stretch is repaired.
    async fn repairs(&mut self) {
        for _ in 0..100 {
            if self.repaired() == 1 {
                return;
            }
            self.pass(1);
            self.settle(100).await;
            self.stage.errors.clear();
        }
        panic!("it is not repaired: {:?} {:?}", self.stage.notices, self.stage.position());
    }

    /// Polls as long as this shows in the topic, whatever the stream's trouble.
    async fn polls_until(&mut self, holds: impl Fn(&Practice) -> bool) {
        for _ in 0..200 {
            self.stage.errors.clear();
            if holds(self) {
                return;
            }
            self.settle(50).await;
        }
        panic!("it is not polled: {:?}", self.stage.position());
    }

    async fn pubsub(&self, path: &str, body: serde_json::Value) {
        self.control(&format!("pubsub/{path}"), body).await;
    }

    fn busy(&self, seed: u64) -> Traffic {
        let objects = vec!["Account".to_owned()];
        // What leaves no event has its own tests: hard deletions are found by getDeleted, saves that only move the
        // stamp by nobody.
        let mix = Mix { hard_delete: 0, touch: 0, ..Mix::default() };
        let config = TrafficConfig { seed, objects, mix, ..TrafficConfig::default() };
        Traffic::new(self.simulator.org(), config).unwrap()
    }

    /// What a reader holds who applies every carried field, compared with the org, field by field.
    fn assert_every_field(&self) {
        let mut rows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for one in &self.stage.published {
            match one.operation {
                Operation::Delete => drop(rows.remove(&one.id)),
                Operation::Update => rows.entry(one.id.clone()).or_default().extend(one.cells.clone()),
                Operation::Insert | Operation::Refresh => {
                    rows.insert(one.id.clone(), one.cells.clone());
                }
            }
        }
        let names: Vec<String> =
            self.stage.capture.description().fields.iter().map(|field| field.name.clone()).collect();
        let org = self.simulator.org();
        let mut compared = 0;
        for truth in org.truth_rows("Account").unwrap() {
            let id = truth["Id"].as_str().unwrap();
            let row = rows.remove(id).unwrap_or_else(|| panic!("{id} is missing"));
            for name in &names {
                let text = match &truth[name.as_str()] {
                    serde_json::Value::Null => String::new(),
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                // Spellings differ by door; values may not.
                let index = self.stage.capture.description().field_index(name).unwrap();
                let field = &self.stage.capture.description().fields[index];
                let value = |text: &str| crate::domain::content::value_hash(field, text.as_bytes());
                if let Some(cell) = row.get(name) {
                    assert_eq!(value(cell), value(&text), "{id} {name}: {cell} where the org says {text}");
                    compared += 1;
                }
            }
        }
        assert_eq!(rows.len(), 0, "rows that the org does not have: {:?}", rows.keys());
        assert!(compared > 1_000, "{compared}");
    }

    fn gaps(&self) -> Vec<&'static str> {
        self.stage.notices.iter().filter_map(|notice| notice.kind.gap()).collect()
    }

    fn repaired(&self) -> usize {
        let repaired = |notice: &&Notice| matches!(notice.kind, NoticeKind::GapRepaired { .. });
        self.stage.notices.iter().filter(repaired).count()
    }
}

#[tokio::test]
async fn changes_arrive_as_events_each_once_and_with_what_they_say() {
    let mut org = subscribed(20, false).await;
    let ids = org.ids();
    let made = org.save(vec![org.new_record("made"), org.rename(&ids[0], "renamed")]);
    org.save(vec![org.delete(&ids[1])]);
    org.equals_org().await;
    assert_eq!((org.stage.of(&ids[0]), org.stage.of(&ids[1])), ("RU".to_owned(), "RD".to_owned()));
    assert_eq!(org.stage.of(made[0].as_str()), "I");
    let update = org.stage.published.iter().find(|one| one.operation == Operation::Update).unwrap();
    assert_eq!(update.source, Source::Subscribe);
    assert!(update.cells.contains_key("Name") && !update.cells.contains_key("Phone"), "{:?}", update.cells);
    assert_eq!(org.stage.errors.len(), 0, "{:?}", org.stage.errors);
}

#[tokio::test]
async fn with_whole_records_every_field_of_a_busy_org_arrives() {
    let mut org = subscribed(60, true).await;
    let mut traffic = org.busy(7);
    for _ in 0..10 {
        traffic.run(30);
        org.pass(1);
        org.settle(20).await;
    }
    org.equals_org().await;
    org.settle(100).await;
    org.assert_every_field();
    assert_eq!(org.gaps(), [""; 0]);
}

#[tokio::test]
async fn with_changed_fields_alone_what_they_add_up_to_is_the_org() {
    let mut org = subscribed(60, false).await;
    let mut traffic = org.busy(11);
    for _ in 0..10 {
        traffic.run(30);
        org.pass(1);
        org.settle(10).await;
    }
    org.equals_org().await;
    org.settle(100).await;
    // Of the fields that events have at all: others stay as they were loaded.
    let events = org.stage.published.iter().filter(|one| one.source == Source::Subscribe);
    let told: BTreeSet<String> = events.flat_map(|one| one.cells.keys().cloned()).collect();
    for one in &mut org.stage.published {
        one.cells.retain(|name, _| told.contains(name));
    }
    org.assert_every_field();
}

#[tokio::test]
async fn a_restart_goes_on_behind_the_last_event_that_was_committed() {
    let mut org = subscribed(20, true).await;
    let ids = org.ids();
    org.save(vec![org.rename(&ids[0], "before")]);
    org.equals_org().await;
    org.stage.restart().await;
    org.save(vec![org.rename(&ids[1], "meanwhile")]);
    org.equals_org().await;
    org.settle(200).await;
    assert_eq!((org.stage.of(&ids[0]), org.stage.of(&ids[1])), ("RU".to_owned(), "RU".to_owned()));
    assert_eq!(org.gaps(), [""; 0]);
}

#[tokio::test]
async fn a_refused_position_is_repaired_by_reading_again_and_nothing_is_lost_or_repeated() {
    for whole in [true, false] {
        let mut org = subscribed(40, whole).await;
        let ids = org.ids();
        org.save(vec![org.rename(&ids[0], "before")]);
        // No transaction of that second can still be open.
        org.pass(11 * 60);
        org.save(vec![org.rename(&ids[5], "before too")]);
        org.equals_org().await;
        org.stage.restart().await;
        // While nobody listens: changes of every kind, then their events are gone.
        org.pass(120);
        org.save(vec![org.rename(&ids[1], "missed"), org.delete(&ids[2]), org.new_record("missed too")]);
        org.save(vec![org.hard_delete(&ids[3])]);
        org.pubsub("replayIds/invalidate", json!({})).await;
        org.pass(300);
        org.arrives(|org| org.repaired() == 1).await;
        org.equals_org().await;
        assert_eq!(org.gaps(), ["replay-id"]);
        assert_eq!(org.stage.of(&ids[0]), "RU", "whole {whole}");
        assert_eq!(org.stage.of(&ids[1]), "RU");
        let position = org.stage.position();
        org.save(vec![org.rename(&ids[4], "after")]);
        org.equals_org().await;
        assert_ne!(org.stage.position().replay_id, position.replay_id);
    }
}

#[tokio::test]
async fn a_process_that_dies_in_a_repair_repairs_again() {
    let mut org = subscribed(40, true).await;
    let ids = org.ids();
    org.save(vec![org.rename(&ids[0], "before")]);
    org.equals_org().await;
    org.pass(60);
    org.stage.restart().await;
    org.save(vec![org.rename(&ids[1], "missed")]);
    org.pubsub("replayIds/invalidate", json!({})).await;
    org.pass(60);
    // It subscribes anew, takes an event, and dies before it has read what was missed.
    org.refuse("/query", 1_000, 503, "SERVER_UNAVAILABLE").await;
    for save in 0..400 {
        if org.stage.of(&ids[2]) != "R" {
            break;
        }
        // The stream may not stand yet.
        org.save(vec![org.rename(&ids[2], &format!("seen {save}"))]);
        org.settle(25).await;
    }
    assert!(org.stage.of(&ids[2]).len() > 1);
    assert!(
        org.stage.position().replay_id.is_none(),
        "no place is named while something before it is missing"
    );
    org.stage.restart().await;
    reqwest::Client::new().delete(format!("{}/faults", org.simulator.control_url())).send().await.unwrap();
    org.equals_org().await;
    org.arrives(|org| org.repaired() == 1).await;
    assert_eq!(org.stage.of(&ids[1]), "RU");
}

#[tokio::test]
async fn however_a_stream_ends_nothing_is_lost_and_nothing_repeated() {
    let endings = [
        json!("end"),
        json!({"status": {"code": "UNAVAILABLE"}}),
        json!({"status": {"code": "INTERNAL", "errorCode": "service.unavailable"}}),
        json!({"reset": {}}),
        json!({"goAway": {}}),
        json!("close"),
    ];
    let mut org = subscribed(30, false).await;
    let ids = org.ids();
    for (round, ending) in endings.into_iter().enumerate() {
        let rule =
            json!({"topic": "/data/AccountChangeEvent", "action": ending, "afterEvents": 2, "times": 1});
        org.pubsub("faults", rule).await;
        for id in ids.iter().take(6) {
            org.save(vec![org.rename(id, &format!("round {round} of {id}"))]);
        }
        org.equals_org().await;
        org.pass(1);
        // As often as it fails the pipeline tries again.
        org.stage.errors.clear();
    }
    org.settle(300).await;
    for id in ids.iter().take(6) {
        assert_eq!(org.stage.of(id), "RUUUUUU");
    }
    assert_eq!(org.gaps(), [""; 0]);
}

#[tokio::test]
async fn events_that_only_say_that_something_happened_are_answered_by_reading() {
    let mut org = subscribed(30, false).await;
    let ids = org.ids();
    org.pubsub("selection", json!({"deselect": ["Account"]})).await;
    org.save(vec![org.rename(&ids[0], "unseen"), org.delete(&ids[1])]);
    org.pubsub("selection", json!({"select": ["Account"]})).await;
    org.pass(2);
    let ordered = json!({"object": "Account", "changeType": "GAP_UPDATE", "ids": [ids[0], ids[1]]});
    org.pubsub("events", ordered).await;
    org.equals_org().await;
    assert_eq!((org.stage.of(&ids[0]), org.stage.of(&ids[1])), ("RU".to_owned(), "RD".to_owned()));
    assert_eq!(org.gaps(), ["event"]);
}

#[tokio::test]
async fn an_overflow_is_answered_by_reading_the_stretch() {
    let mut org = subscribed(30, true).await;
    let ids = org.ids();
    org.pubsub("selection", json!({"deselect": ["Account"]})).await;
    org.pass(30);
    org.save(ids.iter().map(|id| org.rename(id, "in bulk")).collect());
    org.pubsub("selection", json!({"select": ["Account"]})).await;
    org.pubsub("events", json!({"object": "Account", "changeType": "GAP_OVERFLOW"})).await;
    org.pass(5);
    org.equals_org().await;
    org.arrives(|org| org.repaired() == 1).await;
    assert_eq!(org.gaps(), ["overflow"]);
    assert!(ids.iter().all(|id| org.stage.of(id) == "RU"));
}

#[tokio::test]
async fn a_change_of_all_records_without_a_stamp_is_answered_by_a_reload() {
    let mut org = subscribed(30, true).await;
    let ids = org.ids();
    org.save(vec![org.rename(&ids[0], "before")]);
    org.equals_org().await;
    let ordered = json!({"object": "Account", "changeType": "UPDATE", "ids": ["001*"]});
    org.pubsub("events", ordered).await;
    org.arrives(|org| ids.iter().all(|id| org.stage.of(id).ends_with('R') && org.stage.of(id).len() > 1))
        .await;
    assert_eq!(org.gaps(), ["all-records"]);
    org.save(vec![org.rename(&ids[0], "after")]);
    org.equals_org().await;
}

#[tokio::test]
async fn an_event_that_comes_twice_is_published_once_also_after_a_restart() {
    for whole in [true, false] {
        let mut org = subscribed(10, whole).await;
        let ids = org.ids();
        org.save(vec![org.rename(&ids[0], "once")]);
        org.equals_org().await;
        org.pubsub("events", json!({"duplicate": "last"})).await;
        org.settle(200).await;
        org.stage.restart().await;
        org.pubsub("events", json!({"duplicate": "last"})).await;
        org.settle(200).await;
        assert_eq!(org.stage.of(&ids[0]), "RU", "whole {whole}");
    }
}

/// Two saves of a record within one second, the first published from its event, the event of the second lost.
#[tokio::test]
async fn a_missed_save_in_the_second_of_a_published_event_is_repaired() {
    for whole in [true, false] {
        let mut org = subscribed(20, whole).await;
        let ids = org.ids();
        org.save(vec![org.rename(&ids[0], "first")]);
        org.arrives(|org| org.stage.of(&ids[0]) == "RU").await;
        // Stamped in the same second, committed a minute later; the stream is far beyond that second by then.
        org.save_late(vec![org.rename(&ids[0], "second")], 60);
        org.pass(50);
        org.save(vec![org.rename(&ids[1], "other")]);
        org.equals_org().await;
        org.stage.restart().await;
        org.pass(20);
        assert_eq!(org.truth("Name")[&ids[0]], "second");
        org.pubsub("replayIds/invalidate", json!({})).await;
        org.repairs().await;
        assert_eq!(org.stage.folded("Name")[&ids[0]], "second", "whole {whole}");
        assert_eq!(org.stage.of(&ids[0]), "RUU", "whole {whole}");
        org.assert_equals_org();
    }
}

#[tokio::test]
async fn a_record_that_is_saved_again_before_the_repair_reads_it_is_repaired() {
    let mut org = subscribed(20, false).await;
    let ids = org.ids();
    org.save(vec![org.rename(&ids[1], "before")]);
    org.equals_org().await;
    org.stage.restart().await;
    org.pass(20);
    org.save(vec![org.rename(&ids[0], "missed")]);
    org.pubsub("replayIds/invalidate", json!({})).await;
    // The window's end is past when it is answered: the record is saved behind it, and that event does not hold its name.
    org.fault("/queryAll", 1, json!({"delay": {"millis": 1_500}})).await;
    org.settle(1_000).await;
    org.pass(5);
    let fields = vec![("Phone".to_owned(), Value::text("1"))];
    org.save(vec![Change::Update { object: "Account".to_owned(), id: parsed(&ids[0]), fields }]);
    org.repairs().await;
    org.settle(100).await;
    assert_eq!(org.stage.folded("Name")[&ids[0]], "missed");
    org.assert_equals_org();
}

#[tokio::test]
async fn a_save_before_the_load_that_is_committed_in_a_gap_is_repaired() {
    for while_loading in [false, true] {
        let mut org = Practice::start_with("Account", 20, |client| live(client, false)).await;
        let ids = org.ids();
        // Saved before anything of it was read, seen when its event is lost.
        org.save_late(vec![org.rename(&ids[0], "late")], 60);
        org.pass(5);
        if while_loading {
            org.fault("/results", 2, json!({"delay": {"millis": 1_500}})).await;
            org.arrives(|org| org.stage.position_or_none().is_some_and(|position| position.load.is_some()))
                .await;
        } else {
            org.arrives(|org| org.stage.published.len() >= org.ids().len()).await;
        }
        org.save(vec![org.rename(&ids[1], "other")]);
        org.arrives(|org| org.stage.of(&ids[1]).ends_with('U')).await;
        org.stage.restart().await;
        org.pass(70);
        assert_eq!(org.truth("Name")[&ids[0]], "late");
        org.pubsub("replayIds/invalidate", json!({})).await;
        // A job of the load goes on with what it read.
        org.repairs().await;
        org.arrives(|org| org.stage.position().state == crate::domain::State::Live).await;
        assert_eq!(org.stage.folded("Name")[&ids[0]], "late", "while loading {while_loading}");
        org.assert_equals_org();
    }
}

#[tokio::test]
async fn however_long_the_stream_was_away_what_was_polled_is_not_published_again() {
    for restarted in [false, true] {
        let mut org = subscribed(20, false).await;
        let ids = org.ids();
        org.save(vec![org.rename(&ids[19], "before")]);
        org.equals_org().await;
        org.stream_goes().await;
        // Longer than the look-back: the first of it would be forgotten by polls alone.
        for (round, id) in ids.iter().take(8).enumerate() {
            org.pass(5 * 60);
            org.save(vec![org.rename(id, "polled")]);
            org.pass(1);
            org.polls_until(|org| org.stage.of(id) == "RU").await;
            if restarted && round == 5 {
                org.stage.restart().await;
            }
        }
        assert!(org.stage.position().events_to < org.stage.position().cursor);
        org.stream_returns().await;
        org.save(vec![org.rename(&ids[9], "streamed")]);
        org.arrives(|org| org.stage.of(&ids[9]) == "RU").await;
        assert!(ids.iter().take(8).all(|id| org.stage.of(id) == "RU"), "{}", org.stage.letters());
        org.assert_equals_org();
        assert_eq!(org.gaps(), [""; 0]);
        // It has caught up: the look-back alone is remembered again.
        org.pass(16 * 60);
        org.save(vec![org.rename(&ids[10], "later")]);
        org.arrives(|org| org.stage.of(&ids[10]) == "RU").await;
        assert_eq!(org.stage.position().events_to, None);
    }
}

#[tokio::test]
async fn a_save_that_waits_for_its_event_is_read_when_the_event_will_never_come() {
    for refused in ["position", "stream"] {
        let mut org = subscribed(20, false).await;
        let ids = org.ids();
        org.save(vec![org.rename(&ids[0], "first")]);
        org.arrives(|org| org.stage.of(&ids[0]) == "RU").await;
        org.stream_goes().await;
        // In the same second as the event that was published: polls leave it to its own event.
        org.save(vec![org.rename(&ids[0], "second")]);
        for _ in 0..8 {
            org.pass(5 * 60);
            org.save(vec![org.rename(&ids[1], "polled")]);
            let so_far = org.stage.of(&ids[1]).len();
            org.pass(1);
            org.polls_until(|org| org.stage.of(&ids[1]).len() > so_far).await;
        }
        if refused == "position" {
            org.pubsub("replayIds/invalidate", json!({})).await;
            org.stream_returns().await;
            org.repairs().await;
        } else {
            org.stage.settings.live = None;
            org.stage.restart().await;
            org.pass(1);
            org.catch_up().await;
        }
        assert_eq!(org.stage.folded("Name")[&ids[0]], "second", "{refused}");
        org.assert_equals_org();
    }
}

#[tokio::test]
async fn a_stream_that_is_away_for_too_many_changes_begins_anew_and_the_stretch_is_repaired() {
    let mut org = Practice::start_with("Account", 40, |client| {
        let mut settings = live(client, false);
        settings.live.as_mut().unwrap().most_ahead = 25;
        settings
    })
    .await;
    org.arrives(|org| org.stage.published.len() >= org.ids().len()).await;
    // The rows of the load are remembered no longer.
    org.pass(20 * 60);
    let ids = org.ids();
    org.save(vec![org.rename(&ids[39], "before")]);
    org.equals_org().await;
    org.stream_goes().await;
    for half in ids[..30].chunks(15) {
        org.pass(10 * 60);
        org.save(half.iter().map(|id| org.rename(id, "polled")).collect());
        org.pass(1);
        org.polls_until(|org| half.iter().all(|id| org.stage.of(id) == "RU")).await;
    }
    org.polls_until(|org| org.gaps() == ["away"]).await;
    assert_eq!(org.stage.position().replay_id, None);
    org.stream_returns().await;
    org.repairs().await;
    org.save(vec![org.rename(&ids[35], "streamed")]);
    org.equals_org().await;
    assert!(ids[..30].iter().all(|id| org.stage.of(id) == "RU"), "{}", org.stage.letters());
}

#[tokio::test]
async fn while_the_stream_is_away_changes_are_polled_for_and_not_published_again_when_it_is_back() {
    for whole in [true, false] {
        let mut org = subscribed(20, whole).await;
        let ids = org.ids();
        org.save(vec![org.rename(&ids[0], "before")]);
        org.equals_org().await;
        org.stream_goes().await;
        org.pass(3);
        org.save(vec![org.rename(&ids[1], "polled")]);
        org.save(vec![org.rename(&ids[0], "polled too")]);
        org.pass(5);
        org.stage.errors.clear();
        for _ in 0..20 {
            org.settle(100).await;
            org.stage.errors.clear();
        }
        assert_eq!(org.stage.folded("Name"), org.truth("Name"), "whole {whole}");
        let polled = org.stage.published.iter().filter(|one| one.source == Source::Poll).count();
        assert_eq!(polled, 2, "whole {whole}: {}", org.stage.letters());
        org.stream_returns().await;
        org.save(vec![org.rename(&ids[2], "streamed")]);
        org.equals_org().await;
        org.settle(300).await;
        let of = |id: usize| org.stage.of(&ids[id]);
        assert_eq!(
            (of(0), of(1), of(2)),
            ("RUU".to_owned(), "RU".to_owned(), "RU".to_owned()),
            "whole {whole}"
        );
        assert_eq!(org.gaps(), [""; 0]);
    }
}

#[tokio::test]
async fn a_load_beside_a_busy_stream_loses_nothing_and_steps_back_nowhere() {
    for whole in [true, false] {
        let mut org = Practice::start_with("Account", 3_000, |client| live(client, whole)).await;
        org.control("settings", json!({"bulkPageCap": 200})).await;
        let mut traffic = org.busy(3);
        for _ in 0..40 {
            traffic.run(5);
            org.pass(1);
            org.settle(15).await;
        }
        org.equals_org().await;
        org.settle(200).await;
        if whole {
            org.assert_every_field();
        }
        // By the stamp of the row, as far as it carries one.
        let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
        for one in &org.stage.published {
            let Some(stamp) = one.cells.get("LastModifiedDate").filter(|stamp| !stamp.is_empty()) else {
                continue;
            };
            let stamp = stamp.get(..19).unwrap();
            let before = newest.insert(&one.id, stamp);
            assert!(before.is_none_or(|before| before <= stamp), "{} steps back", one.id);
        }
    }
}

#[tokio::test]
async fn a_field_that_comes_while_events_flow_is_described_and_carried() {
    let mut org = subscribed(10, true).await;
    let ids = org.ids();
    let order = json!({"object": "Account", "field": "Region__c", "action": "add", "type": "string"});
    org.control("fields", order).await;
    org.save(vec![org.rename(&ids[0], "first")]);
    org.equals_org().await;
    let knows = |org: &Practice| org.stage.capture.description().field_index("Region__c").is_some();
    org.arrives(knows).await;
    let fields = vec![("Region__c".to_owned(), Value::text("north".to_owned()))];
    org.save(vec![Change::Update { object: "Account".to_owned(), id: parsed(&ids[1]), fields }]);
    let carried = |org: &Practice| {
        org.stage.published.iter().any(|one| one.cells.get("Region__c").is_some_and(|cell| cell == "north"))
    };
    org.arrives(carried).await;
}

#[tokio::test]
async fn what_was_published_whole_is_not_restated_by_a_repair() {
    let mut org = subscribed(30, true).await;
    let mut traffic = org.busy(5);
    traffic.run(60);
    org.pass(1);
    org.equals_org().await;
    org.settle(200).await;
    let before = org.stage.published.len();
    org.pubsub("events", json!({"object": "Account", "changeType": "GAP_OVERFLOW"})).await;
    org.pass(5);
    org.repairs().await;
    let restated: Vec<_> = org.stage.published.iter().skip(before).collect();
    for one in &restated {
        let of: Vec<_> = org.stage.published.iter().filter(|other| other.id == one.id).collect();
        let [.., last, again] = of.as_slice() else { continue };
        let differ: Vec<_> =
            again.cells.iter().filter(|(name, cell)| last.cells.get(*name) != Some(cell)).collect();
        eprintln!("{} {:?} {:?}", one.id, one.operation, differ);
    }
    assert_eq!(restated.len(), 0);
}
