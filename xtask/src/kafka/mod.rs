//! `cargo xtask kafka`: a real broker and a real schema registry, fetched by coordinate, on loopback.
//!
//! In: up, down, status or a Kafka tool's name. Out: two running servers and where they are
//! (`KAFKA_BOOTSTRAP`, `SCHEMA_REGISTRY_URL`). State lives in `target/kafka/<instance>`, so that checkouts
//! and instances do not clash. It must never end a process that it did not start.

mod abandonment;
mod broker;
mod detached;
mod instance;
mod maven;
mod registry;
mod tool;

use clap::{Args, Subcommand, ValueEnum};

pub use self::abandonment::Abandonment;
pub use self::instance::{Addresses, Instance};
use crate::failure::{Failure, Result};
use crate::terminal;

#[derive(Args)]
pub struct Arguments {
    /// Several may run side by side, each with its own ports and data; `cargo xtask test` uses `test`
    #[arg(long, default_value = "dev", global = true, value_parser = instance_name)]
    instance: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start both (or leave them running) and say where they are
    Up {
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Stop what `up` started, cleanly; the data stays for the next `up`
    Down {
        /// Also forget topics, schemas and logs
        #[arg(long)]
        purge: bool,
        /// First wait until standard input ends
        #[arg(long, hide = true)]
        when_input_ends: bool,
    },
    /// End the broker at once, as a crash would; registry and data stay, and `up` starts it again
    Kill,
    /// What is running; exit code 1 if not both
    Status {
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Kafka's own console consumer, for example `--topic crm.control --from-beginning --property print.key=true`
    ConsoleConsumer(tool::Arguments),
    /// Kafka's own topics tool, for example `--list` or `--describe --topic crm.Account`
    Topics(tool::Arguments),
    /// Kafka's own configs tool, for example `--describe --topic crm.control`
    Configs(tool::Arguments),
}

#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Output {
    /// For a person
    #[default]
    Text,
    /// `NAME=value` lines for a shell
    Env,
    Json,
}

fn instance_name(given: &str) -> std::result::Result<String, String> {
    let fits = !given.is_empty()
        && given.len() <= 32
        && given.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if fits { Ok(given.to_owned()) } else { Err("use lower-case letters, digits and hyphens".to_owned()) }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let instance = Instance::named(&arguments.instance);
    match &arguments.action {
        Action::Up { output } => {
            let addresses = instance.up()?;
            show(&addresses, *output);
            Ok(())
        }
        Action::Down { purge, when_input_ends } => {
            if *when_input_ends {
                // An error is an end too.
                let _ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            }
            instance.down(*purge)
        }
        Action::Kill => instance.kill_broker(),
        Action::Status { output } => status(&instance, *output),
        Action::ConsoleConsumer(given) => tool::run(&instance, tool::CONSOLE_CONSUMER, given),
        Action::Topics(given) => tool::run(&instance, tool::TOPICS, given),
        Action::Configs(given) => tool::run(&instance, tool::CONFIGS, given),
    }
}

fn show(addresses: &Addresses, output: Output) {
    match output {
        Output::Text => {
            terminal::data(format_args!("broker    {}", addresses.bootstrap));
            terminal::data(format_args!("registry  {}", addresses.registry_url));
        }
        Output::Env => {
            terminal::data(format_args!("KAFKA_BOOTSTRAP={}", addresses.bootstrap));
            terminal::data(format_args!("SCHEMA_REGISTRY_URL={}", addresses.registry_url));
        }
        Output::Json => terminal::data(serde_json::json!({
            "kafka_bootstrap": addresses.bootstrap,
            "schema_registry_url": addresses.registry_url,
        })),
    }
}

fn status(instance: &Instance, output: Output) -> Result<()> {
    match instance.running()? {
        Some(addresses) => {
            show(&addresses, output);
            Ok(())
        }
        None => Err(Failure::new(format!("instance {} is not running", instance.name()))
            .hint("start it with `cargo xtask kafka up`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_name_cannot_leave_its_directory() {
        assert!(instance_name("test-2").is_ok());
        assert!(instance_name("../other").is_err());
        assert!(instance_name("").is_err());
    }
}
