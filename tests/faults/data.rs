//! V5, V6, V7, V11: what others may have left in Redis, and ids that would overwrite the queue.

use oxbull::{Context, Error, Job, JobError, JobId, JobOptions, JobResult, NewJob};
use oxbull_testkit::TestResult;

use crate::check::{Allow, check_queue};
use crate::fixture::{Effects, Fixture, Work, work};

/// V5: data that its handler's type refuses fails its job with the reason, after as many attempts
/// as the job has; options that do not decode fail no job. The raw text stays. The jobs before
/// and after are not concerned.
#[tokio::test]
async fn corrupt_data_and_options_fail_only_their_job() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(5, 0).await?;
    let corrupt = [
        (&ids[1], "data", r#"{"ms":"#, true),
        (&ids[2], "opts", r#"{"attempts":3,"#, false),
        (&ids[3], "data", r#"{"ms":"many"}"#, true),
    ];
    for (id, field, text, _) in corrupt {
        fixture
            .server
            .cli(&["HSET", &fixture.key(id.as_str()), field, text])
            .await?;
    }
    fixture
        .server
        .cli(&[
            "HSET",
            &fixture.key(ids[3].as_str()),
            "opts",
            r#"{"attempts":3}"#,
        ])
        .await?;
    let worker = fixture.worker().concurrency(1).start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    for (id, field, text, fails) in corrupt {
        let reason = fixture.field(id, "failedReason").await?.unwrap_or_default();
        assert_eq!(reason.contains("data does not decode"), fails, "{reason}");
        assert_eq!(fixture.field(id, field).await?.as_deref(), Some(text));
        let ran = fixture.effects.counts(false).contains_key(id.as_str());
        assert_eq!(ran, !fails);
    }
    let made = fixture.field(&ids[3], "atm").await?;
    assert_eq!(made.as_deref(), Some("3"), "its attempts were used");
    let allow = Allow {
        failing: [ids[1].to_string(), ids[3].to_string()].into(),
        ..Allow::default()
    };
    let summary = check_queue(&fixture, &ids, allow).await?;
    println!("V5 corrupt data and options: {summary}");
    assert_eq!((summary.completed, summary.failed), (3, 2));
    Ok(())
}

async fn fails(job: Job<Work>, context: Context<Effects>) -> JobResult<()> {
    context.state().begin(&job);
    Err(JobError::retry("as always"))
}

/// V6: one odd option does not cost the others: `attempts` counts next to `"delay":1.5`.
#[tokio::test]
async fn odd_option_leaves_the_others_in_force() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(1, 0).await?;
    let opts = r#"{"attempts":3,"delay":1.5,"someday":{"a":[]}}"#;
    fixture
        .server
        .cli(&["HSET", &fixture.key(ids[0].as_str()), "opts", opts])
        .await?;
    let worker = fixture.worker().start(fails).await?;
    fixture.drained().await?;
    worker.close().await;
    assert_eq!(fixture.effects.starts(), 3);
    assert_eq!(fixture.field(&ids[0], "opts").await?.as_deref(), Some(opts));
    check_queue(&fixture, &ids, Allow::default()).await?;
    Ok(())
}

/// V7: an id without a job is dropped: no handler runs, and no hash appears.
#[tokio::test]
async fn id_without_a_hash_is_dropped() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut ids = fixture.add(2, 0).await?;
    fixture
        .server
        .cli(&["DEL", &fixture.key(ids[0].as_str())])
        .await?;
    fixture
        .server
        .cli(&["ZADD", &fixture.key("delayed"), "1", "ghost"])
        .await?;
    fixture
        .server
        .cli(&["ZADD", &fixture.key("prioritized"), "1", "spectre"])
        .await?;
    let gone = ids.remove(0);
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    for id in [gone.as_str(), "ghost", "spectre"] {
        assert_eq!(
            fixture.server.int(&["EXISTS", &fixture.key(id)]).await?,
            0,
            "{id}"
        );
        assert!(!fixture.effects.counts(false).contains_key(id), "{id}");
    }
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("V7 ids without a hash: {summary}");
    assert_eq!(summary.completed, 1);
    Ok(())
}

/// V11: ids that are keys of the queue are refused before anything is sent.
#[tokio::test]
async fn reserved_ids_are_refused_and_the_queue_lives() -> TestResult {
    let fixture = Fixture::start().await?;
    let before = fixture.server.cli(&["KEYS", "*"]).await?;
    for id in [
        "wait",
        "active",
        "paused",
        "delayed",
        "prioritized",
        "waiting-children",
        "completed",
        "failed",
        "stalled",
        "stalled-check",
        "meta",
        "events",
        "id",
        "pc",
        "marker",
        "limiter",
        "repeat",
        "de",
        "metrics",
        "priority",
        "metrics:completed:data",
        "repeat:a:b",
        "de:a:b",
        "7",
        "0",
        "",
        "0:1",
        "a:b",
        "x:y:lock",
        "x:y:logs",
    ] {
        assert!(matches!(JobId::new(id), Err(Error::Invalid { .. })), "{id}");
        // An id that was read from somewhere is checked when it is used to add.
        let options = JobOptions::new().id(JobId::existing(id));
        let work = Work { ms: 0 };
        let added = fixture.queue.add_with("work", &work, options.clone()).await;
        assert!(
            matches!(added, Err(Error::Invalid { .. })),
            "{id}: {added:?}"
        );
        let many = fixture
            .queue
            .add_bulk([NewJob::new("work", work).options(options)])
            .await;
        assert!(matches!(many, Err(Error::Invalid { .. })), "{id}: {many:?}");
    }
    assert_eq!(fixture.server.cli(&["KEYS", "*"]).await?, before);
    let ids = fixture.add(5, 0).await?;
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    check_queue(&fixture, &ids, Allow::default()).await?;
    Ok(())
}
