//! What a transaction publishes: kinds, bodies, bitmaps, compounds, merging, and agreement with the records.

use apache_avro::types::Value as Avro;
use serde_json::json;

use crate::client::{Event, text};
use crate::{Bus, START_MS};

const CHANNEL: &str = "/data/ChangeEvents";

fn has(event: &Event, array: &str, names: &[&str]) {
    assert_eq!(event.named(array), names, "{array} of {:?}", event.header);
}

#[tokio::test]
async fn a_record_that_is_made_comes_whole() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    let fields =
        json!({"Name": "Acme", "BillingCity": "Köln", "AnnualRevenue": 12.5, "NumberOfEmployees": 7});
    let ids = bus.save(json!([{"op": "insert", "object": "Account", "fill": false, "fields": fields}])).await;
    let event = stream.decoded(1).await.remove(0);
    assert_eq!(
        (event.kind(), event.ids(), event.text("entityName")),
        ("CREATE".into(), ids, "Account".into())
    );
    for array in ["changedFields", "nulledFields", "diffFields"] {
        assert!(event.texts(array).is_empty());
    }
    assert_eq!(event.field("Name"), &text("Acme"));
    assert_eq!(event.part("BillingAddress", "City"), text("Köln"));
    assert_eq!(event.part("BillingAddress", "Street"), Avro::Null);
    assert_eq!(event.field("ShippingAddress"), &Avro::Null);
    assert_eq!(event.field("AnnualRevenue"), &Avro::Double(12.5));
    assert_eq!(event.field("NumberOfEmployees"), &Avro::Int(7));
    assert_eq!(event.field("CreatedDate"), &Avro::Long(START_MS));
    assert_eq!(event.number("commitTimestamp"), START_MS);
    assert!(event.number("commitNumber") > 1 << 53);
    assert_eq!(event.text("commitUser"), bus.simulator.org().user_id().as_str());
    assert_eq!(event.text("changeOrigin"), "com/salesforce/api/rest/66.0");
    assert_eq!((event.id.len(), event.text("transactionKey").len()), (36, 36));
}

#[tokio::test]
async fn an_update_brings_what_changed_and_says_what_became_null() {
    let bus = Bus::start().await;
    let set = json!({"Site": "a", "Phone": "1", "Industry": "Banking"});
    let id = bus
        .save(json!([{"op": "insert", "object": "Account", "fill": false, "fields": set}]))
        .await
        .remove(0);
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    let fields = json!({"Site": "b", "Phone": null, "Industry": "Banking"});
    bus.save(json!([{"op": "update", "object": "Account", "id": id, "fields": fields}])).await;
    let event = stream.decoded(1).await.remove(0);
    has(&event, "changedFields", &["Phone", "Site", "LastModifiedDate"]);
    has(&event, "nulledFields", &["Phone"]);
    assert_eq!(event.field("Site"), &text("b"));
    for null in ["Phone", "Industry", "Name", "OwnerId", "LastModifiedById"] {
        assert_eq!(event.field(null), &Avro::Null, "{null}");
    }
    assert_eq!(event.field("LastModifiedDate"), &Avro::Long(START_MS));
}

#[tokio::test]
async fn parts_of_a_compound_come_alone() {
    let bus = Bus::start().await;
    let set = json!({"MailingCity": "Ulm", "MailingStreet": "Hof 1", "FirstName": "Ada", "LastName": "Ng"});
    let id = bus
        .save(json!([{"op": "insert", "object": "Contact", "fill": false, "fields": set}]))
        .await
        .remove(0);
    let mut stream = bus.subscribe("/data/ContactChangeEvent", 10).await;
    let fields = json!({"MailingCity": "Bonn", "MailingStreet": null, "FirstName": "Eve"});
    bus.save(json!([{"op": "update", "object": "Contact", "id": id, "fields": fields}])).await;
    let event = stream.decoded(1).await.remove(0);
    has(
        &event,
        "changedFields",
        &["LastModifiedDate", "Name.FirstName", "MailingAddress.Street", "MailingAddress.City"],
    );
    has(&event, "nulledFields", &["MailingAddress.Street"]);
    assert_eq!(event.part("Name", "FirstName"), text("Eve"));
    assert_eq!(event.part("Name", "LastName"), Avro::Null);
    assert_eq!(event.part("MailingAddress", "City"), text("Bonn"));
}

