//! Tokens that are refreshed before they end, and files that are read again.

use std::path::Path;

use oxbull_instagram_simulator::{Fault, Moment, Operation};
use oxbull_testkit::free_port;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;

use super::*;
use crate::health::answers;

const DAYS: i64 = 24 * 3_600_000;

impl Fixture {
    /// Stores a token of this age that ends after so many days; the API knows it.
    async fn aged(&self, token: &str, age: i64, left: i64) -> TestResult {
        self.simulator.add_token(ACCOUNT, token);
        let now = self.redis.client.clock().now().as_millis();
        let mut stored = StoredToken::new(AccessToken::new(token));
        stored.user_id = Some(USER.to_owned());
        stored.obtained_at = Some(now - age * DAYS);
        stored.expires_at = Some(now + left * DAYS);
        self.store()?
            .put(&AccountId::new(ACCOUNT)?, &stored)
            .await?;
        Ok(())
    }

    async fn stored(&self) -> TestResult<StoredToken> {
        let stored = self.store()?.get(&AccountId::new(ACCOUNT)?).await?;
        Ok(stored.ok_or("no token")?)
    }

    /// A publisher that looks at the store every second, and whose claims last for three.
    fn upkeeper(&self) -> Command {
        let mut command = self.publisher();
        command
            .env("TOKEN_REFRESH_INTERVAL", "1")
            .env("GRAPH_DEADLINE", "1");
        command
    }

    fn refreshes(&self) -> u64 {
        let requests = self.simulator.counters().requests;
        requests.get(&Operation::RefreshToken).copied().unwrap_or(0)
    }

    /// Waits until the stored token has been refreshed.
    async fn refreshed(&self) -> TestResult<StoredToken> {
        eventually(DEADLINE, async || {
            let stored = self.stored().await.map_err(|error| error.to_string())?;
            if stored.refreshed_at.is_some() {
                Ok(())
            } else {
                Err(format!("{stored:?}"))
            }
        })
        .await?;
        self.stored().await
    }
}

/// Waits until a program's metrics have a line.
async fn has_metric(port: u16, line: &str) -> TestResult {
    eventually(DEADLINE, async || {
        let metrics = answers(port, "/metrics", 200).await;
        let metrics = metrics.map_err(|error| error.to_string())?;
        let has = metrics.contains(line);
        has.then_some(()).ok_or_else(|| format!("no {line}"))
    })
    .await?;
    Ok(())
}

fn signal(child: &Child, signal: Signal) -> TestResult {
    let id = i32::try_from(child.id().ok_or("it has ended")?)?;
    Ok(kill_process(Pid::from_raw(id).ok_or("no id")?, signal)?)
}

/// Two workers refresh a token that ends soon once, seal it again with all that is known of it, and use it; one
/// that is young or far from its end is left alone.
#[tokio::test]
async fn two_workers_refresh_a_token_once() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.aged("IGold", 40, 20).await?;
    let now = fixture.redis.client.clock().now().as_millis();
    let mut young = StoredToken::new(AccessToken::new("IGyoung"));
    young.obtained_at = Some(now);
    young.expires_at = Some(now + DAYS);
    let other = AccountId::new(OTHER)?;
    fixture.store()?.put(&other, &young).await?;
    let mut paused = fixture.simulator.pause_request(ACCOUNT, 1, Moment::Before);
    let port = free_port()?;
    let worker = || {
        let mut command = fixture.upkeeper();
        command.env("GRAPH_DEADLINE", "30");
        command
    };
    let first = worker().spawn()?;
    paused.reached().await;
    let second = worker().env("HEALTH_PORT", port.to_string()).spawn()?;
    // It has looked, and left the token to the first.
    has_metric(port, "graph_tokens{state=\"due\"} 1").await?;
    drop(paused);
    let mut workers = [first, second];
    let stored = fixture.refreshed().await?;
    assert_ne!(stored.token, AccessToken::new("IGold"));
    assert_eq!(stored.user_id.as_deref(), Some(USER));
    assert!(stored.expires_at.unwrap() > now + 59 * DAYS);
    let id = fixture.add(ACCOUNT).await?;
    reaches(&fixture.queue, &id, JobState::Completed).await?;
    assert_eq!(fixture.refreshes(), 1);
    assert_eq!(fixture.store()?.get(&other).await?, Some(young));
    for worker in &mut workers {
        worker.kill().await?;
    }
    Ok(())
}

