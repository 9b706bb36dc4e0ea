//! getUpdated and getDeleted: windows, coverage, the cut log, and history's oddity.

use std::time::Duration;

use sf2kafka_sim::org::{Change, Org, ReplicationError, Transaction};

use crate::{START_MS, config, first_id, one, org, row, rows, seconds};

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;

#[test]
fn the_window_is_cut_to_minutes_and_must_be_longer_than_one() {
    let org = org();
    assert_eq!(org.updated("Account", START_MS, START_MS + MINUTE), Err(ReplicationError::WindowTooShort));
    // 59 seconds more do not help: seconds are ignored.
    let error = org.deleted("Account", START_MS + 59_000, START_MS + MINUTE + 59_000).unwrap_err();
    assert_eq!((error.code(), &error), ("INVALID_REPLICATION_DATE", &ReplicationError::WindowTooShort));
    assert!(org.updated("Account", START_MS - 2 * MINUTE, START_MS).is_ok());
}

#[test]
fn the_past_reaches_thirty_days_for_updated_and_fifteen_for_deleted() {
    let org = org();
    assert!(org.updated("Account", START_MS - 30 * DAY, START_MS).is_ok());
    let error = org.updated("Account", START_MS - 30 * DAY - MINUTE, START_MS).unwrap_err();
    assert_eq!(error, ReplicationError::StartTooEarly);
    assert!(org.deleted("Account", START_MS - 15 * DAY, START_MS).is_ok());
    assert!(org.deleted("Account", START_MS - 15 * DAY - MINUTE, START_MS).is_err());
    let error = org.updated("AccountShare", START_MS - DAY, START_MS).unwrap_err();
    assert_eq!(error, ReplicationError::NotReplicateable("AccountShare".into()));
    assert_eq!(org.updated("Nope", 0, 0).unwrap_err().code(), "NOT_FOUND");
}

#[test]
fn updated_names_what_a_scan_of_the_window_shows() {
    let org = org();
    let id = first_id(&org, "Account");
    org.commit(one(Change::update("Account", id, Vec::new()))).unwrap();
    org.clock().advance(seconds(120));
    let updated = org.updated("Account", START_MS - 25 * DAY, START_MS + 2 * MINUTE).unwrap();
    let mut expected: Vec<_> = rows(&org, "Account", false)
        .iter()
        .filter(|row| row.cursor_ms() >= START_MS - 25 * DAY)
        .map(|row| row.id())
        .collect();
    expected.sort();
    assert!(expected.contains(&id) && expected.len() > 10);
    assert_eq!(updated.ids, expected);
    assert_eq!(updated.latest_date_covered_ms, START_MS + 2 * MINUTE);
}

#[test]
fn what_is_saved_but_not_seen_is_not_covered() {
    let org = org();
    let transaction = one(Change::insert("Account", Vec::new()));
    org.clock().advance(seconds(90));
    org.commit(Transaction { visible_after: seconds(600), ..transaction }).unwrap();
    org.clock().advance(seconds(300));
    let end = START_MS + 6 * MINUTE;
    let updated = org.updated("Account", START_MS - DAY, end).unwrap();
    assert_eq!(updated.latest_date_covered_ms, START_MS + MINUTE);
    org.clock().advance(seconds(600));
    let later = org.updated("Account", START_MS - DAY, end).unwrap();
    assert_eq!(later.latest_date_covered_ms, end);
    assert_eq!(later.ids.len(), updated.ids.len() + 1);
}

#[test]
fn deleted_knows_the_bin_the_purged_and_not_the_undeleted() {
    let org = org();
    let ids: Vec<_> = rows(&org, "Lead", false).iter().take(3).map(|row| row.id()).collect();
    org.commit(one(Change::delete("Lead", ids[0]))).unwrap();
    org.commit(one(Change::delete("Lead", ids[1]))).unwrap();
    org.commit(one(Change::hard_delete("Lead", ids[2]))).unwrap();
    org.commit(one(Change::hard_delete("Lead", ids[1]))).unwrap();
    org.commit(one(Change::undelete("Lead", ids[0]))).unwrap();
    org.clock().advance(seconds(60));
    let answer = org.deleted("Lead", START_MS - MINUTE, START_MS + MINUTE).unwrap();
    let found: Vec<_> = answer.records.iter().map(|record| (record.id, record.deleted_ms)).collect();
    assert_eq!(found, [(ids[1], START_MS), (ids[2], START_MS)]);
    let generated = org.deleted("Lead", START_MS - 14 * DAY, START_MS - DAY / 2).unwrap();
    assert!(!generated.records.is_empty());
    for record in generated.records {
        assert_eq!(row(&org, "Lead", record.id).unwrap().cursor_ms(), record.deleted_ms);
    }
}

#[test]
fn a_cut_log_asks_for_a_full_pull() {
    let mut config = config();
    config.delete_log_limit = 5;
    let org = Org::new(config);
    let ids: Vec<_> = rows(&org, "Lead", false).iter().take(8).map(|row| row.id()).collect();
    for id in &ids[..6] {
        org.commit(one(Change::delete("Lead", *id))).unwrap();
    }
    org.clock().advance(Duration::from_secs(3 * 3_600));
    org.commit(one(Change::delete("Lead", ids[6]))).unwrap();
    let now = org.now_ms();
    assert_eq!(org.deleted("Lead", START_MS - MINUTE, now), Err(ReplicationError::LogTrimmed));
    org.clock().advance(seconds(60));
    let answer = org.deleted("Lead", now - 60 * MINUTE, now + MINUTE).unwrap();
    assert_eq!(answer.records.len(), 1);
    assert_eq!(answer.earliest_date_available_ms, now - 120 * MINUTE);
    // Another object's log is whole.
    assert!(org.deleted("Case", START_MS - MINUTE, now).is_ok());
}

#[test]
fn history_objects_answer_for_each_other() {
    let org = org();
    let account = first_id(&org, "Account");
    let histories: Vec<_> = rows(&org, "AccountHistory", false)
        .iter()
        .filter(|row| row.get_by_name("AccountId").unwrap().as_id() == Some(account))
        .map(|row| row.id())
        .collect();
    assert!(!histories.is_empty());
    org.commit(one(Change::delete("Account", account))).unwrap();
    org.clock().advance(seconds(60));
    let (start, end) = (START_MS - MINUTE, START_MS + MINUTE);
    let of_case = org.deleted("CaseHistory", start, end).unwrap();
    assert!(histories.iter().all(|id| of_case.records.iter().any(|record| record.id == *id)));
    let of_opportunity = org.deleted("OpportunityHistory", start, end).unwrap();
    assert!(of_opportunity.records.iter().all(|record| record.id.prefix() == *b"008"));
}

#[test]
fn an_emptied_bin_is_empty_and_moves_the_earliest_date_where_asked() {
    for moves in [false, true] {
        let mut config = config();
        config.purge_moves_earliest_date = moves;
        let org = Org::new(config);
        let in_bin = rows(&org, "Lead", true).iter().filter(|row| row.is_deleted()).count();
        assert!(in_bin > 0);
        org.empty_recycle_bin("Lead").unwrap();
        assert!(rows(&org, "Lead", true).iter().all(|row| !row.is_deleted()));
        assert_eq!(org.empty_recycle_bin("Lead").unwrap().ids.len(), 0);
        let answer = org.deleted("Lead", START_MS - DAY, START_MS).unwrap();
        assert_eq!(answer.earliest_date_available_ms == START_MS, moves);
    }
}
