//! A member of a pipeline's group as tests steer it, and what every test of publishing begins with.

use std::time::Duration;

use sf2kafka::config::Settings;
use sf2kafka::domain::ControlRecord;
use sf2kafka::publish::{GroupHandle, Membership, ShardEvent, TopicAdmin, topics};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::services::{settings, unique};

pub struct Member {
    pub membership: Membership,
    events: UnboundedReceiver<ShardEvent>,
    pub owned: Vec<i32>,
}

impl Member {
    pub async fn join(settings: &Settings) -> Self {
        let (membership, events) = Membership::join(settings).await.unwrap();
        Self { membership, events, owned: Vec::new() }
    }

    pub fn group(&self) -> GroupHandle {
        self.membership.handle()
    }

    /// Takes events until so many shards are owned; lets go of what is revoked.
    pub async fn own(&mut self, shards: usize) {
        tokio::time::timeout(Duration::from_secs(60), async {
            while self.owned.len() != shards {
                match self.events.recv().await.expect("events go on") {
                    ShardEvent::Assigned(assigned) => self.owned.extend(assigned),
                    ShardEvent::Revoked { shards, done } => {
                        self.owned.retain(|shard| !shards.contains(shard));
                        done.send(()).unwrap();
                    }
                    ShardEvent::Lost(lost) => self.owned.retain(|shard| !lost.contains(shard)),
                    ShardEvent::Failed(error) => panic!("{error}"),
                }
            }
        })
        .await
        .expect("the group gives the shards in time");
    }
}

pub fn record(key: &str, value: &str) -> ControlRecord {
    ControlRecord { key: key.to_owned(), value: Some(value.as_bytes().to_vec()) }
}

pub async fn pipeline(stem: &str, shards: i32) -> (Settings, String) {
    let settings = settings(&unique(stem), shards);
    let topic = format!("{}.Account", settings.name);
    topics::ensure(&settings, TopicAdmin::Kafka, std::slice::from_ref(&topic)).await.unwrap();
    (settings, topic)
}

/// Producers block: they live on threads where that is allowed.
pub async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
