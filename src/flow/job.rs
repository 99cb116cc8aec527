//! The jobs that a flow is made of.

use std::fmt;

use serde::Serialize;

use crate::job::{ChildPolicy, JobId, JobOptions, Parent};

/// A job of a flow, with its children: what [`FlowProducer::add`](super::FlowProducer::add) takes.
///
/// Its id is made with it, unless its options have one, so that the same flow can be added again after an
/// error. See [`FlowProducer`](super::FlowProducer) for an example.
#[must_use = "a flow does nothing until it is added"]
pub struct FlowJob {
    pub(super) queue: String,
    pub(super) prefix: Option<String>,
    pub(super) name: String,
    /// JSON text, or why there is none.
    pub(super) data: Result<String, String>,
    pub(super) options: JobOptions,
    unique: JobId,
    pub(super) children: Vec<(ChildPolicy, Self)>,
}

impl FlowJob {
    /// Describes a job by the name of its queue, its own name and its data. Data that cannot be turned into
    /// JSON fails the add.
    pub fn new<D>(queue: impl Into<String>, name: impl Into<String>, data: &D) -> Self
    where
        D: Serialize + ?Sized,
    {
        Self {
            queue: queue.into(),
            prefix: None,
            name: name.into(),
            data: serde_json::to_string(data).map_err(|error| error.to_string()),
            options: JobOptions::new(),
            unique: JobId::unique(),
            children: Vec::new(),
        }
    }

    /// Sets the first part of its queue's keys. Children do not take it over. Default: the
    /// producer's.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Sets its options. Those of a job with children apply once it no longer waits for them. Only the root
    /// of a flow can have a [`parent`](JobOptions::parent) here.
    pub fn options(mut self, options: JobOptions) -> Self {
        self.options = options;
        self
    }

    /// Adds a child, which ends before this job is run, and says what its final failure does to this job.
    pub fn child(mut self, on_failure: ChildPolicy, child: Self) -> Self {
        self.children.push((on_failure, child));
        self
    }

    /// Adds children with the same policy.
    pub fn children(
        mut self,
        on_failure: ChildPolicy,
        children: impl IntoIterator<Item = Self>,
    ) -> Self {
        let children = children.into_iter().map(|child| (on_failure, child));
        self.children.extend(children);
        self
    }

    /// Makes the whole flow a child of an existing job, and says what this job's final failure does to that one.
    /// `queue` is the existing job's qualified queue name, prefix included (`bull:reports`). For roots only.
    pub fn under(
        mut self,
        on_failure: ChildPolicy,
        queue: impl Into<String>,
        id: impl Into<JobId>,
    ) -> Self {
        self.options.parent = Some(Parent::new(queue, id).on_failure(on_failure));
        self
    }

    /// Returns the id the job has, or will have.
    pub fn id(&self) -> &JobId {
        self.options.id.as_ref().unwrap_or(&self.unique)
    }
}

// Job data may be secret, so it is not shown. A flow may be deep, so its children are not either.
impl fmt::Debug for FlowJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowJob")
            .field("queue", &self.queue)
            .field("prefix", &self.prefix)
            .field("name", &self.name)
            .field("id", self.id())
            .field("children", &self.children.len())
            .finish_non_exhaustive()
    }
}

/// A flow may be as deep as it likes before it is refused for that.
impl Drop for FlowJob {
    fn drop(&mut self) {
        let mut open = std::mem::take(&mut self.children);
        while let Some((_, mut child)) = open.pop() {
            open.append(&mut child.children);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_do_not_show() {
        let child = FlowJob::new("q", "kid", &"secret");
        let job = FlowJob::new("q", "n", &"secret").child(ChildPolicy::Wait, child);
        let shown = format!("{job:?}");
        assert!(
            shown.contains("\"n\"") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
