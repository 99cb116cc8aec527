//! The producers' side of a queue: adding jobs, acting on them, waiting for their ends.

mod add;
mod batcher;
mod blocked;
mod builder;
mod bulk;
mod children;
mod deduplication;
mod dependencies;
mod events;
mod flow;
mod jobs;
mod limits;
mod operations;
mod pause;
mod remove;
mod schedules;
mod waiting;

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::{JobId, JobOptions, Prefix, QueueName};
use crate::store::Store;

pub use add::NewJob;
pub use blocked::{BlockedParent, BlockedParents, BlockingChild, BlockingReason};
pub use builder::QueueBuilder;
pub use bulk::BulkAdded;
pub use deduplication::DeduplicationOwner;
pub use flow::{FlowLimits, FlowNode};
pub use jobs::{QueuePosition, RetryOptions};
pub use operations::{ActiveJobs, DrainScope, Operation, OperationReport, OperationStep};
pub use schedules::{SchedulerOrder, Upserted};

use batcher::Batcher;
use waiting::Watcher;

/// A queue whose jobs carry data of type `D`.
///
/// Handles are cheap to clone. Adds that are made at the same time through clones of one handle
/// travel together, so many concurrent adds cost little more than one.
///
/// What does not look at data, such as administration, opens a `Queue` without parameter, whose data is
/// any JSON: `let queue: Queue = Queue::open(&client, "mail").await?`.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> oxbull::Result<()> {
/// use oxbull::{Client, JobOptions, Queue};
/// use std::time::Duration;
///
/// #[derive(serde::Serialize)]
/// struct Welcome {
///     to: String,
/// }
///
/// let client = Client::from_env().await?;
/// let queue: Queue<Welcome> = Queue::open(&client, "mail").await?;
/// let data = Welcome { to: "ada@example.org".into() };
/// let options = JobOptions::new().attempts(3).delay(Duration::from_secs(60));
/// let added = queue.add_with("welcome", &data, options).await?;
/// println!("added as {}", added.id);
/// # Ok(())
/// # }
/// ```
pub struct Queue<D = serde_json::Value> {
    shared: Arc<Shared>,
    batcher: Arc<Batcher>,
    data: PhantomData<fn(D)>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    store: Store,
    /// Watches the jobs that callers wait for.
    watcher: Arc<Watcher>,
    name: QueueName,
    prefix: Prefix,
    defaults: JobOptions,
}

impl<D> Clone for Queue<D> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            batcher: Arc::clone(&self.batcher),
            data: PhantomData,
        }
    }
}

impl<D> std::fmt::Debug for Queue<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("prefix", &self.shared.prefix)
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl<D> Queue<D> {
    /// Starts to describe a queue.
    pub fn builder(client: &Client, name: impl AsRef<str>) -> QueueBuilder<D> {
        QueueBuilder::new(client, name.as_ref())
    }

    /// Opens a queue under the default prefix, without default options.
    ///
    /// # Errors
    ///
    /// As [`QueueBuilder::open`].
    pub async fn open(client: &Client, name: impl AsRef<str>) -> Result<Self> {
        Self::builder(client, name).open().await
    }

    /// Returns the queue's name.
    pub fn name(&self) -> &QueueName {
        &self.shared.name
    }

    /// Returns the prefix of the queue's keys.
    pub fn prefix(&self) -> &Prefix {
        &self.shared.prefix
    }

    /// Returns the name that references to parents use, such as `bull:reports`.
    pub fn qualified_name(&self) -> &str {
        self.store().keys().qualified()
    }

    /// Returns the same queue, for what does not need the type of its data.
    pub(crate) fn untyped(&self) -> Queue {
        Queue {
            shared: Arc::clone(&self.shared),
            batcher: Arc::clone(&self.batcher),
            data: PhantomData,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Returns the options for jobs whose add does not set them.
    pub fn default_options(&self) -> &JobOptions {
        &self.shared.defaults
    }
}

/// The job that a caller names. The queue's own keys are refused: an action on `meta` would change the
/// settings of the queue.
pub(crate) fn named(id: impl Into<JobId>) -> Result<JobId> {
    let id = id.into();
    if id.is_queue_key() {
        return Err(Error::invalid(
            "job id",
            format!("{id} is a key of the queue, not a job"),
        ));
    }
    Ok(id)
}

fn encode<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|source| Error::Encode { what, source })
}
