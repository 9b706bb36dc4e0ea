//! Platform events from the simulator: what arrives and in which order, where a restart goes on, what is never lost.

use super::*;
use crate::capture::{EventCapture, EventStep};
use crate::domain::{NoticeKind, PlatformEvent};
use crate::salesforce::pubsub::PubSub;
use ::simulator::catalog::{FieldDef, FieldType};

const EVENT: &str = "Order_Event__e";

/// An event in capture, and all that came of it.
struct Events {
    org: Practice,
    pubsub: PubSub,
    capture: EventCapture,
    position: Option<Position>,
    published: Vec<PlatformEvent>,
    schemas: Vec<String>,
    notices: Vec<Notice>,
    repeated: u64,
    ends: bool,
    at_end: bool,
}

impl Events {
    async fn start() -> Self {
        let org = Practice::start("Account", 1, settings()).await;
        org.control("pubsub/settings", json!({"keepaliveSeconds": 0.3})).await;
        let pubsub = PubSub::new(&org.stage.client).unwrap();
        let capture = EventCapture::new(&pubsub, &EVENT.into(), None, false);
        let (published, schemas, notices) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            org,
            pubsub,
            capture,
            position: None,
            published,
            schemas,
            notices,
            repeated: 0,
            ends: false,
            at_end: false,
        }
    }

    /// The run ends here; the next one goes on from what was committed.
    fn restart(&mut self) {
        self.capture = EventCapture::new(&self.pubsub, &EVENT.into(), self.position.clone(), self.ends);
        self.schemas.clear();
    }

    async fn publish(&self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            let fields = json!({"Order_Number__c": number.to_string()});
            let order = json!({"topic": format!("/event/{EVENT}"), "fields": fields, "eventId": format!("e{number}")});
            self.org.control("pubsub/events", order).await;
        }
    }

    /// The next subscription is refused so.
    async fn refuse(&self, code: &str) {
        let action = json!({"status": {"code": "INVALID_ARGUMENT", "errorCode": code}});
        self.org.control("pubsub/faults", json!({"onCall": true, "times": 1, "action": action})).await;
        self.org.control("pubsub/faults", json!({"times": 1, "action": "close"})).await;
    }

    async fn step(&mut self) {
        match self.capture.next().await {
            Ok(EventStep::Schema(schema)) => {
                self.capture.admit(&schema);
                self.schemas.push(schema.id().to_owned());
            }
            Ok(EventStep::Batch { batch, at_end }) => {
                self.published.extend(batch.events);
                self.notices.extend(batch.notices);
                self.repeated += batch.repeated;
                self.at_end = at_end;
                for record in batch.control {
                    assert_eq!(record.key, format!("position/{EVENT}"));
                    self.position = Some(Position::decode(&record.value.unwrap()).unwrap());
                }
            }
            // As the pipeline does, without its pauses.
            Err(error) => assert_eq!(error.kind(), Kind::PubsubUnavailable, "{error}"),
        }
    }

    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            if tokio::time::timeout_at(deadline, self.step()).await.is_err() {
                panic!("it does not come: {:?} {:?}", self.published, self.notices);
            }
        }
    }

    async fn sign_of_life(&mut self) {
        self.at_end = false;
        self.until(|events| events.at_end).await;
    }

    fn ids(&self) -> Vec<&str> {
        self.published.iter().map(|event| event.id.as_str()).collect()
    }
}

fn named(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(|number| format!("e{number}")).collect()
}

#[tokio::test]
async fn a_first_start_takes_what_the_bus_still_keeps_and_then_what_comes() {
    let mut events = Events::start().await;
    events.publish(1..=3).await;
    events.until(|events| events.published.len() == 3).await;
    events.publish(4..=5).await;
    events.until(|events| events.published.len() == 5).await;
    assert_eq!(events.ids(), named(1..=5));
    let now = Stamp(events.org.simulator.org().now_ms());
    for event in &events.published {
        assert_eq!(event.created_at.as_ref().unwrap(), &now);
    }
    let position = events.position.clone().unwrap();
    assert_eq!(position.replay_id.as_ref(), Some(&events.published[4].replay_id));
    assert_eq!(
        (position.state, position.capture),
        (crate::domain::State::Live, crate::domain::Capture::Subscribe)
    );
    assert_eq!(events.schemas.len(), 1);
}

