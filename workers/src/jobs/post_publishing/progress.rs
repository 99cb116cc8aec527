//! The progress of a publication, kept between the runs and attempts of its job.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::NoticeCode;
use crate::graph::{ContainerId, MediaId};

/// Appended to the reason when a failed post may be public nevertheless.
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
    /// When the latest container was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<i64>,
    /// Since when the API does not show a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_since: Option<i64>,
    /// How often the container was not found when it was to be published.
    #[serde(skip_serializing_if = "is_none_yet")]
    pub not_found_retries: u32,
    /// That publication was asked for, noted before the request is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<PublishRequest>,
    /// When the latest request to publish was made that got no answer and is to be repeated. The post is in
    /// doubt until the container's status denies it long after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered_at: Option<i64>,
    /// How many creations of containers got no answer.
    #[serde(skip_serializing_if = "is_none_yet")]
    pub lost_creations: u32,
    /// When the latest of them ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_lost_at: Option<i64>,
    /// The post's id once it is published and known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_id: Option<MediaId>,
    /// How often the job has waited in its present step.
    pub waits: u32,
    /// Since when it waits for its containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<i64>,
    /// Since when only limits of the API postpone it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "putOffSince")]
    pub postponed_since: Option<i64>,
    /// That it waits for a usable token of its account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_wait: Option<TokenWait>,
    /// The final failure, stored before the user is notified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Fields of other versions of the worker.
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

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_none_yet(number: &u32) -> bool {
    *number == 0
}

impl Publication {
    /// Whether no container exists yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.children.is_empty() && self.container_id.is_none()
    }

    /// Whether the post may be public, as far as is known.
    pub(super) fn may_be_public(&self) -> bool {
        self.request.is_some() || self.unanswered_at.is_some() || self.media_id.is_some()
    }

    /// Discards the containers, so that the next run makes others. A container that may have been
    /// published is never discarded, see [`request`](Self::request).
    pub(super) fn start_over(&mut self) {
        let postponed_since = self.postponed_since;
        let (lost_creations, creation_lost_at) = (self.lost_creations, self.creation_lost_at);
        let other = std::mem::take(&mut self.other);
        *self = Self {
            lost_creations,
            creation_lost_at,
            postponed_since,
            other,
            ..Self::default()
        };
    }

    /// Ends a step: the next one counts its own waits.
    pub(super) fn step_done(&mut self) {
        self.waits = 0;
        self.postponed_since = None;
        self.token_wait = None;
    }
}

/// Waiting for a usable token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TokenWait {
    /// Since when.
    pub since: i64,
    /// Why there is none.
    pub reason: String,
}

/// A request to publish whose effect is not known yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PublishRequest {
    /// When it was about to be made.
    pub at: i64,
    /// What came instead of an answer; absent when the worker died before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What follows once the post is known not to be public.
    #[serde(default, skip_serializing_if = "IfUnpublished::is_retry")]
    pub if_unpublished: IfUnpublished,
    /// How often the post has been looked for.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub looks: u32,
}

/// What follows once a post that was in doubt is known not to be public.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum IfUnpublished {
    /// Request the same again.
    #[default]
    Retry,
    /// Make another container.
    Replace,
    /// The refusal is final.
    Refuse,
}

impl IfUnpublished {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_retry(&self) -> bool {
        *self == Self::Retry
    }
}

/// A final failure. A run that finds it ends the same way: the run that stored it died before the
/// job was moved to the failed set.
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
    /// Whether it belongs to the run of a job with these counters: the same attempt, recovered since.
    /// A retry by hand is a new attempt and does not repeat the old verdict.
    pub(super) fn holds(&self, attempts_made: u32, stalled: u32) -> bool {
        self.attempts_made == attempts_made && stalled > self.stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recovered run repeats the verdict; a retry by hand starts over.
    #[test]
    fn verdict_holds_for_the_same_attempt_after_a_recovery_only() {
        let verdict = Verdict {
            attempts_made: 2,
            stalled: 0,
            code: NoticeCode::Unavailable,
            reason: "refused".to_owned(),
        };
        assert!(verdict.holds(2, 1));
        assert!(!verdict.holds(2, 0));
        assert!(!verdict.holds(3, 1));
        assert!(!verdict.holds(0, 0));
    }
}
