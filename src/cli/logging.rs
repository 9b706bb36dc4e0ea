//! Log lines on stderr, beside progress bars and without tearing them.
//!
//! Comes in: `SF2KAFKA_LOG` (levels, as in `info` or `sf2kafka::capture=debug`) and the format. Goes out: lines for people
//! or JSON for machines. Secrets and record values are never logged, at no level.

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

const VARIABLE: &str = "SF2KAFKA_LOG";
/// What a command logs unless the variable says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// A pipeline: libraries speak only when something is wrong.
    Pipeline,
    /// It shows what it does in its own way; only what goes wrong is logged.
    Show,
    /// A command that answers a question says what went wrong in its answer.
    Answer,
}

impl Voice {
    fn filter(self) -> &'static str {
        match self {
            Self::Pipeline => "warn,sf2kafka=info",
            Self::Show => "error,sf2kafka=warn",
            Self::Answer => "off,sf2kafka=error",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

pub(super) fn start(format: Format, voice: Voice, bars: &MultiProgress) {
    let wanted = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let (filter, mistake) = filter(wanted.as_deref(), voice.filter());
    let bars = bars.clone();
    let lines = fmt::layer()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(move || BesideBars(bars.clone()));
    let lines = match format {
        Format::Text => lines.compact().boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines)
        // Filters of all, not of the lines: those keep a state between lines that swallows some of them.
        .with(filter)
        .with(filter_fn(|of| may_speak(of.target(), *of.level())))
        .init();
    if let Some(mistake) = mistake {
        tracing::warn!("{VARIABLE} is not understood, logging as usual: {mistake}");
    }
}

/// Libraries that hold what goes over the wire: headers, bodies, addresses.
const ON_THE_WIRE: &[&str] = &[
    "h2",
    "hyper",
    "hyper_rustls",
    "hyper_util",
    "oauth2",
    "reqwest",
    "rustls",
    "tokio_rustls",
    "tonic",
    "tower",
];

/// Below INFO these libraries may print what they send, tokens included: whatever was asked for, that is no line.
fn may_speak(target: &str, level: Level) -> bool {
    let library = target.split("::").next().unwrap_or_default();
    level <= Level::INFO || !ON_THE_WIRE.contains(&library)
}

/// One word is a level for the program itself; anything else is taken as it stands.
fn filter(wanted: Option<&str>, default: &str) -> (EnvFilter, Option<String>) {
    let text = match wanted {
        None => default.to_owned(),
        Some(level) if level.parse::<tracing::Level>().is_ok() => format!("warn,sf2kafka={level}"),
        Some(other) => other.to_owned(),
    };
    match EnvFilter::builder().parse(&text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(default), Some(error.to_string())),
    }
}

/// Takes the bars off the screen while a line is written.
struct BesideBars(MultiProgress);

impl Write for BesideBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_speaks_on_the_wire_says_nothing_of_it_whatever_is_asked_for() {
        for target in
            ["h2", "h2::codec::framed_write", "hyper_util::client::legacy::pool", "tonic::transport"]
        {
            assert!(!may_speak(target, Level::TRACE) && !may_speak(target, Level::DEBUG), "{target}");
            assert!(may_speak(target, Level::INFO) && may_speak(target, Level::WARN), "{target}");
        }
        assert!(may_speak("sf2kafka::salesforce::transport", Level::TRACE) && may_speak("h2o", Level::TRACE));
    }

    #[test]
    fn a_level_alone_is_for_the_program_and_nonsense_is_named() {
        let filter = |wanted| filter(wanted, Voice::Pipeline.filter());
        assert_eq!(filter(None).0.to_string(), filter(Some("info")).0.to_string());
        assert!(filter(Some("debug")).0.to_string().contains("sf2kafka=debug"));
        assert!(filter(Some("sf2kafka::capture=trace")).1.is_none());
        assert!(filter(Some("=,=")).1.is_some());
    }
}
