//! Containers that the API does not show, does not find, or creates slowly, and posts in doubt: the container's
//! state and the account's own posts decide, and nobody is told before they have.

use std::time::Duration;

use oxbull_instagram_simulator::{Fault, Operation, SimulatorOptions};
use oxbull_testkit::TestResult;
use oxbull_workers::graph::Failure;
use oxbull_workers::jobs::post_publishing::{PublishError, Step};
use serde_json::json;

use crate::publishing::{TestPost, without_polls};
use crate::support::GraphFixture;

const MINUTE: Duration = Duration::from_secs(60);

/// 4/2207051.
fn spam() -> Fault {
    Fault::error(400, 4).subcode(2_207_051)
}

fn story() -> TestPost {
    TestPost::new(&json!({ "mediaType": "STORIES", "imageUrl": "https://cdn.example/a.jpg" }))
}

fn requests(fixture: &GraphFixture, operation: Operation) -> u64 {
    let counters = fixture.simulator.counters();
    counters.requests.get(&operation).copied().unwrap_or(0)
}

/// Runs a post until it ends, and says how long it took.
async fn ends(post: &TestPost, fixture: &GraphFixture) -> (Duration, Result<(), PublishError>) {
    let mut passed = Duration::ZERO;
    for _ in 0..100 {
        match post.run(fixture).await {
            Ok(Step::Published(_)) => return (passed, Ok(())),
            Ok(Step::Wait(wait)) => {
                post.pass(wait);
                passed += wait;
            }
            Err(error) => return (passed, Err(error)),
        }
    }
    panic!("the post neither failed nor got published");
}

/// What the account shows is what its user learns.
async fn is_published_once(post: &TestPost, fixture: &GraphFixture) -> TestResult {
    let told = post.finish(fixture).await?;
    let published = fixture.simulator.published();
    assert_eq!(published.len(), 1);
    let media = told.media_id.map(String::from);
    assert_eq!(media.as_deref(), Some(published[0].media.as_str()));
    assert_eq!(fixture.simulator.counters().repeated_publications, 0);
    Ok(())
}

/// A refusal or a lost answer of a request that was executed: the post is shown a while later.
#[tokio::test]
async fn post_that_was_refused_and_is_live_is_published_not_failed() -> TestResult {
    for fault in [
        spam(),
        Fault::hidden(),
        Fault::error(400, 506),
        Fault::error(400, 1),
        Fault::error(400, 100).subcode(2_207_999),
        Fault::error(502, 0),
    ] {
        for post in [TestPost::shoes(), TestPost::carousel(), story()] {
            let fixture = without_polls().await?;
            fixture.simulator.arm(fault.clone().executed(3).times(1));
            is_published_once(&post, &fixture).await?;
            assert_eq!(requests(&fixture, Operation::Publish), 1, "{fault:?}");
        }
    }
    Ok(())
}

/// Asking again makes it worse, so there is one request; its refusal counts once the post is known not to be
/// public, minutes later.
#[tokio::test]
async fn post_taken_for_spam_is_never_asked_twice() -> TestResult {
    let fixture = without_polls().await?;
    fixture.simulator.arm(spam().on(Operation::Publish));
    let post = TestPost::shoes();
    let (passed, ended) = ends(&post, &fixture).await;
    let error = ended.unwrap_err();
    assert_eq!(error.failure(), Failure::Permanent);
    assert!(error.to_string().contains("2207051"), "{error}");
    assert!(passed >= 9 * MINUTE && passed < 12 * MINUTE, "{passed:?}");
    assert_eq!(requests(&fixture, Operation::Publish), 1);
    assert_eq!(post.progress().request, None);
    Ok(())
}

/// While containers are hidden, the account's own posts show that a post is public.
#[tokio::test]
async fn post_of_a_hidden_container_is_found_among_the_accounts_own() -> TestResult {
    for fault in [spam(), Fault::hidden(), Fault::error(502, 0)] {
        let fixture = without_polls().await?;
        fixture.simulator.arm(fault.executed(0).times(1));
        let hidden = Fault::hidden().on(Operation::ContainerStatus);
        let post = TestPost::shoes();
        // The container can be read until publishing is requested.
        assert!(matches!(post.run(&fixture).await?, Step::Wait(_)));
        fixture.simulator.arm(hidden);
        is_published_once(&post, &fixture).await?;
        assert_eq!(requests(&fixture, Operation::Publish), 1);
    }
    Ok(())
}

