//! Platform events: published by a client, read by another.

use std::time::Duration;

use apache_avro::Schema;
use apache_avro::types::{Record, Value as Avro};
use apache_avro::writer::datum::GenericDatumWriter;
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};

use crate::client::{Client, PATIENCE, ProducerEvent, text};
use crate::{Bus, START_MS, refusals};

const TOPIC: &str = "/event/Order_Event__e";

#[derive(Clone, PartialEq, Message)]
struct PublishRequest {
    #[prost(string, tag = "1")]
    topic_name: String,
    #[prost(message, repeated, tag = "2")]
    events: Vec<ProducerEvent>,
}

#[derive(Clone, PartialEq, Message)]
struct PublishResult {
    #[prost(bytes = "vec", tag = "1")]
    replay_id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    error: Option<PublishError>,
    #[prost(string, tag = "3")]
    correlation_key: String,
}

#[derive(Clone, PartialEq, Message)]
struct PublishError {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    msg: String,
}

#[derive(Clone, PartialEq, Message)]
struct PublishResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<PublishResult>,
    #[prost(string, tag = "2")]
    schema_id: String,
    #[prost(string, tag = "3")]
    rpc_id: String,
}

async fn order(client: &Client, id: &str, number: &str) -> ProducerEvent {
    let schema_id = client.topic(TOPIC).await.unwrap().schema_id;
    let schema = Schema::parse_str(&client.schema(&schema_id).await.unwrap().schema_json).unwrap();
    let mut record = Record::new(&schema).unwrap();
    record.put("CreatedDate", START_MS);
    record.put("CreatedById", "0055g0000000000AAA");
    record.put("Order_Number__c", Avro::Union(1, Box::new(text(number))));
    record.put("Total__c", Avro::Union(1, Box::new(Avro::Double(9.5))));
    record.put("Shipped__c", Avro::Union(0, Box::new(Avro::Null)));
    let payload = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(record).unwrap();
    ProducerEvent { id: id.to_owned(), schema_id, payload }
}

async fn publish(
    client: &Client,
    topic: &str,
    events: Vec<ProducerEvent>,
) -> Result<PublishResponse, Status> {
    client.unary("Publish", PublishRequest { topic_name: topic.to_owned(), events }).await
}

#[tokio::test]
async fn an_event_reaches_subscribers_as_it_was_published() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    let topic = client.topic(TOPIC).await.unwrap();
    assert!(topic.can_publish && topic.can_subscribe);
    let mut stream = bus.subscribe(TOPIC, 10).await;
    let own = order(&client, "11111111-2222-4333-8444-555555555555", "O-1").await;
    let answer = publish(&client, TOPIC, vec![own.clone(), order(&client, "", "O-2").await]).await.unwrap();
    assert_eq!(answer.schema_id, topic.schema_id);
    let events = stream.decoded(2).await;
    for (result, event) in answer.results.iter().zip(&events) {
        assert_eq!(
            (&result.error, &result.replay_id, &result.correlation_key),
            (&None, &event.replay_id, &event.id)
        );
        assert_eq!(event.id.len(), 36);
    }
    assert_eq!((events[0].id.as_str(), events[0].field("Order_Number__c")), (own.id.as_str(), &text("O-1")));
    assert_eq!(
        (events[0].field("Total__c"), events[0].field("CreatedDate")),
        (&Avro::Double(9.5), &Avro::Long(START_MS))
    );
}

#[tokio::test]
async fn the_control_interface_publishes_an_event_by_its_fields() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    let fields = json!({"Order_Number__c": "O-1", "Total__c": 9.5, "Shipped__c": true});
    let order = json!({"topic": TOPIC, "fields": fields, "eventId": "own"});
    bus.control("pubsub/events", order).await;
    let event = stream.decoded(1).await.remove(0);
    assert_eq!((event.id.as_str(), event.field("Order_Number__c")), ("own", &text("O-1")));
    assert_eq!(event.field("Total__c"), &Avro::Double(9.5));
    assert_eq!(event.field("Shipped__c"), &Avro::Boolean(true));
    for wrong in [
        json!({"topic": TOPIC, "fields": {"Nothing__c": 1}}),
        json!({"topic": TOPIC, "fields": {}, "payload": "AQID"}),
        json!({"topic": "/data/AccountChangeEvent", "fields": {}}),
    ] {
        assert!(bus.control("pubsub/events", wrong).await["error"].is_string());
    }
}

#[tokio::test]
async fn a_payload_that_is_not_of_its_schema_has_an_error_of_its_own() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    let good = order(&client, "", "O-1").await;
    let mut cut = good.clone();
    cut.payload.pop();
    let foreign = ProducerEvent { schema_id: "nonsense".to_owned(), ..good.clone() };
    let answer = publish(&client, TOPIC, vec![cut, good, foreign]).await.unwrap();
    let good: Vec<bool> = answer.results.iter().map(|result| result.error.is_none()).collect();
    assert_eq!(good, [false, true, false]);
    assert_eq!(answer.results[0].error.as_ref().unwrap().code, 1);
}

#[tokio::test]
async fn what_cannot_be_published_is_refused() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    let event = order(&client, "", "O-1").await;
    let refusal = publish(&client, TOPIC, Vec::new()).await.unwrap_err();
    assert!(refusals::code(&refusal).ends_with("publish.event.count.invalid"));
    let refusal = publish(&client, "/data/AccountChangeEvent", vec![event.clone()]).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    let refusal = publish(&client, "/event/Nothing__e", vec![event]).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound);
}

#[tokio::test]
async fn a_publish_stream_answers_each_request_and_ends_when_nothing_comes() {
    let bus = Bus::with_habits(|habits| habits.publish_idle = Duration::from_millis(200)).await;
    let client = bus.client().await;
    let event = order(&client, "", "O-1").await;
    let (asks, mut answers) =
        client.streaming::<PublishRequest, PublishResponse>("PublishStream").await.unwrap();
    for topic in [TOPIC, ""] {
        asks.send(PublishRequest { topic_name: topic.to_owned(), events: vec![event.clone()] })
            .await
            .unwrap();
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
        assert!(answer.results[0].error.is_none());
    }
    let refusal = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap_err();
    assert!(refusals::code(&refusal).ends_with("publish.stream.sweeper.timeout"));
}

#[tokio::test]
async fn a_publish_stream_keeps_its_topic() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    let event = order(&client, "", "O-1").await;
    let (asks, mut answers) =
        client.streaming::<PublishRequest, PublishResponse>("PublishStream").await.unwrap();
    for topic in [TOPIC, "/event/et4ae5__JB_Event__e"] {
        asks.send(PublishRequest { topic_name: topic.to_owned(), events: vec![event.clone()] })
            .await
            .unwrap();
    }
    assert!(tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().is_ok());
    let refusal = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap_err();
    assert!(refusals::code(&refusal).ends_with("publish.topic.mismatch"));
}
