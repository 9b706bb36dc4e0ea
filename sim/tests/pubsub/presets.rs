//! Where a subscription begins: LATEST, EARLIEST, CUSTOM, and ids that are known no more.

use std::time::Duration;

use serde_json::json;
use tonic::Code;

use crate::Bus;
use crate::client::{Stream, behind, earliest, latest};

const TOPIC: &str = "/data/AccountChangeEvent";

async fn opened(bus: &Bus, request: crate::client::FetchRequest) -> Stream {
    let mut stream = bus.client().await.subscribe().await.unwrap();
    stream.ask(request).await;
    stream
}

async fn corrupted(bus: &Bus, replay_id: &[u8]) {
    let refusal = opened(bus, behind(TOPIC, replay_id, 1)).await.ending().await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(crate::refusals::code(&refusal).ends_with("subscription.fetch.replayid.corrupted"));
    assert!(
        refusal.message().starts_with("The Replay ID validation failed. Ensure that the Replay ID is valid.")
    );
}

#[tokio::test]
async fn latest_begins_with_what_comes() {
    let bus = Bus::start().await;
    bus.publish(3).await;
    let mut stream = bus.subscribe(TOPIC, 10).await;
    bus.publish(1).await;
    assert_eq!(stream.response().await.events.len(), 1);
}

#[tokio::test]
async fn earliest_begins_with_the_oldest_that_is_retained() {
    let bus = Bus::start().await;
    bus.publish(3).await;
    let mut stream = opened(&bus, earliest(TOPIC, 10)).await;
    let events = stream.events(3).await;
    assert!(events.windows(2).all(|pair| pair[0].replay_id < pair[1].replay_id));
    assert!(events.iter().all(|event| event.replay_id.len() == 10 && event.replay_id.ends_with(&[0, 0])));
}

#[tokio::test]
async fn custom_begins_behind_the_id() {
    let bus = Bus::start().await;
    bus.publish(3).await;
    let events = opened(&bus, earliest(TOPIC, 10)).await.events(3).await;
    let rest = opened(&bus, behind(TOPIC, &events[0].replay_id, 10)).await.events(2).await;
    assert_eq!(rest[0], events[1]);
    // Eight bytes are taken too, as clients that count with numbers send them.
    let rest = opened(&bus, behind(TOPIC, &events[1].replay_id[..8], 10)).await.events(1).await;
    assert_eq!(rest[0], events[2]);
}

#[tokio::test]
async fn an_id_that_was_never_given_out_is_refused() {
    let bus = Bus::start().await;
    bus.publish(2).await;
    let events = opened(&bus, earliest(TOPIC, 10)).await.events(2).await;
    let mut beyond = events[1].replay_id.clone();
    beyond[0] = 9;
    for id in [&b"x"[..], &[0; 10], &beyond, &[1, 2, 3], &events[1].replay_id[1..]] {
        corrupted(&bus, id).await;
    }
    let refusal = opened(&bus, behind(TOPIC, &[], 1)).await.ending().await.unwrap_err();
    assert!(crate::refusals::code(&refusal).ends_with("subscription.fetch.replayid.validation.failed"));
}

#[tokio::test]
async fn an_id_past_the_retention_is_refused_and_its_event_is_gone() {
    let bus = Bus::start().await;
    bus.publish(1).await;
    let old = opened(&bus, earliest(TOPIC, 10)).await.events(1).await.remove(0);
    bus.control("clock", json!({"advanceSeconds": 3_600})).await;
    bus.publish(1).await;
    assert_eq!(opened(&bus, behind(TOPIC, &old.replay_id, 10)).await.events(1).await.len(), 1);
    bus.control("pubsub/settings", json!({"retentionSeconds": 1_800})).await;
    corrupted(&bus, &old.replay_id).await;
    let left = opened(&bus, earliest(TOPIC, 10)).await.response().await.events;
    assert_eq!(left.len(), 1);
    assert_ne!(left[0], old);
}

#[tokio::test]
async fn after_a_migration_no_old_id_is_known() {
    let bus = Bus::start().await;
    bus.publish(1).await;
    let old = opened(&bus, earliest(TOPIC, 10)).await.events(1).await.remove(0);
    bus.control("pubsub/replayIds/invalidate", json!({})).await;
    corrupted(&bus, &old.replay_id).await;
    bus.publish(1).await;
    assert!(opened(&bus, earliest(TOPIC, 10)).await.events(1).await[0].replay_id > old.replay_id);
}

#[tokio::test]
async fn ids_can_have_eight_bytes_as_before() {
    let bus = Bus::with_habits(|habits| habits.short_replay_ids = true).await;
    bus.publish(2).await;
    let events = opened(&bus, earliest(TOPIC, 10)).await.events(2).await;
    assert_eq!(events[0].replay_id.len(), 8);
    let rest = opened(&bus, behind(TOPIC, &events[0].replay_id, 10)).await.events(1).await;
    assert_eq!(rest[0], events[1]);
}

#[tokio::test]
async fn latest_can_miss_what_comes_at_once() {
    let bus = Bus::with_habits(|habits| habits.latest_delay = Duration::from_millis(300)).await;
    let mut stream = opened(&bus, latest(TOPIC, 10)).await;
    bus.publish(1).await;
    stream.wait_until_standing(&bus).await;
    let missed = bus.control_get("pubsub").await["published"].clone();
    bus.publish(1).await;
    assert_eq!((missed, stream.response().await.events.len()), (json!(1), 1));
}
