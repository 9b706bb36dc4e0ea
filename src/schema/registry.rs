//! The schema registry: Confluent's REST API, as several registries serve it.
//!
//! Comes in: subjects and schema texts. Goes out: ids. Compatibility is asked before a version is registered, so that a
//! refusal is told with the registry's reason; an outage is tried over and then an error that may pass. An id that was
//! told once is not asked for again: it never changes. Credentials never show.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::{RegistrySettings, Secret};
use crate::error::Kind;
use crate::{Error, Result};

mod foresee;

pub use foresee::Foreseen;

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const TIMEOUT: Duration = Duration::from_secs(15);
/// Before each repeat; up to half of it less at random, so that instances do not come back together.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(800), Duration::from_secs(3)];

/// Codes of the API for what is not there.
const SUBJECT_NOT_FOUND: i64 = 40_401;
const VERSION_NOT_FOUND: i64 = 40_402;
const SCHEMA_NOT_FOUND: i64 = 40_403;
const LEVEL_NOT_FOUND: i64 = 40_408;

/// A subject, by the topic name strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(pub String);

impl Subject {
    pub fn key(topic: &str) -> Self {
        Self(format!("{topic}-key"))
    }

    pub fn value(topic: &str) -> Self {
        Self(format!("{topic}-value"))
    }
}

#[derive(Clone, Debug)]
pub struct Registry {
    http: reqwest::Client,
    url: Url,
    credentials: Option<(String, Secret)>,
    compatibility: String,
    auto_register: bool,
    pauses: [Duration; 3],
    /// Ids that were told, by subject and hash of the schema's text.
    known: Arc<Mutex<HashMap<(String, u128), u32>>>,
}

/// An answer that is not a success, as the API words it.
struct Refusal {
    status: StatusCode,
    code: i64,
    message: String,
}

impl Refusal {
    fn is_missing(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
            || matches!(self.code, SUBJECT_NOT_FOUND | VERSION_NOT_FOUND | SCHEMA_NOT_FOUND | LEVEL_NOT_FOUND)
    }
}

