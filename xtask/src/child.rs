//! Runs a program and waits for it, with an error that names it and says where to get it.
//!
//! In: a prepared `Command` and its name in the user's words. Out: nothing, its stdout, or a `Failure` with
//! the end of what it said. Never runs anything in the background: that is `kafka/detached.rs`.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::failure::{Failure, Result};

/// Runs it with the terminal as its own.
pub fn run(name: &str, command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| cannot_start(name, command, &error))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{name} failed ({status})"))) }
}

/// Runs it silently; what it said is shown only if it fails.
pub fn run_quietly(name: &str, command: &mut Command) -> Result<()> {
    output(name, command).map(|_| ())
}

/// Runs it silently and gives its stdout.
pub fn output(name: &str, command: &mut Command) -> Result<Vec<u8>> {
    output_with_input(name, command, Stdio::null())
}

pub fn output_with_input(name: &str, command: &mut Command, input: impl Into<Stdio>) -> Result<Vec<u8>> {
    let output = command.stdin(input).output().map_err(|error| cannot_start(name, command, &error))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut said = output.stdout;
    said.extend_from_slice(&output.stderr);
    Err(Failure::new(format!("{name} failed ({})", output.status)).with_output(&said))
}

pub fn cannot_start(name: &str, command: &Command, error: &std::io::Error) -> Failure {
    let program = command.get_program().to_string_lossy().into_owned();
    let failure = Failure::new(format!("cannot start {name} ({program}): {error}"));
    match (error.kind(), program.as_str()) {
        (ErrorKind::NotFound, "mvn") => failure.hint("install Maven 3.8 or newer (Debian: maven)"),
        (ErrorKind::NotFound, "java") => {
            failure.hint("install Java 17 or newer (Debian: openjdk-17-jre-headless)")
        }
        (ErrorKind::NotFound, "python3") => {
            failure.hint("install Python 3.11 or newer (Debian: python3, python3-venv)")
        }
        (ErrorKind::NotFound, "node" | "npm") => {
            failure.hint("install Node.js 20 or newer with npm (Debian: nodejs, npm)")
        }
        (ErrorKind::NotFound, name) if !name.contains('/') => {
            failure.hint(format!("install {name} and see that it is on the PATH"))
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_a_hint() {
        let failure = run("a test", &mut Command::new("no-such-program-anywhere")).unwrap_err().to_string();
        assert!(failure.contains("cannot start a test (no-such-program-anywhere)"), "{failure}");
        assert!(failure.contains("hint: install no-such-program-anywhere"), "{failure}");
    }

    #[test]
    fn a_failing_program_shows_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let failure = run_quietly("a script", &mut command).unwrap_err().to_string();
        assert!(failure.contains("a script failed (exit status: 3)"), "{failure}");
        assert!(failure.contains("  out\n  err"), "{failure}");
    }
}
