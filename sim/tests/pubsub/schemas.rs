//! Schemas: their ids, their shape, and that they change when the object does.

use apache_avro::Schema;
use serde_json::{Value as Json, json};
use sf2kafka_sim::pubsub::{FieldSet, schema_id};

use crate::Bus;
use crate::client::Client;

const RECORDED: [(&str, &str); 4] = [
    ("S3-K_S0GYegWTRZnKLjeag", include_str!("data/AccountChangeEvent.S3-K_S0GYegWTRZnKLjeag.avsc")),
    ("4egfTTaxua4Y39nYlBXfNg", include_str!("data/AccountChangeEvent.4egfTTaxua4Y39nYlBXfNg.avsc")),
    ("i8wgJwwM-AVcDbFkbRl5Nw", include_str!("data/AccountChangeEvent.i8wgJwwM-AVcDbFkbRl5Nw.avsc")),
    ("_CADE3qaegX3ECEW0rlbYA", include_str!("data/Order_Event__e._CADE3qaegX3ECEW0rlbYA.avsc")),
];

async fn current(client: &Client, topic: &str) -> (String, Json) {
    let id = client.topic(topic).await.unwrap().schema_id;
    let info = client.schema(&id).await.unwrap();
    assert_eq!(info.schema_id, id);
    assert!(Schema::parse_str(&info.schema_json).is_ok());
    assert_eq!(schema_id(&info.schema_json).as_deref(), Some(id.as_str()));
    (id, serde_json::from_str(&info.schema_json).unwrap())
}

fn names(schema: &Json) -> Vec<String> {
    let fields = schema["fields"].as_array().unwrap();
    fields.iter().map(|field| field["name"].as_str().unwrap().to_owned()).collect()
}

