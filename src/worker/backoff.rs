//! Custom backoff strategies: how long a failed job waits, decided by the application.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::job::{BackoffKind, JobError, JobRecord};
use crate::policy::CustomWait;

/// A failed attempt, as a custom backoff strategy sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// The job, as it was when the attempt started: its name, data and options.
    pub job: Arc<JobRecord>,
    /// Which of the job's attempts has failed, from 1.
    pub attempt: u32,
    /// What the handler returned.
    pub error: Arc<JobError>,
}

type Strategy = Arc<dyn Fn(FailedAttempt) -> BoxFuture<'static, Option<Duration>> + Send + Sync>;

/// How long a strategy may take. Its job keeps slot and lock meanwhile.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The strategies that a worker knows.
#[derive(Clone)]
pub(crate) struct Strategies {
    named: HashMap<String, Strategy>,
    /// Asked where no strategy has the name.
    fallback: Option<Strategy>,
    timeout: Duration,
}

impl Default for Strategies {
    fn default() -> Self {
        Self {
            named: HashMap::new(),
            fallback: None,
            timeout: TIMEOUT,
        }
    }
}

impl Strategies {
    /// Registers a strategy under the name that jobs use.
    pub(crate) fn insert<F, Fut>(&mut self, name: String, strategy: F)
    where
        F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Duration>> + Send + 'static,
    {
        self.named.insert(name, boxed(strategy));
    }

    /// Registers the strategy for names that no other has.
    pub(crate) fn set_fallback<F, Fut>(&mut self, strategy: F)
    where
        F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Duration>> + Send + 'static,
    {
        self.fallback = Some(boxed(strategy));
    }

    /// Asks the job's strategy, if it names one that is known. A strategy that panics, or does not
    /// answer in time, gives no further attempt.
    pub(super) async fn wait(
        &self,
        job: &Arc<JobRecord>,
        error: &Arc<JobError>,
    ) -> Option<CustomWait> {
        let BackoffKind::Custom(name) = &job.options.backoff.as_ref()?.kind else {
            return None;
        };
        let strategy = self.named.get(name).or(self.fallback.as_ref())?;
        let failed = FailedAttempt {
            job: Arc::clone(job),
            attempt: job.attempts_made.saturating_add(1),
            error: Arc::clone(error),
        };
        let asked = std::panic::AssertUnwindSafe(async { strategy(failed).await });
        let wait = match tokio::time::timeout(self.timeout, asked.catch_unwind()).await {
            Ok(Ok(wait)) => wait,
            Ok(Err(_)) => {
                tracing::error!(strategy = %name, job = %job.id, "backoff strategy panicked");
                None
            }
            Err(_) => {
                let waited = self.timeout;
                tracing::error!(strategy = %name, job = %job.id, ?waited, "backoff strategy did not answer");
                None
            }
        };
        Some(wait.map_or(CustomWait::GiveUp, CustomWait::Retry))
    }
}

fn boxed<F, Fut>(strategy: F) -> Strategy
where
    F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Option<Duration>> + Send + 'static,
{
    Arc::new(move |failed| strategy(failed).boxed())
}

impl fmt::Debug for Strategies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strategies")
            .field("named", &self.named.keys())
            .field("fallback", &self.fallback.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Backoff, JobOptions};

    /// A strategy that panics or never answers must hold neither slot nor lock forever.
    #[tokio::test]
    async fn broken_strategies_give_no_further_attempt() {
        let mut strategies = Strategies {
            timeout: Duration::from_millis(10),
            ..Strategies::default()
        };
        strategies.insert("endless".to_owned(), |_| std::future::pending());
        strategies.insert("panics".to_owned(), |_| async { panic!("as it does") });
        strategies.insert("sound".to_owned(), |_| async { Some(Duration::ZERO) });
        let error = Arc::new(JobError::retry("boom"));
        for (name, expected) in [
            ("endless", Some(CustomWait::GiveUp)),
            ("panics", Some(CustomWait::GiveUp)),
            ("sound", Some(CustomWait::Retry(Duration::ZERO))),
            ("unknown", None),
        ] {
            let job = Arc::new(JobRecord {
                options: JobOptions::new().backoff(Backoff::custom(name)),
                ..JobRecord::new("1")
            });
            assert_eq!(strategies.wait(&job, &error).await, expected, "{name}");
        }
    }
}
