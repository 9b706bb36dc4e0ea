//! Streams and calls against a server that answers by script.

use std::time::Duration;

use tonic::Code;

use super::server::{Act, Server, refusal, unauthenticated};
use super::*;
use crate::config::PubsubSettings;
use crate::error::{Error, Kind, Reaction};
use crate::salesforce::pubsub::eventbus::{ConsumerEvent, FetchResponse, ProducerEvent, TopicInfo};
use crate::salesforce::pubsub::{PubSub, Start, Subscription};
use crate::salesforce::scripted::{Org, quick, refuse, reply};
use crate::salesforce::{Client, Purpose};

const TOPIC: &str = "/data/AccountChangeEvent";

async fn pubsub(org: &Org, server: &Server) -> PubSub {
    let mut settings = org.settings();
    settings.pubsub = PubsubSettings { endpoint: server.address.to_string(), tls: false };
    PubSub::new(&Client::connect_with(&settings, quick()).await.unwrap()).unwrap()
}

async fn started() -> (Org, Server, PubSub) {
    let (org, server) = (Org::start().await, Server::start().await);
    let pubsub = pubsub(&org, &server).await;
    (org, server, pubsub)
}

fn place(number: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, 0, 0, 0, number, 0, 0]
}

fn replay_id(number: u8) -> ReplayId {
    ReplayId::new(place(number)).unwrap()
}

/// A message with events at these places, or a sign of life at the last of them.
fn message(places: &[u8], latest: u8, pending: i32) -> FetchResponse {
    let event = |number: &u8| ConsumerEvent {
        event: Some(ProducerEvent {
            id: format!("event-{number}"),
            schema_id: "S".to_owned(),
            payload: vec![*number],
            headers: Vec::new(),
        }),
        replay_id: place(*number),
    };
    FetchResponse {
        events: places.iter().map(event).collect(),
        latest_replay_id: place(latest),
        rpc_id: "c604fa9c-1ee8-4d4d-8988-1244a54ee952".to_owned(),
        pending_num_requested: pending,
    }
}

/// Places of the events of the next message.
async fn next(subscription: &mut Subscription) -> Vec<u8> {
    let received = subscription.next().await.unwrap().unwrap();
    received.events.iter().map(|event| event.replay_id.as_bytes()[7]).collect()
}

fn assert_reads(error: &Error, kind: Kind, sentence: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(error.to_string(), sentence);
    for secret in ["s3cret", "T1", "rpcId"] {
        assert!(!error.report().contains(secret), "{}", error.report());
    }
}

#[tokio::test]
async fn every_call_says_who_and_where() {
    let (org, server, pubsub) = started().await;
    server.on_stream([Act::Silence]);
    let topic = pubsub.topic_info(TOPIC).await.unwrap();
    assert_eq!((topic.name.as_str(), topic.schema_id.as_deref()), (TOPIC, Some("S")));
    let _subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    let calls = [server.calls("GetTopic"), server.calls("Subscribe")].concat();
    assert_eq!(calls.len(), 3);
    let header = |call: &http::HeaderMap, name: &str| call[name].to_str().unwrap().to_owned();
    for call in &calls {
        assert_eq!(header(call, "accesstoken"), "T1");
        assert_eq!(header(call, "instanceurl"), org.origin);
        assert_eq!(header(call, "tenantid"), "00D5g00000AbCdEEAV");
        assert!(header(call, "user-agent").starts_with("sf2kafka/"));
        assert!(header(call, "grpc-accept-encoding").contains("gzip"));
        assert_eq!(call.get("authorization"), None);
    }
    let traces: std::collections::HashSet<_> =
        calls.iter().map(|call| header(call, "x-client-trace-id")).collect();
    assert_eq!(traces.len(), 3);
    assert_eq!(pubsub.client().calls()[&Purpose::Subscribe], 3);
}

