//! Parents that nothing will release (`docs/protocol.md#blocked-parents`).

use crate::client::Repeat;
use crate::error::Result;
use crate::job::{JobId, JobKey};
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};

const WHAT: &str = "the parents that wait for children";

/// What is known of a child that a parent waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PendingChild {
    /// It can still end, or the parent does not wait for it any more.
    Alive,
    /// Its hash does not exist.
    Missing,
    /// It is in `failed`.
    Failed,
    /// It is in `completed`.
    Completed,
}

impl Store {
    /// Reads a page of the parents that wait for children: their ids, and where the next page begins.
    pub(crate) async fn waiting_parents(
        &self,
        cursor: u64,
        count: u32,
    ) -> Result<(Vec<JobId>, Option<u64>)> {
        let command = Command::new("ZSCAN")
            .arg(self.keys.key("waiting-children"))
            .arg(cursor)
            .arg("COUNT")
            .arg(count);
        let answer = self.connection.request(command, Repeat::Safe).await?;
        let mut parts = reply::items(answer, WHAT)?.into_iter();
        let (Some(cursor), Some(entries)) = (parts.next(), parts.next()) else {
            return Err(reply::unexpected(WHAT));
        };
        let next: u64 = reply::text(cursor, WHAT)?
            .parse()
            .map_err(|_| reply::unexpected(WHAT))?;
        let ids = reply::items(entries, WHAT)?.into_iter().step_by(2);
        let ids = ids.map(|id| reply::id(id, WHAT)).collect::<Result<_>>()?;
        Ok((ids, (next != 0).then_some(next)))
    }

    /// Counts the children that each of these jobs waits for; `None` for one that does not wait any more.
    pub(crate) async fn pending_counts(&self, parents: &[JobId]) -> Result<Vec<Option<u64>>> {
        let mut batch = Batch::new();
        for parent in parents {
            batch.push(self.waits(parent));
            let key = [&self.keys.job(parent), b":dependencies".as_slice()].concat();
            batch.push(Command::new("SCARD").arg(key));
        }
        let mut answers = self.snapshot(&batch, WHAT).await?.into_iter();
        let mut counts = Vec::with_capacity(parents.len());
        while let (Some(waits), Some(count)) = (answers.next(), answers.next()) {
            let count = u64::try_from(reply::int(&count, WHAT)?).unwrap_or(0);
            counts.push((waits != Value::Nil).then_some(count));
        }
        Ok(counts)
    }

    /// Finds out about children that a parent waits for, all at one moment.
    pub(crate) async fn pending_children(
        &self,
        parent: &JobId,
        children: &[JobKey],
    ) -> Result<Vec<PendingChild>> {
        let pending = [&self.keys.job(parent), b":dependencies".as_slice()].concat();
        let mut batch = Batch::new();
        batch.push(self.waits(parent));
        for child in children {
            let id = child.id();
            batch.push(
                Command::new("SISMEMBER")
                    .arg(&pending)
                    .arg(child.as_bytes()),
            );
            batch.push(Command::new("EXISTS").arg(child.as_bytes()));
            for set in ["failed", "completed"] {
                let own = child.as_bytes().strip_suffix(id.as_bytes());
                let key = [own.unwrap_or_default(), set.as_bytes()].concat();
                batch.push(Command::new("ZSCORE").arg(key).arg(id.as_bytes()));
            }
        }
        let mut answers = self.snapshot(&batch, WHAT).await?.into_iter();
        let waits = answers.next() != Some(Value::Nil);
        let mut found = Vec::with_capacity(children.len());
        while let (Some(pending), Some(exists), Some(failed), Some(completed)) = (
            answers.next(),
            answers.next(),
            answers.next(),
            answers.next(),
        ) {
            let pending = waits && reply::int(&pending, WHAT)? == 1;
            found.push(if !pending {
                PendingChild::Alive
            } else if reply::int(&exists, WHAT)? == 0 {
                PendingChild::Missing
            } else if failed != Value::Nil {
                PendingChild::Failed
            } else if completed != Value::Nil {
                PendingChild::Completed
            } else {
                PendingChild::Alive
            });
        }
        Ok(found)
    }

    /// The command that says whether a job waits for children.
    fn waits(&self, parent: &JobId) -> Command {
        Command::new("ZSCORE")
            .arg(self.keys.key("waiting-children"))
            .arg(parent.as_bytes())
    }
}
