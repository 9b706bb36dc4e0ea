//! The schema registry: Confluent's REST API, as several registries serve it.
//!
//! Comes in: subjects and schema texts. Goes out: ids. Compatibility is asked before a version is registered, so that a
//! refusal is told with the registry's reason; an outage is tried over and then an error that may pass. An id that was
//! told once is not asked for again: it never changes. A level is set only on a subject that we make. Credentials never show.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::{Compatibility, RegistrySettings, SubjectNaming};
use crate::error::Kind;
use crate::{Error, Result};

mod foresee;
mod subject;
mod wire;

pub use foresee::Foreseen;
pub use subject::Subject;

use subject::full_name;
use wire::{Answer, Refusal, SUBJECT_NOT_FOUND, Wire, cut};

/// Versions of a subject that are compared when a schema must be there already.
const MOST_VERSIONS: usize = 50;
/// Ids are four bytes in every record, and consumers read them as a signed number.
const LARGEST_ID: u64 = i32::MAX as u64;

#[derive(Clone, Debug)]
pub struct Registry {
    wire: Wire,
    naming: SubjectNaming,
    compatibility: Compatibility,
    auto_register: bool,
    /// The level that holds where a subject has none, if the registry tells.
    own_level: Arc<OnceCell<Option<String>>>,
    known: Arc<Mutex<Known>>,
    /// Whether it gives a schema the id that an earlier run was told.
    as_before: Arc<OnceCell<bool>>,
}

/// What the registry told.
#[derive(Debug, Default)]
struct Known {
    /// By subject and hash of the schema's text.
    ids: HashMap<(String, u128), u32>,
    /// The record that an id stands for.
    records: HashMap<u32, String>,
}

impl Registry {
    pub fn new(settings: &RegistrySettings) -> Result<Self> {
        Ok(Self {
            wire: Wire::new(settings)?,
            naming: settings.subjects,
            compatibility: settings.compatibility,
            auto_register: settings.auto_register,
            own_level: Arc::default(),
            known: Arc::default(),
            as_before: Arc::default(),
        })
    }

    /// The subject of a topic's values, as this registry's subjects are named.
    pub fn value_subject(&self, topic: &str, schema: &str) -> Subject {
        Subject::by(self.naming, Subject::value(topic), topic, schema)
    }

    /// The subject of a topic's keys.
    pub fn key_subject(&self, topic: &str, schema: &str) -> Subject {
        Subject::by(self.naming, Subject::key(topic), topic, schema)
    }

    /// The address that answered last.
    pub fn address(&self) -> &str {
        self.wire.address()
    }

    /// Whether the registry answers; for `check`.
    pub async fn ping(&self) -> Result<()> {
        self.call(Method::GET, &["subjects"], None)
            .await?
            .map(drop)
            .map_err(|refusal| refusal.error("subjects"))
    }

    /// Whether this is the registry that told earlier runs their ids: for the subject and the schema of `question` it has the
    /// id that it told. One question for a whole run, that of whoever comes first; false too if it was not answered. It is
    /// no word on other schemas: whoever writes by one asks for it.
    pub async fn is_as_before(
        &self,
        question: impl FnOnce() -> Result<(Subject, String, u32)>,
    ) -> Result<bool> {
        let ask = || async {
            let (subject, schema, id) = question()?;
            Ok(self.tells_again(&subject, &schema, id).await)
        };
        self.as_before.get_or_try_init(ask).await.copied()
    }

    async fn tells_again(&self, subject: &Subject, schema: &str, id: u32) -> bool {
        match self.find(subject, schema).await {
            Ok(Ok(told)) if told == id => true,
            Ok(told) => {
                let (subject, registry) = (&subject.0, self.address());
                let now = told.ok();
                tracing::warn!(
                    subject,
                    registry,
                    id,
                    now,
                    "the registry does not give a schema the id that records hold: it was emptied, or it is another one"
                );
                false
            }
            Err(error) => {
                tracing::debug!(%error, "whether the registry is as before is not known");
                false
            }
        }
    }

    /// The id of this schema under this subject, registered if it was not (and if that is allowed).
    pub async fn register(&self, subject: &Subject, schema: &str) -> Result<u32> {
        let known = (subject.0.clone(), xxh3_128(schema.as_bytes()));
        let told = self.known.lock().unwrap_or_else(PoisonError::into_inner).ids.get(&known).copied();
        if let Some(id) = told {
            return Ok(id);
        }
        let id = self.find_or_register(subject, schema).await?;
        self.remember(subject, known, schema, id)?;
        Ok(id)
    }

