//! The server's process, from spawn to reaping.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::watchdog::Watchdog;
use crate::{KitError, Result};

/// A running server; dropping it kills it and waits for its end.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// `None` once called off, which is before the child is reaped.
    watchdog: Option<Watchdog>,
}

impl Process {
    /// Writes `redis.conf` into `dir` and starts `binary` with it.
    pub(super) fn spawn(
        binary: &Path,
        dir: &Path,
        lines: &[String],
        arguments: &[&str],
    ) -> Result<Self> {
        let config = dir.join("redis.conf");
        fs::write(&config, lines.join("\n") + "\n")
            .map_err(|error| KitError::because("cannot write redis.conf", error))?;
        let log =
            open_log(dir).map_err(|error| KitError::because("cannot open redis.log", error))?;
        let errors = log
            .try_clone()
            .map_err(|error| KitError::because("cannot open redis.log", error))?;
        let mut child = Command::new(binary)
            .arg(&config)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A group of its own: Ctrl-C asks the program that uses the server, not the server.
            .process_group(0)
            .spawn()
            .map_err(|error| {
                KitError::because(format!("cannot start {}", binary.display()), error)
            })?;
        match Watchdog::over(child.id(), Some(dir)) {
            Ok(watchdog) => Ok(Self {
                child,
                watchdog: Some(watchdog),
            }),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                Err(error)
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = !matches!(self.child.try_wait(), Ok(None));
        if ended {
            self.watchdog.take();
        }
        ended
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| KitError::new("the server has no usable process id"))?;
        kill_process(pid, signal).map_err(|error| {
            KitError::because(format!("cannot signal the server ({signal:?})"), error)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.watchdog.take();
        // A child that ended already needs no killing, only reaping.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn open_log(dir: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("redis.log"))
}

/// The last lines of the log in `dir`.
pub(super) fn log_tail(dir: &Path) -> String {
    let log = fs::read_to_string(dir.join("redis.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let skip = lines.len().saturating_sub(20);
    lines.into_iter().skip(skip).collect::<Vec<_>>().join("\n")
}

/// Finds the server's binary: `OXBULL_REDIS_SERVER`, else `redis-server` or `valkey-server`.
pub(super) fn find_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("OXBULL_REDIS_SERVER").filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["redis-server", "valkey-server"]
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            KitError::new(
                "these tests need a Redis server: install redis-server (7.0 or later) or \
                 valkey-server, or set OXBULL_REDIS_SERVER to its path",
            )
        })
}
