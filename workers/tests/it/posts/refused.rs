//! Posts that fail, at once or after their last attempt, and what their users learn.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use oxbull::{Backoff, JobOptions, JobState, RetryOptions, WorkerEvent};
use oxbull_instagram_simulator::{Fault, Operation, Simulator, SimulatorOptions};
use oxbull_testkit::{TestResult, free_port};
use oxbull_workers::graph::AccessTokens;
use serde_json::json;

use super::{PostFixture, USER, post, shoes, short};
use crate::support::{ACCOUNT, LATER, reaches, tokens};

/// A post that can never be published must not use attempts or the account's rate; its user gets the
/// reason.
#[tokio::test]
async fn unpublishable_posts_fail_at_once_with_their_reason() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let worker = fixture.work(short()).await?;
    let restricted = Fault::error(400, 25).subcode(2_207_050);
    let restricted = restricted.on(Operation::CreateContainer);
    fixture.simulator.arm(restricted.account("78").times(1));
    let mut forbidden = shoes();
    forbidden["accountId"] = "78".into();
    let mut alone = shoes();
    alone["mediaType"] = "CAROUSEL".into();
    let unreadable = json!({ "postId": "p", "userId": USER, "accountId": "a/b" });
    for (count, (data, reason)) in [
        (post("https://cdn.example/shoes.gif"), "2207005"),
        (forbidden, "sign in to the Instagram app"),
        (alone, "children"),
        (unreadable, "does not decode"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = fixture.add(&data).await?;
        let job = reaches(&fixture.queue, &id, JobState::Failed).await?;
        assert_eq!(job.attempts_made, 1);
        let found = job.failed_reason.unwrap();
        assert!(found.contains(reason), "{found}");
        let notices = fixture.subscriber.wait_for(USER, count + 1).await?;
        assert_eq!(notices.len(), count + 1);
        assert_eq!(notices[count]["type"], "post.failed");
        assert_eq!(notices[count]["code"], "refused");
        assert_eq!(notices[count]["reason"], found.as_str());
    }
    assert!(fixture.simulator.published().is_empty());
    fixture.end(worker).await;
    Ok(())
}

/// An expired token fails each of the account's posts with one request, and names the remedy. Once
/// the account is connected again a retry by hand publishes, with a notice to the user.
#[tokio::test]
async fn expired_token_asks_for_a_reconnection() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    fixture.simulator.arm(Fault::error(400, 190).subcode(463));
    let worker = fixture.work(short()).await?;
    let mut added = Vec::new();
    for _ in 0..3 {
        added.push(fixture.add(&shoes()).await?);
    }
    for id in &added {
        let job = reaches(&fixture.queue, id, JobState::Failed).await?;
        assert_eq!(job.attempts_made, 1);
        let reason = job.failed_reason.unwrap();
        assert!(reason.contains("reconnect the account"), "{reason}");
    }
    assert_eq!(fixture.simulator.counters().accounts[ACCOUNT], 3);
    let notices = fixture.subscriber.wait_for(USER, 3).await?;
    assert!(notices.iter().all(|notice| notice["code"] == "reconnect"));

    fixture.simulator.disarm();
    fixture.queue.retry(&added[0], RetryOptions::new()).await?;
    reaches(&fixture.queue, &added[0], JobState::Completed).await?;
    let notices = fixture.subscriber.wait_for(USER, 4).await?;
    assert_eq!(notices[3]["type"], "post.published");
    fixture.end(worker).await;
    Ok(())
}

/// A permission that was revoked comes back with a new connection only: the post is as good as it was. It
/// makes no difference which request finds out.
#[tokio::test]
async fn revoked_permission_asks_for_a_reconnection() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let worker = fixture.work(short()).await?;
    for (count, (code, operation)) in [
        (10, Operation::CreateContainer),
        (200, Operation::CreateContainer),
        (10, Operation::Publish),
        (299, Operation::Publish),
    ]
    .into_iter()
    .enumerate()
    {
        let revoked = Fault::error(403, code).on(operation);
        fixture.simulator.arm(revoked.times(1));
        let id = fixture.add(&shoes()).await?;
        let job = reaches(&fixture.queue, &id, JobState::Failed).await?;
        assert_eq!(job.attempts_made, 1);
        let reason = job.failed_reason.unwrap();
        let remedy = "reconnect the account and grant all permissions";
        assert!(reason.ends_with(remedy), "{reason}");
        let notices = fixture.subscriber.wait_for(USER, count + 1).await?;
        assert_eq!(notices[count]["code"], "reconnect");
    }
    assert!(fixture.simulator.published().is_empty());
    fixture.end(worker).await;
    Ok(())
}

