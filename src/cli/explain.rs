//! `sf2kafka explain CODE`: the page of an error code, from inside the program.
//!
//! Comes in: a code as messages show it. Goes out: its page of `docs/errors/`. Tests hold that every kind has a page and
//! every page a kind.

use super::{Outcome, output};
use crate::error::Kind;
use crate::{Error, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The code in brackets of a message: `topic-missing` of `error[topic-missing]`; without it: all codes
    code: Option<String>,
}

macro_rules! pages {
    ($($code:literal)*) => {
        /// Code and page, as the messages spell the code.
        const PAGES: &[(&str, &str)] =
            &[$(($code, include_str!(concat!("../../docs/errors/", $code, ".md")))),*];
    };
}

pages! {
    "api-disabled" "api-limit-reached" "blob-missing" "bulk-job-failed" "bulk-job-gone" "bulk-refused" "commit-failed"
    "config-invalid" "control-record-unreadable" "control-topic-changed" "deletions-lost"
    "differences-found" "event-unreadable" "events-limit-reached" "field-unknown" "internal"
    "kafka-misconfigured" "kafka-refused" "kafka-unavailable" "load-incomplete" "login-needed" "login-refused"
    "network-failed" "object-forbidden" "object-misconfigured" "object-unknown" "object-unsupported" "org-locked" "org-moved"
    "pubsub-unavailable" "query-locator-gone" "query-refused" "query-timeout" "record-locked" "record-too-large"
    "registry-refused" "registry-unavailable" "replay-id-expired" "reply-truncated" "reply-unreadable"
    "request-too-large" "salesforce-error" "salesforce-maintenance" "salesforce-throttled"
    "salesforce-unavailable" "schema-unsupported" "secret-missing" "session-expired" "shard-fenced"
    "shard-lost" "subscription-refused" "token-store-failed" "too-many-ids" "topic-missing" "usage" "value-unfit"
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let Some(wanted) = &arguments.code else {
        let mut table = output::Table::new(&["code", "what to do"]);
        for kind in Kind::ALL {
            table.row([kind.code().to_owned(), kind.advice().to_owned()]);
        }
        output::data(table.to_string().trim_end());
        return Ok(Outcome::Done);
    };
    // People paste what they see.
    let code = wanted.trim_start_matches("error[").trim_end_matches([']', ':']).to_lowercase();
    match PAGES.iter().find(|(known, _)| *known == code) {
        Some((_, page)) => {
            output::data(page.trim_end());
            Ok(Outcome::Done)
        }
        None => {
            let error = Error::new(Kind::Usage, format!("there is no error code `{wanted}`"));
            let near = PAGES
                .iter()
                .map(|(known, _)| (strsim::damerau_levenshtein(&code, known), known))
                .filter(|(distance, _)| *distance <= 4)
                .min();
            Err(match near {
                Some((_, known)) => error.hint(format!("did you mean `sf2kafka explain {known}`?")),
                None => error.hint("`sf2kafka explain` lists all codes"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_kind_has_its_page_and_no_page_is_orphaned() {
        let kinds: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.code().to_owned()).collect();
        let embedded: BTreeSet<String> = PAGES.iter().map(|(code, _)| (*code).to_owned()).collect();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
        let files: BTreeSet<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().trim_end_matches(".md").to_owned())
            .collect();
        assert_eq!(kinds, files, "write docs/errors/<code>.md");
        assert_eq!(kinds, embedded, "list the page in this file");
    }

    #[test]
    fn every_page_says_what_happened_what_the_program_does_and_what_you_can_do() {
        for (code, page) in PAGES {
            let headings: Vec<&str> = page.lines().filter(|line| line.starts_with('#')).collect();
            let title = format!("# {code}");
            let wanted =
                [title.as_str(), "## What happened", "## What the program does now", "## What you can do"];
            assert_eq!(headings, wanted, "{code}");
        }
    }

    #[test]
    fn an_unknown_code_names_the_nearest() {
        let error = run(&Arguments { code: Some("error[topic-mising]:".to_owned()) }).unwrap_err();
        assert_eq!(error.advice(), "did you mean `sf2kafka explain topic-missing`?");
    }
}
