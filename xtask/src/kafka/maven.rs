//! Fetches the broker's jars and the registry's distribution with the machine's own Maven.
//!
//! In: `xtask/kafka/pom.xml` and a coordinate. Out: a class path and an unpacked directory below
//! `target/kafka`, kept until the coordinates change. Never names a repository: Maven's settings decide.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::{child, place, terminal};

/// Pinned, because the class path and unpack goals of Maven's default version are years older.
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// The class path of `pom`, through Maven the first time and after each change of the pom.
pub fn class_path(pom: &Path, keep_in: &Path) -> Result<String> {
    let wanted = fs::read_to_string(pom).map_err(|error| Failure::file("read", pom, &error))?;
    let kept_path = keep_in.join("class-path.txt");
    let kept_pom = keep_in.join("class-path.pom.xml");
    if fs::read_to_string(&kept_pom).is_ok_and(|kept| kept == wanted)
        && let Ok(class_path) = fs::read_to_string(&kept_path)
        && is_complete(&class_path)
    {
        return Ok(class_path);
    }
    terminal::say("fetching Apache Kafka with Maven");
    let mut command = maven(keep_in);
    command
        .arg("--file")
        .arg(pom)
        .arg(format!("{DEPENDENCY_PLUGIN}:build-classpath"))
        .arg(format!("-Dmdep.outputFile={}", kept_path.display()));
    child::run_quietly("Maven, fetching Apache Kafka", &mut command)?;
    let class_path =
        fs::read_to_string(&kept_path).map_err(|error| Failure::file("read", &kept_path, &error))?;
    if !is_complete(&class_path) {
        return Err(Failure::new("Maven gave a class path whose jars are not all there"));
    }
    fs::write(&kept_pom, wanted).map_err(|error| Failure::file("write", &kept_pom, &error))?;
    Ok(class_path)
}

fn is_complete(class_path: &str) -> bool {
    let mut jars = class_path.trim().split(':').peekable();
    jars.peek().is_some_and(|first| !first.is_empty()) && jars.all(|jar| Path::new(jar).is_file())
}

/// Unpacks an archive artifact into a directory named after its coordinate.
pub fn unpack(coordinate: &str, keep_in: &Path) -> Result<PathBuf> {
    let directory = keep_in.join(coordinate.replace(':', "_"));
    let complete = directory.join(".complete");
    if complete.exists() {
        return Ok(directory);
    }
    terminal::say(format_args!("fetching {coordinate} with Maven"));
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(|error| Failure::file("clear", &directory, &error))?;
    }
    let mut command = maven(keep_in);
    command
        .arg(format!("{DEPENDENCY_PLUGIN}:unpack"))
        .arg(format!("-Dartifact={coordinate}"))
        .arg(format!("-DoutputDirectory={}", directory.display()));
    child::run_quietly("Maven, fetching the schema registry", &mut command)?;
    // Without a project the plugin takes the name of its marker directory literally; it holds nothing of use.
    let _gone = fs::remove_dir_all(keep_in.join("${project.basedir}"));
    fs::write(&complete, "").map_err(|error| Failure::file("write", &complete, &error))?;
    Ok(directory)
}

fn maven(working_directory: &Path) -> Command {
    let mut command = Command::new("mvn");
    command.args(["--batch-mode", "--quiet", "-Dstyle.color=never"]).current_dir(working_directory);
    command
}

/// The broker's coordinates.
pub fn broker_pom() -> PathBuf {
    place::root().join("xtask").join("kafka").join("pom.xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_path_with_a_missing_jar_is_fetched_again() {
        let here = place::root().join("Cargo.toml");
        assert!(is_complete(&format!("{}\n", here.display())));
        assert!(!is_complete(&format!("{}:/no/such.jar", here.display())));
        assert!(!is_complete(""));
    }
}
