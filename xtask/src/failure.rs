//! What went wrong, in words that tell a person what to do next.
//!
//! In: what failed, optionally the cause, the end of a log and a hint. Out: the text that main prints.
//! Never carries a secret: none is known here.

use std::fmt;
use std::path::Path;

pub type Result<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub struct Failure {
    what: String,
    hint: Option<String>,
    log_tail: Option<String>,
}

impl Failure {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None, log_tail: None }
    }

    /// A file operation that failed, with the file's name.
    pub fn file(did: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(format!("cannot {did} {}: {error}", path.display()))
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the last lines of a log file, if there is one.
    #[must_use]
    pub fn with_log(mut self, path: &Path) -> Self {
        if let Ok(text) = std::fs::read(path) {
            let tail = last_lines(&String::from_utf8_lossy(&text), 40);
            self.log_tail = Some(format!("the end of {}:\n{tail}", path.display()));
        }
        self
    }

    /// Adds lines that were chosen already.
    #[must_use]
    pub fn with_lines(mut self, lines: &str) -> Self {
        let lines = last_lines(lines.trim(), usize::MAX);
        if !lines.is_empty() {
            self.log_tail = Some(lines);
        }
        self
    }

    /// Adds what a program said last.
    #[must_use]
    pub fn with_output(mut self, output: &[u8]) -> Self {
        let tail = last_lines(&String::from_utf8_lossy(output), 40);
        if !tail.is_empty() {
            self.log_tail = Some(format!("it said:\n{tail}"));
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if let Some(tail) = &self.log_tail {
            write!(f, "\n{tail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(count);
    lines.iter().skip(skipped).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_what_then_evidence_then_hint() {
        let failure = Failure::new("the broker ended").with_output(b"a\nb\n").hint("look there");
        assert_eq!(failure.to_string(), "error: the broker ended\nit said:\n  a\n  b\nhint: look there");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text: String = (0..100).map(|n| format!("{n}\n")).collect();
        let tail = last_lines(&text, 2);
        assert_eq!(tail, "  98\n  99");
    }
}
