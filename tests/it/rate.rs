//! Rate limits on a real server: no client, however many there are, passes a limit.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod model;

use std::time::Duration;

use futures::future::join_all;
use oxbull::client::{Client, ClientConfig};
use oxbull::kv::RateLimit;
use oxbull::{Error, Timestamp};
use oxbull_testkit::{Proxy, RedisServer, Rule, TestResult};

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

/// Lua reads more as a number than Redis counts with: infinity would hold everybody off or limit
/// nobody, and what is not a number has no order.
#[tokio::test]
async fn values_that_only_lua_reads_as_numbers_are_errors_that_change_nothing() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client(&server).await?;
    let kv = client.kv();
    let window = format!("ratelimit:e:u:{}", START / 60_000);
    let (log, bucket, hold) = (
        "ratelimit:e:u:sliding",
        "ratelimit:e:u:bucket",
        "ratelimit:hold:r",
    );
    let fixed = kv.rate_limiter(RateLimit::fixed_window(5, MINUTE))?;
    let sliding = kv.rate_limiter(RateLimit::sliding_window(5, MINUTE))?;
    let tokens = kv.rate_limiter(RateLimit::token_bucket(5, 5, MINUTE))?;
    let later = Timestamp::from_millis(START + 1_000);
    for odd in ["inf", "-inf", "nan", "0x10", "1e3", " 5", "1.5", ""] {
        server.cli(&["SET", &window, odd]).await?;
        server.cli(&["SET", hold, odd]).await?;
        for error in [
            fixed.take("e", "u").await.err(),
            fixed.peek("e", "u").await.err(),
            kv.hold_off("r", later).await.err(),
        ] {
            assert!(
                matches!(error, Some(Error::Decode { .. })),
                "{odd:?}: {error:?}"
            );
        }
        assert_eq!(server.text(&["GET", &window]).await?.as_deref(), Some(odd));
        assert_eq!(server.text(&["GET", hold]).await?.as_deref(), Some(odd));
    }
    let beyond = "99999999999999999999";
    server.cli(&["SET", hold, beyond]).await?;
    server.cli(&["ZADD", log, "inf", "x"]).await?;
    for odd in [format!("{beyond} {START}"), format!("1 {beyond}")] {
        server.cli(&["SET", bucket, &odd]).await?;
        for error in [
            kv.hold_off("r", later).await.err(),
            sliding.take("e", "u").await.err(),
            sliding.peek("e", "u").await.err(),
            tokens.take("e", "u").await.err(),
            tokens.peek("e", "u").await.err(),
        ] {
            assert!(
                matches!(error, Some(Error::Decode { .. })),
                "{odd:?}: {error:?}"
            );
        }
        assert_eq!(server.text(&["GET", bucket]).await?, Some(odd));
    }
    assert_eq!(server.int(&["ZCARD", log]).await?, 1);
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
