//! Events that no transaction made, and habits of the bus that a client has to stand.

use apache_avro::types::Value as Avro;
use serde_json::{Value as Json, json};

use crate::Bus;
use crate::client::{Event, text};

const TOPIC: &str = "/data/AccountChangeEvent";

async fn ordered(bus: &Bus, order: Json) -> Event {
    let mut stream = bus.subscribe(TOPIC, 10).await;
    let answer = bus.control("pubsub/events", order).await;
    let event = stream.decoded(1).await.remove(0);
    let hex: String = event.replay_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer["replayIds"], json!([hex]));
    event
}

#[tokio::test]
async fn gaps_overflows_and_wildcards_have_no_body() {
    let bus = Bus::start().await;
    let id = bus.first_id("Account");
    for kind in ["GAP_CREATE", "GAP_UPDATE", "GAP_DELETE", "GAP_UNDELETE", "SNAPSHOT"] {
        let event = ordered(&bus, json!({"object": "Account", "changeType": kind, "ids": [id]})).await;
        assert_eq!((event.kind(), event.ids()), (kind.to_owned(), vec![id.clone()]));
        assert!(event.fields.values().all(|value| *value == Avro::Null));
        assert!(event.texts("changedFields").is_empty());
    }
    let overflow = ordered(&bus, json!({"object": "Account", "changeType": "GAP_OVERFLOW"})).await;
    assert_eq!(overflow.ids(), ["000000000000000AAA"]);
    let wildcard = ordered(&bus, json!({"object": "Account", "changeType": "UPDATE", "ids": ["001*"]})).await;
    assert_eq!(wildcard.ids(), ["001*"]);
}

#[tokio::test]
async fn a_duplicate_has_the_same_event_id_and_another_replay_id() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    bus.publish(1).await;
    let first = stream.events(1).await.remove(0);
    bus.control("pubsub/events", json!({"duplicate": "last"})).await;
    let hex: String = first.replay_id.iter().map(|byte| format!("{byte:02x}")).collect();
    bus.control("pubsub/events", json!({"duplicate": hex})).await;
    for again in stream.events(2).await {
        assert_eq!(again.event, first.event);
        assert!(again.replay_id > first.replay_id);
    }
}

