//! Publishers that die while it is in doubt what became of a post.

use super::*;

/// A post whose publication was refused although it was executed is found, wherever its publisher dies.
#[tokio::test]
async fn post_in_doubt_is_found_wherever_its_publisher_dies() -> TestResult {
    let spam = simulator::Fault::error(400, 4).subcode(2_207_051);
    kill_everywhere(Kind {
        api: vec![spam.executed(1).times(1)],
        least: 8,
        ..image()
    })
    .await
}

/// A post that was refused and is not public fails once, as refused.
#[tokio::test]
async fn refusal_after_doubt_is_told_once_wherever_its_publisher_dies() -> TestResult {
    let spam = simulator::Fault::error(400, 4).subcode(2_207_051);
    kill_everywhere(Kind {
        api: vec![spam.on(Operation::Publish)],
        end: End::Failed,
        least: 8,
        ..image()
    })
    .await
}

/// A container that the API does not show is published once, also before it is ready.
#[tokio::test]
async fn post_of_a_hidden_container_is_published_once_wherever_its_publisher_dies() -> TestResult {
    let hidden = simulator::Fault::hidden().on(Operation::ContainerStatus);
    kill_everywhere(Kind {
        api: vec![hidden.times(6)],
        least: 8,
        ..image()
    })
    .await
}

/// A container that is not found is published again and then replaced: only one of the two is published.
#[tokio::test]
async fn replaced_container_is_not_published_wherever_its_publisher_dies() -> TestResult {
    let absent = simulator::Fault::error(400, 24).subcode(2_207_008);
    kill_everywhere(Kind {
        api: vec![absent.on(Operation::Publish).times(3)],
        attempts: 2,
        least: 12,
        ..image()
    })
    .await
}

/// A request without an answer is repeated, wherever its publisher dies: also between the two.
#[tokio::test]
async fn unanswered_post_is_published_once_wherever_its_publisher_dies() -> TestResult {
    let unanswered = simulator::Fault::error(502, 0).on(Operation::Publish);
    kill_everywhere(Kind {
        api: vec![unanswered.times(1)],
        attempts: 2,
        least: 10,
        ..image()
    })
    .await
}

/// The repetition is refused: that is told once, when the first request is out of doubt.
#[tokio::test]
async fn refusal_of_a_repetition_is_told_once_wherever_its_publisher_dies() -> TestResult {
    let unanswered = simulator::Fault::error(502, 0).on(Operation::Publish);
    let refusal = simulator::Fault::error(400, 36_003).on(Operation::Publish);
    kill_everywhere(Kind {
        api: vec![unanswered.times(1), refusal],
        end: End::Failed,
        attempts: 2,
        least: 10,
        ..image()
    })
    .await
}

/// A frozen publisher in doubt wakes when another has found the post, and neither publishes nor tells again.
#[tokio::test]
async fn post_in_doubt_is_published_once_wherever_its_publisher_is_frozen() -> TestResult {
    let fixture = CrashFixture::start(0).await?;
    let spam = simulator::Fault::error(400, 4).subcode(2_207_051);
    let kind = Kind {
        api: vec![spam.executed(1).times(1)],
        least: 6,
        ..image()
    };
    let every = async |moment| {
        let (fault, side) = (Fault::Freeze, Side::Api);
        let blow = Blow {
            fault,
            side,
            moment,
        };
        fixture.every_step(&kind, blow).await
    };
    tokio::try_join!(every(Moment::Before), every(Moment::After))?;
    fixture.redis.client.close().await;
    Ok(())
}