/// Whoever refreshes dies before and after the API has made the new token: another worker refreshes it again once
/// the claim is over, and the account works all the while.
#[tokio::test]
async fn refresh_survives_a_kill() -> TestResult {
    for moment in [Moment::Before, Moment::After] {
        let fixture = Fixture::start().await?;
        fixture.aged("IGold", 40, 20).await?;
        let mut paused = fixture.simulator.pause_request(ACCOUNT, 1, moment);
        let mut doomed = fixture.upkeeper().spawn()?;
        paused.reached().await;
        doomed.kill().await?;
        drop(paused);
        assert_eq!(fixture.stored().await?.token, AccessToken::new("IGold"));
        let mut healthy = fixture.upkeeper().spawn()?;
        let id = fixture.add(ACCOUNT).await?;
        reaches(&fixture.queue, &id, JobState::Completed).await?;
        fixture.refreshed().await?;
        assert!(
            fixture
                .subscriber
                .notices(USER)
                .iter()
                .all(|n| n["type"] == "post.published")
        );
        healthy.kill().await?;
    }
    Ok(())
}

/// A seller who connects while the former token is being refreshed has the last word.
#[tokio::test]
async fn refresh_does_not_overwrite_a_new_token() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.aged("IGold", 40, 20).await?;
    let mut paused = fixture.simulator.pause_request(ACCOUNT, 1, Moment::After);
    let port = free_port()?;
    let mut worker = fixture
        .upkeeper()
        .env("GRAPH_DEADLINE", "30")
        .env("HEALTH_PORT", port.to_string())
        .spawn()?;
    paused.reached().await;
    fixture.aged("IGconnected", 0, 60).await?;
    drop(paused);
    let answered = "graph_token_refreshes_total{result=\"refreshed\"} 1";
    has_metric(port, answered).await?;
    assert_eq!(
        fixture.stored().await?.token,
        AccessToken::new("IGconnected")
    );
    worker.kill().await?;
    Ok(())
}

/// A refused refresh is told to the seller once, to operators by log and metric; a passing failure to operators.
#[tokio::test]
async fn failed_refresh_is_told() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.aged("IGold", 40, 20).await?;
    fixture
        .simulator
        .arm(Fault::error(500, 2).on(Operation::RefreshToken).times(1));
    let port = free_port()?;
    let mut worker = fixture
        .upkeeper()
        .env("HEALTH_PORT", port.to_string())
        .env("RUST_LOG", "warn")
        .stderr(Stdio::piped())
        .spawn()?;
    has_metric(port, "graph_token_refreshes_total{result=\"failed\"} 1").await?;
    assert!(fixture.subscriber.notices(USER).is_empty());
    fixture.simulator.revoke_tokens(ACCOUNT);
    let notices = fixture.subscriber.wait_for(USER, 1).await?;
    assert_eq!(notices[0]["type"], "account.reconnect");
    has_metric(port, "graph_token_refreshes_total{result=\"refused\"} 2").await?;
    has_metric(port, "graph_tokens{state=\"due\"} 1").await?;
    assert_eq!(fixture.subscriber.notices(USER).len(), 1);
    let mut log = String::new();
    let mut errors = worker.stderr.take().unwrap();
    worker.kill().await?;
    errors.read_to_string(&mut log).await?;
    assert!(
        log.contains("the account's token was not refreshed"),
        "{log}"
    );
    assert!(!log.contains("IGold"), "{log}");
    Ok(())
}

/// An account whose token can be used and not prolonged is told once, however often it is read meanwhile; a new token
/// that cannot be prolonged either is news.
#[tokio::test]
async fn token_that_cannot_be_prolonged_is_told_once_though_the_account_works() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.aged("IGold", 40, 20).await?;
    fixture
        .simulator
        .arm(Fault::error(400, 190).on(Operation::RefreshToken));
    let name = oxbull_workers::jobs::analytics_refresh::QUEUE;
    let queue: Queue<Value> = Queue::open(&fixture.redis.client, name).await?;
    let port = free_port()?;
    let mut worker = refresher(&fixture.redis.server.url(), fixture.simulator.url())
        .env_remove("GRAPH_ACCESS_TOKEN")
        .env("ENCRYPTION_KEYS", K1)
        .env("TOKEN_REFRESH_INTERVAL", "1")
        .env("GRAPH_DEADLINE", "1")
        .env("HEALTH_PORT", port.to_string())
        .spawn()?;
    fixture.subscriber.wait_for(USER, 1).await?;
    let data = json!({ "accountId": ACCOUNT, "userId": USER });
    let id = queue.add("refresh", &data).await?.id;
    reaches(&queue, &id, JobState::Completed).await?;
    // Each later try is over once the next begins.
    let seen = fixture.refreshes();
    let tried = async |more: u64| {
        eventually(DEADLINE, async || {
            let now = fixture.refreshes();
            (now >= seen + more)
                .then_some(())
                .ok_or_else(|| now.to_string())
        })
        .await
    };
    tried(2).await?;
    let notices = fixture.subscriber.notices(USER);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0]["type"], "account.reconnect");

    fixture.aged("IGnew", 40, 19).await?;
    fixture.subscriber.wait_for(USER, 2).await?;
    worker.kill().await?;
    Ok(())
}

