//! Rate limits on a real server: no client, however many there are, passes a limit.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the model fails loudly"
)]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::future::join_all;
use oxbull::client::{Client, ClientConfig};
use oxbull::kv::{RateLimit, RateLimitDecision, RateLimiter};
use oxbull::{Error, Timestamp};
use oxbull_testkit::{Proxy, RedisServer, Rule, TestResult};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// A minute's beginning.
const START: i64 = 1_795_647_600_000;
const MINUTE: Duration = Duration::from_secs(60);

async fn client(server: &RedisServer) -> oxbull::Result<Client> {
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    client.clock().set(Timestamp::from_millis(START));
    Ok(client)
}

fn seconds(time: Duration) -> u64 {
    time.as_secs()
}

/// The customer's key holds a plain number that other clients can count, too.
#[tokio::test]
async fn fixed_window_counts_under_the_minutes_key() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client(&server).await?;
    let limiter = client
        .kv()
        .rate_limiter(RateLimit::fixed_window(3, MINUTE))?;
    let at = START + 20_000;
    client.clock().set(Timestamp::from_millis(at));
    let key = format!("ratelimit:publish:7:{}", at / 60_000);

    let first = limiter.take("publish", "7").await?;
    assert!(first.allowed);
    assert_eq!((first.limit, first.remaining), (3, 2));
    assert_eq!((seconds(first.reset), first.retry_after), (40, None));
    assert_eq!(server.text(&["GET", &key]).await?.as_deref(), Some("1"));

    server.cli(&["INCRBY", &key, "2"]).await?; // another client's requests
    let full = limiter.take("publish", "7").await?;
    assert!(!full.allowed);
    assert_eq!(full.remaining, 0);
    assert_eq!(full.retry_after, Some(Duration::from_secs(40)));
    assert_eq!(
        server.int(&["GET", &key]).await?,
        3,
        "a refusal does not count"
    );

    assert!(limiter.take("publish", "8").await?.allowed);
    assert!(limiter.take("login", "7").await?.allowed);
    client.clock().set(Timestamp::from_millis(START + 60_000));
    assert!(limiter.take("publish", "7").await?.allowed);
    Ok(())
}

/// A key without a time to live would limit its user for ever.
#[tokio::test]
async fn every_key_has_a_time_to_live_from_the_same_step() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client(&server).await?;
    let kv = client.kv();
    let immortal = format!("ratelimit:e:u:{}", START / 60_000);
    server.cli(&["SET", &immortal, "1"]).await?; // a client that died before its EXPIRE
    for limit in [
        RateLimit::fixed_window(5, MINUTE),
        RateLimit::sliding_window(5, MINUTE),
        RateLimit::token_bucket(5, 5, MINUTE),
    ] {
        assert!(kv.rate_limiter(limit)?.take("e", "u").await?.allowed);
    }
    kv.hold_off("account", Timestamp::from_millis(START + 1_000))
        .await?;
    for (key, most) in [
        (immortal.as_str(), 65_000),
        ("ratelimit:e:u:sliding", 65_000),
        ("ratelimit:e:u:bucket", 17_000), // one of five tokens
        ("ratelimit:hold:account", 1_000),
    ] {
        let left = server.int(&["PTTL", key]).await?;
        assert!((1..=most).contains(&left), "{key}: {left}");
    }
    assert_eq!(server.int(&["DBSIZE"]).await?, 4);
    Ok(())
}

/// A request that costs more takes all of its cost or none.
#[tokio::test]
async fn cost_and_peek() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client(&server).await?;
    let kv = client.kv();
    for limit in [
        RateLimit::fixed_window(1_500, MINUTE),
        RateLimit::sliding_window(1_500, MINUTE),
        RateLimit::token_bucket(1_500, 1_500, MINUTE),
    ] {
        let limiter = kv.rate_limiter(limit)?;
        assert_eq!(limiter.peek("e", "u").await?.remaining, 1_500);
        let taken = limiter.take_many("e", "u", 1_400).await?;
        assert_eq!((taken.allowed, taken.remaining), (true, 100), "{limit:?}");
        let refused = limiter.take_many("e", "u", 101).await?;
        assert_eq!(
            (refused.allowed, refused.remaining),
            (false, 100),
            "{limit:?}"
        );
        let peeked = limiter.peek("e", "u").await?;
        assert_eq!((peeked.allowed, peeked.remaining), (true, 100), "{limit:?}");
        assert!(limiter.take_many("e", "u", 100).await?.allowed);
        assert!(!limiter.peek("e", "u").await?.allowed);
        for cost in [0, 1_501] {
            let odd = limiter.take_many("e", "u", cost).await;
            assert!(
                matches!(odd, Err(Error::Invalid { field: "cost", .. })),
                "{odd:?}"
            );
        }
    }
    Ok(())
}