/// Two posts with the same caption at the same time: the one that was refused is not taken for the other.
#[tokio::test]
async fn post_of_another_job_is_no_proof() -> TestResult {
    let fixture = without_polls().await?;
    let first = TestPost::shoes();
    is_published_once(&first, &fixture).await?;
    let second = first.another();
    fixture.simulator.arm(spam().on(Operation::Publish));
    let (_, ended) = ends(&second, &fixture).await;
    assert_eq!(ended.unwrap_err().failure(), Failure::Permanent);
    Ok(())
}

/// A post without a caption cannot be told from others of the account, so it stays in doubt, and what is told
/// says so.
#[tokio::test]
async fn post_that_nothing_can_tell_is_in_doubt() -> TestResult {
    let fixture = without_polls().await?;
    let lost = Fault::lose_reply().on(Operation::Publish).times(1);
    fixture.simulator.arm(lost);
    let post = story();
    assert!(matches!(post.run(&fixture).await?, Step::Wait(_)));
    let hidden = Fault::hidden().on(Operation::ContainerStatus);
    fixture.simulator.arm(hidden);
    let (passed, ended) = ends(&post, &fixture).await;
    assert!(matches!(ended.unwrap_err(), PublishError::Vanished(_)));
    assert!(passed >= 9 * MINUTE, "{passed:?}");
    assert!(post.progress().request.is_some());
    Ok(())
}

/// The API may change a caption, so a recent post that no job has claimed can be this one: it is neither
/// published again, nor from another container, nor told as refused.
#[tokio::test]
async fn post_that_is_live_with_another_caption_is_in_doubt() -> TestResult {
    for fault in [spam(), Fault::hidden(), Fault::error(502, 0)] {
        for hidden in [true, false] {
            let options = SimulatorOptions::new().polls(0).caption_length(5);
            let fixture = GraphFixture::with(options, Duration::from_secs(10)).await?;
            let post = TestPost::shoes();
            let looks = if hidden { 0 } else { 1000 };
            fixture
                .simulator
                .arm(fault.clone().executed(looks).times(1));
            assert!(matches!(post.run(&fixture).await?, Step::Wait(_)));
            if hidden {
                let hidden = Fault::hidden().on(Operation::ContainerStatus);
                fixture.simulator.arm(hidden);
            } else {
                // The list of posts has it, its container does not say so yet.
                by_hand(&fixture).await?;
            }
            let (passed, ended) = ends(&post, &fixture).await;
            let error = ended.unwrap_err();
            assert!(matches!(error, PublishError::Vanished(_)), "{error}");
            assert!(passed >= 9 * MINUTE, "{passed:?}");
            assert!(post.progress().request.is_some());
            let asked = requests(&fixture, Operation::Publish);
            assert_eq!(asked, if hidden { 1 } else { 2 });
        }
    }
    Ok(())
}

/// The account's owner publishes a post that no job knows.
async fn by_hand(fixture: &GraphFixture) -> TestResult {
    let post = json!({ "imageUrl": "https://cdn.example/b.jpg", "caption": "By hand" });
    TestPost::new(&post).finish(fixture).await?;
    Ok(())
}

/// Posts of other jobs, and from before the container was made, leave no doubt.
#[tokio::test]
async fn post_that_cannot_be_meant_leaves_no_doubt() -> TestResult {
    for before in [true, false] {
        let fixture = without_polls().await?;
        let other = TestPost::carousel();
        other.finish(&fixture).await?;
        let post = if before {
            let post = TestPost::shoes();
            post.pass(10 * MINUTE);
            post
        } else {
            other.another()
        };
        let unanswered = Fault::error(502, 0).on(Operation::Publish);
        fixture.simulator.arm(unanswered.times(1));
        let (_, ended) = ends(&post, &fixture).await;
        assert!(
            matches!(ended, Err(PublishError::Unanswered(_))),
            "{ended:?}"
        );
        ends(&post, &fixture).await.1?;
        assert_eq!(fixture.simulator.published().len(), 2);
    }
    Ok(())
}

