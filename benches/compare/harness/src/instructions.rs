//! Instructions that Redis executes per job, counted by Callgrind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use compare_driver::{Failure, Kind, Workload};
use oxbull_testkit::RedisServer;
use serde::Serialize;
use tempfile::TempDir;

use crate::contestant::Contestant;
use crate::session::{Outcome, Turn, Watch};

/// What a contestant's jobs cost Redis.
#[derive(Debug, Serialize)]
pub(crate) struct Count {
    /// The workload.
    pub(crate) workload: String,
    /// The contestant.
    pub(crate) contestant: Contestant,
    /// Instructions a job, or why there are none.
    pub(crate) instructions: Result<f64, String>,
}

/// Whether Callgrind is there.
pub(crate) fn is_possible() -> bool {
    ["valgrind", "callgrind_control"]
        .iter()
        .all(|tool| Command::new(tool).arg("--version").output().is_ok())
}

/// Jobs enough for what a job costs; Redis runs some fifty times slower.
pub(crate) fn jobs(workload: &Workload) -> usize {
    match workload.kind {
        Kind::Flows => 50,
        Kind::Bulk => 2000,
        _ => 500,
    }
}

/// Counts with `jobs` and with twice as many: the difference is free of what does not depend on
/// the number of jobs.
pub(crate) async fn count(
    contestant: Contestant,
    workload: &Workload,
    jobs: usize,
    seed: u64,
) -> Result<Count, Failure> {
    let mut totals = Vec::new();
    let mut failure = None;
    for jobs in [jobs, 2 * jobs] {
        let mut callgrind = Callgrind::new()?;
        let server = RedisServer::builder()
            .binary(&callgrind.wrapper)
            // Nothing that happens by the clock.
            .configs(&["hz 1", "dynamic-hz no", "activerehashing no"]);
        let turn = Turn {
            contestant,
            workload,
            jobs,
            rate: 100.0,
            seed,
        };
        match turn.run(server, &mut callgrind).await {
            Outcome::Done(numbers) => totals.push((numbers.jobs, callgrind.total)),
            Outcome::Unsupported(why) | Outcome::Failed(why) => failure = Some(why),
        }
    }
    let instructions = match (failure, totals.as_slice()) {
        (None, [one, two]) => difference(*one, *two).ok_or_else(|| "no difference".to_owned()),
        (why, _) => Err(why.unwrap_or_default()),
    };
    Ok(Count {
        workload: workload.name.clone(),
        contestant,
        instructions,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn difference(one: (usize, u64), two: (usize, u64)) -> Option<f64> {
    let jobs = two.0.checked_sub(one.0).filter(|jobs| *jobs > 0)?;
    Some(two.1.checked_sub(one.1)? as f64 / jobs as f64)
}

/// A server under Callgrind, which counts between the marks.
struct Callgrind {
    dir: TempDir,
    wrapper: PathBuf,
    total: u64,
}

impl Callgrind {
    fn new() -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        let wrapper = dir.path().join("redis-server");
        let redis = std::env::var("OXBULL_REDIS_SERVER").unwrap_or("redis-server".to_owned());
        let script = format!(
            "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --instr-atstart=no \
             --callgrind-out-file='{}/callgrind.out' '{redis}' \"$@\"\n",
            dir.path().display(),
        );
        fs::write(&wrapper, script)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            dir,
            wrapper,
            total: 0,
        })
    }
}

fn control(server: &RedisServer, what: &[&str]) -> Result<(), Failure> {
    let pid = server.pid().ok_or("the server does not run")?;
    let output = Command::new("callgrind_control")
        .args(what)
        .arg(pid.to_string())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || said.contains("No active callgrind runs") {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("callgrind_control {what:?}: {said}{errors}").into());
    }
    Ok(())
}

impl Watch for Callgrind {
    async fn start(&mut self, server: &RedisServer) -> Result<(), Failure> {
        control(server, &["-i", "on"])
    }

    async fn end(&mut self, server: &RedisServer) -> Result<(), Failure> {
        control(server, &["-d"])?;
        let mut total = None;
        for entry in fs::read_dir(self.dir.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it != "out") {
                total = total.or(instructions(&fs::read_to_string(path)?));
            }
        }
        self.total = total.ok_or("Callgrind wrote no total")?;
        Ok(())
    }
}

/// The total of a dump of Callgrind.
fn instructions(dump: &str) -> Option<u64> {
    dump.lines()
        .find_map(|line| {
            line.strip_prefix("totals:")
                .or_else(|| line.strip_prefix("summary:"))
        })?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found_in_dumps() {
        let dump = "# callgrind format\nevents: Ir\nsummary: 12345\n\nfn=(1) main\n";
        assert_eq!(instructions(dump), Some(12345));
        assert_eq!(instructions("totals: 7\n"), Some(7));
        assert_eq!(instructions("fn=(1)\n"), None);
    }

    #[test]
    fn fixed_costs_cancel_out() {
        assert_eq!(difference((100, 1500), (200, 2500)), Some(10.0));
        assert_eq!(difference((100, 1500), (100, 1500)), None);
        assert_eq!(difference((100, 1500), (200, 1400)), None);
    }
}
