//! Large flows are removed in steps: what other clients do between two of them.

use oxbull::{Error, JobId, Outcome, Refusal};
use oxbull_testkit::TestResult;
use oxbull_testkit::Value as Reply;

use crate::bounded::{JOB, MeteredQueue};

/// A parent and its children, which wait.
async fn flow(bench: &MeteredQueue, children: usize) -> TestResult<JobId> {
    let all = format!(
        "local id = 'k' .. i {JOB} redis.call('HSET', B .. id, 'parentKey', B .. 'par')
        redis.call('LPUSH', B .. 'wait', id) redis.call('SADD', B .. 'par:dependencies', B .. id)"
    );
    bench.fill(children, &all).await?;
    let parent =
        format!("local id = 'par' {JOB} redis.call('ZADD', B .. 'waiting-children', 1, id)");
    bench.fill(1, &parent).await?;
    Ok(JobId::new("par")?)
}

/// One step of the removal; returns what the next one begins with, or nothing at the end.
async fn step(bench: &MeteredQueue, from: &[String]) -> TestResult<Vec<String>> {
    let args = ["par", "1"]
        .into_iter()
        .chain(from.iter().map(String::as_str));
    let args: Vec<&str> = args.collect();
    Ok(bench
        .script("remove_job", &["bull:q:"], &args)
        .await?
        .texts())
}

/// All locks are looked at before anything is deleted, however many children there are.
#[tokio::test]
async fn large_flow_with_a_locked_child_is_left_whole() -> TestResult {
    let bench = MeteredQueue::start().await?;
    let parent = flow(&bench, 12_000).await?;
    let job = bench
        .worker
        .fetch("token")
        .await?
        .ok_or("nothing to start")?;
    let refused = bench.queue.remove(&parent).await;
    assert!(
        matches!(&refused, Err(Error::Refused { job, source: Refusal::Locked, .. }) if *job == parent),
        "{refused:?}"
    );
    let counts = bench.queue.counts().await?;
    assert_eq!((counts.waiting, counts.waiting_children), (11_999, 1));
    assert_eq!(
        bench
            .server
            .int(&["SCARD", "bull:q:par:dependencies"])
            .await?,
        12_000
    );
    bench
        .worker
        .finish(&job, "token", Ok(Outcome::Done(1)))
        .await?;
    assert!(bench.queue.remove(&parent).await?);
    // What stays is the name of the queue's events and settings.
    let keys = bench.server.cli(&["KEYS", "bull:q:*"]).await?.texts();
    assert!(
        keys.iter()
            .all(|key| !key.contains(":k") && !key.contains(":par")),
        "{keys:?}"
    );
    Ok(())
}

/// A child that a worker starts after the locks were looked at runs to its end; nothing starts the
/// parent, whatever its children do.
#[tokio::test]
async fn child_started_while_its_flow_is_removed_is_left_to_its_worker() -> TestResult {
    let bench = MeteredQueue::start().await?;
    let parent = flow(&bench, 400).await?;
    let mut next = step(&bench, &[]).await?;
    assert_eq!(next, ["remove", "bull:q:par", "waiting-children"]);
    let (mut started, mut states) = (Vec::new(), Vec::new());
    while !next.is_empty() {
        if let Some(job) = bench.worker.fetch("token").await? {
            started.push(job);
        }
        states.push(bench.queue.state(&parent).await?);
        next = step(&bench, &next).await?;
    }
    assert!(started.len() > 2, "{}", started.len());
    assert!(states.iter().all(Option::is_none), "{states:?}");
    assert_eq!(bench.queue.counts().await?.active, started.len() as u64);
    assert_eq!(bench.queue.counts().await?.waiting, 0);
    for job in &started {
        bench
            .worker
            .finish(job, "token", Ok(Outcome::Done(1)))
            .await?;
    }
    assert_eq!(bench.queue.counts().await?.completed, started.len() as u64);
    assert!(bench.queue.job(&parent).await?.is_none());
    let left = bench.server.cli(&["KEYS", "bull:q:par*"]).await?.texts();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A removal of a flow may stop half way; the next one continues.
#[tokio::test]
async fn removal_that_ended_half_way_is_taken_up() -> TestResult {
    let bench = MeteredQueue::start().await?;
    let parent = flow(&bench, 400).await?;
    let first = step(&bench, &[]).await?;
    let second = step(&bench, &first).await?;
    assert!(!second.is_empty());
    // An answer that comes too late: the step is made again.
    step(&bench, &first).await?;
    assert!(bench.queue.remove(&parent).await?);
    assert_eq!(bench.queue.counts().await?.waiting, 0);
    let left = bench.server.cli(&["KEYS", "bull:q:k*"]).await?;
    assert_eq!(left, Reply::Array(Vec::new()));
    Ok(())
}
