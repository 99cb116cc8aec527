//! Every round trip that concerns a queue: one typed value per Lua script, one method per read.
//!
//! This module is the only one that knows the queue's keys and runs its scripts.

mod batch;
mod flow;
mod history;
mod keys;
mod new_record;
mod reads;
mod replay;
mod reply;
mod settle;
mod stream;
mod transitions;

use std::sync::Arc;
use std::time::Duration;

use crate::client::{CallError, Client, Connection, Repeat, Script};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::job::{JobId, Prefix, QueueName};
use crate::resp::{Argument, Command, Value};

pub(crate) use batch::{BATCH_BYTES, BATCH_JOBS, cut};
pub(crate) use flow::Flow;
pub(crate) use history::{AddHistory, PastAdd, Starts};
pub(crate) use keys::QueueKeys;
pub(crate) use new_record::NewRecord;
pub(crate) use reads::{
    Connected, Counts, FlowMember, Found, IdHashes, ListedJobs, PendingChild, Place, StoredMetrics,
    Window, is_signal, lists_of,
};
pub(crate) use stream::{EventBatch, EventReader, RawEvent, StreamStart};
pub(crate) use transitions::add_flow::FlowRecord;
pub(crate) use transitions::add_log::AddLog;
pub(crate) use transitions::advance::{
    Advance, Advanced, AttemptResult, Next, SettlementReply, Trim,
};
pub(crate) use transitions::change_delay::ChangeDelay;
pub(crate) use transitions::change_priority::ChangePriority;
pub(crate) use transitions::change_settings::ChangeSettings;
pub(crate) use transitions::check_schedulers::{CheckSchedulers, IterationState, StoppedScheduler};
pub(crate) use transitions::clean::Clean;
pub(crate) use transitions::clear_logs::ClearLogs;
pub(crate) use transitions::drain::Drain;
pub(crate) use transitions::enqueue::Enqueue;
pub(crate) use transitions::events::{FindEnds, PublishEvent, StoredEnd, TrimEvents};
pub(crate) use transitions::extend_locks::ExtendLocks;
pub(crate) use transitions::limit_rate::{LiftLimit, LimitRate};
pub(crate) use transitions::next_iteration::{
    NextIteration, NextOutcome, PatternOccurrences, Successor,
};
pub(crate) use transitions::next_repeatable::{NextJob, NextRepeatable};
pub(crate) use transitions::obliterate::{Obliterate, ObliteratePart};
pub(crate) use transitions::pause::{Pause, Resume};
pub(crate) use transitions::promote_job::PromoteJob;
pub(crate) use transitions::promote_jobs::PromoteJobs;
pub(crate) use transitions::recover_stalled::RecoverStalled;
pub(crate) use transitions::release_deduplication::ReleaseDeduplication;
pub(crate) use transitions::remove_child_dependency::RemoveChildDependency;
pub(crate) use transitions::remove_orphans::RemoveOrphans;
pub(crate) use transitions::remove_scheduler::RemoveScheduler;
pub(crate) use transitions::repair_scheduler::{Repair, RepairScheduler};
pub(crate) use transitions::retry_job::RetryJob;
pub(crate) use transitions::retry_jobs::RetryJobs;
pub(crate) use transitions::trim_finished::TrimFinished;
pub(crate) use transitions::update::{UpdateData, UpdateProgress};
pub(crate) use transitions::upsert_scheduler::{FirstOccurrence, UpsertScheduler};
pub(crate) use transitions::wake::Wake;
pub(crate) use transitions::walk::{Cursor, STEP_MAX, Walk, WalkStep};

/// The value of a job's lock: who holds it, and since which call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LockToken(Arc<str>);

impl LockToken {
    /// Wraps a token.
    pub(crate) fn new(token: impl Into<Arc<str>>) -> Self {
        Self(token.into())
    }

    /// Returns the token as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One change of a queue's state: the arguments of one Lua script and the meaning of its reply.
pub(crate) trait Transition {
    /// The script.
    const SCRIPT: &'static Script;
    /// Whether asking twice leaves what asking once leaves.
    const SAFETY: Repeat;
    /// What the script returns.
    type Reply;

