//! What producers see of deduplication, and what is checked before anything is sent.

use std::time::Duration;

use oxbull::{
    AddOutcome, Added, Deduplication, Error, JobId, JobOptions, ManualWorker, NewJob, Outcome,
    Parent, Queue, Refusal,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

fn options(id: &str, deduplication: Deduplication) -> JobOptions {
    JobOptions::new()
        .id(JobId::existing(id))
        .deduplication(deduplication)
}

fn key() -> Deduplication {
    Deduplication::new("k")
}

const DELAY: Duration = Duration::from_secs(60);

/// Each outcome of an add is returned, with the other job concerned.
#[tokio::test]
async fn each_add_returns_its_outcome() -> TestResult {
    let fixture = Fixture::start().await?;
    let add = async |id: &str, options: JobOptions| -> TestResult<(String, AddOutcome)> {
        let Added { id, outcome, .. } = fixture.queue.add_with(id, &json!(1), options).await?;
        Ok((id.as_str().to_owned(), outcome))
    };
    let added = |id: &str, outcome| (id.to_owned(), outcome);
    let id = JobId::existing;
    let delayed = options("a", key()).delay(DELAY);
    assert_eq!(
        add("a", delayed.clone()).await?,
        added("a", AddOutcome::Added)
    );
    assert_eq!(add("a", delayed).await?, added("a", AddOutcome::Duplicate));
    assert_eq!(
        add("b", options("b", key())).await?,
        added("a", AddOutcome::Deduplicated)
    );
    assert_eq!(
        add("b", options("b", key().replace())).await?,
        added("b", AddOutcome::Replaced { job: id("a") })
    );
    assert_eq!(
        fixture.job(&id("b")).await?.deduplication_id.as_deref(),
        Some("k")
    );
    let keep = || key().keep_last_if_active();
    assert_eq!(
        add("c", options("c", keep())).await?,
        added("b", AddOutcome::Deduplicated)
    );
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let active = worker.fetch("t").await?.ok_or("no job")?;
    assert_eq!(
        add("c", options("c", keep())).await?,
        added("b", AddOutcome::KeptLast { next: id("c") })
    );
    worker.finish(&active, "t", Ok(Outcome::Done(1))).await?;
    assert_eq!(fixture.job(&id("c")).await?.name, "c");
    assert_eq!(
        add("d", options("d", key())).await?,
        added("c", AddOutcome::Deduplicated)
    );
    Ok(())
}

/// Jobs of one bulk are decided one after the other, each by itself.
#[tokio::test]
async fn bulk_add_mixes_all_outcomes() -> TestResult {
    let fixture = Fixture::start().await?;
    let job = |options| NewJob::new("job", json!(1)).options(options);
    let parent = Parent::new("bull:none", JobId::existing("1"));
    let jobs = [
        job(JobOptions::new()),
        job(options("a", key()).delay(DELAY)),
        job(options("b", key())),
        job(JobOptions::new().parent(parent)),
        job(options("c", key().replace())),
        job(options("c", key())),
        job(options("d", key())),
    ];
    let added: Vec<_> = fixture
        .queue
        .add_bulk(jobs)
        .await?
        .into_iter()
        .map(|added| match added {
            Ok(added) => (added.id.as_str().to_owned(), Ok(added.outcome)),
            Err(Error::Refused { job, source, .. }) => (job.as_str().to_owned(), Err(source)),
            Err(other) => panic!("{other}"),
        })
        .collect();
    let replaced = JobId::existing("a");
    let expected = [
        ("1", Ok(AddOutcome::Added)),
        ("a", Ok(AddOutcome::Added)),
        ("a", Ok(AddOutcome::Deduplicated)),
        ("", Err(Refusal::ParentMissing)),
        ("c", Ok(AddOutcome::Replaced { job: replaced })),
        ("c", Ok(AddOutcome::Duplicate)),
        ("c", Ok(AddOutcome::Deduplicated)),
    ];
    assert_eq!(added, expected.map(|(id, added)| (id.to_owned(), added)));
    assert_eq!(fixture.queue.counts().await?.waiting, 2);
    Ok(())
}

/// What contradicts itself is refused by name, and the queue is as it was.
#[tokio::test]
async fn deduplication_is_checked_before_anything_is_sent() -> TestResult {
    let fixture = Fixture::start().await?;
    let before = fixture.server.cli(&["KEYS", "*"]).await?.texts();
    let new = |deduplication| JobOptions::new().deduplication(deduplication);
    let parent = Parent::new("bull:q", JobId::existing("1"));
    for (field, options) in [
        ("deduplication id", new(Deduplication::new(""))),
        ("deduplication id", new(Deduplication::new("a\0b"))),
        ("deduplication ttl", new(key().ttl(Duration::ZERO))),
        ("deduplication ttl", new(key().ttl(Duration::from_nanos(1)))),
        ("deduplication extend", new(key().extend())),
        ("deduplication", new(key()).parent(parent)),
    ] {
        match fixture.queue.add_with("job", &json!(1), options).await {
            Err(Error::Invalid { field: named, .. }) => assert_eq!(named, field),
            other => return Err(format!("{field}: {other:?}").into()),
        }
    }
    let job = JobId::existing("1");
    assert!(fixture.queue.deduplication_owner("").await.is_err());
    assert!(fixture.queue.release_deduplication("").await.is_err());
    assert!(
        fixture
            .queue
            .release_deduplication_of(&job, "")
            .await
            .is_err()
    );
    assert!(
        fixture
            .queue
            .release_deduplication_of(&JobId::existing(""), "k")
            .await
            .is_err()
    );
    assert_eq!(fixture.server.cli(&["KEYS", "*"]).await?.texts(), before);
    Ok(())
}

/// A queue's default applies where the call sets none, and a call's own goes before it.
#[tokio::test]
async fn default_deduplication_applies_where_the_call_sets_none() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue: Queue<Value> = Queue::builder(&fixture.client, "q")
        .default_options(JobOptions::new().deduplication(key()))
        .open()
        .await?;
    queue.add("a", &json!(1)).await?;
    assert_eq!(
        queue.add("b", &json!(1)).await?.outcome,
        AddOutcome::Deduplicated
    );
    let own = JobOptions::new().deduplication(Deduplication::new("own"));
    assert_eq!(
        queue.add_with("c", &json!(1), own).await?.outcome,
        AddOutcome::Added
    );
    Ok(())
}

