//! Plain reads: no scripts, so that a read-only user may run them.

mod backlog;
mod blocked;
mod dependencies;
mod flow;
mod limits;
mod schedulers;

use std::time::Duration;

pub(crate) use blocked::PendingChild;
pub(crate) use flow::FlowMember;

use crate::client::Repeat;
use crate::error::{Error, Result};
use crate::job::{JobId, JobRecord, JobState};
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};
use crate::wire;

/// How many jobs are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) waiting: u64,
    /// Jobs that a BullMQ 5 client parked while it had the queue paused.
    pub(crate) parked: u64,
    pub(crate) active: u64,
    pub(crate) prioritized: u64,
    pub(crate) delayed: u64,
    pub(crate) waiting_children: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
}

/// Rows of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogPage {
    pub(crate) rows: Vec<String>,
    pub(crate) total: u64,
}

impl Store {
    /// Sends reads as one transaction, so that they see one moment.
    ///
    /// A server that is out of memory refuses transactions but not reads: they are then sent
    /// one by one, because they show what fills the server.
    async fn snapshot(&self, reads: &Batch, what: &str) -> Result<Vec<Value>> {
        let framed = reads.transaction();
        let mut answers = self.connection.pipeline(&framed, Repeat::Safe).await?;
        if answers.len() != reads.len() + 2 {
            return Err(reply::unexpected(what));
        }
        let last = answers.pop().ok_or_else(|| reply::unexpected(what))?;
        let values = match last {
            Ok(values) => reply::items(values, what)?,
            // A command that was refused inside the transaction names the reason; EXEC does not.
            Err(error) => match answers.into_iter().find_map(Result::err).unwrap_or(error) {
                Error::Overloaded(_) => {
                    let answers = self.connection.pipeline(reads, Repeat::Safe).await?;
                    return answers.into_iter().collect();
                }
                error => return Err(error),
            },
        };
        values
            .into_iter()
            .map(|value| match value {
                Value::ServerError(error) => Err(Error::Server(format!("{what}: {error}"))),
                value => Ok(value),
            })
            .collect()
    }

    /// Reads a job.
    pub(crate) async fn job(&self, id: &JobId) -> Result<Option<JobRecord>> {
        let command = Command::new("HGETALL").arg(self.keys.job(id));
        let value = self.connection.request(command, Repeat::Safe).await?;
        let fields = reply::fields(value, "a job")?;
        Ok((!fields.is_empty()).then(|| wire::decode_record(id.clone(), fields)))
    }

    /// Finds the state of a job by the place that holds it (`docs/protocol.md#job-states`).
    pub(crate) async fn state(&self, id: &JobId) -> Result<Option<JobState>> {
        const SETS: [(&str, JobState); 5] = [
            ("completed", JobState::Completed),
            ("failed", JobState::Failed),
            ("delayed", JobState::Delayed),
            ("prioritized", JobState::Prioritized),
            ("waiting-children", JobState::WaitingChildren),
        ];
        const LISTS: [(&str, JobState); 3] = [
            ("active", JobState::Active),
            ("wait", JobState::Waiting),
            ("paused", JobState::Waiting),
        ];
        let mut batch = Batch::new();
        for (set, _) in SETS {
            batch.push(
                Command::new("ZSCORE")
                    .arg(self.keys.key(set))
                    .arg(id.as_bytes()),
            );
        }
        for (list, _) in LISTS {
            batch.push(
                Command::new("LPOS")
                    .arg(self.keys.key(list))
                    .arg(id.as_bytes()),
            );
        }
        let answers = self.snapshot(&batch, "the state of a job").await?;
        Ok(SETS
            .iter()
            .chain(LISTS.iter())
            .zip(answers)
            .find(|(_, answer)| *answer != Value::Nil)
            .map(|((_, state), _)| *state))
    }

    /// Counts the jobs of each state at one moment.
    pub(crate) async fn counts(&self) -> Result<Counts> {
        const WHAT: &str = "the counts of a queue";
        let mut batch = Batch::new();
        for list in ["wait", "paused", "active"] {
            batch.push(Command::new("LLEN").arg(self.keys.key(list)));
        }
        for set in [
            "prioritized",
            "delayed",
            "waiting-children",
            "completed",
            "failed",
        ] {
            batch.push(Command::new("ZCARD").arg(self.keys.key(set)));
        }
        let answers = self.snapshot(&batch, WHAT).await?;
        let numbers = answers
            .iter()
            .map(|answer| Ok(u64::try_from(reply::int(answer, WHAT)?).unwrap_or(0)))
            .collect::<Result<Vec<_>>>()?;
        let [
            waiting,
            parked,
            active,
            prioritized,
            delayed,
            waiting_children,
            completed,
            failed,
        ] = *numbers
        else {
            return Err(reply::unexpected(WHAT));
        };
        Ok(Counts {
            waiting,
            parked,
            active,
            prioritized,
            delayed,
            waiting_children,
            completed,
            failed,
        })
    }

    /// Finds the owner of a deduplication id, and how long the id stays taken.
    pub(crate) async fn deduplication_owner(
        &self,
        id: &[u8],
    ) -> Result<Option<(JobId, Option<Duration>)>> {
        const WHAT: &str = "a deduplication id";
        let key = [self.keys.base().as_bytes(), b"de:", id].concat();
        let mut batch = Batch::new();
        batch.push(Command::new("GET").arg(&key));
        batch.push(Command::new("PTTL").arg(&key));
        let mut answers = self.snapshot(&batch, WHAT).await?.into_iter();
        let (Some(owner), Some(ttl)) = (answers.next(), answers.next()) else {
            return Err(reply::unexpected(WHAT));
        };
        if owner == Value::Nil {
            return Ok(None);
        }
        let remaining = u64::try_from(reply::int(&ttl, WHAT)?).ok();
        Ok(Some((
            reply::id(owner, WHAT)?,
            remaining.map(Duration::from_millis),
        )))
    }

    /// Returns whether the queue is paused.
    pub(crate) async fn is_paused(&self) -> Result<bool> {
        let command = Command::new("HEXISTS")
            .arg(self.keys.key("meta"))
            .arg("paused");
        let value = self.connection.request(command, Repeat::Safe).await?;
        Ok(reply::int(&value, "HEXISTS")? == 1)
    }

    /// Reads rows of a job's log; indexes as in LRANGE.
    pub(crate) async fn logs(&self, id: &JobId, start: i64, end: i64) -> Result<LogPage> {
        const WHAT: &str = "the log of a job";
        let key = self.keys.logs(id);
        let mut batch = Batch::new();
        batch.push(Command::new("LRANGE").arg(&key).arg(start).arg(end));
        batch.push(Command::new("LLEN").arg(&key));
        let mut answers = self.snapshot(&batch, WHAT).await?.into_iter();
        let (Some(rows), Some(total)) = (answers.next(), answers.next()) else {
            return Err(reply::unexpected(WHAT));
        };
        Ok(LogPage {
            rows: reply::texts(rows, WHAT)?,
            total: u64::try_from(reply::int(&total, WHAT)?).unwrap_or(0),
        })
    }

    /// Writes the queue's settings as a producer that opens it does
    /// (`docs/protocol.md#queue-settings`).
    pub(crate) async fn write_meta(&self, event_cap: u64, version: &str) -> Result<()> {
        let command = Command::new("HSET")
            .arg(self.keys.key("meta"))
            .arg("opts.maxLenEvents")
            .arg(event_cap)
            .arg("version")
            .arg(version);
        self.connection.request(command, Repeat::Safe).await?;
        Ok(())
    }
}
