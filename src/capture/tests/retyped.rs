//! A field gets another type, or goes: values that the known type cannot hold are not taken before the object is described
//! again, and events that wait for their records do not keep it from that.

use serde_json::json;

use super::streams::live;
use super::{Practice, parsed, settings};
use crate::domain::{FieldKind, NoticeKind};
use ::simulator::org::{Change, Value};

const AMOUNT: &str = "AnnualRevenue";

impl Practice {
    /// Texts come where numbers were; no query and no stamp tells of it.
    async fn retype(&self, to: &str) {
        let order = json!({"object": "Account", "field": AMOUNT, "action": "retype", "type": to});
        self.control("fields", order).await;
    }

    fn set(&self, id: &str, text: &'static str) {
        let fields = vec![(AMOUNT.to_owned(), Value::text(text))];
        self.save(vec![Change::Update { object: "Account".to_owned(), id: parsed(id), fields }]);
    }

    /// An event has come, so that the next ones of its schema are taken without a description.
    async fn stream_is_known(&mut self, id: &str) {
        self.save(vec![self.rename(id, "the first event")]);
        self.equals_org().await;
    }

    fn kind(&self) -> FieldKind {
        let object = self.stage.capture.description();
        object.fields[object.field_index(AMOUNT).unwrap()].kind
    }
}

#[tokio::test]
async fn a_polled_value_of_another_type_has_the_object_described_first() {
    let mut practice = Practice::start("Account", 5, settings()).await;
    practice.catch_up().await;
    practice.pass(60);
    practice.retype("string").await;
    let id = practice.ids()[0].clone();
    practice.set(&id, "a lot");
    practice.catch_up().await;
    assert_eq!(practice.kind(), FieldKind::Text);
    assert_eq!(practice.stage.folded(AMOUNT)[&id], "a lot");
    assert_eq!(practice.stage.of(&id), "RU", "it came once");
}

#[tokio::test]
async fn a_loaded_value_of_another_type_has_the_object_described_first() {
    let mut practice = Practice::start("Account", 5, settings()).await;
    practice.retype("string").await;
    let id = practice.ids()[0].clone();
    practice.set(&id, "a lot");
    practice.catch_up().await;
    assert_eq!(practice.kind(), FieldKind::Text);
    assert_eq!(practice.stage.of(&id), "R");
    assert_eq!(practice.stage.folded(AMOUNT)[&id], "a lot");
}

#[tokio::test]
async fn a_value_that_never_fits_is_asked_about_once() {
    let mut practice = Practice::start("Account", 5, settings()).await;
    practice.catch_up().await;
    practice.pass(60);
    // Described as it was, once; who asks again would see the new type.
    let described = practice.simulator.org().object("Account").unwrap().describe_json("65.0").to_string();
    practice.retype("string").await;
    let action = json!({"respond": {"status": 200, "body": described}});
    practice.fault("sobjects/Account/describe", 1, action).await;
    for text in ["one", "two", "three"] {
        practice.pass(5);
        let id = practice.ids()[0].clone();
        practice.set(&id, text);
        practice.catch_up().await;
    }
    assert_eq!(practice.kind(), FieldKind::Double);
    assert_eq!(practice.stage.letters().matches('U').count(), 3, "the encoder says what becomes of it");
}

#[tokio::test]
async fn what_an_event_says_of_a_type_that_is_gone_is_read_instead() {
    let mut practice = Practice::start_with("Account", 5, |client| live(client, true)).await;
    practice.arrives(|org| org.stage.published.len() >= 5).await;
    let ids = practice.ids();
    practice.stream_is_known(&ids[0]).await;
    // The event is of the old type; its record is read after the change.
    practice.save(vec![practice.rename(&ids[0], "by event"), practice.delete(&ids[1])]);
    practice.retype("string").await;
    practice.set(&ids[0], "a lot");
    practice
        .arrives(|org| org.stage.folded(AMOUNT).get(&ids[0]).is_some_and(|amount| amount == "a lot"))
        .await;
    practice.arrives(|org| !org.stage.folded(AMOUNT).contains_key(&ids[1])).await;
    assert_eq!(practice.kind(), FieldKind::Text);
    practice.equals_org().await;
    assert!(
        practice.stage.notices.iter().any(|notice| matches!(notice.kind, NoticeKind::RecordsReread { .. }))
    );
}

#[tokio::test]
async fn events_that_wait_when_a_field_goes_are_read_without_it() {
    let mut practice = Practice::start_with("Account", 5, |client| live(client, true)).await;
    practice.arrives(|org| org.stage.published.len() >= 5).await;
    let ids = practice.ids();
    practice.stream_is_known(&ids[0]).await;
    for action in ["hide", "show", "remove"] {
        practice.save(vec![practice.rename(&ids[0], action), practice.rename(&ids[1], action)]);
        practice.control("fields", json!({"object": "Account", "field": AMOUNT, "action": action})).await;
        practice.equals_org().await;
    }
    assert!(practice.stage.capture.description().field_index(AMOUNT).is_none());
    assert!(practice.stage.errors.iter().all(|error| error.kind() == crate::error::Kind::FieldUnknown));
    assert!(!practice.stage.errors.is_empty(), "the records were asked for with the field");
}
