//! Refreshes as jobs: in this process where a test looks closely, by the program where it kills.

use std::time::Duration;

use oxbull::{Backoff, JobState, Queue, RateLimitState, Worker};
use oxbull_instagram_simulator::{Fault, Moment, Operation, Simulator, SimulatorOptions};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use oxbull_workers::graph::Cooldowns;
use oxbull_workers::graph::{AccountId, LimitScope};
use oxbull_workers::jobs::analytics_refresh::{
    AccountNotice, AnalyticsRefresh, Budget, Overview, POSTPONE_MAX, QUEUE, ReadOptions, Reader,
    Refresher, handle, options, overview_key,
};

use crate::support::{LATER, RedisFixture, Subscriber, graph, reaches, refresher, tokens};

/// More than any test asks for.
const PLENTY: Budget = Budget::new(10_000, 60);

/// No second request for a test's whole life.
const ONCE: Budget = Budget::new(1, 3600);

fn account(id: &str) -> AnalyticsRefresh {
    AnalyticsRefresh::new(AccountId::new(id).unwrap())
}

async fn start(redis: &RedisFixture, simulator: &Simulator) -> TestResult<Worker> {
    start_with(redis, simulator, PLENTY, POSTPONE_MAX).await
}

async fn start_with(
    redis: &RedisFixture,
    simulator: &Simulator,
    own: Budget,
    postpone_max: Duration,
) -> TestResult<Worker> {
    let options = ReadOptions {
        account: own,
        ..ReadOptions::default()
    };
    let graph = graph(simulator.url());
    let refresher = Refresher {
        reader: Reader::new(&redis.client, graph, tokens(), options)?,
        postpone_max,
    };
    let worker = Worker::builder(&redis.client, QUEUE)
        .concurrency(2)
        .state(refresher);
    Ok(worker.start(handle).await?)
}

async fn cached(redis: &RedisFixture, account: &AnalyticsRefresh) -> TestResult<Option<Overview>> {
    let key = overview_key(&account.account_id);
    Ok(redis.client.cache().get(&key).await?)
}

/// One account's limit puts its job off without an attempt and lets the others go on; its numbers
/// reach the cache when the limit is over, and are what the job returns.
#[tokio::test]
async fn limited_account_is_refreshed_later_in_the_same_attempt() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new().older_posts(2)).await?;
    simulator.arm(Fault::rate_limit(LATER).account("limited").times(1));
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start(&redis, &simulator).await?;
    let limited = queue.add("refresh", &account("limited")).await?.id;
    let job = reaches(&queue, &limited, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 0);
    let other = queue.add("refresh", &account("other")).await?.id;
    reaches(&queue, &other, JobState::Completed).await?;

    // A second job does not ask before the limit is over, whichever worker has it.
    let again = queue.add("refresh", &account("limited")).await?.id;
    reaches(&queue, &again, JobState::Delayed).await?;
    assert_eq!(simulator.counters().accounts["limited"], 1);

    let cooldowns = Cooldowns::new(redis.client.clone());
    let id = AccountId::new("limited")?;
    assert!(cooldowns.end(LimitScope::Account, &id).await?);
    queue.promote(&limited).await?;
    let job = reaches(&queue, &limited, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 1);
    let kept = cached(&redis, &account("limited")).await?;
    assert_eq!(kept, job.return_value()?);
    assert_eq!(kept.map(|overview| overview.media.len()), Some(2));
    redis.end(worker).await;
    Ok(())
}

