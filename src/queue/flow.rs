//! Looking at a job with everything below it.

use std::collections::VecDeque;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::job::{DependencyCounts, DependencyKind, JobId, JobKey, JobRecord};
use crate::queue::{Queue, named};
use crate::store::FlowMember;

/// How many jobs one call reads.
const STEP: usize = 20;
/// How many levels can be read. A tree is dropped level by level on the stack, and jobs may be in a circle.
const DEPTH_MAX: u32 = 1000;

/// How much of a flow is read. Default: ten levels, up to twenty children of each kind of a job, and
/// a thousand jobs in all.
///
/// # Examples
///
/// ```
/// use oxbull::FlowLimits;
///
/// let limits = FlowLimits::new().depth(2).max_children(100);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlowLimits {
    /// How many levels, the job itself included; from 1 to 1000.
    pub depth: u32,
    /// How many children of each [kind](DependencyKind) of a job; at least 1.
    pub max_children: u32,
    /// How many jobs in all; at least 1.
    pub max_jobs: u32,
}

impl Default for FlowLimits {
    fn default() -> Self {
        Self {
            depth: 10,
            max_children: 20,
            max_jobs: 1000,
        }
    }
}

impl FlowLimits {
    /// The default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many levels are read, the job itself included.
    #[must_use]
    pub fn depth(mut self, levels: u32) -> Self {
        self.depth = levels;
        self
    }

    /// Sets how many children of each kind of a job are read.
    #[must_use]
    pub fn max_children(mut self, children: u32) -> Self {
        self.max_children = children;
        self
    }

    /// Sets how many jobs are read in all.
    #[must_use]
    pub fn max_jobs(mut self, jobs: u32) -> Self {
        self.max_jobs = jobs;
        self
    }

    fn check(self) -> Result<Self> {
        for (field, value) in [
            ("depth", self.depth),
            ("max_children", self.max_children),
            ("max_jobs", self.max_jobs),
        ] {
            if value == 0 {
                return Err(Error::invalid(field, "must be at least 1"));
            }
        }
        if self.depth > DEPTH_MAX {
            let problem = format!("must be at most {DEPTH_MAX}");
            return Err(Error::invalid_value("depth", self.depth, problem));
        }
        Ok(self)
    }
}

/// A job of a flow with its children, and theirs. In JSON, `job` and `children` are as in BullMQ's
/// `JobNode`; `kind` and `job` are left out where there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FlowNode {
    /// The job's complete key.
    pub key: JobKey,
    /// What became of it, as its parent knows it; `None` for the job that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<DependencyKind>,
    /// The job; `None` when it is missing: it has been removed, while its parent still names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRecord>,
    /// The children that were read: processed, unprocessed, failed, ignored.
    pub children: Vec<Self>,
    /// How many children there are of each kind, shown or not.
    pub counts: DependencyCounts,
}

impl FlowNode {
    /// Returns whether the job has more children than are shown, because of the [limits](FlowLimits).
    pub fn is_truncated(&self) -> bool {
        self.counts.total() > self.children.len() as u64
    }
}

/// A node while its children are being read: nodes refer to their parents by index.
struct Open {
    node: FlowNode,
    parent: Option<usize>,
}

impl<D> Queue<D> {
    /// Reads a job with its children, and theirs, whatever queues they are in; `None` when there is no
    /// such job. Level by level, in bounded steps: it is not a snapshot, jobs may move meanwhile.
    ///
    /// Children of each kind are in no particular order. A job that is missing has no children here.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a limit of 0 and for more than 1,000 levels; connection errors. What cannot be read
    /// of a job is in its [`problems`](JobRecord::problems).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::{FlowLimits, FlowNode};
    ///
    /// fn print(node: &FlowNode, indent: usize) {
    ///     let name = node.job.as_ref().map_or("(missing)", |job| &job.name);
    ///     println!("{:indent$}{} {name}", "", node.key);
    ///     node.children.iter().for_each(|child| print(child, indent + 2));
    ///     if node.is_truncated() {
    ///         println!("{:indent$}  ... of {}", "", node.counts.total());
    ///     }
    /// }
    ///
    /// if let Some(flow) = queue.flow("report-7", FlowLimits::new()).await? {
    ///     print(&flow, 0);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "getFlow")]
    pub async fn flow(&self, id: impl Into<JobId>, limits: FlowLimits) -> Result<Option<FlowNode>> {
        let limits = limits.check()?;
        let root = JobKey::new(self.qualified_name(), &named(id)?);
        let max_jobs = usize::try_from(limits.max_jobs).unwrap_or(usize::MAX);
        let mut nodes: Vec<Open> = Vec::new();
        let mut level = VecDeque::from([(root, None, None)]);
        let mut planned = 1;
        for depth in 1..=limits.depth {
            let reads_children = depth < limits.depth;
            let mut below = VecDeque::new();
            while !level.is_empty() {
                let step: Vec<_> = level.drain(..level.len().min(STEP)).collect();
                let keys: Vec<_> = step.iter().map(|(key, ..)| key).collect();
                let children = reads_children.then_some(limits.max_children);
                let read = self.store().flow_jobs(&keys, children).await?;
                for ((key, kind, parent), found) in step.into_iter().zip(read) {
                    let FlowMember {
                        job,
                        counts,
                        children,
                    } = found;
                    if job.is_none() && parent.is_none() {
                        return Ok(None);
                    }
                    let room = max_jobs.saturating_sub(planned);
                    let at = nodes.len();
                    let shown = if job.is_some() { room } else { 0 };
                    let before = below.len();
                    below.extend(
                        children
                            .into_iter()
                            .take(shown)
                            .map(|child| (child.key, Some(child.state.kind()), Some(at))),
                    );
                    planned += below.len() - before;
                    let node = FlowNode {
                        key,
                        kind,
                        job,
                        children: Vec::new(),
                        counts,
                    };
                    nodes.push(Open { node, parent });
                }
            }
            level = below;
        }
        Ok(assemble(nodes))
    }
}

/// Puts nodes, which come after their parents and in the order of their siblings, into their parents.
fn assemble(mut nodes: Vec<Open>) -> Option<FlowNode> {
    while let Some(Open { mut node, parent }) = nodes.pop() {
        // Children were put in from the last to the first.
        node.children.reverse();
        match parent.and_then(|parent| nodes.get_mut(parent)) {
            Some(parent) => parent.node.children.push(node),
            None => return Some(node),
        }
    }
    None
}
