//! What registering a schema would come to, for commands that look before a run.
//!
//! Comes in: subjects and schema texts. Goes out: whether the subject is new, holds the schema, takes it as its next version,
//! or refuses it and why. Nothing is registered and no level is set: a run does that, by the same rules.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Registry, SUBJECT_NOT_FOUND, Subject};
use crate::Result;
use crate::error::Kind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreseen {
    /// There is no such subject: this would be its first version.
    New,
    /// The subject holds the schema, under this id.
    Same(u32),
    /// The newest version lets it follow.
    NextVersion,
    /// In the words of the registry, or why it may not be registered.
    Refused(String),
}

impl Registry {
    /// What a run would meet when it registers this schema.
    pub async fn foresee(&self, subject: &Subject, schema: &str) -> Result<Foreseen> {
        let body = json!({"schema": schema, "schemaType": "AVRO"});
        let missing = match self.call(Method::POST, &["subjects", &subject.0], Some(&body)).await? {
            Ok(answer) => return Ok(Foreseen::Same(self.id(subject, &answer)?)),
            Err(refusal) if refusal.is_missing() => refusal,
            Err(refusal) => return Err(self.refused(&subject.0, &refusal)),
        };
        if !self.auto_register {
            return Ok(Foreseen::Refused(self.not_there(subject, &missing).context().to_owned()));
        }
        if missing.code == SUBJECT_NOT_FOUND {
            return Ok(Foreseen::New);
        }
        match self.check_compatibility(subject, &body).await {
            Ok(true) => Ok(Foreseen::NextVersion),
            Ok(false) => Ok(Foreseen::New),
            Err(error) if error.kind() == Kind::RegistryRefused => {
                Ok(Foreseen::Refused(error.context().to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// The compatibility level that holds for a subject: its own, or the registry's. None: the registry does not tell.
    pub async fn level(&self, subject: Option<&Subject>) -> Result<Option<String>> {
        if let Some(subject) = subject
            && let Some(level) = self.setting(&["config", &subject.0], "compatibilityLevel").await?
        {
            return Ok(Some(level));
        }
        self.setting(&["config"], "compatibilityLevel").await
    }

    /// `READWRITE`, or why nobody may register: `READONLY`. None: the registry does not tell.
    pub async fn mode(&self) -> Result<Option<String>> {
        self.setting(&["mode"], "mode").await
    }

    /// What the registry has no word for is not known; only its absence is an error.
    async fn setting(&self, path: &[&str], name: &str) -> Result<Option<String>> {
        let answer = match self.call(Method::GET, path, None).await? {
            Ok(answer) => answer,
            Err(_) => return Ok(None),
        };
        Ok(answer.get(name).and_then(Value::as_str).map(str::to_owned))
    }
}
