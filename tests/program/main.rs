//! The program as its users meet it: the built binary, its exit codes, what it says on stdout and on stderr.
//!
//! In: command lines and configuration files. Out: a failure when a promise of the command line does not hold.
#![cfg(test)]

mod command_line;
mod control_records;
mod demo;
mod documentation;
mod golden;
#[path = "../support/json_schema.rs"]
mod json_schema;
mod large_org;
mod logins;
