//! Pages of jobs, counts, settings and ends that BullMQ shows otherwise, or not at all.

use std::time::Duration;

use oxbull::inspect::{JobOrder, MetricKind};
use oxbull::{Error, JobError, JobOptions, JobOutcome, JobState, ManualWorker, Outcome};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::{ids, texts};

const WAITING: [JobState; 1] = [JobState::Waiting];

async fn add(fixture: &Fixture, ids: &[&str]) -> TestResult {
    for id in ids {
        let options = JobOptions::new().id(*id);
        fixture.queue.add_with("job", &json!({}), options).await?;
    }
    Ok(())
}

/// A page of what is gone says so, instead of being silently short.
#[tokio::test]
async fn pages_name_what_is_missing() -> TestResult {
    let fixture = Fixture::start().await?;
    add(&fixture, &["a", "b", "c"]).await?;
    fixture.server.cli(&["DEL", "bull:q:b"]).await?;
    let page = fixture
        .queue
        .jobs(WAITING, 0..2, JobOrder::Ascending)
        .await?;
    assert_eq!(
        (ids(&page.jobs), texts(&page.missing), page.total),
        (vec!["a"], vec!["b"], 3)
    );
    let shown = serde_json::to_value(&page)?;
    assert_eq!(shown["jobs"][0]["state"], "waiting");
    assert_eq!(shown["jobs"][0]["name"], "job");
    assert_eq!(shown["missing"], json!(["b"]));
    let none = fixture.queue.jobs([], .., JobOrder::Ascending).await?;
    assert_eq!((none.jobs.len(), none.total), (0, 0));
    Ok(())
}

/// Jobs that BullMQ 5 has parked run before those that wait, and are waiting as their state says.
#[tokio::test]
async fn parked_jobs_are_listed_in_front_of_those_that_wait() -> TestResult {
    let fixture = Fixture::start().await?;
    add(&fixture, &["1a", "2b", "3c"]).await?;
    let queue = &fixture.queue;
    fixture
        .server
        .cli(&["RENAME", "bull:q:wait", "bull:q:paused"])
        .await?;
    fixture
        .server
        .cli(&["RPUSH", "bull:q:paused", "0:0"])
        .await?;
    add(&fixture, &["4d", "5e"]).await?;
    fixture
        .server
        .cli(&["RPUSH", "bull:q:wait", "0:17"])
        .await?;
    let listed = async |range: std::ops::RangeInclusive<i64>, order| {
        let ids = queue.job_ids(WAITING, range, order).await?;
        TestResult::Ok(texts(&ids).join(" "))
    };
    let all = i64::MIN..=-1;
    assert_eq!(
        listed(all.clone(), JobOrder::Ascending).await?,
        "1a 2b 3c 4d 5e"
    );
    assert_eq!(listed(all, JobOrder::Descending).await?, "5e 4d 3c 2b 1a");
    assert_eq!(listed(2..=3, JobOrder::Ascending).await?, "3c 4d");
    assert_eq!(listed(1..=2, JobOrder::Descending).await?, "4d 3c");
    assert_eq!(listed(-1..=-1, JobOrder::Ascending).await?, "5e");
    let counts = queue.counts().await?;
    assert_eq!((counts.waiting, counts.pending()), (5, 5));
    assert_eq!(queue.counts_by_priority([0]).await?[&0], 5);
    let page = queue.jobs(WAITING, .., JobOrder::Ascending).await?;
    assert_eq!((page.jobs.len(), page.missing.len(), page.total), (5, 0, 5));
    // The signals of old versions are still there: reading changes nothing.
    assert_eq!(fixture.server.int(&["LLEN", "bull:q:wait"]).await?, 3);
    assert_eq!(fixture.server.int(&["LLEN", "bull:q:paused"]).await?, 4);
    Ok(())
}

/// What others stored, or broke, is listed with what is wrong; the other jobs are listed too.
#[tokio::test]
async fn odd_jobs_are_listed_with_their_problems() -> TestResult {
    let fixture = Fixture::start().await?;
    add(&fixture, &["good", "text", "json", "number"]).await?;
    for command in [
        &["DEL", "bull:q:text"][..],
        &["SET", "bull:q:text", "no hash"],
        &[
            "HSET",
            "bull:q:json",
            "data",
            "{no",
            "opts",
            "[",
            "parent",
            "7",
        ],
        &["HSET", "bull:q:number", "timestamp", "soon", "ats", "many"],
    ] {
        fixture.server.cli(command).await?;
    }
    let page = fixture.queue.jobs(WAITING, .., JobOrder::Ascending).await?;
    assert_eq!(ids(&page.jobs), ["good", "text", "json", "number"]);
    let problems: Vec<usize> = page.jobs.iter().map(|one| one.job.problems.len()).collect();
    assert_eq!((problems[0], problems[1], problems[3]), (0, 1, 2));
    assert!(page.jobs[1].job.problems[0].starts_with("hash: "));
    assert!(problems[2] >= 2, "{:?}", page.jobs[2].job.problems);
    assert_eq!(serde_json::to_value(&page)?["jobs"][2]["data"], "{no");
    Ok(())
}

