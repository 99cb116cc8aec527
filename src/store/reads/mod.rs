//! Plain reads: no scripts, so that a read-only user may run them.

mod backlog;
mod blocked;
mod clients;
mod counts;
mod dependencies;
mod flow;
mod keyspace;
mod limits;
mod listed;
mod places;
mod rows;
mod schedulers;
mod state;

use std::time::Duration;

pub(crate) use blocked::{ListedJobs, PendingChild};
pub(crate) use flow::FlowMember;

use crate::client::Repeat;
use crate::error::{Error, Result};
use crate::job::{JobId, JobRecord};
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};
use crate::wire;

pub(crate) use clients::Connected;
pub(crate) use counts::Counts;
pub(crate) use listed::{IdHashes, lists_of};
pub(crate) use places::{Found, Place, Window, is_signal};
pub(crate) use rows::StoredMetrics;

impl Store {
    /// Sends reads as one transaction, so that they see one moment.
    ///
    /// A server that is out of memory refuses transactions but not reads: they are then sent
    /// one by one, because they show what fills the server.
    async fn snapshot(&self, reads: &Batch, what: &str) -> Result<Vec<Value>> {
        let values = self.moment(reads, what).await?.into_iter();
        values
            .map(|value| match value {
                Value::ServerError(error) => Err(Error::Server(format!("{what}: {error}"))),
                value => Ok(value),
            })
            .collect()
    }

    /// As [`snapshot`](Self::snapshot), with the errors of single reads among the answers.
    async fn moment(&self, reads: &Batch, what: &str) -> Result<Vec<Value>> {
        let framed = reads.transaction();
        let mut answers = self.connection.pipeline(&framed, Repeat::Safe).await?;
        if answers.len() != reads.len() + 2 {
            return Err(reply::unexpected(what));
        }
        let last = answers.pop().ok_or_else(|| reply::unexpected(what))?;
        match last {
            Ok(values) => reply::items(values, what),
            // A command that was refused inside the transaction names the reason; EXEC does not.
            Err(error) => match answers.into_iter().find_map(Result::err).unwrap_or(error) {
                Error::Overloaded(_) => {
                    let answers = self.connection.pipeline(reads, Repeat::Safe).await?;
                    answers.into_iter().collect()
                }
                error => Err(error),
            },
        }
    }

    /// Reads a job.
    pub(crate) async fn job(&self, id: &JobId) -> Result<Option<JobRecord>> {
        let command = Command::new("HGETALL").arg(self.keys.job(id));
        let value = self.connection.request(command, Repeat::Safe).await?;
        let fields = reply::fields(value, "a job")?;
        Ok((!fields.is_empty()).then(|| wire::decode_record(id.clone(), fields)))
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
