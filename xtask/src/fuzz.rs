//! `cargo xtask fuzz`: libFuzzer on the parsers of foreign bytes, guided by what it covers, on the stable toolchain.
//!
//! In: targets, which are the folders of `tests/fuzz/corpus`, and how long each runs. Out: a failure that names the input
//! that a target could not bear; with `--keep` the corpus in the checkout takes over what covered more, as small as it can
//! be. Needs a C++ compiler. Never runs more than one target at a time.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::failure::{Failure, Result};
use crate::{cargo, child, place, terminal};

/// Counters for every edge and every comparison: what libFuzzer goes by. The compiler's own switch for it is not stable.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Longer inputs say nothing new, and are slow. The longest recorded ones fit.
const LONGEST_INPUT: &str = "-max_len=49152";
const LIMITS: [&str; 3] = ["-rss_limit_mb=2048", "-timeout=10", "-len_control=20"];

#[derive(Args)]
pub struct Arguments {
    /// Targets; all, if none is named
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Put what covered more into the corpus of the checkout, and take out what covers nothing of its own
    #[arg(long)]
    keep: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let targets = chosen(&arguments.targets)?;
    let fuzzer = build()?;
    let mut fallen = Vec::new();
    for target in &targets {
        terminal::say(format!("target {target}, {} seconds", arguments.seconds));
        if let Err(failure) = fuzz(&fuzzer, target, arguments.seconds) {
            terminal::say(&failure);
            fallen.push(target.as_str());
        } else if arguments.keep {
            keep(&fuzzer, target)?;
        }
    }
    if fallen.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("inputs were found that do not hold: {}", fallen.join(", "))).hint(format!(
        "they are in {}; put each into tests/fuzz/corpus/TARGET, then `cargo test -p sf2kafka --lib fuzzing`",
        found_in("TARGET").display()
    )))
}

fn corpus() -> PathBuf {
    place::root().join("tests").join("fuzz").join("corpus")
}

/// Inputs that a target could not bear.
fn found_in(target: &str) -> PathBuf {
    place::target().join("fuzz").join("found").join(target)
}

/// What was collected by runs on this machine.
fn collected(target: &str) -> PathBuf {
    place::target().join("fuzz").join("corpus").join(target)
}

fn chosen(named: &[String]) -> Result<Vec<String>> {
    let folder = corpus();
    let failed = |error: &std::io::Error| Failure::file("read", &folder, error);
    let mut known = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|error| failed(&error))? {
        let entry = entry.map_err(|error| failed(&error))?;
        known.push(entry.file_name().to_string_lossy().into_owned());
    }
    known.sort_unstable();
    match named.iter().find(|name| !known.contains(name)) {
        Some(unknown) => {
            Err(Failure::new(format!("no target {unknown}")).hint(format!("there are {}", known.join(", "))))
        }
        None if named.is_empty() => Ok(known),
        None => Ok(named.to_vec()),
    }
}

/// The fuzzer, in a target directory of its own: its flags would make everything else be built anew.
fn build() -> Result<PathBuf> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| OsString::from("c++"));
    let mut version = Command::new(&compiler);
    child::run_quietly("the C++ compiler", version.arg("--version"))
        .map_err(|failure| failure.hint("install a C++ compiler (Debian: g++)"))?;
    let host = host()?;
    let folder = place::target().join("fuzz").join("build");
    let mut command = cargo::command();
    // With a target named, build scripts and macros are built without the flags.
    command
        .args(["build", "--locked", "--package", "sf2kafka-fuzz", "--features", "libfuzzer"])
        .args(["--profile", "fuzz", "--target", &host])
        .env("CARGO_TARGET_DIR", &folder)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", COVERAGE);
    child::run("building the fuzzer", &mut command)?;
    Ok(folder.join(host).join("fuzz").join("fuzz"))
}

fn host() -> Result<String> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let said = child::output("rustc", Command::new(compiler).current_dir(place::root()).arg("-vV"))?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("rustc does not say what it builds for"))
}

fn fuzz(fuzzer: &Path, target: &str, seconds: u32) -> Result<()> {
    let (collected, found) = (collected(target), found_in(target));
    for folder in [&collected, &found] {
        std::fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, &error))?;
    }
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(found.join(""));
    let mut command = Command::new(fuzzer);
    command
        .env("SF2KAFKA_FUZZ", target)
        .args(LIMITS)
        .args([LONGEST_INPUT, "-print_final_stats=1"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(prefix)
        .args([collected, corpus().join(target)]);
    child::run(&format!("target {target}"), &mut command)
}

/// The least inputs that cover what all together cover. Those that a person named stay: each of them stands for something.
fn keep(fuzzer: &Path, target: &str) -> Result<()> {
    let (old, new) = (corpus().join(target), place::target().join("fuzz").join("least").join(target));
    let _ = std::fs::remove_dir_all(&new);
    std::fs::create_dir_all(&new).map_err(|error| Failure::file("make", &new, &error))?;
    let mut command = Command::new(fuzzer);
    // By what is covered, however often: else a corpus is ten times as large.
    let how = [LONGEST_INPUT, "-use_counters=0", "-set_cover_merge=1"];
    command.env("SF2KAFKA_FUZZ", target).args(LIMITS).args(how).args([&new, &old, &collected(target)]);
    child::run_quietly(&format!("choosing the inputs of {target}"), &mut command)?;
    let least = files(&new)?;
    // Nothing chosen would be a fuzzer that sees nothing.
    if least.is_empty() {
        return Err(Failure::new(format!("no input of {target} covers anything")));
    }
    let (numbered, named): (Vec<PathBuf>, Vec<PathBuf>) =
        files(&old)?.into_iter().partition(|file| is_numbered(file));
    for file in numbered {
        std::fs::remove_file(&file).map_err(|error| Failure::file("remove", &file, &error))?;
    }
    let read = |file: &PathBuf| std::fs::read(file).map_err(|error| Failure::file("read", file, &error));
    let known: Vec<Vec<u8>> = named.iter().map(read).collect::<Result<_>>()?;
    for file in least {
        let Some(name) = file.file_name() else { continue };
        if !known.contains(&read(&file)?) {
            std::fs::copy(&file, old.join(name)).map_err(|error| Failure::file("copy", &file, &error))?;
        }
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Failure::file("read", folder, &error))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// libFuzzer calls an input by the hash of its bytes.
fn is_numbered(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_not_there_is_named_with_those_that_are() {
        let failure = chosen(&["cvs".to_owned()]).unwrap_err().to_string();
        assert!(failure.contains("no target cvs") && failure.contains("bulk-page"), "{failure}");
        assert!(chosen(&[]).unwrap().contains(&"control".to_owned()));
    }

    #[test]
    fn an_input_that_a_person_named_is_told_from_the_fuzzers_own() {
        assert!(is_numbered(Path::new("corpus/control/347622ad5d31e63d29f98dbcbd2ee981be48f5a7")));
        assert!(!is_numbered(Path::new("corpus/control/ledger-foreign-key")));
    }
}
