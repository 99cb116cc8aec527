//! Parents that nothing will release (`docs/protocol.md#blocked-parents`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use super::listed::{IdHashes, lists_of};
use super::state::SETS;

use crate::client::Repeat;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, JobKey, JobState};
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};

const WHAT: &str = "the parents that wait for children";

/// How many questions [`Store::ask_about`] asks.
const QUESTIONS: usize = 3 + SETS.len();
/// How long a flow that is being added may hold its jobs (`lua/remove_orphans.lua`).
const HOLD_MAX: Duration = Duration::from_secs(3600);

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
    /// It is in no state.
    Stateless,
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

    /// Counts the children that each of these jobs waits for; `None` for one that does not wait any more. What is no
    /// set of children counts as none.
    pub(crate) async fn pending_counts(&self, parents: &[JobId]) -> Result<Vec<Option<u64>>> {
        let mut batch = Batch::new();
        for parent in parents {
            batch.push(self.waits(parent));
            batch.push(Command::new("SCARD").arg(self.pending(parent)));
        }
        let mut answers = self.moment(&batch, WHAT).await?.into_iter();
        let mut counts = Vec::with_capacity(parents.len());
        while let (Some(waits), Some(count)) = (answers.next(), answers.next()) {
            let count = reply::int(&count, WHAT).unwrap_or(0);
            counts.push(is_there(&waits).then(|| u64::try_from(count).unwrap_or(0)));
        }
        Ok(counts)
    }

    /// Finds out about children that a parent waits for, all at one moment but for those that seem to be in no state.
    pub(crate) async fn pending_children(
        &self,
        parent: &JobId,
        children: &[JobKey],
        listed: &mut ListedJobs,
    ) -> Result<Vec<PendingChild>> {
        let mut batch = Batch::new();
        batch.push(self.waits(parent));
        for child in children {
            self.ask_about(&mut batch, parent, child);
        }
        let mut answers = self.moment(&batch, WHAT).await?.into_iter();
        let waits = answers.next().is_some_and(|waits| is_there(&waits));
        let answers: Vec<_> = answers.collect();
        let mut found = Vec::with_capacity(children.len());
        for (child, answers) in children.iter().zip(answers.chunks(QUESTIONS)) {
            let mut state = self.judge(waits, answers);
            if state == PendingChild::Stateless
                && (listed.has(self, child).await? || !self.is_stateless(parent, child).await?)
            {
                state = PendingChild::Alive;
            }
            found.push(state);
        }
        Ok(found)
    }

    /// Appends the questions about a child, but for the lists, where an id is searched for.
    fn ask_about(&self, batch: &mut Batch, parent: &JobId, child: &JobKey) {
        let pending = Command::new("SISMEMBER").arg(self.pending(parent));
        batch.push(pending.arg(child.as_bytes()));
        batch.push(Command::new("EXISTS").arg(child.as_bytes()));
        batch.push(Command::new("HGET").arg(child.as_bytes()).arg("hold"));
        for (set, _) in SETS {
            let key = sibling(child, set);
            batch.push(Command::new("ZSCORE").arg(key).arg(child.id().as_bytes()));
        }
    }

    /// Judges a child by the answers. Whether a list has a [`Stateless`](PendingChild::Stateless) one is open.
    fn judge(&self, waits: bool, answers: &[Value]) -> PendingChild {
        let [pending, exists, hold, sets @ ..] = answers else {
            return PendingChild::Alive;
        };
        let hour = |since: Timestamp| self.clock.now().since(since) < HOLD_MAX;
        let since = reply::int(hold, WHAT).map(Timestamp::from_millis);
        let is_in = |wanted| {
            let mut all = SETS.iter().zip(sets);
            all.any(|((_, state), answer)| *state == wanted && is_there(answer))
        };
        if !waits || *pending != Value::Int(1) {
            PendingChild::Alive
        } else if *exists == Value::Int(0) {
            PendingChild::Missing
        } else if is_in(JobState::Failed) {
            PendingChild::Failed
        } else if is_in(JobState::Completed) {
            PendingChild::Completed
        } else if sets.iter().any(is_there) || since.is_ok_and(hour) {
            // A flow that is being added has jobs in no state.
            PendingChild::Alive
        } else {
            PendingChild::Stateless
        }
    }

    /// Looks for a child everywhere at one moment.
    async fn is_stateless(&self, parent: &JobId, child: &JobKey) -> Result<bool> {
        let mut batch = Batch::new();
        batch.push(self.waits(parent));
        for key in lists_of(&sibling(child, "")) {
            batch.push(Command::new("LPOS").arg(key).arg(child.id().as_bytes()));
        }
        let lists = batch.len() - 1;
        self.ask_about(&mut batch, parent, child);
        let answers = self.moment(&batch, WHAT).await?;
        let [waits, answers @ ..] = answers.as_slice() else {
            return Err(reply::unexpected(WHAT));
        };
        let (lists, answers) = answers.split_at(lists.min(answers.len()));
        let is_listed = lists.iter().any(is_there);
        let state = self.judge(is_there(waits), answers);
        Ok(!is_listed && state == PendingChild::Stateless)
    }

    /// The key of the children that a job waits for.
    fn pending(&self, parent: &JobId) -> Vec<u8> {
        [&self.keys.job(parent), b":dependencies".as_slice()].concat()
    }

    /// The command that says whether a job waits for children.
    fn waits(&self, parent: &JobId) -> Command {
        Command::new("ZSCORE")
            .arg(self.keys.key("waiting-children"))
            .arg(parent.as_bytes())
    }
}

/// Whether a job was found. A key of the wrong type holds none.
fn is_there(answer: &Value) -> bool {
    !matches!(answer, Value::Nil | Value::ServerError(_))
}

/// A key of the queue of a job.
fn sibling(job: &JobKey, name: &str) -> Vec<u8> {
    let id = job.id();
    let base = job.as_bytes().strip_suffix(id.as_bytes());
    [base.unwrap_or_default(), name.as_bytes()].concat()
}

/// The jobs that lists of queues had when they were first asked for. Who is not found here may have come since.
#[derive(Debug, Default)]
pub(crate) struct ListedJobs(HashMap<Vec<u8>, IdHashes>);

impl ListedJobs {
    async fn has(&mut self, store: &Store, job: &JobKey) -> Result<bool> {
        let base = sibling(job, "");
        let ids = match self.0.entry(base) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let mut ids = IdHashes::default();
                for list in lists_of(entry.key()) {
                    match ids.read(store, &list).await {
                        // A key of another type lists no job.
                        Ok(()) | Err(Error::Server(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                entry.insert(ids)
            }
        };
        Ok(ids.has(job.id().as_bytes()))
    }
}
