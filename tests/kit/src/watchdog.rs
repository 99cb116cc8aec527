//! Ends a child process when the test process dies without running destructors.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{KitError, Result};

/// A shell that waits for the end of the pipe this process holds, then kills the child.
///
/// The kernel closes the pipe however this process ends. Dropping the value calls the watch off,
/// which must happen before the child is reaped, because its process id may then be reused.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Watches over process `pid`, and over `dir`, which is removed after the kill.
    pub(crate) fn over(pid: u32, dir: Option<&Path>) -> Result<Self> {
        let script = r#"read -r _; kill -KILL "$1" 2>/dev/null; [ -n "$2" ] && rm -rf -- "$2""#;
        let shell = Command::new("sh")
            .args(["-c", script, "oxbull-testkit-watchdog"])
            .arg(pid.to_string())
            .arg(dir.unwrap_or(Path::new("")))
            // A group of its own: Ctrl-C ends the test process, not the one that cleans up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| KitError::because("cannot start a shell to watch a child", error))?;
        Ok(Self { shell })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // A shell that is gone already is as good as one that was killed.
        self.shell.kill().ok();
        self.shell.wait().ok();
    }
}
