//! `cargo xtask golden`: golden files compared, or (`--accept`) written anew from what the program produces.
//!
//! In: the tests whose names hold `golden`. Out: a failure that shows the difference; with `--accept` changed
//! files, to be read as a diff before they are committed.

use clap::Args;

use crate::failure::Result;
use crate::{cargo, terminal};

/// Golden tests write instead of comparing when this is set.
const UPDATE: &str = "UPDATE_GOLDEN";

#[derive(Args)]
pub struct Arguments {
    /// Take over what the program produces now
    #[arg(long)]
    accept: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut command = cargo::command();
    command.args(["test", "--workspace", "golden"]).env_remove(UPDATE);
    if arguments.accept {
        command.env(UPDATE, "1");
    }
    cargo::test("the golden tests", &mut command)?;
    if arguments.accept {
        terminal::say("read the difference before you commit it: git diff");
    }
    Ok(())
}
