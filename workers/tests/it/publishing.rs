//! A post is published once, whatever is lost, refused or repeated on the way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oxbull::Clock;
use oxbull_instagram_simulator::{Fault, Operation, SimulatorOptions};
use oxbull_testkit::{TestResult, unique};
use oxbull_workers::graph::{ContainerId, Failure, LimitScope, MediaId};
use oxbull_workers::jobs::BoxError;
use oxbull_workers::jobs::post_publishing::{
    Plan, PostPublishing, ProgressStore, Publication, PublishError, PublishLimits, PublishRequest,
    PublishedPost, Step, publish,
};
use serde_json::{Value, json};

use crate::support::{ACCOUNT, GraphFixture};

/// A job's data and claim as Redis would keep them between runs.
pub(crate) struct TestPost {
    name: String,
    post: Mutex<PostPublishing>,
    claimed: Mutex<Option<ContainerId>>,
    /// Which post of the account is whose, of all jobs.
    media: Arc<Mutex<HashMap<MediaId, String>>>,
    limits: PublishLimits,
    clock: Clock,
}

impl ProgressStore for TestPost {
    async fn keep(&self, progress: &Publication) -> Result<(), BoxError> {
        self.post.lock().unwrap().publication = Some(progress.clone());
        Ok(())
    }

    async fn claim(&self, container: &ContainerId) -> Result<ContainerId, BoxError> {
        let mut claimed = self.claimed.lock().unwrap();
        Ok(claimed.get_or_insert(container.clone()).clone())
    }

    async fn release(&self, container: &ContainerId) -> Result<(), BoxError> {
        let mut claimed = self.claimed.lock().unwrap();
        claimed.take_if(|held| held == container);
        Ok(())
    }

    async fn claim_media(&self, media: &MediaId) -> Result<bool, BoxError> {
        let mut claims = self.media.lock().unwrap();
        let holder = claims.entry(media.clone()).or_insert(self.name.clone());
        Ok(*holder == self.name)
    }

    async fn is_anothers(&self, media: &MediaId) -> Result<bool, BoxError> {
        let claims = self.media.lock().unwrap();
        Ok(claims.get(media).is_some_and(|holder| *holder != self.name))
    }
}

impl TestPost {
    pub(crate) fn new(fields: &Value) -> Self {
        let mut data = json!({ "postId": "post-1", "userId": "user-1", "accountId": ACCOUNT });
        let fields = fields.as_object().unwrap().clone();
        data.as_object_mut().unwrap().extend(fields);
        Self {
            name: unique("post"),
            post: Mutex::new(serde_json::from_value(data).unwrap()),
            claimed: Mutex::default(),
            media: Arc::default(),
            limits: PublishLimits::default(),
            clock: Clock::default(),
        }
    }

    pub(crate) fn shoes() -> Self {
        Self::new(&json!({ "imageUrl": "https://cdn.example/shoes.jpg", "caption": "New shoes" }))
    }

    /// The same post as another job.
    pub(crate) fn another(&self) -> Self {
        Self {
            media: Arc::clone(&self.media),
            ..Self::shoes()
        }
    }

    pub(crate) fn carousel() -> Self {
        Self::new(
            &json!({ "mediaType": "CAROUSEL", "caption": "Both shoes", "children": [
            { "imageUrl": "https://cdn.example/left.jpg" },
            { "videoUrl": "https://cdn.example/right.mp4" },
        ] }),
        )
    }

    pub(crate) fn progress(&self) -> Publication {
        let post = self.post.lock().unwrap();
        post.publication.clone().unwrap_or_default()
    }

    pub(crate) async fn run(&self, fixture: &GraphFixture) -> Result<Step, PublishError> {
        let post = self.post.lock().unwrap().clone();
        let plan = Plan::of(&post).unwrap();
        publish(fixture.api(), &post, &plan, self, &self.limits, &self.clock).await
    }