#[tokio::test]
async fn a_restart_goes_on_behind_what_was_handed_over() {
    let mut events = Events::start().await;
    events.publish(1..=3).await;
    events.until(|events| events.published.len() == 3).await;
    events.publish(4..=6).await;
    events.restart();
    events.until(|events| events.published.len() == 6).await;
    events.sign_of_life().await;
    assert_eq!(events.ids(), named(1..=6));
    assert_eq!(events.notices, []);
}

#[tokio::test]
async fn a_sign_of_life_moves_the_position_without_an_event() {
    let mut events = Events::start().await;
    events.publish([1]).await;
    events.until(|events| events.published.len() == 1).await;
    let behind_the_event = events.position.clone().unwrap().replay_id;
    // Somebody else's event moves the one sequence of all topics.
    let order = json!({"object": "Account", "changeType": "GAP_UPDATE", "ids": ["0015g0000000001AAA"]});
    events.org.control("pubsub/events", order).await;
    events.org.pass(3_600);
    events.until(|events| events.position.as_ref().unwrap().replay_id != behind_the_event).await;
    let position = events.position.clone().unwrap();
    assert!(position.committed_to.is_some());
    events.restart();
    events.publish([2]).await;
    events.until(|events| events.published.len() == 2).await;
    assert_eq!(events.ids(), named(1..=2));
}

#[tokio::test]
async fn a_stream_that_ends_in_any_way_goes_on_behind_the_last_message() {
    let mut events = Events::start().await;
    events.publish([1]).await;
    events.until(|events| events.published.len() == 1).await;
    let ways =
        [json!("end"), json!({"reset": {"code": 0}}), json!("close"), json!({"goAway": {"graceMillis": 10}})];
    for (number, action) in (2..).zip(ways) {
        events.org.control("pubsub/faults", json!({"times": 1, "action": action})).await;
        events.publish([number]).await;
        events.until(|events| events.published.len() == number as usize).await;
    }
    events.sign_of_life().await;
    assert_eq!(events.ids(), named(1..=5));
    assert_eq!((events.repeated, events.notices.len()), (0, 0));
}

#[tokio::test]
async fn a_refused_position_is_told_and_nothing_that_is_kept_is_lost_or_repeated() {
    let mut events = Events::start().await;
    events.publish(1..=3).await;
    events.until(|events| events.published.len() == 3).await;
    events.refuse("subscription.fetch.replayid.corrupted").await;
    events.publish(4..=5).await;
    // A sign of life may still come before the stream ends.
    let known = std::cell::RefCell::new(None);
    events
        .until(|events| {
            let told = !events.notices.is_empty();
            if !told {
                known.replace(events.position.clone());
            }
            told
        })
        .await;
    let known = known.into_inner().unwrap();
    let (committed_to, stored) = (known.committed_to, known.replay_id);
    let kind = NoticeKind::EventsMissed { reason: "replay-id", from: committed_to };
    assert_eq!(events.notices, [Notice { object: EVENT.into(), kind }]);
    assert_eq!(events.position.clone().unwrap().replay_id, stored, "until something else is known");
    events.until(|events| events.published.len() == 5).await;
    events.sign_of_life().await;
    assert_eq!(events.ids(), named(1..=5));
    assert_eq!((events.repeated, events.notices.len()), (3, 1));
}

#[tokio::test]
async fn after_an_org_has_moved_the_old_position_is_no_way_to_lose_what_is_there() {
    let mut events = Events::start().await;
    events.publish([1]).await;
    events.until(|events| events.published.len() == 1).await;
    events.org.control("pubsub/replayIds/invalidate", json!({})).await;
    events.publish([2]).await;
    events.restart();
    events.until(|events| events.published.len() == 2).await;
    assert_eq!(events.ids(), named(1..=2));
    assert_eq!(events.notices.len(), 1);
}

