//! The client against a registry that says what a test lets it say, over a real socket.
//!
//! In: answers in their order. Out: what the client made of them, and what it asked. The script panics when it is asked
//! for more than it holds.

use std::collections::VecDeque;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use tokio::net::TcpListener;

use super::*;

const SCHEMA: &str = r#"{"type":"record","name":"A","fields":[]}"#;

struct Answer(u16, &'static str);

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    asked: Vec<String>,
    headers: Vec<HeaderMap>,
}

struct Scripted {
    script: Arc<Mutex<Script>>,
    url: Url,
}

const NO_SUBJECT: Answer = Answer(404, r#"{"error_code":40401,"message":"Subject not found."}"#);
const NO_SCHEMA: Answer = Answer(404, r#"{"error_code":40403,"message":"Schema not found"}"#);
const LEVEL_SET: Answer = Answer(200, r#"{"compatibility":"BACKWARD"}"#);

impl Scripted {
    async fn new<const N: usize>(answers: [Answer; N]) -> Self {
        let script = Arc::new(Mutex::new(Script { answers: answers.into(), ..Script::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base/", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { script, url }
    }

    fn client(&self) -> Registry {
        client(&RegistrySettings::new(self.url.clone()))
    }

    fn asked(&self) -> Vec<String> {
        let script = self.script.lock().unwrap();
        assert!(script.answers.is_empty(), "{} answers were not asked for", script.answers.len());
        script.asked.clone()
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> (StatusCode, &'static str) {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut script = script.lock().unwrap();
    let uri = parts.uri.path_and_query().map_or("", |uri| uri.as_str());
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if parts.method == Method::POST {
        assert_eq!(body, json!({"schema": SCHEMA, "schemaType": "AVRO"}));
    }
    script.asked.push(format!("{} {uri}", parts.method));
    script.headers.push(parts.headers);
    let Answer(status, text) = script.answers.pop_front().expect("an answer is in the script");
    (StatusCode::from_u16(status).unwrap(), text)
}

fn client(settings: &RegistrySettings) -> Registry {
    // A second call finds the provider in place.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pauses = [Duration::from_millis(1); 3];
    Registry { pauses, ..Registry::new(settings).unwrap() }
}

fn subject() -> Subject {
    Subject::value("crm.A")
}

#[tokio::test]
async fn a_schema_that_is_there_is_only_looked_up_and_only_once() {
    let scripted = Scripted::new([Answer(200, r#"{"subject":"crm.A-value","version":3,"id":42}"#)]).await;
    let client = scripted.client();
    assert_eq!(client.register(&subject(), SCHEMA).await.unwrap(), 42);
    assert_eq!(client.clone().register(&subject(), SCHEMA).await.unwrap(), 42);
    assert_eq!(scripted.asked(), ["POST /base/subjects/crm.A-value"]);
}

#[tokio::test]
async fn a_new_subject_gets_its_level_before_its_first_version() {
    let scripted = Scripted::new([NO_SUBJECT, LEVEL_SET, Answer(200, r#"{"id":7}"#)]).await;
    assert_eq!(scripted.client().register(&subject(), SCHEMA).await.unwrap(), 7);
    let wanted = [
        "POST /base/subjects/crm.A-value",
        "PUT /base/config/crm.A-value",
        "POST /base/subjects/crm.A-value/versions",
    ];
    assert_eq!(scripted.asked(), wanted);
}

#[tokio::test]
async fn a_registry_that_keeps_no_level_for_a_missing_subject_gets_it_after_the_first_version() {
    // Bodies without codes, as a proxy in front may leave them.
    let script =
        [Answer(404, ""), Answer(404, "{}"), Answer(404, "<html>"), Answer(200, r#"{"id":7}"#), LEVEL_SET];
    let scripted = Scripted::new(script).await;
    assert_eq!(scripted.client().register(&subject(), SCHEMA).await.unwrap(), 7);
    let asked = scripted.asked();
    assert_eq!(asked[1], "POST /base/compatibility/subjects/crm.A-value/versions/latest?verbose=true");
    assert_eq!(asked[4], "PUT /base/config/crm.A-value");
}

#[tokio::test]
async fn a_schema_that_cannot_follow_is_told_with_the_reason_cut_short_and_not_registered() {
    // In Confluent's words and in Apicurio's.
    for reason in [r#""messages":["READER_FIELD: LONG"]"#, r#""reason":"READER_FIELD: LONG""#] {
        let body = format!(r#"{{"is_compatible":false,{}}}"#, reason.replace("LONG", &"x".repeat(2_000)));
        let scripted = Scripted::new([NO_SCHEMA, Answer(200, body.leak())]).await;
        let error = scripted.client().register(&subject(), SCHEMA).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryRefused);
        let text = error.to_string();
        assert!(
            text.contains("crm.A-value") && text.contains("READER_FIELD") && text.ends_with('…'),
            "{text}"
        );
        assert!(text.chars().count() < 600, "{text}");
        assert_eq!(scripted.asked().len(), 2);
    }
}

#[tokio::test]
async fn what_the_registry_refuses_is_not_tried_again() {
    for (status, body, words) in [
        (409, r#"{"error_code":409,"message":"incompatible: NAME_MISMATCH"}"#, "NAME_MISMATCH"),
        (422, r#"{"error_code":42201,"message":"Input schema is invalid"}"#, "422 Input schema is invalid"),
        (403, "", "answers 403"),
    ] {
        let script = [NO_SUBJECT, LEVEL_SET, Answer(status, body)];
        let scripted = Scripted::new(script).await;
        let error = scripted.client().register(&subject(), SCHEMA).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryRefused, "{status}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(scripted.asked().len(), 3);
    }
}

#[tokio::test]
async fn without_auto_register_nothing_is_written() {
    for (answer, words) in [(NO_SUBJECT, "is not there"), (NO_SCHEMA, "does not hold the schema")] {
        let scripted = Scripted::new([answer]).await;
        let settings =
            RegistrySettings { auto_register: false, ..RegistrySettings::new(scripted.url.clone()) };
        let error = client(&settings).register(&subject(), SCHEMA).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryRefused);
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.advice().contains("auto_register: true"));
        assert_eq!(scripted.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_short_outage_is_sat_out() {
    let busy = || Answer(503, "busy");
    let scripted =
        Scripted::new([busy(), Answer(429, ""), Answer(500, "{}"), Answer(200, r#"{"id":9}"#)]).await;
    assert_eq!(scripted.client().register(&subject(), SCHEMA).await.unwrap(), 9);
    assert_eq!(scripted.asked().len(), 4);
}

#[tokio::test]
async fn a_long_outage_is_an_error_that_may_pass() {
    let scripted = Scripted::new([503; 4].map(|status| Answer(status, "busy"))).await;
    let client = scripted.client();
    let error = client.register(&subject(), SCHEMA).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable);
    assert_eq!(scripted.asked().len(), 4);

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{closed}").parse().unwrap();
    let error = self::client(&RegistrySettings::new(url)).ping().await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable);
    let what = format!("schema registry http://{closed} does not answer");
    assert!(error.to_string().starts_with(&what), "{error}");
}

#[tokio::test]
async fn an_answer_from_something_else_is_not_taken_for_an_id() {
    for body in ["<html>log in</html>", r#"{"version":1}"#, r#"{"id":-1}"#] {
        let scripted = Scripted::new([200; 1].map(|status| Answer(status, body))).await;
        let client = Registry { pauses: [Duration::ZERO; 3], ..scripted.client() };
        // Not JSON is tried over; the script's end then shows as a dropped connection.
        let error = client.register(&subject(), SCHEMA).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryUnavailable, "{body}");
    }
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let scripted = Scripted::new([Answer(401, r#"{"error_code":40101,"message":"Unauthorized"}"#)]).await;
    let settings = RegistrySettings {
        username: Some("reader".to_owned()),
        password: Some(Secret::new("sesame")),
        ..RegistrySettings::new(scripted.url.clone())
    };
    let client = client(&settings);
    let error = client.register(&subject(), SCHEMA).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryRefused);
    assert!(error.advice().contains("schema_registry.username"));
    assert!(!format!("{client:?} {error:?}").contains("sesame"));
    let script = scripted.script.lock().unwrap();
    assert_eq!(script.headers[0]["authorization"], "Basic cmVhZGVyOnNlc2FtZQ==");
    assert_eq!(script.headers[0]["content-type"], MEDIA_TYPE);
}

#[tokio::test]
async fn what_would_become_of_a_schema_is_told_and_nothing_is_registered() {
    let refused = Answer(200, r#"{"is_compatible":false,"messages":["READER_FIELD_MISSING_DEFAULT_VALUE"]}"#);
    let registry = Scripted::new([
        NO_SUBJECT,
        Answer(200, r#"{"subject":"crm.A-value","id":7,"version":1,"schema":"{}"}"#),
        NO_SCHEMA,
        Answer(200, r#"{"is_compatible":true}"#),
        NO_SCHEMA,
        refused,
    ])
    .await;
    let (client, subject) = (registry.client(), Subject::value("crm.A"));
    assert_eq!(client.foresee(&subject, SCHEMA).await.unwrap(), Foreseen::New);
    assert_eq!(client.foresee(&subject, SCHEMA).await.unwrap(), Foreseen::Same(7));
    assert_eq!(client.foresee(&subject, SCHEMA).await.unwrap(), Foreseen::NextVersion);
    let Foreseen::Refused(reason) = client.foresee(&subject, SCHEMA).await.unwrap() else { panic!() };
    assert!(reason.contains("READER_FIELD_MISSING_DEFAULT_VALUE"), "{reason}");
    let asked = registry.asked();
    assert!(
        asked.iter().all(|asked| !asked.ends_with("/versions") && !asked.starts_with("PUT")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_level_and_a_mode_are_read_where_the_registry_tells_them() {
    let registry = Scripted::new([
        Answer(404, r#"{"error_code":40408,"message":"no level"}"#),
        Answer(200, r#"{"compatibilityLevel":"FULL"}"#),
        Answer(200, r#"{"mode":"READONLY"}"#),
        Answer(404, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#),
    ])
    .await;
    let client = registry.client();
    let level = client.level(Some(&Subject::value("crm.A"))).await.unwrap();
    assert_eq!(level.as_deref(), Some("FULL"));
    assert_eq!(client.mode().await.unwrap().as_deref(), Some("READONLY"));
    assert_eq!(client.mode().await.unwrap(), None);
    assert_eq!(registry.asked().len(), 4);
}
