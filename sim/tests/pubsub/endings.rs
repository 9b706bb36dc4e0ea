//! Every way a stream can end, seen by a plain client; and calls that are refused on demand.

use std::time::Duration;

use serde_json::{Value as Json, json};
use sf2kafka_sim::pubsub::TlsConfig;
use tonic::Code;

use crate::client::{Client, latest};
use crate::{Bus, refusals};

const TOPIC: &str = "/data/AccountChangeEvent";

async fn fault(bus: &Bus, rule: Json) {
    assert_eq!(bus.control("pubsub/faults", rule).await, json!({}));
}

#[tokio::test]
async fn an_end_with_ok_comes_after_the_events_that_were_let_by() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    fault(&bus, json!({"action": "end", "afterEvents": 2, "times": 1})).await;
    bus.publish(4).await;
    assert_eq!(stream.events(2).await.len(), 2);
    assert!(stream.next().await.unwrap().is_none());
    // It is used up.
    let mut next = bus.subscribe(TOPIC, 10).await;
    bus.publish(1).await;
    assert_eq!(next.events(1).await.len(), 1);
}

#[tokio::test]
async fn an_open_stream_ends_at_once_with_any_status() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    let status = json!({"code": "INTERNAL", "errorCode": "service.unavailable"});
    fault(&bus, json!({"topic": TOPIC, "action": {"status": status}, "times": 1})).await;
    let refusal = stream.ending().await.unwrap_err();
    assert_eq!(refusal.code(), Code::Internal);
    assert!(refusal.message().starts_with("The service is unavailable. Try again later rpcId: "));
    assert!(refusals::code(&refusal).ends_with("service.unavailable"));
    let mut bare = bus.subscribe(TOPIC, 10).await;
    let status = json!({"code": "14", "message": "This application is down for maintenance"});
    fault(&bus, json!({"action": {"status": status}, "times": 1})).await;
    let refusal = bare.ending().await.unwrap_err();
    assert_eq!(refusal.message(), "This application is down for maintenance");
    assert!(refusal.metadata().get("error-code").is_none());
}

#[tokio::test]
async fn a_fault_of_another_topic_leaves_a_stream_alone() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    fault(&bus, json!({"topic": "/data/ContactChangeEvent", "action": "end"})).await;
    bus.publish(1).await;
    assert_eq!(stream.events(1).await.len(), 1);
    assert!(bus.control("pubsub/faults", json!({"action": "explode"})).await["error"].is_string());
}

#[tokio::test]
async fn a_reset_has_no_status_of_its_own_and_takes_no_event_along() {
    let bus = Bus::start().await;
    for code in [0, 8] {
        let mut stream = bus.subscribe(TOPIC, 10).await;
        fault(&bus, json!({"action": {"reset": {"code": code}}, "afterEvents": 1, "times": 1})).await;
        bus.publish(1).await;
        assert_eq!(stream.events(1).await.len(), 1);
        let broken = stream.ending().await.unwrap_err();
        assert!(broken.metadata().get("error-code").is_none());
        assert!(refused_by_transport(&broken), "{broken:?}");
    }
}

/// tonic makes a status of a broken transport; its source says so, or that there was none on the wire.
fn refused_by_transport(status: &tonic::Status) -> bool {
    let message = status.message();
    std::error::Error::source(status).is_some()
        || message.contains("h2 protocol error")
        || message.contains("missing grpc-status trailer")
}

#[tokio::test]
async fn a_closed_connection_ends_all_its_streams() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    let mut streams = Vec::new();
    for topic in [TOPIC, "/data/ContactChangeEvent"] {
        let mut stream = client.subscribe().await.unwrap();
        stream.ask(latest(topic, 10)).await;
        stream.wait_until_standing(&bus).await;
        streams.push(stream);
    }
    fault(&bus, json!({"topic": TOPIC, "action": "close", "afterEvents": 1, "times": 1})).await;
    bus.publish(1).await;
    assert_eq!(streams[0].events(1).await.len(), 1);
    for mut stream in streams {
        assert!(refused_by_transport(&stream.ending().await.unwrap_err()));
    }
    assert!(client.topic(TOPIC).await.is_ok(), "a new connection is made");
}

#[tokio::test]
async fn goaway_lets_a_stream_go_on_for_the_grace() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    fault(&bus, json!({"action": {"goAway": {"graceMillis": 400}}, "times": 1})).await;
    bus.publish(1).await;
    assert_eq!(stream.events(1).await.len(), 1, "events come in the grace");
    assert!(stream.ending().await.is_err());
}

