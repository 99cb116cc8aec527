//! The algorithms as plain models, against which the scripts run random histories.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use oxbull::Timestamp;
use oxbull::client::Client;
use oxbull::kv::{RateLimit, RateLimitDecision, RateLimiter};
use oxbull_testkit::RedisServer;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{MINUTE, START, client};

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Take(u32),
    Peek,
    /// Moves the clock, sometimes back.
    Wait(i64),
    /// Moves the clock to the very moment that the last answer named, or just before it.
    Return(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1_u32..=4).prop_map(Step::Take),
        1 => Just(Step::Peek),
        3 => (0_i64..40_000).prop_map(Step::Wait),
        1 => (-500_i64..0).prop_map(Step::Wait),
        3 => (0_i64..2).prop_map(Step::Return),
        1 => (0_i64..200_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

/// What a limiter should answer: allowed, remaining, reset and wait in ms.
type Answer = (bool, u32, u64, Option<u64>);

/// The algorithms again, as plainly as possible.
enum Model {
    Fixed {
        limit: u32,
        window: i64,
        used: BTreeMap<i64, u32>,
    },
    Sliding {
        limit: u32,
        window: i64,
        log: VecDeque<i64>,
    },
    /// Taken tokens times the period, at a time.
    Bucket {
        capacity: i64,
        refill: i64,
        period: i64,
        level: i64,
        at: i64,
    },
}

impl Model {
    fn take(&mut self, now: i64, cost: u32, peek: bool) -> Answer {
        let ms = |time: i64| u64::try_from(time).unwrap();
        match self {
            Self::Fixed {
                limit,
                window,
                used,
            } => {
                let left = ms(*window - now % *window);
                let used = used.entry(now / *window).or_default();
                let fits = *used + cost <= *limit;
                if fits && !peek {
                    *used += cost;
                }
                (fits, *limit - *used, left, (!fits).then_some(left))
            }
            Self::Sliding { limit, window, log } => {
                let at = log.back().map_or(now, |newest| now.max(*newest));
                let live: Vec<i64> = log.iter().copied().filter(|e| *e > at - *window).collect();
                let used = u32::try_from(live.len()).unwrap();
                let over = (used + cost).saturating_sub(*limit);
                let wait = over
                    .checked_sub(1)
                    .map(|last| ms(live[last as usize] + *window - now));
                if wait.is_none() && !peek {
                    log.extend((0..cost).map(|_| at));
                }
                let used = if wait.is_none() && !peek {
                    used + cost
                } else {
                    used
                };
                let reset = if used == 0 {
                    0
                } else {
                    ms(*log.back().unwrap() + *window - now)
                };
                (wait.is_none(), *limit - used, reset, wait)
            }
            Self::Bucket {
                capacity,
                refill,
                period,
                level,
                at,
            } => {
                if *level == 0 {
                    *at = now; // the key may be gone
                }
                let (mut now_level, mut now_at) = (*level, *at);
                if now > now_at {
                    now_level = (now_level - (now - now_at) * *refill).max(0);
                    now_at = now;
                }
                let need = i64::from(cost) * *period;
                let over = now_level + need - *capacity * *period;
                if over <= 0 && !peek {
                    now_level += need;
                    (*level, *at) = (now_level, now_at);
                }
                let up = |level: i64| (level + *refill - 1) / *refill;
                let behind = now_at - now;
                let reset = if now_level == 0 {
                    0
                } else {
                    up(now_level) + behind
                };
                let remaining = (*capacity * *period - now_level) / *period;
                let wait = (over > 0).then(|| ms(up(over) + behind));
                (
                    over <= 0,
                    u32::try_from(remaining).unwrap(),
                    ms(reset),
                    wait,
                )
            }
        }
    }
}

fn answer(decision: &RateLimitDecision) -> Answer {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    (
        decision.allowed,
        decision.remaining,
        ms(decision.reset),
        decision.retry_after.map(ms),
    )
}

async fn replay(
    client: &Client,
    limiter: &RateLimiter,
    mut model: Model,
    user: &str,
    history: &[Step],
) -> Result<(), TestCaseError> {
    let mut now = START;
    let mut named = 0;
    for step in history {
        client.clock().set(Timestamp::from_millis(now));
        let (cost, peek) = match step {
            Step::Take(cost) => (*cost, false),
            Step::Peek => (1, true),
            Step::Wait(ms) => {
                now += ms;
                continue;
            }
            Step::Return(early) => {
                now += (named - early).max(0);
                continue;
            }
        };
        let decision = if peek {
            limiter.peek("e", user).await
        } else {
            limiter.take_many("e", user, cost).await
        };
        let decision = decision.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let wait = decision.retry_after.unwrap_or(decision.reset);
        named = i64::try_from(wait.as_millis()).unwrap();
        prop_assert_eq!(
            answer(&decision),
            model.take(now, cost, peek),
            "at {}",
            now - START
        );
    }
    Ok(())
}

/// Each script decides as its algorithm says, whatever the clock does.
#[test]
fn scripts_decide_as_the_models_do() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, client) = runtime.block_on(async {
        let server = RedisServer::start().await.unwrap();
        let client = client(&server).await.unwrap();
        (server, client)
    });
    let kv = client.kv();
    let mut runner = TestRunner::new(Config::with_cases(64));
    let user = std::cell::Cell::new(0);
    let strategy = (4_u32..10, 1_u32..9, steps());
    let outcome = runner.run(&strategy, |(limit, refill, history)| {
        user.set(user.get() + 1);
        let user = format!("u{}", user.get());
        runtime.block_on(async {
            let fixed = kv
                .rate_limiter(RateLimit::fixed_window(limit, MINUTE))
                .unwrap();
            let model = Model::Fixed {
                limit,
                window: 60_000,
                used: BTreeMap::new(),
            };
            replay(&client, &fixed, model, &user, &history).await?;
            let sliding = kv
                .rate_limiter(RateLimit::sliding_window(limit, MINUTE))
                .unwrap();
            let model = Model::Sliding {
                limit,
                window: 60_000,
                log: VecDeque::new(),
            };
            replay(&client, &sliding, model, &user, &history).await?;
            let bucket = RateLimit::token_bucket(limit, refill, MINUTE);
            let model = Model::Bucket {
                capacity: limit.into(),
                refill: refill.into(),
                period: 60_000,
                level: 0,
                at: START,
            };
            replay(
                &client,
                &kv.rate_limiter(bucket).unwrap(),
                model,
                &user,
                &history,
            )
            .await
        })
    });
    drop(server);
    outcome.unwrap();
}
