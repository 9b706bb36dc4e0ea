//! Calls to the registry: credentials, TLS, several addresses, repeats, and answers as the API words them.
//!
//! Comes in: method, path, body. Goes out: JSON, or the refusal; an error only if there was no answer that can be used. Redirects
//! are not followed, so that credentials go nowhere else. An answer is read up to a bound. Never: a credential in an error.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use crate::config::{RegistrySettings, Secret};
use crate::error::Kind;
use crate::{Error, Result};

pub(super) const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT: Duration = Duration::from_secs(5);
/// Far more than any schema; what is longer is no registry's answer.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Before each repeat; up to half of it less at random, so that instances do not come back together.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(800), Duration::from_secs(3)];

/// How the TLS library says that the server's certificate is not trusted, and that the server broke off.
const UNTRUSTED: &str = "invalid peer certificate";
const ALERT: &str = "received fatal alert";

/// Codes of the API for what is not there.
pub(super) const SUBJECT_NOT_FOUND: i64 = 40_401;
const VERSION_NOT_FOUND: i64 = 40_402;
const SCHEMA_NOT_FOUND: i64 = 40_403;
const LEVEL_NOT_FOUND: i64 = 40_408;

#[derive(Clone, Debug)]
pub(super) struct Wire {
    http: reqwest::Client,
    urls: Arc<[Url]>,
    /// The address that answered last.
    current: Arc<AtomicUsize>,
    credentials: Credentials,
    pub pauses: [Duration; 3],
}

#[derive(Clone, Debug)]
enum Credentials {
    None,
    Basic(String, Secret),
    Bearer(Secret),
}

/// An answer that is not a success, as the API words it.
pub(super) struct Refusal {
    pub status: StatusCode,
    pub code: i64,
    pub message: String,
}

pub(super) type Answer = std::result::Result<Value, Refusal>;

impl Refusal {
    pub fn is_missing(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
            || matches!(self.code, SUBJECT_NOT_FOUND | VERSION_NOT_FOUND | SCHEMA_NOT_FOUND | LEVEL_NOT_FOUND)
    }

    fn passes(&self) -> bool {
        self.status.is_server_error() || matches!(self.status.as_u16(), 408 | 429)
    }

    pub fn error(&self, what: &str) -> Error {
        let kind = if self.passes() { Kind::RegistryUnavailable } else { Kind::RegistryRefused };
        let answer = format!("{what}: the schema registry answers {}", self.status.as_u16());
        let message = if self.message.is_empty() { answer } else { format!("{answer} {}", self.message) };
        let error = Error::new(kind, message);
        match self.status.as_u16() {
            401 | 403 => error.hint(
                "check `schema_registry.username` and `password` (or `token`), and what the user may do",
            ),
            300..=399 => error.hint("it redirects elsewhere: give that address as `schema_registry.url`"),
            // The API's own words for what is not there have codes of five digits.
            404 | 405 if self.code < 1_000 => error.hint(
                "check the path of `schema_registry.url`: Confluent's API is at its root, Apicurio's below `/apis/ccompat/v7`",
            ),
            _ => error,
        }
    }
}

impl Wire {
    pub fn new(settings: &RegistrySettings) -> Result<Self> {
        let failed = |error| Error::new(Kind::Internal, "no client for the schema registry").source(error);
        let mut http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(authorities) = &settings.authorities {
            let pem = authorities.pem().as_bytes();
            http = http.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem).map_err(failed)?);
        }
        if let Some(certificate) = &settings.client_certificate {
            http = http.identity(reqwest::Identity::from_pem(certificate.pem().as_bytes()).map_err(failed)?);
        }
        let credentials = match (&settings.token, &settings.username) {
            (Some(token), _) => Credentials::Bearer(token.clone()),
            (None, Some(username)) => {
                Credentials::Basic(username.clone(), settings.password.clone().unwrap_or_default())
            }
            (None, None) => Credentials::None,
        };
        Ok(Self {
            http: http.build().map_err(failed)?,
            urls: std::iter::once(&settings.url).chain(&settings.other_urls).cloned().collect(),
            current: Arc::default(),
            credentials,
            pauses: PAUSES,
        })
    }

    /// The address that answered last.
    pub fn address(&self) -> &str {
        self.urls.get(self.current.load(Ordering::Relaxed)).map_or("", Url::as_str)
    }

    /// Asks the address that answered last; if it does not, the others; then all of them again after pauses.
    pub async fn call(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Answer> {
        let mut pauses = self.pauses.iter();
        let first = self.current.load(Ordering::Relaxed);
        let mut tried = 0;
        loop {
            let place = (first + tried) % self.urls.len();
            let answer = self.call_once(&method, place, path, body).await;
            let passing = match &answer {
                Ok(Ok(_)) => false,
                Ok(Err(refusal)) => refusal.passes(),
                Err(_) => true,
            };
            if !passing {
                self.current.store(place, Ordering::Relaxed);
                return answer;
            }
            tried += 1;
            if tried % self.urls.len() != 0 {
                continue;
            }
            match pauses.next() {
                Some(pause) => tokio::time::sleep(jittered(*pause)).await,
                None => return answer,
            }
        }
    }

    async fn call_once(
        &self,
        method: &Method,
        place: usize,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let base = self.urls.get(place).ok_or_else(|| Error::new(Kind::Internal, "no such address"))?;
        // Without what may stand before the host.
        let origin = base.origin().ascii_serialization();
        let unavailable = |error: reqwest::Error| {
            let what = format!("schema registry {origin} does not answer");
            let unavailable = Error::new(Kind::RegistryUnavailable, what);
            match tls_advice(&error) {
                Some(advice) => unavailable.hint(advice),
                None => unavailable,
            }
            .source(error.without_url())
        };
        let mut request = self.http.request(method.clone(), url(base, path)).header("accept", MEDIA_TYPE);
        if let Some(body) = body {
            request = request.header("content-type", MEDIA_TYPE).body(body.to_string());
        }
        request = match &self.credentials {
            Credentials::None => request,
            Credentials::Basic(username, password) => request.basic_auth(username, Some(password.expose())),
            Credentials::Bearer(token) => request.bearer_auth(token.expose()),
        };
        let mut response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let mut bytes: Vec<u8> = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if bytes.len() + chunk.len() > MOST_BYTES {
                let what = format!("schema registry {origin}: an answer longer than {MOST_BYTES} bytes");
                return Err(Error::new(Kind::RegistryUnavailable, what));
            }
            bytes.extend_from_slice(&chunk);
        }
        let answer: Option<Value> = serde_json::from_slice(&bytes).ok();
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

/// What can be done where the two sides do not trust one another. The TLS library's words are all there is to go by: its own
/// error lies too deep inside of others.
fn tls_advice(error: &reqwest::Error) -> Option<&'static str> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let text = error.to_string();
        if text.contains(UNTRUSTED) {
            return Some(
                "name the file of the certificate authority that signed the registry's certificate: `schema_registry.ca_file`",
            );
        }
        if text.contains(ALERT) {
            return Some(
                "the registry refuses this client: give it a certificate that it trusts, `schema_registry.certificate_file` and `private_key_file`",
            );
        }
        source = error.source();
    }
    None
}

fn url(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    if path.first() == Some(&"compatibility") {
        // Without it Confluent's registry gives no reasons.
        url.query_pairs_mut().append_pair("verbose", "true");
    }
    url
}

fn jittered(pause: Duration) -> Duration {
    let share = (RandomState::new().hash_one(pause) % 512) as u32;
    pause / 2 + pause / 2 * share / 511
}

/// Registries put whole schemas into their reasons.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