impl Registry {
    pub fn new(settings: &RegistrySettings) -> Result<Self> {
        let failed = |error| Error::new(Kind::Internal, "no client for the schema registry").source(error);
        let mut http =
            reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if let Some(authorities) = &settings.authorities {
            let pem = authorities.pem().as_bytes();
            http = http.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?);
        }
        let http = http.build().map_err(failed)?;
        let credentials = settings
            .username
            .clone()
            .map(|username| (username, settings.password.clone().unwrap_or_default()));
        Ok(Self {
            http,
            url: settings.url.clone(),
            credentials,
            compatibility: settings.compatibility.clone(),
            auto_register: settings.auto_register,
            pauses: PAUSES,
            known: Arc::default(),
        })
    }

    /// Whether the registry answers; for `check`.
    pub async fn ping(&self) -> Result<()> {
        self.call(Method::GET, &["subjects"], None)
            .await?
            .map(drop)
            .map_err(|refusal| self.refused("subjects", &refusal))
    }

    /// The id of this schema under this subject, registered if it was not (and if that is allowed).
    pub async fn register(&self, subject: &Subject, schema: &str) -> Result<u32> {
        let known = (subject.0.clone(), xxh3_128(schema.as_bytes()));
        let told = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&known).copied();
        if let Some(id) = told {
            return Ok(id);
        }
        let id = self.find_or_register(subject, schema).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(known, id);
        Ok(id)
    }

    async fn find_or_register(&self, subject: &Subject, schema: &str) -> Result<u32> {
        let body = json!({"schema": schema, "schemaType": "AVRO"});
        let missing = match self.call(Method::POST, &["subjects", &subject.0], Some(&body)).await? {
            Ok(answer) => return self.id(subject, &answer),
            Err(refusal) if refusal.is_missing() => refusal,
            Err(refusal) => return Err(self.refused(&subject.0, &refusal)),
        };
        if !self.auto_register {
            // For the one who registers it.
            tracing::warn!(subject = subject.0, schema, "this schema has to be registered");
            return Err(self.not_there(subject, &missing));
        }
        let is_new = missing.code == SUBJECT_NOT_FOUND || !self.check_compatibility(subject, &body).await?;
        // A registry may know the level of a subject only once the subject is there.
        let level_is_set = is_new && self.set_level(subject).await?.is_ok();
        let path = ["subjects", &subject.0, "versions"];
        let id = match self.call(Method::POST, &path, Some(&body)).await? {
            Ok(answer) => self.id(subject, &answer)?,
            Err(refusal) => return Err(self.refused(&subject.0, &refusal)),
        };
        if is_new
            && !level_is_set
            && let Err(refusal) = self.set_level(subject).await?
        {
            // Some registries let nobody set levels; theirs holds then.
            tracing::warn!(
                subject = subject.0,
                reason = refusal.message,
                "the compatibility level cannot be set"
            );
        }
        Ok(id)
    }

    fn not_there(&self, subject: &Subject, missing: &Refusal) -> Error {
        let what = if missing.code == SUBJECT_NOT_FOUND {
            format!("subject {} is not there", subject.0)
        } else {
            format!("subject {} does not hold the schema that is needed", subject.0)
        };
        Error::new(Kind::RegistryRefused, format!("{what}, and auto_register is false"))
            .hint("the log shows the schema: register it, or let somebody who may run once with `schema_registry.auto_register: true`")
    }

    /// Asks whether the newest version lets this one follow. False: there is no version yet.
    async fn check_compatibility(&self, subject: &Subject, body: &Value) -> Result<bool> {
        let path = ["compatibility", "subjects", &subject.0, "versions", "latest"];
        let answer = match self.call(Method::POST, &path, Some(body)).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_missing() => return Ok(false),
            Err(refusal) => return Err(self.refused(&subject.0, &refusal)),
        };
        if answer.get("is_compatible").and_then(Value::as_bool) != Some(false) {
            return Ok(true);
        }
        // Confluent's registry gives `messages`, Apicurio's a `reason`.
        let messages = answer.get("messages").and_then(Value::as_array).into_iter().flatten();
        let reasons: Vec<&str> = messages.chain(answer.get("reason")).filter_map(Value::as_str).collect();
        let reasons =
            if reasons.is_empty() { "no reason given".to_owned() } else { cut(&reasons.join("; ")) };
        let why = "the new schema is not compatible with the newest version";
        Err(Error::new(Kind::RegistryRefused, format!("subject {}: {why}: {reasons}", subject.0)))
    }

    /// The level of a subject that this program makes.
    async fn set_level(&self, subject: &Subject) -> Result<std::result::Result<(), Refusal>> {
        let level = json!({"compatibility": self.compatibility});
        Ok(self.call(Method::PUT, &["config", &subject.0], Some(&level)).await?.map(drop))
    }

    fn id(&self, subject: &Subject, answer: &Value) -> Result<u32> {
        answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            Error::new(
                Kind::RegistryUnavailable,
                format!("subject {}: the registry's answer holds no id", subject.0),
            )
        })
    }

    fn refused(&self, what: &str, refusal: &Refusal) -> Error {
        let kind = match refusal.status.as_u16() {
            408 | 429 | 500.. => Kind::RegistryUnavailable,
            _ => Kind::RegistryRefused,
        };
        let answer = format!("{what}: the schema registry answers {}", refusal.status.as_u16());
        let message =
            if refusal.message.is_empty() { answer } else { format!("{answer} {}", refusal.message) };
        let error = Error::new(kind, message);
        match refusal.status.as_u16() {
            401 | 403 => {
                error.hint("check `schema_registry.username` and `password`, and what the user may do")
            }
            _ => error,
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<std::result::Result<Value, Refusal>> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if path.first() == Some(&"compatibility") {
            // Without it Confluent's registry gives no reasons.
            url.query_pairs_mut().append_pair("verbose", "true");
        }
        let mut pauses = self.pauses.iter();
        loop {
            let answer = self.call_once(method.clone(), url.clone(), body).await;
            let passing = match &answer {
                Ok(Ok(_)) => false,
                Ok(Err(refusal)) => {
                    refusal.status.is_server_error() || matches!(refusal.status.as_u16(), 408 | 429)
                }
                Err(_) => true,
            };
            match pauses.next() {
                Some(pause) if passing => tokio::time::sleep(jittered(*pause)).await,
                _ => return answer,
            }
        }
    }

    async fn call_once(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<std::result::Result<Value, Refusal>> {
        let unavailable = |error: reqwest::Error| {
            // Without what may stand before the host.
            let origin = self.url.origin().ascii_serialization();
            Error::new(Kind::RegistryUnavailable, format!("schema registry {origin} does not answer"))
                .source(error.without_url())
        };
        let mut request = self.http.request(method, url).header("accept", MEDIA_TYPE);
        if let Some(body) = body {
            request = request.header("content-type", MEDIA_TYPE).body(body.to_string());
        }
        if let Some((username, password)) = &self.credentials {
            request = request.basic_auth(username, Some(password.expose()));
        }
        let response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let text = response.text().await.map_err(unavailable)?;
        let answer: Option<Value> = serde_json::from_str(&text).ok();
        if status.is_success() {
            return answer.map(Ok).ok_or_else(|| {
                Error::new(
                    Kind::RegistryUnavailable,
                    "the schema registry's answer is not JSON: is its URL right?",
                )
            });
        }
        let field = |name: &str| answer.as_ref().and_then(|answer| answer.get(name)).cloned();
        Ok(Err(Refusal {
            status,
            code: field("error_code").and_then(|code| code.as_i64()).unwrap_or_default(),
            message: cut(field("message").as_ref().and_then(Value::as_str).unwrap_or_default()),
        }))
    }
}

fn jittered(pause: Duration) -> Duration {
    let share = (RandomState::new().hash_one(pause) % 512) as u32;
    pause / 2 + pause / 2 * share / 511
}

/// Registries put whole schemas into their reasons.
fn cut(text: &str) -> String {
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
