//! The control topic: its size, its settings, what compaction and crashes leave of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sf2kafka::domain::ControlRecord;
use sf2kafka::error::Kind;
use sf2kafka::publish::{Publisher, TopicAdmin, claim, read_control, topics};

use crate::member::{Member, on_thread, pipeline, record};
use crate::services::{admin, bootstrap, ends, read_committed, settings, unique};

#[tokio::test(flavor = "multi_thread")]
async fn a_control_topic_of_another_size_is_refused() {
    let (mut settings, topic) = pipeline("layout", 2).await;
    settings.kafka.control_partitions = 3;
    let error = topics::ensure(&settings, TopicAdmin::Kafka, &[topic]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::ControlTopicChanged);
    assert!(error.to_string().contains("has 2 partitions where the configuration says 3"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_topic_that_grew_is_refused_by_the_claim() {
    let (mut settings, _) = pipeline("grew", 2).await;
    let mut member = Member::join(&settings).await;
    member.own(2).await;
    let mut producer = claim(&settings, &member.group(), 0).await.unwrap().producer;
    on_thread(move || {
        producer.begin().unwrap();
        producer.commit(&[record("position/Account", "1")]).unwrap();
    })
    .await;
    member.membership.leave().await;
    let control = settings.control_topic();
    let grown = admin().create_partitions(&[NewPartitions::new(&control, 3)], &AdminOptions::new()).await;
    grown.unwrap()[0].as_ref().unwrap();
    // Whoever grew the topic also told the configuration.
    settings.kafka.control_partitions = 3;
    topics::ensure(&settings, TopicAdmin::Kafka, &[]).await.unwrap();
    let mut member = Member::join(&settings).await;
    member.own(3).await;
    // The old partition knows its layout; the new one asks the others.
    for shard in [0, 2] {
        let error = claim(&settings, &member.group(), shard).await.err().expect("no claim of a grown topic");
        assert_eq!(error.kind(), Kind::ControlTopicChanged, "{error:?}");
        assert!(error.to_string().contains("was made with 2 partitions and is used with 3"), "{error}");
    }
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_claim_does_not_wait_until_the_other_shards_are_quiet() {
    let (settings, _) = pipeline("busy", 2).await;
    let mut member = Member::join(&settings).await;
    member.own(2).await;
    let mut producer = claim(&settings, &member.group(), 1).await.unwrap().producer;
    let over = Arc::new(AtomicBool::new(false));
    let writing = std::thread::spawn({
        let over = over.clone();
        move || {
            while !over.load(Ordering::Relaxed) {
                producer.begin().unwrap();
                producer.commit(&[record("position/Account", "1")]).unwrap();
            }
        }
    });
    // It has no layout yet: the others are asked for theirs.
    let claimed = tokio::time::timeout(Duration::from_secs(60), claim(&settings, &member.group(), 0)).await;
    over.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    claimed.expect("a claim beside a busy shard").unwrap();
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_topic_that_deletes_is_refused() {
    let settings = settings(&unique("deletes"), 1);
    let control = settings.control_topic();
    let topic =
        NewTopic::new(&control, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact,delete");
    admin().create_topics(&[topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let error = topics::ensure(&settings, TopicAdmin::Kafka, &[]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::KafkaMisconfigured);
    assert!(error.to_string().ends_with("has cleanup.policy=compact,delete"), "{error}");
    assert!(error.advice().contains("--add-config cleanup.policy=compact"), "{}", error.advice());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_left_open_holds_up_no_report_and_no_claim() {
    let (settings, _) = pipeline("open", 1).await;
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let mut producer = claim(&settings, &member.group(), 0).await.unwrap().producer;
    on_thread(move || {
        producer.begin().unwrap();
        producer.commit(&[record("position/Account", "whole")]).unwrap();
    })
    .await;
    // A writer that dies between its control record and its commit.
    let control = settings.control_topic();
    let transactional_id = settings.transactional_id(0);
    let _dead = on_thread({
        let control = control.clone();
        move || {
            let dead: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", bootstrap())
                .set("transactional.id", transactional_id)
                .create()
                .unwrap();
            dead.init_transactions(Duration::from_secs(30)).unwrap();
            dead.begin_transaction().unwrap();
            dead.send(BaseRecord::to(&control).partition(0).key("position/Account").payload("half")).unwrap();
            dead.flush(Duration::from_secs(30)).unwrap();
            dead
        }
    })
    .await;
    assert_ne!(ends(&control, 1, "read_committed"), ends(&control, 1, "read_uncommitted"));
    let listed = tokio::time::timeout(Duration::from_secs(20), read_control(&settings));
    let listed = listed.await.expect("a report does not wait for an open transaction").unwrap();
    assert!(listed.iter().any(|record| record.key == "position/Account" && record.value == b"whole"));
    let group = member.group();
    let claimed = tokio::time::timeout(Duration::from_secs(30), claim(&settings, &group, 0));
    let claimed = claimed.await.expect("a claim ends what a predecessor had open").unwrap();
    assert_eq!(claimed.records.get("position/Account").map(Vec::as_slice), Some(b"whole".as_slice()));
    assert_eq!(ends(&control, 1, "read_committed"), ends(&control, 1, "read_uncommitted"));
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_leaves_the_newest_control_record_and_no_forgotten_one() {
    const COMMITS: usize = 40;
    let (settings, _) = pipeline("compaction", 1).await;
    let control = settings.control_topic();
    let quickly = AlterConfig::new(ResourceSpecifier::Topic(&control))
        .set("cleanup.policy", "compact")
        .set("segment.ms", "20")
        .set("min.cleanable.dirty.ratio", "0.001")
        .set("max.compaction.lag.ms", "1")
        .set("delete.retention.ms", "0");
    admin().alter_configs(&[quickly], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let mut producer = claim(&settings, &member.group(), 0).await.unwrap().producer;
    let deadline = Instant::now() + Duration::from_secs(150);
    let last = on_thread({
        let control = control.clone();
        move || {
            let mut commit = |number: usize| {
                let forgotten = ControlRecord { key: "ledger/Account/1".to_owned(), value: None };
                let kept = record("position/Account", &number.to_string());
                let ledger = if number == 0 { record("ledger/Account/1", "part") } else { forgotten };
                producer.begin().unwrap();
                producer.commit(&[kept, ledger]).unwrap();
            };
            (0..COMMITS).for_each(&mut commit);
            // A segment is closed by what comes behind it, and cleaned when the broker gets round to it.
            for number in COMMITS.. {
                commit(number);
                let positions =
                    read_committed(&control).iter().filter(|seen| seen.key == b"position/Account").count();
                if positions < COMMITS / 2 {
                    return number;
                }
                assert!(Instant::now() < deadline, "the broker compacts nothing: {positions} records");
            }
            unreachable!("the deadline comes first")
        }
    })
    .await;
    let claimed = claim(&settings, &member.group(), 0).await.unwrap().records;
    assert_eq!(claimed.keys().collect::<Vec<_>>(), ["layout", "position/Account"]);
    assert_eq!(claimed["position/Account"], last.to_string().into_bytes());
    member.membership.leave().await;
}
