//! Who works for a queue, and on what.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::listing::JobOrder;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, JobState};
use crate::json;
use crate::queue::Queue;
use crate::store::{Connected, Found};

/// How many active jobs are looked at.
const ACTIVE_MAX: i64 = 10_000;
/// What is read of each; every job has a time stamp.
const FIELDS: [&str; 5] = ["name", "timestamp", "processedOn", "ats", "pb"];

/// A connected worker, of any library. In JSON times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConnectedWorker {
    /// The worker's name, if it has one.
    pub name: Option<String>,
    /// The connection's name, `rawname` with BullMQ.
    #[serde(rename = "rawname")]
    pub client_name: String,
    /// The number that Redis gave the connection.
    pub id: u64,
    /// Address and port as Redis sees them.
    #[serde(rename = "addr")]
    pub address: String,
    /// How long it has been connected, to the second.
    #[serde(with = "json::millis")]
    pub age: Duration,
    /// How long ago it last sent a command, to the second. Workers of BullMQ are idle while they wait.
    #[serde(with = "json::millis")]
    pub idle: Duration,
    /// The client library as it introduced itself, with its version; Redis knows that from 7.2 on.
    pub library: Option<String>,
}

/// A connected listener to the queue's events. In JSON times are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConnectedListener {
    /// The number that Redis gave the connection.
    pub id: u64,
    /// Address and port as Redis sees them.
    #[serde(rename = "addr")]
    pub address: String,
    /// How long it has been connected, to the second.
    #[serde(with = "json::millis")]
    pub age: Duration,
    /// How long ago it last sent a command, to the second.
    #[serde(with = "json::millis")]
    pub idle: Duration,
}

/// A job that is being run, or whose worker crashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RunningJob {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// When it was started.
    pub processed_on: Option<Timestamp>,
    /// Which start this is.
    pub attempts_started: u32,
}

/// The workers of one name, and what they do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkerActivity {
    /// The name; `None` for all workers without one.
    pub name: Option<String>,
    /// Those that are connected. None: the jobs are of a worker that is gone, and will be handed
    /// back.
    pub workers: Vec<ConnectedWorker>,
    /// The jobs that workers of this name have started, the earliest first.
    pub jobs: Vec<RunningJob>,
}

/// Who works for a queue, and on what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Activity {
    /// Workers and active jobs by the workers' names, in their order; those without a name first.
    pub by_name: Vec<WorkerActivity>,
    /// How many jobs are active. Only the 10,000 that were started first are looked at.
    pub active: u64,
}

/// Workers of every library, by the names of their connections (`docs/protocol.md#connection-names`).
impl<D> Queue<D> {
    /// Lists the connected workers. Redis lists all of its clients for that, which is the one read whose
    /// cost grows with something else than its answer.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`](crate::Error::Denied) where the user may not list clients (`+client|list`);
    /// [`Error::Server`](crate::Error::Server) by a service that has no such command; connection errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// if queue.workers().await?.is_empty() {
    ///     println!("nobody works for {}", queue.name());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "getWorkers")]
    #[doc(alias = "getWorkersCount")]
    pub async fn workers(&self) -> Result<Vec<ConnectedWorker>> {
        let connected = self.store().connected().await?;
        let base = self.store().keys().worker_client_name(None);
        Ok(connected
            .into_iter()
            .filter_map(|one| worker(one, &base))
            .collect())
    }

    /// Lists those who are connected to follow the queue's events.
    ///
    /// # Errors
    ///
    /// As [`workers`](Self::workers).
    #[doc(alias = "getQueueEvents")]
    pub async fn listeners(&self) -> Result<Vec<ConnectedListener>> {
        let connected = self.store().connected().await?;
        let name = self.store().keys().events_client_name();
        Ok(connected
            .into_iter()
            .filter(|one| one.client_name == name)
            .map(|one| ConnectedListener {
                id: one.id,
                address: one.address,
                age: Duration::from_secs(one.age),
                idle: Duration::from_secs(one.idle),
            })
            .collect())
    }

    /// Shows what each worker does: the active jobs beside the connected workers, by name. A job has the
    /// name of the worker that started it; which of several workers of that name it was is stored
    /// nowhere.
    ///
    /// It is not a snapshot: connections, then active jobs are read.
    ///
    /// # Errors
    ///
    /// As [`workers`](Self::workers).
    pub async fn activity(&self) -> Result<Activity> {
        let mut by_name: BTreeMap<Option<String>, WorkerActivity> = BTreeMap::new();
        for worker in self.workers().await? {
            let group = by_name.entry(worker.name.clone()).or_default();
            group.workers.push(worker);
        }
        let active = self.counts().await?.active;
        let states = [JobState::Active];
        let ids = self.job_ids(states, 0..ACTIVE_MAX, JobOrder::Ascending);
        let ids = ids.await?;
        let found = self.store().record_fields(&ids, &FIELDS).await?;
        for found in found {
            if let Found::Job(job) | Found::Unreadable(job) = found {
                let name = job.processed_by.filter(|name| !name.is_empty());
                by_name.entry(name).or_default().jobs.push(RunningJob {
                    id: job.id,
                    name: job.name,
                    processed_on: job.processed_on,
                    attempts_started: job.attempts_started,
                });
            }
        }
        let by_name = by_name
            .into_iter()
            .map(|(name, group)| WorkerActivity { name, ..group })
            .collect();
        Ok(Activity { by_name, active })
    }
}

/// A worker by the name of its connection, which begins with `base`; `None` for a listener.
fn worker(connected: Connected, base: &str) -> Option<ConnectedWorker> {
    let rest = connected.client_name.strip_prefix(base)?;
    let name = match rest.strip_prefix(":w:") {
        Some(name) => Some(name.to_owned()),
        None if rest.is_empty() => None,
        None => return None,
    };
    let library = connected.library.map(|library| {
        let version = connected.library_version.as_deref();
        version.map_or(library.clone(), |version| format!("{library} {version}"))
    });
    Some(ConnectedWorker {
        name: name.filter(|name| !name.is_empty()),
        client_name: connected.client_name,
        id: connected.id,
        address: connected.address,
        age: Duration::from_secs(connected.age),
        idle: Duration::from_secs(connected.idle),
        library,
    })
}
