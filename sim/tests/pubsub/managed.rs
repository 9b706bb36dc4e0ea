//! Managed subscriptions: the server keeps the position.

use std::time::Duration;

use prost::Message;
use serde_json::json;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::client::{Client, ConsumerEvent, PATIENCE};
use crate::{Bus, refusals};

#[derive(Clone, PartialEq, Message)]
struct Ask {
    #[prost(string, tag = "1")]
    subscription_id: String,
    #[prost(string, tag = "2")]
    developer_name: String,
    #[prost(int32, tag = "3")]
    num_requested: i32,
    #[prost(message, optional, tag = "5")]
    commit: Option<Commit>,
}

#[derive(Clone, PartialEq, Message)]
struct Commit {
    #[prost(string, tag = "1")]
    commit_request_id: String,
    #[prost(bytes = "vec", tag = "2")]
    replay_id: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, repeated, tag = "1")]
    events: Vec<ConsumerEvent>,
    #[prost(bytes = "vec", tag = "2")]
    latest_replay_id: Vec<u8>,
    #[prost(int32, tag = "4")]
    pending_num_requested: i32,
    #[prost(message, optional, tag = "5")]
    commit_response: Option<Committed>,
}

#[derive(Clone, PartialEq, Message)]
struct Committed {
    #[prost(string, tag = "1")]
    commit_request_id: String,
    #[prost(bytes = "vec", tag = "2")]
    replay_id: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    error: Option<CommitError>,
    #[prost(int64, tag = "4")]
    process_time: i64,
}

#[derive(Clone, PartialEq, Message)]
struct CommitError {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    msg: String,
}

struct Managed {
    asks: mpsc::Sender<Ask>,
    answers: Streaming<Answer>,
}

impl Managed {
    async fn open(client: &Client, ask: Ask) -> Managed {
        let (asks, answers) = client.streaming("ManagedSubscribe").await.unwrap();
        asks.send(ask).await.unwrap();
        Managed { asks, answers }
    }

    async fn next(&mut self) -> Result<Answer, Status> {
        let next = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an answer in time");
        next.map(|answer| answer.expect("the stream goes on"))
    }

    async fn commit(&mut self, id: &str, replay_id: &[u8]) -> Committed {
        let commit = Commit { commit_request_id: id.to_owned(), replay_id: replay_id.to_vec() };
        self.asks.send(Ask { commit: Some(commit), ..Ask::default() }).await.unwrap();
        loop {
            if let Some(committed) = self.next().await.unwrap().commit_response {
                return committed;
            }
        }
    }
}

fn named(count: i32) -> Ask {
    Ask { developer_name: "orders".to_owned(), num_requested: count, ..Ask::default() }
}

async fn with_subscription() -> Bus {
    let bus = Bus::start().await;
    let order = json!({"developerName": "orders", "topic": "/data/AccountChangeEvent", "defaultReplay": "EARLIEST",
        "errorRecoveryReplay": "EARLIEST"});
    assert_eq!(bus.control("pubsub/managed", order).await, json!({}));
    bus
}

#[tokio::test]
async fn the_next_client_goes_on_behind_what_was_committed() {
    let bus = with_subscription().await;
    bus.publish(4).await;
    let client = bus.client().await;
    let mut first = Managed::open(&client, named(4)).await;
    let mut events = Vec::new();
    while events.len() < 4 {
        events.extend(first.next().await.unwrap().events);
    }
    let committed = first.commit("c1", &events[1].replay_id).await;
    assert_eq!((committed.commit_request_id.as_str(), committed.error), ("c1", None));
    assert_eq!(committed.replay_id, events[1].replay_id);
    // Back is not allowed, nor is what was never sent.
    assert_eq!(first.commit("c2", &events[0].replay_id).await.error.unwrap().code, 2);
    assert_eq!(first.commit("c3", b"nonsense!!").await.error.unwrap().code, 2);
    drop(first);
    let mut second = loop {
        let mut next = Managed::open(&client, named(10)).await;
        match next.next().await {
            Ok(answer) => break (next, answer),
            // The first one's end has not been seen yet.
            Err(refusal) => assert!(refusals::code(&refusal).ends_with("already.active")),
        }
    };
    let mut again = second.1.events;
    while again.len() < 2 {
        again.extend(second.0.next().await.unwrap().events);
    }
    assert_eq!(again, events[2..]);
}

#[tokio::test]
async fn one_client_at_a_time_and_a_while_longer() {
    let bus = with_subscription().await;
    bus.control("pubsub/settings", json!({"managedLingerSeconds": 3600})).await;
    bus.publish(1).await;
    let client = bus.client().await;
    let mut first = Managed::open(&client, named(4)).await;
    first.next().await.unwrap();
    for _ in 0..2 {
        let refusal = Managed::open(&client, named(1)).await.next().await.unwrap_err();
        assert!(refusals::code(&refusal).ends_with("managed.subscription.already.active"));
        assert!(
            refusal.message().starts_with("An active managed subscription with the same ID already exists.")
        );
    }
    drop(first);
    tokio::time::timeout(PATIENCE, async {
        while bus.control_get("pubsub").await["openStreams"] != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let refusal = Managed::open(&client, named(1)).await.next().await.unwrap_err();
    assert!(refusals::code(&refusal).ends_with("managed.subscription.already.active"));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_has_its_code() {
    let bus = with_subscription().await;
    bus.control(
        "pubsub/managed",
        json!({"developerName": "halted", "topic": "/data/ChangeEvents", "state": "STOP"}),
    )
    .await;
    let client = bus.client().await;
    let commit = Some(Commit { commit_request_id: "x".to_owned(), replay_id: vec![0] });
    for (ask, code) in [
        (Ask { num_requested: 1, ..Ask::default() }, "id.or.developer.name.empty"),
        (Ask { subscription_id: "18x000000000001".to_owned(), ..named(1) }, "fetch.request.invalid"),
        (
            Ask { subscription_id: "nonsense".to_owned(), num_requested: 1, ..Ask::default() },
            "subscription.id.invalid",
        ),
        (
            Ask { subscription_id: "18x000000000009".to_owned(), num_requested: 1, ..Ask::default() },
            "subscription.id.not.found",
        ),
        (Ask { developer_name: "nobody".to_owned(), ..named(1) }, "developer.name.not.found"),
        (Ask { developer_name: "halted".to_owned(), ..named(1) }, "config.stopped"),
        (named(0), "fetch.request.events.invalid"),
        (Ask { commit, ..named(1) }, "fetch.request.commit.request.restricted"),
    ] {
        let refusal = Managed::open(&client, ask).await.next().await.unwrap_err();
        assert!(
            refusals::code(&refusal).ends_with(&format!("managed.subscription.{code}")),
            "{code}: {refusal:?}"
        );
    }
}

#[tokio::test]
async fn a_commit_that_aged_out_falls_back_as_the_subscription_says() {
    let bus = with_subscription().await;
    bus.publish(1).await;
    let client = bus.client().await;
    let mut first = Managed::open(&client, named(1)).await;
    let event = first.next().await.unwrap().events.remove(0);
    assert_eq!(first.commit("c", &event.replay_id).await.error, None);
    drop(first);
    bus.control("clock", json!({"advanceSeconds": 4 * 86_400})).await;
    bus.publish(2).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let events = loop {
        let mut next = Managed::open(&client, named(10)).await;
        match next.next().await {
            Ok(answer) => break answer.events,
            Err(_) => assert!(tokio::time::Instant::now() < deadline),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(events.len(), 2);
}
