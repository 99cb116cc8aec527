//! Posts that are published, at once or after waits and retries.

use oxbull::JobState;
use oxbull_instagram_simulator::{Fault, Operation, SimulatorOptions};
use oxbull_testkit::TestResult;
use oxbull_workers::jobs::post_publishing::PublishedPost;
use serde_json::{Value, json};

use super::{PostFixture, USER, long, quick, shoes, short};
use crate::support::{ACCOUNT, reaches};

/// The usual course of a post: its job waits for the container as delayed, without an attempt; its
/// result and its user learn where it is, and its data keeps what the backend wrote.
#[tokio::test]
async fn post_is_published_in_one_attempt() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new().polls(2)).await?;
    let worker = fixture.work(short()).await?;
    let id = fixture.add(&shoes()).await?;
    let job = reaches(&fixture.queue, &id, JobState::Completed).await?;
    let result: PublishedPost = job.return_value()?.unwrap();
    let published = fixture.simulator.published();
    assert_eq!(published.len(), 1);
    assert_eq!(
        result.media_id.clone().map(String::from),
        Some(published[0].media.clone())
    );
    assert_eq!(job.attempts_made, 1);
    assert!(job.attempts_started > 1, "it was delayed for its media");
    let notices = fixture.subscriber.wait_for(USER, 1).await?;
    let at = notices[0]["at"].clone();
    assert_eq!(
        notices,
        [json!({
            "type": "post.published",
            "postId": "post-1",
            "accountId": ACCOUNT,
            "mediaId": result.media_id,
            "permalink": result.permalink.unwrap(),
            "at": at,
        })]
    );
    let mut data: Value = job.data()?;
    data.as_object_mut().unwrap().remove("publication").unwrap();
    assert_eq!(data, shoes());
    fixture.end(worker).await;
    Ok(())
}

/// A container that takes long is asked about less and less often, and no wait uses an attempt.
#[tokio::test]
async fn waits_are_delays_that_grow() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new().polls(5)).await?;
    let worker = fixture.work(long()).await?;
    let id = fixture.add(&shoes()).await?;
    let mut delays = Vec::new();
    for _ in 0..5 {
        let job = reaches(&fixture.queue, &id, JobState::Delayed).await?;
        assert_eq!(job.attempts_made, 0);
        delays.push(job.delay.as_secs() / 3600);
        fixture.queue.promote(&id).await?;
    }
    assert_eq!(delays, [1, 2, 4, 4, 4]);
    let job = reaches(&fixture.queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 1);
    fixture.end(worker).await;
    Ok(())
}

/// The answer to publishing is lost, and then an attempt fails: the next one finds the post
/// instead of publishing it again.
#[tokio::test]
async fn retry_does_not_publish_twice() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new().polls(0)).await?;
    let lost = Fault::lose_reply().on(Operation::Publish).times(1);
    fixture.simulator.arm(lost);
    let worker = fixture.work(long()).await?;
    let id = fixture.add(&shoes()).await?;
    reaches(&fixture.queue, &id, JobState::Delayed).await?;
    assert_eq!(fixture.simulator.published().len(), 1);

    let fault = Fault::error(500, 2).on(Operation::ContainerStatus);
    fixture.simulator.arm(fault.times(1));
    fixture.queue.promote(&id).await?;
    let job = reaches(&fixture.queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 2);
    let result: PublishedPost = job.return_value()?.unwrap();
    let published = fixture.simulator.published();
    assert_eq!(
        result.media_id.map(String::from),
        Some(published[0].media.clone())
    );
    let counters = fixture.simulator.counters();
    assert_eq!((counters.containers, counters.publications), (1, 1));
    assert_eq!(counters.repeated_publications, 0);
    fixture.end(worker).await;
    Ok(())
}

/// The last attempt must not fail a post that may be public: it is postponed until that is known.
#[tokio::test]
async fn last_attempt_in_doubt_is_postponed() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new().polls(0)).await?;
    let lost = Fault::lose_reply().on(Operation::Publish).times(1);
    fixture.simulator.arm(lost);
    let fault = Fault::error(500, 2).on(Operation::ContainerStatus);
    let worker = fixture.work(long()).await?;
    let id = fixture.add_with(&shoes(), quick().attempts(1)).await?;
    reaches(&fixture.queue, &id, JobState::Delayed).await?;
    fixture.simulator.arm(fault.times(1));
    fixture.queue.promote(&id).await?;
    let job = reaches(&fixture.queue, &id, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 0);
    fixture.queue.promote(&id).await?;
    reaches(&fixture.queue, &id, JobState::Completed).await?;
    let notices = fixture.subscriber.wait_for(USER, 1).await?;
    assert_eq!(notices[0]["type"], "post.published");
    fixture.end(worker).await;
    Ok(())
}