#[tokio::test]
async fn events_come_in_order_with_positions_and_only_as_many_as_were_asked_for() {
    let (_org, server, pubsub) = started().await;
    server.on_stream([
        Act::Send(message(&[1, 2, 3], 3, 97)),
        Act::AwaitRequests(2),
        Act::Send(message(&[], 9, 100)),
        Act::Send(message(&[10], 10, 99)),
        Act::Silence,
    ]);
    let mut subscription = pubsub.subscribe(TOPIC, Start::After(replay_id(0))).await.unwrap();
    assert_eq!(subscription.ask(5), 0, "a hundred are outstanding");
    let first = subscription.next().await.unwrap().unwrap();
    let ids: Vec<_> =
        first.events.iter().map(|event| (event.event_id.as_str(), event.replay_id.clone())).collect();
    assert_eq!(ids, [("event-1", replay_id(1)), ("event-2", replay_id(2)), ("event-3", replay_id(3))]);
    assert_eq!((first.latest, first.pending), (Some(replay_id(3)), 97));
    assert!(first.received_at.0 > 1_700_000_000_000);
    assert_eq!(subscription.ask(50), 3);
    let alive = subscription.next().await.unwrap().unwrap();
    assert_eq!(
        (alive.events.len(), alive.latest),
        (0, Some(replay_id(9))),
        "a sign of life is a position too"
    );
    assert_eq!(next(&mut subscription).await, [10]);

    let requests = server.requests().remove(0);
    let [first, second] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!((first.topic_name.as_str(), first.num_requested), (TOPIC, 100));
    assert_eq!((first.replay_preset, first.replay_id.clone()), (2, place(0)));
    assert_eq!(first.auth_refresh, "");
    assert_eq!((second.topic_name.as_str(), second.num_requested, second.replay_id.len()), ("", 3, 0));
}

#[tokio::test]
async fn each_start_is_asked_for_by_its_preset() {
    let (_org, server, pubsub) = started().await;
    for (start, preset) in [(Start::Latest, 0), (Start::Earliest, 1)] {
        server.on_stream([Act::AwaitRequests(1), Act::Send(message(&[], 1, 100)), Act::Silence]);
        let mut subscription = pubsub.subscribe(TOPIC, start).await.unwrap();
        assert!(next(&mut subscription).await.is_empty());
        let request = server.requests().pop().unwrap().remove(0);
        assert_eq!((request.replay_preset, request.replay_id.len()), (preset, 0));
    }
}

