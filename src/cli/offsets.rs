//! `sf2kafka offsets list|show`: where every object stands, read from the control topic; no instance need run.
//!
//! Comes in: the control topic's newest committed records. Goes out: a table, or one record as it is. It claims nothing,
//! writes nothing, and does not disturb a running instance.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{self, FormatArgument, Table, count};
use super::{ConfigArgument, Outcome, block_on};
use crate::config::{self, Settings};
use crate::domain::{Capture, Position, Stamp, State};
use crate::error::Kind;
use crate::publish::{self, ControlRecordAt};
use crate::{Error, Result, status};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Where every object stands
    List {
        #[command(flatten)]
        config: ConfigArgument,
        #[command(flatten)]
        format: FormatArgument,
    },
    /// One object's control record as it is
    Show {
        /// API name of the object
        object: String,
        #[command(flatten)]
        config: ConfigArgument,
        #[command(flatten)]
        format: FormatArgument,
    },
}

const PREFIX: &str = "position/";

/// One line of the list.
#[derive(Debug, Serialize)]
struct Line {
    object: String,
    partition: i32,
    #[serde(flatten)]
    reading: Reading,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Reading {
    Position(Box<Position>),
    Unreadable { unreadable: String },
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    match arguments.what {
        What::List { config, format } => {
            let records = read(&config::load(&config.config)?)?;
            let lines = lines(&records);
            output::report(format.output, &lines, |lines| table(lines, status::now()));
            let unreadable = lines.iter().any(|line| matches!(line.reading, Reading::Unreadable { .. }));
            if unreadable {
                output::words(
                    "some control records cannot be read: `sf2kafka explain control-record-unreadable`",
                );
            }
            Ok(if unreadable { Outcome::Failed } else { Outcome::Done })
        }
        What::Show { object, config, format } => {
            let records = read(&config::load(&config.config)?)?;
            show(&records, &object, format.output)
        }
    }
}

fn read(settings: &Settings) -> Result<Vec<ControlRecordAt>> {
    let control = settings.control_topic();
    block_on(async {
        let reached = publish::check::reach(settings).await?;
        if reached.topics.iter().all(|(topic, _)| *topic != control) {
            let what = format!("pipeline {} has no control topic {control} yet", settings.name);
            return Err(Error::new(Kind::TopicMissing, what)
                .hint("the first `sf2kafka run` makes it; check `name` and `kafka.bootstrap_servers`"));
        }
        publish::read_control(settings).await
    })
}

fn lines(records: &[ControlRecordAt]) -> Vec<Line> {
    let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
    for record in records {
        let Some(object) = record.key.strip_prefix(PREFIX) else { continue };
        let reading = match Position::decode(&record.value) {
            Ok(position) => Reading::Position(Box::new(position)),
            Err(unreadable) => Reading::Unreadable { unreadable },
        };
        let line = Line { object: object.to_owned(), partition: record.partition, reading };
        lines.insert(object, line);
    }
    lines.into_values().collect()
}

fn table(lines: &Vec<Line>, now: Stamp) -> String {
    if lines.is_empty() {
        return "no object has a position yet".to_owned();
    }
    let mut table = Table::new(&["object", "state", "capture", "committed to", "behind", "load", "shard"]);
    for line in lines {
        let cells = match &line.reading {
            Reading::Position(position) => [
                line.object.clone(),
                state(position),
                match position.capture {
                    Capture::Poll => "poll",
                    Capture::Subscribe => "subscribe",
                    Capture::None => "not followed",
                }
                .to_owned(),
                position.committed_to.map_or("-".to_owned(), |to| to.to_string()),
                position.committed_to.map_or("-".to_owned(), |to| behind(now, to)),
                load(position),
                line.partition.to_string(),
            ],
            Reading::Unreadable { unreadable } => [
                line.object.clone(),
                "unreadable".to_owned(),
                "-".to_owned(),
                "-".to_owned(),
                "-".to_owned(),
                unreadable.clone(),
                line.partition.to_string(),
            ],
        };
        table.row(cells);
    }
    table.to_string()
}

fn state(position: &Position) -> String {
    let word = match position.state {
        State::Loading => "loading",
        State::Live => "live",
        State::Paused => "paused",
        State::Failed => "failed",
    };
    match &position.error {
        Some(code) => format!("{word} ({code})"),
        None => word.to_owned(),
    }
}

fn load(position: &Position) -> String {
    match &position.load {
        None => "-".to_owned(),
        Some(load) if load.done => format!("{} rows", count(load.rows)),
        Some(load) => match load.announced {
            Some(announced) => format!("{} of {} rows", count(load.rows), count(announced)),
            None => format!("{} rows so far", count(load.rows)),
        },
    }
}

/// Whole seconds up to two minutes, then minutes, then hours.
fn behind(now: Stamp, to: Stamp) -> String {
    let seconds = now.since(to).as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3_600),
    }
}

