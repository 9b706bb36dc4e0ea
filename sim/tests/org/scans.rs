//! Scans: order, bounds, continuation and snapshots, on records that were changed in every way.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use sf2kafka_sim::org::{Mix, Org, Row, ScanOrder, ScanRange, Traffic, TrafficConfig};

use crate::{config, seconds};

/// An org of 400 Accounts, many tied, after 600 changes at several seconds.
fn busy() -> Arc<Org> {
    let mut config = config().with_rows("Account", 400).with_rows("Contact", 300);
    config.same_second_group = 120;
    let org = Org::new(config);
    change(&org, 5, 600);
    org
}

fn change(org: &Arc<Org>, seed: u64, count: u64) {
    let objects = vec!["Account".to_owned(), "Contact".to_owned()];
    let mix = Mix { insert: 30, update: 40, touch: 10, delete: 20, undelete: 10, hard_delete: 5 };
    let mut traffic =
        Traffic::new(org, TrafficConfig { seed, objects, mix, ..TrafficConfig::default() }).unwrap();
    for _ in 0..count / 20 {
        traffic.run(20);
        org.clock().advance(seconds(1));
    }
}

fn keys(rows: impl Iterator<Item = Row>) -> Vec<(i64, String)> {
    rows.map(|row| (row.cursor_ms(), row.id().to_string())).collect()
}

#[test]
fn records_come_in_cursor_and_id_order_also_backwards() {
    let org = busy();
    let snapshot = org.snapshot();
    for include_deleted in [false, true] {
        let range = ScanRange { include_deleted, ..ScanRange::default() };
        let forward = keys(snapshot.scan("Account", range).unwrap());
        let mut sorted = forward.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(forward, sorted);
        let mut backward = keys(snapshot.scan("Account", ScanRange { descending: true, ..range }).unwrap());
        backward.reverse();
        assert_eq!(forward, backward);
        let by_id = ScanRange { order: ScanOrder::Id, ..range };
        let by_id: Vec<_> =
            keys(snapshot.scan("Account", by_id).unwrap()).into_iter().map(|(_, id)| id).collect();
        let ids: BTreeSet<_> = forward.into_iter().map(|(_, id)| id).collect();
        assert_eq!(by_id, ids.into_iter().collect::<Vec<_>>());
    }
    assert_eq!(
        snapshot.count("Account", false).unwrap(),
        snapshot.scan("Account", ScanRange::default()).unwrap().count() as u64
    );
}