/// An API that takes the token from the query only, as it documents, gets it there; no log shows it.
#[tokio::test]
async fn token_in_the_query_shows_in_no_log() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.aged("IGold-s3cret", 40, 20).await?;
    fixture.simulator.refresh_tokens_by_query();
    let mut worker = fixture
        .upkeeper()
        .env("RUST_LOG", "trace")
        .stderr(Stdio::piped())
        .spawn()?;
    let mut errors = worker.stderr.take().unwrap();
    let log = tokio::spawn(async move {
        let mut log = Vec::new();
        errors.read_to_end(&mut log).await.map(|_| log)
    });
    fixture.refreshed().await?;
    worker.kill().await?;
    let log = String::from_utf8_lossy(&log.await??).into_owned();
    assert!(log.contains("refresh token"), "the log is not verbose");
    let found = log
        .lines()
        .find(|line| line.contains("s3cret") || line.contains("IGrefreshed"));
    assert_eq!(found, None);
    Ok(())
}

fn write_tokens(path: &Path, text: &str) -> TestResult {
    // As by an editor or Kubernetes: the new file takes the place of the old one.
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, path)?)
}

/// A token file is read again on SIGHUP, which ends no program, and by itself when it changes; one that cannot be
/// used keeps the former tokens and shows in the program's health.
#[tokio::test]
async fn token_file_is_read_again() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.simulator.add_token(ACCOUNT, "IGone");
    fixture.simulator.add_token(OTHER, "IGother");
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("tokens.json");
    write_tokens(&path, &format!(r#"{{"{ACCOUNT}":"IGone"}}"#))?;
    let port = free_port()?;
    let mut worker = fixture
        .publisher()
        .env_remove("ENCRYPTION_KEYS")
        .env("GRAPH_TOKENS_FILE", &path)
        .env("HEALTH_PORT", port.to_string())
        .spawn()?;
    answers(port, "/health", 200).await?;
    let late = fixture.add(OTHER).await?;
    fixture.waits_for_token(&late).await?;

    write_tokens(&path, "{")?;
    signal(&worker, Signal::HUP)?;
    let problem = answers(port, "/health", 503).await?;
    assert!(problem.contains("tokens.json"), "{problem}");
    let early = fixture.add(ACCOUNT).await?;
    reaches(&fixture.queue, &early, JobState::Completed).await?;

    write_tokens(&path, &format!(r#"{{"{OTHER}":{{"token":"IGother"}}}}"#))?;
    signal(&worker, Signal::HUP)?;
    reaches(&fixture.queue, &late, JobState::Completed).await?;
    answers(port, "/health", 200).await?;
    // Without a signal.
    let again = fixture.add(ACCOUNT).await?;
    fixture.waits_for_token(&again).await?;
    write_tokens(&path, &format!(r#"{{"{ACCOUNT}":"IGone"}}"#))?;
    reaches(&fixture.queue, &again, JobState::Completed).await?;
    worker.kill().await?;
    Ok(())
}

/// SIGHUP ends no program, though some have no file to read again.
#[tokio::test]
async fn hangup_ends_nothing() -> TestResult {
    let redis = RedisFixture::start().await?;
    for (path, variable) in [
        (env!("CARGO_BIN_EXE_post-publishing"), "HEALTH_PORT"),
        (env!("CARGO_BIN_EXE_webhook-processing"), "HEALTH_PORT"),
        (env!("CARGO_BIN_EXE_analytics-refresh"), "HEALTH_PORT"),
        (env!("CARGO_BIN_EXE_gateway"), "PORT"),
    ] {
        let port = free_port()?;
        let mut program = crate::health::program(path, &redis.server.url())
            .env("RUST_LOG", "error")
            .env(variable, port.to_string())
            .spawn()?;
        answers(port, "/ready", 200).await?;
        signal(&program, Signal::HUP)?;
        // Whatever signal comes first is handled first.
        signal(&program, Signal::TERM)?;
        let status = tokio::time::timeout(DEADLINE, program.wait()).await??;
        assert!(status.success(), "{path}: {status}");
    }
    Ok(())
}
