//! `cargo xtask test`: everything, from provisioning to the last test, on a broker and registry of its own.
//!
//! In: a checkout on a machine with cargo, Java 17, Maven, Python 3, Node and Chromium. Out: success only if every part
//! ran and held, with the time of each. The broker is stopped in every case, also when this process is ended.

use std::process::Command;

use clap::Args;

use crate::cargo::Tally;
use crate::failure::Result;
use crate::kafka::{Abandonment, Addresses, Instance};
use crate::python::Environment;
use crate::steps::Steps;
use crate::{browser, cargo, check, child, place, python, sim_clients, terminal};

/// Its own instance: a `kafka up` that a person works with is left alone.
const INSTANCE: &str = "test";

#[derive(Args)]
pub struct Arguments {
    /// Passed on to `cargo test`, for example a test's name; then only tests run, no checks, no clients, no browser
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    only: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let everything = arguments.only.is_empty();
    let mut steps = Steps::default();
    if everything {
        check::add_to(&mut steps);
    }
    let consumer = steps.step("independent consumer", consumer);
    let instance = Instance::named(INSTANCE);
    let watch = steps.step("broker and registry", || {
        instance.down(true)?;
        let watch = Abandonment::watch(&instance)?;
        Ok((instance.up()?, watch))
    });
    let tally = match (&watch, &consumer) {
        (Some((addresses, _)), Some(consumer)) => {
            let tests = steps.step("tests", || tests(addresses, consumer, &arguments.only));
            let proofs = match everything {
                true => steps.step("proofs", || proofs(addresses, consumer)),
                false => Some(Tally::default()),
            };
            tests.zip(proofs).map(|(tests, proofs)| tests.with(proofs))
        }
        _ => {
            steps.skip("tests", "they need the broker, the registry and the consumer");
            None
        }
    };
    // What the servers said is worth keeping only when something went wrong.
    steps.step("stop broker and registry", || instance.down(tally.is_some()));
    drop(watch);
    if everything {
        sim_clients::add_to(&mut steps);
        browser::add_to(&mut steps);
    }
    let outcome = steps.finish("tests");
    // The last line of a run says what ran: cargo's own last line is that of the documentation tests.
    if let Some(Tally { passed, failed, ignored }) = tally {
        terminal::data(format_args!("{passed} passed, {failed} failed, {ignored} skipped"));
    }
    outcome
}

fn consumer() -> Result<Environment> {
    let folder = place::root().join("tests").join("python");
    let environment = python::environment("consumer", &folder.join("requirements.txt"))?;
    let mut own_tests = Command::new(environment.python());
    own_tests
        .args([
            "-m",
            "unittest",
            "test_verify_topic",
            "test_configured",
            "test_match_log",
            "test_three_readers",
        ])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&folder);
    child::run_quietly("the tests of the independent consumer", &mut own_tests)?;
    Ok(environment)
}

fn tests(addresses: &Addresses, consumer: &Environment, only: &[String]) -> Result<Tally> {
    let mut command = with_services(addresses, consumer);
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]).args(only);
    cargo::test("cargo test", &mut command)
}

/// What is shown at its size: of the release build, one after another, for each wants the machine for itself.
fn proofs(addresses: &Addresses, consumer: &Environment) -> Result<Tally> {
    let mut command = with_services(addresses, consumer);
    command.args([
        "test",
        "--locked",
        "--release",
        "--test",
        "proofs",
        "--",
        "--test-threads",
        "1",
        "--nocapture",
    ]);
    cargo::test("the proofs", &mut command)
}

fn with_services(addresses: &Addresses, consumer: &Environment) -> Command {
    let mut command = cargo::command();
    command
        .env("KAFKA_BOOTSTRAP", &addresses.bootstrap)
        .env("SCHEMA_REGISTRY_URL", &addresses.registry_url)
        .env("SF2KAFKA_PYTHON", consumer.python());
    // For the test that takes a broker of its own away.
    if let Ok(xtask) = std::env::current_exe() {
        command.env("SF2KAFKA_XTASK", xtask);
    }
    command
}
