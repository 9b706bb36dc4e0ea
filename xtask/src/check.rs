//! `cargo xtask check`: all that can be judged without a broker.
//!
//! In: the checkout. Out: a failure that names each part that does not hold. Needs cargo and Python; changes
//! no file of the checkout.

use clap::Args;

use crate::failure::{Failure, Result};
use crate::steps::Steps;
use crate::{cargo, child, compose, deny, place, python};

#[derive(Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    add_to(&mut steps);
    steps.finish("checks")
}

pub fn add_to(steps: &mut Steps) {
    steps.step("system libraries", system_libraries);
    steps.step("format", || {
        child::run("cargo fmt", cargo::command().args(["fmt", "--all", "--check"]))
            .map_err(|failure| failure.hint("run `cargo fmt --all`"))
    });
    steps.step("clippy", || {
        // The proofs are not among all targets: a plain `cargo test` leaves them out.
        for targets in [&["--workspace", "--all-targets"][..], &["--package", "sf2kafka", "--test", "proofs"]]
        {
            let mut command = cargo::command();
            command.args(["clippy", "--locked", "--quiet"]).args(targets).args(["--", "-D", "warnings"]);
            child::run("clippy", &mut command)?;
        }
        Ok(())
    });
    steps.step("layering", || {
        let mut command = cargo::command();
        command.args(["test", "--locked", "--quiet", "--workspace", "--test", "layering"]);
        cargo::test("the layering test", &mut command).map(|_| ())
    });
    let requirements = place::root().join("xtask").join("check-requirements.txt");
    match steps.step("tools for checks", || python::environment("check", &requirements)) {
        Some(tools) => {
            steps.step("dependencies", || deny::check(&tools));
            steps.step("compose file", || compose::check(&tools));
        }
        None => {
            steps.skip("dependencies", "no tools");
            steps.skip("compose file", "no tools");
        }
    }
}

/// Asked first: without them the build of librdkafka fails after a minute with a message that misleads.
fn system_libraries() -> Result<()> {
    const HINT: &str = "install OpenSSL's headers (Debian: libssl-dev pkg-config)";
    let mut command = std::process::Command::new("pkg-config");
    command.args(["--exists", "openssl"]);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::new("OpenSSL's headers are not there").hint(HINT)),
        Err(error) => Err(child::cannot_start("pkg-config", &command, &error).hint(HINT)),
    }
}
