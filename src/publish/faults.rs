//! How a shard's producer takes a cluster that misbehaves: the client library's mock cluster, told what to answer.
//! What exactly-once rests on is judged on a real broker (`tests/broker`): the mock ends no transaction.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::config::{Auth, KafkaSettings, SalesforceSettings, Secret, Settings};
use crate::error::Kind;

struct Faulty {
    cluster: MockCluster<'static, DefaultProducerContext>,
    settings: Settings,
    membership: Membership,
    _events: tokio::sync::mpsc::UnboundedReceiver<ShardEvent>,
}

impl Faulty {
    async fn start() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        for topic in ["f.control", "f.A"] {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        let auth = Auth::AccessToken { access_token: Secret::new("unused") };
        let salesforce = SalesforceSettings::new("http://127.0.0.1:9".parse().unwrap(), auth);
        let mut kafka = KafkaSettings::new(&cluster.bootstrap_servers());
        kafka.control_partitions = 1;
        let settings = Settings::new("f", salesforce, kafka, None);
        let (membership, mut events) = Membership::join(&settings).await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), async {
            while !matches!(events.recv().await, Some(ShardEvent::Assigned(shards)) if shards == [0]) {}
        })
        .await
        .expect("the mock gives the shard");
        Self { cluster, settings, membership, _events: events }
    }

    async fn claim(&self) -> ShardProducer {
        claim(&self.settings, &self.membership.handle(), 0).await.unwrap().producer
    }
}

/// One transaction, and what became of the producer.
fn transaction(producer: &mut ShardProducer, position: &str) -> Result<()> {
    producer.begin()?;
    producer.send("f.A", b"k", Some(b"v"))?;
    let value = Some(position.as_bytes().to_vec());
    producer.commit(&[ControlRecord { key: "position/A".to_owned(), value }])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_answers_decides_whether_the_shard_goes_on() {
    use RDKafkaApiKey as Api;
    use RDKafkaRespErr as Code;
    let cases = [
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, None),
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR, None),
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, Some(Kind::ShardLost)),
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, Some(Kind::ShardLost)),
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED, Some(Kind::ShardFenced)),
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, Some(Kind::ShardFenced)),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Some(Kind::KafkaRefused)),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Some(Kind::CommitFailed)),
    ];
    let faulty = Faulty::start().await;
    for (api, code, expected) in cases {
        let mut producer = faulty.claim().await;
        faulty.cluster.request_errors(api, &[code]);
        let (outcome, again) = tokio::task::spawn_blocking(move || {
            let outcome = transaction(&mut producer, "1");
            (outcome, transaction(&mut producer, "2"))
        })
        .await
        .unwrap();
        faulty.cluster.clear_request_errors(api);
        let met = outcome.as_ref().err().map(crate::Error::kind);
        assert_eq!(met, expected, "{code:?}: {outcome:?}");
        // Behind a failure nothing is sent any more, whatever the next answer would be.
        let after = expected.map(|_| Kind::Internal);
        assert_eq!(again.map_err(|error| error.kind()).err(), after, "{code:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_waits_for_brokers_that_come_back() {
    let faulty = Faulty::start().await;
    let mut producer = faulty.claim().await;
    let mut producer = tokio::task::spawn_blocking(move || {
        transaction(&mut producer, "before").unwrap();
        producer
    })
    .await
    .unwrap();
    faulty.cluster.broker_down(1).unwrap();
    let commit = tokio::task::spawn_blocking(move || transaction(&mut producer, "behind"));
    // The outage itself: long enough that requests fail and connections are refused.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!commit.is_finished(), "nobody was there to take the commit");
    faulty.cluster.broker_up(1).unwrap();
    tokio::time::timeout(Duration::from_secs(60), commit).await.expect("it ends").unwrap().unwrap();
    let control = read_control(&faulty.settings).await.unwrap();
    assert!(control.iter().any(|record| record.key == "position/A" && record.value == b"behind"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_shard_tells_its_numbers() {
    let faulty = Faulty::start().await;
    let board = std::sync::Arc::new(crate::status::Board::new());
    let group = faulty.membership.handle().reporting_to(&board);
    let _idle = claim(&faulty.settings, &group, 0).await.unwrap().producer;
    let told = async {
        while !crate::status::metrics::render(&board).contains("client=\"shard-0\"") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("numbers without a transaction");
}
