//! Transactions: stamps, lag, locks, cascades, merges, the bin, and all or nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use sf2kafka_sim::org::{
    Change, ChangeKind, Clock, CommitError, Id, Org, ScanRange, Stamp, Transaction, Value,
};

use crate::{START_MS, config, first_id, get, name, one, org, row, rows, seconds};

#[test]
fn an_insert_sets_all_audit_fields_to_the_second() {
    let org = Org::new(config().with_clock(Clock::stopped_at(START_MS + 789)));
    let user = Id::new(*b"005", 3);
    let transaction = Transaction { user: Some(user), ..one(Change::insert("Account", name("New"))) };
    let receipt = org.commit(transaction).unwrap();
    assert_eq!((receipt.stamp_ms, receipt.commit), (START_MS, Some(1)));
    let id = receipt.ids[0];
    for field in ["CreatedDate", "LastModifiedDate", "SystemModstamp"] {
        assert_eq!(get(&org, "Account", id, field), Value::DateTime(START_MS), "{field}");
    }
    assert_eq!(get(&org, "Account", id, "CreatedById"), Value::Id(user));
    assert_eq!(get(&org, "Account", id, "Name"), Value::text("New"));
    assert_eq!(get(&org, "Account", id, "IsDeleted"), Value::Bool(false));
    let last = rows(&org, "Account", false).pop().unwrap();
    assert_eq!(last.id(), id);
}

#[test]
fn an_update_moves_the_record_to_the_end_and_keeps_its_creation() {
    let org = org();
    let id = first_id(&org, "Account");
    let created = get(&org, "Account", id, "CreatedDate");
    let industry = get(&org, "Account", id, "Industry");
    org.commit(one(Change::update("Account", id, name("Changed")))).unwrap();
    assert_eq!(get(&org, "Account", id, "CreatedDate"), created);
    assert_eq!(get(&org, "Account", id, "Industry"), industry);
    assert_eq!(get(&org, "Account", id, "LastModifiedDate"), Value::DateTime(START_MS));
    assert_eq!(rows(&org, "Account", false).pop().unwrap().id(), id);
}

#[test]
fn an_automated_save_moves_system_modstamp_only() {
    let org = org();
    let id = first_id(&org, "Account");
    let modified = get(&org, "Account", id, "LastModifiedDate");
    org.commit(one(Change::Touch { object: "Account".into(), id })).unwrap();
    assert_eq!(get(&org, "Account", id, "LastModifiedDate"), modified);
    assert_eq!(get(&org, "Account", id, "SystemModstamp"), Value::DateTime(START_MS));
}

#[test]
fn a_lagging_transaction_shows_up_late_with_its_early_stamp() {
    let org = org();
    let lagging = Transaction { visible_after: seconds(60), ..one(Change::insert("Account", name("Early"))) };
    let early = org.commit(lagging).unwrap();
    assert_eq!((early.commit, early.visible_at_ms), (None, START_MS + 60_000));
    org.clock().advance(seconds(5));
    let late = org.commit(one(Change::insert("Account", name("Late")))).unwrap();
    assert!(late.ids[0] > early.ids[0]);
    assert!(row(&org, "Account", early.ids[0]).is_none());
    org.clock().advance(Duration::from_millis(54_999));
    assert!(row(&org, "Account", early.ids[0]).is_none());
    let before = org.snapshot();
    org.clock().advance(Duration::from_millis(1));
    let seen = row(&org, "Account", early.ids[0]).unwrap();
    assert_eq!(seen.cursor_ms(), START_MS);
    assert!(seen.cursor_ms() < row(&org, "Account", late.ids[0]).unwrap().cursor_ms());
    assert!(before.row("Account", early.ids[0], true).unwrap().is_none());
    let log = org.change_log(0, 10);
    let order: Vec<_> = log.iter().map(|entry| (entry.commit, entry.transaction, entry.id)).collect();
    assert_eq!(order, [(1, late.transaction, late.ids[0]), (2, early.transaction, early.ids[0])]);
    assert_eq!((log[1].committed_at_ms, log[1].visible_at_ms), (START_MS, START_MS + 60_000));
}

#[test]
fn transactions_that_become_visible_together_do_so_in_the_order_of_their_moments() {
    let org = org();
    let insert = |lag| {
        let transaction =
            Transaction { visible_after: seconds(lag), ..one(Change::insert("Account", Vec::new())) };
        org.commit(transaction).unwrap().transaction
    };
    let numbers = [insert(30), insert(10), insert(20)];
    assert_eq!(org.pending(), (3, Some(START_MS + 30_000)));
    org.clock().advance(seconds(100));
    let seen: Vec<_> = org.change_log(0, 10).iter().map(|entry| entry.transaction).collect();
    assert_eq!(seen, [numbers[1], numbers[2], numbers[0]]);
    assert_eq!(org.pending(), (0, None));
}

