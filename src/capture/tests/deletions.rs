//! Deletions: soft, hard, cascaded, undone; and getDeleted in trouble.

use super::polls::{live_at, scripted};
use super::*;
use crate::salesforce::scripted::{refuse, reply};

#[tokio::test]
async fn every_kind_of_deletion_arrives_once_and_an_undeleted_record_is_back() {
    let mut org = Practice::start("Account", 10, settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    org.save(vec![org.delete(&ids[0]), org.hard_delete(&ids[1]), org.delete(&ids[2])]);
    let never_seen = org.save(vec![org.new_record("short-lived")]);
    org.save(vec![org.hard_delete(never_seen[0].as_str())]);
    org.catch_up().await;
    org.save(vec![Change::Undelete { object: "Account".to_owned(), id: parsed(&ids[2]) }]);
    for _ in 0..4 {
        org.pass(5 * 60);
        org.stage.restart().await;
        org.catch_up().await;
    }
    assert_eq!(org.stage.of(&ids[0]), "RD");
    assert_eq!(org.stage.of(&ids[1]), "RD");
    assert_eq!(org.stage.of(&ids[2]), "RDI");
    assert_eq!(org.stage.of(never_seen[0].as_str()), "D");
    org.assert_equals_org();
}

#[tokio::test]
async fn a_record_that_was_undeleted_and_purged_is_a_deletion_again_after_a_restart() {
    let mut org = Practice::start("Account", 5, settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    org.pass(5 * 60);
    org.save(vec![org.delete(&ids[0])]);
    org.catch_up().await;
    org.pass(60);
    org.save(vec![Change::Undelete { object: "Account".to_owned(), id: parsed(&ids[0]) }]);
    org.catch_up().await;
    assert_eq!(org.stage.of(&ids[0]), "RDI");
    // Beyond the look-back, and no getDeleted meanwhile.
    org.pass(16 * 60);
    org.catch_up().await;
    org.save(vec![org.hard_delete(&ids[0])]);
    org.pass(5 * 60);
    org.stage.restart().await;
    org.catch_up().await;
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.of(&ids[0]), "RDID");
    org.assert_equals_org();
}

#[tokio::test]
async fn a_child_deleted_with_its_parent_is_a_deletion_once_though_its_stamp_did_not_move() {
    let mut org = Practice::start("InvoiceLine__c", 20, settings()).await;
    org.control("settings", json!({"cascadeKeepsStamp": true})).await;
    org.catch_up().await;
    let ids = org.ids();
    // Within reach of the look-back, so that the poll sees the deleted row with this stamp.
    org.save(vec![Change::Touch { object: "InvoiceLine__c".to_owned(), id: parsed(&ids[0]) }]);
    org.pass(13 * 60);
    org.catch_up().await;
    let parent = org.truth("Invoice__c")[&ids[0]].clone();
    org.save(vec![Change::Delete { object: "Invoice__c".to_owned(), id: parsed(&parent) }]);
    for _ in 0..8 {
        org.catch_up().await;
        org.stage.restart().await;
        org.pass(2 * 60);
    }
    org.catch_up().await;
    assert_eq!(org.stage.folded("Id").into_keys().collect::<Vec<_>>(), org.ids());
    let of = org.stage.of(&ids[0]);
    assert_eq!(of.matches('D').count(), 1, "{of}");
}

#[tokio::test]
async fn trouble_with_get_deleted_holds_up_no_change() {
    for (status, code) in [
        (500, "UNKNOWN_EXCEPTION"),
        (400, "INVALID_REPLICATION_DATE"),
        (403, "INSUFFICIENT_ACCESS"),
        (400, "INVALID_TYPE_FOR_OPERATION"),
    ] {
        let mut org = Practice::start("Account", 3, settings()).await;
        org.catch_up().await;
        org.refuse("/deleted", 1_000, status, code).await;
        let ids = org.ids();
        org.pass(10 * 60);
        org.save(vec![org.rename(&ids[0], "followed all the same")]);
        org.stage.restart().await;
        org.catch_up().await;
        org.stage.restart().await;
        org.catch_up().await;
        assert_eq!(org.stage.of(&ids[0]), "RU", "{code}");
        assert!(org.stage.errors.is_empty(), "{code}: {:?}", org.stage.errors);
        assert!(!org.stage.troubles.is_empty(), "{code} is counted");
        let lost = org.stage.troubles.contains(&Kind::DeletionsLost);
        assert_eq!(lost, code == "INVALID_REPLICATION_DATE", "{code}");
    }
}

#[tokio::test]
async fn deletions_asked_for_in_vain_are_found_when_get_deleted_answers_again() {
    let mut org = Practice::start("Account", 3, settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    org.save(vec![org.hard_delete(&ids[0])]);
    org.refuse("/deleted", 40, 503, "SERVER_UNAVAILABLE").await;
    org.pass(10 * 60);
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.of(&ids[0]), "R");
    let url = format!("{}/faults", org.simulator.control_url());
    reqwest::Client::new().delete(url).send().await.unwrap();
    org.stage.restart().await;
    org.pass(60);
    org.catch_up().await;
    assert_eq!(org.stage.of(&ids[0]), "RD");
}

#[tokio::test]
async fn a_run_that_ends_has_published_what_was_purged_before_its_start() {
    let mut org = Practice::start("Account", 3, settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    org.pass(30);
    org.save(vec![org.hard_delete(&ids[0])]);
    org.pass(1);
    org.stage.settings.until = Some(org.now());
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.of(&ids[0]), "RD");
    org.assert_equals_org();
}

#[tokio::test]
async fn an_id_that_get_deleted_names_though_it_was_undeleted_is_not_deleted_again() {
    let (org, mut stage) = scripted(settings()).await;
    let named = r#"{"deletedRecords":[{"id":"001A","deletedDate":"2026-05-19T08:10:00.000+0000"},
        {"id":"001B","deletedDate":"2026-05-19T08:11:00.000+0000"}],
        "earliestDateAvailable":"2026-05-01T00:00:00.000+0000","latestDateCovered":"2026-05-19T08:59:00.000+0000"}"#;
    org.on("/deleted/", [reply(200, named)]);
    org.on("/composite/sobjects/Account", [reply(200, r#"[{"attributes":{},"Id":"001A"},null]"#)]);
    org.on("/queryAll?q=", [reply(200, r#"{"totalSize":0,"done":true,"records":[]}"#)]);
    live_at(&mut stage, "2026-05-19T08:00:00Z");
    stage.restart().await;
    stage.catch_up(Stamp::parse(b"2026-05-19T09:00:00Z").unwrap()).await;
    stage.restart().await;
    stage.catch_up(Stamp::parse(b"2026-05-19T09:00:00Z").unwrap()).await;
    assert_eq!(
        stage.published.iter().map(|one| (one.id.as_str(), one.operation.letter())).collect::<Vec<_>>(),
        [("001B", "D")]
    );
    assert_eq!(stage.position().deleted_to, Stamp::parse(b"2026-05-19T08:59:00Z"));
}

#[tokio::test]
async fn a_record_read_by_id_without_its_stamp_is_an_error_before_anything_is_taken() {
    let (org, stage) = scripted(settings()).await;
    let object = stage.capture.description().clone();
    let ids = [crate::capture::ledger::RecordId::new(b"001A").unwrap()];
    let due = std::collections::HashMap::new();
    let record = |stamp: &str| format!(r#"[{{"attributes":{{}},"Id":"001A","SystemModstamp":{stamp}}}]"#);
    let replies = ["null", r#""2026-05-19T08:10:00.000+0000""#].map(|stamp| reply(200, record(stamp)));
    org.on("/composite/sobjects/Account", replies);
    for expected in [Err(Kind::ReplyUnreadable), Ok(true)] {
        let read = crate::capture::reading::read_records(&stage.client, &object, &ids, &due, None).await;
        assert_eq!(read.map(|read| read.row(&ids[0]).is_some()).map_err(|error| error.kind()), expected);
    }
}

#[tokio::test]
async fn deletions_stay_unpublished_and_unpassed_while_nobody_can_say_whether_they_stand() {
    let (org, mut stage) = scripted(settings()).await;
    let named = r#"{"deletedRecords":[{"id":"001B","deletedDate":"2026-05-19T08:11:00.000+0000"}],
        "earliestDateAvailable":"2026-05-01T00:00:00.000+0000","latestDateCovered":"2026-05-19T08:59:00.000+0000"}"#;
    org.on("/deleted/", [reply(200, named)]);
    org.on("/composite/sobjects/Account", [refuse(503, "SERVER_UNAVAILABLE", "later")]);
    org.on("/queryAll?q=", [reply(200, r#"{"totalSize":0,"done":true,"records":[]}"#)]);
    live_at(&mut stage, "2026-05-19T08:00:00Z");
    stage.restart().await;
    stage.catch_up(Stamp::parse(b"2026-05-19T09:00:00Z").unwrap()).await;
    assert_eq!(
        (stage.published.len(), stage.position().deleted_to),
        (0, Stamp::parse(b"2026-05-19T08:00:00Z"))
    );
}

#[tokio::test]
async fn a_poll_does_not_wait_for_the_question_about_deletions_where_calls_are_short() {
    let (org, mut stage) = scripted(settings()).await;
    let none = r#"{"deletedRecords":[],"earliestDateAvailable":"2026-05-01T00:00:00.000+0000",
        "latestDateCovered":"2026-05-19T08:59:00.000+0000"}"#;
    // Ten calls a day are ours, most of them kept for polls: there is none for a second question.
    org.on("/deleted/", [reply(200, none).with("sforce-limit-info", "api-usage=1/20")]);
    org.on("/queryAll?q=", [reply(200, r#"{"totalSize":0,"done":true,"records":[]}"#)]);
    live_at(&mut stage, "2026-05-19T08:00:00Z");
    let mut polls = 0;
    for minute in ["00", "10", "20"] {
        org.set_date(&format!("Tue, 19 May 2026 09:{minute}:00 GMT"));
        stage.restart().await;
        stage.client.fetch_server_time().await.unwrap();
        let to = Stamp::parse(format!("2026-05-19T09:{minute}:00Z").as_bytes()).unwrap();
        let caught_up = stage.catch_up(to);
        tokio::time::timeout(Duration::from_secs(60), caught_up).await.expect("polls go on");
        let so_far = org.requests("/queryAll?q=").len();
        assert!(so_far > polls, "{so_far} polls");
        polls = so_far;
    }
    assert_eq!(org.requests("/deleted/").len(), 1);
    assert!(stage.troubles.is_empty() && stage.errors.is_empty(), "{:?} {:?}", stage.troubles, stage.errors);
}
