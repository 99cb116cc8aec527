//! The client's requests and its reading of failures.

use std::time::Duration;

use oxbull_instagram_simulator::{Fault, SimulatorOptions};
use oxbull_testkit::TestResult;
use oxbull_workers::graph::{
    ContainerState, Decision, Failure, GraphError, LimitScope, NewContainer, Stage, UsageMeter,
};

use crate::support::{ACCOUNT, GraphFixture};

fn image() -> NewContainer {
    NewContainer::image("https://cdn.example/shoes.jpg").caption(Some("New shoes".to_owned()))
}

/// The four requests of a publication, in order; the API wants a finished container.
#[tokio::test]
async fn container_becomes_a_post_with_a_permalink() -> TestResult {
    let fixture = GraphFixture::start().await?;
    let api = fixture.api();
    let container = api.create_container(&image()).await?;
    let early = api.publish(&container).await.unwrap_err();
    assert_eq!(early.failure(), Failure::NotReady);
    assert_eq!(
        api.container_status(&container).await?.state,
        ContainerState::InProgress
    );
    assert_eq!(
        api.container_status(&container).await?.state,
        ContainerState::Finished
    );
    let media = api.publish(&container).await?;
    assert!(api.media(&media).await?.permalink.is_some());
    assert_eq!(api.recent_media().await?[0].id, media);
    assert_eq!(
        api.container_status(&container).await?.state,
        ContainerState::Published
    );
    Ok(())
}

/// A container is published once; asking again is refused and changes nothing.
#[tokio::test]
async fn publishing_a_container_again_is_refused() -> TestResult {
    let fixture =
        GraphFixture::with(SimulatorOptions::new().polls(0), Duration::from_secs(10)).await?;
    let api = fixture.api();
    let container = api.create_container(&image()).await?;
    api.publish(&container).await?;
    let again = api.publish(&container).await.unwrap_err();
    // Meta documents no code for this, so whatever comes must lead to a look at the container.
    assert_eq!(again.decision(Stage::Publish), Decision::LookAgain);
    let counters = fixture.simulator.counters();
    assert_eq!(
        (counters.publications, counters.repeated_publications),
        (1, 1)
    );
    Ok(())
}

/// An API that does not answer costs a request its deadline, not more, and four times as much where it fetches
/// media meanwhile.
#[tokio::test]
async fn silent_api_costs_the_deadline() -> TestResult {
    let deadline = Duration::from_millis(100);
    let fixture = GraphFixture::with(SimulatorOptions::new(), deadline).await?;
    let slow = Fault::slow(Duration::from_secs(60));
    fixture.simulator.arm(slow);
    let error = fixture.api().recent_media().await.unwrap_err();
    assert!(matches!(error, GraphError::Deadline(limit) if limit == deadline));
    let error = fixture.api().create_container(&image()).await.unwrap_err();
    assert!(matches!(error, GraphError::Deadline(limit) if limit == 4 * deadline));
    assert!(error.is_ambiguous());
    assert_eq!(error.failure(), Failure::Transient);
    Ok(())
}

/// A lost answer is told apart from a refusal, since the request may have been carried out.
#[tokio::test]
async fn lost_answer_is_ambiguous() -> TestResult {
    let fixture = GraphFixture::start().await?;
    fixture.simulator.arm(Fault::lose_reply().times(1));
    let error = fixture.api().create_container(&image()).await.unwrap_err();
    assert!(error.is_ambiguous());
    assert_eq!(fixture.simulator.counters().containers, 1);
    Ok(())
}

/// The wait that the API asks for reaches the caller.
#[tokio::test]
async fn rate_limit_names_the_wait() -> TestResult {
    let fixture = GraphFixture::start().await?;
    let limit = Fault::rate_limit(Duration::from_secs(9)).times(1);
    fixture.simulator.arm(limit);
    let error = fixture.api().profile().await.unwrap_err();
    let expected = Failure::RateLimited {
        scope: LimitScope::Account,
        wait: Some(Duration::from_secs(9)),
    };
    assert_eq!(error.failure(), expected);
    fixture.api().profile().await?;
    Ok(())
}

/// Each account has its own rate, refused by headers that say how long to wait.
#[tokio::test]
async fn requests_over_the_rate_are_refused() -> TestResult {
    let options = SimulatorOptions::new().rate(1, Duration::from_secs(3600));
    let fixture = GraphFixture::with(options, Duration::from_secs(10)).await?;
    fixture.api().profile().await?;
    let error = fixture.api().profile().await.unwrap_err();
    assert!(matches!(error.failure(), Failure::RateLimited { .. }));
    assert_eq!(fixture.simulator.counters().refused, 1);
    Ok(())
}

/// An error ends up in logs and in the job's failure reason; the token must not.
#[tokio::test]
async fn errors_show_no_token() -> TestResult {
    let fixture = GraphFixture::with(SimulatorOptions::new(), Duration::from_secs(2)).await?;
    let api = fixture.api();
    let expired = Fault::error(401, 190).subcode(463).times(1);
    fixture.simulator.arm(expired);
    let error = api.profile().await.unwrap_err();
    assert_eq!(error.failure(), Failure::ExpiredToken);
    assert!(!format!("{error:?} {error}").contains("s3cret"));
    Ok(())
}

/// Once the API asks to be left alone, the rest of a run makes no request.
#[tokio::test]
async fn nearly_used_up_rate_stops_the_run() -> TestResult {
    let fixture = GraphFixture::start().await?;
    let meter = UsageMeter::for_account(fixture.api().id());
    let api = fixture.api().metered(&meter);
    fixture.simulator.arm(Fault::usage(85, 0).times(1));
    api.publishing_quota().await?;
    assert_eq!(meter.throttle().account, Duration::from_secs(6));
    fixture.simulator.arm(Fault::usage(95, 3).times(1));
    api.publishing_quota().await?;
    let error = api.publishing_quota().await.unwrap_err();
    assert!(matches!(error, GraphError::Spared(wait) if wait == Duration::from_secs(180)));
    assert_eq!(fixture.simulator.counters().accounts[ACCOUNT], 2);
    Ok(())
}

/// What answers in the API's stead cannot know what the API has done, and the API itself may have
/// failed after the effect.
#[tokio::test]
async fn passing_failures_are_ambiguous_and_refusals_are_not() -> TestResult {
    let fixture = GraphFixture::start().await?;
    for (fault, ambiguous) in [
        (Fault::error(502, 0), true),
        (Fault::error(400, 2), true),
        (Fault::error(400, 4), false),
        (Fault::error(400, 100), false),
    ] {
        fixture.simulator.arm(fault.times(1));
        let error = fixture.api().publishing_quota().await.unwrap_err();
        assert_eq!(error.is_ambiguous(), ambiguous);
    }
    Ok(())
}
