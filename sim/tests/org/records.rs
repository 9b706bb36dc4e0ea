//! Generated records: the same for the same seed, awkward where they should be, consistent in themselves.

use std::collections::BTreeSet;

use sf2kafka_sim::catalog::FieldType;
use sf2kafka_sim::org::{Org, ScanRange, Value};

use crate::{START_MS, config, org, rows};

#[test]
fn the_same_seed_gives_the_same_org_and_another_gives_another() {
    let dump = |seed| {
        let org = Org::new(config().with_seed(seed));
        ["Account", "AllTypes__c", "Task", "User"]
            .map(|object| org.truth_rows(object).unwrap().collect::<Vec<_>>())
    };
    let first = dump(7);
    assert_eq!(first, dump(7));
    assert_ne!(first, dump(8));
}

#[test]
fn every_object_can_be_read_in_full_and_fits_its_own_describe() {
    let org = org();
    for object in org.catalog().objects() {
        let mut ids = BTreeSet::new();
        for row in rows(&org, &object.name, true) {
            assert!(ids.insert(row.id()), "{} gives an id twice", object.name);
            assert_eq!(row.id().prefix(), object.id_prefix);
            for (index, field) in object.visible_fields() {
                let value = row.get(index);
                let place = format!("{}.{}", object.name, field.name);
                if let Value::Text(text) = &value {
                    assert!(!text.is_empty(), "{place} is empty and not null");
                    if field.length > 0 {
                        assert!(
                            text.chars().count() <= field.length as usize,
                            "{place} is too long: {text:?}"
                        );
                    }
                }
                let fits = match (&field.field_type, &value) {
                    (FieldType::Boolean, value) => matches!(value, Value::Bool(_)),
                    (_, Value::Null) => true,
                    (FieldType::Id, value) => matches!(value, Value::Id(_)),
                    (FieldType::Reference, Value::Text(_)) => field.reference_target_field.is_some(),
                    (FieldType::Reference, value) => matches!(value, Value::Id(_)),
                    (FieldType::Int | FieldType::Long, value) => matches!(value, Value::Int(_)),
                    (field_type, value) if field_type.is_decimal() => matches!(value, Value::Double(_)),
                    (FieldType::Date, value) => matches!(value, Value::Date(_)),
                    (FieldType::DateTime, value) => matches!(value, Value::DateTime(_)),
                    (FieldType::Time, value) => matches!(value, Value::Time(_)),
                    (FieldType::Address, value) => matches!(value, Value::Address(_)),
                    (FieldType::Location, value) => matches!(value, Value::Location { .. }),
                    (field_type, value) if field_type.is_textual() => matches!(value, Value::Text(_)),
                    _ => true,
                };
                assert!(fits, "{place} of type {} holds {value:?}", field.field_type.name());
            }
        }
    }
}

#[test]
fn references_point_to_records_that_are_there() {
    let org = org();
    let snapshot = org.snapshot();
    for object in
        ["Account", "Contact", "OpportunityLineItem", "InvoiceLine__c", "Task", "AllTypes__c", "AccountShare"]
    {
        let definition = org.object(object).unwrap();
        let mut pointing = 0;
        for row in rows(&org, object, false) {
            for (index, field) in definition.visible_fields() {
                if field.field_type != FieldType::Reference || field.reference_target_field.is_some() {
                    continue;
                }
                let Some(id) = row.get(index).as_id() else { continue };
                let target = snapshot.row_of_any_object(id);
                let target = target.unwrap_or_else(|| panic!("{object}.{} points to nothing", field.name));
                assert!(field.reference_to.contains(&target.object().name));
                pointing += 1;
            }
        }
        assert!(pointing > 100, "{object}");
    }
}

#[test]
fn children_of_a_master_have_a_master() {
    for row in rows(&org(), "InvoiceLine__c", true) {
        assert!(row.get_by_name("Invoice__c").unwrap().as_id().is_some());
    }
}