#[tokio::test]
async fn what_the_bus_delivers_twice_is_dropped() {
    let mut events = Events::start().await;
    events.publish(1..=2).await;
    events.org.control("pubsub/events", json!({"duplicate": "last"})).await;
    // Another event under an id that was used: a publisher may do so.
    let fields = json!({"Order_Number__c": "another"});
    let order = json!({"topic": format!("/event/{EVENT}"), "fields": fields, "eventId": "e2"});
    events.org.control("pubsub/events", order).await;
    events.until(|events| events.published.len() == 3).await;
    events.sign_of_life().await;
    assert_eq!(events.ids(), ["e1", "e2", "e2"]);
    assert_eq!(events.repeated, 1);
}

#[tokio::test]
async fn a_schema_that_changes_in_mid_stream_is_asked_for_before_its_first_event() {
    let mut events = Events::start().await;
    events.publish(1..=2).await;
    let field = FieldDef::new("Weight__c", FieldType::Double);
    events.org.simulator.org().add_field(EVENT, field).unwrap();
    events.publish(3..=4).await;
    events.until(|events| events.published.len() == 4).await;
    let schemas: Vec<&str> = events.published.iter().map(|event| event.schema_id.as_str()).collect();
    let [first, second] = events.schemas.as_slice() else { panic!("{:?}", events.schemas) };
    assert_eq!(schemas, [first, first, second, second]);
}

#[tokio::test]
async fn what_does_not_read_is_handed_over_with_the_reason_and_the_stream_goes_on() {
    let mut events = Events::start().await;
    events.publish([1]).await;
    let topic = format!("/event/{EVENT}");
    for order in [
        json!({"topic": topic, "payload": "AQID", "eventId": "short"}),
        json!({"topic": topic, "schemaId": "nonsense", "payload": "AQID", "eventId": "foreign"}),
    ] {
        events.org.control("pubsub/events", order).await;
    }
    events.publish([2]).await;
    events.until(|events| events.published.len() == 4).await;
    assert_eq!(events.ids(), ["e1", "short", "foreign", "e2"]);
    for event in &events.published {
        let read = event.created_at.as_ref().map(drop).map_err(crate::Error::kind);
        let wrong = event.id == "short" || event.id == "foreign";
        assert_eq!(read, if wrong { Err(Kind::EventUnreadable) } else { Ok(()) }, "{event:?}");
        if wrong {
            assert_eq!(event.payload, [1, 2, 3]);
        }
    }
}

#[tokio::test]
async fn a_run_that_ends_takes_silence_for_the_end_and_keeps_what_it_knows() {
    let mut events = Events::start().await;
    events.org.control("pubsub/settings", json!({"keepaliveSeconds": 270})).await;
    events.publish(1..=2).await;
    let capture = EventCapture::new(&events.pubsub, &EVENT.into(), None, true);
    events.capture = capture.with_longest_quiet(Duration::from_millis(500));
    events.until(|events| events.published.len() == 2).await;
    assert!(!events.at_end);
    let position = events.position.clone();
    events.sign_of_life().await;
    assert_eq!(events.position, position);
}

#[tokio::test]
async fn the_position_does_not_believe_a_publisher_who_lives_in_the_future() {
    let mut events = Events::start().await;
    // CreatedDate is the largest there is, CreatedById empty, the rest null.
    let payload = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0];
    let payload = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, payload);
    let order = json!({"topic": format!("/event/{EVENT}"), "payload": payload});
    events.org.control("pubsub/events", order).await;
    events.until(|events| events.published.len() == 1).await;
    assert_eq!(events.published[0].created_at.as_ref().unwrap(), &Stamp(i64::MAX));
    let committed_to = events.position.clone().unwrap().committed_to.unwrap();
    assert!(committed_to <= Stamp(events.org.simulator.org().now_ms()), "{committed_to}");
}

#[tokio::test]
async fn an_event_that_is_not_there_is_refused_with_what_to_look_at() {
    let events = Events::start().await;
    let mut capture = EventCapture::new(&events.pubsub, &"Nothing__e".into(), None, false);
    let error = capture.next().await.unwrap_err();
    assert_eq!(error.kind(), Kind::SubscriptionRefused);
    assert!(error.advice().contains("the platform event"), "{}", error.advice());
}