/// What makes no sense is refused by name, before Redis is asked.
#[tokio::test]
async fn bad_ranges_and_priorities_are_refused() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    let reversed = std::ops::Bound::Included(5);
    let reversed = (reversed, std::ops::Bound::Included(3));
    for error in [
        queue
            .jobs(WAITING, reversed, JobOrder::Ascending)
            .await
            .unwrap_err(),
        queue
            .job_ids(WAITING, reversed, JobOrder::Ascending)
            .await
            .unwrap_err(),
        queue
            .metrics(MetricKind::Failed, reversed)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            "range must not end at 3, before it begins at 5"
        );
    }
    let error = queue.counts_by_priority([1, 2_097_152]).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("priority must be between 0 and"),
        "{error}"
    );
    let error = queue.counts_by_priority(0..=1_000).await.unwrap_err();
    assert!(
        error.to_string().starts_with("priorities must not"),
        "{error}"
    );
    assert!(queue.counts_by_priority([]).await?.is_empty());
    Ok(())
}

/// Any value pauses a queue, which BullMQ's `getMeta` does not show; numbers that are none are named.
#[tokio::test]
async fn settings_show_what_holds() -> TestResult {
    let fixture = Fixture::start().await?;
    let settings = fixture.queue.settings().await?;
    assert_eq!(
        (settings.paused, settings.max_events),
        (false, Some(10_000))
    );
    assert!(
        settings
            .version
            .is_some_and(|version| version.starts_with("oxbull:"))
    );
    let odd = [
        "paused",
        "0",
        "concurrency",
        "1.5",
        "max",
        "ten",
        "duration",
        "7",
        "new",
        "x",
    ];
    let command = [&["HSET", "bull:q:meta"], &odd[..]].concat();
    fixture.server.cli(&command).await?;
    let settings = fixture.queue.settings().await?;
    assert!(settings.paused && fixture.queue.is_paused().await?);
    assert_eq!((settings.concurrency, settings.rate_limit), (Some(2), None));
    assert_eq!(settings.unknown["new"], "x");
    assert_eq!(settings.problems, ["max: is not a number"]);
    Ok(())
}

/// One question says whether a job has ended, and with what.
#[tokio::test]
async fn end_of_a_job_comes_with_its_value() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    add(&fixture, &["good", "bad", "none"]).await?;
    assert_eq!(queue.ended::<Value>("good").await?, None);
    let missing = queue.ended::<Value>("gone").await;
    assert!(matches!(missing, Err(Error::JobMissing(id)) if id.as_str() == "gone"));
    assert!(matches!(
        queue.ended::<Value>("meta").await,
        Err(Error::Invalid { .. })
    ));
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let end = async |result| {
        let job = worker.fetch("t").await?.ok_or("no job")?;
        worker.finish(&job, "t", result).await?;
        TestResult::Ok(())
    };
    end(Ok(Outcome::Done(json!({ "r": 1 })))).await?;
    end(Err(JobError::fatal("nope"))).await?;
    end(Ok(Outcome::Done(Value::Null))).await?;
    let completed = queue.ended::<Value>("good").await?;
    assert_eq!(completed, Some(JobOutcome::Completed(json!({ "r": 1 }))));
    let failed = queue.ended::<Value>("bad").await?;
    assert_eq!(
        failed,
        Some(JobOutcome::Failed {
            reason: "nope".to_owned()
        })
    );
    assert_eq!(
        queue.ended::<()>("none").await?,
        Some(JobOutcome::Completed(()))
    );
    let wrong = queue.ended::<u32>("good").await;
    assert!(matches!(wrong, Err(Error::Decode { .. })));
    Ok(())
}

/// A log of any length is read in steps.
#[tokio::test]
async fn long_logs_are_read_whole() -> TestResult {
    let fixture = Fixture::start().await?;
    add(&fixture, &["a"]).await?;
    let mut command = vec!["RPUSH".to_owned(), "bull:q:a:logs".to_owned()];
    command.extend((0..2_500).map(|row| row.to_string()));
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    fixture.server.cli(&command).await?;
    let before = fixture.calls("lrange").await?;
    let logs = fixture.queue.logs("a", 0, -1).await?;
    assert_eq!((logs.rows.len(), logs.total), (2_500, 2_500));
    assert_eq!(
        (logs.rows[999].as_str(), logs.rows[2_499].as_str()),
        ("999", "2499")
    );
    assert_eq!(fixture.calls("lrange").await? - before, 3);
    let newest = fixture.queue.newest_logs("a", 1, 2).await?;
    assert_eq!(
        (newest.rows.as_slice(), newest.total),
        (["2498".to_owned(), "2497".to_owned()].as_slice(), 2_500)
    );
    Ok(())
}

/// What is due is counted by the time that the caller chooses.
#[tokio::test]
async fn delayed_jobs_are_counted_by_their_time() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    let now = fixture.client.clock().now();
    fixture.client.clock().set(now);
    for seconds in [10, 10, 60] {
        let later = JobOptions::new().delay(Duration::from_secs(seconds));
        queue.add_with("later", &json!({}), later).await?;
    }
    for (seconds, count) in [(0, 0), (10, 0), (11, 2), (61, 3), (u64::MAX / 1000, 3)] {
        let time = now + Duration::from_secs(seconds);
        assert_eq!(queue.delayed_before(time).await?, count, "{seconds}");
    }
    Ok(())
}