#[tokio::test]
async fn a_silent_connection_answers_nothing_not_even_pings() {
    let bus = Bus::with_habits(|habits| habits.keepalive = Duration::from_millis(30)).await;
    let client = bus.client().await;
    let mut stream = client.subscribe().await.unwrap();
    stream.ask(latest(TOPIC, 10)).await;
    assert!(stream.response().await.events.is_empty(), "a keepalive");
    fault(&bus, json!({"action": "silence", "times": 1})).await;
    // What was under way may still come; then nothing.
    while !stream.is_quiet_for(Duration::from_millis(300)).await {}
    bus.publish(1).await;
    assert!(stream.is_quiet_for(Duration::from_millis(100)).await);
    let call = tokio::time::timeout(Duration::from_millis(200), client.topic(TOPIC)).await;
    assert!(call.is_err(), "nor is a call on it answered");
    assert!(bus.client().await.topic(TOPIC).await.is_ok(), "other connections are");
}

#[tokio::test]
async fn calls_are_refused_on_demand() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    let schema = client.topic(TOPIC).await.unwrap().schema_id;
    let unavailable = |rpc: &str, code: &str| {
        let status = json!({"code": "UNAVAILABLE", "errorCode": code});
        json!({"rpc": rpc, "action": {"status": status}, "times": 1})
    };
    fault(&bus, unavailable("GetSchema", "schema.api.unavailable")).await;
    fault(&bus, unavailable("GetTopic", "topic.api.unavailable")).await;
    let refusal = client.schema(&schema).await.unwrap_err();
    assert!(refusals::code(&refusal).ends_with("schema.api.unavailable"));
    let refusal = client.topic(TOPIC).await.unwrap_err();
    assert!(refusals::code(&refusal).ends_with("topic.api.unavailable"));
    assert!(client.schema(&schema).await.is_ok() && client.topic(TOPIC).await.is_ok());
    // A stream refused when it is opened, while those that are open go on.
    let mut open = bus.subscribe(TOPIC, 10).await;
    let status = json!({"code": "UNAVAILABLE", "errorCode": "concurrent.client.limit.exceeded"});
    fault(
        &bus,
        json!({"topic": TOPIC, "rpc": "Subscribe", "onCall": true, "action": {"status": status}, "times": 1}),
    )
    .await;
    let mut refused = client.subscribe().await.unwrap();
    refused.ask(latest(TOPIC, 1)).await;
    assert_eq!(refused.ending().await.unwrap_err().code(), Code::Unavailable);
    bus.publish(1).await;
    assert_eq!(open.events(1).await.len(), 1);
}

#[tokio::test]
async fn a_spent_allowance_ends_streams_until_there_is_some_again() {
    let bus = Bus::start().await;
    bus.control("pubsub/settings", json!({"deliveryLimit": 3})).await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    bus.publish(5).await;
    assert_eq!(stream.events(3).await.len(), 3);
    let refusal = stream.ending().await.unwrap_err();
    assert!(refusals::code(&refusal).ends_with("subscription.limit.exceeded"));
    assert!(refusal.message().starts_with("You have exceeded the event delivery limit for your org."));
    let limits = bus.rest("limits").await;
    assert_eq!(limits["DailyDeliveredPlatformEvents"], json!({"Max": 3, "Remaining": 0}));
    bus.control("pubsub/settings", json!({"delivered": 1})).await;
    let limits = bus.rest("limits").await;
    assert_eq!(limits["DailyDeliveredPlatformEvents"], json!({"Max": 3, "Remaining": 2}));
    let mut again = bus.client().await.subscribe().await.unwrap();
    again.ask(crate::client::earliest(TOPIC, 10)).await;
    assert_eq!(again.events(2).await.len(), 2);
}

#[tokio::test]
async fn behind_tls_it_is_the_same_for_those_who_trust_the_certificate() {
    let tls = TlsConfig::SelfSigned { names: Vec::new() };
    let bus = Bus::with(|config| config.tls = Some(tls)).await;
    let origin = bus.simulator.pubsub_origin();
    let certificate = bus.simulator.pubsub_certificate().unwrap();
    assert_eq!(bus.control_get("pubsub/certificate").await, json!(certificate));
    let client = Client::connect_trusting(&origin, certificate, bus.headers()).await.unwrap();
    let mut stream = client.subscribe().await.unwrap();
    stream.ask(latest(TOPIC, 5)).await;
    stream.wait_until_standing(&bus).await;
    fault(&bus, json!({"action": {"reset": {}}, "afterEvents": 1, "times": 1})).await;
    bus.publish(1).await;
    assert_eq!(stream.events(1).await.len(), 1);
    assert!(stream.ending().await.is_err());
    // Another certificate, given by whoever starts it.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = |label: &str, der: &[u8]| {
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
    };
    let given = TlsConfig::Given {
        certificate_pem: pem("CERTIFICATE", made.cert.der()),
        key_pem: pem("PRIVATE KEY", &made.signing_key.serialize_der()),
    };
    let other = Bus::with(|config| config.tls = Some(given)).await;
    let theirs = other.simulator.pubsub_certificate().unwrap();
    let theirs = Client::connect_trusting(&other.simulator.pubsub_origin(), theirs, other.headers()).await;
    assert!(theirs.unwrap().topic(TOPIC).await.is_ok());
    let other = other.simulator.pubsub_certificate().unwrap().to_owned();
    assert!(Client::connect_trusting(&origin, &other, bus.headers()).await.is_err());
}