/// Ids that would break a key are refused before anything is sent, and so are odd values.
#[tokio::test]
async fn odd_ids_and_odd_values_are_errors_that_change_nothing() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client(&server).await?;
    let kv = client.kv();
    let limits = [
        RateLimit::fixed_window(5, MINUTE),
        RateLimit::sliding_window(5, MINUTE),
        RateLimit::token_bucket(5, 5, MINUTE),
    ];
    for limit in limits {
        let limiter = kv.rate_limiter(limit)?;
        for id in ["", "a:b", "{a}", "a\n", "a b"] {
            let user = limiter.take("e", id).await;
            assert!(
                matches!(
                    user,
                    Err(Error::Invalid {
                        field: "user id",
                        ..
                    })
                ),
                "{user:?}"
            );
            let endpoint = limiter.take(id, "u").await;
            assert!(matches!(
                endpoint,
                Err(Error::Invalid {
                    field: "endpoint",
                    ..
                })
            ));
            let held = kv.held_until(id).await;
            assert!(matches!(
                held,
                Err(Error::Invalid {
                    field: "resource",
                    ..
                })
            ));
        }
    }
    assert_eq!(server.int(&["DBSIZE"]).await?, 0);
    let keys = [
        format!("ratelimit:e:secret:{}", START / 60_000),
        "ratelimit:e:secret:sliding".to_owned(),
        "ratelimit:e:secret:bucket".to_owned(),
    ];
    for (key, limit) in keys.iter().zip(limits) {
        let limiter = kv.rate_limiter(limit)?;
        for odd in [&["SET", key, "odd"][..], &["HSET", key, "f", "1"]] {
            server.cli(&["DEL", key]).await?;
            server.cli(odd).await?;
            let before = server.cli(&["DUMP", key]).await?;
            let error = limiter.take("e", "secret").await.unwrap_err();
            assert!(matches!(error, Error::Decode { .. }), "{error:?}");
            assert_eq!(server.cli(&["DUMP", key]).await?, before);
        }
    }
    assert!(kv.rate_limiter(RateLimit::fixed_window(0, MINUTE)).is_err());
    Ok(())
}

/// An answer that is lost is asked for again: it may count twice, never less than once.
#[tokio::test]
async fn lost_answer_is_counted_at_least_once() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
    client.clock().set(Timestamp::from_millis(START));
    let limiter = client
        .kv()
        .rate_limiter(RateLimit::sliding_window(5, MINUTE))?;
    assert!(limiter.take("e", "u").await?.allowed);
    proxy.add(Rule::drop_reply(|c| c.is("EVALSHA")).nth(1));
    assert_eq!(limiter.take("e", "u").await?.remaining, 2);
    Ok(())
}

/// Every worker leaves an account alone until the latest time that its API has named.
#[tokio::test]
async fn hold_off_reaches_every_client_and_is_never_shortened() -> TestResult {
    let server = RedisServer::start().await?;
    let (one, other) = (client(&server).await?, client(&server).await?);
    let at = |seconds: i64| Timestamp::from_millis(START + seconds * 1_000);
    assert_eq!(other.kv().held_until("account-7").await?, None);
    assert_eq!(one.kv().hold_off("account-7", at(60)).await?, at(60));
    assert_eq!(other.kv().hold_off("account-7", at(30)).await?, at(60));
    assert_eq!(other.kv().held_until("account-7").await?, Some(at(60)));
    assert_eq!(other.kv().held_until("account-8").await?, None);
    assert_eq!(other.kv().hold_off("account-7", at(90)).await?, at(90));
    other.clock().set(at(90));
    assert_eq!(
        other.kv().held_until("account-7").await?,
        None,
        "it is over"
    );
    assert!(one.kv().end_hold("account-7").await?);
    assert!(!one.kv().end_hold("account-7").await?);
    for odd in [at(0), at(-1), at(32 * 24 * 3_600)] {
        let refused = one.kv().hold_off("account-7", odd).await;
        assert!(matches!(
            refused,
            Err(Error::Invalid { field: "until", .. })
        ));
    }
    Ok(())
}

