//! `sf2kafka schemas`: the schemas that a run registers, as files, or compared with what the registry holds.
//!
//! Comes in: a configuration, the org's descriptions, what the control topic pins of earlier runs. Goes out: a file for each
//! subject, a report. With `--check` the exit code is 3 if a run would register anything; 1 if something could not be told.
//! Nothing is registered, no level is set, no topic is made or written to.

mod made;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use futures_util::StreamExt;
use serde::Serialize;

use super::output::{self, FormatArgument, Table};
use super::subjects::{self, Becomes, Wanted};
use super::{ConfigArgument, Outcome, block_on};
use crate::config::{self, Settings};
use crate::error::Kind;
use crate::schema::Registry;
use crate::schema::difference::{Difference, What, differences};
use crate::{Error, Result};

/// Questions to the registry under way at once.
const CONCURRENT: usize = 8;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(["out", "check"])))]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Write every schema into this folder, as `<subject>.avsc`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Compare with the registry: what would change, and whether it may; exit code 3 if anything would
    #[arg(long)]
    check: bool,
    /// Only objects and platform events of this name or glob, such as `Account` or `et4ae5__*`
    #[arg(long, value_name = "GLOB")]
    object: Option<String>,
    /// Do not ask Kafka for the names and places that earlier runs gave to fields: right before the first run only
    #[arg(long)]
    without_kafka: bool,
    #[command(flatten)]
    format: FormatArgument,
}

#[derive(Debug, Serialize)]
struct Report {
    subjects: Vec<Line>,
    /// Objects and platform events whose schemas could not be made.
    failures: Vec<Failure>,
}

#[derive(Debug, Serialize)]
struct Line {
    subject: String,
    object: String,
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(flatten)]
    compared: Option<Compared>,
}

#[derive(Debug, Serialize)]
struct Compared {
    #[serde(flatten)]
    outcome: Becomes,
    /// The compatibility level that holds, or that a run sets. None: the registry does not tell.
    level: Option<String>,
    /// Against the newest version.
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize)]
struct Failure {
    object: String,
    code: &'static str,
    error: String,
    hint: String,
}

