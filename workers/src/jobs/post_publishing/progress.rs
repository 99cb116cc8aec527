//! What a publication remembers between the runs and attempts of its job.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::NoticeCode;
use crate::graph::{ContainerId, MediaId};

/// What its user has to know of a post that failed and may be public nevertheless.
pub(super) const IN_DOUBT: &str = "the post may have been published before: look at the account";

/// How far a publication is. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Publication {
    /// A carousel's children made so far, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ContainerId>,
    /// How many of them, from the first on, are known to be finished.
    #[serde(skip_serializing_if = "is_zero")]
    pub children_ready: usize,
    /// The container made for the post.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<ContainerId>,
    /// That publication was asked for, noted before the request is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<PublishRequest>,
    /// The post's id once it is published and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_id: Option<MediaId>,
    /// How often the job has waited in its present step.
    pub waits: u32,
    /// Since when it waits for its containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<i64>,
    /// Since when nothing but limits of the API keeps it from going on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put_off_since: Option<i64>,
    /// That the post has failed for good, noted before anybody is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// What another version of the worker noted.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Publication {
    /// Says whether nothing has been made yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.children.is_empty() && self.container_id.is_none()
    }

    /// Says whether the post may be public, as far as is known.
    pub(super) fn may_be_public(&self) -> bool {
        self.request.is_some() || self.media_id.is_some()
    }

    /// Forgets the containers: the next run makes others. What a container may have been published
    /// from is never forgotten, see [`request`](Self::request).
    pub(super) fn start_over(&mut self) {
        let put_off_since = self.put_off_since;
        let other = std::mem::take(&mut self.other);
        *self = Self {
            put_off_since,
            other,
            ..Self::default()
        };
    }

    /// A step is done: the next one has its own waits.
    pub(super) fn step_done(&mut self) {
        self.waits = 0;
        self.put_off_since = None;
    }
}

/// A request to publish whose effect is not known yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PublishRequest {
    /// When it was about to be made.
    pub at: i64,
    /// What came instead of an answer; absent when the worker did not live to see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A final failure. A run that finds it, since the one that noted it died before the queue knew,
/// ends the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Attempts that had ended before the one that failed.
    pub attempts_made: u32,
    /// How often the job had been recovered from a worker that vanished.
    pub stalled: u32,
    /// What the user can do about it.
    pub code: NoticeCode,
    /// Why it failed.
    pub reason: String,
}

impl Verdict {
    /// Says whether it is about the run of a job with these counters: the same attempt, recovered
    /// since. Somebody who retries a failed job by hand wants another try, not the old verdict.
    pub(super) fn holds(&self, attempts_made: u32, stalled: u32) -> bool {
        self.attempts_made == attempts_made && stalled > self.stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recovered run repeats what its users were told; a retry by hand starts afresh.
    #[test]
    fn verdict_holds_for_the_same_attempt_after_a_recovery_only() {
        let verdict = Verdict {
            attempts_made: 2,
            stalled: 0,
            code: NoticeCode::Unavailable,
            reason: "gone".to_owned(),
        };
        assert!(verdict.holds(2, 1));
        assert!(!verdict.holds(2, 0));
        assert!(!verdict.holds(3, 1));
        assert!(!verdict.holds(0, 0));
    }
}
