//! Fencing, atomicity, claims and rebalances: the promises that `publish` rests on.

use std::time::{Duration, Instant};

use sf2kafka::config::{Delivery, Secret};
use sf2kafka::domain::ControlRecord;
use sf2kafka::error::Kind;
use sf2kafka::publish::{Claimed, Publisher, TopicAdmin, claim, read_control, topics};

use crate::member::{Member, on_thread, pipeline, record};
use crate::services::{ends, read_committed, settings, unique};

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_reads_exactly_what_was_committed() {
    let (settings, topic) = pipeline("claim", 1).await;
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let Claimed { mut producer, records } = claim(&settings, &member.group(), 0).await.unwrap();
    assert!(records.is_empty());
    let producer = on_thread({
        let topic = topic.clone();
        move || {
            for number in 0..3 {
                producer.begin().unwrap();
                producer.send(&topic, b"a", Some(format!("value {number}").as_bytes())).unwrap();
                let control = [record("position/Account", &number.to_string()), record("gone", "x")];
                producer.commit(&control).unwrap();
            }
            producer.begin().unwrap();
            producer.commit(&[ControlRecord { key: "gone".to_owned(), value: None }]).unwrap();
            // Left open: a crash in the middle of a transaction.
            producer.begin().unwrap();
            producer.send(&topic, b"a", Some(b"never")).unwrap();
            producer
        }
    })
    .await;
    let Claimed { records, .. } = claim(&settings, &member.group(), 0).await.unwrap();
    assert_eq!(records.get("position/Account").map(Vec::as_slice), Some(b"2".as_slice()));
    assert_eq!(records.keys().collect::<Vec<_>>(), ["layout", "position/Account"]);
    let values: Vec<_> = read_committed(&topic).into_iter().filter_map(|seen| seen.value).collect();
    assert_eq!(values, [b"value 0", b"value 1", b"value 2"]);
    let listed = read_control(&settings).await.unwrap();
    assert!(listed.iter().any(|record| record.key == "position/Account" && record.value == b"2"));
    on_thread(move || drop(producer)).await;
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_fenced_and_its_records_never_show() {
    let (settings, topic) = pipeline("zombie", 1).await;
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let mut zombie = claim(&settings, &member.group(), 0).await.unwrap().producer;
    let mut zombie = on_thread({
        let topic = topic.clone();
        move || {
            zombie.begin().unwrap();
            zombie.send(&topic, b"z", Some(b"zombie")).unwrap();
            zombie
        }
    })
    .await;
    let mut successor = claim(&settings, &member.group(), 0).await.unwrap().producer;
    let error = on_thread(move || zombie.commit(&[record("position/Account", "zombie")]).unwrap_err()).await;
    assert!(
        matches!(error.kind(), Kind::ShardFenced | Kind::CommitFailed),
        "a fenced producer was told {error:?}"
    );
    on_thread({
        let topic = topic.clone();
        move || {
            successor.begin().unwrap();
            successor.send(&topic, b"s", Some(b"successor")).unwrap();
            successor.commit(&[record("position/Account", "successor")]).unwrap();
        }
    })
    .await;
    let values: Vec<_> = read_committed(&topic).into_iter().filter_map(|seen| seen.value).collect();
    assert_eq!(values, [b"successor"]);
    let control = read_control(&settings).await.unwrap();
    let position = control.iter().find(|record| record.key == "position/Account").unwrap();
    assert_eq!(position.value, b"successor");
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_the_shards_and_one_takes_over_when_the_other_leaves() {
    let (settings, _) = pipeline("share", 4).await;
    let mut first = Member::join(&settings).await;
    first.own(4).await;
    let mut second = Member::join(&settings).await;
    tokio::join!(first.own(2), second.own(2));
    assert!(first.owned.iter().all(|shard| !second.owned.contains(shard)));
    second.membership.leave().await;
    first.own(4).await;
    first.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_shard_cannot_commit() {
    let (settings, topic) = pipeline("stale", 1).await;
    let mut old = Member::join(&settings).await;
    old.own(1).await;
    let stale_group = old.group();
    let mut producer = claim(&settings, &stale_group, 0).await.unwrap().producer;
    // It leaves the group and keeps its producer: as a process that was paused over a rebalance.
    old.membership.leave().await;
    let mut new = Member::join(&settings).await;
    new.own(1).await;
    let error = on_thread({
        let topic = topic.clone();
        move || {
            producer.begin().unwrap();
            producer.send(&topic, b"k", Some(b"stale")).unwrap();
            producer.commit(&[record("position/Account", "stale")]).unwrap_err()
        }
    })
    .await;
    assert!(
        matches!(error.kind(), Kind::ShardLost | Kind::ShardFenced | Kind::CommitFailed),
        "a stale member was told {error:?}"
    );
    let mut owners = claim(&settings, &new.group(), 0).await.unwrap().producer;
    let refused = claim(&settings, &stale_group, 0).await.err().expect("a stale member claims nothing");
    assert_eq!(refused.kind(), Kind::ShardLost, "{refused:?}");
    assert!(read_committed(&topic).is_empty());
    // And it has fenced nobody by trying.
    on_thread(move || {
        owners.begin().unwrap();
        owners.commit(&[record("position/Account", "owner")]).unwrap();
    })
    .await;
    new.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_went_to_another_member_cannot_be_committed() {
    let (settings, topic) = pipeline("moved", 2).await;
    let mut first = Member::join(&settings).await;
    first.own(2).await;
    let mut producers = Vec::new();
    for shard in [0, 1] {
        producers.push((shard, claim(&settings, &first.group(), shard).await.unwrap().producer));
    }
    let mut second = Member::join(&settings).await;
    tokio::join!(first.own(1), second.own(1));
    // The broker knows `first` as a member of the new generation: only here is it known that one shard has moved.
    let (kept, moved) = (first.owned[0], second.owned[0]);
    for (shard, mut producer) in producers {
        let topic = topic.clone();
        let outcome = on_thread(move || {
            producer.begin().unwrap();
            producer.send(&topic, b"k", Some(shard.to_string().as_bytes())).unwrap();
            producer.commit(&[record("position/Account", "first")])
        })
        .await;
        if shard == kept {
            outcome.unwrap();
        } else {
            assert_eq!(outcome.unwrap_err().kind(), Kind::ShardLost);
        }
    }
    let refused = claim(&settings, &first.group(), moved).await.err().expect("a moved shard is not claimed");
    assert_eq!(refused.kind(), Kind::ShardLost, "{refused:?}");
    let values: Vec<_> = read_committed(&topic).into_iter().filter_map(|seen| seen.value).collect();
    assert_eq!(values, [kept.to_string().into_bytes()]);
    second.membership.leave().await;
    first.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_is_aborted_at_once() {
    let (settings, topic) = pipeline("dropped", 1).await;
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let mut producer = claim(&settings, &member.group(), 0).await.unwrap().producer;
    let took = on_thread({
        let topic = topic.clone();
        move || {
            producer.begin().unwrap();
            // Fewer than make the producer look at delivery reports, and time enough for the broker to take some.
            for number in 0..200u32 {
                producer.send(&topic, &number.to_be_bytes(), Some(b"given up")).unwrap();
            }
            let deadline = Instant::now() + Duration::from_secs(30);
            while ends(&topic, 2, "read_uncommitted").iter().sum::<i64>() == 0 {
                assert!(Instant::now() < deadline, "nothing of the transaction reaches the broker");
            }
            let started = Instant::now();
            drop(producer);
            started.elapsed()
        }
    })
    .await;
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    // The markers are written behind the answer to the abort.
    let deadline = Instant::now() + Duration::from_secs(30);
    while ends(&topic, 2, "read_committed") != ends(&topic, 2, "read_uncommitted") {
        assert!(Instant::now() < deadline, "the transaction is still open");
    }
    assert!(read_committed(&topic).is_empty());
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_failed_does_nothing_more() {
    let (settings, topic) = pipeline("over", 1).await;
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let mut old = claim(&settings, &member.group(), 0).await.unwrap().producer;
    let _successor = claim(&settings, &member.group(), 0).await.unwrap().producer;
    on_thread({
        let topic = topic.clone();
        move || {
            old.begin().unwrap();
            old.send(&topic, b"k", Some(b"old")).unwrap();
            old.commit(&[]).unwrap_err();
            for error in [old.begin().unwrap_err(), old.commit(&[]).unwrap_err()] {
                assert_eq!(error.kind(), Kind::Internal);
            }
        }
    })
    .await;
    assert!(read_committed(&topic).is_empty());
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_positions_come_behind_their_data_and_from_members_only() {
    let (mut settings, topic) = pipeline("at-least-once", 1).await;
    settings.kafka.delivery = Delivery::AtLeastOnce;
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let group = member.group();
    let mut producer = claim(&settings, &group, 0).await.unwrap().producer;
    let mut producer = on_thread({
        let topic = topic.clone();
        move || {
            producer.begin().unwrap();
            producer.send(&topic, b"k", Some(b"one")).unwrap();
            producer.commit(&[record("position/Account", "1")]).unwrap();
            producer
        }
    })
    .await;
    let records = claim(&settings, &group, 0).await.unwrap().records;
    assert_eq!(records.keys().collect::<Vec<_>>(), ["layout", "position/Account"]);
    member.membership.leave().await;
    on_thread({
        let topic = topic.clone();
        move || {
            producer.begin().unwrap();
            producer.send(&topic, b"k", Some(b"two")).unwrap();
            let error = producer.commit(&[record("position/Account", "2")]).unwrap_err();
            assert_eq!(error.kind(), Kind::ShardLost, "{error:?}");
        }
    })
    .await;
    let values: Vec<_> = read_committed(&topic).into_iter().filter_map(|seen| seen.value).collect();
    assert_eq!(values, [b"one".to_vec(), b"two".to_vec()], "data may be there twice, never too little");
    let control = read_control(&settings).await.unwrap();
    assert!(control.iter().any(|record| record.key == "position/Account" && record.value == b"1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_less_than_a_batch_is_refused_at_the_start() {
    let mut settings = settings(&unique("small"), 1);
    let topic = format!("{}.Account", settings.name);
    settings.kafka.topics.config.insert("max.message.bytes".to_owned(), "600000".to_owned());
    let data = [topic.clone()];
    // The first run makes the topic; whichever sees its settings refuses.
    let made = topics::ensure(&settings, TopicAdmin::Kafka, &data).await;
    let error = match made {
        Ok(()) => topics::ensure(&settings, TopicAdmin::Kafka, &data).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), Kind::KafkaMisconfigured);
    assert!(error.advice().contains("`message.max.bytes: 600000` under `kafka.properties`"), "{error:?}");

    settings.kafka.properties.insert("message.max.bytes".to_owned(), Secret::new("600000"));
    topics::ensure(&settings, TopicAdmin::Kafka, &data).await.unwrap();
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let mut producer = claim(&settings, &member.group(), 0).await.unwrap().producer;
    // Bytes that no codec makes fewer of: what fits here must fit there.
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
    .take(600_000)
    .collect();
    on_thread(move || {
        producer.begin().unwrap();
        let error = producer.send(&topic, b"k", Some(&noise[..599_490])).unwrap_err();
        assert_eq!(error.kind(), Kind::RecordTooLarge);
        producer.send(&topic, b"k", Some(&noise[..599_487])).unwrap();
        for _ in 0..10 {
            producer.send(&topic, b"k", Some(&noise[..100_000])).unwrap();
        }
        producer.commit(&[]).unwrap();
        assert_eq!(read_committed(&topic).len(), 11);
    })
    .await;
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_leaves_its_transaction_whole() {
    let (settings, topic) = pipeline("large", 1).await;
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let mut producer = claim(&settings, &member.group(), 0).await.unwrap().producer;
    on_thread({
        let topic = topic.clone();
        move || {
            producer.begin().unwrap();
            producer.send(&topic, b"a", Some(b"before")).unwrap();
            let error = producer.send(&topic, b"a", Some(&vec![b'x'; 2_000_000])).unwrap_err();
            assert_eq!(error.kind(), Kind::RecordTooLarge);
            producer.send(&topic, b"a", Some(b"after")).unwrap();
            producer.commit(&[]).unwrap();
        }
    })
    .await;
    let values: Vec<_> = read_committed(&topic).into_iter().filter_map(|seen| seen.value).collect();
    assert_eq!(values, [b"before".to_vec(), b"after".to_vec()]);
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undelivered_record_fails_the_commit() {
    let (settings, topic) = pipeline("undelivered", 1).await;
    let mut member = Member::join(&settings).await;
    member.own(1).await;
    let mut producer = claim(&settings, &member.group(), 0).await.unwrap().producer;
    let missing = format!("{topic}.missing");
    let error = on_thread({
        let topic = topic.clone();
        move || {
            producer.begin().unwrap();
            producer.send(&topic, b"a", Some(b"with the lost one")).unwrap();
            // The library may refuse it at once, or find out when it asks for the topic's leader.
            match producer.send(&missing, b"a", Some(b"lost")) {
                Ok(()) => producer.commit(&[record("position/Account", "wrong")]).unwrap_err(),
                Err(error) => error,
            }
        }
    })
    .await;
    assert!(
        matches!(error.kind(), Kind::TopicMissing | Kind::KafkaUnavailable | Kind::CommitFailed),
        "{error:?}"
    );
    assert!(read_committed(&topic).is_empty());
    assert!(read_control(&settings).await.unwrap().is_empty());
    member.membership.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_named_with_the_command_that_makes_it() {
    let mut settings = settings(&unique("missing"), 1);
    settings.kafka.topics.create = false;
    let topic = format!("{}.Account", settings.name);
    let error = topics::ensure(&settings, TopicAdmin::Kafka, std::slice::from_ref(&topic)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TopicMissing);
    let (letters, notices) = (settings.dead_letter_topic(), settings.notification_topic());
    assert_eq!(error.context(), format!("topics {topic}, {letters}, {notices} do not exist"));
    assert!(
        error.advice().contains(&format!("--create --topic {topic} --partitions 2")),
        "{}",
        error.advice()
    );
}