#[tokio::test]
async fn a_custom_location_comes_with_both_halves_on_a_custom_object() {
    let bus = Bus::start().await;
    bus.control("pubsub/selection", json!({"select": ["AllTypes__c"]})).await;
    let set = json!({"Place__Latitude__s": 1.5, "Place__Longitude__s": 2.5});
    let id = bus
        .save(json!([{"op": "insert", "object": "AllTypes__c", "fill": false, "fields": set}]))
        .await
        .remove(0);
    let mut stream = bus.subscribe("/data/AllTypes__ChangeEvent", 10).await;
    let fields = json!({"Place__Latitude__s": 3.5});
    bus.save(json!([{"op": "update", "object": "AllTypes__c", "id": id, "fields": fields}])).await;
    let event = stream.decoded(1).await.remove(0);
    has(&event, "changedFields", &["LastModifiedDate", "Place__c.Latitude", "Place__c.Longitude"]);
    assert_eq!(event.part("Place__c", "Latitude"), Avro::Double(3.5));
    assert_eq!(event.part("Place__c", "Longitude"), Avro::Double(2.5));
}

#[tokio::test]
async fn moments_are_milliseconds_and_dates_too() {
    let bus = Bus::start().await;
    bus.control("pubsub/selection", json!({"select": ["AllTypes__c"]})).await;
    let mut stream = bus.subscribe("/data/AllTypes__ChangeEvent", 10).await;
    let fields = json!({"Day__c": "2022-05-31", "Moment__c": "2022-05-31T01:02:03Z", "Hour__c": "01:02:03.000Z",
        "Check__c": true, "Whole__c": 5, "Big_Whole__c": 9_007_199_254_740_993_i64, "Multi__c": "Red;Blue"});
    bus.save(json!([{"op": "insert", "object": "AllTypes__c", "fill": false, "fields": fields}])).await;
    let event = stream.decoded(1).await.remove(0);
    for (name, value) in [
        ("Day__c", Avro::Long(1_653_955_200_000)),
        ("Moment__c", Avro::Long(1_653_958_923_000)),
        ("Hour__c", Avro::Long(3_723_000)),
        ("Check__c", Avro::Boolean(true)),
        ("Whole__c", Avro::Int(5)),
        ("Big_Whole__c", Avro::Long(9_007_199_254_740_993)),
        ("Multi__c", text("Red;Blue")),
    ] {
        assert_eq!(event.field(name), &value, "{name}");
    }
}

#[tokio::test]
async fn an_automated_save_comes_only_if_it_changed_a_field() {
    let bus = Bus::start().await;
    let id = bus.first_id("Account");
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    bus.save(json!([{"op": "touch", "object": "Account", "id": id}])).await;
    let fields = json!({"ShippingLatitude": 50.25, "ShippingLongitude": 7.5});
    bus.save(json!([{"op": "touch", "object": "Account", "id": id, "fields": fields}])).await;
    let event = stream.decoded(1).await.remove(0);
    has(&event, "changedFields", &["ShippingAddress.Latitude", "ShippingAddress.Longitude"]);
    assert_eq!(event.texts("changedFields").len(), 1, "no map of plain fields");
    assert_eq!(event.text("changeOrigin"), "");
    assert_ne!(event.text("commitUser"), bus.simulator.org().user_id().as_str());
    assert_eq!(event.field("LastModifiedDate"), &Avro::Null);
}

#[tokio::test]
async fn a_deletion_is_bare_and_an_undeletion_whole() {
    let bus = Bus::start().await;
    let id =
        bus.save(json!([{"op": "insert", "object": "Lead", "fields": {"Company": "Acme"}}])).await.remove(0);
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    bus.save(json!([{"op": "delete", "object": "Lead", "id": id}])).await;
    bus.save(json!([{"op": "undelete", "object": "Lead", "id": id}])).await;
    let events = stream.decoded(2).await;
    assert_eq!((events[0].kind(), events[1].kind()), ("DELETE".to_owned(), "UNDELETE".to_owned()));
    assert!(events[0].fields.values().all(|value| *value == Avro::Null));
    assert_eq!(events[1].field("Company"), &text("Acme"));
    assert!(
        events.iter().all(|event| event.texts("changedFields").is_empty() && event.ids() == [id.clone()])
    );
}