    /// An id that stands for two records would make readers take one for the other.
    fn remember(&self, subject: &Subject, known: (String, u128), schema: &str, id: u32) -> Result<()> {
        let record = full_name(schema).unwrap_or_default();
        let mut told = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let first = told.records.entry(id).or_insert_with(|| record.clone());
        if *first != record {
            let what = format!(
                "subject {}: the registry gives {record} the id {id}, which is that of {first}",
                subject.0
            );
            return Err(Error::new(Kind::RegistryRefused, what).hint(
                "its ids are not those of schemas: see the registry's settings for ids in Confluent's API",
            ));
        }
        told.ids.insert(known, id);
        Ok(())
    }

    async fn find_or_register(&self, subject: &Subject, schema: &str) -> Result<u32> {
        let missing = match self.find(subject, schema).await? {
            Ok(id) => return Ok(id),
            Err(missing) => missing,
        };
        if !self.auto_register {
            return Err(self.not_there(subject, &missing));
        }
        let body = body(schema);
        let is_new = missing.code == SUBJECT_NOT_FOUND || !self.check_compatibility(subject, &body).await?;
        let level = if is_new { self.level_to_set().await? } else { None };
        // A registry may know the level of a subject only once the subject is there.
        let level_is_set = match level {
            Some(level) => self.set_level(subject, level).await?.is_ok(),
            None => true,
        };
        let path = ["subjects", &subject.0, "versions"];
        let id = match self.call(Method::POST, &path, Some(&body)).await? {
            Ok(answer) => id(subject, &answer)?,
            Err(refusal) => return Err(refusal.error(&format!("subject {}", subject.0))),
        };
        if let Some(level) = level
            && !level_is_set
            && let Err(refusal) = self.set_level(subject, level).await?
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

    /// The id that the subject has for this schema, or how the registry says that it has none.
    async fn find(&self, subject: &Subject, schema: &str) -> Result<std::result::Result<u32, Refusal>> {
        let missing = match self.call(Method::POST, &["subjects", &subject.0], Some(&body(schema))).await? {
            Ok(answer) => return Ok(Ok(id(subject, &answer)?)),
            Err(refusal) if refusal.is_missing() => refusal,
            Err(refusal) => return Err(refusal.error(&format!("subject {}", subject.0))),
        };
        if missing.code == SUBJECT_NOT_FOUND {
            return Ok(Err(missing));
        }
        // Some registries look a schema up letter by letter: what a person registered from a file has other spaces.
        Ok(self.find_equal(subject, schema).await?.ok_or(missing))
    }

    /// Where schemas are registered by others all versions are looked through, the newest first; else the newest alone.
    async fn find_equal(&self, subject: &Subject, schema: &str) -> Result<Option<u32>> {
        let ours: Value = serde_json::from_str(schema)
            .map_err(|error| Error::new(Kind::Internal, "a schema of ours is no JSON").source(error))?;
        let mut versions = vec!["latest".to_owned()];
        if !self.auto_register {
            let listed = self.call(Method::GET, &["subjects", &subject.0, "versions"], None).await?;
            let listed = listed.ok().and_then(|answer| answer.as_array().cloned()).unwrap_or_default();
            let numbers = listed.iter().rev().filter_map(Value::as_u64).map(|number| number.to_string());
            versions.extend(numbers.skip(1).take(MOST_VERSIONS));
        }
        for version in versions {
            let Some(registered) = self.version(subject, &version).await? else { continue };
            if registered.text().is_some_and(|text| text == ours) {
                return Ok(Some(id(subject, &registered.0)?));
            }
        }
        Ok(None)
    }

    /// A version of a subject: a number, or `latest`. None: there is none.
    async fn version(&self, subject: &Subject, version: &str) -> Result<Option<Registered>> {
        match self.call(Method::GET, &["subjects", &subject.0, "versions", version], None).await? {
            Ok(answer) => Ok(Some(Registered(answer))),
            Err(refusal) if refusal.is_missing() => Ok(None),
            Err(refusal) => Err(refusal.error(&format!("subject {}", subject.0))),
        }
    }

    fn not_there(&self, subject: &Subject, missing: &Refusal) -> Error {
        let what = if missing.code == SUBJECT_NOT_FOUND {
            format!("subject {} is not there", subject.0)
        } else {
            format!("subject {} does not hold the schema that is needed", subject.0)
        };
        Error::new(Kind::RegistryRefused, format!("{what}, and auto_register is false")).hint(format!(
            "`sf2kafka schemas -c FILE --out DIR` writes it as `{}.avsc`: register that, or let somebody who may run once with `schema_registry.auto_register: true`",
            subject.0
        ))
    }

    /// Asks whether the newest version lets this one follow. False: there is no version yet.
    async fn check_compatibility(&self, subject: &Subject, body: &Value) -> Result<bool> {
        let path = ["compatibility", "subjects", &subject.0, "versions", "latest"];
        match self.call(Method::POST, &path, Some(body)).await? {
            Ok(answer) => compatible(subject, &answer, "the newest version").map(|()| true),
            Err(refusal) if refusal.is_missing() => Ok(false),
            Err(refusal) => Err(refusal.error(&format!("subject {}", subject.0))),
        }
    }

    /// The level that a subject gets when this program makes it; none: the registry's own holds.
    async fn level_to_set(&self) -> Result<Option<&'static str>> {
        match self.compatibility {
            Compatibility::Keep => Ok(None),
            Compatibility::Level(level) => Ok(Some(level)),
            // What an organisation has set for all its subjects is never loosened by a default of ours.
            Compatibility::AtLeastBackward => {
                let own = self.own_level().await?;
                Ok((own.is_none_or(|level| level == "NONE")).then_some("BACKWARD"))
            }
        }
    }