#[test]
fn a_waiting_record_is_locked_for_others() {
    let org = org();
    let id = first_id(&org, "Invoice__c");
    let old = get(&org, "Invoice__c", id, "Amount__c");
    let fields = vec![("Amount__c".to_owned(), Value::Double(1.5))];
    let update = Change::update("Invoice__c", id, fields);
    org.commit(Transaction { visible_after: seconds(10), ..one(update) }).unwrap();
    assert_eq!(get(&org, "Invoice__c", id, "Amount__c"), old);
    for change in [Change::delete("Invoice__c", id), Change::update("Invoice__c", id, Vec::new())] {
        let error = org.commit(one(change)).unwrap_err();
        assert_eq!(error, CommitError::Locked { object: "Invoice__c".into(), id });
        assert_eq!(error.code(), "UNABLE_TO_LOCK_ROW");
    }
    org.clock().advance(seconds(10));
    org.commit(one(Change::delete("Invoice__c", id))).unwrap();
    assert_eq!(get(&org, "Invoice__c", id, "Amount__c"), Value::Double(1.5));
}

#[test]
fn a_refused_change_leaves_nothing_of_its_transaction() {
    let org = org();
    let id = first_id(&org, "Account");
    let before = org.truth_rows("Account").unwrap().collect::<Vec<_>>();
    let missing = Id::new(*b"001", 9_999_999);
    let changes = vec![
        Change::update("Account", id, name("Never")),
        Change::insert("Account", name("Never")),
        Change::delete("Account", missing),
    ];
    let error = org.commit(Transaction::of(changes)).unwrap_err();
    assert_eq!(error, CommitError::NotFound { object: "Account".into(), id: missing });
    assert_eq!(org.truth_rows("Account").unwrap().collect::<Vec<_>>(), before);
    assert_eq!(org.change_count(), 0);
    let next = org.commit(one(Change::insert("Account", Vec::new()))).unwrap();
    assert_eq!(next.ids[0].sequence(), Some(1_000));
}

#[test]
fn several_saves_of_one_record_in_one_second_share_the_stamp() {
    let org = org();
    let id = first_id(&org, "Account");
    let first = org.commit(one(Change::update("Account", id, name("one")))).unwrap();
    let between = org.snapshot();
    org.clock().advance(Duration::from_millis(300));
    let second = org.commit(one(Change::update("Account", id, name("two")))).unwrap();
    assert_eq!(first.stamp_ms, second.stamp_ms);
    let between = between.row("Account", id, false).unwrap().unwrap();
    assert_eq!(between.get_by_name("Name"), Some(Value::text("one")));
    assert_eq!(get(&org, "Account", id, "Name"), Value::text("two"));
    assert_eq!(rows(&org, "Account", false).iter().filter(|row| row.id() == id).count(), 1);
}

#[test]
fn a_delete_goes_to_the_bin_and_leaves_it_after_fifteen_days() {
    let org = org();
    let id = first_id(&org, "Lead");
    let live = org.snapshot().count("Lead", false).unwrap();
    org.commit(one(Change::delete("Lead", id))).unwrap();
    let snapshot = org.snapshot();
    assert!(snapshot.row("Lead", id, false).unwrap().is_none());
    let deleted = snapshot.row("Lead", id, true).unwrap().unwrap();
    assert_eq!(deleted.get_by_name("IsDeleted"), Some(Value::Bool(true)));
    assert_eq!(deleted.cursor_ms(), START_MS);
    assert_eq!(snapshot.count("Lead", false).unwrap(), live - 1);
    assert!(org.deleted_ids("Lead").unwrap().contains(&id));
    org.clock().advance(seconds(15 * 86_400 - 1));
    assert!(row(&org, "Lead", id).is_some());
    org.clock().advance(seconds(1));
    assert!(row(&org, "Lead", id).is_none());
    assert!(rows(&org, "Lead", true).iter().all(|row| row.id() != id));
    let error = org.commit(one(Change::undelete("Lead", id))).unwrap_err();
    assert_eq!(error, CommitError::NotFound { object: "Lead".into(), id });
    assert!(org.deleted_ids("Lead").unwrap().contains(&id));
}

#[test]
fn a_purge_leaves_no_trace() {
    let org = org();
    let id = first_id(&org, "Lead");
    org.commit(one(Change::hard_delete("Lead", id))).unwrap();
    assert!(row(&org, "Lead", id).is_none());
    assert!(rows(&org, "Lead", true).iter().all(|row| row.id() != id));
    let error = org.commit(one(Change::update("Lead", id, Vec::new()))).unwrap_err();
    assert_eq!(error.code(), "NOT_FOUND");
}

