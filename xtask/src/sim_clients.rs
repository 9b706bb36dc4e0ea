//! `cargo xtask sim-clients`: clients as published, against the simulator.
//!
//! In: pinned packages in `xtask/clients`. Out: success only if each client logs in, describes and reads every
//! row. Their code is not touched: requests that they would send to Salesforce's hosts are redirected by
//! `xtask/clients/redirect`. It must never let a client reach anything but the simulator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::simulator::Simulator;
use crate::steps::Steps;
use crate::{child, place, python};

/// More than one page of a query (2,000) and of the Bulk pages asked for (1,000), with a remainder. Account and
/// Contact have compound fields, Opportunity has none: Airbyte reads it over Bulk and the others over REST.
const ROWS: [(&str, u64); 3] = [("Account", 4321), ("Contact", 2500), ("Opportunity", 3210)];
const API_VERSION: &str = "65.0";
/// What the simulator knows as its connected app: `SimulatorConfig::default` in sim/src/http.
const CLIENT_ID: &str = "simulator-client";
const CLIENT_SECRET: &str = "simulator-secret";
const REFRESH_TOKEN: &str = "5AepSimulatorRefreshToken";
const USERNAME: &str = "integration@example.com";
const PASSWORD: &str = "simulator-password";
/// Before the oldest row.
const START_DATE: &str = "2015-01-01T00:00:00Z";

#[derive(Args)]
pub struct Arguments {}

pub fn run(_: &Arguments) -> Result<()> {
    let mut steps = Steps::default();
    add_to(&mut steps);
    steps.finish("published clients")
}

pub fn add_to(steps: &mut Steps) {
    let Some(simulator) = steps.step("simulator", || Simulator::start(&ROWS)) else {
        for client in [
            "simple-salesforce",
            "airbyte-source-salesforce",
            "jsforce",
            "salesforce-pubsub-api-client",
            "aiosfpubsub",
        ] {
            steps.skip(client, "no simulator");
        }
        return;
    };
    steps.step("simple-salesforce", || simple_salesforce(&simulator));
    steps.step("airbyte-source-salesforce", || airbyte(&simulator));
    steps.step("jsforce", || jsforce(&simulator));
    steps.step("salesforce-pubsub-api-client", || pubsub_node(&simulator));
    steps.step("aiosfpubsub", || pubsub_python(&simulator));
}

fn clients() -> PathBuf {
    place::root().join("xtask").join("clients")
}

/// What a client has to know about the simulator.
pub fn told<'a>(command: &'a mut Command, simulator: &Simulator) -> &'a mut Command {
    let objects: Vec<&str> = ROWS.iter().map(|(object, _)| *object).collect();
    command
        .env("SIMULATOR_ORIGIN", simulator.origin())
        .env("OBJECTS", serde_json::json!(objects).to_string())
        .env("API_VERSION", API_VERSION)
        .env("CLIENT_ID", CLIENT_ID)
        .env("CLIENT_SECRET", CLIENT_SECRET)
        .env("REFRESH_TOKEN", REFRESH_TOKEN)
        .env("USERNAME", USERNAME)
        .env("PASSWORD", PASSWORD)
        .env("PUBSUB_PORT", simulator.pubsub_port().to_string())
        .env("START_DATE", START_DATE)
        .env("PYTHONPATH", clients().join("redirect"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // A proxy in the environment would stand between the clients and the simulator.
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
}

fn simple_salesforce(simulator: &Simulator) -> Result<()> {
    let environment = python::environment("simple-salesforce", &clients().join("simple-salesforce.txt"))?;
    let mut command = Command::new(environment.python());
    command.arg(clients().join("simple_salesforce_client.py"));
    child::run("simple-salesforce", told(&mut command, simulator))
}

fn airbyte(simulator: &Simulator) -> Result<()> {
    let environment = python::environment("airbyte", &clients().join("airbyte.txt"))?;
    let mut command = Command::new(environment.python());
    command.arg(clients().join("airbyte_client.py")).arg(environment.program("source-salesforce"));
    child::run("airbyte-source-salesforce", told(&mut command, simulator))
}

fn jsforce(simulator: &Simulator) -> Result<()> {
    node("jsforce", &clients().join("jsforce_client.mjs"), simulator)
}

fn pubsub_node(simulator: &Simulator) -> Result<()> {
    let client = "salesforce-pubsub-api-client";
    node(client, &clients().join(client).join("pubsub_client.mjs"), simulator)
}

fn node(client: &str, source: &Path, simulator: &Simulator) -> Result<()> {
    let script = node_modules(client)?.join("client.mjs");
    // A script finds its modules from where it lies.
    fs::copy(source, &script).map_err(|error| Failure::file("copy", source, &error))?;
    let mut command = Command::new("node");
    command.arg(script);
    child::run(client, told(&mut command, simulator))
}

fn pubsub_python(simulator: &Simulator) -> Result<()> {
    let environment = python::environment("aiosfpubsub", &clients().join("aiosfpubsub.txt"))?;
    let certificate = place::target().join("simulator-certificate.pem");
    simulator.certificate(&certificate)?;
    let mut command = Command::new(environment.python());
    command.arg(clients().join("aiosfpubsub_client.py"));
    told(&mut command, simulator)
        .env("SIMULATOR_CA", certificate)
        .env("PYTHONPATH", clients().join("trust"))
        // A library in C that looks for proxies itself.
        .env_remove("http_proxy")
        .env_remove("https_proxy");
    child::run("aiosfpubsub", &mut command)
}

/// `npm ci` into the target directory, unless done before with the same lock file.
fn node_modules(client: &str) -> Result<PathBuf> {
    let package = clients().join(client);
    let directory = place::tools().join(client);
    let installed = directory.join("installed-from.json");
    let lock = package.join("package-lock.json");
    let wanted = fs::read_to_string(&lock).map_err(|error| Failure::file("read", &lock, &error))?;
    if fs::read_to_string(&installed).is_ok_and(|from| from == wanted) {
        return Ok(directory);
    }
    fs::create_dir_all(&directory).map_err(|error| Failure::file("create", &directory, &error))?;
    for name in ["package.json", "package-lock.json"] {
        let from = package.join(name);
        fs::copy(&from, directory.join(name)).map_err(|error| Failure::file("copy", &from, &error))?;
    }
    let mut install = Command::new("npm");
    install
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"])
        .current_dir(&directory);
    child::run_quietly(&format!("npm, installing {client}"), &mut install)?;
    fs::write(&installed, wanted).map_err(|error| Failure::file("write", &installed, &error))?;
    Ok(directory)
}
