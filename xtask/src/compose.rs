//! docker-compose.yml, judged for each profile by programs that need no container engine.
//!
//! In: the file. Out: a failure if podman-compose cannot fill it in, if the Compose Specification does not
//! allow it, or if a service that must be there is not. Starts nothing, pulls nothing.

use std::fs;
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::python::Environment;
use crate::{child, place};

/// What each profile must bring up.
const PROFILES: [(Option<&str>, &[&str]); 2] = [
    (None, &["broker", "registry", "sf2kafka"]),
    (Some("demo"), &["broker", "registry", "sf2kafka", "simulator"]),
];

pub fn check(tools: &Environment) -> Result<()> {
    for (profile, wanted) in PROFILES {
        let name = profile.unwrap_or("default");
        let mut services = services(tools, profile, name)?;
        services.sort();
        if services != wanted {
            return Err(Failure::new(format!(
                "docker-compose.yml, profile {name}: it has the services {}, wanted are {}",
                services.join(", "),
                wanted.join(", ")
            )));
        }
    }
    Ok(())
}

fn services(tools: &Environment, profile: Option<&str>, name: &str) -> Result<Vec<String>> {
    let mut fill_in = Command::new(tools.program("podman-compose"));
    fill_in
        .current_dir(place::root())
        // Dry: no look for an engine.
        .args(["--dry-run", "--file", "docker-compose.yml"])
        .args(profile.iter().flat_map(|name| ["--profile", name]))
        .arg("config");
    let filled_in = child::output("podman-compose config", &mut fill_in)?;
    let kept = place::target().join(format!("docker-compose.{name}.yml"));
    fs::write(&kept, filled_in).map_err(|error| Failure::file("write", &kept, &error))?;

    let input = fs::File::open(&kept).map_err(|error| Failure::file("read", &kept, &error))?;
    let mut judge = Command::new(tools.python());
    judge.arg(place::root().join("xtask").join("check_compose.py"));
    let names = child::output_with_input(&format!("docker-compose.yml, profile {name}"), &mut judge, input)?;
    Ok(String::from_utf8_lossy(&names).lines().map(str::to_owned).collect())
}