#[test]
fn compound_values_agree_with_their_parts() {
    let org = Org::new(config().with_rows("Account", 3_000).with_rows("AllTypes__c", 3_000));
    let (mut empty, mut partly, mut points) = (0, 0, 0);
    for row in rows(&org, "Account", false) {
        let json = row.to_json();
        let address = &json["BillingAddress"];
        let parts = [
            ("street", "BillingStreet"),
            ("city", "BillingCity"),
            ("state", "BillingState"),
            ("postalCode", "BillingPostalCode"),
            ("country", "BillingCountry"),
            ("latitude", "BillingLatitude"),
            ("longitude", "BillingLongitude"),
            ("geocodeAccuracy", "BillingGeocodeAccuracy"),
        ];
        let all_null = parts.iter().all(|(_, field)| json[*field].is_null());
        assert_eq!(address.is_null(), all_null);
        empty += usize::from(all_null);
        partly += usize::from(!all_null && parts.iter().any(|(_, field)| json[*field].is_null()));
        if !all_null {
            for (part, field) in parts {
                assert_eq!(address[part], json[field]);
            }
        }
    }
    for row in rows(&org, "AllTypes__c", false) {
        let json = row.to_json();
        assert_eq!(json["Place__c"].is_null(), json["Place__Latitude__s"].is_null());
        assert_eq!(json["Place__Longitude__s"].is_null(), json["Place__Latitude__s"].is_null());
        points += usize::from(!json["Place__c"].is_null());
        assert_eq!(json["Site__c"]["city"], json["Site__City__s"]);
    }
    assert!(empty > 100 && partly > 100 && points > 100, "{empty} {partly} {points}");
}

#[test]
fn audit_fields_are_in_order_and_whole_seconds() {
    let org = org();
    let (mut unchanged, mut touched) = (0, 0);
    for row in rows(&org, "Account", true) {
        let ms = |field: &str| row.get_by_name(field).unwrap().as_ms().unwrap();
        let (created, modified, stamp) = (ms("CreatedDate"), ms("LastModifiedDate"), ms("SystemModstamp"));
        assert!(created <= modified && modified <= stamp && stamp < START_MS);
        assert_eq!((created % 1_000, modified % 1_000, stamp % 1_000), (0, 0, 0));
        unchanged += usize::from(created == stamp);
        touched += usize::from(modified < stamp);
    }
    assert!(unchanged > 300 && touched > 30, "{unchanged} {touched}");
}

#[test]
fn formulas_follow_their_sources_without_a_stamp() {
    let org = org();
    for row in rows(&org, "Invoice__c", false) {
        let number = |field: &str| row.get_by_name(field).unwrap().as_f64();
        assert_eq!(number("Amount_Doubled__c"), number("Amount__c").map(|amount| amount * 2.0));
        let lines = rows(&org, "InvoiceLine__c", false);
        let own = lines
            .iter()
            .filter(|line| line.get_by_name("Invoice__c").unwrap().as_id() == Some(row.id()))
            .count();
        assert_eq!(number("Line_Count__c"), Some(own as f64));
        if row.key().id > crate::first_id(&org, "Invoice__c") {
            break;
        }
    }
    let invoice = rows(&org, "Invoice__c", false).into_iter().find(|row| {
        !row.get_by_name("Issued__c").unwrap().is_null() && !row.get_by_name("Account__c").unwrap().is_null()
    });
    let invoice = invoice.unwrap();
    let account = invoice.get_by_name("Account__c").unwrap().as_id().unwrap();
    let before = invoice.get_by_name("Days_Since_Issue__c").unwrap().as_f64().unwrap();
    org.clock().advance(crate::seconds(3 * 86_400));
    org.commit(crate::one(sf2kafka_sim::org::Change::update("Account", account, crate::name("Renamed"))))
        .unwrap();
    let after = crate::row(&org, "Invoice__c", invoice.id()).unwrap();
    assert_eq!(after.get_by_name("Days_Since_Issue__c").unwrap().as_f64(), Some(before + 3.0));
    assert_eq!(after.get_by_name("Account_Name__c"), Some(Value::text("Renamed")));
    assert_eq!(after.cursor_ms(), invoice.cursor_ms());
}

