//! The registry side of a check: whether it answers, what it lets us do, and what would become of every schema.
//!
//! Comes in: settings, the objects' descriptions, the schemas that earlier runs wrote by. Goes out: lines, and each subject with
//! what registering would come to. Nothing is registered; no level is set.

use std::sync::Arc;

use futures_util::StreamExt;
use serde::Serialize;

use super::Line;
use super::kafka::Cluster;
use crate::cli::subjects::{self, Becomes, Wanted};
use crate::config::{RegistrySettings, Settings};
use crate::domain::ObjectDescription;
use crate::error::Kind;
use crate::pipeline::Chosen;
use crate::schema::Registry;
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
        let pinned = cluster.lineages.get(&*chosen.name);
        match subjects::of_object(settings, &registry, &chosen.settings, description, pinned) {
            Ok(wanted) => questions.extend(wanted),
            Err(error) => lines.push(Line::cross(format!("schemas of {}", chosen.name), &error)),
        }
    }
    let asked = futures_util::stream::iter(questions)
        .map(|question| ask(&registry, question))
        .buffered(CONCURRENT)
        .collect::<Vec<_>>()
        .await;
    let mut planned = Vec::new();
    for outcome in asked {
        match outcome {
            Ok(subject) => planned.push(subject),
            Err(error) => {
                lines.push(Line::cross("subjects", &error));
                return (lines, planned);
            }
        }
    }
    lines.extend(subject_lines(&planned));
    (lines, planned)
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
    Ok(format!("answers at {}", registry.address()))
}

async fn ask(registry: &Registry, wanted: Wanted) -> Result<PlannedSubject> {
    let (outcome, level) = subjects::ask(registry, &wanted).await?;
    Ok(PlannedSubject { subject: wanted.subject.0, object: wanted.object, outcome, level })
}

fn subject_lines(subjects: &[PlannedSubject]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for subject in subjects {
        if let Becomes::Refused { reason, hint } = &subject.outcome {
            let error = Error::new(Kind::RegistryRefused, reason).hint(hint);
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
        let (reason, hint) = ("b-value: not compatible".to_owned(), "look".to_owned());
        subjects.push(subject("b-value", Becomes::Refused { reason, hint }));
        let lines = subject_lines(&subjects);
        assert_eq!(lines.len(), 1);
        let line = lines.first().unwrap();
        assert_eq!((line.what.as_str(), line.code), ("subject b-value", Some("registry-refused")));
    }
}