/// A limit of the application is everybody's: the queue waits, and no attempt is used.
#[tokio::test]
async fn limited_application_holds_every_account() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    simulator.arm(Fault::error(403, 4).account("first"));
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start(&redis, &simulator).await?;
    let first = queue.add("refresh", &account("first")).await?.id;
    let held = async || match queue.rate_limit_state().await {
        Ok(RateLimitState::Limited { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually(DEADLINE, held).await?;
    let other = queue.add("refresh", &account("other")).await?.id;
    for id in [&first, &other] {
        let job = reaches(&queue, id, JobState::Waiting).await?;
        assert_eq!(job.attempts_made, 0);
    }
    assert_eq!(simulator.counters().accounts.get("other"), None);

    simulator.disarm();
    let cooldowns = Cooldowns::new(redis.client.clone());
    let id = AccountId::new("other")?;
    assert!(cooldowns.end(LimitScope::Application, &id).await?);
    queue.lift_rate_limit().await?;
    for id in [&first, &other] {
        let job = reaches(&queue, id, JobState::Completed).await?;
        assert_eq!(job.attempts_made, 1);
    }
    redis.end(worker).await;
    Ok(())
}

/// Answers that say how much is used slow everybody down before the API refuses anything.
#[tokio::test]
async fn usage_of_an_answer_holds_the_account() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    simulator.arm(Fault::usage(96, 5).account("busy"));
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start(&redis, &simulator).await?;
    let id = queue.add("refresh", &account("busy")).await?.id;
    reaches(&queue, &id, JobState::Completed).await?;
    let cooldowns = Cooldowns::new(redis.client.clone());
    let held = cooldowns.for_reading(&AccountId::new("busy")?).await?;
    assert_eq!(held.map(|(scope, _)| scope), Some(LimitScope::Account));
    assert_eq!(cooldowns.for_reading(&AccountId::new("free")?).await?, None);
    redis.end(worker).await;
    Ok(())
}

/// An account that has used up its own budget waits; the others do not.
#[tokio::test]
async fn budget_of_an_account_is_its_own() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start_with(&redis, &simulator, ONCE, POSTPONE_MAX).await?;
    let first = queue.add("refresh", &account("busy")).await?.id;
    reaches(&queue, &first, JobState::Completed).await?;
    let second = queue.add("refresh", &account("busy")).await?.id;
    let other = queue.add("refresh", &account("other")).await?.id;
    reaches(&queue, &other, JobState::Completed).await?;
    let job = reaches(&queue, &second, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 0);
    assert_eq!(simulator.counters().accounts["busy"], 1);
    redis.end(worker).await;
    Ok(())
}

/// A refresh that limits have postponed until the next one is near gives up and says why.
#[tokio::test]
async fn refresh_is_not_postponed_forever() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let cooldowns = Cooldowns::new(redis.client.clone());
    let limited = account("limited");
    let (scope, id) = (LimitScope::Account, &limited.account_id);
    cooldowns.begin(scope, id, LATER).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start_with(&redis, &simulator, PLENTY, Duration::ZERO).await?;
    let id = queue.add_with("refresh", &limited, options()).await?.id;
    let job = reaches(&queue, &id, JobState::Failed).await?;
    assert!(job.failed_reason.unwrap().contains("left no room"));
    assert_eq!(simulator.counters().accounts.get("limited"), None);
    redis.end(worker).await;
    Ok(())
}

/// An expired token cannot heal by itself: one request, no retry, its owner told once, and the
/// numbers of before stay until their time is over.
#[tokio::test]
async fn expired_token_fails_at_once_and_is_told_once() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let subscriber = Subscriber::open(&redis.server).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start(&redis, &simulator).await?;
    let data = account("expired").user("ada");
    let id = queue.add_with("refresh", &data, options()).await?.id;
    reaches(&queue, &id, JobState::Completed).await?;
    let before = cached(&redis, &data).await?;

    simulator.arm(Fault::error(400, 190).subcode(463));
    for _ in 0..2 {
        let id = queue.add_with("refresh", &data, options()).await?.id;
        let job = reaches(&queue, &id, JobState::Failed).await?;
        assert_eq!(job.attempts_made, 1);
        let reason = job.failed_reason.unwrap();
        assert!(reason.contains("190") && reason.ends_with("reconnect the account"));
    }
    assert_eq!(simulator.counters().accounts["expired"], 3);
    let told = subscriber.wait_for("ada", 1).await?;
    assert_eq!(told.len(), 1);
    let AccountNotice::Reconnect { account_id, .. } = serde_json::from_value(told[0].clone())?;
    assert_eq!(account_id, "expired");
    assert!(before.is_some());
    assert_eq!(cached(&redis, &data).await?, before);

    // Connected again, and expired again: that is news.
    let expired = Fault::error(400, 190).subcode(463);
    for (faults, end) in [
        (vec![], JobState::Completed),
        (vec![expired], JobState::Failed),
    ] {
        simulator.disarm();
        for fault in faults {
            simulator.arm(fault);
        }
        let id = queue.add_with("refresh", &data, options()).await?.id;
        reaches(&queue, &id, end).await?;
    }
    assert_eq!(subscriber.wait_for("ada", 2).await?.len(), 2);
    redis.end(worker).await;
    Ok(())
}

