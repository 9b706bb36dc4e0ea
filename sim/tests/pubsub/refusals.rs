//! Headers and refusals: statuses, texts and trailers.

use tonic::{Code, Status};

use crate::Bus;
use crate::client::latest;

pub fn code(refusal: &Status) -> String {
    let code = refusal.metadata().get("error-code").unwrap_or_else(|| panic!("no error-code: {refusal:?}"));
    let code = code.to_str().unwrap().to_owned();
    assert!(code.starts_with("sfdc.platform.eventbus.grpc."), "{code}");
    let rpc_id = refusal.metadata().get("rpc-id").unwrap().to_str().unwrap();
    assert!(refusal.message().ends_with(&format!("rpcId: {rpc_id}")), "{refusal:?}");
    assert_eq!(rpc_id.len(), 36);
    code
}

#[tokio::test]
async fn each_of_the_three_headers_is_needed() {
    let bus = Bus::start().await;
    for header in ["accesstoken", "instanceurl", "tenantid"] {
        for client in [bus.client().await.without(header), bus.client().await.with_header(header, "  ")] {
            let refusal = client.topic("/data/ChangeEvents").await.unwrap_err();
            assert!(code(&refusal).ends_with("service.auth.headers.invalid"), "{header}");
            let refusal = client.subscribe().await.err().unwrap();
            assert!(code(&refusal).ends_with("service.auth.headers.invalid"), "{header}");
        }
    }
    for url in ["127.0.0.1", "ftp://x", "https://x.my.salesforce.com/"] {
        let client = bus.client().await.with_header("instanceurl", url);
        assert!(code(&client.schema("x").await.unwrap_err()).ends_with("service.auth.headers.invalid"));
    }
}

#[tokio::test]
async fn a_wrong_token_or_org_is_not_let_in() {
    let bus = Bus::start().await;
    let org = bus.simulator.org().organization_id().to_string();
    for (header, value) in [
        ("accesstoken", "00D!x"),
        ("accesstoken", &format!("Bearer {}", bus.token)),
        ("tenantid", "00D000000000001"),
        ("tenantid", &format!("prod/{org}")),
    ] {
        let client = bus.client().await.with_header(header, value);
        let refusal = client.topic("/data/ChangeEvents").await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unauthenticated);
        assert!(code(&refusal).ends_with("service.auth.error"));
        let text = "An authentication exception occurred. Provide valid authentication via metadata headers.";
        assert!(refusal.message().starts_with(text));
    }
    for tenant in [org[..15].to_owned(), org.clone(), format!("core/practice/{org}")] {
        let client = bus.client().await.with_header("tenantid", &tenant);
        assert!(client.topic("/data/ChangeEvents").await.is_ok(), "{tenant}");
    }
}

#[tokio::test]
async fn a_stream_outlives_its_session_but_schemas_are_refused() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe("/data/AccountChangeEvent", 10).await;
    bus.control("sessions/expire", serde_json::json!({})).await;
    bus.publish(1).await;
    let event = stream.events(1).await.remove(0);
    let refusal = bus.client().await.schema(&event.event.unwrap().schema_id).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_not_found() {
    let bus = Bus::start().await;
    for topic in [
        "/data/Task_ChangeEvent",
        "/data/TaskChangeEvent",
        "/data/accountChangeEvent",
        "/data/Invoice__cChangeEvent",
        "/data/Sales__chn",
        "/event/Nothing__e",
        "Data/AccountChangeEvent",
    ] {
        let client = bus.client().await;
        let refusal = client.topic(topic).await.unwrap_err();
        assert_eq!(refusal.code(), Code::NotFound, "{topic}");
        assert!(code(&refusal).ends_with("topic.not.found"));
        assert!(refusal.message().contains(&format!("and topic {topic} not found.")));
        let mut stream = client.subscribe().await.unwrap();
        stream.ask(latest(topic, 1)).await;
        assert_eq!(stream.ending().await.unwrap_err().code(), Code::NotFound, "{topic}");
    }
    let refusal = bus.client().await.topic("").await.unwrap_err();
    assert!(code(&refusal).ends_with("topic.validation.empty"));
}

#[tokio::test]
async fn a_hidden_object_refuses_its_topic_and_is_missing_on_the_channel() {
    let bus = Bus::start().await;
    bus.control("settings", serde_json::json!({"hiddenObjects": ["Account"]})).await;
    let mut stream = bus.client().await.subscribe().await.unwrap();
    stream.ask(latest("/data/AccountChangeEvent", 1)).await;
    let refusal = stream.ending().await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    let mut channel = bus.subscribe("/data/ChangeEvents", 10).await;
    bus.publish(1).await;
    bus.save(serde_json::json!([{"op": "insert", "object": "Contact", "fields": {}}])).await;
    let event = channel.decoded(1).await.remove(0);
    assert_eq!(event.text("entityName"), "Contact");
}

#[tokio::test]
async fn a_schema_id_is_checked() {
    let bus = Bus::start().await;
    let client = bus.client().await;
    for (id, text) in [("", "can't be blank."), (" ", "can't be blank."), ("nonsense", "isn't valid.")] {
        let refusal = client.schema(id).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(code(&refusal).ends_with("schema.validation.failed"));
        assert!(refusal.message().contains(text), "{}", refusal.message());
    }
}
