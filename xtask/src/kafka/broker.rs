//! One Apache Kafka node in KRaft's combined mode, set so that transactions work on a single broker.
//!
//! In: class path, directory, ports. Out: a process that answers Kafka requests. The settings that differ
//! from Kafka's defaults are all in `settings`, each with its reason.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::detached::Detached;
use crate::failure::{Failure, Result};
use crate::{child, loopback};

/// Starting takes 3 to 5 s on two free cores; a machine busy with a build takes several times that.
const PATIENCE: Duration = Duration::from_secs(120);
/// Any 16 bytes will do: a cluster id says only that the log directory belongs to this node.
const CLUSTER_ID: &str = "c2Yya2Fma2EtdGVzdHMtMQ";
const STARTED: &str = "Kafka Server started";

#[derive(Clone, Copy)]
pub struct Ports {
    pub client: u16,
    pub controller: u16,
}

fn settings(data: &Path, ports: Ports) -> String {
    let Ports { client, controller } = ports;
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{client}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}

# A single broker: three replicas of the internal topics cannot be had.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Few partitions, so that coordinators load at once.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1

# A machine busy with a build may be late with its heartbeats. Nobody else could take over from the only broker: to fence it
# takes every partition away for the time of an election over all of them. One that was killed is let in again after as long.
broker.session.timeout.ms=20000

# As in production: a topic that is not there is an error, not made up.
auto.create.topics.enable=false

# Tests do not wait for a second member, nor minutes for the cleaner or for a dead transaction.
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=500
log.cleaner.min.cleanable.ratio=0.01
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=5000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# The cleaner's map is allocated at start and counts against the small heap.
log.cleaner.dedupe.buffer.size=16777216
",
        data = data.display()
    )
}

const LOGGING: &str = r"status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
";

fn java(class_path: &str, directory: &Path, heap: &str) -> Command {
    let mut command = Command::new("java");
    command
        .arg(heap)
        .arg(format!("-Dlog4j2.configurationFile={}", directory.join("log4j2.properties").display()))
        .args(["-cp", class_path.trim()])
        .env_remove("JAVA_TOOL_OPTIONS");
    command
}

pub fn start(process: &Detached, class_path: &str, directory: &Path, ports: Ports) -> Result<()> {
    let data = directory.join("broker-data");
    let properties = directory.join("server.properties");
    write(&properties, &settings(&data, ports))?;
    write(&directory.join("log4j2.properties"), LOGGING)?;
    if !data.join("meta.properties").exists() {
        let mut format = java(class_path, directory, "-Xmx128m");
        format
            .args(["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format", "--ignore-formatted"])
            .args(["--cluster-id", CLUSTER_ID, "--config"])
            .arg(&properties);
        child::run_quietly("formatting the broker's storage", &mut format)?;
    }
    let mut serve = java(class_path, directory, "-Xmx512m");
    serve.args(["-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true", "kafka.Kafka"]).arg(&properties);
    process.start(&mut serve)
}

pub fn wait(process: &Detached, port: u16) -> Result<()> {
    process.wait_until(PATIENCE, || {
        fs::read_to_string(process.log()).is_ok_and(|log| log.contains(STARTED)) && answers(port)
    })
}

pub fn answers(port: u16) -> bool {
    loopback::speaks_kafka(port).is_ok()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| Failure::file("write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_internal_topic_fits_on_one_broker() {
        let text = settings(Path::new("/data"), Ports { client: 9, controller: 8 });
        let single: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("replication.factor=") || line.contains("min.isr="))
            .collect();
        assert_eq!(single.len(), 6, "{single:?}");
        assert!(single.iter().all(|line| line.ends_with("=1")), "{single:?}");
        assert!(text.contains("listeners=PLAINTEXT://127.0.0.1:9,CONTROLLER://127.0.0.1:8\n"));
        assert!(text.contains("log.dirs=/data\n"));
    }
}
