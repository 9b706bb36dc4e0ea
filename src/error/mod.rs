//! What can go wrong, in the user's words: a kind with a stable code, a context, a hint and a source.
//!
//! Comes in: the precise errors of the wire rooms, through one `From` or constructor per room.
//! Goes out: [`Error`], which every room above level 1 returns; what the program does about a kind is in
//! [`reaction`]. Never in here: tokens, bodies, record values.

mod kind;
mod reaction;

pub use kind::Kind;
pub use reaction::Reaction;

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error as the user meets it. `Display` is one line (what failed); [`Error::report`] adds what the program
/// does now and what the user can do.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    context: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, context: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, context: context.into(), hint: None, source: None }))
    }

    /// What to do next, on a line of its own; replaces the kind's general advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts what was being done in front of what failed: `full load of Account: …`.
    #[must_use]
    pub fn during(mut self, what: impl fmt::Display) -> Self {
        self.0.context = format!("{what}: {}", self.0.context);
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn context(&self) -> &str {
        &self.0.context
    }

    pub fn reaction(&self) -> Reaction {
        self.0.kind.reaction()
    }

    pub fn advice(&self) -> &str {
        self.0.hint.as_deref().unwrap_or_else(|| self.0.kind.advice())
    }

    /// The message for a terminal: three lines, without values or secrets.
    pub fn report(&self) -> String {
        let mut text = format!("error[{}]: {self}", self.kind().code());
        text.push_str(&format!("\n  now: {}", self.reaction().sentence()));
        text.push_str(&format!("\nhint: {}", self.advice()));
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.context.clone();
        let mut source = self.0.source.as_ref().map(|source| &**source as &dyn std::error::Error);
        while let Some(error) = source {
            let text = error.to_string();
            // Many libraries repeat their source in their own message; say it once.
            if !shown.contains(&text) {
                shown.push_str(": ");
                shown.push_str(&text);
            }
            source = error.source();
        }
        f.write_str(&shown)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.kind().code())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(Inner);
    #[derive(Debug)]
    struct Inner;

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "fetch failed: {}", self.0)
        }
    }

    impl fmt::Display for Inner {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("connection refused")
        }
    }

    impl std::error::Error for Inner {}

    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_cause_that_repeats_its_own_cause_is_said_once() {
        let error = Error::new(Kind::KafkaUnavailable, "Kafka does not answer").source(Outer(Inner));
        assert_eq!(error.to_string(), "Kafka does not answer: fetch failed: connection refused");
    }

    #[test]
    fn report_says_what_failed_what_happens_and_what_to_do() {
        let error =
            Error::new(Kind::TopicMissing, "topic crm.Account does not exist").during("object Account");
        let report = error.report();
        assert!(
            report.starts_with(
                "error[topic-missing]: object Account: topic crm.Account does not exist\n  now: "
            )
        );
        assert!(report.contains("\nhint: "));
    }
}
