//! The `sf2kafka` command: arguments in, an exit code out. All work is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sf2kafka::cli::main()
}
