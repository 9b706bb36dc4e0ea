//! What the stream did not bring, read again: gaps, refused positions, streams that were away; from the simulator.

use super::streams::{live, subscribed};
use super::*;

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
        org.repairs().await;
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
    org.repairs().await;
    assert_eq!(org.stage.of(&ids[1]), "RU");
}

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
