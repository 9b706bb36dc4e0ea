//! The demo's schema registry: the part of the Confluent REST API that producers and consumers use, in memory.
//!
//! Comes in: HTTP on loopback. Goes out: ids, schemas, answers on compatibility, with the API's own error codes. Ids are
//! global, the same schema gets the same id, and versions never change. Nothing is kept after the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::error::Kind;
use crate::{Error, Result};

/// A registry that listens; it answers once served.
pub(super) struct DemoRegistry {
    listener: TcpListener,
    url: Url,
}

impl DemoRegistry {
    pub async fn bind() -> Result<Self> {
        let failed = |error| Error::new(Kind::Internal, "the demo's registry cannot listen").source(error);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let url = Url::parse(&format!("http://{address}/"))
            .map_err(|error| Error::new(Kind::Internal, "no address for the registry").source(error))?;
        Ok(Self { listener, url })
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    pub async fn serve(self, stop: CancellationToken) {
        let served =
            axum::serve(self.listener, router()).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::warn!(%error, "the demo's registry ended");
        }
    }
}

type Shared = State<Arc<Mutex<Subjects>>>;

fn router() -> Router {
    Router::new()
        .route("/subjects", get(async |shared: Shared| reply(lock(&shared).list())))
        .route(
            "/subjects/{subject}",
            post(async |shared: Shared, Path(subject): Path<String>, body: Bytes| {
                reply(lock(&shared).lookup(&subject, &body))
            }),
        )
        .route(
            "/subjects/{subject}/versions",
            get(async |shared: Shared, Path(subject): Path<String>| reply(lock(&shared).versions(&subject)))
                .post(async |shared: Shared, Path(subject): Path<String>, body: Bytes| {
                    reply(lock(&shared).register(&subject, &body))
                }),
        )
        .route(
            "/subjects/{subject}/versions/{version}",
            get(async |shared: Shared, Path((subject, version)): Path<(String, String)>| {
                reply(lock(&shared).version(&subject, &version))
            }),
        )
        .route(
            "/schemas/ids/{id}",
            get(async |shared: Shared, Path(id): Path<u32>| reply(lock(&shared).schema(id))),
        )
        .route(
            "/compatibility/subjects/{subject}/versions/{version}",
            post(async |shared: Shared, Path((subject, version)): Path<(String, String)>, body: Bytes| {
                reply(lock(&shared).compatible(&subject, &version, &body))
            }),
        )
        .route("/config", get(async |_: Shared| answer(&json!({ "compatibilityLevel": DEFAULT_LEVEL }))))
        .route(
            "/config/{subject}",
            get(async |shared: Shared, Path(subject): Path<String>| reply(lock(&shared).level(&subject)))
                .put(async |shared: Shared, Path(subject): Path<String>, body: Bytes| {
                    reply(lock(&shared).set_level(&subject, &body))
                }),
        )
        .with_state(Arc::new(Mutex::new(Subjects::default())))
}

