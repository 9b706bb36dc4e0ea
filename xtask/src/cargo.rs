//! Calls cargo again for this workspace and counts the tests that ran.
//!
//! In: arguments. Out: success, or a failure; for tests also how many passed and failed, read from the lines
//! that close each test program. A run in which no test ran is a failure. Never changes `Cargo.lock`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::evidence::Evidence;
use crate::failure::{Failure, Result};
use crate::{child, place, terminal};

/// The cargo that runs this xtask, in the root of the workspace.
pub fn command() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.current_dir(place::root());
    // Set by the outer cargo for xtask alone; left in place they would rebuild half the workspace.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" {
            command.env_remove(name);
        }
    }
    command
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

/// Runs a `cargo test …`, passing its output on, and demands that at least one test ran. A failure holds what the tests that
/// failed said.
pub fn test(name: &str, command: &mut Command) -> Result<Tally> {
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| child::cannot_start(name, command, &error))?;
    let mut tally = Tally::default();
    let (mut said, mut told) = (Evidence::default(), Evidence::default());
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let read = std::thread::scope(|scope| {
        let words = scope.spawn(|| {
            each_line(stderr, |line| {
                told.take(line);
                terminal::say(line);
            })
        });
        let data = each_line(stdout, |line| {
            tally.add(line);
            said.take(line);
            terminal::data(line);
        });
        data.and(words.join().unwrap_or(Ok(())))
    });
    read.map_err(|error| Failure::new(format!("cannot read what {name} says: {error}")))?;
    let status = process.wait().map_err(|error| Failure::new(format!("cannot wait for {name}: {error}")))?;
    if !status.success() {
        let failure = Failure::new(format!("{name}: {} failed ({status})", tally.failed));
        return Err(failure.with_lines(&format!("{}\n{}", said.text(), told.text())));
    }
    if tally.passed == 0 {
        return Err(Failure::new(format!("{name}: no test ran")));
    }
    Ok(tally)
}

fn each_line(stream: Option<impl Read>, mut take: impl FnMut(&str)) -> std::io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    for line in BufReader::new(stream).split(b'\n') {
        take(String::from_utf8_lossy(&line?).trim_end());
    }
    Ok(())
}

impl Tally {
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }

    /// Takes in a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split("; ") {
            let Some((number, word)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_several_programs_add_up() {
        let mut tally = Tally::default();
        tally.add(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        tally.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        tally.add("test some::test ... ok");
        assert_eq!(tally, Tally { passed: 15, failed: 2, ignored: 1 });
    }

    #[test]
    fn a_run_without_tests_is_a_failure() {
        let mut nothing = Command::new("sh");
        nothing.args(["-c", "echo 'test result: ok. 0 passed; 0 failed; 0 ignored'"]);
        assert!(test("tests", &mut nothing).unwrap_err().to_string().contains("no test ran"));
    }

    #[test]
    fn a_failed_run_says_how_many() {
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 101"]);
        assert!(test("tests", &mut failing).unwrap_err().to_string().contains("tests: 2 failed"));
    }

    #[test]
    fn a_failed_run_says_what_broke_whichever_way_it_was_told() {
        for stream in ["1", "2"] {
            let mut failing = Command::new("sh");
            let script =
                format!("echo \"thread 'a' panicked at b:\" >&{stream}; echo broken >&{stream}; exit 101");
            failing.args(["-c", &script]);
            let failure = test("tests", &mut failing).unwrap_err().to_string();
            assert!(failure.contains("  thread 'a' panicked at b:\n  broken"), "{failure}");
        }
    }
}