fn lines_of(org: &std::sync::Arc<Org>, invoice: Id) -> BTreeSet<Id> {
    let lines = rows(org, "InvoiceLine__c", true);
    let own = lines.iter().filter(|line| line.get_by_name("Invoice__c") == Some(Value::Id(invoice)));
    own.filter(|line| !line.is_deleted()).map(|line| line.id()).collect()
}

#[test]
fn children_go_and_come_back_with_their_master() {
    let org = org();
    let invoice = first_id(&org, "Invoice__c");
    let own = vec![("Invoice__c".to_owned(), Value::Id(invoice))];
    let added = org.commit(one(Change::insert("InvoiceLine__c", own))).unwrap().ids[0];
    let lines = lines_of(&org, invoice);
    assert!(lines.len() >= 3 && lines.contains(&added), "{lines:?}");
    let gone_before = *lines.first().unwrap();
    org.commit(one(Change::delete("InvoiceLine__c", gone_before))).unwrap();
    org.clock().advance(seconds(5));
    org.commit(one(Change::delete("Invoice__c", invoice))).unwrap();
    assert!(lines_of(&org, invoice).is_empty());
    let stamp = |id| row(&org, "InvoiceLine__c", id).unwrap().cursor_ms();
    assert_eq!((stamp(gone_before), stamp(added)), (START_MS, START_MS + 5_000));
    org.commit(one(Change::undelete("Invoice__c", invoice))).unwrap();
    let mut back = lines.clone();
    back.remove(&gone_before);
    assert_eq!(lines_of(&org, invoice), back);
}

#[test]
fn a_cascade_can_keep_the_old_stamps() {
    let org = org();
    org.set_cascade_keeps_stamp(true);
    let invoice = first_id(&org, "Invoice__c");
    let line = *lines_of(&org, invoice).first().unwrap();
    let stamp = row(&org, "InvoiceLine__c", line).unwrap().cursor_ms();
    org.commit(one(Change::delete("Invoice__c", invoice))).unwrap();
    let line = row(&org, "InvoiceLine__c", line).unwrap();
    assert!(line.is_deleted());
    assert_eq!(line.cursor_ms(), stamp);
    assert_eq!(row(&org, "Invoice__c", invoice).unwrap().cursor_ms(), START_MS);
}

#[test]
fn a_cascade_reaches_grandchildren() {
    let org = org();
    let account = first_id(&org, "Account");
    let has_parent = |object: &str, field: &str, ids: &BTreeSet<Id>| -> BTreeSet<Id> {
        let all = rows(&org, object, true);
        let own = all
            .iter()
            .filter(|row| row.get_by_name(field).unwrap().as_id().is_some_and(|id| ids.contains(&id)));
        own.filter(|row| !row.is_deleted()).map(|row| row.id()).collect()
    };
    let accounts = BTreeSet::from([account]);
    let opportunities = has_parent("Opportunity", "AccountId", &accounts);
    let items = has_parent("OpportunityLineItem", "OpportunityId", &opportunities);
    assert!(!opportunities.is_empty() && !items.is_empty());
    org.commit(one(Change::delete("Account", account))).unwrap();
    assert!(has_parent("Opportunity", "AccountId", &accounts).is_empty());
    assert!(has_parent("OpportunityLineItem", "OpportunityId", &opportunities).is_empty());
    assert!(has_parent("Contact", "AccountId", &accounts).is_empty());
    let log = org.change_log(0, 1_000);
    assert_eq!(
        log.iter().filter(|entry| entry.kind == ChangeKind::Delete && entry.commit == 1).count(),
        log.len()
    );
}

#[test]
fn a_merge_points_losers_to_the_winner_and_moves_their_children() {
    let org = org();
    let ids: Vec<Id> = rows(&org, "Account", false).iter().take(3).map(|row| row.id()).collect();
    let contacts = |account: Id| -> BTreeSet<Id> {
        let all = rows(&org, "Contact", false);
        all.iter()
            .filter(|row| row.get_by_name("AccountId") == Some(Value::Id(account)))
            .map(|row| row.id())
            .collect()
    };
    let all: BTreeSet<Id> = ids.iter().flat_map(|id| contacts(*id)).collect();
    let losers = ids[1..].to_vec();
    let merge = Change::Merge { object: "Account".into(), winner: ids[0], losers, fields: name("Merged") };
    org.commit(one(merge)).unwrap();
    for loser in &ids[1..] {
        let loser = row(&org, "Account", *loser).unwrap();
        assert!(loser.is_deleted());
        assert_eq!(loser.get_by_name("MasterRecordId"), Some(Value::Id(ids[0])));
    }
    assert_eq!(contacts(ids[0]), all);
    assert_eq!(get(&org, "Account", ids[0], "Name"), Value::text("Merged"));
    let order = Change::Merge { object: "Order".into(), winner: ids[0], losers: vec![], fields: vec![] };
    assert_eq!(org.commit(one(order)).unwrap_err().code(), "INVALID_TYPE_FOR_OPERATION");
}

