//! `cargo xtask browser-login`: the login in a browser, as a person does it, against the simulator.
//!
//! In: the built program, Debian's Chromium. Out: success only if each way in ended as it should. It installs the browser when it
//! is missing and may be installed; the profile, the program's files and the screenshots stay below the target directory.

use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::simulator::Simulator;
use crate::steps::Steps;
use crate::{cargo, child, place, sim_clients, terminal};

const PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];
const PROGRAMS: [&str; 2] = ["chromium", "chromedriver"];
/// The mirror may be busy for a moment.
const TRIES: usize = 2;
/// What `xtask/browser/drive_login.py` knows.
const WAYS: [&str; 4] = ["whole-address", "bare-code", "loopback", "deny"];

#[derive(Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    add_to(&mut steps);
    steps.finish("login in a browser")
}

pub fn add_to(steps: &mut Steps) {
    let browser = steps.step("browser", browser);
    let program = steps.step("program for the browser login", program);
    let simulator = steps.step("simulator for the browser login", || Simulator::start(&[("Account", 10)]));
    for way in WAYS {
        let name = format!("browser login: {way}");
        match (&browser, &program, &simulator) {
            (Some(()), Some(program), Some(simulator)) => {
                steps.step(&name, || drive(way, program, simulator));
            }
            _ => steps.skip(&name, "no browser, program or simulator"),
        }
    }
}

/// Chromium and its driver, installed if they are missing.
fn browser() -> Result<()> {
    if missing().is_empty() {
        return Ok(());
    }
    if !is_root()? {
        return Err(not_there(&missing()));
    }
    terminal::say(format_args!("installing {}", PACKAGES.join(" and ")));
    let mut last = Ok(());
    for _ in 0..TRIES {
        last = install();
        if last.is_ok() {
            break;
        }
    }
    last.map_err(|failure| failure.hint(hint()))?;
    match missing().as_slice() {
        [] => Ok(()),
        missing => Err(not_there(missing)),
    }
}

fn hint() -> String {
    format!("install Chromium and its driver (Debian: {})", PACKAGES.join(" "))
}

fn not_there(missing: &[&str]) -> Failure {
    Failure::new(format!("the login in a browser cannot run without {}", missing.join(" and "))).hint(hint())
}

fn missing() -> Vec<&'static str> {
    let starts = |program: &&str| child::output(program, Command::new(program).arg("--version")).is_ok();
    PROGRAMS.iter().copied().filter(|program| !starts(program)).collect()
}

fn is_root() -> Result<bool> {
    let id = child::output("id", Command::new("id").arg("-u"))?;
    Ok(id.trim_ascii() == b"0")
}

fn install() -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        child::run_quietly(&format!("apt-get {}", arguments.join(" ")), &mut command)
    };
    apt(&["update", "--quiet"])?;
    let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(PACKAGES);
    apt(&install)
}

fn program() -> Result<PathBuf> {
    let mut build = cargo::command();
    // From the whole workspace: alone it would have other features of its dependencies, all built once more.
    build.args(["build", "--locked", "--quiet", "--workspace", "--bin", "sf2kafka"]);
    child::run("building the program", &mut build)?;
    Ok(place::target().join("debug").join("sf2kafka"))
}

fn drive(way: &str, program: &std::path::Path, simulator: &Simulator) -> Result<()> {
    let mut command = Command::new("python3");
    command
        .arg(place::root().join("xtask").join("browser").join("drive_login.py"))
        .arg(way)
        .env("PROGRAM", program)
        .env("FOLDER", place::target().join("browser-login"));
    child::run(
        &format!("the browser login {way}"),
        sim_clients::told(&mut command, simulator).env_remove("PYTHONPATH"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_browser_is_told_with_the_packages_that_bring_it() {
        let told = not_there(&PROGRAMS).to_string();
        assert!(told.contains("without chromium and chromedriver"), "{told}");
        assert!(told.ends_with("(Debian: chromium chromium-driver)"), "{told}");
    }

    #[test]
    fn the_driver_knows_every_way() {
        let driver = std::fs::read_to_string(place::root().join("xtask/browser/drive_login.py")).unwrap();
        assert!(WAYS.iter().all(|way| driver.contains(&format!("\"{way}\": "))), "{driver}");
    }
}
