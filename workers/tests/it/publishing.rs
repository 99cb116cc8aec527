//! A post is published once, whatever is lost, refused or repeated on the way.

use std::sync::Mutex;
use std::time::Duration;

use oxbull_workers::graph::Failure;
use oxbull_workers::jobs::BoxError;
use oxbull_workers::jobs::post_publishing::{
    Notebook, PostPublishing, Publication, PublishError, PublishLimits, PublishedPost, Step,
    publish,
};
use oxbull_workers::simulator::{Fault, Operation, SimulatorOptions};
use serde_json::json;

use crate::support::{ACCOUNT, Fixture, TestResult};

/// A job's data as Redis would keep it between runs.
struct Desk(Mutex<PostPublishing>);

impl Notebook for Desk {
    async fn keep(&self, progress: Option<&Publication>) -> Result<(), BoxError> {
        self.0.lock().unwrap().publication = progress.cloned();
        Ok(())
    }
}

impl Desk {
    fn new(image_url: &str) -> Self {
        let data = json!({
            "postId": "post-1",
            "userId": "user-1",
            "accountId": ACCOUNT,
            "imageUrl": image_url,
            "caption": "New shoes",
        });
        Self(Mutex::new(serde_json::from_value(data).unwrap()))
    }

    fn shoes() -> Self {
        Self::new("https://cdn.example/shoes.jpg")
    }

    async fn run(&self, fixture: &Fixture) -> Result<Step, PublishError> {
        let limits = PublishLimits {
            container_waits: 3,
            permalink_waits: 2,
        };
        let post = self.0.lock().unwrap().clone();
        publish(fixture.api(), &post, self, limits).await
    }

    /// Runs until the post is published, through waits and failed attempts.
    async fn finish(&self, fixture: &Fixture) -> Result<PublishedPost, PublishError> {
        let mut last = None;
        for _ in 0..10 {
            match self.run(fixture).await {
                Ok(Step::Published(post)) => return Ok(post),
                Ok(Step::Wait) => {}
                Err(error) if error.failure() == Failure::Transient => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.expect("the post neither failed nor got published"))
    }
}

/// The plain way: the job waits for the container without holding anything, then publishes.
#[tokio::test]
async fn post_is_published_after_its_container_is_finished() -> TestResult {
    let fixture = Fixture::start().await?;
    let desk = Desk::shoes();
    assert_eq!(desk.run(&fixture).await?, Step::Wait);
    let Step::Published(post) = desk.run(&fixture).await? else {
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

/// A retry goes on with the container it has instead of creating another.
#[tokio::test]
async fn failed_attempts_keep_their_container() -> TestResult {
    let fixture = Fixture::start().await?;
    for operation in [
        Operation::ContainerStatus,
        Operation::Publish,
        Operation::Permalink,
    ] {
        let fault = Fault::error(500, 2).on(operation).times(1);
        fixture.simulator.arm(fault);
    }
    let post = Desk::shoes().finish(&fixture).await?;
    assert!(post.permalink.is_some());
    let counters = fixture.simulator.counters();
    assert_eq!((counters.containers, counters.publications), (1, 1));
    Ok(())
}

/// The answer to publishing is lost: the status tells that it happened, and the post is found.
#[tokio::test]
async fn lost_answer_to_publishing_does_not_publish_twice() -> TestResult {
    let fixture = Fixture::start().await?;
    let lost = Fault::lose_reply().on(Operation::Publish).times(1);
    fixture.simulator.arm(lost);
    let post = Desk::shoes().finish(&fixture).await?;
    let published = fixture.simulator.published();
    assert_eq!(published.len(), 1);
    assert_eq!(
        post.media_id.map(String::from),
        Some(published[0].media.clone())
    );
    assert_eq!(fixture.simulator.counters().repeated_publications, 0);
    Ok(())
}

/// A worker dies after publishing and before noting it; the next run finds the post.
#[tokio::test]
async fn publication_that_was_not_noted_is_found_again() -> TestResult {
    let fixture = Fixture::with(SimulatorOptions::new().polls(0), Duration::from_secs(10)).await?;
    let desk = Desk::shoes();
    let first = desk.finish(&fixture).await?;
    let forgotten = Publication {
        container_id: first.container_id.clone(),
        media_id: None,
        waits: 0,
    };
    desk.keep(Some(&forgotten)).await.unwrap();
    assert_eq!(desk.finish(&fixture).await?, first);
    assert_eq!(fixture.simulator.published().len(), 1);
    Ok(())
}

/// Media the API cannot use fails at once, before anything is published.
#[tokio::test]
async fn unusable_media_fails_for_good() -> TestResult {
    let fixture = Fixture::start().await?;
    let desk = Desk::new("https://cdn.example/shoes.gif");
    let error = desk.finish(&fixture).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Permanent);
    assert_eq!(fixture.simulator.counters().publications, 0);
    Ok(())
}

/// A post without its permalink is still published; it must not be reported as failed.
#[tokio::test]
async fn unreadable_permalink_does_not_fail_a_published_post() -> TestResult {
    let fixture = Fixture::start().await?;
    let fault = Fault::error(500, 2).on(Operation::Permalink);
    fixture.simulator.arm(fault);
    let post = Desk::shoes().finish(&fixture).await?;
    assert!(post.media_id.is_some());
    assert_eq!(post.permalink, None);
    Ok(())
}

/// A container that never gets ready is given up, and the next attempt starts over.
#[tokio::test]
async fn stuck_container_is_replaced() -> TestResult {
    let fixture = Fixture::with(SimulatorOptions::new().polls(5), Duration::from_secs(10)).await?;
    let desk = Desk::shoes();
    let error = loop {
        match desk.run(&fixture).await {
            Ok(Step::Wait) => {}
            Ok(Step::Published(post)) => panic!("published too early: {post:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PublishError::NeverReady { waits: 3, .. }));
    assert_eq!(desk.0.lock().unwrap().publication, None);
    Ok(())
}

/// Kinds of posts that this worker does not publish fail with their name.
#[tokio::test]
async fn unsupported_kinds_fail_for_good() -> TestResult {
    let fixture = Fixture::start().await?;
    let desk = Desk::shoes();
    desk.0.lock().unwrap().media_type = serde_json::from_value(json!("REELS"))?;
    let error = desk.finish(&fixture).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Permanent);
    assert!(error.to_string().contains("REELS"));
    Ok(())
}