/// A revoked permission is told like an expired token: once, whichever code says it.
#[tokio::test]
async fn analytics_without_permission_tells_its_owner_once() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let subscriber = Subscriber::open(&redis.server).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start(&redis, &simulator).await?;
    let data = account("revoked").user("ada");
    for code in [10, 200] {
        simulator.disarm();
        simulator.arm(Fault::error(403, code));
        let id = queue.add_with("refresh", &data, options()).await?.id;
        let job = reaches(&queue, &id, JobState::Failed).await?;
        assert_eq!(job.attempts_made, 1);
        let reason = job.failed_reason.unwrap();
        let remedy = "reconnect the account and grant all permissions";
        assert!(reason.ends_with(remedy), "{reason}");
    }
    let told = subscriber.wait_for("ada", 1).await?;
    let AccountNotice::Reconnect { account_id, .. } = serde_json::from_value(told[0].clone())?;
    assert_eq!(account_id, "revoked");

    // Granted again, and revoked again: that is news.
    simulator.disarm();
    let id = queue.add_with("refresh", &data, options()).await?.id;
    reaches(&queue, &id, JobState::Completed).await?;
    assert_eq!(subscriber.notices("ada").len(), 1);
    simulator.arm(Fault::error(403, 10));
    let id = queue.add_with("refresh", &data, options()).await?.id;
    reaches(&queue, &id, JobState::Failed).await?;
    assert_eq!(subscriber.wait_for("ada", 2).await?.len(), 2);
    redis.end(worker).await;
    Ok(())
}

/// An account may be read and its insights not: what there is is kept, and the owner is told once instead of
/// finding nothing but nulls each night.
#[tokio::test]
async fn insights_without_permission_are_told_once_beside_the_rest() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new().older_posts(2)).await?;
    let subscriber = Subscriber::open(&redis.server).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start(&redis, &simulator).await?;
    let data = account("basic").user("ada");
    for operation in [Operation::Overview, Operation::Insights] {
        simulator.arm(Fault::error(403, 10).on(operation));
    }
    for _ in 0..2 {
        let id = queue.add_with("refresh", &data, options()).await?.id;
        let job = reaches(&queue, &id, JobState::Completed).await?;
        let overview: Overview = job.return_value()?.unwrap();
        assert!(overview.followers.is_some() && overview.reach.is_none());
        assert!(overview.permission_missing);
        assert_eq!(cached(&redis, &data).await?, Some(overview));
    }
    let told = subscriber.wait_for("ada", 1).await?;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["type"], "account.reconnect");

    // Few viewers are no reason to connect again.
    simulator.disarm();
    let few = "(#10) Not enough viewers for the media to show insights";
    for operation in [Operation::Overview, Operation::Insights] {
        simulator.arm(Fault::error(400, 10).text(few).on(operation));
    }
    let data = account("young").user("bob");
    let id = queue.add_with("refresh", &data, options()).await?.id;
    let job = reaches(&queue, &id, JobState::Completed).await?;
    let overview: Overview = job.return_value()?.unwrap();
    assert!(overview.reach.is_none() && !overview.permission_missing);
    assert!(subscriber.notices("bob").is_empty());
    redis.end(worker).await;
    Ok(())
}

/// An error that nothing documents is retried as a passing one; in the last attempt what can be read without
/// the refused part is kept.
#[tokio::test]
async fn undocumented_error_costs_its_part_of_the_last_attempt() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new().older_posts(2)).await?;
    let unknown = Fault::error(400, 12_345);
    for operation in [Operation::Overview, Operation::Insights] {
        simulator.arm(unknown.clone().account("odd").on(operation));
    }
    simulator.arm(unknown.account("refused"));
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start(&redis, &simulator).await?;
    let twice = || {
        let soon = Backoff::fixed(Duration::from_millis(1));
        options().attempts(2).backoff(soon)
    };
    let id = queue
        .add_with("refresh", &account("odd"), twice())
        .await?
        .id;
    let job = reaches(&queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 2);
    let overview: Overview = job.return_value()?.unwrap();
    assert!(overview.followers.is_some() && overview.reach.is_none());
    assert!(!overview.permission_missing);

    let refused = account("refused");
    let id = queue.add_with("refresh", &refused, twice()).await?.id;
    let job = reaches(&queue, &id, JobState::Failed).await?;
    assert_eq!(job.attempts_made, 2);
    assert!(job.failed_reason.unwrap().contains("12345"));
    redis.end(worker).await;
    Ok(())
}