#[test]
fn changes_read_from_json_are_checked_against_the_object() {
    let org = org();
    let id = first_id(&org, "AllTypes__c");
    let fields = json!({"text__c": "NA", "Day__c": "1969-07-20", "Moment__c": "2026-05-19T10:30:00+02:00",
        "Hour__c": "13:30:00.000Z", "Whole__c": 5, "Money__c": 7, "Check__c": true, "Area__c": "", "Lookup__c": null});
    let body = json!({"stamp_ago_ms": 5000, "visible_after_ms": 1000,
        "changes": [{"op": "update", "object": "alltypes__c", "id": id.as_str(), "fields": fields}]});
    let receipt = org.commit(Transaction::from_json(&org, &body).unwrap()).unwrap();
    assert_eq!((receipt.stamp_ms, receipt.visible_at_ms), (START_MS - 5_000, START_MS));
    let json = row(&org, "AllTypes__c", id).unwrap().to_json();
    assert_eq!(json["Text__c"], "NA");
    assert_eq!(json["Day__c"], "1969-07-20");
    assert_eq!(json["Moment__c"], "2026-05-19T08:30:00.000+0000");
    assert_eq!(json["Hour__c"], "13:30:00.000Z");
    assert_eq!(json["Money__c"].to_string(), "7.0");
    assert_eq!((&json["Area__c"], &json["Lookup__c"]), (&json!(null), &json!(null)));
    for (op, fields) in [
        ("update", json!({"Nope__c": 1})),
        ("update", json!({"Whole__c": "five"})),
        ("update", json!({"SystemModstamp": "2026-05-19T08:30:00Z"})),
        ("update", json!({"Twice__c": 1})),
        ("update", json!({"Site__c": {}})),
        ("sideways", json!({})),
    ] {
        let body =
            json!({"changes": [{"op": op, "object": "AllTypes__c", "id": id.as_str(), "fields": fields}]});
        let result = Transaction::from_json(&org, &body).and_then(|transaction| org.commit(transaction));
        assert!(result.is_err(), "{op} {fields}");
    }
    assert!(Transaction::from_json(&org, &json!({})).is_err());
}

#[test]
fn an_id_may_be_chosen_when_it_is_free() {
    let org = org();
    let id = Id::new(*b"001", 5_000);
    let insert = |id| {
        one(Change::Insert { object: "Account".into(), fields: name("Chosen"), id: Some(id), fill: false })
    };
    assert_eq!(org.commit(insert(id)).unwrap().ids, [id]);
    let json = row(&org, "Account", id).unwrap().to_json();
    assert_eq!((&json["Industry"], &json["IsPartner"]), (&json!(null), &json!(false)));
    assert_eq!(json["OwnerId"], org.user_id().as_str());
    for taken in [id, Id::new(*b"001", 3), Id::new(*b"003", 9_000)] {
        let error = org.commit(insert(taken)).unwrap_err();
        assert_eq!(error, CommitError::IdTaken { object: "Account".into(), id: taken });
    }
}

#[test]
fn audit_fields_can_be_set_into_the_past() {
    let org = org();
    let past = Value::DateTime(START_MS - 86_400_000);
    let fields =
        vec![("LastModifiedDate".to_owned(), past.clone()), ("CreatedDate".to_owned(), past.clone())];
    let id = org.commit(one(Change::insert("Account", fields))).unwrap().ids[0];
    assert_eq!(get(&org, "Account", id, "LastModifiedDate"), past);
    assert_eq!(get(&org, "Account", id, "CreatedDate"), past);
    assert_eq!(get(&org, "Account", id, "SystemModstamp"), Value::DateTime(START_MS));
}

#[test]
fn users_are_never_deleted() {
    let org = org();
    let error = org.commit(one(Change::delete("User", org.user_id()))).unwrap_err();
    assert_eq!(error, CommitError::NotAllowed { object: "User".into(), operation: "delete" });
}

#[test]
fn five_thousand_records_of_one_transaction_share_their_second() {
    let org = org();
    let changes = (0..5_000).map(|_| Change::insert("Contact", Vec::new())).collect();
    let stamp = Stamp::Ago(seconds(7));
    org.commit(Transaction { changes, stamp, ..Transaction::default() }).unwrap();
    let range = ScanRange {
        cursor: (std::ops::Bound::Included(START_MS - 7_000), std::ops::Bound::Unbounded),
        ..ScanRange::default()
    };
    let found: Vec<_> = org.snapshot().scan("Contact", range).unwrap().collect();
    assert_eq!(found.len(), 5_000);
    assert!(found.windows(2).all(|pair| pair[0].id() < pair[1].id()));
    assert!(found.iter().all(|row| row.cursor_ms() == START_MS - 7_000));
}
