//! The registry side of a check: whether it answers, what it lets us do, and what would become of every schema.
//!
//! Comes in: settings, the objects' descriptions, the schemas that earlier runs wrote by. Goes out: lines, and each subject with
//! what registering would come to. Nothing is registered; no level is set.

use std::sync::Arc;

use futures_util::StreamExt;
use serde::Serialize;

use super::Line;
use super::kafka::Cluster;
use crate::config::{KeyFormat, RegistrySettings, Settings};
use crate::domain::ObjectDescription;
use crate::error::Kind;
use crate::pipeline::Chosen;
use crate::schema::{Foreseen, Registry, SchemaLineage, Subject, avro};
use crate::{Error, Result};

/// Questions under way at once.
const CONCURRENT: usize = 8;

#[derive(Debug, Serialize)]
pub(super) struct PlannedSubject {
    pub subject: String,
    pub object: String,
    #[serde(flatten)]
    pub outcome: Becomes,
    /// The compatibility level that holds, or that a run sets.
    pub level: Option<String>,
}

/// What a run makes of the subject.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(super) enum Becomes {
    New,
    Same { id: u32 },
    NextVersion,
    Refused { reason: String },
}

pub(super) async fn examine(
    settings: &Settings,
    objects: &[(&Chosen, &Arc<ObjectDescription>)],
    cluster: &Cluster,
) -> (Vec<Line>, Vec<PlannedSubject>) {
    let Some(of_registry) = &settings.schema_registry else { return (Vec::new(), Vec::new()) };
    let registry = match Registry::new(of_registry) {
        Ok(registry) => registry,
        Err(error) => return (vec![Line::cross("schema registry", &error)], Vec::new()),
    };
    let mut lines = Vec::new();
    match answers(&registry, of_registry).await {
        Ok(detail) => lines.push(Line::tick("schema registry", detail)),
        Err(error) => return (vec![Line::cross("schema registry", &error)], Vec::new()),
    }
    let mut questions = Vec::new();
    for (chosen, description) in objects {
        match texts(settings, chosen, description, cluster.lineages.get(&*chosen.name)) {
            Ok(texts) => questions.extend(texts),
            Err(error) => lines.push(Line::cross(format!("schemas of {}", chosen.name), &error)),
        }
    }
    let asked = futures_util::stream::iter(questions)
        .map(|question| ask(&registry, of_registry, question))
        .buffered(CONCURRENT)
        .collect::<Vec<_>>()
        .await;
    let mut subjects = Vec::new();
    for outcome in asked {
        match outcome {
            Ok(subject) => subjects.push(subject),
            Err(error) => {
                lines.push(Line::cross("subjects", &error));
                return (lines, subjects);
            }
        }
    }
    lines.extend(subject_lines(&subjects));
    (lines, subjects)
}

async fn answers(registry: &Registry, settings: &RegistrySettings) -> Result<String> {
    registry.ping().await?;
    let mode = registry.mode().await?;
    if let Some(mode) = mode.filter(|mode| settings.auto_register && mode.starts_with("READONLY")) {
        return Err(Error::new(Kind::RegistryRefused, format!("it is in mode {mode}: nobody may register"))
            .hint(
                "set its mode to READWRITE, or register all schemas elsewhere and set `auto_register: false`",
            ));
    }
    Ok(format!("answers at {}", settings.url))
}

/// A subject and the text that a run would register under it.
struct Question {
    object: String,
    subject: Subject,
    text: String,
    /// The id of the key schema that the topic's keys hold.
    pinned: Option<u32>,
}

/// The same texts that a run would make.
fn texts(
    settings: &Settings,
    chosen: &Chosen,
    description: &ObjectDescription,
    pinned: Option<&SchemaLineage>,
) -> Result<Vec<Question>> {
    let lineage = SchemaLineage::merge(pinned, description);
    let object = chosen.name.to_string();
    let mut questions = Vec::new();
    for output in &chosen.settings.outputs {
        let topic = output.topic_for(&settings.name, &description.target_name);
        let text = avro::change_table(&lineage, output)?;
        let subject = Subject::value(&topic);
        questions.push(Question { object: object.clone(), subject, text, pinned: None });
        if output.key == KeyFormat::Record {
            let (subject, text) = (Subject::key(&topic), avro::key(&lineage, output));
            let pinned = lineage.key_ids.get(&topic).copied();
            questions.push(Question { object: object.clone(), subject, text, pinned });
        }
    }
    Ok(questions)
}

async fn ask(registry: &Registry, settings: &RegistrySettings, question: Question) -> Result<PlannedSubject> {
    let Question { object, subject, text, pinned } = question;
    let outcome = match registry.foresee(&subject, &text).await? {
        Foreseen::New if pinned.is_none() => Becomes::New,
        Foreseen::Same(id) if pinned.is_none_or(|pinned| pinned == id) => Becomes::Same { id },
        Foreseen::NextVersion if pinned.is_none() => Becomes::NextVersion,
        Foreseen::Refused(reason) => Becomes::Refused { reason },
        _ => Becomes::Refused {
            reason: "the topic's keys hold another schema id: this is not the registry it was written with"
                .to_owned(),
        },
    };
    let level = match outcome {
        Becomes::New => Some(settings.compatibility.clone()),
        _ => registry.level(Some(&subject)).await?,
    };
    Ok(PlannedSubject { subject: subject.0, object, outcome, level })
}

fn subject_lines(subjects: &[PlannedSubject]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for subject in subjects {
        if let Becomes::Refused { reason } = &subject.outcome {
            let error = Error::new(Kind::RegistryRefused, reason);
            lines.push(Line::cross(format!("subject {}", subject.subject), &error));
        }
    }
    if lines.is_empty() && !subjects.is_empty() {
        let new = subjects.iter().filter(|subject| subject.outcome == Becomes::New).count();
        let next = subjects.iter().filter(|subject| subject.outcome == Becomes::NextVersion).count();
        let same = subjects.len() - new - next;
        let detail = format!("{same} hold what is needed, {next} take a new version, {new} would be new");
        lines.push(Line::tick("subjects", detail));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str, outcome: Becomes) -> PlannedSubject {
        PlannedSubject { subject: name.to_owned(), object: "A".to_owned(), outcome, level: None }
    }

    #[test]
    fn a_refused_subject_is_a_cross_of_its_own_and_all_others_one_line() {
        let mut subjects = vec![
            subject("a-key", Becomes::Same { id: 7 }),
            subject("a-value", Becomes::NextVersion),
            subject("b-key", Becomes::New),
        ];
        let lines = subject_lines(&subjects);
        let detail = lines.first().unwrap().detail.as_str();
        assert_eq!(detail, "1 hold what is needed, 1 take a new version, 1 would be new");
        subjects.push(subject("b-value", Becomes::Refused { reason: "b-value: not compatible".to_owned() }));
        let lines = subject_lines(&subjects);
        assert_eq!(lines.len(), 1);
        let line = lines.first().unwrap();
        assert_eq!((line.what.as_str(), line.code), ("subject b-value", Some("registry-refused")));
    }
}