#[tokio::test]
async fn a_stream_that_ends_in_order_is_no_error() {
    let (_org, server, pubsub) = started().await;
    server.on_stream([Act::Send(message(&[1], 1, 0)), Act::End]);
    server.on_stream([Act::Send(message(&[2], 2, 99)), Act::Silence]);
    let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    assert_eq!(next(&mut subscription).await, [1]);
    assert_eq!(subscription.next().await.unwrap(), None);
    assert_eq!(subscription.next().await.unwrap(), None);
    assert_eq!(subscription.ask(10), 0);
    let mut again = pubsub.subscribe(TOPIC, Start::After(replay_id(1))).await.unwrap();
    assert_eq!(next(&mut again).await, [2]);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_to_be_opened_again() {
    let (_org, server, pubsub) = started().await;
    server.on_stream([
        Act::Send(message(&[1], 1, 99)),
        Act::Fail(refusal(
            Code::Internal,
            "The service is unavailable. Try again later.",
            Some("service.unavailable"),
        )),
    ]);
    let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    assert_eq!(next(&mut subscription).await, [1]);
    let error = subscription.next().await.unwrap_err();
    assert_reads(
        &error,
        Kind::PubsubUnavailable,
        "subscription to /data/AccountChangeEvent: Salesforce answered service.unavailable: The service is unavailable. Try again later",
    );
    assert_eq!(error.reaction(), Reaction::RetryLater);
    assert_eq!(subscription.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_refused_replay_id_asks_for_a_refetch_with_and_without_trailers() {
    let (_org, server, pubsub) = started().await;
    let text = "The Replay ID validation failed. Ensure that the Replay ID is valid.";
    for trailer in [Some("subscription.fetch.replayid.corrupted"), None] {
        for early in [true, false] {
            let status = refusal(Code::InvalidArgument, text, trailer);
            server.on_stream([if early { Act::Refuse(status) } else { Act::Fail(status) }]);
            let error = match pubsub.subscribe(TOPIC, Start::After(replay_id(1))).await {
                Ok(mut subscription) => subscription.next().await.unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(
                (error.kind(), error.reaction()),
                (Kind::ReplayIdExpired, Reaction::Refetch),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn silence_ends_a_stream() {
    let (_org, server, pubsub) = started().await;
    server.on_stream([Act::Send(message(&[1], 1, 99)), Act::Silence]);
    let pubsub = pubsub.with_longest_silence(Duration::from_millis(200));
    let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    assert_eq!(next(&mut subscription).await, [1]);
    let error = subscription.next().await.unwrap_err();
    assert_eq!(error.kind(), Kind::PubsubUnavailable);
    assert!(error.to_string().contains("not even a sign of life"), "{error}");
    assert_eq!(subscription.next().await.unwrap(), None);
}

#[tokio::test]
async fn waiting_for_events_can_be_given_up_at_any_time_without_losing_one() {
    let (_org, server, pubsub) = started().await;
    let many = (1..=100).map(|number| Act::Send(message(&[number], number, i32::from(100 - number))));
    server.on_stream(many.chain([Act::Silence]));
    let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 100 {
        tokio::select! {
            biased;
            received = subscription.next() => seen.extend(received.unwrap().unwrap().events.iter().map(|event| event.payload[0])),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(seen, (1..=100).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_server_that_keeps_its_headers_back_does_not_hold_the_subscriber() {
    let (_org, server, pubsub) = started().await;
    server.on_stream([
        Act::HoldHeaders,
        Act::AwaitRequests(1),
        Act::Send(message(&[1], 1, 99)),
        Act::Silence,
    ]);
    let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    assert_eq!(server.calls("Subscribe").len(), 1, "the call was sent");
    server.release();
    assert_eq!(next(&mut subscription).await, [1]);
}

#[tokio::test]
async fn an_expired_session_is_renewed_once_and_the_call_repeated() {
    let (org, server, pubsub) = started().await;
    org.expire();
    server.expect_token("T2");
    server.on_stream([Act::Send(message(&[1], 1, 99)), Act::Silence]);
    let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    assert_eq!(next(&mut subscription).await, [1]);
    assert_eq!((server.calls("GetTopic").len(), org.requests("oauth2/token").len()), (2, 2));

    // It may be refused by the stream alone, with its first word or before.
    for act in [Act::Refuse(unauthenticated()), Act::Fail(unauthenticated())] {
        server.on_stream([act]);
        server.on_stream([Act::Send(message(&[2], 2, 99)), Act::Silence]);
        let logins = org.requests("oauth2/token").len();
        let mut subscription = pubsub.subscribe(TOPIC, Start::After(replay_id(1))).await.unwrap();
        assert_eq!(next(&mut subscription).await, [2]);
        assert_eq!(org.requests("oauth2/token").len(), logins + 1);
        assert_eq!(server.requests().pop().unwrap()[0].replay_id, place(1), "from the same place");
    }
}

#[tokio::test]
async fn a_session_that_is_refused_right_after_login_is_told_and_not_looped() {
    let (org, server, pubsub) = started().await;
    server.expect_token("another");
    let error = pubsub.topic_info(TOPIC).await.unwrap_err();
    assert_reads(
        &error,
        Kind::SessionExpired,
        "asking for topic /data/AccountChangeEvent: Salesforce answered service.auth.error: An authentication exception occurred. Provide valid authentication via metadata headers",
    );
    assert_eq!((server.calls("GetTopic").len(), org.requests("oauth2/token").len()), (2, 2));

    server.expect_token("T1");
    server.on_stream([Act::Fail(unauthenticated())]);
    server.on_stream([Act::Fail(unauthenticated())]);
    let error = match pubsub.subscribe(TOPIC, Start::Latest).await {
        Ok(mut subscription) => subscription.next().await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!((error.kind(), server.requests().len()), (Kind::SessionExpired, 2));
}

#[tokio::test]
async fn a_session_that_ends_while_events_flow_is_the_callers_to_go_on_from() {
    let (org, server, pubsub) = started().await;
    server.on_stream([Act::Send(message(&[1], 1, 99)), Act::Fail(unauthenticated())]);
    let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    assert_eq!(next(&mut subscription).await, [1]);
    let error = subscription.next().await.unwrap_err();
    assert_eq!((error.kind(), error.reaction()), (Kind::SessionExpired, Reaction::LogInAgain));
    assert_eq!(org.requests("oauth2/token").len(), 1);
}

#[tokio::test]
async fn a_topic_that_cannot_be_had_says_why_before_a_stream_is_opened() {
    let (_org, server, pubsub) = started().await;
    let text = "The topic information for org CORE/prod/00D5g00000AbCdEEAV and topic /data/AccountChangeEvent not found. Ensure the topic name is correct and that the topic exists.";
    server.on_topic(Err(refusal(Code::NotFound, text, Some("topic.not.found"))));
    let error = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap_err();
    assert_eq!((error.kind(), error.reaction()), (Kind::SubscriptionRefused, Reaction::StopObject));
    assert!(error.advice().contains("switch Change Data Capture on"), "{}", error.report());

    server.on_topic(Ok(TopicInfo { topic_name: TOPIC.to_owned(), ..TopicInfo::default() }));
    let error = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap_err();
    assert_reads(
        &error,
        Kind::SubscriptionRefused,
        "topic /data/AccountChangeEvent: Salesforce says that the user may not subscribe to it",
    );

    let asked = server.calls("GetTopic").len();
    assert_eq!(pubsub.topic_info("Account").await.unwrap_err().kind(), Kind::SubscriptionRefused);
    assert_eq!((server.calls("GetTopic").len(), server.calls("Subscribe").len()), (asked, 0));
}

#[tokio::test]
async fn a_call_that_fails_for_now_is_tried_again() {
    let (_org, server, pubsub) = started().await;
    server.on_topic(Err(refusal(Code::Internal, "x", Some("topic.api.unavailable"))));
    server.on_topic(Err(refusal(Code::ResourceExhausted, "x", Some("service.protection.triggered"))));
    server.on_topic(Err(tonic::Status::unavailable(
        "upstream connect error or disconnect/reset before headers",
    )));
    assert!(pubsub.topic_info(TOPIC).await.unwrap().can_subscribe);
    assert_eq!(server.calls("GetTopic").len(), 4);
}

#[tokio::test]
async fn a_burst_of_a_new_schema_asks_for_it_once() {
    let (_org, server, pubsub) = started().await;
    let text = schema_of(&[]);
    server.on_schema("S", Ok(&text));
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let pubsub = pubsub.clone();
            tokio::spawn(async move { pubsub.schema("S").await.unwrap() })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap().id(), "S");
    }
    let event = raw("S", payload(&text, &Says::create(), &[]));
    assert_eq!(pubsub.decode(event).await.unwrap().entity_name, "Account");
    assert_eq!(server.calls("GetSchema").len(), 1);
}

#[tokio::test]
async fn a_schema_that_could_not_be_had_is_asked_for_again() {
    let (_org, server, pubsub) = started().await;
    let refused =
        refusal(Code::InvalidArgument, "Schema validation failed.", Some("schema.validation.failed"));
    server.on_schema("S", Err(refused));
    server.on_schema("S", Ok("{"));
    server.on_schema("S", Ok(&schema_of(&[])));
    for _ in 0..2 {
        assert_eq!(pubsub.schema("S").await.unwrap_err().kind(), Kind::EventUnreadable);
    }
    assert_eq!(pubsub.schema("S").await.unwrap().name(), "AccountChangeEvent");
}

#[tokio::test]
async fn an_event_without_a_place_ends_the_stream() {
    let (_org, server, pubsub) = started().await;
    let mut nowhere = message(&[1], 1, 99);
    nowhere.events[0].replay_id.clear();
    server.on_stream([Act::Send(nowhere), Act::Silence]);
    let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    assert_eq!(subscription.next().await.unwrap_err().kind(), Kind::EventUnreadable);
}

#[tokio::test]
async fn a_connection_that_broke_is_made_again() {
    let (org, server, pubsub) = started().await;
    server.on_stream([Act::Send(message(&[1], 1, 99)), Act::Silence]);
    let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
    assert_eq!(next(&mut subscription).await, [1]);
    let address = server.address.to_string();
    drop(subscription);
    server.stop();
    let refused = async {
        // The listener is gone as soon as its task has ended.
        loop {
            match tokio::net::TcpStream::connect(&address).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(_) => return,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused).await.unwrap();
    let elsewhere = self::pubsub(&org, &server).await;
    let error = elsewhere.topic_info(TOPIC).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NetworkFailed);
    let text = error.to_string();
    assert!(
        text.contains(&format!("no connection to {address}: ")) && text.contains("given up after"),
        "{text}"
    );

    let server = Server::start_at(&address).await;
    assert!(elsewhere.topic_info(TOPIC).await.unwrap().can_subscribe);
    assert_eq!(server.calls("GetTopic").len(), 1);
}

#[tokio::test]
async fn many_topics_share_one_connection_and_none_stops() {
    let (_org, server, pubsub) = started().await;
    let rounds = 200;
    let mut topics = Vec::new();
    for _ in 0..8 {
        // Each message waits for what was asked for after the one before.
        let round = |count| [Act::AwaitRequests(count), Act::Send(message(&[1, 2, 3, 4, 5, 6, 7], 7, 93))];
        server.on_stream((1..=rounds).flat_map(round).chain([Act::End]));
        let pubsub = pubsub.clone();
        topics.push(tokio::spawn(async move {
            let mut subscription = pubsub.subscribe(TOPIC, Start::Latest).await.unwrap();
            let mut count = 0;
            while let Some(received) = subscription.next().await.unwrap() {
                count += received.events.len();
                assert_eq!(subscription.ask(7), 7);
            }
            count
        }));
    }
    for topic in topics {
        let count = tokio::time::timeout(Duration::from_secs(30), topic).await.unwrap().unwrap();
        assert_eq!(count, rounds * 7);
    }
}

#[tokio::test]
async fn events_that_nobody_reads_do_not_keep_other_answers_out() {
    let (_org, server, pubsub) = started().await;
    server.on_schema("S", Ok(&schema_of(&[])));
    let mut large = message(&[1], 1, 99);
    large.events[0].event.as_mut().unwrap().payload = vec![7; 200_000];
    let all = async {
        let mut unread = Vec::new();
        for _ in 0..4 {
            server.on_stream([Act::Send(large.clone()), Act::Send(large.clone()), Act::Silence]);
            unread.push(pubsub.subscribe(TOPIC, Start::Latest).await.unwrap());
        }
        assert_eq!(pubsub.schema("S").await.unwrap().id(), "S");
        for mut subscription in unread {
            assert_eq!((next(&mut subscription).await, next(&mut subscription).await), (vec![1], vec![1]));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
}

#[tokio::test]
async fn a_call_whose_answer_does_not_come_is_given_up() {
    let (_org, server, pubsub) = started().await;
    server.on_schema_never("S");
    let pubsub = pubsub.with_longest_call(Duration::from_millis(50));
    let error = pubsub.schema("S").await.unwrap_err();
    assert_eq!((error.kind(), error.reaction()), (Kind::PubsubUnavailable, Reaction::RetryLater));
    assert!(error.to_string().contains("given up after"), "{error}");
    assert!(server.calls("GetSchema").len() > 1);
}

#[tokio::test]
async fn a_token_is_not_sent_to_who_cannot_prove_who_it_is() {
    let (org, server) = (Org::start().await, Server::start().await);
    let mut settings = org.settings();
    settings.pubsub = PubsubSettings { endpoint: server.address.to_string(), tls: true };
    let pubsub = PubSub::new(&Client::connect_with(&settings, quick()).await.unwrap()).unwrap();
    let error = pubsub.topic_info(TOPIC).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NetworkFailed, "{error}");
    assert!(server.calls("").is_empty());
}

#[tokio::test]
async fn objects_that_are_switched_on_are_found_by_the_list_of_members() {
    let (org, server, pubsub) = started().await;
    let member = |channel: &str, event: &str| json!({"EventChannel": channel, "SelectedEntity": event});
    let next = "/services/data/v65.0/tooling/query/0v8-2000";
    let first = json!({"size": 1, "totalSize": 3, "done": false, "nextRecordsUrl": next, "records": [
        member("ChangeEvents", "AccountChangeEvent"), member("DataCloudEntities", "LeadChangeEvent")]});
    let second = json!({"size": 1, "totalSize": 3, "done": true, "records": [
        member("0YL2F0000004CdtWAE", "Vendor_Profile__ChangeEvent")]});
    org.on("PlatformEventChannelMember", [reply(200, first.to_string())]);
    org.on("0v8-2000", [reply(200, second.to_string())]);
    let objects = ["Account", "Contact", "Lead", "Vendor_Profile__c"];
    let captured = pubsub.captured_objects(&objects).await.unwrap();
    assert_eq!(captured.into_iter().collect::<Vec<_>>(), ["Account", "Vendor_Profile__c"]);
    assert_eq!(server.calls("GetTopic").len(), 0);
}

#[tokio::test]
async fn without_the_right_to_see_the_members_each_topic_is_asked_for() {
    let (org, server, pubsub) = started().await;
    org.on(
        "PlatformEventChannelMember",
        [refuse(400, "INVALID_TYPE", "sObject type 'PlatformEventChannelMember' is not supported.")],
    );
    server.on_topic(Err(refusal(Code::NotFound, "not found.", Some("topic.not.found"))));
    server.on_topic(Ok(TopicInfo { can_subscribe: true, ..TopicInfo::default() }));
    server.on_topic(Ok(TopicInfo { can_subscribe: false, ..TopicInfo::default() }));
    let captured = pubsub.captured_objects(&["Contact", "Account", "Lead"]).await.unwrap();
    assert_eq!(captured.into_iter().collect::<Vec<_>>(), ["Account"]);

    server.on_topic(Err(refusal(Code::PermissionDenied, "x", Some("service.tenant.license"))));
    assert!(pubsub.captured_objects(&["Contact"]).await.unwrap().is_empty());
}
