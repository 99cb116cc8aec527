//! `kill -9` of workers that wait for a token or refresh one, before and after each of their writes to Redis.

use oxbull_instagram_simulator::Moment;
use oxbull_testkit::{Command as RedisCommand, Proxy, Rule};

use super::*;
use crate::support::LATER;

/// More writes than any of these paths has.
const MOST: u64 = 20;

/// Kills a worker behind the proxy at its nth request that mentions `text`; says whether it came so far before
/// `done`.
async fn killed(
    worker: &mut Command,
    proxy: &Proxy,
    text: &str,
    (moment, nth): (Moment, u64),
    done: impl AsyncFnOnce() -> TestResult,
) -> TestResult<bool> {
    let text = text.to_owned();
    let concerns = move |command: &RedisCommand| command.mentions(&text);
    let rule = match moment {
        Moment::Before => Rule::delay(LATER, concerns),
        Moment::After => Rule::swallow_reply(concerns),
    };
    let rule = proxy.add(rule.nth(nth));
    let mut worker = worker.env("REDIS_URL", proxy.url()).spawn()?;
    let struck = tokio::select! {
        fired = rule.wait_fired(1, DEADLINE * 2) => { fired?; true }
        done = done() => { done?; false }
    };
    worker.kill().await?;
    Ok(struck)
}

/// A post that waits for its token is published once and uses one attempt, wherever the worker that postponed it
/// died.
#[tokio::test]
async fn wait_for_a_token_survives_a_kill_at_every_write() -> TestResult {
    let fixture = Fixture::start().await?;
    for moment in [Moment::Before, Moment::After] {
        for nth in 1..=MOST {
            let account = format!("{moment:?}-{nth}");
            let proxy = Proxy::start(fixture.redis.server.port()).await?;
            let id = fixture.add(&account).await?;
            // Two waits are enough to pass every write of this path.
            let waits = async || {
                eventually(DEADLINE, async || {
                    let job = fixture.queue.job(&id).await.map_err(|e| e.to_string())?;
                    let started = job.map_or(0, |job| job.attempts_started);
                    if started > 1 {
                        Ok(())
                    } else {
                        Err(started.to_string())
                    }
                })
                .await?;
                reaches(&fixture.queue, &id, JobState::Delayed).await?;
                Ok(())
            };
            let mut doomed = fixture.publisher();
            // The account is in every write that concerns the job: its key, or its data.
            let text = format!("post-{account}");
            let struck = killed(&mut doomed, &proxy, &text, (moment, nth), waits).await?;
            // What a lock does by itself after 30 s.
            let lock = format!("bull:{QUEUE}:{id}:lock");
            fixture.redis.server.int(&["DEL", &lock]).await?;
            let mut healthy = fixture.publisher().spawn()?;
            fixture.put(&account, "IGone").await?;
            let job = reaches(&fixture.queue, &id, JobState::Completed).await?;
            assert_eq!(job.attempts_made, 1, "{moment:?} {nth}");
            healthy.kill().await?;
            let published = fixture.simulator.published();
            let of_account = published.iter().filter(|post| post.account == account);
            assert_eq!(of_account.count(), 1, "{moment:?} {nth}");
            if !struck {
                assert!(nth > 1, "no write was found");
                break;
            }
            assert!(nth < MOST, "more than {MOST} writes");
        }
    }
    Ok(())
}

/// A token is refreshed in the end, and the account has a token that works at any time, wherever the worker that
/// refreshes it dies.
#[tokio::test]
async fn refresh_survives_a_kill_at_every_write() -> TestResult {
    let fixture = Fixture::start().await?;
    for moment in [Moment::Before, Moment::After] {
        for nth in 1..=MOST {
            let account = AccountId::new(format!("{moment:?}-{nth}"))?;
            let token = format!("IGold-{account}");
            fixture.simulator.add_token(account.as_str(), &token);
            let now = fixture.redis.client.clock().now().as_millis();
            let mut stored = StoredToken::new(AccessToken::new(token));
            stored.expires_at = Some(now + 24 * 3_600_000);
            fixture.store()?.put(&account, &stored).await?;
            let refreshed = async || {
                eventually(DEADLINE, async || {
                    let store = fixture.store().map_err(|error| error.to_string())?;
                    let stored = store
                        .get(&account)
                        .await
                        .map_err(|error| error.to_string())?;
                    match stored {
                        Some(stored) if stored.refreshed_at.is_some() => Ok(()),
                        other => Err(format!("{other:?}")),
                    }
                })
                .await?;
                Ok(())
            };
            let proxy = Proxy::start(fixture.redis.server.port()).await?;
            let fast = |command: &mut Command| {
                command
                    .env("TOKEN_REFRESH_INTERVAL", "1")
                    .env("GRAPH_DEADLINE", "1");
            };
            let mut doomed = fixture.publisher();
            fast(&mut doomed);
            let at = (moment, nth);
            let struck = killed(&mut doomed, &proxy, account.as_str(), at, refreshed).await?;
            let mut command = fixture.publisher();
            fast(&mut command);
            let mut healthy = command.spawn()?;
            refreshed().await?;
            let id = fixture.add(account.as_str()).await?;
            reaches(&fixture.queue, &id, JobState::Completed).await?;
            healthy.kill().await?;
            if !struck {
                assert!(nth > 2, "only {nth} writes were found");
                break;
            }
        }
    }
    Ok(())
}
