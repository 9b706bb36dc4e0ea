//! What registering a schema would come to, for commands that look before a run.
//!
//! Comes in: subjects and schema texts. Goes out: whether the subject is new, holds the schema, takes it as its next version,
//! or refuses it and why; and what it holds now. Nothing is registered and no level is set: a run does that, by the same rules.

use reqwest::Method;
use serde_json::Value;

use super::{Registry, SUBJECT_NOT_FOUND, Subject, body, compatible};
use crate::error::Kind;
use crate::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreseen {
    /// There is no such subject: this would be its first version.
    New,
    /// The subject holds the schema, under this id.
    Same(u32),
    /// The newest version lets it follow.
    NextVersion,
    /// In the words of the registry, or why it may not be registered; and what can be done.
    Refused { reason: String, hint: String },
}

impl Foreseen {
    /// An error that would stop the object.
    pub fn refused(error: &Error) -> Self {
        Self::Refused { reason: error.context().to_owned(), hint: error.advice().to_owned() }
    }
}

impl Registry {
    /// What a run would meet when it registers this schema.
    pub async fn foresee(&self, subject: &Subject, schema: &str) -> Result<Foreseen> {
        let missing = match self.find(subject, schema).await? {
            Ok(id) => return Ok(Foreseen::Same(id)),
            Err(missing) => missing,
        };
        if !self.auto_register {
            return Ok(Foreseen::refused(&self.not_there(subject, &missing)));
        }
        if missing.code == SUBJECT_NOT_FOUND {
            return Ok(Foreseen::New);
        }
        let outcome = async {
            if !self.check_compatibility(subject, &body(schema)).await? {
                return Ok(Foreseen::New);
            }
            self.check_all_versions(subject, schema).await.map(|()| Foreseen::NextVersion)
        };
        match outcome.await {
            Err(error) if error.kind() == Kind::RegistryRefused => Ok(Foreseen::refused(&error)),
            outcome => outcome,
        }
    }

    /// A transitive level asks all versions, which registering would show too late for a report.
    async fn check_all_versions(&self, subject: &Subject, schema: &str) -> Result<()> {
        let level = self.level(Some(subject)).await?;
        if !level.is_some_and(|level| level.ends_with("_TRANSITIVE")) {
            return Ok(());
        }
        let path = ["compatibility", "subjects", &subject.0, "versions"];
        match self.call(Method::POST, &path, Some(&body(schema))).await? {
            Ok(answer) => compatible(subject, &answer, "an earlier version"),
            // Not every registry answers this.
            Err(_) => Ok(()),
        }
    }

    /// The newest schema of a subject, as it was registered. None: there is none.
    pub async fn newest(&self, subject: &Subject) -> Result<Option<Value>> {
        Ok(self.version(subject, "latest").await?.and_then(|registered| registered.text()))
    }

    /// The compatibility level that holds for a subject: its own, or the registry's. None: the registry does not tell.
    pub async fn level(&self, subject: Option<&Subject>) -> Result<Option<String>> {
        if let Some(subject) = subject
            && let Some(level) = self.setting(&["config", &subject.0], "compatibilityLevel").await?
        {
            return Ok(Some(level));
        }
        Ok(self.own_level().await?.map(str::to_owned))
    }

    /// The level that a subject would have which a run makes.
    pub async fn level_of_new(&self) -> Result<Option<String>> {
        match self.level_to_set().await? {
            Some(level) => Ok(Some(level.to_owned())),
            None => Ok(self.own_level().await?.map(str::to_owned)),
        }
    }

    /// `READWRITE`, or why nobody may register: `READONLY`. None: the registry does not tell.
    pub async fn mode(&self) -> Result<Option<String>> {
        self.setting(&["mode"], "mode").await
    }
}
