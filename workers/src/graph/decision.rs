//! What can be decided about a refused request.

use std::fmt;
use std::time::Duration;

use super::{Failure, LimitScope};

/// What was asked for when the API refused. The same code can mean different things: a container that cannot be
/// read may be published all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Creating a container, of a post or of one of its children.
    Create,
    /// Reading a container's status.
    Status,
    /// None: the container's status says that its media could not be processed.
    Container,
    /// Publishing a container.
    Publish,
    /// Reading a published post, or the account's own posts to find it.
    ReadBack,
    /// Reading counters and insights.
    Numbers,
}

impl Stage {
    pub(super) const ALL: [Self; 6] = [
        Self::Create,
        Self::Status,
        Self::Container,
        Self::Publish,
        Self::ReadBack,
        Self::Numbers,
    ];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "creating",
            Self::Status => "status",
            Self::Container => "failed container",
            Self::Publish => "publishing",
            Self::ReadBack => "reading back",
            Self::Numbers => "numbers",
        })
    }
}

/// What to do about a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Wait without using an attempt, then go on.
    Wait(Pause),
    /// Make the same request again in a later attempt, with the container there is.
    SameContainer,
    /// Make another container in a later attempt.
    NewContainer,
    /// The request may have had its effect: find out from the container's state and from the account's own posts
    /// before anything is decided. Once it is known to have had none, [`GraphError::failure`] applies.
    ///
    /// [`GraphError::failure`]: super::GraphError::failure
    LookAgain,
    /// The API does not document the error: make the request again, and fail in the last attempt.
    Unclassified,
    /// Fail for good: only what the remedy names can help.
    Final(Remedy),
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pause {
    /// The media is processed.
    Processing,
    /// A limit has room again.
    Limit(LimitScope),
    /// A block for a policy is over.
    Block,
}

/// What helps after a final failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remedy {
    /// Change the post: its media, text or tags.
    ChangePost,
    /// Connect the account again, since its token is not valid any more.
    Reconnect,
    /// Connect the account again and grant every permission that is asked for.
    GrantPermission,
    /// Sign in to the Instagram app and do what it asks for.
    OpenInstagram,
    /// Check the account's id and that its owner connected this account.
    CheckAccount,
    /// Check the application's own permissions with Meta.
    CheckApplication,
    /// Do without these numbers.
    LeaveOut,
}

impl Remedy {
    /// The remedy as a failure's reason says it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::ChangePost => "change the post",
            Self::Reconnect => "reconnect the account",
            Self::GrantPermission => "reconnect the account and grant all permissions",
            Self::OpenInstagram => "sign in to the Instagram app and do what it asks for",
            Self::CheckAccount => "check that this account is connected",
            Self::CheckApplication => "check the application's permissions with Meta",
            Self::LeaveOut => "do without these numbers",
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advice())
    }
}

impl Decision {
    /// The failure of a request of which no stage is known; `wait` is what the API asked for.
    pub(super) fn failure(self, wait: Option<Duration>) -> Failure {
        match self {
            Self::Wait(Pause::Processing) => Failure::NotReady,
            Self::Wait(Pause::Block) => Failure::Blocked,
            Self::Wait(Pause::Limit(scope)) => Failure::RateLimited { scope, wait },
            Self::SameContainer | Self::NewContainer | Self::LookAgain => Failure::Transient,
            Self::Unclassified => Failure::Unclassified,
            Self::Final(Remedy::Reconnect) => Failure::ExpiredToken,
            Self::Final(Remedy::GrantPermission) => Failure::MissingPermission,
            Self::Final(_) => Failure::Permanent,
        }
    }

    /// The decision about a failure that no row of the tables describes.
    pub(super) fn of(failure: Failure) -> Self {
        match failure {
            Failure::Permanent => Self::Final(Remedy::ChangePost),
            Failure::MissingPermission => Self::Final(Remedy::GrantPermission),
            Failure::ExpiredToken => Self::Final(Remedy::Reconnect),
            Failure::RateLimited { scope, .. } => Self::Wait(Pause::Limit(scope)),
            Failure::Blocked => Self::Wait(Pause::Block),
            Failure::NotReady => Self::Wait(Pause::Processing),
            Failure::Transient => Self::SameContainer,
            Failure::Unclassified => Self::Unclassified,
        }
    }

    /// The decision at a stage that it is not made for in particular. A request to publish that failed for a
    /// passing reason may have been executed, and a container that failed is never finished.
    pub(super) fn at(self, stage: Stage) -> Self {
        match (stage, self) {
            (Stage::Publish, Self::SameContainer | Self::NewContainer | Self::Unclassified) => {
                Self::LookAgain
            }
            (Stage::Container, Self::SameContainer) => Self::NewContainer,
            (_, decision) => decision,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait(Pause::Processing) => "wait until it is processed",
            Self::Wait(Pause::Block) => "wait for 15, 30, 60, 120 minutes",
            Self::Wait(Pause::Limit(LimitScope::Application)) => "wait, all accounts",
            Self::Wait(Pause::Limit(LimitScope::Account)) => "wait, the account",
            Self::Wait(Pause::Limit(LimitScope::Publishing)) => "wait, the account's posts",
            Self::SameContainer => "same container",
            Self::NewContainer => "new container",
            Self::LookAgain => "look again",
            Self::Unclassified => "retry, final in the last attempt",
            Self::Final(remedy) => return write!(f, "final: {}", remedy.advice()),
        })
    }
}
