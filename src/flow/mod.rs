//! Flows: jobs that wait for their children, added together (`docs/protocol.md#adding-flows`).

mod added;
mod job;
mod plan;

use std::collections::HashMap;

use tracing::Span;

use crate::client::Client;
use crate::error::{Chain, Error, Result};
use crate::job::{JobOptions, Prefix};
use crate::store::Flow;
use crate::{metrics, telemetry};

pub use added::FlowAdded;
pub use job::FlowJob;

use plan::Plan;

/// Adds flows: trees of jobs over any number of queues, in which a job runs once its children have
/// ended.
///
/// Every child is added with what its failure means for its parent, so that no parent waits for ever
/// by accident.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> oxbull::Result<()> {
/// use oxbull::{ChildPolicy, Client, FlowJob, FlowProducer};
/// use serde_json::json;
///
/// let client = Client::from_env().await?;
/// let pages = (1..=3).map(|page| FlowJob::new("render", "page", &json!({ "page": page })));
/// let cover = FlowJob::new("render", "cover", &json!({}));
/// let report = FlowJob::new("reports", "bind", &json!({ "report": 7 }))
///     .children(ChildPolicy::FailParent, pages)
///     .child(ChildPolicy::Ignore, cover);
///
/// let added = FlowProducer::new(&client).add(&report).await?;
/// println!("{} waits for {} jobs", added.id, added.children.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct FlowProducer {
    client: Client,
    prefix: String,
    defaults: HashMap<String, JobOptions>,
}

impl FlowProducer {
    /// Adds flows under the default prefix, without default options.
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            prefix: Prefix::default().as_str().to_owned(),
            defaults: HashMap::new(),
        }
    }

    /// Sets the first part of the keys of jobs that have no [prefix](FlowJob::prefix) of their own. Default:
    /// `bull`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets options for the jobs of a queue, by its name, that do not set them. A default id or parent is
    /// ignored. Those of a [`Queue`](crate::Queue) are not looked at.
    #[doc(alias = "queuesOptions")]
    pub fn default_options(mut self, queue: impl Into<String>, options: JobOptions) -> Self {
        let options = JobOptions {
            id: None,
            parent: None,
            ..options
        };
        self.defaults.insert(queue.into(), options);
        self
    }

    /// Adds a flow: all of its jobs, or none. No worker starts one of them before all are stored.
    ///
    /// Up to 200 jobs, of 1 MiB in all, are added in one atomic step. A larger flow is added in steps of up to
    /// 100 jobs, which hold Redis up for a millisecond or two each: its parents wait for their children, and its jobs without children
    /// are held back until the last of its jobs is stored.
    ///
    /// A job whose id exists is not changed, but joins its parent, as in BullMQ
    /// (`docs/protocol.md#existing-ids`).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] or [`Error::Encode`] before anything is sent. [`Error::Refused`] when nothing was
    /// added: the parent of the root does not exist, a job belongs to another, living parent, or it is an
    /// ancestor of its parent and would wait for itself. Connection
    /// errors, as for [`Queue::add_with`](crate::Queue::add_with); after a lost answer the
    /// add is repeated until its outcome is known, so that [`Error::Indeterminate`] is rare.
    ///
    /// [`Error::Incomplete`], and [`Error::Indeterminate`], may leave a flow of more than one step stored in
    /// part, with its jobs held. Adding the same [`FlowJob`] again completes it; removing its root removes it.
    ///
    /// # Cancel safety
    ///
    /// The flow may be added although the call was dropped; one of more than one step, in part.
    pub async fn add(&self, flow: &FlowJob) -> Result<FlowAdded> {
        let added = self.add_many([flow]).await?;
        let mut added = added.into_iter();
        added
            .next()
            .ok_or_else(|| Error::Protocol("a flow was added without a root".to_owned()))
    }

    /// Adds several flows as [`add`](Self::add) adds one: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    ///
    /// # Cancel safety
    ///
    /// As [`add`](Self::add).
    #[doc(alias = "addBulk")]
    pub async fn add_many<'a>(
        &self,
        flows: impl IntoIterator<Item = &'a FlowJob>,
    ) -> Result<Vec<FlowAdded>> {
        let flows: Vec<_> = flows.into_iter().collect();
        let Some(first) = flows.first() else {
            return Ok(Vec::new());
        };
        let names = flows.iter().map(|flow| flow.name.as_str());
        let span = telemetry::add_flows(&first.queue, names);
        let added = self.add_within(&span, &flows).await;
        if let Err(error) = &added {
            telemetry::failed(&span, &Chain(error));
        }
        added
    }

    async fn add_within(&self, span: &Span, flows: &[&FlowJob]) -> Result<Vec<FlowAdded>> {
        let plan = Plan::of(self, flows, span)?;
        for (queue, store) in plan.queues.iter().enumerate() {
            let jobs = plan.jobs.iter().filter(|job| job.queue == queue).count();
            metrics::added(store.keys().qualified(), jobs);
        }
        let flow = Flow {
            queues: &plan.queues,
            jobs: &plan.jobs,
            now: self.client.clock().now(),
        };
        let outcomes = flow.add().await?;
        Ok(plan.results(outcomes))
    }
}
