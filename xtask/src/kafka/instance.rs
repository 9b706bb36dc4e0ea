//! A broker and a registry that belong together: one directory, one lock, one set of ports.
//!
//! In: up, down, running. Out: addresses. Two calls at once wait for each other. The ports are kept, so that
//! a restart is found at the old address if nothing else took it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::broker::{self, Ports};
use super::detached::{Detached, Stopped};
use super::{maven, registry};
use crate::failure::{Failure, Result};
use crate::{child, loopback, place, terminal};

/// A broker with much data takes seconds to write its snapshots.
const STOP_PATIENCE: Duration = Duration::from_secs(40);
const OLDEST_JAVA: u32 = 17;

pub struct Instance {
    name: String,
    directory: PathBuf,
    broker: Detached,
    registry: Detached,
}

pub struct Addresses {
    pub bootstrap: String,
    pub registry_url: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AllPorts {
    client: u16,
    controller: u16,
    registry: u16,
}

impl Instance {
    pub fn named(name: &str) -> Self {
        let directory = place::kafka().join(name);
        Self {
            name: name.to_owned(),
            broker: Detached::new("broker", &directory),
            registry: Detached::new("registry", &directory),
            directory,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts what is not running and waits until both answer.
    pub fn up(&self) -> Result<Addresses> {
        let _lock = self.lock()?;
        let class_path = maven::class_path(&maven::broker_pom(), &place::kafka())?;
        let distribution = maven::unpack(registry::COORDINATE, &place::kafka())?;
        let begun = Instant::now();
        let ports = self.ports()?;
        let mut started = Vec::new();
        // Both start at once; only then is waited for.
        if self.registry.pid_if_running().is_none() || !registry::answers(ports.registry) {
            ensure_java()?;
            self.registry.stop(STOP_PATIENCE)?;
            registry::start(&self.registry, &distribution, &self.directory, ports.registry)?;
            started.push("registry");
        }
        if self.broker.pid_if_running().is_none() || !broker::answers(ports.client) {
            ensure_java()?;
            self.broker.stop(STOP_PATIENCE)?;
            let ports = Ports { client: ports.client, controller: ports.controller };
            broker::start(&self.broker, &class_path, &self.directory, ports)?;
            started.push("broker");
        }
        registry::wait(&self.registry, ports.registry)?;
        broker::wait(&self.broker, ports.client)?;
        if !started.is_empty() {
            terminal::say(format_args!(
                "started {} in {:.1} s; stop with `cargo xtask kafka down{}`",
                started.join(" and "),
                begun.elapsed().as_secs_f64(),
                if self.name == "dev" { String::new() } else { format!(" --instance {}", self.name) },
            ));
        }
        Ok(addresses(ports))
    }

    /// Stops both; the data stays unless `purge`.
    pub fn down(&self, purge: bool) -> Result<()> {
        if !self.directory.exists() {
            terminal::say("nothing was running");
            return Ok(());
        }
        let _lock = self.lock()?;
        for (name, process) in [("broker", &self.broker), ("registry", &self.registry)] {
            match process.stop(STOP_PATIENCE)? {
                Stopped::Cleanly => terminal::say(format_args!("{name} stopped")),
                Stopped::Killed => {
                    terminal::say(format_args!("{name} did not stop when asked and was killed"))
                }
                Stopped::WasNotRunning => terminal::say(format_args!("{name} was not running")),
            }
        }
        if purge {
            fs::remove_dir_all(&self.directory)
                .map_err(|error| Failure::file("remove", &self.directory, &error))?;
        }
        Ok(())
    }

    /// Ends the broker without asking it, for a look at what a crash leaves.
    pub fn kill_broker(&self) -> Result<()> {
        let _lock = self.lock()?;
        match self.broker.kill()? {
            Stopped::WasNotRunning => {
                Err(Failure::new(format!("the broker of instance {} is not running", self.name))
                    .hint("start it with `cargo xtask kafka up`"))
            }
            Stopped::Cleanly | Stopped::Killed => {
                terminal::say("broker killed");
                Ok(())
            }
        }
    }

    /// The addresses, if both run and answer.
    pub fn running(&self) -> Result<Option<Addresses>> {
        if !self.directory.exists() {
            return Ok(None);
        }
        let _lock = self.lock()?;
        let alive = self.broker.pid_if_running().is_some() && self.registry.pid_if_running().is_some();
        Ok(self
            .remembered_ports()
            .filter(|ports| alive && broker::answers(ports.client) && registry::answers(ports.registry))
            .map(addresses))
    }

    /// The broker's class path, for its command-line tools.
    pub fn class_path(&self) -> Result<String> {
        let _lock = self.lock()?;
        maven::class_path(&maven::broker_pom(), &place::kafka())
    }

    /// Held while anything is changed; the system lets go of it when this process ends. It lies beside the
    /// instances' directories, because they share what Maven fetches and `--purge` removes a directory.
    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.directory)
            .map_err(|error| Failure::file("create", &self.directory, &error))?;
        let path = place::kafka().join("lock");
        let file = File::create(&path).map_err(|error| Failure::file("write", &path, &error))?;
        file.lock().map_err(|error| Failure::file("lock", &path, &error))?;
        Ok(file)
    }