#[tokio::test]
async fn a_record_that_is_gone_for_good_makes_no_event() {
    let bus = Bus::start().await;
    let ids = bus
        .save(json!([{"op": "insert", "object": "Lead", "fields": {}}, {"op": "insert", "object": "Lead", "fields": {}}]))
        .await;
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    bus.save(json!([{"op": "hard_delete", "object": "Lead", "id": ids[0]}])).await;
    bus.save(json!([{"op": "delete", "object": "Lead", "id": ids[1]}])).await;
    bus.control("recycleBin/Lead", json!({})).await;
    bus.save(json!([{"op": "insert", "object": "Lead", "fields": {}}])).await;
    let events = stream.decoded(2).await;
    assert_eq!((events[0].kind(), events[1].kind()), ("DELETE".to_owned(), "CREATE".to_owned()));
}

#[tokio::test]
async fn several_saves_of_one_record_in_a_transaction_are_one_event() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    let id = "0015g00000ZZZZZAAA";
    let id = sf2kafka_sim::org::Id::parse(&id[..15]).unwrap().to_string();
    bus.save(json!([
        {"op": "insert", "object": "Account", "id": id, "fill": false, "fields": {"Name": "first"}},
        {"op": "update", "object": "Account", "id": id, "fields": {"Name": "last"}},
    ]))
    .await;
    let event = stream.decoded(1).await.remove(0);
    assert_eq!((event.kind(), event.field("Name")), ("CREATE".to_owned(), &text("last")));
    assert!(stream.is_quiet_for(std::time::Duration::from_millis(50)).await);
}

#[tokio::test]
async fn a_transaction_has_one_key_and_numbers_its_events() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    bus.save(json!([
        {"op": "insert", "object": "Account", "fields": {}},
        // Nobody selected it: its number is missing.
        {"op": "insert", "object": "Product2", "fields": {}},
        {"op": "insert", "object": "Contact", "fields": {}},
    ]))
    .await;
    bus.save(json!([{"op": "insert", "object": "Account", "fields": {}}])).await;
    let events = stream.decoded(3).await;
    let numbers: Vec<i64> = events.iter().map(|event| event.number("sequenceNumber")).collect();
    assert_eq!(numbers, [1, 3, 1]);
    let keys: Vec<String> = events.iter().map(|event| event.text("transactionKey")).collect();
    assert!(keys[0] == keys[1] && keys[1] != keys[2]);
    assert_eq!(events[0].number("commitNumber"), events[1].number("commitNumber"));
}

#[tokio::test]
async fn equal_changes_of_a_transaction_are_one_event_unless_told_otherwise() {
    let bus = Bus::start().await;
    let inserted = json!([{"op": "insert", "object": "Lead", "fields": {}}, {"op": "insert", "object": "Lead", "fields": {}},
        {"op": "insert", "object": "Lead", "fields": {}}]);
    let ids = bus.save(inserted).await;
    let mut stream = bus.subscribe(CHANNEL, 100).await;
    let update = |id: &String, company: &str| json!({"op": "update", "object": "Lead", "id": id, "fields": {"Company": company}});
    bus.save(json!([update(&ids[0], "x"), update(&ids[1], "y"), update(&ids[2], "x")])).await;
    let events = stream.decoded(2).await;
    assert_eq!(events[0].ids(), [ids[0].clone(), ids[2].clone()]);
    assert_eq!(events[1].ids(), [ids[1].clone()]);
    bus.control("pubsub/settings", json!({"mergeEqual": false})).await;
    let delete = |id: &String| json!({"op": "delete", "object": "Lead", "id": id});
    bus.save(json!([delete(&ids[0]), delete(&ids[1])])).await;
    assert_eq!(stream.decoded(2).await[1].ids(), [ids[1].clone()]);
}

