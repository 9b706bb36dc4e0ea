//! Sees to it that a broker started for a test run ends with the run, even if the run is interrupted.
//!
//! In: an instance. Out: a second xtask, in a process group of its own, that waits for its standard input to
//! end (as it does however we end) and then stops the instance. Dropping it lets it finish and waits for it.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::Instance;
use crate::child;
use crate::failure::{Failure, Result};

pub struct Abandonment {
    watcher: Child,
}

impl Abandonment {
    pub fn watch(instance: &Instance) -> Result<Self> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(format!("cannot tell where xtask itself is: {error}")))?;
        let mut command = Command::new(program);
        command
            .args(["kafka", "--instance", instance.name(), "down", "--when-input-ends"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let watcher =
            command.spawn().map_err(|error| child::cannot_start("the watcher", &command, &error))?;
        Ok(Self { watcher })
    }
}

impl Drop for Abandonment {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // Its own outcome does not matter: on a normal end the instance was already stopped by name.
        let _ended = self.watcher.wait();
    }
}
