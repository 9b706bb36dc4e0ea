//! A list of steps, each with its outcome and its time, and the table at the end.
//!
//! In: named closures. Out: whether all held, and a summary in the order they ran. A failed step is told at
//! once, again at the end where a reader of a long log looks, and does not keep independent ones from running; a run
//! without any step is a failure.

use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::terminal;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Held,
    Failed(String),
    Skipped(String),
}

#[derive(Debug, Default)]
pub struct Steps {
    done: Vec<(String, Outcome, Duration)>,
}

impl Steps {
    /// Runs a step and tells its value if it held.
    pub fn step<T>(&mut self, name: &str, action: impl FnOnce() -> Result<T>) -> Option<T> {
        terminal::say(format_args!("── {name}"));
        let begun = Instant::now();
        let (outcome, value) = match action() {
            Ok(value) => (Outcome::Held, Some(value)),
            Err(failure) => {
                terminal::say(&failure);
                (Outcome::Failed(failure.to_string()), None)
            }
        };
        self.done.push((name.to_owned(), outcome, begun.elapsed()));
        value
    }

    /// A step that cannot run. It counts as not held: a run must not be green for what it left out.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.done.push((name.to_owned(), Outcome::Skipped(why.to_owned()), Duration::ZERO));
    }

    /// The table, and a failure unless every step held.
    pub fn finish(self, what: &str) -> Result<()> {
        terminal::say(format_args!("\n{what}"));
        for line in self.lines() {
            terminal::say(line);
        }
        for (name, outcome, _) in &self.done {
            if let Outcome::Failed(why) = outcome {
                terminal::say(format_args!("\n{name}: {why}"));
            }
        }
        let broken: Vec<&str> = self
            .done
            .iter()
            .filter(|(_, outcome, _)| *outcome != Outcome::Held)
            .map(|(name, _, _)| name.as_str())
            .collect();
        if self.done.is_empty() {
            return Err(Failure::new(format!("{what}: nothing ran")));
        }
        if broken.is_empty() { Ok(()) } else { Err(Failure::new(format!("{what}: {}", broken.join(", ")))) }
    }

    fn lines(&self) -> Vec<String> {
        let width = self.done.iter().map(|(name, _, _)| name.chars().count()).max().unwrap_or(0);
        let line = |(name, outcome, took): &(String, Outcome, Duration)| {
            let word = match outcome {
                Outcome::Held => "ok".to_owned(),
                Outcome::Failed(_) => "FAILED".to_owned(),
                Outcome::Skipped(why) => format!("NOT RUN: {why}"),
            };
            format!("  {name:width$}  {:>7.1} s  {word}", took.as_secs_f64())
        };
        self.done.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_steps_run_and_one_failure_fails_the_whole() {
        let mut steps = Steps::default();
        assert_eq!(steps.step("first", || Err::<(), _>(Failure::new("no"))), None);
        assert_eq!(steps.step("second", || Ok(7)), Some(7));
        let failure = steps.finish("tests").unwrap_err().to_string();
        assert_eq!(failure, "error: tests: first");
    }

    #[test]
    fn a_step_left_out_is_not_green() {
        let mut steps = Steps::default();
        steps.step("first", || Ok(())).unwrap();
        steps.skip("second", "no broker");
        assert!(steps.lines().last().unwrap().ends_with("NOT RUN: no broker"));
        assert!(steps.finish("tests").is_err());
    }

    #[test]
    fn a_run_of_nothing_fails() {
        assert!(Steps::default().finish("tests").unwrap_err().to_string().contains("nothing ran"));
    }

    #[test]
    fn a_run_in_which_all_held_holds() {
        let mut steps = Steps::default();
        steps.step("only", || Ok(())).unwrap();
        assert!(steps.finish("tests").is_ok());
    }
}
