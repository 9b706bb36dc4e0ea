//! Virtual environments below `target/tools`, each made from one file of pinned requirements.
//!
//! In: a name and a requirements file. Out: an environment that holds exactly that; it is made anew when the
//! file or the Python changes. Never installs anything outside the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::failure::{Failure, Result};
use crate::{child, place, terminal};

pub struct Environment {
    directory: PathBuf,
}

impl Environment {
    pub fn python(&self) -> PathBuf {
        self.program("python")
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join("bin").join(name)
    }
}

/// Makes the environment unless it is there with the same requirements and the same Python.
pub fn environment(name: &str, requirements: &Path) -> Result<Environment> {
    let wanted = fs::read_to_string(requirements)
        .map_err(|error| Failure::file("read the requirements", requirements, &error))?;
    let mut version = Command::new("python3");
    version.arg("--version");
    let version = child::output("Python", &mut version)?;
    let wanted = format!("# {}{wanted}", String::from_utf8_lossy(&version));

    let directory = place::tools().join(name);
    let stamp = directory.join("made-from.txt");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == wanted) {
        return Ok(Environment { directory });
    }
    let begun = Instant::now();
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(|error| Failure::file("clear", &directory, &error))?;
    }
    fs::create_dir_all(&directory).map_err(|error| Failure::file("create", &directory, &error))?;
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&directory);
    child::run_quietly("making a Python environment", &mut make)
        .map_err(|failure| failure.hint("Python's venv module is needed (Debian: python3-venv)"))?;
    let mut install = Command::new(directory.join("bin").join("python"));
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--requirement",
        ])
        .arg(requirements);
    child::run_quietly(&format!("pip, installing {}", requirements.display()), &mut install)?;
    fs::write(&stamp, wanted).map_err(|error| Failure::file("write", &stamp, &error))?;
    terminal::say(format_args!(
        "made the Python environment {name} in {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    Ok(Environment { directory })
}
