//! Licences, banned and doubled crates, sources (deny.toml), and known vulnerabilities if they can be looked up.
//!
//! In: the lock file. Out: a failure with cargo-deny's report. The advisory database comes from the network:
//! if it cannot be had, that is said and the other checks stand. Never downloads anything but that database.

use std::path::Path;
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::python::Environment;
use crate::{child, place, terminal};

/// cargo-deny's own words, captured from 0.20.2, when the database cannot be cloned or updated.
const NO_DATABASE: [&str; 2] = ["failed to fetch advisory database", "failed to load advisory database"];

fn cargo_deny(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(place::root()).args(["--locked", "--color", "never"]);
    command
}

pub fn check(tools: &Environment) -> Result<()> {
    let program = tools.program("cargo-deny");
    let mut policy = cargo_deny(&program);
    policy.args(["check", "licenses", "bans", "sources"]);
    child::run_quietly("cargo-deny (licences, bans, sources)", &mut policy)
        .map_err(|failure| failure.hint("the rules and their reasons are in deny.toml"))?;

    let mut advisories = cargo_deny(&program);
    advisories.args(["check", "advisories"]);
    let output = advisories
        .output()
        .map_err(|error| child::cannot_start("cargo-deny (advisories)", &advisories, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if database_is_missing(&said) {
        terminal::say("advisories NOT checked: the database cannot be had from here");
        return Ok(());
    }
    Err(Failure::new("cargo-deny (advisories) failed").with_output(&output.stderr))
}

fn database_is_missing(said: &str) -> bool {
    NO_DATABASE.iter().any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_network_is_told_from_a_finding() {
        assert!(database_is_missing("[ERROR] failed to fetch advisory database with cli: failed to clone"));
        assert!(!database_is_missing("error[vulnerability]: a crate can be made to panic"));
    }
}