#[test]
fn bounds_give_exactly_what_a_filter_gives() {
    let org = busy();
    let snapshot = org.snapshot();
    let range = ScanRange { include_deleted: true, ..ScanRange::default() };
    let all: Vec<Row> = snapshot.scan("Account", range).unwrap().collect();
    let mut compared = 0;
    for step in 0..60usize {
        let low = &all[(step * 37) % all.len()];
        let high = &all[(step * 53 + 11) % all.len()];
        for (order, descending) in [
            (ScanOrder::Cursor, false),
            (ScanOrder::Cursor, true),
            (ScanOrder::Id, false),
            (ScanOrder::Id, true),
        ] {
            for exclusive in [false, true] {
                let bound = |ms| if exclusive { Bound::Excluded(ms) } else { Bound::Included(ms) };
                let id_bound = |id| if exclusive { Bound::Excluded(id) } else { Bound::Included(id) };
                let ranges = [
                    ScanRange { cursor: (bound(low.cursor_ms()), bound(high.cursor_ms())), ..range },
                    ScanRange { id: (id_bound(low.id()), id_bound(high.id())), ..range },
                    ScanRange {
                        cursor: (bound(low.cursor_ms()), Bound::Unbounded),
                        id: (Bound::Unbounded, id_bound(high.id())),
                        ..range
                    },
                ];
                for bounds in ranges {
                    let bounds = ScanRange { order, descending, ..bounds };
                    let mut found = keys(snapshot.scan("Account", bounds).unwrap());
                    let mut expected = keys(
                        all.iter()
                            .filter(|row| {
                                std::ops::RangeBounds::contains(&bounds.cursor, &row.cursor_ms())
                                    && std::ops::RangeBounds::contains(&bounds.id, &row.id())
                            })
                            .cloned(),
                    );
                    found.sort();
                    expected.sort();
                    assert_eq!(found, expected);
                    compared += found.len();
                }
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn a_scan_goes_on_behind_any_record() {
    let org = busy();
    let snapshot = org.snapshot();
    for (order, descending) in
        [(ScanOrder::Cursor, false), (ScanOrder::Cursor, true), (ScanOrder::Id, false), (ScanOrder::Id, true)]
    {
        let range = ScanRange { order, descending, include_deleted: true, ..ScanRange::default() };
        let all: Vec<Row> = snapshot.scan("Account", range).unwrap().collect();
        let whole = keys(all.iter().cloned());
        for (at, row) in all.iter().enumerate().step_by(7) {
            let rest = keys(snapshot.scan("Account", ScanRange { after: Some(row.key()), ..range }).unwrap());
            assert_eq!(rest, whole[at + 1..]);
        }
    }
}

#[test]
fn a_snapshot_stays_as_it_was_while_the_org_goes_on() {
    let org = busy();
    let range = ScanRange { include_deleted: true, ..ScanRange::default() };
    let dump = |snapshot: &sf2kafka_sim::org::Snapshot| {
        let rows = snapshot.scan("Account", range).unwrap();
        rows.map(|row| serde_json::Value::Object(row.to_json()).to_string()).collect::<Vec<_>>()
    };
    let mut kept = Vec::new();
    for seed in 10..16 {
        let snapshot = org.snapshot();
        let rows = dump(&snapshot);
        kept.push((snapshot, rows));
        change(&org, seed, 200);
    }
    for (at, (snapshot, rows)) in kept.iter().enumerate() {
        assert_eq!(&dump(snapshot), rows, "snapshot {at}");
        assert_eq!(snapshot.count("Account", true).unwrap(), rows.len() as u64);
    }
    assert!(kept.windows(2).all(|pair| pair[0].1 != pair[1].1));
}

#[test]
fn a_half_read_scan_is_not_disturbed_by_commits() {
    let org = busy();
    let snapshot = org.snapshot();
    let expected = keys(snapshot.scan("Account", ScanRange::default()).unwrap());
    let mut scan = snapshot.scan("Account", ScanRange::default()).unwrap();
    drop(snapshot);
    let mut found = keys(scan.by_ref().take(100));
    change(&org, 77, 400);
    found.extend(keys(scan));
    assert_eq!(found, expected);
}

#[test]
fn archived_activities_are_seen_by_query_all_only() {
    let org = Org::new(config());
    let snapshot = org.snapshot();
    let query = snapshot.count("Task", false).unwrap();
    let all: Vec<Row> =
        snapshot.scan("Task", ScanRange { include_deleted: true, ..ScanRange::default() }).unwrap().collect();
    let archived = all.iter().filter(|row| row.is_archived()).count() as u64;
    let deleted = all.iter().filter(|row| row.is_deleted()).count() as u64;
    assert!(archived > 100 && deleted > 0);
    assert_eq!(query, all.len() as u64 - archived - deleted);
    assert_eq!(snapshot.scan("Task", ScanRange::default()).unwrap().count() as u64, query);
}

#[test]
fn thousands_share_a_second_where_asked() {
    let mut config = config().with_rows("Case", 20_000);
    config.same_second_group = 5_000;
    let org = Org::new(config);
    let snapshot = org.snapshot();
    let mut sizes = std::collections::BTreeMap::new();
    for row in snapshot.scan("Case", ScanRange { include_deleted: true, ..ScanRange::default() }).unwrap() {
        *sizes.entry(row.cursor_ms()).or_insert(0u32) += 1;
    }
    assert_eq!(sizes.values().max(), Some(&5_000));
    assert!(sizes.len() > 4_000);
}