impl Failure {
    fn new(object: &str, error: &Error) -> Self {
        Self {
            object: object.to_owned(),
            code: error.kind().code(),
            error: error.to_string(),
            hint: error.advice().to_owned(),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let settings = config::load(&arguments.config.config)?;
    let report = block_on(look(&settings, arguments))?;
    output::report(arguments.format.output, &report, |report| text(report, arguments.check));
    output::words(&summary(&report, arguments.check));
    let differs = |line: &Line| {
        line.compared.as_ref().is_some_and(|compared| !matches!(compared.outcome, Becomes::Same { .. }))
    };
    Ok(match (report.failures.is_empty(), report.subjects.iter().any(differs)) {
        (false, _) => Outcome::Failed,
        (true, true) => Outcome::Differences,
        (true, false) => Outcome::Done,
    })
}

async fn look(settings: &Settings, arguments: &Arguments) -> Result<Report> {
    let of_registry = settings.schema_registry.as_ref().ok_or_else(|| {
        Error::new(Kind::ConfigInvalid, "`schema_registry` is missing: Avro needs a registry")
    })?;
    let registry = Registry::new(of_registry)?;
    let made =
        made::schemas(settings, &registry, arguments.object.as_deref(), arguments.without_kafka).await?;
    let (wanted, clashes) = each_once(made.wanted);
    let mut failures = made.failures;
    failures.extend(clashes);
    let mut lines: Vec<Line> = wanted
        .iter()
        .map(|wanted| Line {
            subject: wanted.subject.0.clone(),
            object: wanted.object.clone(),
            topic: wanted.topic.clone(),
            file: None,
            compared: None,
        })
        .collect();
    if let Some(folder) = &arguments.out {
        write_all(folder, &wanted, &mut lines)?;
    }
    if arguments.check {
        let compared: Vec<Result<Compared>> = futures_util::stream::iter(&wanted)
            .map(|wanted| compare(&registry, wanted))
            .buffered(CONCURRENT)
            .collect()
            .await;
        for (line, compared) in lines.iter_mut().zip(compared) {
            line.compared = Some(compared?);
        }
    }
    Ok(Report { subjects: lines, failures })
}

/// Subjects that are named by record may be met twice; under one subject there is one schema.
fn each_once(wanted: Vec<Wanted>) -> (Vec<Wanted>, Vec<Failure>) {
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    let (mut kept, mut clashes): (Vec<Wanted>, Vec<Failure>) = Default::default();
    for wanted in wanted {
        let known = first.get(&wanted.subject.0).and_then(|place| kept.get(*place));
        match known {
            Some(known) if known.text == wanted.text => {}
            Some(known) => {
                let what = format!(
                    "subject {} would hold two schemas, of topics {} and {}",
                    wanted.subject.0, known.topic, wanted.topic
                );
                let error = Error::new(Kind::SchemaUnsupported, what)
                    .hint("give one of the outputs another `namespace`, or set `subjects: topic-record`");
                clashes.push(Failure::new(&wanted.object, &error));
            }
            None => {
                first.insert(wanted.subject.0.clone(), kept.len());
                kept.push(wanted);
            }
        }
    }
    (kept, clashes)
}

fn write_all(folder: &Path, wanted: &[Wanted], lines: &mut [Line]) -> Result<()> {
    let failed = |path: &Path, error: std::io::Error| {
        Error::new(Kind::Usage, format!("{} cannot be written", path.display()))
            .source(error)
            .hint("give a folder that this user may write: `--out DIR`")
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for (wanted, line) in wanted.iter().zip(lines) {
        let path = folder.join(format!("{}.avsc", wanted.subject.0));
        let text = pretty(&wanted.text)?;
        // A file that says the same stays as it is, for whoever goes by its time.
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
        }
        line.file = Some(path.display().to_string());
    }
    Ok(())
}

/// For people; equal to what is registered but for the spaces.
fn pretty(schema: &str) -> Result<String> {
    let failed = |error| Error::new(Kind::Internal, "a schema of ours is no JSON").source(error);
    let value: serde_json::Value = serde_json::from_str(schema).map_err(failed)?;
    serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(failed)
}

async fn compare(registry: &Registry, wanted: &Wanted) -> Result<Compared> {
    let (outcome, level) = subjects::ask(registry, wanted).await?;
    let differences = match outcome {
        Becomes::New | Becomes::Same { .. } => Vec::new(),
        Becomes::NextVersion | Becomes::Refused { .. } => {
            let next = serde_json::from_str(&wanted.text)
                .map_err(|error| Error::new(Kind::Internal, "a schema of ours is no JSON").source(error))?;
            registry.newest(&wanted.subject).await?.map_or(Vec::new(), |now| differences(&now, &next))
        }
    };
    Ok(Compared { outcome, level, differences })
}

fn text(report: &Report, checked: bool) -> String {
    let mut text = String::new();
    if checked {
        for line in &report.subjects {
            text.push_str(&compared_text(line));
        }
    } else {
        let mut table = Table::new(&["object", "subject", "file"]);
        for line in &report.subjects {
            table.row([line.object.clone(), line.subject.clone(), line.file.clone().unwrap_or_default()]);
        }
        text = table.to_string();
    }
    for failure in &report.failures {
        let Failure { object, code, error, hint } = failure;
        text.push_str(&format!("✗ {object}: error[{code}]: {error}\n  hint: {hint}\n"));
    }
    text
}

fn compared_text(line: &Line) -> String {
    let Some(Compared { outcome, level, differences }) = &line.compared else { return String::new() };
    let level = level.as_deref().map_or(String::new(), |level| format!(" (level {level})"));
    let (says, hint) = match outcome {
        Becomes::New => (format!("new subject{level}"), None),
        Becomes::Same { id } => (format!("same, id {id}"), None),
        Becomes::NextVersion => (format!("next version, compatible{level}"), None),
        Becomes::Refused { reason, hint } => (format!("refused{level}: {reason}"), Some(hint)),
    };
    let mut text = format!("{}: {says}\n", line.subject);
    for difference in differences {
        let mark = match difference.what {
            What::Added => '+',
            What::Removed => '-',
            What::Type | What::Default | What::Order | What::Name | What::Description => '~',
        };
        text.push_str(&format!("  {mark} {}\n", difference.words));
    }
    if let Some(hint) = hint {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    text
}

fn summary(report: &Report, checked: bool) -> String {
    let all = report.subjects.len();
    let mut words = format!("{all} {}", if all == 1 { "subject" } else { "subjects" });
    if checked {
        let count = |is: fn(&Becomes) -> bool| {
            let compared = report.subjects.iter().filter_map(|line| line.compared.as_ref());
            compared.filter(|compared| is(&compared.outcome)).count()
        };
        words.push_str(&format!(
            ": {} as registered, {} new, {} with a new version, {} refused",
            count(|outcome| matches!(outcome, Becomes::Same { .. })),
            count(|outcome| matches!(outcome, Becomes::New)),
            count(|outcome| matches!(outcome, Becomes::NextVersion)),
            count(|outcome| matches!(outcome, Becomes::Refused { .. })),
        ));
    }
    if !report.failures.is_empty() {
        words.push_str(&format!("; {} could not be made", report.failures.len()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Subject;

    fn wanted(subject: &str, topic: &str, text: &str) -> Wanted {
        Wanted {
            object: "A".to_owned(),
            topic: topic.to_owned(),
            subject: Subject(subject.to_owned()),
            text: text.to_owned(),
            pinned: None,
        }
    }

    #[test]
    fn a_subject_that_two_topics_share_is_one_line_if_they_agree_and_a_failure_if_not() {
        let (kept, clashes) = each_once(vec![
            wanted("s.A", "one", "{}"),
            wanted("s.A", "two", "{}"),
            wanted("s.A", "three", "[]"),
        ]);
        assert_eq!(kept.len(), 1);
        assert_eq!(clashes.len(), 1);
        assert!(clashes[0].error.contains("of topics one and three"), "{}", clashes[0].error);
    }

    #[test]
    fn a_comparison_reads_line_by_line() {
        let difference = |what, words: &str| Difference { what, field: None, words: words.to_owned() };
        let compared = Compared {
            outcome: Becomes::Refused { reason: "not compatible".to_owned(), hint: "look".to_owned() },
            level: Some("FULL".to_owned()),
            differences: vec![
                difference(What::Removed, "field A removed: int"),
                difference(What::Added, "field B added: int"),
                difference(What::Order, "the fields stand in another order"),
            ],
        };
        let line = Line {
            subject: "crm.A-value".to_owned(),
            object: "A".to_owned(),
            topic: "crm.A".to_owned(),
            file: None,
            compared: Some(compared),
        };
        assert_eq!(
            compared_text(&line),
            "crm.A-value: refused (level FULL): not compatible\n  - field A removed: int\n  + field B added: int\n  \
             ~ the fields stand in another order\n  hint: look\n"
        );
    }
}
