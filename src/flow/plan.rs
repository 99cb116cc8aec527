//! Checking a flow and putting its jobs in the order in which they are stored.

use std::collections::{HashMap, HashSet, VecDeque};

use tracing::Span;

use super::{FlowAdded, FlowJob, FlowProducer};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::{AddOutcome, JobOptions, Parent, Prefix, QueueName};
use crate::policy::Placement;
use crate::store::{FlowRecord, NewRecord, Store};
use crate::telemetry;

/// How many levels a flow may have.
const DEPTH_MAX: usize = 1000;

/// The jobs of flows, level by level.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) queues: Vec<Store>,
    pub(super) jobs: Vec<FlowRecord>,
    /// How many children each job has, in the same order.
    children: Vec<usize>,
    /// The span of each job, which ends with the add.
    spans: Vec<Span>,
}

/// A job whose turn it is.
struct Turn<'a> {
    job: &'a FlowJob,
    /// Its parent in the flow.
    parent: Option<Parent>,
    /// The span of the parent, or of the whole.
    around: Span,
    level: usize,
}

impl Plan {
    /// Checks flows and encodes their jobs.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] or [`Error::Encode`] for the first job that breaks a rule.
    pub(super) fn of(producer: &FlowProducer, flows: &[&FlowJob], span: &Span) -> Result<Self> {
        let mut plan = Self {
            queues: Vec::new(),
            jobs: Vec::new(),
            children: Vec::new(),
            spans: Vec::new(),
        };
        let mut numbers = HashMap::new();
        let mut turns: VecDeque<_> = flows
            .iter()
            .map(|&job| Turn {
                job,
                parent: None,
                around: span.clone(),
                level: 1,
            })
            .collect();
        while let Some(turn) = turns.pop_front() {
            if turn.level > DEPTH_MAX {
                return Err(Error::invalid(
                    "flow",
                    format!("must not have more than {DEPTH_MAX} levels"),
                ));
            }
            let prefix = turn.job.prefix.as_ref().unwrap_or(&producer.prefix);
            let queue = *match numbers.entry((prefix.as_str(), turn.job.queue.as_str())) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let store = open(&producer.client, prefix, &turn.job.queue)?;
                    if let Some(first) = plan.queues.first() {
                        first.check_neighbour("flow", store.keys().base())?;
                    }
                    plan.queues.push(store);
                    entry.insert(plan.queues.len() - 1)
                }
            };
            let qualified = plan
                .queues
                .get(queue)
                .map_or("", |queue| queue.keys().qualified());
            let job = turn.job;
            let node = telemetry::add_node(&turn.around, &job.queue, &job.name, job.id());
            // Where the spans of nodes are filtered out.
            let around = if node.is_disabled() { span } else { &node };
            for (on_failure, child) in &job.children {
                turns.push_back(Turn {
                    job: child,
                    parent: Some(Parent::new(qualified, job.id().clone()).on_failure(*on_failure)),
                    around: around.clone(),
                    level: turn.level + 1,
                });
            }
            let record = record(producer, queue, turn, around)?;
            plan.spans.push(node);
            plan.jobs.push(record.0);
            plan.children.push(record.1);
        }
        plan.check_keys()?;
        Ok(plan)
    }

    /// Checks that no job comes twice, or is to wait for itself.
    fn check_keys(&self) -> Result<()> {
        let mut keys = HashSet::new();
        for record in &self.jobs {
            let key = self
                .queues
                .get(record.queue)
                .map(|queue| queue.keys().job(&record.id));
            if !keys.insert(key.unwrap_or_default()) {
                return Err(Error::invalid_value(
                    "job id",
                    record.id.as_str(),
                    "must not come twice in one queue of a flow",
                ));
            }
        }
        for record in self.jobs.iter().filter(|record| record.root) {
            if let Some((key, _)) = &record.job.parent
                && keys.contains(key)
            {
                return Err(Error::invalid(
                    "parent",
                    "of a flow's root must not be a job of the flow",
                ));
            }
        }
        Ok(())
    }

    /// Puts what became of the jobs into the form of the flows.
    pub(super) fn results(self, outcomes: Vec<AddOutcome>) -> Vec<FlowAdded> {
        let mut results = VecDeque::new();
        // From the last to the first: the children of a job come before it, behind those of later jobs.
        let jobs = self.jobs.into_iter().zip(self.children).zip(outcomes);
        let mut jobs: Vec<_> = jobs.collect();
        while let Some(((record, children), outcome)) = jobs.pop() {
            let queue = self.queues.get(record.queue);
            let own = results.split_off(results.len().saturating_sub(children));
            results.push_front(FlowAdded {
                queue: queue.map_or_else(String::new, |queue| queue.keys().qualified().to_owned()),
                id: record.id,
                outcome,
                children: own.into(),
            });
        }
        results.into()
    }
}

fn open(client: &Client, prefix: &str, name: &str) -> Result<Store> {
    Store::open(client, &Prefix::new(prefix)?, &QueueName::new(name)?)
}

/// Checks and encodes one job, which carries the context of `span`. Returns how many children it has besides.
fn record(
    producer: &FlowProducer,
    queue: usize,
    turn: Turn<'_>,
    span: &Span,
) -> Result<(FlowRecord, usize)> {
    let job = turn.job;
    let root = turn.parent.is_none();
    let mut options = job.options.clone();
    if let Some(defaults) = producer.defaults.get(&job.queue) {
        options = options.or(defaults);
    }
    if !root && options.parent.is_some() {
        return Err(Error::invalid(
            "parent",
            "is what the flow says, for all but its root",
        ));
    }
    options.parent = turn.parent.or(options.parent);
    if options.deduplication.is_some() && !job.children.is_empty() {
        return Err(Error::invalid(
            "deduplication",
            "cannot be used for a job with children",
        ));
    }
    check(&options)?;
    if options.deduplication.is_some() {
        return Err(Error::invalid(
            "deduplication",
            "cannot be used in a flow; a job without parent and children is added to its queue",
        ));
    }
    telemetry::carry(span, &mut options);
    let data = job.data.clone().map_err(|reason| Error::Encode {
        what: "job data",
        source: serde::ser::Error::custom(reason),
    })?;
    options.check_size(&job.name, data.len())?;
    let unique = options.id.is_none();
    let parent = options.parent.as_ref().map(|parent| parent.id.clone());
    let now = producer.client.clock().now();
    let mut stored = NewRecord::new(job.name.clone(), data, options, now);
    stored.id = Some(job.id().clone());
    if !job.children.is_empty() {
        stored.placement = Placement::Children;
    }
    let record = FlowRecord {
        queue,
        id: job.id().clone(),
        root,
        unique,
        parent,
        job: stored,
    };
    Ok((record, job.children.len()))
}

/// Applies the rules for options, and those for ids in flows.
fn check(options: &JobOptions) -> Result<()> {
    options.check()?;
    // Keys of children are split at the last colon, by BullMQ and by the release of parents.
    if let Some(id) = &options.id
        && id.as_str().contains(':')
    {
        return Err(Error::invalid_value(
            "job id",
            id.as_str(),
            "must not contain : in a flow",
        ));
    }
    Ok(())
}