    /// Runs until the post is published, through waits, which pass at once, and failed attempts.
    pub(crate) async fn finish(
        &self,
        fixture: &GraphFixture,
    ) -> Result<PublishedPost, PublishError> {
        let mut last = None;
        for _ in 0..100 {
            match self.run(fixture).await {
                Ok(Step::Published(post)) => return Ok(post),
                Ok(Step::Wait(wait)) => self.pass(wait),
                Err(error) if error.failure() == Failure::Transient => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.expect("the post neither failed nor got published"))
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }
}

pub(crate) async fn without_polls() -> TestResult<GraphFixture> {
    GraphFixture::with(SimulatorOptions::new().polls(0), Duration::from_secs(10)).await
}

/// The plain way: the job waits for the container without holding anything, then publishes.
#[tokio::test]
async fn post_is_published_after_its_container_is_finished() -> TestResult {
    let fixture = GraphFixture::start().await?;
    let test_post = TestPost::shoes();
    assert_eq!(
        test_post.run(&fixture).await?,
        Step::Wait(Duration::from_secs(5))
    );
    let Step::Published(post) = test_post.run(&fixture).await? else {
        panic!("the container is finished");
    };
    let published = fixture.simulator.published();
    assert_eq!(published.len(), 1);
    assert_eq!(
        post.media_id.map(String::from),
        Some(published[0].media.clone())
    );
    assert!(post.permalink.is_some());
    Ok(())
}

/// Each kind of post arrives at the API as what it is, with its media in order.
#[tokio::test]
async fn every_kind_of_post_is_published() -> TestResult {
    let fixture = GraphFixture::start().await?;
    let image = "https://cdn.example/a.jpg";
    let video = "https://cdn.example/a.mp4";
    let both = vec![
        "https://cdn.example/left.jpg".to_owned(),
        "https://cdn.example/right.mp4".to_owned(),
    ];
    for (test_post, kind, urls) in [
        (
            TestPost::new(&json!({ "imageUrl": image })),
            "IMAGE",
            vec![image.to_owned()],
        ),
        (TestPost::carousel(), "CAROUSEL", both),
        (
            TestPost::new(&json!({ "mediaType": "REELS", "videoUrl": video })),
            "REELS",
            vec![video.to_owned()],
        ),
        (
            TestPost::new(&json!({ "mediaType": "STORIES", "imageUrl": image })),
            "STORIES",
            vec![image.to_owned()],
        ),
        (
            TestPost::new(&json!({ "mediaType": "STORIES", "videoUrl": video })),
            "STORIES",
            vec![video.to_owned()],
        ),
    ] {
        let post = test_post.finish(&fixture).await?;
        let published = fixture.simulator.published().pop().unwrap();
        assert_eq!(
            (published.media_type.as_str(), &published.urls),
            (kind, &urls)
        );
        assert_eq!(post.media_id.map(String::from), Some(published.media));
        assert!(post.permalink.is_some());
    }
    Ok(())
}

/// A retry goes on with the containers it has instead of creating others.
#[tokio::test]
async fn failed_attempts_keep_their_containers() -> TestResult {
    let fixture = GraphFixture::start().await?;
    for operation in [
        Operation::ContainerStatus,
        Operation::Publish,
        Operation::Permalink,
    ] {
        let fault = Fault::error(500, 2).on(operation).times(1);
        fixture.simulator.arm(fault);
    }
    let post = TestPost::carousel().finish(&fixture).await?;
    assert!(post.permalink.is_some());
    let counters = fixture.simulator.counters();
    assert_eq!((counters.containers, counters.publications), (3, 1));
    Ok(())
}

/// The answer to publishing is lost: the status tells that it happened, and the post is found,
/// also a story, which no caption tells apart.
#[tokio::test]
async fn lost_answer_to_publishing_does_not_publish_twice() -> TestResult {
    let story = json!({ "mediaType": "STORIES", "imageUrl": "https://cdn.example/a.jpg" });
    for test_post in [
        TestPost::shoes(),
        TestPost::carousel(),
        TestPost::new(&story),
    ] {
        let fixture = GraphFixture::start().await?;
        let lost = Fault::lose_reply().on(Operation::Publish).times(1);
        fixture.simulator.arm(lost);
        let post = test_post.finish(&fixture).await?;
        let published = fixture.simulator.published();
        assert_eq!(published.len(), 1);
        assert_eq!(
            post.media_id.map(String::from),
            Some(published[0].media.clone())
        );
        assert_eq!(fixture.simulator.counters().repeated_publications, 0);
    }
    Ok(())
}

/// A server error may come after the effect, and a request may still be on its way: before it is
/// repeated its time must have passed, and the container must still be unpublished.
#[tokio::test]
async fn request_without_an_answer_is_repeated_only_once_it_is_settled() -> TestResult {
    let fixture = without_polls().await?;
    let fault = Fault::error(502, 0).on(Operation::Publish).times(1);
    fixture.simulator.arm(fault);
    let test_post = TestPost::shoes();
    assert!(matches!(test_post.run(&fixture).await?, Step::Wait(_)));
    let asked = |fixture: &GraphFixture| fixture.simulator.counters().requests[&Operation::Publish];
    for _ in 0..3 {
        assert!(matches!(test_post.run(&fixture).await?, Step::Wait(_)));
    }
    assert_eq!(asked(&fixture), 1);
    test_post.pass(test_post.limits.settle);
    let error = test_post.run(&fixture).await.unwrap_err();
    assert!(matches!(error, PublishError::Unanswered(_)));
    assert_eq!(asked(&fixture), 1);
    assert!(matches!(test_post.run(&fixture).await?, Step::Published(_)));
    assert_eq!(fixture.simulator.published().len(), 1);
    Ok(())
}

/// A worker dies after it noted what it is about to do: that costs time, but no attempt.
#[tokio::test]
async fn death_before_the_request_costs_no_attempt() -> TestResult {
    let fixture = without_polls().await?;
    let test_post = TestPost::shoes();
    let fault = Fault::error(400, 9007).on(Operation::Publish).times(1);
    fixture.simulator.arm(fault);
    assert!(matches!(test_post.run(&fixture).await?, Step::Wait(_)));
    let mut noted = test_post.progress();
    noted.request = Some(PublishRequest {
        at: test_post.clock.now().as_millis(),
        ..PublishRequest::default()
    });
    test_post.keep(&noted).await.unwrap();
    assert!(matches!(test_post.run(&fixture).await?, Step::Wait(_)));
    test_post.pass(test_post.limits.settle);
    assert!(matches!(test_post.run(&fixture).await?, Step::Published(_)));
    Ok(())
}

/// A worker dies after publishing and before noting it; the next run finds the post.
#[tokio::test]
async fn publication_that_was_not_noted_is_found_again() -> TestResult {
    let fixture = without_polls().await?;
    let test_post = TestPost::shoes();
    let first = test_post.finish(&fixture).await?;
    let forgotten = Publication {
        container_id: Some(first.container_id.clone()),
        ..Publication::default()
    };
    test_post.keep(&forgotten).await.unwrap();
    assert_eq!(test_post.finish(&fixture).await?, first);
    assert_eq!(fixture.simulator.published().len(), 1);
    Ok(())
}

/// A worker wakes from a freeze with a container of its own while another has claimed a different
/// one: only the claimed one is ever published.
#[tokio::test]
async fn second_container_of_a_job_is_never_published() -> TestResult {
    let fixture = without_polls().await?;
    let test_post = TestPost::shoes();
    let first = test_post.finish(&fixture).await?;
    test_post.keep(&Publication::default()).await.unwrap();
    assert_eq!(test_post.finish(&fixture).await?, first);
    let counters = fixture.simulator.counters();
    assert_eq!((counters.containers, counters.publications), (2, 1));
    Ok(())
}

/// Media the API cannot use fails at once, before anything is published: images when the
/// container is made, videos when it is prepared.
#[tokio::test]
async fn unusable_media_fails_for_good() -> TestResult {
    let fixture = GraphFixture::start().await?;
    let gif = json!({ "imageUrl": "https://cdn.example/shoes.gif" });
    let avi = json!({ "mediaType": "REELS", "videoUrl": "https://cdn.example/shoes.avi" });
    let child = json!({ "mediaType": "CAROUSEL", "children": [
        { "imageUrl": "https://cdn.example/left.jpg" },
        { "videoUrl": "https://cdn.example/right.avi" },
    ] });
    for (fields, subcode) in [(gif, "2207005"), (avi, "2207026"), (child, "2207026")] {
        let error = TestPost::new(&fields).finish(&fixture).await.unwrap_err();
        assert_eq!(error.failure(), Failure::Permanent);
        assert!(error.to_string().contains(subcode), "{error}");
    }
    assert_eq!(fixture.simulator.counters().publications, 0);
    Ok(())
}

/// A container that failed for a passing reason, or was not published within 24 hours, is
/// replaced by the next attempt.
#[tokio::test]
async fn dead_container_is_replaced() -> TestResult {
    for fault in [
        Fault::container("ERROR", "Error: upload failed with error code 2207053"),
        Fault::container("EXPIRED", "Expired: not published within 24 hours"),
    ] {
        let fixture = without_polls().await?;
        fixture.simulator.arm(fault.times(1));
        let test_post = TestPost::carousel();
        let error = test_post.run(&fixture).await.unwrap_err();
        assert_eq!(error.failure(), Failure::Transient);
        assert_eq!(test_post.progress(), Publication::default());
        test_post.finish(&fixture).await?;
        let counters = fixture.simulator.counters();
        assert_eq!((counters.containers, counters.publications), (5, 1));
    }
    Ok(())
}

/// A claimed container that expires gives its claim to the next one.
#[tokio::test]
async fn expired_container_passes_its_claim_on() -> TestResult {
    let fixture = without_polls().await?;
    let refusal = Fault::error(400, 9007).on(Operation::Publish).times(1);
    fixture.simulator.arm(refusal);
    let test_post = TestPost::shoes();
    assert!(matches!(test_post.run(&fixture).await?, Step::Wait(_)));
    let claimed = test_post.claimed.lock().unwrap().clone();
    assert_eq!(claimed, test_post.progress().container_id);
    fixture
        .simulator
        .arm(Fault::container("EXPIRED", "Expired").times(1));
    let post = test_post.finish(&fixture).await?;
    assert_ne!(Some(post.container_id), claimed);
    assert_eq!(fixture.simulator.published().len(), 1);
    Ok(())
}

/// A post without its permalink is still published; it must not be reported as failed.
#[tokio::test]
async fn unreadable_permalink_does_not_fail_a_published_post() -> TestResult {
    let fixture = GraphFixture::start().await?;
    let fault = Fault::error(500, 2).on(Operation::Permalink);
    fixture.simulator.arm(fault);
    let post = TestPost::shoes().finish(&fixture).await?;
    assert!(post.media_id.is_some());
    assert_eq!(post.permalink, None);
    Ok(())
}

/// Waits grow, and a container that never gets ready is given up at the deadline; the next
/// attempt makes another.
#[tokio::test]
async fn stuck_container_is_given_up_at_the_deadline() -> TestResult {
    let options = SimulatorOptions::new().polls(1000);
    let fixture = GraphFixture::with(options, Duration::from_secs(10)).await?;
    let test_post = TestPost::shoes();
    let mut waits = Vec::new();
    let error = loop {
        match test_post.run(&fixture).await {
            Ok(Step::Wait(wait)) => {
                waits.push(wait.as_secs());
                test_post.pass(wait);
            }
            Ok(Step::Published(post)) => panic!("published too early: {post:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PublishError::NeverReady { .. }));
    assert_eq!(error.failure(), Failure::Transient);
    assert_eq!(waits[..6], [5, 10, 20, 40, 60, 60]);
    let waited: u64 = waits.iter().sum();
    assert!((1800..1860).contains(&waited), "{waited}");
    assert_eq!(test_post.progress(), Publication::default());
    Ok(())
}

/// A used up quota is noticed before containers are made, and limits publishing only.
#[tokio::test]
async fn used_up_quota_puts_publishing_off() -> TestResult {
    let options = SimulatorOptions::new().publishing_quota(1);
    let fixture = GraphFixture::with(options, Duration::from_secs(10)).await?;
    TestPost::shoes().finish(&fixture).await?;
    let error = TestPost::carousel().finish(&fixture).await.unwrap_err();
    let expected = Failure::RateLimited {
        scope: LimitScope::Publishing,
        wait: Some(PublishLimits::default().quota_wait),
    };
    assert_eq!(error.failure(), expected);
    assert_eq!(fixture.simulator.counters().containers, 1);
    Ok(())
}