/// A refusal of the second request says nothing of the first, which may be executed.
#[tokio::test]
async fn refusal_of_a_repetition_is_not_told_before_the_first_request_is_out_of_doubt() -> TestResult
{
    let absent = Fault::error(400, 24).subcode(2_207_008);
    for refusal in [Fault::error(400, 36_003), absent] {
        let fixture = without_polls().await?;
        let unanswered = Fault::error(502, 0).executed(12).times(1);
        fixture.simulator.arm(unanswered);
        fixture.simulator.arm(refusal.on(Operation::Publish));
        let post = TestPost::shoes();
        let (passed, ended) = ends(&post, &fixture).await;
        assert!(
            matches!(ended, Err(PublishError::Unanswered(_))),
            "{ended:?}"
        );
        assert!(passed < MINUTE, "{passed:?}");
        ends(&post, &fixture).await.1?;
        let published = fixture.simulator.published();
        assert_eq!(published.len(), 1);
        assert_eq!(fixture.simulator.counters().containers, 1);
    }
    Ok(())
}

/// A refusal that comes long after the request without an answer is told at once.
#[tokio::test]
async fn doubt_about_the_first_request_ends() -> TestResult {
    let fixture = without_polls().await?;
    let unanswered = Fault::error(502, 0).on(Operation::Publish);
    fixture.simulator.arm(unanswered.times(1));
    let post = TestPost::shoes();
    assert!(ends(&post, &fixture).await.1.is_err());
    post.pass(11 * MINUTE);
    fixture
        .simulator
        .arm(Fault::error(400, 36_003).on(Operation::Publish));
    let (passed, ended) = ends(&post, &fixture).await;
    assert_eq!(ended.unwrap_err().failure(), Failure::Permanent);
    assert_eq!(passed, Duration::ZERO);
    Ok(())
}

/// A creation without an answer may have made a container: the next waits, and there are few.
#[tokio::test]
async fn creations_without_an_answer_are_few_and_far_between() -> TestResult {
    for (post, before) in [(TestPost::shoes(), 0), (TestPost::carousel(), 1)] {
        let fixture = without_polls().await?;
        let made = || requests(&fixture, Operation::CreateContainer);
        if before == 1 {
            // The first child is made at once, the second never.
            let usage = Fault::usage(1, 0).on(Operation::CreateContainer);
            fixture.simulator.arm(usage.times(1));
        }
        let lost = Fault::lose_reply().on(Operation::CreateContainer);
        fixture.simulator.arm(lost);
        for count in 1..=3 {
            let (passed, ended) = ends(&post, &fixture).await;
            assert_eq!(ended.unwrap_err().failure(), Failure::Transient);
            // The time that has really passed counts as well.
            let paused = Duration::from_secs(30)..=Duration::from_secs(40);
            assert!(count == 1 || paused.contains(&passed), "{passed:?}");
            assert_eq!(made(), count + before);
        }
        for _ in 0..3 {
            let error = ends(&post, &fixture).await.1.unwrap_err();
            assert!(matches!(error, PublishError::NeverCreated), "{error}");
            assert_eq!(error.failure(), Failure::Transient);
            assert_eq!(made(), 3 + before);
        }
    }
    Ok(())
}

/// Answers 100/33 for a while are no reason to make other containers.
#[tokio::test]
async fn fresh_container_that_cannot_be_read_is_waited_for() -> TestResult {
    for post in [TestPost::shoes(), TestPost::carousel()] {
        let fixture = without_polls().await?;
        let hidden = Fault::hidden().on(Operation::ContainerStatus);
        fixture.simulator.arm(hidden.times(3));
        let before = fixture.simulator.counters().containers;
        let (_, ended) = ends(&post, &fixture).await;
        ended?;
        let made = fixture.simulator.counters().containers - before;
        assert!(made == 1 || made == 3, "{made}");
        assert_eq!(fixture.simulator.published().len(), 1);
    }
    Ok(())
}

