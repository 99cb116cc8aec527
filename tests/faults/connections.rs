//! B1, C7: connections that are killed and scripts that are forgotten, under load.

use std::time::{Duration, Instant};

use oxbull::JobOptions;
use oxbull_testkit::TestResult;

use crate::check::{Allow, check_queue};
use crate::fixture::{Fixture, Work, work};

/// All connections are killed every 100 ms, and the server forgets its scripts every time. Adds
/// with ids of their own and results survive that; nothing runs twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_and_flushed_scripts_lose_nothing() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = fixture.worker().start(work).await?;
    let from = Instant::now();
    let mut ids = Vec::new();
    let mut kills = 0;
    let mut next = from;
    while from.elapsed() < Duration::from_secs(5) {
        let adds = (0..10).map(|_| {
            fixture
                .queue
                .add_once("work", &Work { ms: 2 }, JobOptions::new())
        });
        for added in futures::future::join_all(adds).await {
            ids.push(added?.id);
        }
        if Instant::now() >= next {
            fixture.server.cli(&["SCRIPT", "FLUSH"]).await?;
            kills += fixture
                .server
                .int(&["CLIENT", "KILL", "TYPE", "normal"])
                .await?;
            next += Duration::from_millis(100);
        }
    }
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!(
        "B1 C7: {kills} connections killed, {} jobs: {summary}",
        ids.len()
    );
    assert_eq!(summary.completed, ids.len());
    assert_eq!((summary.repeated, summary.stalls), (0, 0));
    Ok(())
}
