//! V5, V6, V7, V11: what others may have left in Redis, and ids that would overwrite the queue.

use std::collections::BTreeSet;

use oxbull::{Context, Error, Job, JobError, JobId, JobOptions, JobResult, NewJob};

use crate::TestResult;
use crate::check::{Allow, check_queue};
use crate::site::{Effects, Site, Work, work};

/// V5: data or options that do not decode fail their job with the reason, and keep the raw text.
/// The jobs before and after it are not concerned.
#[tokio::test]
async fn corrupt_data_and_options_fail_only_their_job() -> TestResult {
    let site = Site::start().await?;
    let ids = site.add(5, 0).await?;
    let corrupt = [
        (&ids[1], "data", r#"{"ms":"#, "data does not decode"),
        (&ids[2], "opts", r#"{"attempts":3,"#, "opts"),
        (&ids[3], "data", r#"{"ms":"many"}"#, "data does not decode"),
    ];
    for (id, field, text, _) in corrupt {
        site.server
            .cli(&["HSET", &site.key(id.as_str()), field, text])
            .await?;
    }
    let worker = site.worker().concurrency(1).start(work).await?;
    site.drained().await?;
    worker.close().await;
    for (id, field, text, reason) in corrupt {
        let told = site.field(id, "failedReason").await?.unwrap_or_default();
        assert!(told.contains(reason), "{told}");
        assert_eq!(site.field(id, field).await?.as_deref(), Some(text));
        assert!(!site.effects.counts(false).contains_key(id.as_str()));
    }
    let allow = Allow {
        failing: corrupt
            .iter()
            .map(|(id, ..)| id.to_string())
            .collect::<BTreeSet<_>>(),
        ..Allow::default()
    };
    let summary = check_queue(&site, &ids, allow).await?;
    println!("V5 corrupt data and options: {summary}");
    assert_eq!((summary.completed, summary.failed), (2, 3));
    Ok(())
}

async fn fails(job: Job<Work>, context: Context<Effects>) -> JobResult<()> {
    context.state().begin(&job);
    Err(JobError::retry("as always"))
}

/// V6: one odd option does not cost the others: `attempts` counts next to `"delay":1.5`.
#[tokio::test]
async fn odd_option_leaves_the_others_in_force() -> TestResult {
    let site = Site::start().await?;
    let ids = site.add(1, 0).await?;
    let opts = r#"{"attempts":3,"delay":1.5,"someday":{"a":[]}}"#;
    site.server
        .cli(&["HSET", &site.key(ids[0].as_str()), "opts", opts])
        .await?;
    let worker = site.worker().start(fails).await?;
    site.drained().await?;
    worker.close().await;
    assert_eq!(site.effects.starts(), 3);
    assert_eq!(site.field(&ids[0], "opts").await?.as_deref(), Some(opts));
    check_queue(&site, &ids, Allow::default()).await?;
    Ok(())
}

/// V7: an id without a job is dropped: no handler runs, and no hash appears.
#[tokio::test]
async fn id_without_a_hash_is_dropped() -> TestResult {
    let site = Site::start().await?;
    let mut ids = site.add(2, 0).await?;
    site.server
        .cli(&["DEL", &site.key(ids[0].as_str())])
        .await?;
    site.server
        .cli(&["ZADD", &site.key("delayed"), "1", "ghost"])
        .await?;
    site.server
        .cli(&["ZADD", &site.key("prioritized"), "1", "spectre"])
        .await?;
    let gone = ids.remove(0);
    let worker = site.worker().start(work).await?;
    site.drained().await?;
    worker.close().await;
    for id in [gone.as_str(), "ghost", "spectre"] {
        assert_eq!(
            site.server.int(&["EXISTS", &site.key(id)]).await?,
            0,
            "{id}"
        );
        assert!(!site.effects.counts(false).contains_key(id), "{id}");
    }
    let summary = check_queue(&site, &ids, Allow::default()).await?;
    println!("V7 ids without a hash: {summary}");
    assert_eq!(summary.completed, 1);
    Ok(())
}

/// V11: ids that are keys of the queue are refused before anything is sent.
#[tokio::test]
async fn reserved_ids_are_refused_and_the_queue_lives() -> TestResult {
    let site = Site::start().await?;
    let before = site.server.cli(&["KEYS", "*"]).await?;
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
        let added = site.queue.add_with("work", &work, options.clone()).await;
        assert!(
            matches!(added, Err(Error::Invalid { .. })),
            "{id}: {added:?}"
        );
        let many = site
            .queue
            .add_bulk([NewJob::new("work", work).options(options)])
            .await;
        assert!(matches!(many, Err(Error::Invalid { .. })), "{id}: {many:?}");
    }
    assert_eq!(site.server.cli(&["KEYS", "*"]).await?, before);
    let ids = site.add(5, 0).await?;
    let worker = site.worker().start(work).await?;
    site.drained().await?;
    worker.close().await;
    check_queue(&site, &ids, Allow::default()).await?;
    Ok(())
}
