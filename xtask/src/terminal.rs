//! The one place where xtask speaks: data to stdout, words to stderr.
//!
//! In: lines. Out: the terminal, or whatever it is redirected to. Never formats or decides anything.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one place where xtask speaks to the terminal"
)]

use std::fmt::Display;

/// A line that another program may read.
pub fn data(line: impl Display) {
    println!("{line}");
}

/// A line for the person who watches.
pub fn say(line: impl Display) {
    eprintln!("{line}");
}