#[tokio::test]
async fn children_that_go_along_are_told_of_if_their_object_is_selected() {
    let bus = Bus::start().await;
    bus.control("pubsub/selection", json!({"select": ["InvoiceLine__c"]})).await;
    let invoice = bus.save(json!([{"op": "insert", "object": "Invoice__c", "fields": {}}])).await.remove(0);
    let line =
        json!({"op": "insert", "object": "InvoiceLine__c", "fill": false, "fields": {"Invoice__c": invoice}});
    let line = bus.save(json!([line])).await.remove(0);
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    bus.save(json!([{"op": "delete", "object": "Invoice__c", "id": invoice}])).await;
    let events = stream.decoded(2).await;
    assert_eq!(events[0].ids(), [invoice]);
    assert_eq!((events[1].kind(), events[1].ids()), ("DELETE".to_owned(), vec![line]));
}

#[tokio::test]
async fn a_late_transaction_comes_when_it_is_seen_and_not_before() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    let late = json!({"visible_after_ms": 60_000, "changes": [{"op": "insert", "object": "Account", "fields": {"Name": "late"}}]});
    bus.control("transactions", late).await;
    bus.save(json!([{"op": "insert", "object": "Account", "fields": {"Name": "early"}}])).await;
    bus.control("clock", json!({"advanceSeconds": 60})).await;
    let events = stream.decoded(2).await;
    assert_eq!(events[0].field("Name"), &text("early"));
    assert_eq!(events[1].field("Name"), &text("late"));
    // The record carries the time of the save, the event that of the commit.
    assert_eq!(events[1].field("LastModifiedDate"), &Avro::Long(START_MS));
    assert_eq!(events[1].number("commitTimestamp"), START_MS + 60_000);
}

#[tokio::test]
async fn a_merge_deletes_the_loser_and_updates_the_winner_and_the_children() {
    let bus = Bus::start().await;
    let insert = json!({"op": "insert", "object": "Account", "fields": {}});
    let ids = bus.save(json!([insert, insert])).await;
    let child = json!({"op": "insert", "object": "Contact", "fill": false, "fields": {"AccountId": ids[1]}});
    let child = bus.save(json!([child])).await.remove(0);
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    bus.save(json!([{"op": "merge", "object": "Account", "id": ids[0], "losers": [ids[1]], "fields": {"Site": "won"}}]))
        .await;
    let events = stream.decoded(3).await;
    let of = |id: &String| events.iter().find(|event| event.ids() == [id.clone()]).unwrap();
    assert_eq!((of(&ids[1]).kind(), of(&ids[0]).kind()), ("DELETE".to_owned(), "UPDATE".to_owned()));
    assert_eq!(of(&child).field("AccountId"), &text(&ids[0]));
}

#[tokio::test]
async fn a_hidden_field_is_null_though_it_changed() {
    let bus = Bus::start().await;
    let id = bus.first_id("Account");
    bus.control("fields", json!({"object": "Account", "field": "Site", "action": "hide"})).await;
    let mut stream = bus.subscribe(CHANNEL, 10).await;
    bus.save(
        json!([{"op": "update", "object": "Account", "id": id, "fields": {"Site": "secret", "Phone": "1"}}]),
    )
    .await;
    bus.save(json!([{"op": "insert", "object": "Account", "fields": {"Site": "secret"}}])).await;
    let events = stream.decoded(2).await;
    assert!(events[0].named("changedFields").contains(&"Site".to_owned()));
    has(&events[0], "nulledFields", &[]);
    assert!(events.iter().all(|event| event.field("Site") == &Avro::Null));
}

#[tokio::test]
async fn an_object_is_told_of_from_its_selection_to_its_deselection() {
    let bus = Bus::with(|config| config.selected = vec!["Contact".to_owned()]).await;
    let insert = json!([{"op": "insert", "object": "Account", "fields": {}}, {"op": "insert", "object": "Contact", "fields": {}}]);
    let mut stream = bus.subscribe(CHANNEL, 100).await;
    bus.save(insert.clone()).await;
    bus.control("pubsub/selection", json!({"select": ["Account"]})).await;
    bus.save(insert.clone()).await;
    bus.control("pubsub/selection", json!({"deselect": ["Account"]})).await;
    bus.save(insert).await;
    let kinds: Vec<String> = stream.decoded(4).await.iter().map(|event| event.text("entityName")).collect();
    assert_eq!(kinds, ["Contact", "Account", "Contact", "Contact"]);
}
