//! Posts of accounts at the limits of the API.

use std::time::Duration;

use oxbull::{JobState, RetryOptions};
use oxbull_instagram_simulator::{Fault, Operation, SimulatorOptions};
use oxbull_testkit::TestResult;
use oxbull_workers::graph::LimitScope;
use oxbull_workers::jobs::post_publishing::PublishLimits;
use serde_json::{Value, json};

use super::{PostFixture, USER, shoes, short};
use crate::support::{ACCOUNT, LATER, reaches};

/// Usage that nears its end is respected before the API refuses: the run stops where it is, and the
/// account's other posts wait without a request.
#[tokio::test]
async fn nearly_used_up_rate_holds_the_account() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let usage = Fault::usage(96, 60).on(Operation::CreateContainer);
    fixture.simulator.arm(usage.account(ACCOUNT).times(1));
    let worker = fixture.work(short()).await?;
    let held = [fixture.add(&shoes()).await?, fixture.add(&shoes()).await?];
    let mut other = shoes();
    other["accountId"] = "78".into();
    let free = fixture.add(&other).await?;
    reaches(&fixture.queue, &free, JobState::Completed).await?;
    for id in &held {
        let job = reaches(&fixture.queue, id, JobState::Delayed).await?;
        assert_eq!(job.attempts_made, 0);
    }
    // The first has asked for its quota and its container, the second for nothing.
    assert_eq!(fixture.simulator.counters().accounts[ACCOUNT], 2);
    assert!(fixture.end_hold(LimitScope::Account).await?);
    for id in &held {
        fixture.queue.promote(id).await?;
    }
    for id in &held {
        reaches(&fixture.queue, id, JobState::Completed).await?;
    }
    assert_eq!(fixture.simulator.counters().containers, 3);
    fixture.end(worker).await;
    Ok(())
}

/// A wait for a token ends when there is one, also while a limit holds the account: a token that is missing
/// later is waited for from then on.
#[tokio::test]
async fn wait_for_a_token_ends_with_its_arrival() -> TestResult {
    for operation in [Operation::PublishingQuota, Operation::CreateContainer] {
        let fixture = PostFixture::start(SimulatorOptions::new()).await?;
        let limit = Fault::rate_limit(LATER).on(operation);
        fixture.simulator.arm(limit.account(ACCOUNT).times(1));
        let worker = fixture.work(short()).await?;
        let mut waiting = shoes();
        waiting["publication"] = json!({ "tokenWait": { "since": 1, "reason": "none" } });
        for _ in 0..2 {
            // The first meets the limit, the second is held by it.
            let id = fixture.add(&waiting).await?;
            let job = reaches(&fixture.queue, &id, JobState::Delayed).await?;
            let data: Value = job.data()?;
            let publication = &data["publication"];
            assert!(publication["putOffSince"].is_i64(), "{data}");
            assert!(publication["tokenWait"].is_null(), "{data}");
        }
        fixture.end(worker).await;
    }
    Ok(())
}

/// The application's limit holds every account, and costs nobody an attempt.
#[tokio::test]
async fn limit_of_the_application_holds_every_account() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    fixture.simulator.arm(Fault::error(403, 4).times(1));
    let worker = fixture.work(short()).await?;
    let first = fixture.add(&shoes()).await?;
    reaches(&fixture.queue, &first, JobState::Delayed).await?;
    let mut other = shoes();
    other["accountId"] = "78".into();
    let second = fixture.add(&other).await?;
    let job = reaches(&fixture.queue, &second, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 0);
    let requests: u64 = fixture.simulator.counters().accounts.values().sum();
    assert_eq!(requests, 1);
    fixture.end(worker).await;
    Ok(())
}

/// A used-up quota postpones the posts of its account until the next check.
#[tokio::test]
async fn used_up_quota_postpones_posts() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new().publishing_quota(1)).await?;
    let worker = fixture.work(short()).await?;
    let first = fixture.add(&shoes()).await?;
    reaches(&fixture.queue, &first, JobState::Completed).await?;
    let second = fixture.add(&shoes()).await?;
    let job = reaches(&fixture.queue, &second, JobState::Delayed).await?;
    assert_eq!(
        (job.attempts_made, job.delay),
        (0, Duration::from_secs(900))
    );
    // It looks again before it makes anything.
    assert!(fixture.end_hold(LimitScope::Publishing).await?);
    fixture.queue.promote(&second).await?;
    reaches(&fixture.queue, &second, JobState::Delayed).await?;
    assert!(fixture.end_hold(LimitScope::Publishing).await?);
    assert_eq!(fixture.simulator.counters().containers, 1);
    fixture.end(worker).await;
    Ok(())
}

/// A block by a policy gets longer with each request, so the pauses grow, for all posts of the account and
/// for nobody else. They cost no attempt, and end with the block.
#[tokio::test]
async fn policy_block_is_asked_about_less_and_less() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let blocked = Fault::error(400, 368).subcode(1_390_008);
    fixture.simulator.arm(blocked.account(ACCOUNT).times(5));
    let worker = fixture.work(short()).await?;
    let id = fixture.add(&shoes()).await?;
    for (asked, minutes) in [15, 30, 60, 120, 120].into_iter().enumerate() {
        let job = reaches(&fixture.queue, &id, JobState::Delayed).await?;
        assert_eq!(
            (job.attempts_made, job.delay),
            (0, Duration::from_secs(minutes * 60))
        );
        let requests = fixture.simulator.counters().accounts[ACCOUNT];
        assert_eq!(requests, asked as u64 + 1);
        // Another post of the account asks for nothing, so it makes no pause longer.
        let second = fixture.add(&shoes()).await?;
        reaches(&fixture.queue, &second, JobState::Delayed).await?;
        fixture.queue.remove(&second).await?;
        assert_eq!(fixture.simulator.counters().accounts[ACCOUNT], requests);
        assert!(fixture.end_hold(LimitScope::Account).await?);
        fixture.queue.promote(&id).await?;
    }
    let mut other = shoes();
    other["accountId"] = "78".into();
    let free = fixture.add(&other).await?;
    reaches(&fixture.queue, &free, JobState::Completed).await?;
    reaches(&fixture.queue, &id, JobState::Completed).await?;
    fixture.end(worker).await;
    Ok(())
}

/// A post that limits have postponed for too long fails, with a notice to its user.
#[tokio::test]
async fn post_that_is_postponed_for_too_long_fails() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    fixture
        .simulator
        .arm(Fault::rate_limit(LATER).account(ACCOUNT));
    let limits = PublishLimits {
        postpone_max: Duration::from_millis(1),
        ..short()
    };
    let worker = fixture.work(limits).await?;
    let id = fixture.add(&shoes()).await?;
    reaches(&fixture.queue, &id, JobState::Delayed).await?;
    fixture.queue.promote(&id).await?;
    reaches(&fixture.queue, &id, JobState::Failed).await?;
    let notices = fixture.subscriber.wait_for(USER, 1).await?;
    assert_eq!(notices[0]["code"], "limited");
    assert_eq!(fixture.simulator.counters().accounts[ACCOUNT], 1);

    // A retry by hand has all of the time again.
    fixture.queue.retry(&id, RetryOptions::new()).await?;
    reaches(&fixture.queue, &id, JobState::Delayed).await?;
    assert_eq!(fixture.subscriber.notices(USER).len(), 1);
    fixture.end(worker).await;
    Ok(())
}