/// What nothing documents is neither final at once nor asked for ever, and its user reads what the API
/// says about it.
#[tokio::test]
async fn unknown_subcode_is_retried_and_named() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let worker = fixture.work(short()).await?;
    let unknown = Fault::error(400, 100).subcode(2_207_098);
    let unknown = unknown.text("Invalid parameter");
    let unknown = unknown.user_message("Circles are not supported.");
    let unknown = unknown.on(Operation::CreateContainer);
    fixture.simulator.arm(unknown.clone().times(2));
    let id = fixture.add(&shoes()).await?;
    let job = reaches(&fixture.queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 3);
    assert_eq!(fixture.subscriber.wait_for(USER, 1).await?.len(), 1);

    fixture.simulator.arm(unknown);
    let id = fixture.add(&shoes()).await?;
    let job = reaches(&fixture.queue, &id, JobState::Failed).await?;
    assert_eq!(job.attempts_made, 3);
    let expected =
        "graph api error 100 (subcode 2207098): Invalid parameter (Circles are not supported.)";
    assert_eq!(job.failed_reason.as_deref(), Some(expected));
    let notices = fixture.subscriber.wait_for(USER, 2).await?;
    let notice = &notices[1];
    assert_eq!(
        (&notice["code"], &notice["reason"]),
        (&json!("unavailable"), &json!(expected))
    );
    fixture.end(worker).await;
    Ok(())
}

/// Nobody knows whether a request to publish that was refused so had its effect: the container is looked at
/// before it is made again, and a post is never published twice.
#[tokio::test]
async fn unknown_subcode_at_publishing_is_looked_into() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let worker = fixture.work(short()).await?;
    let unknown = Fault::error(400, 12_345).on(Operation::Publish);
    fixture.simulator.arm(unknown.times(1));
    let id = fixture.add(&shoes()).await?;
    reaches(&fixture.queue, &id, JobState::Completed).await?;
    let counters = fixture.simulator.counters();
    assert_eq!((counters.containers, counters.publications), (1, 1));
    assert_eq!(fixture.subscriber.wait_for(USER, 1).await?.len(), 1);
    fixture.end(worker).await;
    Ok(())
}

/// A container whose media fails for a reason that nothing documents is replaced, and only the last one is
/// final.
#[tokio::test]
async fn undocumented_failure_of_a_container_is_retried() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new().polls(0)).await?;
    let worker = fixture.work(short()).await?;
    let text = "Error: Media upload has failed with error code 2207076";
    let failed = Fault::container("ERROR", text);
    fixture.simulator.arm(failed.clone().times(2));
    let id = fixture.add(&shoes()).await?;
    let job = reaches(&fixture.queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 3);
    assert_eq!(fixture.simulator.counters().containers, 3);

    fixture.simulator.arm(failed);
    let id = fixture.add(&shoes()).await?;
    let job = reaches(&fixture.queue, &id, JobState::Failed).await?;
    assert_eq!(job.attempts_made, 3);
    let reason = job.failed_reason.unwrap();
    assert!(reason.contains("(subcode 2207076)"), "{reason}");
    assert!(!reason.contains("error 0"), "{reason}");
    assert_eq!(fixture.simulator.counters().containers, 6);
    fixture.end(worker).await;
    Ok(())
}

/// An account that has had no token for the configured time is the same case.
#[tokio::test]
async fn missing_token_asks_for_a_reconnection() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let none = AccessTokens::default().missing_for(Duration::ZERO);
    let worker = fixture
        .work_with(short(), none, fixture.simulator.url())
        .await?;
    let id = fixture.add(&shoes()).await?;
    reaches(&fixture.queue, &id, JobState::Failed).await?;
    let notices = fixture.subscriber.wait_for(USER, 1).await?;
    assert_eq!(notices[0]["code"], "reconnect");
    assert!(fixture.simulator.counters().accounts.is_empty());
    fixture.end(worker).await;
    Ok(())
}

/// A passing failure costs an attempt; the third ends the job, and only then the user is notified.
#[tokio::test]
async fn third_passing_failure_is_final() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let worker = fixture.work(short()).await?;
    let fault = Fault::error(500, 2).on(Operation::CreateContainer);
    fixture.simulator.arm(fault.clone().times(2));
    let id = fixture.add(&shoes()).await?;
    let job = reaches(&fixture.queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 3);
    assert_eq!(fixture.subscriber.wait_for(USER, 1).await?.len(), 1);

    fixture.simulator.arm(fault);
    let id = fixture.add(&shoes()).await?;
    let job = reaches(&fixture.queue, &id, JobState::Failed).await?;
    assert_eq!(job.attempts_made, 3);
    let notices = fixture.subscriber.wait_for(USER, 2).await?;
    assert_eq!(
        (notices.len(), &notices[1]["code"]),
        (2, &json!("unavailable"))
    );
    fixture.end(worker).await;
    Ok(())
}

/// An API that cannot be reached costs attempts, not jobs: the next one works once it is back.
#[tokio::test]
async fn unreachable_api_ends_in_a_retry() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let url = format!("http://{address}/v23.0");
    let worker = fixture.work_with(short(), tokens(), &url).await?;
    let mut events = worker.events();
    let options = JobOptions::new().attempts(2).backoff(Backoff::fixed(LATER));
    let id = fixture.add_with(&shoes(), options).await?;
    let retries = loop {
        match events.next().await {
            Some(WorkerEvent::Failed { retries, .. }) => break retries,
            Some(_) => {}
            None => panic!("the worker ended"),
        }
    };
    assert!(retries);
    let job = reaches(&fixture.queue, &id, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 1);

    let simulator = Simulator::start(SimulatorOptions::new().address(address)).await?;
    fixture.queue.promote(&id).await?;
    reaches(&fixture.queue, &id, JobState::Completed).await?;
    assert_eq!(simulator.published().len(), 1);
    fixture.end(worker).await;
    Ok(())
}