    /// Appends ARGV in the order of the script's header.
    fn write(&self, call: &mut Call<'_>);

    /// Reads the reply; a refusal has been taken out before when the transition names a [`job`](Self::job).
    fn read(&self, reply: Value) -> Result<Self::Reply>;

    /// The job that a refusal is about.
    fn job(&self) -> Option<&JobId> {
        None
    }
}

/// The arguments of a script call being written.
pub(crate) struct Call<'a> {
    command: &'a mut Command,
}

impl Call<'_> {
    /// Appends one argument.
    pub(crate) fn arg(&mut self, value: impl Argument) -> &mut Self {
        self.command.push(value);
        self
    }

    /// Appends a duration in whole milliseconds.
    pub(crate) fn millis(&mut self, duration: Duration) -> &mut Self {
        self.arg(millis(duration))
    }

    /// Appends a value, or an empty argument where there is none.
    pub(crate) fn optional(&mut self, value: Option<impl Argument>) -> &mut Self {
        match value {
            Some(value) => self.arg(value),
            None => self.arg(""),
        }
    }

    /// Appends 1 or 0.
    pub(crate) fn flag(&mut self, set: bool) -> &mut Self {
        self.arg(if set { "1" } else { "0" })
    }
}

/// A duration in whole milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One queue on one connection.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    connection: Connection,
    keys: Arc<QueueKeys>,
    clock: Clock,
}

impl Store {
    /// Names a queue of a client's.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] on a cluster where the queue's keys would fall into several slots.
    pub(crate) fn open(client: &Client, prefix: &Prefix, queue: &QueueName) -> Result<Self> {
        let store = Self {
            connection: client.connection().clone(),
            keys: Arc::new(QueueKeys::new(prefix, queue)),
            clock: client.clock().clone(),
        };
        if store.slot().is_some() && !store.keys.share_a_slot() {
            return Err(Error::invalid(
                "queue",
                format!(
                    "needs a hash tag on a cluster, which keeps its keys together: name it {{{queue}}}, or \
                     set the prefix {{{prefix}}} for all queues of a slot"
                ),
            ));
        }
        Ok(store)
    }

    /// Returns the slot of the queue's keys on a cluster.
    pub(crate) fn slot(&self) -> Option<u16> {
        self.connection.slot(self.keys.base())
    }

    /// Refuses another queue, by its qualified name, whose keys are in another slot of a cluster than this one's.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], which names `field`.
    pub(crate) fn check_neighbour(&self, field: &'static str, queue: &str) -> Result<()> {
        if self.connection.slot(queue) == self.slot() {
            return Ok(());
        }
        Err(Error::invalid(
            field,
            "is in another slot of the cluster: queues that work together share a hash tag, such as the prefix \
             {bull}",
        ))
    }

    /// Waits until the connection is open.
    ///
    /// # Errors
    ///
    /// Why it is not, once this time has passed.
    pub(crate) async fn connect(&self, within: Duration) -> Result<()> {
        self.connection.open_for(self.keys.base(), within).await
    }

    /// Returns the same queue on another connection.
    pub(crate) fn on(&self, connection: Connection) -> Self {
        Self {
            connection,
            keys: Arc::clone(&self.keys),
            clock: self.clock.clone(),
        }
    }

    /// Returns the keys of the queue.
    pub(crate) fn keys(&self) -> &QueueKeys {
        &self.keys
    }

    /// Returns the clock that stored times come from.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the connection.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs a transition.
    pub(crate) async fn run<T: Transition>(&self, transition: &T) -> Result<T::Reply> {
        self.attempt(transition).await.map_err(Error::from)
    }

    /// Runs a transition; its error says whether the script may have been executed.
    pub(crate) async fn attempt<T: Transition>(
        &self,
        transition: &T,
    ) -> Result<T::Reply, CallError> {
        let reply = self
            .connection
            .eval(
                T::SCRIPT,
                |command| {
                    command.push(1);
                    command.push(self.keys.base());
                    transition.write(&mut Call { command });
                },
                T::SAFETY,
            )
            .await?;
        if let Some(job) = transition.job()
            && let Some(source) = reply::refusal(&reply)
        {
            return Err(CallError::Answered(Error::Refused {
                job: job.clone(),
                source,
            }));
        }
        transition.read(reply).map_err(CallError::Answered)
    }
}
