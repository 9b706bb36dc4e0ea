//! Log lines on stderr, beside progress bars and without tearing them.
//!
//! Comes in: `SF2KAFKA_LOG` (levels, as in `info` or `sf2kafka::capture=debug`) and the format. Goes out: lines for people
//! or JSON for machines. Secrets and record values are never logged, at no level.

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;

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
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(move || BesideBars(bars.clone()));
    match format {
        Format::Text => builder.compact().init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
    if let Some(mistake) = mistake {
        tracing::warn!("{VARIABLE} is not understood, logging as usual: {mistake}");
    }
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
    fn a_level_alone_is_for_the_program_and_nonsense_is_named() {
        let filter = |wanted| filter(wanted, Voice::Pipeline.filter());
        assert_eq!(filter(None).0.to_string(), filter(Some("info")).0.to_string());
        assert!(filter(Some("debug")).0.to_string().contains("sf2kafka=debug"));
        assert!(filter(Some("sf2kafka::capture=trace")).1.is_none());
        assert!(filter(Some("=,=")).1.is_some());
    }
}