/// A block by a policy puts refreshes off as it does posts: the worker asks once, then leaves the account alone.
#[tokio::test]
async fn blocked_account_is_left_alone() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    simulator.arm(Fault::error(400, 368).account("blocked"));
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start(&redis, &simulator).await?;
    let cooldowns = Cooldowns::new(redis.client.clone());
    let id = queue.add("refresh", &account("blocked")).await?.id;
    for minutes in [15, 30] {
        let job = reaches(&queue, &id, JobState::Delayed).await?;
        assert_eq!(job.attempts_made, 0);
        assert_eq!(job.delay, Duration::from_secs(minutes * 60));
        let account = AccountId::new("blocked")?;
        assert!(cooldowns.end(LimitScope::Account, &account).await?);
        queue.promote(&id).await?;
    }
    redis.end(worker).await;
    Ok(())
}

/// Numbers that were read must not be lost because the cache is away: a later attempt caches them,
/// and the last returns them.
#[tokio::test]
async fn result_survives_a_cache_that_is_away() -> TestResult {
    let mut redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let cache = oxbull_testkit::RedisServer::start().await?;
    let config = oxbull::ClientConfig::from_url(&redis.server.url())?;
    redis.client.close().await;
    let cache_config = oxbull::ClientConfig::from_url(&cache.url())?;
    redis.client = oxbull::Client::connect(config.cache(cache_config)).await?;
    drop(cache);
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let worker = start(&redis, &simulator).await?;
    let data = account("178");
    let once = options().attempts(1);
    let id = queue.add_with("refresh", &data, once).await?.id;
    let job = reaches(&queue, &id, JobState::Completed).await?;
    let overview: Overview = job.return_value()?.unwrap();
    assert!(overview.followers.is_some());
    redis.end(worker).await;
    Ok(())
}

/// Two programs share what the application may ask: together they ask exactly that often, the API
/// refuses nothing, and the rest of the accounts wait without using an attempt.
#[tokio::test]
async fn two_workers_never_pass_the_shared_budget() -> TestResult {
    const BUDGET: u64 = 30;
    let redis = RedisFixture::start().await?;
    let options = SimulatorOptions::new().application_rate(100, LATER);
    let simulator = Simulator::start(options).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let mut jobs = Vec::new();
    for number in 0..45 {
        let data = account(&format!("{number}"));
        jobs.push(queue.add("refresh", &data).await?.id);
    }
    let mut programs = Vec::new();
    for _ in 0..2 {
        let mut program = refresher(&redis.server.url(), simulator.url());
        program.env("GRAPH_APPLICATION_BUDGET", format!("{BUDGET}/86400"));
        programs.push(program.spawn()?);
    }
    let used_up = async || {
        let counts = queue.counts().await.map_err(|error| error.to_string())?;
        let limit = queue.rate_limit_state().await;
        let limited = matches!(limit, Ok(RateLimitState::Limited { .. }));
        match (counts.completed, counts.active, limited) {
            (BUDGET, 0, true) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    };
    eventually(DEADLINE, used_up).await?;
    let counters = simulator.counters();
    let asked: u64 = counters.requests.values().sum();
    assert_eq!((asked, counters.refused), (BUDGET, 0));
    let mut waiting = 0;
    for id in &jobs {
        if queue.state(id).await? == Some(JobState::Waiting) {
            assert_eq!(queue.job(id).await?.unwrap().attempts_made, 0);
            waiting += 1;
        }
    }
    assert_eq!(waiting, 15);
    for program in &mut programs {
        program.kill().await?;
    }
    redis.client.close().await;
    Ok(())
}

/// A worker that is killed in the middle of a refresh, before or after the API has answered, takes
/// nothing along: another one reads the account again.
#[tokio::test]
async fn killed_worker_loses_no_refresh() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let mut first = refresher(&redis.server.url(), simulator.url()).spawn()?;
    let mut doomed = Vec::new();
    let mut holds = Vec::new();
    for (id, moment) in [("early", Moment::Before), ("late", Moment::After)] {
        holds.push(simulator.pause_request(id, 1, moment));
        doomed.push(queue.add("refresh", &account(id)).await?.id);
    }
    for hold in &mut holds {
        hold.reached().await;
    }
    first.kill().await?;
    let mut second = refresher(&redis.server.url(), simulator.url()).spawn()?;
    for (id, job) in ["early", "late"].into_iter().zip(&doomed) {
        let job = reaches(&queue, job, JobState::Completed).await?;
        assert_eq!((job.attempts_made, job.stalled), (1, 1));
        let overview: Overview = job.return_value()?.unwrap();
        assert_eq!(cached(&redis, &account(id)).await?, Some(overview));
    }
    second.kill().await?;
    redis.client.close().await;
    Ok(())
}