/// Fifty clients with clocks that differ, all asking at once: what the server recorded as
/// allowed never passes the promise of the algorithm, in any window.
#[tokio::test]
async fn fifty_clients_never_pass_a_limit_together() -> TestResult {
    const CLIENTS: usize = 50;
    const LIMIT: u32 = 40;
    let server = RedisServer::start().await?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(client(&server).await?);
    }
    let second = Duration::from_secs(10);
    let limits = [
        RateLimit::fixed_window(LIMIT, second),
        RateLimit::sliding_window(LIMIT, second),
        RateLimit::token_bucket(LIMIT, LIMIT, second),
    ];
    for (which, limit) in limits.into_iter().enumerate() {
        let limiters = clients
            .iter()
            .map(|client| client.kv().rate_limiter(limit))
            .collect::<Result<Vec<_>, _>>()?;
        // Times of the allowed requests, as each client saw them.
        let mut allowed = Vec::new();
        for step in 0..30_i64 {
            let mut times = Vec::new();
            for (index, client) in clients.iter().enumerate() {
                // Up to 49 ms apart, which the alignment of clocks takes for noise.
                let at = START + step * 1_237 + i64::try_from(index)?;
                client.clock().set(Timestamp::from_millis(at));
                times.push(at);
            }
            let calls = limiters.iter().map(|limiter| limiter.take("e", "u"));
            for (at, decision) in times.into_iter().zip(join_all(calls).await) {
                if decision?.allowed {
                    allowed.push(at);
                }
            }
        }
        allowed.sort_unstable();
        let within =
            |from: i64, to: i64| allowed.iter().filter(|at| (from..to).contains(*at)).count();
        let most = usize::try_from(LIMIT)?;
        for from in allowed.iter().copied() {
            match which {
                0 => {
                    let window = from - from % 10_000;
                    assert!(within(window, window + 10_000) <= most);
                }
                // A client may be 49 ms behind the time that the server recorded.
                1 => assert!(within(from, from + 10_000 - 49) <= most),
                _ => {
                    for span in [1, 500, 5_000, 10_000, 20_000] {
                        let refilled = usize::try_from((span + 49) * 4)? / 1_000;
                        assert!(within(from, from + span) <= most + refilled + 1);
                    }
                }
            }
        }
        // 37 s at 40 in 10 s: neither nothing nor everything was allowed.
        assert!(
            (4 * most - 10..=5 * most).contains(&allowed.len()),
            "{limit:?}: {}",
            allowed.len()
        );
    }
    Ok(())
}

/// Clocks that run: a burst of two thousand requests gets exactly the limit.
#[tokio::test]
async fn burst_of_many_clients_gets_exactly_the_limit() -> TestResult {
    let server = RedisServer::start().await?;
    let mut limiters = Vec::new();
    let limits = [
        RateLimit::fixed_window(100, Duration::from_secs(100 * 24 * 3_600)),
        RateLimit::sliding_window(100, Duration::from_secs(3_600)),
        RateLimit::token_bucket(100, 1, Duration::from_secs(3_600)),
    ];
    for _ in 0..50 {
        let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        limiters.push(limits.map(|limit| client.kv().rate_limiter(limit)));
    }
    for which in 0..limits.len() {
        let calls = limiters.iter().flat_map(|limiters| {
            let limiter = limiters[which].as_ref().unwrap();
            (0..40).map(move |_| limiter.take("e", "u"))
        });
        let allowed = join_all(calls).await;
        let allowed = allowed.into_iter().filter(|d| d.as_ref().unwrap().allowed);
        assert_eq!(allowed.count(), 100, "{:?}", limits[which]);
    }
    Ok(())
}

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
