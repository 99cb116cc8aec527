//! Posts in doubt: their users learn what is true, or that nobody knows.

use oxbull::{JobOptions, JobState};
use oxbull_instagram_simulator::{Fault, Operation, SimulatorOptions};
use oxbull_testkit::TestResult;
use oxbull_workers::jobs::post_publishing::PublishLimits;
use serde_json::json;

use super::{PostFixture, USER, shoes, short};
use crate::support::{LATER, reaches};

/// The last attempt gets no answer, or one that nothing documents, and the post shows up later: no failure is told
/// before.
#[tokio::test]
async fn post_in_doubt_in_its_last_attempt_is_looked_for() -> TestResult {
    for fault in [
        Fault::error(500, 2),
        Fault::error(400, 4).subcode(2_207_051),
        Fault::error(400, 100).subcode(2_207_087),
    ] {
        let fixture = PostFixture::start(SimulatorOptions::new().polls(0)).await?;
        fixture.simulator.arm(fault.executed(3).times(1));
        let limits = PublishLimits {
            doubt: LATER,
            ..short()
        };
        let worker = fixture.work(limits).await?;
        let id = fixture.add_with(&shoes(), JobOptions::new()).await?;
        reaches(&fixture.queue, &id, JobState::Completed).await?;
        let notices = fixture.subscriber.wait_for(USER, 1).await?;
        assert_eq!(notices[0]["type"], "post.published", "{notices:?}");
        assert_eq!(notices.len(), 1);
        assert_eq!(fixture.simulator.published().len(), 1);
        fixture.end(worker).await;
    }
    Ok(())
}

/// Neither the container nor the account shows what became of a story: its user is asked to look, and not to
/// change or to repeat the post.
#[tokio::test]
async fn doubt_that_remains_is_told_as_doubt() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new().polls(0)).await?;
    let lost = Fault::lose_reply().on(Operation::Publish).times(1);
    fixture.simulator.arm(lost);
    let hidden = Fault::hidden().on(Operation::ContainerStatus);
    fixture.simulator.arm(hidden);
    let worker = fixture.work(short()).await?;
    let mut story = shoes();
    story["mediaType"] = json!("STORIES");
    let id = fixture.add(&story).await?;
    let job = reaches(&fixture.queue, &id, JobState::Failed).await?;
    let notices = fixture.subscriber.wait_for(USER, 1).await?;
    assert_eq!(notices[0]["code"], "in_doubt", "{notices:?}");
    assert_eq!(notices[0]["reason"], job.failed_reason.unwrap().as_str());
    assert_eq!(fixture.simulator.published().len(), 1);
    assert_eq!(fixture.simulator.counters().repeated_publications, 0);
    fixture.end(worker).await;
    Ok(())
}

/// The token ends between a request without an answer and its repetition: who reconnects the account is also
/// told to look whether the post is public.
#[tokio::test]
async fn expired_token_after_an_unanswered_request_is_told_with_the_doubt() -> TestResult {
    for refusal in [Fault::error(400, 190).subcode(463), Fault::error(403, 10)] {
        let fixture = PostFixture::start(SimulatorOptions::new().polls(0)).await?;
        let unanswered = Fault::error(502, 0).on(Operation::Publish);
        fixture.simulator.arm(unanswered.times(1));
        fixture.simulator.arm(refusal.on(Operation::Publish));
        let limits = PublishLimits {
            doubt: LATER,
            ..short()
        };
        let worker = fixture.work(limits).await?;
        let id = fixture.add(&shoes()).await?;
        let job = reaches(&fixture.queue, &id, JobState::Failed).await?;
        assert_eq!(job.attempts_made, 2);
        let notices = fixture.subscriber.wait_for(USER, 1).await?;
        assert_eq!(notices[0]["code"], "reconnect", "{notices:?}");
        let reason = notices[0]["reason"].as_str().unwrap();
        assert!(reason.contains("may have been published"), "{reason}");
        fixture.end(worker).await;
    }
    Ok(())
}
