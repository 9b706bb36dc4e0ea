//! A schema registry that speaks the Confluent REST API: Apicurio Registry (docs/adr says why this one).
//!
//! In: the unpacked distribution, a directory, a port. Out: a process that answers below `BASE`. Schemas are
//! kept in a file, so that ids in topics stay readable after a restart.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::detached::Detached;
use crate::failure::Result;
use crate::loopback;

pub const COORDINATE: &str = "io.apicurio:apicurio-registry-app:2.6.13.Final:tar.gz:all";
const RUNNER: &str = "apicurio-registry-app-2.6.13.Final-runner.jar";
/// Where Apicurio serves Confluent's API: `/subjects` is below it.
const BASE: &str = "/apis/ccompat/v7";
/// Starting takes 2 s on two free cores.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn start(process: &Detached, distribution: &Path, directory: &Path, port: u16) -> Result<()> {
    let database = directory.join("registry-data").join("registry");
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:+ExitOnOutOfMemoryError", "-XX:TieredStopAtLevel=1"])
        .args(["-Dquarkus.http.host=127.0.0.1", "-Dquarkus.log.level=WARN"])
        .arg(format!("-Dquarkus.http.port={port}"))
        .arg("-jar")
        .arg(distribution.join(RUNNER))
        .env("REGISTRY_DATASOURCE_URL", format!("jdbc:h2:file:{}", database.display()))
        .env("REGISTRY_APIS_V2_DATE_FORMAT", "yyyy-MM-dd'T'HH:mm:ss'Z'")
        .env_remove("JAVA_TOOL_OPTIONS")
        .current_dir(directory);
    process.start(&mut command)
}

pub fn wait(process: &Detached, port: u16) -> Result<()> {
    process.wait_until(PATIENCE, || answers(port))
}

pub fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}{BASE}")
}

pub fn answers(port: u16) -> bool {
    loopback::http_get(port, &format!("{BASE}/subjects")).is_ok_and(|(status, _)| status == 200)
}
