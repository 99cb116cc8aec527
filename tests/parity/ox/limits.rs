//! Steps on limits as this library takes them.

use std::time::Duration;

use oxbull::{JobRateLimit, Queue, RateLimitState};
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::done;
use crate::step::Limit;

pub(super) async fn limit(queue: &Queue, step: Limit) -> TestResult<Value> {
    Ok(match step {
        Limit::SetConcurrency(jobs) => done(queue.set_global_concurrency(jobs).await)?,
        Limit::RemoveConcurrency => queue.remove_global_concurrency().await?.into(),
        Limit::Concurrency => json!(queue.global_concurrency().await?),
        Limit::IsMaxed => queue.is_maxed().await?.into(),
        Limit::SetRate(max, window) => {
            let window = Duration::from_millis(window);
            done(
                queue
                    .set_global_rate_limit(JobRateLimit::new(max, window))
                    .await,
            )?
        }
        Limit::RemoveRate => queue.remove_global_rate_limit().await?.into(),
        Limit::Rate => match queue.global_rate_limit().await? {
            Some(limit) => {
                let window = u64::try_from(limit.window.as_millis())?;
                json!({ "max": limit.max, "duration": window })
            }
            None => Value::Null,
        },
        Limit::Impose(wait) => {
            let limited = queue.limit_rate(Duration::from_millis(wait)).await;
            done(limited.map(drop))?
        }
        Limit::Lift => queue.lift_rate_limit().await?.into(),
        Limit::State(max) => {
            let state = match max {
                Some(max) => queue.rate_limit_state_of(max).await?,
                None => queue.rate_limit_state().await?,
            };
            match state {
                RateLimitState::NoWindow | RateLimitState::Available { .. } => "free".into(),
                RateLimitState::NeverExpires => "endless".into(),
                _ => "held".into(),
            }
        }
    })
}
