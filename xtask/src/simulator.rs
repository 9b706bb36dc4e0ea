//! The simulator as a process of its own, for as long as a value of this kind lives.
//!
//! In: rows per object. Out: its origin on loopback, and the port of its Pub/Sub API, which is behind TLS. Built with cargo and started directly, so that ending it
//! ends the simulator and not a cargo above it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::{cargo, child, loopback, place};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

pub struct Simulator {
    process: Child,
    port: u16,
    pubsub_port: u16,
    log: PathBuf,
}

impl Simulator {
    /// Builds it if needed, starts it on a free port and waits until it lists its API versions.
    pub fn start(rows: &[(&str, u64)]) -> Result<Self> {
        let mut build = cargo::command();
        // From the whole workspace: alone it would have other features of its dependencies, all built once more.
        build.args(["build", "--locked", "--quiet", "--workspace", "--bin", "sf2kafka-sim"]);
        child::run("building the simulator", &mut build)?;

        let ports = loopback::free_ports(2).unwrap_or_default();
        let [port, pubsub_port] = ports.as_slice() else {
            return Err(Failure::new("cannot find two free ports on loopback"));
        };
        let (port, pubsub_port) = (*port, *pubsub_port);
        let log = place::target().join("simulator.log");
        let output = File::create(&log).map_err(|error| Failure::file("write", &log, &error))?;
        let rows: Vec<String> = rows.iter().map(|(object, count)| format!("{object}={count}")).collect();
        let mut command = Command::new(place::target().join("debug").join("sf2kafka-sim"));
        command
            .args(["--port", &port.to_string(), "--seed", "7", "--rows", &rows.join(",")])
            .args(["--grpc-port", &pubsub_port.to_string(), "--grpc-tls"])
            .stdin(Stdio::null())
            .stderr(output.try_clone().map_err(|error| Failure::file("write", &log, &error))?)
            .stdout(output);
        let process =
            command.spawn().map_err(|error| child::cannot_start("the simulator", &command, &error))?;
        let mut simulator = Self { process, port, pubsub_port, log };
        simulator.wait()?;
        Ok(simulator)
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if loopback::http_get(self.port, "/services/data").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(Failure::new(format!("the simulator ended ({status})")).with_log(&self.log));
            }
            if Instant::now() >= deadline {
                return Err(Failure::new("the simulator does not answer").with_log(&self.log));
            }
            thread::sleep(POLL);
        }
    }

    pub fn pubsub_port(&self) -> u16 {
        self.pubsub_port
    }

    /// Writes the certificate of the Pub/Sub API to a file.
    pub fn certificate(&self, file: &Path) -> Result<()> {
        let (status, body) = loopback::http_get(self.port, "/simulator/pubsub/certificate")
            .map_err(|error| Failure::new(format!("the simulator does not say its certificate: {error}")))?;
        let certificate: Option<String> = serde_json::from_str(&body).ok().filter(|_| status == 200);
        let certificate = certificate.ok_or_else(|| Failure::new(format!("no certificate: {body}")))?;
        fs::write(file, certificate).map_err(|error| Failure::file("write", file, &error))
    }

    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // It holds nothing that must be kept; a failure here means that it has already ended.
        let _ended = self.process.kill();
        let _waited = self.process.wait();
    }
}
