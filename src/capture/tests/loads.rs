//! Full loads: ended anywhere, beside changes, refused, run into time limits.

use super::polls::{ids_of, rows, scripted};
use super::*;

#[tokio::test]
async fn a_load_that_is_ended_anywhere_goes_on_and_repeats_nothing() {
    let mut org = Practice::start("Account", 11_000, settings()).await;
    let mut batches = 0;
    while org.stage.position_or_none().is_none_or(|position| position.load.is_none_or(|load| !load.done)) {
        org.stage.step().await;
        batches += 1;
        org.stage.restart().await;
    }
    assert!(batches > 3, "{batches}");
    org.catch_up().await;
    assert_eq!(org.stage.letters(), "R".repeat(11_000));
    org.assert_equals_org();
}

#[tokio::test]
async fn pages_of_a_load_by_rest_whose_locator_or_session_dies_repeat_nothing() {
    let by_rest = CaptureSettings { estimate: Some(1), ..settings() };
    let mut org = Practice::start("Account", 5_000, by_rest).await;
    org.control("settings", json!({"pageCap": 500})).await;
    org.refuse("/query/0r8", 1, 400, "INVALID_QUERY_LOCATOR").await;
    let expiry = json!({"contains": "/query/0r8", "after": 2, "times": 2, "action": "expireSession"});
    org.control("faults", expiry).await;
    org.fault("/query/0r8", 1, json!({"cutBody": {"afterBytes": 900}})).await;
    for _ in 0..4 {
        org.stage.step().await;
        org.stage.restart().await;
    }
    org.catch_up().await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    assert_eq!(org.stage.letters(), "R".repeat(5_000));
    org.assert_equals_org();
}

#[tokio::test]
async fn pages_of_a_job_that_break_off_or_lack_rows_repeat_nothing() {
    let mut org = Practice::start("Account", 5_000, settings()).await;
    org.fault("/results", 2, json!({"cutBody": {"afterBytes": 5_000}})).await;
    org.fault("/results", 2, json!({"endBody": {"afterBytes": 5_000}})).await;
    org.fault("/results", 1, json!({"wrongCount": {"by": 1}})).await;
    org.catch_up().await;
    assert_eq!(org.stage.letters(), "R".repeat(5_000));
    org.assert_equals_org();
}

#[tokio::test]
async fn a_load_goes_by_rest_where_the_days_bulk_jobs_are_used_up() {
    let mut org = Practice::start("Account", 50, settings()).await;
    org.control("settings", json!({"jobLimit": 0})).await;
    org.catch_up().await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    assert_eq!(org.stage.letters(), "R".repeat(50));
}

/// As the topic holds it.
fn spelled(value: &str) -> String {
    String::from_utf8(crate::domain::cell::any(value.as_bytes()).into_owned()).unwrap()
}