/// The record's own text, so that what this version cannot read is shown too.
fn show(records: &[ControlRecordAt], object: &str, format: output::Format) -> Result<Outcome> {
    let named = |record: &&ControlRecordAt| {
        record.key.strip_prefix(PREFIX).is_some_and(|name| name.eq_ignore_ascii_case(object))
    };
    let Some(record) = records.iter().find(named) else {
        let known: Vec<&str> = records.iter().filter_map(|record| record.key.strip_prefix(PREFIX)).collect();
        let hint = if known.is_empty() {
            "no object has a position yet".to_owned()
        } else {
            format!("there are {}", known.join(", "))
        };
        return Err(Error::new(Kind::Usage, format!("object {object} has no position")).hint(hint));
    };
    let ledger = records
        .iter()
        .filter(|other| other.key.strip_prefix("ledger/").is_some_and(|rest| belongs(rest, &record.key)))
        .count();
    match serde_json::from_slice::<serde_json::Value>(&record.value) {
        Ok(value) => output::report(format, &value, |value| {
            let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
            format!(
                "{} in control partition {}\n{pretty}\n{ledger} ledger records",
                record.key, record.partition
            )
        }),
        Err(_) => output::report(format, &String::from_utf8_lossy(&record.value), |text| {
            format!(
                "{} in control partition {}\n{text}\n{ledger} ledger records",
                record.key, record.partition
            )
        }),
    }
    match Position::decode(&record.value) {
        Ok(_) => Ok(Outcome::Done),
        Err(why) => Err(Error::new(
            Kind::ControlRecordUnreadable,
            format!("control record {} cannot be read: {why}", record.key),
        )),
    }
}

/// Whether the rest of a ledger key is of the object that the position key names.
fn belongs(rest: &str, position_key: &str) -> bool {
    let object = position_key.strip_prefix(PREFIX).unwrap_or_default();
    rest.strip_prefix(object).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &str) -> ControlRecordAt {
        ControlRecordAt { partition: 3, key: key.to_owned(), value: value.as_bytes().to_vec() }
    }

    const LIVE: &str = r#"{"version":1,"object":"Account","epoch":1,"state":"live","capture":"poll",
        "committed_to":"2026-05-19T08:30:00.000Z",
        "load":{"id":"x","started_at":"2026-05-19T08:00:00.000Z","rows":12345,"announced":12345,"done":true},
        "change_seq":"20260519083007120000000000000000001","updated_at":"2026-05-19T08:30:00Z"}"#;

    #[test]
    fn the_list_shows_positions_and_names_what_cannot_be_read() {
        let records = [
            record("position/Contact", "{}"),
            record("layout", r#"{"version":1,"partitions":8}"#),
            record("position/Account", LIVE),
            record("ledger/Account/1/2", "?"),
        ];
        let now = Stamp::parse(b"2026-05-19T08:35:00Z").unwrap();
        let text = table(&lines(&records), now);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 3, "{text}");
        let cells: Vec<&str> = rows[1].split_whitespace().collect();
        assert_eq!(
            cells,
            ["Account", "live", "poll", "2026-05-19T08:30:00.000Z", "5m", "12,345", "rows", "3"]
        );
        assert!(rows[2].starts_with("Contact  unreadable"), "{text}");
    }

    #[test]
    fn what_is_loaded_and_not_followed_says_so() {
        let loaded = LIVE.replace(r#""capture":"poll""#, r#""capture":"none""#);
        let text = table(&lines(&[record("position/Account", &loaded)]), Stamp::default());
        assert!(text.lines().nth(1).is_some_and(|line| line.contains("live   not followed")), "{text}");
    }

    #[test]
    fn an_object_without_a_position_is_refused_with_those_there_are() {
        let error = show(&[record("position/Account", LIVE)], "Acount", output::Format::Text).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (Kind::Usage, "there are Account"));
        assert!(belongs("Account/1", "position/Account") && !belongs("AccountShare/1", "position/Account"));
    }
}
