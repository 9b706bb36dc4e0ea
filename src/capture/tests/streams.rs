//! Following by subscription, from the simulator: what arrives, what is repaired, what is never lost or repeated.

use super::*;
use crate::capture::LiveSettings;
use crate::domain::NoticeKind;
use crate::salesforce::pubsub::PubSub;
use ::simulator::org::{Mix, Traffic, TrafficConfig};

/// `whole`: `after: full`. A stream that stands at once, and little patience.
pub(super) fn live(client: &Client, whole: bool) -> CaptureSettings {
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

pub(super) async fn subscribed(rows: u64, whole: bool) -> Practice {
    let mut org = Practice::start_with("Account", rows, |client| live(client, whole)).await;
    org.arrives(|org| org.stage.published.len() >= org.ids().len()).await;
    org
}

impl Practice {
    /// Steps until this holds.
    pub(super) async fn arrives(&mut self, holds: impl Fn(&Practice) -> bool) {
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

    pub(super) async fn equals_org(&mut self) {
        self.arrives(|org| org.stage.folded("Name") == org.truth("Name")).await;
    }

    /// Whatever still comes within this time is taken.
    pub(super) async fn settle(&mut self, millis: u64) {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(millis);
        while tokio::time::timeout_at(deadline, self.stage.step()).await.is_ok() {}
    }

    /// The stream ends and does not come back before `stream_returns`.
    pub(super) async fn stream_goes(&self) {
        let unavailable = json!({"status": {"code": "UNAVAILABLE"}});
        self.pubsub("faults", json!({"rpc": "GetTopic", "action": unavailable})).await;
        self.pubsub("faults", json!({"action": unavailable})).await;
    }

    pub(super) async fn stream_returns(&self) {
        let url = format!("{}/pubsub/faults", self.simulator.control_url());
        reqwest::Client::new().delete(url).send().await.unwrap();
    }

    /// Time goes on until a stretch is repaired: where polls read up to the present before the stream stood, the window that
    /// repairs begins there, and ends later.
    pub(super) async fn repairs(&mut self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while self.repaired() != 1 {
            let (notices, position) = (&self.stage.notices, self.stage.position_or_none());
            assert!(tokio::time::Instant::now() < deadline, "it is not repaired: {notices:?} {position:?}");
            self.pass(1);
            self.step_while_time_goes_on().await;
            self.stage.errors.clear();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Polls as long as this shows in the topic, whatever the stream's trouble.
    pub(super) async fn polls_until(&mut self, holds: impl Fn(&Practice) -> bool) {
        for _ in 0..200 {
            self.stage.errors.clear();
            if holds(self) {
                return;
            }
            self.settle(50).await;
        }
        panic!("it is not polled: {:?}", self.stage.position());
    }

    pub(super) async fn pubsub(&self, path: &str, body: serde_json::Value) {
        self.control(&format!("pubsub/{path}"), body).await;
    }

    pub(super) fn busy(&self, seed: u64) -> Traffic {
        let objects = vec!["Account".to_owned()];
        // What leaves no event has its own tests: hard deletions are found by getDeleted, saves that only move the
        // stamp by nobody.
        let mix = Mix { hard_delete: 0, touch: 0, ..Mix::default() };
        let config = TrafficConfig { seed, objects, mix, ..TrafficConfig::default() };
        Traffic::new(self.simulator.org(), config).unwrap()
    }

    /// What a reader holds who applies every carried field, compared with the org, field by field.
    pub(super) fn assert_every_field(&self) {
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

    pub(super) fn gaps(&self) -> Vec<&'static str> {
        self.stage.notices.iter().filter_map(|notice| notice.kind.gap()).collect()
    }

    pub(super) fn repaired(&self) -> usize {
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
    org.repairs().await;
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
