//! Custom channels: their members, their enriched fields, and their end.

use apache_avro::types::Value as Avro;
use serde_json::json;
use sf2kafka_sim::pubsub::{ChannelConfig, ChannelMember};
use tonic::Code;

use crate::Bus;
use crate::client::{earliest, text};

const SALES: &str = "/data/Sales__chn";

async fn with_channel(enriched: &[&str]) -> Bus {
    let enriched_fields = enriched.iter().map(|field| (*field).to_owned()).collect();
    let account = ChannelMember { object: "Account".to_owned(), enriched_fields };
    let task = ChannelMember { object: "Task".to_owned(), enriched_fields: Vec::new() };
    let channel = ChannelConfig { name: "Sales__chn".to_owned(), members: vec![account, task] };
    Bus::with(|config| config.channels = vec![channel]).await
}

#[tokio::test]
async fn a_channel_carries_its_members_and_no_others() {
    let bus = with_channel(&[]).await;
    let mut channel = bus.subscribe(SALES, 10).await;
    let mut standard = bus.subscribe("/data/ChangeEvents", 10).await;
    bus.save(json!([{"op": "insert", "object": "Task", "fields": {}}, {"op": "insert", "object": "Contact", "fields": {}},
        {"op": "insert", "object": "Account", "fields": {}}]))
        .await;
    let on = |events: Vec<crate::client::Event>| -> Vec<String> {
        events.iter().map(|event| event.text("entityName")).collect()
    };
    assert_eq!(on(channel.decoded(2).await), ["Task", "Account"]);
    assert_eq!(on(standard.decoded(2).await), ["Contact", "Account"], "Task is not selected there");
    // A member of any channel has its own topic.
    assert!(bus.client().await.topic("/data/TaskChangeEvent").await.is_ok());
    assert_eq!(bus.client().await.topic(SALES).await.unwrap().schema_id, "");
}

#[tokio::test]
async fn enriched_fields_come_with_updates_and_deletions_as_they_are_at_delivery() {
    let bus = with_channel(&["Name", "BillingAddress", "Site"]).await;
    let set = json!({"Name": "Acme", "BillingCity": "Ulm", "Site": "s", "Phone": "1"});
    let id = bus
        .save(json!([{"op": "insert", "object": "Account", "fill": false, "fields": set}]))
        .await
        .remove(0);
    let update = |fields| json!([{"op": "update", "object": "Account", "id": id, "fields": fields}]);
    bus.save(update(json!({"Phone": "2", "Site": null}))).await;
    bus.save(update(json!({"Name": "Later", "Site": "again"}))).await;
    bus.save(json!([{"op": "delete", "object": "Account", "id": id}])).await;
    let mut stream = bus.client().await.subscribe().await.unwrap();
    stream.ask(earliest(SALES, 10)).await;
    let events = stream.decoded(4).await;
    let update = &events[1];
    assert_eq!(update.named("changedFields"), ["Phone", "Site", "LastModifiedDate"]);
    assert_eq!(update.field("Name"), &text("Later"), "not as it was then");
    assert_eq!(update.part("BillingAddress", "City"), text("Ulm"));
    assert_eq!(update.field("Site"), &Avro::Null, "what was changed itself stays as it was changed");
    assert_eq!((events[3].kind(), events[3].field("Name")), ("DELETE".to_owned(), &text("Later")));
    // On the object's own topic nothing is enriched.
    let mut plain = bus.client().await.subscribe().await.unwrap();
    plain.ask(earliest("/data/AccountChangeEvent", 10)).await;
    assert_eq!(plain.decoded(4).await[1].field("Name"), &Avro::Null);
}

#[tokio::test]
async fn enriched_copies_of_a_merged_event_share_one_replay_id() {
    let bus = with_channel(&["Name"]).await;
    let insert = |name: &str| json!({"op": "insert", "object": "Account", "fields": {"Name": name}});
    let ids = bus.save(json!([insert("a"), insert("b")])).await;
    let mut enriched = bus.subscribe(SALES, 10).await;
    let mut merged = bus.subscribe("/data/AccountChangeEvent", 10).await;
    let delete = |id: &String| json!({"op": "delete", "object": "Account", "id": id});
    bus.save(json!([delete(&ids[0]), delete(&ids[1])])).await;
    assert_eq!(merged.decoded(1).await[0].ids(), ids);
    let copies = enriched.decoded(2).await;
    assert_eq!(copies[0].replay_id, copies[1].replay_id);
    assert_eq!((copies[0].ids(), copies[0].field("Name")), (vec![ids[0].clone()], &text("a")));
    assert_eq!((copies[1].ids(), copies[1].field("Name")), (vec![ids[1].clone()], &text("b")));
}

#[tokio::test]
async fn a_channel_can_be_made_and_taken_away_while_it_runs() {
    let bus = Bus::start().await;
    bus.control("pubsub/channels", json!({"name": "New__chn", "members": [{"object": "Lead"}]})).await;
    let mut stream = bus.subscribe("/data/New__chn", 10).await;
    bus.save(json!([{"op": "insert", "object": "Lead", "fields": {}}])).await;
    assert_eq!(stream.events(1).await.len(), 1);
    let gone =
        crate::wire::send(&bus.simulator.origin(), "DELETE", "/simulator/pubsub/channels/New__chn", None, "")
            .await;
    assert_eq!(gone, json!({}));
    assert_eq!(stream.ending().await.unwrap_err().code(), Code::NotFound);
    for wrong in
        [json!({"name": "X", "members": []}), json!({"name": "X__chn", "members": [{"object": "Nothing"}]})]
    {
        assert!(bus.control("pubsub/channels", wrong).await["error"].is_string());
    }
}
