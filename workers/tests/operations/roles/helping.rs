//! The work beside the queues: sessions, OAuth states, rate limits, cached values.

use std::num::NonZeroU32;
use std::time::Duration;

use oxbull::Client;
use oxbull::kv::RateLimit;
use oxbull::kv::oauth::OAuthStates;
use oxbull::kv::session::{Sessions, UserId};
use oxbull::vault::Keyring;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::LATER;
use crate::fixture::KEYS;

pub(super) async fn helps(client: &Client) -> TestResult<String> {
    let sessions = Sessions::builder(client).sealed_with(Keyring::parse(KEYS)?);
    let sessions = sessions.touch_every(Duration::ZERO).build()?;
    let user = UserId::new("u1")?;
    let (token, _) = sessions.create(&user, json!(1)).await?;
    let mut session = sessions.load::<Value>(&token).await?.ok_or("no session")?;
    sessions.touch(&mut session).await?;
    sessions.save(&mut session).await?;
    sessions.rotate(&mut session).await?;
    sessions.list(&user).await?;
    sessions.destroy_others(&session).await?;
    sessions.destroy(&user, session.id()).await?;
    sessions.destroy_all(&user).await?;
    let few = Sessions::builder(client).sealed_with(Keyring::parse(KEYS)?);
    let few = few.max_per_user(NonZeroU32::MIN).build()?;
    few.create(&user, json!(1)).await?;
    let (token, _) = few.create(&user, json!(1)).await?;

    let states = OAuthStates::new(client, Keyring::parse(KEYS)?, "instagram")?;
    let issued = states.issue("nonce", None).await?;
    states.take(issued.state(), "nonce").await?;

    let kv = client.kv();
    for limit in [
        RateLimit::fixed_window(5, LATER),
        RateLimit::sliding_window(5, LATER),
        RateLimit::token_bucket(5, 5, LATER),
    ] {
        let limiter = kv.rate_limiter(limit)?;
        limiter.take("login", "u1").await?;
        limiter.peek("login", "u1").await?;
    }
    // As the customer's RedisService: profiles, media and overviews in the API cache.
    let key = "api:instagram:profile:1";
    kv.set(key, &json!(1)).await?;
    kv.get::<Value>(key).await?;
    kv.exists(key).await?;
    kv.ttl(key).await?;
    kv.expire(key, LATER).await?;
    kv.del(key).await?;
    kv.incr("api:count").await?;
    kv.decr("api:count").await?;
    kv.hset("api:hash", "f", &json!(1)).await?;
    kv.hget::<Value>("api:hash", "f").await?;
    kv.hgetall::<Value>("api:hash").await?;
    Ok(token.as_str().to_owned())
}
