//! A field gets another type: values that the known one cannot hold are not taken before the object is described again.

use serde_json::json;

use super::{Practice, parsed, settings};
use crate::domain::FieldKind;
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