#[tokio::test]
async fn raw_bytes_come_as_they_are() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    bus.control(
        "pubsub/events",
        json!({"topic": TOPIC, "schemaId": "unknown", "payload": "AQID", "eventId": "e"}),
    )
    .await;
    let event = stream.events(1).await.remove(0).event.unwrap();
    assert_eq!(
        (event.id.as_str(), event.schema_id.as_str(), event.payload.as_slice()),
        ("e", "unknown", &[1, 2, 3][..])
    );
    for wrong in [
        json!({}),
        json!({"topic": "/data/ChangeEvents", "payload": ""}),
        json!({"object": "Nothing"}),
        json!({"object": "Account", "changeType": "WHAT"}),
        json!({"duplicate": "00"}),
        json!({"topic": TOPIC, "payload": "?"}),
    ] {
        assert!(bus.control("pubsub/events", wrong.clone()).await["error"].is_string(), "{wrong}");
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_becomes_a_gap() {
    let bus = Bus::start().await;
    bus.control("pubsub/settings", json!({"largestEvent": 600})).await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    let id = bus
        .save(json!([{"op": "insert", "object": "Account", "fill": false, "fields": {"Description": "x".repeat(700)}}]))
        .await
        .remove(0);
    bus.save(
        json!([{"op": "update", "object": "Account", "id": id, "fields": {"Description": "y".repeat(700)}}]),
    )
    .await;
    let events = stream.decoded(2).await;
    assert_eq!((events[0].kind(), events[1].kind()), ("GAP_CREATE".to_owned(), "GAP_UPDATE".to_owned()));
    assert!(
        events.iter().all(|event| event.ids() == [id.clone()] && event.texts("changedFields").is_empty())
    );
}

#[tokio::test]
async fn too_many_changes_in_a_transaction_end_in_an_overflow_for_each_object() {
    let bus = Bus::start().await;
    bus.control("pubsub/settings", json!({"overflowAfter": 3})).await;
    let mut stream = bus.subscribe("/data/ChangeEvents", 100).await;
    let insert = |object: &str| json!({"op": "insert", "object": object, "fields": {}});
    bus.save(json!([
        insert("Account"),
        insert("Lead"),
        insert("Account"),
        insert("Account"),
        insert("Lead"),
        insert("Lead")
    ]))
    .await;
    let events = stream.decoded(5).await;
    let seen: Vec<(String, String)> =
        events.iter().map(|event| (event.kind(), event.text("entityName"))).collect();
    let pair = |kind: &str, object: &str| (kind.to_owned(), object.to_owned());
    assert_eq!(seen[..3], [pair("CREATE", "Account"), pair("CREATE", "Lead"), pair("CREATE", "Account")]);
    assert_eq!(seen[3..], [pair("GAP_OVERFLOW", "Account"), pair("GAP_OVERFLOW", "Lead")]);
}

#[tokio::test]
async fn a_long_text_comes_as_a_diff_unless_that_is_switched_off() {
    let bus = Bus::start().await;
    let lines: Vec<String> =
        (0..60).map(|at| format!("line {at} of a description that is long enough")).collect();
    let (before, after) = (lines.join("\n"), lines.join("\n").replace("line 7 ", "LINE 7 "));
    let set = json!({"op": "insert", "object": "Account", "fill": false, "fields": {"Description": before}});
    let id = bus.save(json!([set])).await.remove(0);
    let update = |text: &str| json!([{"op": "update", "object": "Account", "id": id, "fields": {"Description": text}}]);
    let mut stream = bus.subscribe(TOPIC, 10).await;
    bus.save(update(&after)).await;
    bus.control("pubsub/settings", json!({"diffFrom": 0})).await;
    bus.save(update(&before)).await;
    let events = stream.decoded(2).await;
    assert_eq!(events[0].named("diffFields"), ["Description"]);
    assert!(events[0].named("changedFields").contains(&"Description".to_owned()));
    let Avro::String(diff) = events[0].field("Description") else { panic!("text") };
    let (head, hunks) = diff.split_once("\n@@ ").unwrap();
    assert!(head.starts_with("--- \n+++ ") && head.len() == "--- \n+++ ".len() + 64);
    let expected = format!("-8,1 +8,1 @@\n-{}\n+{}", lines[7], lines[7].replace("line 7", "LINE 7"));
    assert_eq!(hunks, expected);
    assert!(events[1].texts("diffFields").is_empty());
    assert_eq!(events[1].field("Description"), &text(&before));
}

#[tokio::test]
async fn a_checkbox_can_be_null_in_a_creation() {
    let bus = Bus::start().await;
    bus.control("pubsub/settings", json!({"nullBooleans": true})).await;
    let mut stream = bus.subscribe("/data/ContactChangeEvent", 10).await;
    bus.control("pubsub/selection", json!({"select": ["AllTypes__c"]})).await;
    let mut all = bus.subscribe("/data/AllTypes__ChangeEvent", 10).await;
    let fields = json!({"Check__c": false, "Check_On__c": true});
    bus.save(json!([{"op": "insert", "object": "AllTypes__c", "fill": false, "fields": fields}])).await;
    let event = all.decoded(1).await.remove(0);
    assert_eq!((event.field("Check__c"), event.field("Check_On__c")), (&Avro::Null, &Avro::Boolean(true)));
    assert!(stream.is_quiet_for(std::time::Duration::from_millis(20)).await);
}

#[tokio::test]
async fn an_update_can_come_as_two_events() {
    let bus = Bus::start().await;
    bus.control("pubsub/settings", json!({"splitStamps": true})).await;
    let insert = json!({"op": "insert", "object": "Account", "fields": {}});
    let ids = bus.save(json!([insert, insert])).await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    let update =
        |id: &String| json!({"op": "update", "object": "Account", "id": id, "fields": {"Site": "same"}});
    bus.save(json!([update(&ids[0]), update(&ids[1])])).await;
    let events = stream.decoded(2).await;
    assert_eq!(
        (events[0].named("changedFields"), events[0].ids()),
        (vec!["LastModifiedDate".to_owned()], ids.clone())
    );
    assert_eq!((events[1].named("changedFields"), events[1].ids()), (vec!["Site".to_owned()], ids));
    assert_eq!(events[0].text("transactionKey"), events[1].text("transactionKey"));
}