/// Who owns an id, for how long, and freeing it by hand, for any owner or for one only.
#[tokio::test]
async fn owners_are_named_and_ids_freed() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    assert_eq!(queue.deduplication_owner("k").await?, None);
    let a = queue
        .add_with("a", &json!(1), options("a", key()))
        .await?
        .id;
    let owner = queue.deduplication_owner("k").await?.ok_or("free")?;
    assert_eq!((&owner.job, owner.remaining), (&a, None));
    assert!(
        !queue
            .release_deduplication_of(&JobId::existing("b"), "k")
            .await?
    );
    assert!(queue.release_deduplication_of(&a, "k").await?);
    assert!(!queue.release_deduplication_of(&a, "k").await?);
    let timed = options("b", key().ttl(Duration::from_secs(90)));
    queue.add_with("b", &json!(1), timed).await?;
    let owner = queue.deduplication_owner("k").await?.ok_or("free")?;
    let remaining = owner.remaining.ok_or("no limit")?;
    assert!(remaining > Duration::ZERO && remaining <= Duration::from_secs(90));
    assert!(queue.release_deduplication("k").await?);
    assert!(!queue.release_deduplication("k").await?);
    Ok(())
}

/// E9: an owner that vanished does not block its id, and what waited for its end is dropped.
#[tokio::test]
async fn missing_owner_does_not_block_its_id() -> TestResult {
    let fixture = Fixture::start().await?;
    let keep = || key().keep_last_if_active();
    for id in ["a", "b"] {
        let added = fixture
            .queue
            .add_with(id, &json!(1), options(id, keep()))
            .await?;
        assert_eq!(added.outcome, AddOutcome::Added);
        fixture
            .server
            .cli(&["HSET", "bull:q:dn:k", "name", "stray", "jid", "stray"])
            .await?;
        fixture
            .server
            .cli(&["DEL", &format!("bull:q:{id}")])
            .await?;
    }
    let added = fixture
        .queue
        .add_with("c", &json!(1), options("c", key()))
        .await?;
    assert_eq!(added.outcome, AddOutcome::Added);
    assert_eq!(fixture.server.int(&["EXISTS", "bull:q:dn:k"]).await?, 0);
    Ok(())
}

/// Options of a newer version, inside deduplication too, pass through a kept add unharmed.
#[tokio::test]
async fn unknown_options_of_a_kept_add_survive() -> TestResult {
    let fixture = Fixture::start().await?;
    let keep = key().keep_last_if_active();
    fixture
        .queue
        .add_with("own", &json!(1), options("own", keep))
        .await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let own = worker.fetch("t").await?.ok_or("no job")?;
    let opts =
        r#"{"attempts":0,"de":{"id":"k","keepLastIfActive":true,"later":{"n":1}},"new":[1.50]}"#;
    let fields = [
        "name",
        "kept",
        "data",
        "{\"x\": 1}",
        "opts",
        opts,
        "jid",
        "kept",
    ];
    let mut command = vec!["HSET", "bull:q:dn:k"];
    command.extend(fields);
    fixture.server.cli(&command).await?;
    worker.finish(&own, "t", Ok(Outcome::Done(1))).await?;
    let stored = fixture
        .server
        .text(&["HGET", "bull:q:kept", "opts"])
        .await?;
    assert_eq!(stored.as_deref(), Some(opts));
    let kept = fixture.job(&JobId::existing("kept")).await?;
    assert_eq!(kept.problems, Vec::<String>::new());
    let unknown: Value = serde_json::from_str(&kept.unknown_options.ok_or("nothing unknown")?)?;
    assert_eq!(
        unknown,
        json!({ "de": { "later": { "n": 1 } }, "new": [1.5] })
    );
    Ok(())
}