    /// The ports of last time where they are ours or still free, else new ones.
    fn ports(&self) -> Result<AllPorts> {
        if let Some(ports) = self.remembered_ports() {
            let broker_runs = self.broker.pid_if_running().is_some();
            let registry_runs = self.registry.pid_if_running().is_some();
            let usable = (broker_runs
                || (loopback::is_free(ports.client) && loopback::is_free(ports.controller)))
                && (registry_runs || loopback::is_free(ports.registry));
            if usable {
                return Ok(ports);
            }
            // Something else took a port. What still runs would be unknown at its old address.
            self.broker.stop(STOP_PATIENCE)?;
            self.registry.stop(STOP_PATIENCE)?;
        }
        let free = loopback::free_ports(3)
            .map_err(|error| Failure::new(format!("cannot find free ports on loopback: {error}")))?;
        let [client, controller, registry] = free[..] else {
            return Err(Failure::new("cannot find free ports on loopback"));
        };
        let path = self.ports_file();
        fs::write(&path, format!("{client} {controller} {registry}\n"))
            .map_err(|error| Failure::file("write", &path, &error))?;
        Ok(AllPorts { client, controller, registry })
    }

    fn ports_file(&self) -> PathBuf {
        self.directory.join("ports")
    }

    fn remembered_ports(&self) -> Option<AllPorts> {
        parse_ports(&fs::read_to_string(self.ports_file()).ok()?)
    }
}

fn parse_ports(text: &str) -> Option<AllPorts> {
    let numbers: Vec<u16> =
        text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
    match numbers[..] {
        [client, controller, registry] => Some(AllPorts { client, controller, registry }),
        _ => None,
    }
}

fn addresses(ports: AllPorts) -> Addresses {
    Addresses {
        bootstrap: format!("127.0.0.1:{}", ports.client),
        registry_url: registry::url(ports.registry),
    }
}

fn ensure_java() -> Result<()> {
    let mut command = Command::new("java");
    command.args(["-XshowSettings:properties", "-version"]).env_remove("JAVA_TOOL_OPTIONS");
    let output = command.output().map_err(|error| child::cannot_start("Java", &command, &error))?;
    let text = String::from_utf8_lossy(&output.stderr);
    match java_version(&text) {
        Some(version) if version >= OLDEST_JAVA => Ok(()),
        Some(version) => Err(Failure::new(format!("Java {version} is too old for Apache Kafka 4"))
            .hint("install Java 17 or newer (Debian: openjdk-17-jre-headless) and put it first on the PATH")),
        None => Err(Failure::new("cannot tell the version of `java`").with_output(&output.stderr)),
    }
}

fn java_version(properties: &str) -> Option<u32> {
    let value =
        properties.lines().find_map(|line| line.trim().strip_prefix("java.specification.version ="))?.trim();
    value.strip_prefix("1.").unwrap_or(value).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_is_recognised_old_and_new() {
        assert_eq!(java_version("Property settings:\n    java.specification.version = 17\n"), Some(17));
        assert_eq!(java_version("    java.specification.version = 1.8\n"), Some(8));
        assert_eq!(java_version("nothing"), None);
    }

    #[test]
    fn ports_are_read_back_or_asked_for_again() {
        let ports = parse_ports("9092 9093 8081\n").unwrap();
        assert_eq!(ports, AllPorts { client: 9092, controller: 9093, registry: 8081 });
        assert_eq!(parse_ports("9092 9093\n"), None);
        assert_eq!(parse_ports("9092 9093 70000\n"), None);
    }

    #[test]
    fn the_registry_address_is_the_base_of_subjects() {
        let addresses = addresses(AllPorts { client: 1, controller: 2, registry: 3 });
        assert_eq!(addresses.bootstrap, "127.0.0.1:1");
        assert_eq!(addresses.registry_url, "http://127.0.0.1:3/apis/ccompat/v7");
    }
}
