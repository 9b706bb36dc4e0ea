//! The door: arguments in, an exit code out; one file per command.
//!
//! Comes in: the command line, signals. Goes out: data on stdout, words on stderr, an exit code (0 done, 1 failed,
//! 2 usage or configuration, 3 differences found). Nobody imports this room.

mod check;
mod demo;
mod discover;
mod explain;
mod lockdown;
mod logging;
mod login;
mod offsets;
mod output;
mod progress;
mod run;
mod schemas;
mod simulator;
mod stop;
mod subjects;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use indicatif::MultiProgress;

use crate::error::{Kind, Reaction};
use crate::{Error, Result};

/// Streams Salesforce into Kafka as Avro, exactly once
#[derive(Debug, Parser)]
#[command(name = "sf2kafka", version, max_term_width = 100)]
#[command(after_help = "Begin with `sf2kafka demo`: it needs no org, no Kafka and no network.\n\
    `SF2KAFKA_LOG` sets what is logged: `info` (default), `debug`, or `sf2kafka::capture=debug`.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How log lines are written to stderr
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Logging")]
    log_format: logging::Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a practice org, a mock Kafka and a registry in this process, ending with a comparison
    Demo(demo::Arguments),
    /// Load the chosen objects and follow their changes, until Ctrl-C
    Run(run::Arguments),
    /// Test everything a run needs: a tick or a cross per line
    Check(check::Arguments),
    /// Log in by a browser and keep the login; other kinds of login are tried, and told who they are
    Login(login::Arguments),
    /// List the org's objects: rows, how each would be captured, and why some cannot be
    Discover(discover::Arguments),
    /// Write the schemas of all chosen objects as files, or compare them with the registry
    Schemas(schemas::Arguments),
    /// Where every object stands, from the control topic
    Offsets(offsets::Arguments),
    /// The practice Salesforce alone: OAuth, REST and Bulk API on loopback
    Simulator(simulator::Arguments),
    /// Print the page of an error code
    Explain(explain::Arguments),
}

/// The configuration file, as every command that reads one takes it.
#[derive(Debug, Args)]
struct ConfigArgument {
    /// Configuration file (YAML)
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: PathBuf,
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// The report holds something that is wrong.
    Failed,
    Differences,
}

pub fn main() -> ExitCode {
    lockdown::apply();
    let arguments = Arguments::parse();
    crate::salesforce::install_tls();
    let bars = MultiProgress::new();
    let voice = arguments.command.voice();
    logging::start(arguments.log_format, voice, &bars);
    match run(arguments.command, &bars) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Ok(Outcome::Differences) => ExitCode::from(3),
        Err(error) => {
            output::words(&message(&error, voice));
            ExitCode::from(exit_code(error.kind()))
        }
    }
}

fn run(command: Command, bars: &MultiProgress) -> Result<Outcome> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments, bars),
        Command::Run(arguments) => run::run(&arguments, bars),
        Command::Check(arguments) => check::run(&arguments),
        Command::Login(arguments) => login::run(&arguments),
        Command::Discover(arguments) => discover::run(&arguments, bars),
        Command::Schemas(arguments) => schemas::run(&arguments),
        Command::Offsets(arguments) => offsets::run(arguments),
        Command::Simulator(arguments) => simulator::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
    }
}

impl Command {
    fn voice(&self) -> logging::Voice {
        match self {
            Self::Run(_) | Self::Simulator(_) => logging::Voice::Pipeline,
            Self::Demo(_) => logging::Voice::Show,
            Self::Check(_)
            | Self::Login(_)
            | Self::Discover(_)
            | Self::Schemas(_)
            | Self::Offsets(_)
            | Self::Explain(_) => logging::Voice::Answer,
        }
    }
}

/// An error that comes out here ended the command, whatever a running pipeline would do about its kind.
fn message(error: &Error, voice: logging::Voice) -> String {
    let now = match voice {
        logging::Voice::Answer => String::new(),
        _ => format!("\n  now: {}", Reaction::StopProgram.sentence()),
    };
    format!("error[{}]: {error}{now}\nhint: {}", error.kind().code(), error.advice())
}

fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Usage | Kind::ConfigInvalid | Kind::SecretMissing => 2,
        Kind::DifferencesFound => 3,
        _ => 1,
    }
}

/// Runs one command's future to its end, on all cores.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime
        .map_err(|error| Error::new(Kind::Internal, "the async runtime cannot be started").source(error))?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_that_a_message_or_page_names_is_there() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = Arguments::command();
        let known: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
        let (mut folders, mut files) =
            (vec![root.join("src"), root.join("docs")], vec![root.join("README.md")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        let mut named = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for rest in text.split("`sf2kafka ").skip(1) {
                let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
                // Options, and the word that a message puts in.
                if !word.is_empty() {
                    named += 1;
                    assert!(known.contains(&word.as_str()), "{}: `sf2kafka {word}`", file.display());
                }
            }
        }
        assert!(named > 20, "{named}");
    }

    #[test]
    fn mistakes_of_the_user_end_with_two_and_differences_with_three() {
        assert_eq!(exit_code(Kind::ConfigInvalid), 2);
        assert_eq!(exit_code(Kind::SecretMissing), 2);
        assert_eq!(exit_code(Kind::DifferencesFound), 3);
        assert_eq!(exit_code(Kind::KafkaUnavailable), 1);
    }
}
