//! `cargo xtask`: everything that those who work on sf2kafka run.
//!
//! In: a subcommand. Out: exit code 0 if what was asked for holds, 1 if it does not, 2 for wrong usage;
//! data on stdout, words on stderr. It must never touch anything outside the checkout's target directory
//! and the package clients' own caches, nor end a process that it did not start.

mod browser;
mod cargo;
mod check;
mod child;
#[cfg(feature = "codegen")]
mod codegen;
mod compose;
mod demo;
mod deny;
mod evidence;
mod failure;
mod fuzz;
mod golden;
mod kafka;
mod loopback;
mod place;
mod python;
mod sim_clients;
mod simulator;
mod steps;
mod terminal;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything: checks, a real broker and registry, all tests, the published clients; cleans up after itself
    Test(test::Arguments),
    /// Format, clippy, dependencies, layering, compose file: the quick half of `test`
    Check(check::Arguments),
    /// A real Kafka broker and schema registry on this machine, without containers
    Kafka(kafka::Arguments),
    /// Published Salesforce clients, their code untouched, against the simulator
    SimClients(sim_clients::Arguments),
    /// The login in a real browser, as a person does it, against the simulator
    BrowserLogin(browser::Arguments),
    /// Run the demonstration from a release build
    Demo(demo::Arguments),
    /// Golden files: compare them, or take over what the program produces now
    Golden(golden::Arguments),
    /// The parsers of foreign bytes against inputs that a fuzzer makes up, guided by what they cover
    Fuzz(fuzz::Arguments),
    /// Make the Rust of `proto/` anew (cargo run -p xtask --features codegen -- codegen)
    #[cfg(feature = "codegen")]
    Codegen,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Test(arguments) => test::run(&arguments),
        Task::Check(arguments) => check::run(&arguments),
        Task::Kafka(arguments) => kafka::run(&arguments),
        Task::SimClients(arguments) => sim_clients::run(&arguments),
        Task::BrowserLogin(arguments) => browser::run(&arguments),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Golden(arguments) => golden::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        #[cfg(feature = "codegen")]
        Task::Codegen => codegen::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    terminal::say(failure);
    ExitCode::FAILURE
}
