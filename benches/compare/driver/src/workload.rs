//! The workloads, from `workloads.json`, which the driver for Node.js reads too.

use serde::{Deserialize, Serialize};

use crate::Failure;

/// What a workload does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Single adds, `in_flight` at once.
    Add,
    /// Bulk calls of `batch` jobs, one after another.
    Bulk,
    /// A worker empties a queue that was filled before.
    Process,
    /// A producer adds at a fixed rate while a worker runs.
    Load,
    /// Delayed jobs fall due at a fixed rate while a worker runs.
    Delayed,
    /// Flows are added, `in_flight` at once, while a worker runs.
    Flows,
    /// A producer that keeps `in_flight` jobs between their add and the end of their handler, and a worker.
    Through,
    /// Adds, then as many jobs processed, at the head of a queue that stays long.
    Backlog,
    /// How long until all slots of a worker are busy.
    Ramp,
}

/// One row of `workloads.json`. A number that a kind does not use is zero.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Workload {
    /// What it is called on the command line.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// How many jobs; flows for [`Kind::Flows`], seconds of load for [`Kind::Load`].
    pub jobs: usize,
    /// What it measures, in a few words.
    pub what: String,
    /// Adds at once; for [`Kind::Through`], jobs at once.
    #[serde(default)]
    pub in_flight: usize,
    /// Jobs of a bulk call.
    #[serde(default)]
    pub batch: usize,
    /// Jobs that a worker runs at once.
    #[serde(default)]
    pub concurrency: usize,
    /// Share of the yardstick, in percent.
    #[serde(default)]
    pub percent: u32,
    /// Delayed jobs that fall due in a second.
    #[serde(default)]
    pub per_second: u32,
    /// Priorities, given in turn.
    #[serde(default)]
    pub priorities: u32,
    /// How often each job fails before it completes.
    #[serde(default)]
    pub fails: u32,
    /// Children of each flow's parent.
    #[serde(default)]
    pub children: usize,
    /// Bytes of data a job, about; zero means about 100.
    #[serde(default)]
    pub size: usize,
    /// Jobs that wait before and after.
    #[serde(default)]
    pub backlog: usize,
    /// Queues; zero means one.
    #[serde(default)]
    pub queues: usize,
    /// Jobs that may start within `limit_ms`.
    #[serde(default)]
    pub limit: u32,
    /// The window of `limit`, in milliseconds.
    #[serde(default)]
    pub limit_ms: u64,
    /// Whether a listener waits for each job's `completed` event.
    #[serde(default)]
    pub listen: bool,
    /// The round trip to Redis that a proxy makes, in milliseconds.
    #[serde(default)]
    pub rtt_ms: u64,
}

impl Workload {
    /// Bytes of data a job, about.
    pub fn bytes(&self) -> usize {
        if self.size == 0 { 100 } else { self.size }
    }

    /// Whether jobs are in the queue before the measured window.
    pub fn is_filled(&self) -> bool {
        matches!(self.kind, Kind::Process | Kind::Backlog | Kind::Ramp)
    }

    /// Whether jobs are added while a worker runs, so that their latency says something.
    pub fn is_timed(&self) -> bool {
        matches!(self.kind, Kind::Load | Kind::Delayed | Kind::Through)
    }
}

/// All workloads, in their order.
pub fn table() -> Result<Vec<Workload>, Failure> {
    Ok(serde_json::from_str(include_str!("../../workloads.json"))?)
}

/// The workload of that name.
pub fn named(name: &str) -> Result<Workload, Failure> {
    table()?
        .into_iter()
        .find(|workload| workload.name == name)
        .ok_or_else(|| format!("there is no workload {name}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_workers_have_slots() -> Result<(), Failure> {
        let table = table()?;
        let mut names: Vec<_> = table.iter().map(|workload| &workload.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), table.len());
        for workload in &table {
            let adds_only = matches!(workload.kind, Kind::Add | Kind::Bulk);
            assert_eq!(workload.concurrency == 0, adds_only, "{}", workload.name);
            assert!(workload.jobs > 0, "{}", workload.name);
        }
        Ok(())
    }
}
