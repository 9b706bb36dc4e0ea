//! Following by polls: what comes late, what shares a second, what breaks on the way.

use super::*;
use crate::salesforce::Purpose;
use crate::salesforce::scripted::{Org, Reply, reply};

#[tokio::test]
async fn a_transaction_that_commits_minutes_after_its_stamp_is_not_missed() {
    let mut org = Practice::start("Account", 5, settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    let made = org.save_late(vec![org.rename(&ids[0], "late"), org.new_record("late too")], 9 * 60);
    for _ in 0..9 {
        org.pass(59);
        org.catch_up().await;
    }
    assert_eq!((org.stage.of(&ids[0]), org.stage.of(made[1].as_str())), ("RU".to_owned(), "I".to_owned()));
    org.assert_equals_org();
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.of(&ids[0]), "RU", "and once");
}

#[tokio::test]
async fn a_run_that_ends_polls_once_up_to_its_end_and_not_on_the_way_there() {
    let mut org = Practice::start("Account", 3, settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    org.pass(2 * 60 * 60);
    org.save(vec![org.rename(&ids[0], "before the end")]);
    let until = org.now();
    org.stage.settings.until = Some(until);
    org.stage.settings.poll.settle = Duration::from_secs(60 * 60);
    org.stage.restart().await;
    let polls = |org: &Practice| org.stage.client.billed_calls().get(&Purpose::Poll).copied().unwrap_or(0);
    let before = polls(&org);
    for _ in 0..3 {
        let step = org.stage.step().await;
        let Some(Step::CaughtUp { read_to, pause }) = step else { panic!("{step:?} {:?}", org.stage.errors) };
        assert!(read_to < Some(until));
        tokio::time::sleep(pause).await;
    }
    assert_eq!(polls(&org), before, "half the way would be read again a moment later");
    org.pass(60 * 60);
    org.stage.catch_up(until).await;
    assert_eq!((polls(&org), org.stage.of(&ids[0])), (before + 1, "RU".to_owned()));
}

#[tokio::test]
async fn rows_of_one_second_all_arrive_over_page_borders_and_once() {
    let mut org = Practice::start("Account", 700, settings()).await;
    org.control("settings", json!({"pageCap": 200})).await;
    org.catch_up().await;
    let ids = org.ids();
    org.save(ids.iter().map(|id| org.rename(id, "all at once")).collect());
    org.catch_up().await;
    assert!(ids.iter().all(|id| org.stage.of(id) == "RU"), "{}", org.stage.letters());
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.published.len(), 1_400);
    org.assert_equals_org();
}

#[tokio::test]
async fn a_session_that_ends_between_pages_of_a_poll_loses_nothing_and_repeats_nothing() {
    let mut org = Practice::start("Account", 700, settings()).await;
    org.control("settings", json!({"pageCap": 200})).await;
    org.catch_up().await;
    let ids = org.ids();
    for half in ids.chunks(350) {
        org.pass(1);
        org.save(half.iter().map(|id| org.rename(id, "new")).collect());
    }
    org.fault("/query/0r8", 2, json!("expireSession")).await;
    org.catch_up().await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    assert!(ids.iter().all(|id| org.stage.of(id) == "RU"), "{}", org.stage.letters());
}

#[tokio::test]
async fn a_query_that_dies_or_times_out_behind_a_page_goes_on_behind_it_and_repeats_nothing() {
    for code in ["INVALID_QUERY_LOCATOR", "QUERY_TIMEOUT"] {
        let mut org = Practice::start("Account", 700, settings()).await;
        org.control("settings", json!({"pageCap": 200})).await;
        org.catch_up().await;
        let ids = org.ids();
        // So far apart that the first is forgotten when the second is read.
        for quarter in ids.chunks(175) {
            org.pass(30 * 60);
            org.save(quarter.iter().map(|id| org.rename(id, "new")).collect());
        }
        org.refuse("/query/0r8", 1, 400, code).await;
        org.catch_up().await;
        assert!(org.stage.errors.is_empty(), "{code}: {:?}", org.stage.errors);
        assert!(ids.iter().all(|id| org.stage.of(id) == "RU"), "{code}: {}", org.stage.letters());
    }
}

