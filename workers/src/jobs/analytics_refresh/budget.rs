//! How many requests all workers together may make, so that the API need not refuse them.

use std::future::Future;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

use oxbull::BoxError;
use oxbull::client::Client;
use oxbull::kv::{RateLimit, RateLimiter};

use crate::graph::{AccountId, LimitScope};

/// Who limits: the names of the budgets among the rate limits' keys.
const ACCOUNT: &str = "graph.account";
const APPLICATION: &str = "graph.application";

/// Whose budget is used up, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Whose.
    pub scope: LimitScope,
    /// How long until the request would fit.
    pub wait: Duration,
}

/// Lets requests through, or not.
pub trait Allowance {
    /// Counts one request for an account; returns the exceeded budget when it does not fit.
    fn take(
        &self,
        account: &AccountId,
    ) -> impl Future<Output = Result<Option<Denial>, BoxError>> + Send;
}

/// So many requests at once, and as many again in each period: `200/3600` is 200 at once and 200
/// an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    requests: u32,
    seconds: u64,
}

impl Budget {
    /// So many requests in a period of whole seconds.
    pub const fn new(requests: u32, seconds: u64) -> Self {
        Self { requests, seconds }
    }

    fn limit(self) -> RateLimit {
        let period = Duration::from_secs(self.seconds);
        RateLimit::token_bucket(self.requests, self.requests, period)
    }
}

/// A text that is no budget.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBudget {
    /// It has another form.
    #[error("must be <requests>/<seconds>, such as 200/3600")]
    Form,
    /// One of the two is not a number.
    #[error("must be <requests>/<seconds>, such as 200/3600")]
    Number(#[from] ParseIntError),
    /// One of the two is 0.
    #[error("must have at least 1 request and 1 second")]
    Zero,
}

impl FromStr for Budget {
    type Err = InvalidBudget;

    fn from_str(text: &str) -> Result<Self, InvalidBudget> {
        let (requests, seconds) = text.split_once('/').ok_or(InvalidBudget::Form)?;
        match Self::new(requests.parse()?, seconds.parse()?) {
            Self { requests: 0, .. } | Self { seconds: 0, .. } => Err(InvalidBudget::Zero),
            budget => Ok(budget),
        }
    }
}

/// The budgets of each account and of the application, as token buckets on the queues' server:
/// `ratelimit:graph.account:{accountId}:bucket` and `ratelimit:graph.application:all:bucket`.
#[derive(Debug, Clone)]
pub struct Budgets {
    account: RateLimiter,
    application: RateLimiter,
}

impl Budgets {
    /// Budgets that every worker of this server shares, if it has the same.
    ///
    /// # Errors
    /// [`oxbull::Error::Invalid`] when a budget is out of bounds.
    pub fn new(client: &Client, account: Budget, application: Budget) -> oxbull::Result<Self> {
        Ok(Self {
            account: client.kv().rate_limiter(account.limit())?,
            application: client.kv().rate_limiter(application.limit())?,
        })
    }
}

impl Allowance for Budgets {
    /// The account's comes first: one that is used up must not cost the others anything.
    async fn take(&self, account: &AccountId) -> Result<Option<Denial>, BoxError> {
        let denied = |scope| move |wait| Denial { scope, wait };
        let own = self.account.take(ACCOUNT, account.as_str()).await?;
        if own.retry_after.is_some() {
            return Ok(own.retry_after.map(denied(LimitScope::Account)));
        }
        let all = self.application.take(APPLICATION, "all").await?;
        Ok(all.retry_after.map(denied(LimitScope::Application)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings are read at start, where a mistake is seen, and not with the first job.
    #[test]
    fn budgets_are_read_from_requests_and_seconds() {
        assert_eq!(
            "200/3600".parse::<Budget>().unwrap(),
            Budget::new(200, 3600)
        );
        for bad in ["", "200", "200/", "/60", "-1/60", "200/1h", "0/60", "5/0"] {
            assert!(bad.parse::<Budget>().is_err(), "{bad:?} was accepted");
        }
    }
}