/// The API publishes what it does not show; the permalink is in the account's own posts.
#[tokio::test]
async fn hidden_container_is_published_without_its_status() -> TestResult {
    for post in [TestPost::shoes(), TestPost::carousel()] {
        let fixture = without_polls().await?;
        for operation in [Operation::ContainerStatus, Operation::Permalink] {
            fixture.simulator.arm(Fault::hidden().on(operation));
        }
        let (passed, ended) = ends(&post, &fixture).await;
        ended?;
        assert!(passed >= MINUTE && passed < 5 * MINUTE, "{passed:?}");
        let counters = fixture.simulator.counters();
        assert!(matches!(counters.containers, 1 | 3), "{counters:?}");
        assert_eq!(counters.publications, 1);
        let Step::Published(told) = post.run(&fixture).await? else {
            panic!("it is published");
        };
        assert!(told.permalink.is_some());
    }
    Ok(())
}

/// A hidden container that is not ready yet says so when it is published, and is waited for.
#[tokio::test]
async fn hidden_container_that_is_not_ready_is_waited_for() -> TestResult {
    let fixture = without_polls().await?;
    let hidden = Fault::hidden().on(Operation::ContainerStatus);
    fixture.simulator.arm(hidden);
    let early = Fault::error(400, 9007).subcode(2_207_027);
    fixture.simulator.arm(early.on(Operation::Publish).times(2));
    let (_, ended) = ends(&TestPost::shoes(), &fixture).await;
    ended?;
    let counters = fixture.simulator.counters();
    assert_eq!((counters.containers, counters.publications), (1, 1));
    Ok(())
}

/// A container that neither its status nor publishing finds is replaced, once the post is known not to be public.
#[tokio::test]
async fn container_that_does_not_exist_is_replaced_after_a_look() -> TestResult {
    let fixture = without_polls().await?;
    let hidden = Fault::hidden().on(Operation::ContainerStatus);
    fixture.simulator.arm(hidden);
    fixture
        .simulator
        .arm(Fault::hidden().on(Operation::Publish).times(1));
    let post = TestPost::shoes();
    let (passed, ended) = ends(&post, &fixture).await;
    assert_eq!(ended.unwrap_err().failure(), Failure::Transient);
    assert!(passed >= 11 * MINUTE, "{passed:?}");
    ends(&post, &fixture).await.1?;
    let counters = fixture.simulator.counters();
    assert_eq!((counters.containers, counters.publications), (2, 1));
    Ok(())
}

/// 24/2207008 passes within two minutes, or the container is replaced.
#[tokio::test]
async fn container_not_found_at_publish_is_retried_then_replaced() -> TestResult {
    for (times, containers) in [(1, 1), (2, 1), (3, 2)] {
        let fixture = without_polls().await?;
        let absent = Fault::error(400, 24).subcode(2_207_008);
        fixture
            .simulator
            .arm(absent.on(Operation::Publish).times(times));
        let post = TestPost::shoes();
        let (passed, ended) = ends(&post, &fixture).await;
        assert!(passed >= Duration::from_secs(30) && passed <= 2 * MINUTE);
        assert_eq!(ended.is_ok(), containers == 1);
        if let Err(error) = ended {
            assert_eq!(error.failure(), Failure::Transient);
            ends(&post, &fixture).await.1?;
        }
        let counters = fixture.simulator.counters();
        assert_eq!(
            (counters.containers, counters.publications),
            (containers, 1)
        );
        assert_eq!(requests(&fixture, Operation::Publish), u64::from(times) + 1);
    }
    Ok(())
}

/// The API fetches media while a container is created, which takes longer than other requests.
#[tokio::test]
async fn slow_creation_makes_one_container() -> TestResult {
    let options = SimulatorOptions::new().polls(0);
    let fixture = GraphFixture::with(options, Duration::from_millis(500)).await?;
    let slow = Fault::slow(Duration::from_secs(1)).on(Operation::CreateContainer);
    fixture.simulator.arm(slow);
    is_published_once(&TestPost::shoes(), &fixture).await?;
    assert_eq!(fixture.simulator.counters().containers, 1);
    Ok(())
}
