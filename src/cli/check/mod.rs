//! `sf2kafka check`: everything a run needs, tested: a tick or a cross per line. With `--plan` also what a run would do and cost.
//!
//! Comes in: a configuration. Goes out: a report; each cross says what to do, and makes the exit code 1. Salesforce, Kafka and
//! the registry are asked side by side, and many objects by one call. It reads one row of each object (a plan a few more),
//! makes no topic, registers no schema, publishes nothing.

mod kafka;
mod objects;
mod plan;
mod schemas;

use clap::Args;
use serde::Serialize;

use super::output::{self, FormatArgument};
use super::{ConfigArgument, Outcome, block_on};
use crate::config::{self, Settings};
use crate::{Error, Result};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Also tell what a run would do, and what it would cost in calls
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    format: FormatArgument,
}

#[derive(Debug, Serialize)]
struct Line {
    what: String,
    passed: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Line {
    fn tick(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { what: what.into(), passed: true, detail: detail.into(), code: None, hint: None }
    }

    fn cross(what: impl Into<String>, error: &Error) -> Self {
        Self {
            what: what.into(),
            passed: false,
            detail: error.to_string(),
            code: Some(error.kind().code()),
            hint: Some(error.advice().to_owned()),
        }
    }

    fn of(what: impl Into<String>, outcome: Result<String>) -> Self {
        match outcome {
            Ok(detail) => Self::tick(what, detail),
            Err(error) => Self::cross(what, &error),
        }
    }
}

/// With `--plan`; without it a report for machines is the lines alone.
#[derive(Debug, Serialize)]
struct Report {
    checks: Vec<Line>,
    /// None: something that it rests on failed.
    plan: Option<plan::Plan>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let file = arguments.config.config.display().to_string();
    let settings = match config::load(&arguments.config.config) {
        Ok(settings) => settings,
        Err(error) => {
            // What the file says decides everything else; the message itself goes to stderr.
            if arguments.format.output == output::Format::Json {
                output::report(output::Format::Json, &[Line::cross("configuration", &error)], |_| {
                    String::new()
                });
            }
            return Err(error);
        }
    };
    let first = Line::tick("configuration", format!("{file}: pipeline {}", settings.name));
    let (mut checks, plan) = block_on(async { Ok(look(&settings, arguments.plan).await) })?;
    checks.insert(0, first);
    let (all, failed) = (checks.len(), checks.iter().filter(|line| !line.passed).count());
    if arguments.plan {
        let report = Report { checks, plan };
        output::report(arguments.format.output, &report, |report| {
            let plan = report.plan.as_ref().map(plan::text).unwrap_or_default();
            format!("{}\n{plan}", text(&report.checks))
        });
    } else {
        output::report(arguments.format.output, &checks, |lines| text(lines));
    }
    if failed > 0 {
        output::words(&format!("{failed} of {all} checks failed"));
        return Ok(Outcome::Failed);
    }
    Ok(Outcome::Done)
}

/// All that is asked; the report keeps its order, whoever takes its time.
async fn look(settings: &Settings, wants_plan: bool) -> (Vec<Line>, Option<plan::Plan>) {
    let (mut org, mut cluster) =
        futures_util::future::join(objects::examine(settings, wants_plan), kafka::examine(settings)).await;
    let (of_topics, of_subjects) = futures_util::future::join(
        kafka::topics(settings, &org.captured(), &cluster),
        schemas::examine(settings, &org.captured(), &cluster),
    )
    .await;
    let mut lines = std::mem::take(&mut org.lines);
    lines.append(&mut cluster.lines);
    let ((of_topics, topics), (of_schemas, subjects)) = (of_topics, of_subjects);
    cluster.topics = topics;
    lines.extend(of_topics);
    lines.extend(of_schemas);
    let plan = wants_plan.then(|| plan::make(settings, &org, &cluster, subjects)).flatten();
    (lines, plan)
}

fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let mark = if line.passed { '✓' } else { '✗' };
        text.push_str(&format!("{mark} {}: {}\n", line.what, line.detail));
        if let Some(hint) = &line.hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_cross_says_what_to_do_on_the_line_below() {
        let lines = [
            Line::tick("login", "org 00D at https://x"),
            Line::cross("Kafka", &Error::new(Kind::KafkaUnavailable, "Kafka does not answer")),
        ];
        let text = text(&lines);
        assert!(
            text.starts_with("✓ login: org 00D at https://x\n✗ Kafka: Kafka does not answer\n  hint: "),
            "{text}"
        );
    }
}