fn lock(shared: &Shared) -> MutexGuard<'_, Subjects> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(value: &Value) -> Response {
    let media = [(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")];
    (media, value.to_string()).into_response()
}

/// The API's error codes begin with their HTTP status.
#[derive(Debug)]
struct Refusal {
    code: u32,
    message: String,
}

fn refusal(code: u32, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

type Reply<T = Value> = std::result::Result<T, Refusal>;

fn reply(reply: Reply) -> Response {
    match reply {
        Ok(value) => answer(&value),
        Err(Refusal { code, message }) => {
            let status = u16::try_from(if code > 999 { code / 100 } else { code }).unwrap_or(500);
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, answer(&json!({ "error_code": code, "message": message }))).into_response()
        }
    }
}

const DEFAULT_LEVEL: &str = "BACKWARD";
const LEVELS: [&str; 7] =
    ["BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE", "NONE"];

#[derive(Default)]
struct Subjects {
    /// By id less one: the text as it was registered, and what it means.
    schemas: Vec<(String, Schema)>,
    subjects: BTreeMap<String, Vec<u32>>,
    levels: BTreeMap<String, String>,
}

impl Subjects {
    fn list(&self) -> Reply {
        Ok(json!(self.subjects.keys().collect::<Vec<_>>()))
    }

    fn versions(&self, subject: &str) -> Reply {
        Ok(json!((1..=self.ids(subject)?.len()).collect::<Vec<_>>()))
    }

    fn ids(&self, subject: &str) -> Reply<&[u32]> {
        let ids = self.subjects.get(subject).map(Vec::as_slice);
        ids.ok_or_else(|| refusal(40_401, format!("Subject '{subject}' not found.")))
    }

    fn by_id(&self, id: u32) -> Option<&(String, Schema)> {
        self.schemas.get(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    fn schema(&self, id: u32) -> Reply {
        let (text, _) = self.by_id(id).ok_or_else(|| refusal(40_403, "Schema not found"))?;
        Ok(json!({ "schema": text }))
    }

    /// Number and id of a version; `latest` is one too.
    fn numbered(&self, subject: &str, version: &str) -> Reply<(usize, u32)> {
        let ids = self.ids(subject)?;
        let number = match version {
            "latest" => Some(ids.len()),
            other => other.parse().ok(),
        };
        let id = number.and_then(|number: usize| ids.get(number.checked_sub(1)?));
        number.zip(id.copied()).ok_or_else(|| refusal(40_402, format!("Version {version} not found.")))
    }

    fn version(&self, subject: &str, version: &str) -> Reply {
        let (number, id) = self.numbered(subject, version)?;
        Ok(self.described(subject, number, id))
    }

    fn described(&self, subject: &str, number: usize, id: u32) -> Value {
        let schema = self.by_id(id).map(|(text, _)| text);
        json!({ "subject": subject, "version": number, "id": id, "schema": schema })
    }

    fn lookup(&self, subject: &str, body: &[u8]) -> Reply {
        let ids = self.ids(subject)?;
        let (text, _) = parsed(body)?;
        let place = ids.iter().position(|id| self.by_id(*id).is_some_and(|(known, _)| *known == text));
        let found = place.and_then(|place| Some((place + 1, *ids.get(place)?)));
        let (number, id) = found.ok_or_else(|| refusal(40_403, "Schema not found"))?;
        Ok(self.described(subject, number, id))
    }

    fn register(&mut self, subject: &str, body: &[u8]) -> Reply {
        let (text, schema) = parsed(body)?;
        let known = self.schemas.iter().position(|(known, _)| *known == text);
        let known = known.and_then(|place| u32::try_from(place + 1).ok());
        let listed = self.subjects.get(subject).is_some_and(|ids| known.is_some_and(|id| ids.contains(&id)));
        if !listed && let Some(reason) = self.obstacle(subject, &schema, None) {
            let message = format!("Schema being registered is incompatible with an earlier schema: {reason}");
            return Err(refusal(409, message));
        }
        let id = known.unwrap_or_else(|| {
            self.schemas.push((text, schema));
            u32::try_from(self.schemas.len()).unwrap_or(u32::MAX)
        });
        if !listed {
            self.subjects.entry(subject.to_owned()).or_default().push(id);
        }
        Ok(json!({ "id": id }))
    }

    fn compatible(&self, subject: &str, version: &str, body: &[u8]) -> Reply {
        let (_, id) = self.numbered(subject, version)?;
        let (_, schema) = parsed(body)?;
        let obstacle = self.obstacle(subject, &schema, Some(id));
        let messages: Vec<&String> = obstacle.iter().collect();
        Ok(json!({ "is_compatible": obstacle.is_none(), "messages": messages }))
    }

    /// Why the schema may not follow: on the version with this id, or those that the level names.
    fn obstacle(&self, subject: &str, schema: &Schema, against: Option<u32>) -> Option<String> {
        let level = self.levels.get(subject).map_or(DEFAULT_LEVEL, String::as_str);
        let (kind, transitive) = match level.strip_suffix("_TRANSITIVE") {
            Some(kind) => (kind, true),
            None => (level, false),
        };
        let ids = self.subjects.get(subject).map_or(&[][..], Vec::as_slice);
        let against: Vec<u32> = match against {
            Some(id) => vec![id],
            None if transitive => ids.to_vec(),
            None => ids.last().copied().into_iter().collect(),
        };
        against.into_iter().filter_map(|id| self.by_id(id)).find_map(|(_, old)| {
            // The reader resolves what the writer wrote.
            let backward = || SchemaCompatibility::can_read(old, schema).err();
            let forward = || SchemaCompatibility::can_read(schema, old).err();
            let error = match kind {
                "BACKWARD" => backward(),
                "FORWARD" => forward(),
                "FULL" => backward().or_else(forward),
                _ => None,
            };
            error.map(|error| error.to_string())
        })
    }

    fn level(&self, subject: &str) -> Reply {
        let level = self.levels.get(subject).ok_or_else(|| {
            let message = format!("Subject '{subject}' does not have subject-level compatibility configured");
            refusal(40_408, message)
        })?;
        Ok(json!({ "compatibilityLevel": level }))
    }

    fn set_level(&mut self, subject: &str, body: &[u8]) -> Reply {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match body.get("compatibility").and_then(Value::as_str) {
            Some(level) if LEVELS.contains(&level) => {
                self.levels.insert(subject.to_owned(), level.to_owned());
                Ok(json!({ "compatibility": level }))
            }
            _ => Err(refusal(42_203, "Invalid compatibility level.")),
        }
    }
}

/// The schema of a request: its text, and what it means.
fn parsed(body: &[u8]) -> Reply<(String, Schema)> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = body.get("schema").and_then(Value::as_str).unwrap_or_default();
    let schema = Schema::parse_str(text)
        .map_err(|error| refusal(42_201, format!("Input schema is an invalid Avro schema: {error}")))?;
    Ok((text.to_owned(), schema))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RegistrySettings;
    use crate::schema::{Registry, Subject};

    const FIRST: &str = r#"{"type":"record","name":"A","fields":[{"name":"Id","type":"string"}]}"#;
    const WIDER: &str = r#"{"type":"record","name":"A","fields":[{"name":"Id","type":"string"},
        {"name":"Name","type":["null","string"],"default":null}]}"#;
    const OTHER: &str = r#"{"type":"record","name":"A","fields":[{"name":"Id","type":"string"},
        {"name":"Name","type":"int"}]}"#;

    #[tokio::test]
    async fn the_programs_own_client_registers_evolves_and_is_refused() {
        crate::salesforce::install_tls();
        let registry = DemoRegistry::bind().await.unwrap();
        let url = registry.url().clone();
        tokio::spawn(registry.serve(CancellationToken::new()));
        let client = Registry::new(&RegistrySettings::new(url.clone())).unwrap();
        client.ping().await.unwrap();
        let subject = Subject::value("crm.A");
        assert_eq!(client.register(&subject, FIRST).await.unwrap(), 1);
        assert_eq!(client.register(&subject, WIDER).await.unwrap(), 2);
        assert_eq!(client.register(&subject, FIRST).await.unwrap(), 1, "versions never change");
        assert_eq!(client.register(&Subject::value("crm.B"), FIRST).await.unwrap(), 1, "ids are global");
        let error = client.register(&subject, OTHER).await.unwrap_err();
        assert_eq!(error.kind(), Kind::RegistryRefused);
        assert!(error.to_string().contains("not compatible"), "{error}");
    }

    #[test]
    fn the_apis_own_error_codes_are_answered() {
        let mut subjects = Subjects::default();
        let code = |reply: Reply| reply.unwrap_err().code;
        assert_eq!(code(subjects.schema(1)), 40_403);
        assert_eq!(code(subjects.lookup("x", b"{}")), 40_401);
        assert_eq!(code(subjects.version("x", "latest")), 40_401);
        assert_eq!(code(subjects.register("x", br#"{"schema":"{\"type\":\"nothing\"}"}"#)), 42_201);
        assert_eq!(code(subjects.set_level("x", b"{}")), 42_203);
        assert_eq!(reply(subjects.schema(1)).status(), StatusCode::NOT_FOUND);
        assert_eq!(reply(Err(refusal(409, ""))).status(), StatusCode::CONFLICT);
        assert!(subjects.subjects.is_empty(), "what is refused leaves no subject");
    }
}
