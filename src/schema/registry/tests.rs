//! The client against a registry that says what a test lets it say, over a real socket.
//!
//! In: answers in their order. Out: what the client made of them, and what it asked. The script panics when it is asked
//! for more than it holds.

use std::collections::VecDeque;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use reqwest::StatusCode;
use std::time::Duration;
use tokio::net::TcpListener;
use url::Url;

use super::wire::MEDIA_TYPE;
use super::*;
use crate::config::Secret;

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
const NO_LEVEL: Answer = Answer(200, r#"{"compatibilityLevel":"NONE"}"#);
const OTHER: Answer = Answer(200, r#"{"id":3,"version":1,"schema":"\"int\""}"#);

impl Scripted {
    async fn new<const N: usize>(answers: [Answer; N]) -> Self {
        Self::of(answers.into()).await
    }

    async fn of(answers: Vec<Answer>) -> Self {
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
        assert_eq!(body["schemaType"], "AVRO");
        assert!(body["schema"].as_str().unwrap().starts_with(r#"{"type":"record""#), "{body}");
    }
    script.asked.push(format!("{} {uri}", parts.method));
    script.headers.push(parts.headers);
    let Answer(status, text) = script.answers.pop_front().expect("an answer is in the script");
    (StatusCode::from_u16(status).unwrap(), text)
}

fn client(settings: &RegistrySettings) -> Registry {
    // A second call finds the provider in place.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = Registry::new(settings).unwrap();
    client.wire.pauses = [Duration::from_millis(1); 3];
    client
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
    let scripted = Scripted::new([NO_SUBJECT, NO_LEVEL, LEVEL_SET, Answer(200, r#"{"id":7}"#)]).await;
    assert_eq!(scripted.client().register(&subject(), SCHEMA).await.unwrap(), 7);
    let wanted = [
        "POST /base/subjects/crm.A-value",
        "GET /base/config",
        "PUT /base/config/crm.A-value",
        "POST /base/subjects/crm.A-value/versions",
    ];
    assert_eq!(scripted.asked(), wanted);
}

#[tokio::test]
async fn a_registry_that_keeps_no_level_for_a_missing_subject_gets_it_after_the_first_version() {
    // Bodies without codes, as a proxy in front may leave them.
    let script = [
        Answer(404, ""),
        Answer(404, "<html>"),
        Answer(404, "{}"),
        Answer(404, ""),
        Answer(404, "<html>"),
        Answer(200, r#"{"id":7}"#),
        LEVEL_SET,
    ];
    let scripted = Scripted::new(script).await;
    assert_eq!(scripted.client().register(&subject(), SCHEMA).await.unwrap(), 7);
    let asked = scripted.asked();
    assert_eq!(asked[2], "POST /base/compatibility/subjects/crm.A-value/versions/latest?verbose=true");
    assert_eq!(asked[6], "PUT /base/config/crm.A-value");
}

#[tokio::test]
async fn a_schema_that_cannot_follow_is_told_with_the_reason_cut_short_and_not_registered() {
    // In Confluent's words and in Apicurio's.
    for reason in [r#""messages":["READER_FIELD: LONG"]"#, r#""reason":"READER_FIELD: LONG""#] {
        let body = format!(r#"{{"is_compatible":false,{}}}"#, reason.replace("LONG", &"x".repeat(2_000)));
        let scripted = Scripted::new([NO_SCHEMA, OTHER, Answer(200, body.leak())]).await;
        let error = scripted.client().register(&subject(), SCHEMA).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryRefused);
        let text = error.to_string();
        assert!(
            text.contains("crm.A-value") && text.contains("READER_FIELD") && text.ends_with('…'),
            "{text}"
        );
        assert!(text.chars().count() < 600, "{text}");
        assert_eq!(scripted.asked().len(), 3);
    }
}

#[tokio::test]
async fn what_the_registry_refuses_is_not_tried_again() {
    for (status, body, words) in [
        (409, r#"{"error_code":409,"message":"incompatible: NAME_MISMATCH"}"#, "NAME_MISMATCH"),
        (422, r#"{"error_code":42201,"message":"Input schema is invalid"}"#, "422 Input schema is invalid"),
        (403, "", "answers 403"),
    ] {
        let script = [NO_SUBJECT, NO_LEVEL, LEVEL_SET, Answer(status, body)];
        let scripted = Scripted::new(script).await;
        let error = scripted.client().register(&subject(), SCHEMA).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryRefused, "{status}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(scripted.asked().len(), 4);
    }
}

fn others_register(scripted: &Scripted) -> Registry {
    client(&RegistrySettings { auto_register: false, ..RegistrySettings::new(scripted.url.clone()) })
}

#[tokio::test]
async fn without_auto_register_nothing_is_written() {
    let versions = Answer(200, "[1]");
    for (script, words) in
        [(vec![NO_SUBJECT], "is not there"), (vec![NO_SCHEMA, versions, OTHER], "does not hold the schema")]
    {
        let asked = script.len();
        let scripted = Scripted::of(script).await;
        let error = others_register(&scripted).register(&subject(), SCHEMA).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryRefused);
        assert!(error.to_string().contains(words), "{error}");
        for advice in ["auto_register: true", "`sf2kafka schemas -c FILE --out DIR`", "`crm.A-value.avsc`"] {
            assert!(error.advice().contains(advice), "{}", error.advice());
        }
        assert_eq!(scripted.asked().len(), asked);
    }
}

#[tokio::test]
async fn a_schema_that_somebody_registered_with_other_spaces_is_found() {
    let pretty =
        r#"{"id":5,"version":1,"schema":"{ \"type\": \"record\",\n \"fields\": [], \"name\": \"A\" }"}"#;
    let scripted =
        Scripted::new([NO_SCHEMA, Answer(200, "[1,2,3]"), OTHER, OTHER, Answer(200, pretty)]).await;
    assert_eq!(others_register(&scripted).register(&subject(), SCHEMA).await.unwrap(), 5);
    let versions: Vec<String> = scripted
        .asked()
        .iter()
        .filter_map(|asked| Some(asked.split_once("versions/")?.1.to_owned()))
        .collect();
    assert_eq!(versions, ["latest", "2", "1"], "the newest first");
    // Who may register looks at the newest only.
    let scripted = Scripted::new([NO_SCHEMA, Answer(200, pretty)]).await;
    assert_eq!(scripted.client().register(&subject(), SCHEMA).await.unwrap(), 5);
    assert_eq!(scripted.asked().len(), 2);
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
    for (body, words) in [
        (r#"{"version":1}"#, "holds no id"),
        (r#"{"id":-1}"#, "no record can: -1"),
        (r#"{"id":2147483648}"#, "no record can: 2147483648"),
        (r#"{"id":4294967297}"#, "no record can: 4294967297"),
        (r#"{"id":1.5}"#, "no record can: 1.5"),
        (r#"{"id":"7"}"#, "no record can: \"7\""),
    ] {
        let scripted = Scripted::new([Answer(200, body)]).await;
        let error = scripted.client().register(&subject(), SCHEMA).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryUnavailable, "{body}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(scripted.asked().len(), 1);
    }
    // A page where JSON should be may be a proxy's, and pass.
    let scripted = Scripted::new([200; 4].map(|status| Answer(status, "<html>log in</html>"))).await;
    let error = scripted.client().register(&subject(), SCHEMA).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable);
    assert!(error.to_string().contains("is not JSON: is its URL right?"), "{error}");
    assert_eq!(scripted.asked().len(), 4);
}

#[tokio::test]
async fn a_path_that_leads_nowhere_and_a_redirect_are_told_with_what_to_do() {
    for (status, body, advice) in [
        (404, "<html>", "Apicurio's below `/apis/ccompat/v7`"),
        (405, "", "Apicurio's below `/apis/ccompat/v7`"),
        (302, "", "give that address as `schema_registry.url`"),
    ] {
        let scripted = Scripted::new([Answer(status, body)]).await;
        let error = scripted.client().ping().await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryRefused);
        assert!(error.advice().contains(advice), "{}", error.advice());
        assert_eq!(scripted.asked().len(), 1, "and nobody is followed");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_given_up_before_it_fills_the_memory() {
    let endless = " ".repeat(17 * 1024 * 1024).leak();
    let scripted = Scripted::new([200; 4].map(|status| Answer(status, endless))).await;
    let error = scripted.client().ping().await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryUnavailable);
    assert!(error.to_string().contains("an answer longer than"), "{error}");
}

#[tokio::test]
async fn one_id_for_two_records_is_refused() {
    let scripted = Scripted::new([200; 3].map(|status| Answer(status, r#"{"id":7}"#))).await;
    let client = scripted.client();
    assert_eq!(client.register(&subject(), SCHEMA).await.unwrap(), 7);
    // The same record under another subject has one id by right.
    assert_eq!(client.register(&Subject::value("crm.B"), SCHEMA).await.unwrap(), 7);
    let key = r#"{"type":"record","name":"AKey","fields":[]}"#;
    let error = client.register(&Subject::key("crm.A"), key).await.unwrap_err();
    assert_eq!(error.kind(), Kind::RegistryRefused);
    assert!(error.to_string().contains("gives AKey the id 7, which is that of A"), "{error}");
}

#[tokio::test]
async fn a_level_that_the_registry_has_for_all_subjects_is_not_loosened_by_default() {
    let own = |level: &str| {
        let body = format!(r#"{{"compatibilityLevel":"{level}"}}"#);
        Answer(200, body.leak())
    };
    let registered = || Answer(200, r#"{"id":7}"#);
    for level in ["FULL_TRANSITIVE", "FORWARD", "BACKWARD"] {
        let scripted = Scripted::new([NO_SUBJECT, own(level), registered()]).await;
        assert_eq!(scripted.client().register(&subject(), SCHEMA).await.unwrap(), 7);
        assert!(!scripted.asked().iter().any(|asked| asked.starts_with("PUT")), "{level}");
    }
    for (compatibility, set) in [(Compatibility::Keep, false), (Compatibility::Level("FULL"), true)] {
        let script =
            if set { vec![NO_SUBJECT, LEVEL_SET, registered()] } else { vec![NO_SUBJECT, registered()] };
        let scripted = Scripted::of(script).await;
        let settings = RegistrySettings { compatibility, ..RegistrySettings::new(scripted.url.clone()) };
        assert_eq!(client(&settings).register(&subject(), SCHEMA).await.unwrap(), 7);
        assert_eq!(scripted.asked().iter().any(|asked| asked == "PUT /base/config/crm.A-value"), set);
    }
}

#[tokio::test]
async fn the_level_of_a_subject_that_is_there_is_left_alone() {
    let script = [NO_SCHEMA, OTHER, Answer(200, r#"{"is_compatible":true}"#), Answer(200, r#"{"id":9}"#)];
    let scripted = Scripted::new(script).await;
    let settings = RegistrySettings {
        compatibility: Compatibility::Level("NONE"),
        ..RegistrySettings::new(scripted.url.clone())
    };
    assert_eq!(client(&settings).register(&subject(), SCHEMA).await.unwrap(), 9);
    assert!(!scripted.asked().iter().any(|asked| asked.contains("config")));
}

#[tokio::test]
async fn another_address_is_asked_when_one_does_not_answer_and_stays_the_first() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let broken = Scripted::new([Answer(503, "")]).await;
    let good = Scripted::new([Answer(200, r#"{"id":7}"#), Answer(200, r#"{"id":8}"#)]).await;
    let settings = RegistrySettings {
        other_urls: vec![broken.url.clone(), good.url.clone()],
        ..RegistrySettings::new(format!("http://{closed}").parse().unwrap())
    };
    let mut client = client(&settings);
    // A pause would show.
    client.wire.pauses = [Duration::from_secs(3_600); 3];
    assert_eq!(client.register(&subject(), SCHEMA).await.unwrap(), 7);
    let other = r#"{"type":"record","name":"B","fields":[]}"#;
    assert_eq!(client.register(&Subject::value("crm.B"), other).await.unwrap(), 8);
    assert_eq!((broken.asked().len(), good.asked().len()), (1, 2));
    assert_eq!(client.address(), good.url.as_str());
}

#[tokio::test]
async fn a_transitive_level_is_foreseen_against_all_versions() {
    let refused = Answer(200, r#"{"is_compatible":false,"messages":["version 1 minds"]}"#);
    let scripted = Scripted::new([
        NO_SCHEMA,
        OTHER,
        Answer(200, r#"{"is_compatible":true}"#),
        Answer(200, r#"{"compatibilityLevel":"BACKWARD_TRANSITIVE"}"#),
        refused,
    ])
    .await;
    let Foreseen::Refused { reason, .. } = scripted.client().foresee(&subject(), SCHEMA).await.unwrap()
    else {
        panic!("it may not follow")
    };
    assert!(reason.contains("an earlier version: version 1 minds"), "{reason}");
    assert_eq!(
        scripted.asked().last().map(String::as_str),
        Some("POST /base/compatibility/subjects/crm.A-value/versions?verbose=true")
    );
}

#[tokio::test]
async fn a_bearer_token_is_sent_and_never_shown() {
    let scripted = Scripted::new([Answer(403, "")]).await;
    let settings = RegistrySettings {
        token: Some(Secret::new("sesame")),
        ..RegistrySettings::new(scripted.url.clone())
    };
    let client = client(&settings);
    let error = client.ping().await.unwrap_err();
    assert!(error.advice().contains("`token`"), "{}", error.advice());
    assert!(!format!("{client:?} {error:?}").contains("sesame"));
    assert_eq!(scripted.script.lock().unwrap().headers[0]["authorization"], "Bearer sesame");
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
        OTHER,
        Answer(200, r#"{"is_compatible":true}"#),
        Answer(200, r#"{"compatibilityLevel":"BACKWARD"}"#),
        NO_SCHEMA,
        OTHER,
        refused,
    ])
    .await;
    let (client, subject) = (registry.client(), Subject::value("crm.A"));
    assert_eq!(client.foresee(&subject, SCHEMA).await.unwrap(), Foreseen::New);
    assert_eq!(client.foresee(&subject, SCHEMA).await.unwrap(), Foreseen::Same(7));
    assert_eq!(client.foresee(&subject, SCHEMA).await.unwrap(), Foreseen::NextVersion);
    let Foreseen::Refused { reason, .. } = client.foresee(&subject, SCHEMA).await.unwrap() else { panic!() };
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

#[tokio::test]
async fn one_question_shows_for_a_whole_run_whether_the_registry_is_as_before() {
    const UNAVAILABLE: Answer = Answer(503, "{}");
    let there = || Answer(200, r#"{"id":42}"#);
    for (answers, is_as_before) in [
        (vec![there()], true),
        (vec![Answer(200, r#"{"id":43}"#)], false),
        (vec![NO_SUBJECT], false),
        (vec![NO_SCHEMA, OTHER], false),
        (vec![Answer(403, "{}")], false),
        (vec![UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE], false),
    ] {
        let scripted = Scripted::of(answers).await;
        let client = scripted.client();
        let question = || Ok((subject(), SCHEMA.to_owned(), 42));
        assert_eq!(client.is_as_before(question).await.unwrap(), is_as_before);
        let another = || panic!("one question is enough");
        assert_eq!(client.clone().is_as_before(another).await.unwrap(), is_as_before);
        assert!(scripted.asked().iter().all(|ask| ask.contains("/subjects/crm.A-value")));
    }
    // What it shows is no word on a schema that is written by.
    let scripted =
        Scripted::of(vec![there(), NO_SUBJECT, NO_LEVEL, LEVEL_SET, Answer(200, r#"{"id":7}"#)]).await;
    let client = scripted.client();
    assert!(client.is_as_before(|| Ok((subject(), SCHEMA.to_owned(), 42))).await.unwrap());
    assert_eq!(client.register(&subject(), SCHEMA).await.unwrap(), 7);
    scripted.asked();
}
