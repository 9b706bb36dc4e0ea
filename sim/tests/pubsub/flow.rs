//! Flow control: what is asked for, what comes, and what happens to a stream that asks for nothing.

use std::time::Duration;

use serde_json::json;
use tonic::Code;

use crate::Bus;
use crate::client::{latest, more};

const TOPIC: &str = "/data/AccountChangeEvent";

impl Bus {
    /// So many events of Account, each of its own transaction.
    pub async fn publish(&self, count: usize) {
        let id = self.first_id("Account");
        for at in 0..count {
            self.save(json!([{"op": "update", "object": "Account", "id": id, "fields": {"Site": format!("s{at}")}}]))
                .await;
        }
    }
}

#[tokio::test]
async fn no_more_comes_than_was_asked_for() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 3).await;
    bus.publish(5).await;
    let events = stream.events(3).await;
    assert!(stream.is_quiet_for(Duration::from_millis(100)).await);
    stream.ask(more(1)).await;
    let fourth = stream.response().await;
    assert_eq!((fourth.events.len(), fourth.pending_num_requested), (1, 0));
    assert!(fourth.latest_replay_id > events[2].replay_id);
    assert_eq!(fourth.latest_replay_id, fourth.events[0].replay_id);
}

#[tokio::test]
async fn requests_add_up_to_a_hundred_and_no_further() {
    let bus = Bus::with_habits(|habits| habits.events_per_response = 1).await;
    let mut stream = bus.subscribe(TOPIC, 60).await;
    stream.ask(more(30)).await;
    bus.publish(1).await;
    // The second request may be read before or after the event.
    let first = stream.response().await.pending_num_requested;
    assert!(first == 59 || first == 89, "{first}");
    stream.ask(more(100)).await;
    let mut pending = 0;
    while pending != 99 {
        bus.publish(1).await;
        pending = stream.response().await.pending_num_requested;
        assert!(pending < 100);
    }
}

#[tokio::test]
async fn a_keepalive_comes_while_events_are_asked_for_and_moves_the_position() {
    let bus = Bus::with_habits(|habits| habits.keepalive = Duration::from_millis(50)).await;
    let mut stream = bus.subscribe(TOPIC, 7).await;
    let (first, second) = (stream.response().await, stream.response().await);
    for keepalive in [&first, &second] {
        assert_eq!((keepalive.events.len(), keepalive.pending_num_requested), (0, 7));
        assert_eq!(keepalive.latest_replay_id.len(), 10);
        assert_eq!(keepalive.rpc_id, first.rpc_id);
    }
    assert!(second.latest_replay_id > first.latest_replay_id);
    // Its position is as good as an event's.
    bus.publish(1).await;
    let mut again = bus.client().await.subscribe().await.unwrap();
    again.ask(crate::client::behind(TOPIC, &first.latest_replay_id, 10)).await;
    assert_eq!(again.events(1).await.len(), 1);
}

#[tokio::test]
async fn a_stream_that_asks_for_nothing_ends_with_ok() {
    let bus = Bus::with_habits(|habits| habits.idle = Duration::from_millis(80)).await;
    let mut stream = bus.subscribe(TOPIC, 1).await;
    bus.publish(1).await;
    assert_eq!(stream.events(1).await.len(), 1);
    assert!(stream.ending().await.is_ok());
    let mut silent = bus.client().await.subscribe().await.unwrap();
    assert!(silent.ending().await.is_ok(), "no request at all");
}

#[tokio::test]
async fn a_stream_with_events_outstanding_does_not_end() {
    let bus = Bus::with_habits(|habits| habits.idle = Duration::from_millis(40)).await;
    let mut stream = bus.subscribe(TOPIC, 5).await;
    assert!(stream.is_quiet_for(Duration::from_millis(200)).await);
    bus.publish(1).await;
    assert_eq!(stream.response().await.pending_num_requested, 4);
}

#[tokio::test]
async fn a_request_for_nothing_is_refused() {
    let bus = Bus::start().await;
    for count in [0, -1] {
        let mut stream = bus.client().await.subscribe().await.unwrap();
        stream.ask(latest(TOPIC, count)).await;
        let refusal = stream.ending().await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(crate::refusals::code(&refusal).ends_with("subscription.fetch.requested.events.invalid"));
    }
    let mut stream = bus.subscribe(TOPIC, 1).await;
    stream.ask(more(-5)).await;
    assert_eq!(stream.ending().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_keeps_its_topic() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 1).await;
    stream.ask(latest(TOPIC, 1)).await;
    stream.ask(latest("/data/ChangeEvents", 1)).await;
    let refusal = stream.ending().await.unwrap_err();
    assert!(crate::refusals::code(&refusal).ends_with("subscription.fetch.topic.mismatch"));
}

#[tokio::test]
async fn a_burst_comes_in_responses_of_a_chosen_size() {
    let bus = Bus::with_habits(|habits| habits.events_per_response = 4).await;
    let mut stream = bus.subscribe(TOPIC, 100).await;
    let id = bus.first_id("Account");
    let update = |at: usize| json!({"op": "update", "object": "Account", "id": id, "fields": {"Site": at.to_string()}});
    let all: Vec<_> = (0..10).map(|at| json!({"changes": [update(at)]})).collect();
    bus.control("transactions", json!(all)).await;
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 10 {
        sizes.push(stream.response().await.events.len());
    }
    assert!(sizes.iter().all(|size| *size <= 4), "{sizes:?}");
}

#[tokio::test]
async fn a_client_that_asks_no_more_gets_what_it_asked_for() {
    let bus = Bus::start().await;
    let mut stream = bus.subscribe(TOPIC, 2).await;
    stream.ask_no_more();
    bus.publish(2).await;
    assert_eq!(stream.events(2).await.len(), 2);
    assert!(stream.ending().await.is_ok());
}
