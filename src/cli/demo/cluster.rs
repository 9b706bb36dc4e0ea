//! The demo's Kafka: the client library's mock cluster, inside this process.
//!
//! Comes in: topics with partition counts. Goes out: a bootstrap address on loopback. It keeps 5 MB a partition and drops
//! the oldest silently, answers no admin calls, and ends no transaction: fit for a show, not for judging exactly-once.

use std::sync::mpsc;
use std::thread::JoinHandle;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::error::Kind;
use crate::{Error, Result};

/// The cluster's handle may not leave its thread; the thread ends when this is dropped.
pub(super) struct Cluster {
    bootstrap: String,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    pub fn start(topics: Vec<(String, i32)>) -> Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (answer, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("mock-kafka".to_owned())
            .spawn(move || {
                let cluster = make(&topics);
                let cluster = match cluster {
                    Ok(cluster) => cluster,
                    Err(error) => {
                        let _ = answer.send(Err(error));
                        return;
                    }
                };
                let _ = answer.send(Ok(cluster.bootstrap_servers()));
                // Nothing is ever sent: this returns when the other end is dropped.
                let _ = stopped.recv();
            })
            .map_err(|error| Error::new(Kind::Internal, "no thread for the mock cluster").source(error))?;
        let bootstrap = started
            .recv()
            .map_err(|error| Error::new(Kind::Internal, "the mock cluster ended").source(error))?
            .map_err(|error| Error::new(Kind::Internal, "the mock cluster cannot start").source(error))?;
        Ok(Self { bootstrap, stop: Some(stop), thread: Some(thread) })
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to report.
            let _ = thread.join();
        }
    }
}

fn make(
    topics: &[(String, i32)],
) -> std::result::Result<MockCluster<'static, DefaultProducerContext>, KafkaError> {
    let cluster = MockCluster::new(1)?;
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions, 1)?;
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, KafkaSettings, SalesforceSettings, Secret, Settings};
    use crate::domain::ControlRecord;
    use crate::publish::{Membership, Publisher, ShardEvent, claim, read_control};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_shard_is_claimed_and_written_on_the_mock_cluster() {
        let topics =
            vec![("d.control".to_owned(), 1), ("d.dead-letters".to_owned(), 1), ("d.A".to_owned(), 2)];
        let cluster = Cluster::start(topics).unwrap();
        let token = Auth::AccessToken { access_token: Secret::new("x") };
        let salesforce = SalesforceSettings::new(url::Url::parse("http://127.0.0.1:1").unwrap(), token);
        let mut kafka = KafkaSettings::new(cluster.bootstrap());
        kafka.control_partitions = 1;
        let settings = Settings::new("d", salesforce, kafka, None);

        let (membership, mut events) = Membership::join(&settings).await.unwrap();
        loop {
            let event = tokio::time::timeout(std::time::Duration::from_secs(60), events.recv()).await;
            match event.unwrap().unwrap() {
                ShardEvent::Assigned(shards) if shards == [0] => break,
                ShardEvent::Revoked { done, .. } => done.send(()).unwrap(),
                ShardEvent::Assigned(shards) => assert!(shards.is_empty(), "{shards:?}"),
                other => panic!("{other:?}"),
            }
        }
        let claimed = claim(&settings, &membership.handle(), 0).await.unwrap();
        assert!(claimed.records.is_empty());
        let mut producer = claimed.producer;
        tokio::task::spawn_blocking(move || {
            producer.begin().unwrap();
            producer.send("d.A", b"k", Some(b"v")).unwrap();
            let position = ControlRecord { key: "position/A".to_owned(), value: Some(b"{}".to_vec()) };
            producer.commit(&[position]).unwrap();
        })
        .await
        .unwrap();
        // Nobody is there to release the shard any more: the leave need not wait for it.
        drop(events);
        membership.leave().await;
        let records = read_control(&settings).await.unwrap();
        assert!(records.iter().any(|record| record.key == "position/A" && record.value == b"{}"));
    }
}
