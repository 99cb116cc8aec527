//! Why a post is not published.

use std::time::Duration;

use oxbull::BoxError;

use crate::graph::{ApiError, ContainerId, Failure, GraphError, LimitScope};

/// Why a post was not published by this attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A request failed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The API cannot use the media.
    #[error("the media cannot be published: {0}")]
    Container(ApiError),
    /// The container was not published in time; the next attempt makes another.
    #[error("container {0} expired")]
    Expired(ContainerId),
    /// Creating containers got no answer too often, so no others are made.
    #[error("the api did not answer in time to any of several requests to prepare the media")]
    NeverCreated,
    /// A container stayed in progress; the next attempt makes others.
    #[error("container {container} was not ready within {limit:?}")]
    NeverReady {
        /// The container.
        container: ContainerId,
        /// How long it was waited for.
        limit: Duration,
    },
    /// Publishing was asked for without an answer, and the container is still not published.
    #[error("the request to publish had no effect: {0}")]
    Unanswered(String),
    /// Publishing was refused, and the post is not public.
    #[error("{0}")]
    Refused(String),
    /// Publishing was requested, and neither the container nor the account's posts show what became of it: it is
    /// unknown whether the post is public, so it is not published again.
    #[error("container {0} may have been published, and the api does not show whether it was")]
    Vanished(ContainerId),
    /// The account has published as many posts as it may in 24 hours.
    #[error("the account's publishing quota is used up")]
    QuotaUsedUp(Duration),
    /// The progress could not be kept; nothing was published after that.
    #[error("the progress could not be kept")]
    ProgressStore(#[source] BoxError),
}

impl PublishError {
    /// What to do about it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Graph(error) => error.failure(),
            Self::Container(error) => error.failure,
            Self::QuotaUsedUp(wait) => Failure::RateLimited {
                scope: LimitScope::Publishing,
                wait: Some(*wait),
            },
            Self::Refused(_) | Self::Vanished(_) => Failure::Permanent,
            Self::Expired(_)
            | Self::NeverReady { .. }
            | Self::NeverCreated
            | Self::Unanswered(_)
            | Self::ProgressStore(_) => Failure::Transient,
        }
    }
}