#[test]
fn ten_million_records_cost_nothing_until_they_are_read() {
    let org = Org::new(config().with_rows("Account", 10_000_000));
    let snapshot = org.snapshot();
    assert_eq!(snapshot.count("Account", false).unwrap(), 10_000_000);
    let last = ScanRange { descending: true, ..ScanRange::default() };
    let last = snapshot.scan("Account", last).unwrap().next().unwrap();
    assert_eq!(last.id().sequence(), Some(9_999_999));
    assert!(START_MS - last.cursor_ms() < 2 * 86_400_000);
    let page = ScanRange { after: Some(last.key()), descending: true, ..ScanRange::default() };
    assert_eq!(snapshot.scan("Account", page).unwrap().take(500).count(), 500);
}

#[test]
fn objects_without_an_id_of_their_own_answer_the_constant_and_a_durable_id() {
    let org = org();
    let apps = rows(&org, "AppDefinition", false);
    let durable: BTreeSet<String> =
        apps.iter().map(|app| app.get_by_name("DurableId").unwrap().as_str().unwrap().to_owned()).collect();
    assert_eq!(durable.len(), apps.len());
    assert!(apps.iter().all(|app| app.get_by_name("Id").unwrap().as_str() == Some("000000000000000AAA")));
    let readings = rows(&org, "Reading__b", false);
    assert!(readings.iter().all(|row| row.get_by_name("Id").unwrap().as_str() == Some("000000000000000AAA")));
    let entities: Vec<_> = rows(&org, "EntityDefinition", false)
        .iter()
        .map(|row| row.get_by_name("QualifiedApiName").unwrap().as_str().unwrap().to_owned())
        .collect();
    let objects: Vec<_> = org.catalog().objects().iter().map(|object| object.name.clone()).collect();
    assert_eq!(entities, objects);
}

#[test]
fn record_types_are_records_too() {
    let org = org();
    let types = rows(&org, "RecordType", false);
    assert_eq!(types.len(), 8);
    let accounts = rows(&org, "Account", false);
    let used: BTreeSet<_> =
        accounts.iter().filter_map(|row| row.get_by_name("RecordTypeId").unwrap().as_id()).collect();
    let of_account: BTreeSet<_> = types
        .iter()
        .filter(|row| row.get_by_name("SobjectType") == Some(Value::text("Account")))
        .map(|row| row.id())
        .collect();
    assert_eq!(used, of_account);
    let described = org.object("Account").unwrap().describe_json("66.0");
    assert!(of_account.iter().any(|id| id.as_str() == described["recordTypeInfos"][0]["recordTypeId"]));
}

#[test]
fn fields_that_cannot_be_null_are_not() {
    let org = org();
    let mut unexpected = BTreeSet::new();
    for object in org.catalog().objects() {
        let rows = rows(&org, &object.name, true);
        for (index, field) in object.visible_fields().filter(|(_, field)| !field.nillable) {
            let has_target =
                field.reference_to.iter().any(|name| org.snapshot().count(name, false).unwrap_or(0) > 0);
            if field.field_type == FieldType::Reference && !has_target {
                continue;
            }
            if rows.iter().any(|row| row.get(index).is_null()) {
                unexpected.insert(format!("{}.{}", object.name, field.name));
            }
        }
    }
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

#[test]
fn what_is_handed_out_can_go_to_another_thread() {
    fn sendable<T: Send + 'static>() {}
    sendable::<sf2kafka_sim::org::Scan>();
    sendable::<sf2kafka_sim::org::Row>();
    sendable::<sf2kafka_sim::org::Snapshot>();
    sendable::<sf2kafka_sim::org::TruthRows>();
    sendable::<sf2kafka_sim::org::Traffic>();
}
