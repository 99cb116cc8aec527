//! Numbers for Prometheus.

use std::time::Duration;

use oxbull::inspect::Exporter;
use oxbull::{Error, JobOptions, Queue};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

/// Several queues make one text: each metric is described once, and every line has its queue.
#[tokio::test]
async fn several_queues_make_one_text() -> TestResult {
    let fixture = Fixture::start().await?;
    let other: Queue<u32> = Queue::open(&fixture.client, "o\"ther").await?;
    let clock = fixture.client.clock();
    clock.set(clock.now());
    fixture.queue.add("a", &json!({})).await?;
    let soon = JobOptions::new().delay(Duration::from_secs(10));
    fixture.queue.add_with("b", &json!({}), soon).await?;
    other.pause().await?;
    clock.advance(Duration::from_millis(12_500));
    let exporter = Exporter::new()
        .queue(&fixture.queue)
        .queue(&other)
        .label("env", "a\\b\n\"c\"");
    let text = exporter.render().await?;
    for (line, times) in [
        (
            "# HELP bullmq_job_count Number of jobs in the queue by state",
            1,
        ),
        ("# TYPE bullmq_job_completed_total counter", 1),
        (
            r#"bullmq_job_count{queue="q", state="waiting", env="a\\b\n\"c\""} 1"#,
            1,
        ),
        (
            r#"bullmq_job_count{queue="o\"ther", state="waiting", env="a\\b\n\"c\""} 0"#,
            1,
        ),
        (
            r#"oxbull_queue_oldest_wait_seconds{queue="q", env="a\\b\n\"c\""} 12.5"#,
            1,
        ),
        (
            r#"oxbull_queue_schedule_lag_seconds{queue="q", env="a\\b\n\"c\""} 2.5"#,
            1,
        ),
        (
            r#"oxbull_queue_paused{queue="o\"ther", env="a\\b\n\"c\""} 1"#,
            1,
        ),
        (r#"oxbull_queue_workers{queue="q", env="a\\b\n\"c\""} 0"#, 1),
    ] {
        assert_eq!(
            text.lines().filter(|other| *other == line).count(),
            times,
            "{line}\n{text}"
        );
    }
    let described: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert_eq!(described.len(), 7);
    // Every line is of the metric that was described last, as the format asks for.
    let mut current = "";
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(described) => current = described.split(' ').next().unwrap_or_default(),
            None if line.starts_with('#') => {}
            None => assert!(line.starts_with(&format!("{current}{{")), "{line}"),
        }
    }
    assert!(!text.ends_with('\n'));
    Ok(())
}

/// Numbers that could not be told apart are refused, and so are labels that Prometheus does not take.
#[tokio::test]
async fn bad_labels_and_equal_names_are_refused() -> TestResult {
    let fixture = Fixture::start().await?;
    let exporter = || Exporter::new().queue(&fixture.queue);
    for bad in ["", "1a", "a-b", "__x", "queue", "state", "ä"] {
        let error = exporter().label(bad, "x").render().await;
        assert!(
            matches!(error, Err(Error::Invalid { field: "label", .. })),
            "{bad}"
        );
    }
    assert!(
        exporter()
            .label("a", "1")
            .label("a", "2")
            .render()
            .await
            .is_err()
    );
    let twin: Queue<Value> = Queue::builder(&fixture.client, "q")
        .prefix("other")
        .open()
        .await?;
    assert!(exporter().queue(&twin).render().await.is_err());
    assert_eq!(Exporter::new().render().await?, "");
    Ok(())
}