#[tokio::test]
async fn old_and_new_values_of_a_field_history_arrive_whatever_their_type() {
    for estimate in [None, Some(1)] {
        let wanted = CaptureSettings { estimate, ..settings() };
        let mut org = Practice::start("AccountHistory", 400, wanted).await;
        org.catch_up().await;
        let rows = org.simulator.org().truth_rows("AccountHistory").unwrap();
        let truth: BTreeMap<String, String> = rows
            .map(|row| {
                let value = match &row["NewValue"] {
                    serde_json::Value::Null => String::new(),
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                (row["Id"].as_str().unwrap().to_owned(), spelled(&value))
            })
            .collect();
        let mut published = org.stage.folded("NewValue");
        published.values_mut().for_each(|value| *value = spelled(value));
        assert!(published == truth, "estimate {estimate:?}");
        let kinds = [|v: &String| v.is_empty(), |v: &String| v.parse::<f64>().is_ok()];
        assert!(kinds.iter().all(|kind| truth.values().any(kind)), "values of several types");
    }
}

#[tokio::test]
async fn changes_and_deletions_beside_a_load_neither_get_lost_nor_step_back() {
    let mut org = Practice::start("Account", 9_000, settings()).await;
    org.control("settings", json!({"pageCap": 1_000})).await;
    let ids = org.ids();
    // The job is made, and holds what was there.
    org.stage.step().await;
    org.pass(10);
    let made = org.save(vec![
        org.rename(&ids[0], "changed beside"),
        org.delete(&ids[1]),
        org.hard_delete(&ids[2]),
        org.new_record("new beside"),
    ]);
    let mut waited = 0;
    while org.stage.capture.position().state != crate::domain::State::Live {
        org.pass(1);
        org.stage.step().await;
        waited += 1;
        assert!(waited < 200);
    }
    org.catch_up_with_purges().await;
    org.assert_equals_org();
    assert_eq!(org.stage.of(made[3].as_str()), "I");
    for id in &ids[..3] {
        let of = org.stage.of(id);
        assert!(!of.ends_with('R'), "{of}");
    }
}

#[tokio::test]
async fn a_field_that_appears_in_the_middle_of_a_load_spoils_no_page() {
    let mut org = Practice::start("Account", 9_000, settings()).await;
    org.stage.step().await;
    org.stage.step().await;
    let rows = org.stage.published.len();
    org.control(
        "fields",
        json!({"object": "Account", "field": "Aa_New__c", "action": "add", "type": "string"}),
    )
    .await;
    org.control("fields", json!({"object": "Account", "field": "Fax", "action": "remove"})).await;
    org.stage.restart().await;
    org.catch_up().await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    assert_eq!(org.stage.letters(), "R".repeat(9_000));
    org.assert_equals_org();
    // The job was made before: its pages do not carry the field, which is not the same as null.
    assert!(rows > 0 && rows < 9_000);
    assert!(org.stage.published.iter().all(|one| !one.cells.contains_key("Aa_New__c")));
}

#[tokio::test]
async fn a_load_whose_job_fails_or_is_gone_begins_again_with_every_row() {
    let mut org = Practice::start("Account", 50, settings()).await;
    for fate in ["fail", "abort", "gone"] {
        org.spoil_a_job(fate).await;
    }
    org.catch_up().await;
    assert_eq!(org.stage.letters(), "R".repeat(50));
    let kinds: Vec<Kind> = org.stage.errors.iter().map(crate::Error::kind).collect();
    assert_eq!(kinds, [Kind::BulkJobFailed, Kind::BulkJobFailed, Kind::BulkJobGone]);
    org.assert_equals_org();
}

#[tokio::test]
async fn a_load_that_begins_anew_long_after_the_last_poll_does_not_pass_over_what_lay_between() {
    let mut wanted = settings();
    wanted.poll.interval = Duration::from_secs(3_600);
    wanted.poll.max_interval = wanted.poll.interval;
    let mut org = Practice::start("Account", 50, wanted).await;
    org.spoil_a_job("fail").await;
    let ids = org.ids();
    while org.stage.errors.is_empty() {
        org.stage.step().await;
    }
    org.pass(60);
    org.save(vec![org.delete(&ids[0])]);
    org.pass(40 * 60);
    org.catch_up().await;
    assert_eq!(org.stage.of(&ids[0]), "D");
    let deletion = org.stage.published.iter().find(|one| one.id == ids[0]).unwrap();
    assert!(deletion.cells.contains_key("Name"), "from its row: {:?}", deletion.cells);
    org.assert_equals_org();
}

#[tokio::test]
async fn archived_records_are_loaded_like_all_others() {
    for estimate in [None, Some(1)] {
        let mut org = Practice::start("Task", 3_000, CaptureSettings { estimate, ..settings() }).await;
        org.catch_up().await;
        assert_eq!(org.stage.folded("Subject"), org.truth("Subject"), "estimate {estimate:?}");
    }
}

#[tokio::test]
async fn a_load_by_rest_that_runs_into_the_time_limit_goes_on_in_smaller_queries() {
    let mut org = Practice::start("Account", 500, CaptureSettings { estimate: Some(1), ..settings() }).await;
    org.refuse("ORDER BY Id", 5, 400, "QUERY_TIMEOUT").await;
    org.catch_up().await;
    assert!(org.stage.errors.is_empty(), "{:?}", org.stage.errors);
    assert_eq!(org.stage.letters(), "R".repeat(500));
    org.assert_equals_org();
}

#[tokio::test]
async fn a_page_of_a_load_that_does_not_read_is_asked_for_again_and_never_passed_over() {
    let wanted = CaptureSettings { method: Method::FullLoad, estimate: Some(1), ..settings() };
    let (org, mut stage) = scripted(wanted).await;
    let [second, third] = ["2", "3"].map(|page| format!("/services/data/v65.0/query/0r8-{page}"));
    let stamp = Some("2026-05-19T08:00:00.000+0000");
    org.on("/query?q=", [rows(&["001A"], stamp, Some(&second)), rows(&["001B", "001C"], stamp, None)]);
    org.on("/query/0r8-2", [rows(&["001B"], None, Some(&third))]);
    org.on("/query/0r8-3", [rows(&["001C"], stamp, None)]);
    stage.catch_up(Stamp(0)).await;
    assert_eq!(stage.errors.iter().map(crate::Error::kind).collect::<Vec<_>>(), [Kind::ReplyUnreadable]);
    assert_eq!(ids_of(&stage), ["001A", "001B", "001C"]);
}
