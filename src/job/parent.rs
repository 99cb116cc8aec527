//! The parent of a new job.

use crate::error::{Error, Result};
use crate::job::JobId;

/// What a child's final failure does to its parent (`docs/protocol.md#failure-policies`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ChildPolicy {
    /// The parent goes on waiting until the child is retried or removed.
    #[default]
    Wait,
    /// The parent fails.
    FailParent,
    /// The parent runs at once, whatever else it waits for, and can see the failure.
    ContinueParent,
    /// The failed child counts as done; the parent can see the failure.
    Ignore,
    /// The failed child is forgotten.
    Remove,
}

/// The parent of a new job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parent {
    /// The parent's qualified queue name (`bull:reports`).
    pub queue: String,
    /// The parent's id.
    pub id: JobId,
    /// What the child's final failure does to it.
    pub on_failure: ChildPolicy,
}

impl Parent {
    /// Names a job as the parent: `queue` is the parent's qualified queue name, prefix included
    /// (`bull:reports`).
    pub fn new(queue: impl Into<String>, id: impl Into<JobId>) -> Self {
        Self {
            queue: queue.into(),
            id: id.into(),
            on_failure: ChildPolicy::Wait,
        }
    }

    /// Sets what the child's final failure does to the parent.
    #[must_use]
    pub fn on_failure(mut self, policy: ChildPolicy) -> Self {
        self.on_failure = policy;
        self
    }

    /// Returns the parent's job key.
    pub(crate) fn key(&self) -> Vec<u8> {
        [self.queue.as_bytes(), b":", self.id.as_bytes()].concat()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.queue.is_empty() || !self.queue.contains(':') {
            return Err(Error::invalid_value(
                "parent queue",
                &self.queue,
                "must be the qualified queue name, such as bull:reports",
            ));
        }
        Ok(())
    }
}