fn field<'s>(schema: &'s Json, name: &str) -> &'s Json {
    let fields = schema["fields"].as_array().unwrap();
    fields.iter().find(|field| field["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn ids_are_those_that_were_recorded() {
    for (id, schema) in RECORDED {
        assert_eq!(schema_id(schema).as_deref(), Some(id));
    }
}

#[test]
fn bitmaps_are_those_that_were_recorded_and_documented() {
    let vectors: Vec<Json> = serde_json::from_str(include_str!("data/bitmaps.json")).unwrap();
    assert_eq!(vectors.len(), 13);
    for vector in vectors {
        let mut set = FieldSet::default();
        let numbers = |list: &Json| -> Vec<usize> {
            list.as_array().unwrap().iter().map(|one| one.as_u64().unwrap() as usize).collect()
        };
        numbers(&vector["plain"]).into_iter().for_each(|position| set.add(position));
        for (position, parts) in vector["parts"].as_object().unwrap() {
            numbers(parts).into_iter().for_each(|part| set.add_part(position.parse().unwrap(), part));
        }
        assert_eq!(json!(set.bitmaps()), vector["bitmap"], "{}", vector["id"]);
    }
}

#[tokio::test]
async fn the_header_and_the_order_of_keys_are_those_of_a_recorded_schema() {
    let bus = Bus::start().await;
    let (_, ours) = current(&bus.client().await, "/data/AccountChangeEvent").await;
    let recorded: Json = serde_json::from_str(RECORDED[2].1).unwrap();
    assert_eq!(ours["fields"][0]["type"], recorded["fields"][0]["type"]);
    assert_eq!(ours["fields"][0]["doc"], "Data:ComplexValueType");
    assert_eq!(ours.as_object().unwrap().keys().collect::<Vec<_>>(), ["type", "name", "namespace", "fields"]);
    assert_eq!(
        ours["fields"][1].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["name", "type", "doc", "default"]
    );
    // Fields that both orgs have are of the same type and doc, but for a custom field's own id.
    let mut compared = 0;
    for field_of_ours in ours["fields"].as_array().unwrap().iter().skip(1) {
        let name = field_of_ours["name"].as_str().unwrap();
        let theirs = recorded["fields"].as_array().unwrap().iter().find(|field| field["name"] == name);
        if let Some(theirs) = theirs.filter(|_| !name.ends_with("__c") && !name.ends_with("Address")) {
            assert_eq!(field_of_ours, theirs);
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

#[tokio::test]
async fn what_no_change_event_has_is_missing_and_compounds_stand_whole() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    let (_, contact) = current(&client, "/data/ContactChangeEvent").await;
    let all = names(&contact);
    for absent in
        ["Id", "IsDeleted", "SystemModstamp", "LastActivityDate", "PhotoUrl", "MailingCity", "FirstName"]
    {
        assert!(!all.contains(&absent.to_owned()), "{absent}");
    }
    assert_eq!(field(&contact, "OtherAddress")["type"][1]["name"], "Address");
    assert_eq!(field(&contact, "MailingAddress")["type"], json!(["null", "Address"]));
    assert_eq!(field(&contact, "Name")["type"][1]["name"], "PersonName");
    let (_, invoice) = current(&client, "/data/Invoice__ChangeEvent").await;
    assert_eq!(invoice["name"], "Invoice__ChangeEvent");
    assert_eq!(names(&invoice)[1..3], ["OwnerId", "Name"]);
    let doc = field(&invoice, "Remarks__c")["doc"].as_str().unwrap();
    assert!(doc.starts_with("Data:StringPlusClob:00N") && doc.len() == "Data:StringPlusClob:".len() + 15);
}

#[tokio::test]
async fn a_changed_object_has_another_schema_and_the_old_one_stays() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    let (before, _) = current(&client, "/data/AccountChangeEvent").await;
    let mut stream = bus.subscribe("/data/AccountChangeEvent", 10).await;
    bus.publish(1).await;
    bus.control(
        "fields",
        json!({"object": "Account", "field": "Region__c", "action": "add", "type": "string"}),
    )
    .await;
    let id = bus.first_id("Account");
    bus.save(json!([{"op": "update", "object": "Account", "id": id, "fields": {"Region__c": "north"}}]))
        .await;
    let events = stream.events(2).await;
    let ids: Vec<String> = events.iter().map(|event| event.event.clone().unwrap().schema_id).collect();
    assert_eq!(ids[0], before);
    assert_ne!(ids[1], before);
    let second = stream.decode(&events[1]).await;
    assert_eq!(second.field("Region__c"), &crate::client::text("north"));
    assert!(second.named("changedFields").contains(&"Region__c".to_owned()));
    assert!(client.schema(&before).await.is_ok());
    // Hidden by field-level security: still in the schema.
    bus.control("fields", json!({"object": "Account", "field": "Region__c", "action": "hide"})).await;
    assert_eq!(current(&client, "/data/AccountChangeEvent").await.0, ids[1]);
    bus.control("fields", json!({"object": "Account", "field": "Region__c", "action": "remove"})).await;
    assert_eq!(current(&client, "/data/AccountChangeEvent").await.0, before);
}

#[tokio::test]
async fn each_event_has_the_schema_of_its_moment_whatever_becomes_of_a_field() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    let topic = "/data/Invoice__ChangeEvent";
    let (first, schema) = current(&client, topic).await;
    let doc = field(&schema, "Reference__c")["doc"].clone();
    let mut stream = bus.subscribe(topic, 20).await;
    let id = bus.first_id("Invoice__c");
    let mut ids = Vec::new();
    for (field, action, more, cell) in [
        ("Reference__c", "change", json!({"length": 200}), json!("longer")),
        ("Reference__c", "rename", json!({"name": "Ref__c"}), json!("renamed")),
        ("Ref__c", "retype", json!({"type": "double"}), json!(7.5)),
    ] {
        let mut order = json!({"object": "Invoice__c", "field": field, "action": action});
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        bus.control("fields", order).await;
        let name = if action == "change" { "Reference__c" } else { "Ref__c" };
        bus.save(json!([{"op": "update", "object": "Invoice__c", "id": id, "fields": {name: cell}}])).await;
        let event = stream.events(1).await.remove(0);
        ids.push(event.event.clone().unwrap().schema_id);
        let event = stream.decode(&event).await;
        let seen = event.field(name).clone();
        let wanted = match cell.as_str() {
            Some(text) => crate::client::text(text),
            None => apache_avro::types::Value::Double(7.5),
        };
        assert_eq!(crate::client::unwrapped(seen), crate::client::unwrapped(wanted), "{action}");
        assert!(event.named("changedFields").contains(&name.to_owned()));
    }
    assert_eq!(ids[0], first, "how long a text may be is not in the schema");
    assert!(ids[1] != first && ids[2] != ids[1] && ids[2] != first);
    let (_, renamed) = current(&client, topic).await;
    let id_of = |doc: &Json| doc.as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    assert_eq!(id_of(&field(&renamed, "Ref__c")["doc"]), id_of(&doc), "the field's own id stays");
    assert!(!names(&renamed).contains(&"Reference__c".to_owned()));
}

#[tokio::test]
async fn a_stream_ends_when_its_object_is_removed_or_called_something_else() {
    let bus = Bus::start().await;
    let mut old = bus.subscribe("/data/Invoice__ChangeEvent", 5).await;
    bus.control("objects", json!({"object": "Invoice__c", "action": "rename", "name": "Bill__c"})).await;
    let status = old.ending().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound, "{status}");
    let mut new = bus.subscribe("/data/Bill__ChangeEvent", 5).await;
    let id = bus.first_id("Bill__c");
    bus.save(json!([{"op": "update", "object": "Bill__c", "id": id, "fields": {"Reference__c": "x"}}])).await;
    assert_eq!(new.decoded(1).await[0].ids(), [id]);
    bus.control("objects", json!({"object": "InvoiceLine__c", "action": "remove"})).await;
    bus.control("objects", json!({"object": "Bill__c", "action": "remove"})).await;
    assert!(new.ending().await.is_err());
    assert!(bus.client().await.topic("/data/Bill__ChangeEvent").await.is_err());
}

#[tokio::test]
async fn channels_of_many_objects_have_no_schema_of_their_own() {
    let bus = Bus::start().await;
    let topic = bus.client().await.topic("/data/ChangeEvents").await.unwrap();
    assert_eq!((topic.schema_id.as_str(), topic.can_subscribe, topic.can_publish), ("", true, false));
    assert!(topic.tenant_guid.starts_with("core/prod/00D"));
}

#[tokio::test]
async fn every_capturable_object_has_a_schema_that_parses() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    for object in
        ["AllTypes__c", "User", "Product2", "Task", "Event", "OpportunityLineItem", "CampaignMember"]
    {
        bus.control("pubsub/selection", json!({"select": [object]})).await;
        let event = object
            .strip_suffix("__c")
            .map_or(format!("{object}ChangeEvent"), |stem| format!("{stem}__ChangeEvent"));
        let (_, schema) = current(&client, &format!("/data/{event}")).await;
        assert!(names(&schema).len() > 10, "{object}");
    }
}