#[tokio::test]
async fn a_poll_that_times_out_is_asked_again_in_smaller_stretches() {
    let mut org = Practice::start("Account", 300, settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    for quarter in ids.chunks(75) {
        org.pass(30 * 60);
        org.save(quarter.iter().map(|id| org.rename(id, "new")).collect());
    }
    org.refuse("queryAll", 3, 400, "QUERY_TIMEOUT").await;
    org.catch_up().await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    assert!(ids.iter().all(|id| org.stage.of(id) == "RU"), "{}", org.stage.letters());
}

#[tokio::test]
async fn fields_that_vanish_or_appear_while_polling_lose_no_change() {
    let mut org = Practice::start("Account", 20, settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    let change = |action: &str, field: &str| json!({"object": "Account", "field": field, "action": action});
    org.control("fields", change("remove", "Fax")).await;
    org.control("fields", change("add", "Aa_New__c")).await;
    let value = |text: &str| vec![("Aa_New__c".to_owned(), Value::text(text.to_owned()))];
    org.save(vec![Change::Update {
        object: "Account".to_owned(),
        id: parsed(&ids[0]),
        fields: value("new"),
    }]);
    org.catch_up().await;
    assert_eq!(org.stage.errors.iter().map(crate::Error::kind).collect::<Vec<_>>(), [Kind::FieldUnknown]);
    assert_eq!(org.stage.of(&ids[0]), "RU");
    assert_eq!(org.stage.published.last().unwrap().cells["Aa_New__c"], "new");
}

#[tokio::test]
async fn what_is_remembered_does_not_grow_with_the_length_of_an_outage() {
    let mut org = Practice::start("Account", 300, settings()).await;
    org.catch_up().await;
    let ids = org.ids();
    for round in 0..20 {
        org.pass(60 * 60);
        org.save(ids.iter().map(|id| org.rename(id, &format!("round {round}"))).collect());
    }
    org.control("settings", json!({"pageCap": 200})).await;
    let mut made = Vec::new();
    for round in 0..20 {
        org.pass(60 * 60);
        made.extend(org.save((0..200).map(|_| org.new_record(&format!("made {round}"))).collect()));
    }
    org.stage.restart().await;
    org.pass(1);
    let (to, mut most) = (org.now(), 0);
    while org.stage.position().committed_to < Some(to) {
        org.stage.step().await;
        most = most.max(org.stage.capture.ledger_size());
    }
    assert!(most < 1_000, "{most} of 4,300 changes were remembered at once");
    assert!(ids.iter().all(|id| org.stage.of(id) == "RU"));
    assert!(made.iter().all(|id| org.stage.of(id.as_str()) == "I"), "none was published before");
    org.assert_equals_org();
    assert!(org.stage.control.len() < 50, "parts out of reach are tombstoned");
}

#[tokio::test]
async fn a_large_stretch_is_read_by_a_bulk_job_and_repeats_nothing_afterwards() {
    let mut wanted = settings();
    wanted.poll.bulk_from = 100;
    let mut org = Practice::start("Account", 700, wanted).await;
    org.catch_up().await;
    let ids = org.ids();
    for half in ids.chunks(350) {
        org.pass(60 * 60);
        org.save(half.iter().map(|id| org.rename(id, "new")).collect());
    }
    org.save(vec![org.delete(&ids[0])]);
    org.catch_up().await;
    assert_eq!(org.stage.of(&ids[0]), "RD");
    assert!(ids.iter().skip(1).all(|id| org.stage.of(id) == "RU"), "{}", org.stage.letters());
    org.stage.restart().await;
    org.catch_up().await;
    assert_eq!(org.stage.published.len(), 1_400);
    org.assert_equals_org();
}

const DESCRIBE: &str = r#"{"name":"Account","label":"Account","queryable":true,"retrieveable":true,"replicateable":true,
    "fields":[{"name":"Id","type":"id"},{"name":"CreatedDate","type":"datetime"},{"name":"IsDeleted","type":"boolean"},
    {"name":"Name","type":"string"},{"name":"SystemModstamp","type":"datetime"}]}"#;

pub fn ids_of(stage: &Stage) -> Vec<&str> {
    stage.published.iter().map(|one| one.id.as_str()).collect()
}

pub fn rows(ids: &[&str], stamp: Option<&str>, next: Option<&str>) -> Reply {
    total(ids, stamp, next, ids.len() as u64)
}

fn total(ids: &[&str], stamp: Option<&str>, next: Option<&str>, total: u64) -> Reply {
    let records: Vec<_> = ids
        .iter()
        .map(|id| {
            json!({"Id": id, "CreatedDate": "2020-01-01T00:00:00.000+0000", "IsDeleted": false, "Name": "x", "SystemModstamp": stamp})
        })
        .collect();
    let mut body = json!({"totalSize": total, "done": next.is_none(), "records": records});
    if let Some(next) = next {
        body["nextRecordsUrl"] = next.into();
    }
    reply(200, body.to_string())
}

/// An org whose clock says 2026-05-19T09:00:00Z, with a position of Account at 08:59.
pub async fn scripted(settings: CaptureSettings) -> (Org, Stage) {
    let org = Org::start().await;
    org.set_date("Tue, 19 May 2026 09:00:00 GMT");
    org.on("/sobjects/Account/describe", [reply(200, DESCRIBE)]);
    let stage = Stage::new(org.client().await, "Account", settings).await;
    (org, stage)
}

pub fn live_at(stage: &mut Stage, cursor: &str) {
    let cursor = Stamp::parse(cursor.as_bytes()).unwrap();
    let mut position = Position::new("Account");
    position.follow_from(cursor, cursor);
    position.state = crate::domain::State::Live;
    position.updated_at = cursor;
    stage.control.insert(Position::key("Account"), position.encode());
}

const STAMP: Option<&str> = Some("2026-05-19T08:59:30.000+0000");
const NOW: Stamp = Stamp(1_779_181_200_000);

#[tokio::test]
async fn a_page_of_a_poll_that_does_not_read_is_asked_for_again_and_never_passed_over() {
    let (org, mut stage) = scripted(settings()).await;
    let [second, third] = ["2", "3"].map(|page| format!("/services/data/v65.0/query/0r8-{page}"));
    org.on(
        "/queryAll?q=",
        [rows(&["001A"], STAMP, Some(&second)), rows(&["001A", "001B", "001C"], STAMP, None)],
    );
    // Not the last row: where a page ends is looked at first.
    let broken = json!({"totalSize": 3, "done": false, "nextRecordsUrl": third, "records": [
        {"Id": "001B", "SystemModstamp": null}, {"Id": "001B", "SystemModstamp": STAMP}]});
    org.on("/query/0r8-2", [reply(200, broken.to_string())]);
    org.on("/query/0r8-3", [rows(&["001C"], STAMP, None)]);
    live_at(&mut stage, "2026-05-19T08:59:00Z");
    stage.restart().await;
    stage.catch_up(NOW).await;
    assert_eq!(stage.errors.iter().map(crate::Error::kind).collect::<Vec<_>>(), [Kind::ReplyUnreadable]);
    assert_eq!(ids_of(&stage), ["001A", "001B", "001C"]);
}

#[tokio::test]
async fn a_bulk_result_whose_headers_got_lost_is_not_taken_for_complete_by_a_poll() {
    let mut wanted = settings();
    wanted.poll.bulk_from = 2;
    let (org, mut stage) = scripted(wanted).await;
    let job = r#"{"id":"7505g00000AbCdEAAV","state":"JobComplete","numberRecordsProcessed":3}"#;
    let page = "\"Id\",\"SystemModstamp\"\n\"001A\",\"2026-05-19T08:59:30.000Z\"\n";
    org.on("/results", [reply(200, page).with("content-type", "text/csv")]);
    org.on("/jobs/query", [reply(200, job)]);
    org.on("/queryAll?q=", [rows(&["001A", "001B", "001C"], STAMP, None)]);
    live_at(&mut stage, "2026-05-19T08:59:00Z");
    stage.restart().await;
    stage.catch_up(NOW).await;
    let error = stage.errors.first().unwrap().to_string();
    assert_eq!(error, "polling Account: 1 rows arrived where the job announced 3");
    assert_eq!(stage.folded("Id").len(), 3, "by REST then");
}
