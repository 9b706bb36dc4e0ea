//! Kafka's own command-line tools, from the class path that the broker runs with.
//!
//! In: a tool and its arguments, passed on as they are. Out: its output and its exit code. Adds only the
//! running broker's address and a log setting: data to stdout, errors to stderr, no chatter.

use std::fs;
use std::process::Command;

use clap::Args;

use super::Instance;
use crate::failure::{Failure, Result};
use crate::{child, place};

#[derive(Args)]
pub struct Arguments {
    /// Passed on as they are; --bootstrap-server is added
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub struct Tool {
    name: &'static str,
    class: &'static str,
}

pub const CONSOLE_CONSUMER: Tool =
    Tool { name: "kafka-console-consumer", class: "org.apache.kafka.tools.consumer.ConsoleConsumer" };
pub const TOPICS: Tool = Tool { name: "kafka-topics", class: "org.apache.kafka.tools.TopicCommand" };
pub const CONFIGS: Tool = Tool { name: "kafka-configs", class: "kafka.admin.ConfigCommand" };

const LOGGING: &str = r"status = error
appender.err.type = Console
appender.err.name = err
appender.err.target = SYSTEM_ERR
appender.err.layout.type = PatternLayout
appender.err.layout.pattern = %p %m%n
rootLogger.level = error
rootLogger.appenderRef.err.ref = err
";

pub fn run(instance: &Instance, tool: Tool, given: &Arguments) -> Result<()> {
    let addresses = instance.running()?.ok_or_else(|| {
        Failure::new(format!("instance {} is not running", instance.name()))
            .hint("start it with `cargo xtask kafka up`")
    })?;
    let class_path = instance.class_path()?;
    let logging = place::kafka().join("tools-log4j2.properties");
    fs::write(&logging, LOGGING).map_err(|error| Failure::file("write", &logging, &error))?;
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
        .env_remove("JAVA_TOOL_OPTIONS")
        .arg("-cp")
        .arg(class_path.trim())
        .arg(tool.class)
        .args(["--bootstrap-server", &addresses.bootstrap])
        .args(&given.arguments);
    child::run(tool.name, &mut command)
}
