//! `cargo xtask demo`: the program's own demonstration, from a release build.
//!
//! In: the demonstration's arguments. Out: its output and whether it held.

use clap::Args;

use crate::failure::Result;
use crate::{cargo, child};

#[derive(Args)]
pub struct Arguments {
    /// Passed on, for example `--duration 20s`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut command = cargo::command();
    command.args(["run", "--release", "--package", "sf2kafka", "--", "demo"]).args(&arguments.arguments);
    child::run("the demonstration", &mut command)
}