    async fn own_level(&self) -> Result<Option<&str>> {
        let ask = || self.setting(&["config"], "compatibilityLevel");
        Ok(self.own_level.get_or_try_init(ask).await?.as_deref())
    }

    /// The level of a subject that this program makes.
    async fn set_level(&self, subject: &Subject, level: &str) -> Result<Answer> {
        let level = json!({"compatibility": level});
        self.call(Method::PUT, &["config", &subject.0], Some(&level)).await
    }

    /// What the registry has no word for is not known; only its absence is an error.
    async fn setting(&self, path: &[&str], name: &str) -> Result<Option<String>> {
        match self.call(Method::GET, path, None).await? {
            Ok(answer) => Ok(answer.get(name).and_then(Value::as_str).map(str::to_owned)),
            Err(refusal) if matches!(refusal.status.as_u16(), 408 | 429 | 500..) => {
                Err(refusal.error("the registry's settings"))
            }
            Err(_) => Ok(None),
        }
    }

    async fn call(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Answer> {
        self.wire.call(method, path, body).await
    }
}

/// A version as the registry tells it.
struct Registered(Value);

impl Registered {
    fn text(&self) -> Option<Value> {
        serde_json::from_str(self.0.get("schema")?.as_str()?).ok()
    }
}

fn body(schema: &str) -> Value {
    json!({"schema": schema, "schemaType": "AVRO"})
}

fn id(subject: &Subject, answer: &Value) -> Result<u32> {
    let refused = |why: String| {
        Error::new(Kind::RegistryUnavailable, format!("subject {}: the registry's answer {why}", subject.0))
            .hint("check `schema_registry.url`: something else than a registry may answer there")
    };
    match answer.get("id") {
        None => Err(refused("holds no id".to_owned())),
        Some(told) => told
            .as_u64()
            .filter(|id| *id <= LARGEST_ID)
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| refused(format!("holds an id that no record can: {}", cut(&told.to_string())))),
    }
}

fn compatible(subject: &Subject, answer: &Value, with: &str) -> Result<()> {
    if answer.get("is_compatible").and_then(Value::as_bool) != Some(false) {
        return Ok(());
    }
    // Confluent's registry gives `messages`, Apicurio's a `reason`.
    let messages = answer.get("messages").and_then(Value::as_array).into_iter().flatten();
    let reasons: Vec<&str> = messages.chain(answer.get("reason")).filter_map(Value::as_str).collect();
    let reasons = if reasons.is_empty() { "no reason given".to_owned() } else { cut(&reasons.join("; ")) };
    let why = format!("the new schema is not compatible with {with}");
    Err(Error::new(Kind::RegistryRefused, format!("subject {}: {why}: {reasons}", subject.0)))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls;
