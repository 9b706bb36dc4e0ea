//! Traffic: repeatable, of every kind, and equal to the truth when its log is folded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value as Json};
use sf2kafka_sim::org::{ChangeKind, Org, Traffic, TrafficConfig};

use crate::{config, org, rows, seconds};

fn busy(seed: u64, lagging_one_in: u64) -> std::sync::Arc<Org> {
    let org = org();
    let config = TrafficConfig { seed, lagging_one_in, ..TrafficConfig::default() };
    let mut traffic = Traffic::new(&org, config).unwrap();
    for _ in 0..100 {
        assert_eq!(traffic.run(20), 20);
        org.clock().advance(seconds(1));
    }
    org
}

#[test]
fn the_same_seed_makes_the_same_changes() {
    let log = |seed| busy(seed, 4).change_log(0, usize::MAX);
    let first = log(3);
    assert!(first.len() > 1_500);
    assert_eq!(first, log(3));
    assert_ne!(first, log(4));
}

#[test]
fn traffic_has_every_kind_and_repeats_within_a_second() {
    let log = busy(3, 4).change_log(0, usize::MAX);
    for kind in [
        ChangeKind::Insert,
        ChangeKind::Update,
        ChangeKind::Touch,
        ChangeKind::Delete,
        ChangeKind::Undelete,
        ChangeKind::Purge,
    ] {
        assert!(log.iter().any(|entry| entry.kind == kind), "{kind:?}");
    }
    let mut in_second: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    for entry in &log {
        in_second.entry((entry.id, entry.stamp_ms)).or_default().insert(entry.transaction);
    }
    assert!(in_second.values().filter(|transactions| transactions.len() > 1).count() > 20);
    let objects: BTreeMap<u64, BTreeSet<&str>> = log.iter().fold(BTreeMap::new(), |mut map, entry| {
        map.entry(entry.transaction).or_insert_with(BTreeSet::new).insert(entry.object.as_str());
        map
    });
    assert!(objects.values().any(|objects| objects.len() > 2));
    let lagging = log.windows(2).filter(|pair| pair[0].stamp_ms > pair[1].stamp_ms).count();
    assert!(lagging > 10, "{lagging}");
}

#[test]
fn the_log_pages_without_gaps() {
    let org = busy(3, 0);
    let whole = org.change_log(0, usize::MAX);
    let mut paged = Vec::new();
    while let page @ [_, ..] = org.change_log(paged.len() as u64, 97).as_slice() {
        paged.extend_from_slice(page);
    }
    assert_eq!(paged, whole);
    assert_eq!(org.change_count(), whole.len() as u64);
    assert!(whole.iter().enumerate().all(|(at, entry)| entry.number == at as u64 + 1));
    assert!(whole.windows(2).all(|pair| pair[0].commit <= pair[1].commit));
}

/// The independent check of the whole store: begin with the org as generated, apply the log, get the truth.
#[test]
fn the_generated_org_plus_the_log_is_the_truth() {
    for seed in 1..6 {
        let start = Org::new(config());
        let org = busy(seed, 3);
        org.clock().advance(seconds(120));
        let log = org.change_log(0, usize::MAX);
        for object in [
            "Account",
            "Contact",
            "Opportunity",
            "OpportunityLineItem",
            "Case",
            "Invoice__c",
            "InvoiceLine__c",
        ] {
            let mut live: BTreeMap<String, Map<String, Json>> = BTreeMap::new();
            let mut bin: BTreeMap<String, Map<String, Json>> = BTreeMap::new();
            for row in rows(&start, object, true) {
                let place = if row.is_deleted() { &mut bin } else { &mut live };
                place.insert(row.id().to_string(), row.to_json());
            }
            for entry in log.iter().filter(|entry| entry.object == object) {
                let id = entry.id.to_string();
                let set = |row: &mut Map<String, Json>| {
                    for (field, value) in &entry.fields {
                        row.insert(field.clone(), value.to_rest_json());
                    }
                };
                match entry.kind {
                    ChangeKind::Insert => {
                        let mut row = Map::new();
                        set(&mut row);
                        assert!(live.insert(id, row).is_none());
                    }
                    ChangeKind::Update | ChangeKind::Touch => set(live.get_mut(&id).expect("a live record")),
                    ChangeKind::Delete => {
                        assert!(bin.insert(id.clone(), live.remove(&id).expect("live")).is_none())
                    }
                    ChangeKind::Undelete => {
                        assert!(live.insert(id.clone(), bin.remove(&id).expect("in bin")).is_none())
                    }
                    ChangeKind::Purge => assert!(live.remove(&id).or_else(|| bin.remove(&id)).is_some()),
                }
            }
            let truth: BTreeMap<String, Map<String, Json>> = org
                .truth_rows(object)
                .unwrap()
                .map(|row| (row["Id"].as_str().unwrap().to_owned(), row))
                .collect();
            assert_eq!(
                truth.keys().collect::<Vec<_>>(),
                live.keys().collect::<Vec<_>>(),
                "{object}, seed {seed}"
            );
            let moving: BTreeSet<&str> = ["LastModifiedDate", "LastModifiedById", "SystemModstamp"].into();
            let definition = org.object(object).unwrap();
            for (id, row) in &live {
                for (field, value) in row {
                    let computed = definition.field(field).is_some_and(|(_, field)| {
                        field.is_calculated() || field.field_type.is_refused_by_bulk() || field.name == "Name"
                    });
                    if !moving.contains(field.as_str()) && !computed {
                        assert_eq!(truth[id].get(field), Some(value), "{object}.{field}, seed {seed}");
                    }
                }
            }
            assert_eq!(org.approximate_count(object).unwrap(), live.len() as u64);
            let deleted: BTreeSet<_> =
                org.deleted_ids(object).unwrap().into_iter().map(|id| id.to_string()).collect();
            assert!(bin.keys().all(|id| deleted.contains(id)));
            assert!(live.keys().all(|id| !deleted.contains(id)));
        }
    }
}

#[test]
fn traffic_keeps_to_its_rate_and_its_time() {
    let clock = sf2kafka_sim::org::Clock::starting_at(crate::START_MS);
    clock.set_rate(600.0);
    let org = Org::new(config().with_clock(clock));
    let mut traffic = Traffic::new(&org, TrafficConfig::default()).unwrap();
    let done = traffic.run_for(10.0, seconds(60), &AtomicBool::new(false));
    assert_eq!(done, 600);
    assert!(org.now_ms() >= crate::START_MS + 60_000);
    org.clock().set_rate(0.0);
    assert_eq!(traffic.run_for(10.0, seconds(60), &AtomicBool::new(true)), 0);
}
