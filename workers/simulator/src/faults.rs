//! Faults that a simulator can be configured with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::store::ContainerOutcome;

/// A request of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Creating a container.
    CreateContainer,
    /// Reading a container's status.
    ContainerStatus,
    /// Publishing a container.
    Publish,
    /// Reading a published post.
    Permalink,
    /// Listing an account's latest posts and reels.
    RecentMedia,
    /// Listing an account's latest stories.
    RecentStories,
    /// Reading how much of an account's publishing quota is used.
    PublishingQuota,
    /// Reading an account's counters.
    Profile,
    /// Reading an account's insights.
    Insights,
    /// Reading an account's counters, insights and posts at once.
    Overview,
    /// Listing an account's posts with their numbers.
    PostNumbers,
    /// Refreshing an account's token.
    RefreshToken,
}

/// A rule: which requests it concerns, how often, and what happens to them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fault {
    /// Only this operation; all when absent.
    #[serde(default)]
    operation: Option<Operation>,
    /// Only requests for this account; all when absent.
    #[serde(default)]
    account: Option<String>,
    /// How many requests it takes effect on; without end when absent.
    #[serde(default)]
    times: Option<u32>,
    effect: Effect,
}

/// What happens to a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It takes this much longer, in milliseconds, and then goes on.
    Slow(u64),
    /// It is refused with an error of the API.
    Error {
        /// HTTP status.
        status: u16,
        /// The API's code.
        code: i64,
        /// The API's subcode.
        #[serde(default)]
        subcode: Option<i64>,
        /// The API's text, when it is to be a certain one.
        #[serde(default)]
        text: Option<String>,
        /// What the API would tell the user.
        #[serde(default)]
        user_message: Option<String>,
        /// For publishing: it is executed nevertheless, and so many looks at the container's status find
        /// nothing of it.
        #[serde(default)]
        executed: Option<u32>,
    },
    /// It is refused as over the account's rate, with the usual headers and a `Retry-After` of
    /// this many seconds.
    RateLimit(u64),
    /// It is executed, and its answer reports this rate usage of the account.
    Usage {
        /// Percent in use.
        percent: u32,
        /// Minutes for which the account is blocked.
        minutes: u64,
    },
    /// The container that it asks about never gets finished.
    Container(ContainerOutcome),
    /// It is done, and the connection breaks before the answer is through.
    LoseReply,
}

impl Fault {
    fn new(effect: Effect) -> Self {
        Self {
            operation: None,
            account: None,
            times: None,
            effect,
        }
    }

    /// Refuses with an HTTP status and an API code.
    pub fn error(status: u16, code: i64) -> Self {
        Self::new(Effect::Error {
            status,
            code,
            subcode: None,
            text: None,
            user_message: None,
            executed: None,
        })
    }

    /// Refuses as over the account's rate, to be asked again after `wait` (whole seconds).
    pub fn rate_limit(wait: Duration) -> Self {
        Self::new(Effect::RateLimit(wait.as_secs()))
    }

    /// Makes requests slower.
    pub fn slow(by: Duration) -> Self {
        Self::new(Effect::Slow(
            u64::try_from(by.as_millis()).unwrap_or(u64::MAX),
        ))
    }

    /// Executes the request and reports this rate usage of the account.
    pub fn usage(percent: u32, minutes: u64) -> Self {
        Self::new(Effect::Usage { percent, minutes })
    }

    /// Leaves the container whose status is read in this state permanently, such as `ERROR`.
    pub fn container(state: &str, text: &str) -> Self {
        let outcome = ContainerOutcome {
            state: state.to_owned(),
            text: text.to_owned(),
        };
        Self::new(Effect::Container(outcome)).on(Operation::ContainerStatus)
    }

    /// Does what is asked and loses the answer.
    pub fn lose_reply() -> Self {
        Self::new(Effect::LoseReply)
    }

    /// Sets the subcode of an error.
    #[must_use]
    pub fn subcode(mut self, value: i64) -> Self {
        if let Effect::Error { subcode, .. } = &mut self.effect {
            *subcode = Some(value);
        }
        self
    }

    /// Sets the text of an error.
    #[must_use]
    pub fn text(mut self, value: &str) -> Self {
        if let Effect::Error { text, .. } = &mut self.effect {
            *text = Some(value.to_owned());
        }
        self
    }

    /// Sets what an error would tell the user (`error_user_msg`).
    #[must_use]
    pub fn user_message(mut self, value: &str) -> Self {
        if let Effect::Error { user_message, .. } = &mut self.effect {
            *user_message = Some(value.to_owned());
        }
        self
    }

    /// An object that cannot be seen for the moment, although it exists and can be used.
    pub fn hidden() -> Self {
        Self::error(400, 100).subcode(33)
    }

    /// Executes a request to publish that is answered with an error. So many looks at the container's status
    /// still find it finished, and until then the account does not show the post.
    #[must_use]
    pub fn executed(mut self, looks: u32) -> Self {
        if let Effect::Error { executed, .. } = &mut self.effect {
            *executed = Some(looks);
        }
        self.on(Operation::Publish)
    }

    /// Concerns one operation only.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Concerns one account only.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// Takes effect this many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Takes the effect for a request if the rule concerns it and is not used up.
    pub(super) fn take(&mut self, operation: Operation, account: &str) -> Option<Effect> {
        let concerned = self.operation.is_none_or(|only| only == operation)
            && self.account.as_deref().is_none_or(|only| only == account);
        if !concerned || self.times == Some(0) {
            return None;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        Some(self.effect.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fault over HTTP is the JSON that the module's documentation promises.
    #[test]
    fn faults_read_from_plain_json() {
        let mut fault: Fault = serde_json::from_str(
            r#"{"operation":"publish","times":1,"effect":{"error":{"status":500,"code":2}}}"#,
        )
        .unwrap();
        assert!(fault.take(Operation::Permalink, "1").is_none());
        assert!(fault.take(Operation::Publish, "1").is_some());
        assert!(fault.take(Operation::Publish, "1").is_none());
        assert!(serde_json::from_str::<Fault>(r#"{"effect":"lose_reply"}"#).is_ok());
        assert!(serde_json::from_str::<Fault>(r#"{"effect":{"slow":20}}"#).is_ok());
    }
}
