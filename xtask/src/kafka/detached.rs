//! Servers that outlive the xtask that started them.
//!
//! In: a command, a log file and a pid file. Out: a process in a process group of its own (an interrupt in
//! the terminal does not reach it), remembered by pid *and* start time. It must never signal a process whose
//! start time is not the one remembered: pids are given out again.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::child;
use crate::failure::{Failure, Result};

const POLL: Duration = Duration::from_millis(50);

/// A server known by its pid file.
pub struct Detached {
    name: &'static str,
    pid_file: PathBuf,
    log: PathBuf,
}

/// A process as remembered: both must match for it to be ours.
#[derive(Debug, PartialEq, Eq)]
struct Remembered {
    pid: u32,
    started: String,
}

impl Detached {
    pub fn new(name: &'static str, directory: &Path) -> Self {
        Self {
            name,
            pid_file: directory.join(format!("{name}.pid")),
            log: directory.join(format!("{name}.log")),
        }
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    pub fn pid_if_running(&self) -> Option<u32> {
        let remembered = parse_pid_file(&fs::read_to_string(&self.pid_file).ok()?)?;
        (started(remembered.pid)? == remembered.started).then_some(remembered.pid)
    }

    /// Starts it with a fresh log. The pid file is written before this returns.
    pub fn start(&self, command: &mut Command) -> Result<()> {
        let log = File::create(&self.log).map_err(|error| Failure::file("write", &self.log, &error))?;
        let log_too = OpenOptions::new()
            .append(true)
            .open(&self.log)
            .map_err(|error| Failure::file("write", &self.log, &error))?;
        let process = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .process_group(0)
            .spawn()
            .map_err(|error| child::cannot_start(self.name, command, &error))?;
        let pid = process.id();
        let started = started(pid).ok_or_else(|| self.ended())?;
        fs::write(&self.pid_file, format!("{pid} {started}\n"))
            .map_err(|error| Failure::file("write", &self.pid_file, &error))
    }

    /// Polls `is_ready` until it says so, the process ends, or the time is up.
    pub fn wait_until(&self, patience: Duration, is_ready: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if self.pid_if_running().is_none() {
                return Err(self.ended());
            }
            if is_ready() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let waited = patience.as_secs();
                return Err(Failure::new(format!("the {} is not ready after {waited} s", self.name))
                    .with_log(&self.log)
                    .hint("end it with `cargo xtask kafka down` and look at the log"));
            }
            thread::sleep(POLL);
        }
    }

    fn ended(&self) -> Failure {
        Failure::new(format!("the {} ended while it started", self.name)).with_log(&self.log)
    }

    /// Asks it to stop, and ends it only if it has not after `patience`. Tells whether it was running.
    pub fn stop(&self, patience: Duration) -> Result<Stopped> {
        let Some(pid) = self.pid_if_running() else {
            self.forget();
            return Ok(Stopped::WasNotRunning);
        };
        signal(pid, "TERM")?;
        if self.gone_within(patience) {
            self.forget();
            return Ok(Stopped::Cleanly);
        }
        self.kill()
    }

    /// Ends it at once, without a chance to tidy up.
    pub fn kill(&self) -> Result<Stopped> {
        let Some(pid) = self.pid_if_running() else {
            self.forget();
            return Ok(Stopped::WasNotRunning);
        };
        signal(pid, "KILL")?;
        if self.gone_within(Duration::from_secs(10)) {
            self.forget();
            return Ok(Stopped::Killed);
        }
        Err(Failure::new(format!("the {} (pid {pid}) does not end", self.name)).with_log(&self.log))
    }

    fn gone_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.pid_if_running().is_some() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    fn forget(&self) {
        // A pid file that stays behind is harmless: its start time matches no process.
        let _gone = fs::remove_file(&self.pid_file);
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Stopped {
    WasNotRunning,
    Cleanly,
    Killed,
}

fn signal(pid: u32, name: &str) -> Result<()> {
    // The shell's own kill: procps is not everywhere.
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s \"$1\" \"$2\" 2>/dev/null || true", "sh", name, &pid.to_string()]);
    child::run_quietly("kill", &mut command)
}

fn parse_pid_file(text: &str) -> Option<Remembered> {
    let (pid, started) = text.trim_end().split_once(' ')?;
    Some(Remembered { pid: pid.parse().ok()?, started: started.to_owned() })
}

/// When a live process started, in words that no other process of that pid has; none if it has ended.
fn started(pid: u32) -> Option<String> {
    if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let ticks = start_ticks(&stat)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        return Some(format!("{ticks} {}", boot.trim()));
    }
    let output = Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Field 22 of /proc/<pid>/stat; none for a process that has ended but was not yet waited for. The second
/// field is the program's name in parentheses and may itself hold spaces and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(test: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("xtask-{test}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn the_start_time_is_found_behind_a_name_with_parentheses() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 100 10";
        assert_eq!(start_ticks(stat), Some(4711));
    }

    #[test]
    fn a_zombie_counts_as_ended() {
        let stat = "7 (java) Z 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 100 10";
        assert_eq!(start_ticks(stat), None);
    }

    #[test]
    fn a_server_is_started_found_and_stopped() {
        let directory = directory("detached");
        let server = Detached::new("server", &directory);
        server.start(Command::new("sh").args(["-c", "echo hello; exec sleep 600"])).unwrap();
        assert!(server.pid_if_running().is_some());
        server
            .wait_until(Duration::from_secs(10), || {
                fs::read_to_string(server.log()).unwrap().contains("hello")
            })
            .unwrap();
        assert_eq!(server.stop(Duration::from_secs(10)).unwrap(), Stopped::Cleanly);
        assert_eq!(server.pid_if_running(), None);
        assert_eq!(server.stop(Duration::from_secs(10)).unwrap(), Stopped::WasNotRunning);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_server_that_ends_early_is_told_with_its_log() {
        let directory = directory("early");
        let server = Detached::new("server", &directory);
        server.start(Command::new("sh").args(["-c", "sleep 0.2; echo no room >&2; exit 1"])).unwrap();
        let failure = server.wait_until(Duration::from_secs(10), || false).unwrap_err().to_string();
        assert!(failure.contains("ended while it started") && failure.contains("no room"), "{failure}");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_process_that_got_an_old_pid_is_left_alone() {
        let directory = directory("other");
        let server = Detached::new("server", &directory);
        let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(&server.pid_file, format!("{} 1 some-other-boot\n", stranger.id())).unwrap();
        assert_eq!(server.stop(Duration::from_secs(1)).unwrap(), Stopped::WasNotRunning);
        assert!(stranger.try_wait().unwrap().is_none(), "the stranger was ended");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
