//! What parents see of their children, and what separates them.

use std::collections::BTreeSet;

use futures::StreamExt;
use oxbull::testing::TestJob;
use oxbull::{
    BlockingReason, ChildPolicy, Context, DependencyCursor, DependencyKind, DependencyState, Error,
    FlowLimits, FlowNode, Job, JobId, JobKey, JobOptions, JobOutcome, JobResult, JobState,
    ManualWorker, NewJob, Outcome, Parent, Queue, Refusal, Worker,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, TestResult};
use serde_json::{Value, json};

/// A child of `par` for a test, in the fixture's queue.
async fn add_child(fixture: &Fixture, id: &str, policy: ChildPolicy) -> TestResult {
    let parent = Parent::new("bull:q", JobId::existing("par")).on_failure(policy);
    let options = JobOptions::new().id(JobId::new(id)?).parent(parent);
    fixture.queue.add_with(id, &json!({}), options).await?;
    Ok(())
}

/// Adds the job `par`, and moves it to waiting-children behind the back of the library.
async fn add_waiting_parent(fixture: &Fixture, id: &str) -> TestResult {
    let options = JobOptions::new().id(JobId::new(id)?);
    fixture.queue.add_with("par", &json!({}), options).await?;
    for command in [
        ["LREM", "bull:q:wait", "0", id],
        ["ZADD", "bull:q:waiting-children", "1", id],
    ] {
        fixture.server.cli(&command).await?;
    }
    Ok(())
}

fn key(id: &str) -> JobKey {
    JobKey::new("bull:q", &JobId::existing(id))
}

/// A parent that waits for a step of its own: adds children, waits, and sums up what they return.
async fn sum(job: Job<Value>, context: Context<Queue<Value>>) -> JobResult<u64> {
    if job.data()["waits"] != true {
        for n in 1..=3 {
            let options = JobOptions::new().id(JobId::new(format!("{}-{n}", job.id()))?);
            let (queue, policy) = (context.state(), ChildPolicy::FailParent);
            job.add_child(queue, policy, "part", &json!({ "n": n }), options)
                .await?;
        }
        job.update_data(&json!({ "waits": true })).await?;
        return Ok(Outcome::WaitForChildren);
    }
    let parts = job.children_values::<u64>().await?.into_map()?;
    Ok(Outcome::Done(parts.into_values().sum()))
}

/// The whole way: a running job adds children, waits for them and reads what they returned.
#[tokio::test]
async fn running_parent_adds_children_and_reads_their_results() -> TestResult {
    let fixture = Fixture::start().await?;
    let parts: Queue<Value> = Queue::open(&fixture.client, "parts").await?;
    let double = |job: Job<Value>| async move {
        Ok::<_, std::convert::Infallible>(job.data()["n"].as_u64().unwrap_or(0) * 2)
    };
    let children = Worker::builder(&fixture.client, "parts")
        .start(double)
        .await?;
    let builder = Worker::builder(&fixture.client, "q").state(parts);
    let parents = builder.start(sum).await?;
    let id = fixture.queue.add("sum", &json!({})).await?.id;
    let ended = fixture.queue.wait_for::<u64>(&id, DEADLINE).await?;
    assert_eq!(ended, JobOutcome::Completed(12));
    let record = fixture.job(&id).await?;
    assert_eq!((record.attempts_started, record.attempts_made), (2, 1));
    parents.close().await;
    children.close().await;
    Ok(())
}

/// Children that are added together join one parent; one that is added again is there once.
#[tokio::test]
async fn running_parent_adds_many_children_at_once() -> TestResult {
    let fixture = Fixture::start().await?;
    let add = |job: Job<Value>, context: Context<Queue<Value>>| async move {
        let new = |n| {
            let id = JobId::new(format!("kid-{n}"))?;
            Ok(NewJob::new("kid", json!(n)).options(JobOptions::new().id(id)))
        };
        let jobs = [0, 1, 2, 0]
            .map(new)
            .into_iter()
            .collect::<oxbull::Result<Vec<_>>>()?;
        let added = job
            .add_children(context.state(), ChildPolicy::Ignore, jobs)
            .await?;
        added.into_result()?;
        let parent = job.as_parent();
        let taken = JobOptions::new().parent(parent);
        let refused = job
            .add_child(context.state(), ChildPolicy::Wait, "kid", &json!(9), taken)
            .await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
        Ok::<_, oxbull::JobError>(Outcome::<()>::WaitForChildren)
    };
    let kids: Queue<Value> = Queue::open(&fixture.client, "kids").await?;
    let id = fixture.queue.add("par", &json!({})).await?.id;
    let builder = Worker::builder(&fixture.client, "q").state(kids.clone());
    let worker = builder.start(add).await?;
    oxbull_testkit::eventually(DEADLINE, || async {
        let state = fixture.queue.state(&id).await;
        state.is_ok_and(|state| state == Some(JobState::WaitingChildren))
    })
    .await?;
    worker.close().await;
    assert_eq!(fixture.queue.dependency_counts(&id).await?.unprocessed, 3);
    let kid = kids.job("kid-1").await?.ok_or("the child is there")?;
    let link = kid.parent.ok_or("it has a parent")?;
    assert_eq!((link.id, link.on_failure), (id, ChildPolicy::Ignore));
    Ok(())
}

/// What another client stored for one child must not hide the results of the others.
#[tokio::test]
async fn unreadable_result_is_an_error_of_its_child_only() -> TestResult {
    let fixture = Fixture::start().await?;
    add_waiting_parent(&fixture, "par").await?;
    let cut = r#""half \ud83d""#;
    for (child, value) in [
        ("a", "5"),
        ("b", "{x"),
        ("c", "null"),
        ("d", cut),
        ("e", "7"),
    ] {
        let child = format!("bull:q:{child}");
        fixture
            .server
            .cli(&["HSET", "bull:q:par:processed", &child, value])
            .await?;
    }
    let results = fixture.queue.children_values::<u32>("par").await?;
    let bad: Vec<_> = results.failures().map(|(child, _)| child.clone()).collect();
    assert_eq!(bad, ["b", "c", "d"].map(key));
    assert_eq!(results.values().copied().collect::<Vec<_>>(), [5, 7]);
    assert!(matches!(results.get(&key("a")), Some(Ok(5))));
    assert!(results.get(&key("z")).is_none());
    let error = results.into_map().unwrap_err();
    assert!(matches!(error, Error::Decode { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "result of child bull:q:b does not decode"
    );

    // As JSON, all but the one that is none.
    let results = fixture.queue.children_values::<Value>("par").await?;
    assert_eq!(results.failures().count(), 1);
    let half = results
        .get(&key("d"))
        .and_then(|result| result.as_ref().ok());
    assert_eq!(half, Some(&json!("half \u{fffd}")));
    assert!(
        fixture
            .queue
            .children_values::<Value>("nobody")
            .await?
            .is_empty()
    );
    Ok(())
}

/// Pages over very many children find each of them, in every kind; BullMQ's pages of failed ones do not.
#[tokio::test]
async fn pages_find_every_child_of_every_kind() -> TestResult {
    const MANY: usize = 1000;
    let fixture = Fixture::start().await?;
    let fill = "for i = 1, 1000 do local child = 'bull:q:k' .. i
        redis.call('HSET', 'bull:q:par:processed', child, i) redis.call('SADD', 'bull:q:par:dependencies', child)
        redis.call('ZADD', 'bull:q:par:unsuccessful', i, child) redis.call('HSET', 'bull:q:par:failed', child, 'r' .. i)
        end";
    fixture.server.cli(&["EVAL", fill, "0"]).await?;
    let all = MANY as u64;
    let counts = fixture.queue.dependency_counts("par").await?;
    assert_eq!(DependencyKind::ALL.map(|kind| counts.of(kind)), [all; 4]);
    assert_eq!(counts.total(), 4 * all);
    for kind in DependencyKind::ALL {
        let (mut seen, mut pages) = (BTreeSet::new(), 0);
        let mut from = Some(DependencyCursor::START);
        while let Some(cursor) = from {
            let page = fixture
                .queue
                .dependency_page("par", kind, cursor, 50)
                .await?;
            assert!(page.dependencies.len() < 150, "{}", page.dependencies.len());
            seen.extend(page.dependencies.into_iter().map(|found| found.key));
            (from, pages) = (page.next, pages + 1);
        }
        assert!(
            seen.len() == MANY && pages > 5,
            "{kind:?}: {} in {pages}",
            seen.len()
        );
        let walk = fixture.queue.dependencies("par", kind)?.into_stream();
        let walked: BTreeSet<_> = walk
            .map(|found| found.map(|f| f.key))
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect::<oxbull::Result<_>>()?;
        assert_eq!(walked, seen);
    }
    let failed = fixture.queue.failed_children("par").await?;
    assert_eq!(failed[&key("k7")].as_millis(), 7);
    assert_eq!(
        fixture.queue.ignored_failures("par").await?[&key("k7")],
        "r7"
    );
    let none =
        fixture
            .queue
            .dependency_page("par", DependencyKind::Failed, DependencyCursor::START, 0);
    assert!(matches!(none.await, Err(Error::Invalid { .. })));
    let meta = fixture.queue.dependency_counts("meta").await;
    assert!(matches!(meta, Err(Error::Invalid { .. })));
    Ok(())
}

/// What a flow's depth and width hide is told.
#[tokio::test]
async fn flow_tells_what_it_does_not_show() -> TestResult {
    let fixture = Fixture::start().await?;
    add_waiting_parent(&fixture, "par").await?;
    for n in 0..6 {
        add_child(&fixture, &format!("kid-{n}"), ChildPolicy::Wait).await?;
    }
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let job = worker.fetch("t").await?.ok_or("a child waits")?;
    worker.finish(&job, "t", Ok(Outcome::Done(1))).await?;
    let low = Parent::new("bull:q", JobId::existing("kid-5"));
    let low = JobOptions::new().id(JobId::new("low")?).parent(low);
    fixture.queue.add_with("low", &json!({}), low).await?;
    fixture.server.cli(&["DEL", "bull:q:kid-3"]).await?;

    let flow = |limits| fixture.queue.flow("par", limits);
    let whole = flow(FlowLimits::new()).await?.ok_or("it is there")?;
    assert!(!whole.is_truncated());
    assert_eq!(whole.children[0].kind, Some(DependencyKind::Processed));
    assert_eq!(whole.children[0].key, key("kid-0"));
    let child =
        |flow: &FlowNode, id: &str| flow.children.iter().find(|n| n.key == key(id)).cloned();
    let missing = child(&whole, "kid-3").ok_or("named by its parent")?;
    assert_eq!(
        serde_json::to_value(&missing)?,
        json!({
            "key": "bull:q:kid-3",
            "kind": "unprocessed",
            "children": [],
            "counts": { "processed": 0, "unprocessed": 0, "failed": 0, "ignored": 0 },
        })
    );
    assert_eq!(
        (missing.job, missing.kind),
        (None, Some(DependencyKind::Unprocessed))
    );
    let parent = child(&whole, "kid-5").ok_or("a child")?;
    assert_eq!(parent.children[0].key, key("low"));
    assert_eq!(serde_json::to_value(&parent)?["job"]["name"], "kid-5");

    let shallow = flow(FlowLimits::new().depth(2))
        .await?
        .ok_or("it is there")?;
    let parent = child(&shallow, "kid-5").ok_or("a child")?;
    assert!(parent.is_truncated() && parent.children.is_empty());
    let root = flow(FlowLimits::new().depth(1))
        .await?
        .ok_or("it is there")?;
    assert!(root.is_truncated() && root.kind.is_none());
    let counts = (root.counts.processed, root.counts.unprocessed);
    assert_eq!(counts, (1, 5));

    let narrow = flow(FlowLimits::new().max_children(2))
        .await?
        .ok_or("it is there")?;
    assert!(narrow.is_truncated());
    assert_eq!(narrow.children.len(), 3);
    let few = flow(FlowLimits::new().max_jobs(3))
        .await?
        .ok_or("it is there")?;
    assert!(few.is_truncated());
    assert_eq!(few.children.len(), 2);

    assert_eq!(fixture.queue.flow("nobody", FlowLimits::new()).await?, None);
    let none = flow(FlowLimits::new().depth(0)).await;
    assert!(matches!(none, Err(Error::Invalid { .. })));

    // A circle ends at the limits.
    fixture
        .server
        .cli(&["SADD", "bull:q:low:dependencies", "bull:q:par"])
        .await?;
    let mut circle = &flow(FlowLimits::new()).await?.ok_or("it is there")?;
    let mut levels = 1;
    while let Some(next) = circle
        .children
        .iter()
        .max_by_key(|child| child.children.len())
    {
        (circle, levels) = (next, levels + 1);
    }
    assert_eq!(levels, 10);
    Ok(())
}

/// An operator finds the parents that will wait for ever, and why.
#[tokio::test]
async fn parents_that_nothing_releases_are_found() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    for id in ["par", "healthy", "forgotten"] {
        add_waiting_parent(&fixture, id).await?;
    }
    for id in ["kept", "told", "untold", "gone", "fine"] {
        let policy = if id == "told" {
            ChildPolicy::Ignore
        } else {
            ChildPolicy::Wait
        };
        add_child(&fixture, id, policy).await?;
    }
    for id in ["kept", "told"] {
        let job = worker.fetch("t").await?.ok_or("a child waits")?;
        assert_eq!(job.id.as_str(), id);
        let failed: JobResult<()> = Err(oxbull::JobError::fatal("no"));
        worker.finish(&job, "t", failed).await?;
    }
    let server = &fixture.server;
    server
        .cli(&["ZADD", "bull:q:completed", "1", "untold"])
        .await?;
    server.cli(&["DEL", "bull:q:gone"]).await?;
    server
        .cli(&["SADD", "bull:q:healthy:dependencies", "bull:q:fine"])
        .await?;

    let blocked = fixture.queue.blocked_parents().into_stream();
    let blocked: Vec<_> = blocked.collect().await;
    let mut blocked = blocked.into_iter().collect::<oxbull::Result<Vec<_>>>()?;
    blocked.sort_by(|a, b| a.id.cmp(&b.id));
    let ids: Vec<_> = blocked.iter().map(|parent| parent.id.as_str()).collect();
    assert_eq!(ids, ["forgotten", "par"]);
    assert_eq!((blocked[0].pending, blocked[0].children.len()), (0, 0));
    let mut children = blocked[1].children.clone();
    children.sort_by(|a, b| a.key.cmp(&b.key));
    let found: Vec<_> = children
        .into_iter()
        .map(|child| (child.key, child.reason))
        .collect();
    assert_eq!(
        found,
        [
            (key("gone"), BlockingReason::Missing),
            (key("kept"), BlockingReason::Failed),
            (key("untold"), BlockingReason::Completed),
        ]
    );
    assert_eq!((blocked[1].pending, blocked[1].truncated), (4, false));
    let shown = json!({ "id": "forgotten", "pending": 0, "children": [], "truncated": false });
    assert_eq!(serde_json::to_value(&blocked[0])?, shown);
    let missing = json!({ "key": key("gone"), "reason": "missing" });
    let children = serde_json::to_value(&blocked[1].children)?;
    assert!(
        children
            .as_array()
            .is_some_and(|all| all.contains(&missing)),
        "{children}"
    );

    // What its documentation says to do about each frees the parent.
    assert!(fixture.queue.remove_child_dependency("kept").await?);
    assert!(fixture.queue.remove_child_dependency("untold").await?);
    assert_eq!(fixture.queue.remove_unprocessed_children("par").await?, 1);
    assert_eq!(fixture.queue.state("par").await?, Some(JobState::Waiting));
    Ok(())
}

/// Very many blocking children do not fill the memory.
#[tokio::test]
async fn very_many_blocking_children_are_cut_short() -> TestResult {
    let fixture = Fixture::start().await?;
    add_waiting_parent(&fixture, "par").await?;
    let fill =
        "for i = 1, 1000 do redis.call('SADD', 'bull:q:par:dependencies', 'bull:q:k' .. i) end";
    fixture.server.cli(&["EVAL", fill, "0"]).await?;
    let mut walk = fixture.queue.blocked_parents();
    let blocked = walk.next().await.ok_or("the parent is blocked")??;
    assert_eq!(
        (blocked.pending, blocked.children.len(), blocked.truncated),
        (1000, 100, true)
    );
    assert!(walk.next().await.is_none());
    Ok(())
}

/// What cannot be done is refused by name, and changes nothing.
#[tokio::test]
async fn bad_requests_about_children_are_refused() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    add_waiting_parent(&fixture, "par").await?;
    add_child(&fixture, "kid", ChildPolicy::Wait).await?;
    let refusal = |result: oxbull::Result<()>| match result {
        Err(Error::Refused { source, .. }) => Some(source),
        _ => None,
    };
    let unlink = async |id: &str| refusal(queue.remove_child_dependency(id).await.map(drop));
    assert_eq!(unlink("nobody").await, Some(Refusal::JobMissing));
    assert_eq!(unlink("par").await, Some(Refusal::ParentMissing));
    let missing = queue.remove_unprocessed_children("nobody").await.map(drop);
    assert_eq!(refusal(missing), Some(Refusal::JobMissing));
    for id in ["meta", "wait"] {
        let error = queue.remove_unprocessed_children(id).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        let error = queue.remove_child_dependency(id).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }
    // A key of the wrong type fails before the first change.
    fixture
        .server
        .cli(&["RENAME", "bull:q:wait", "aside"])
        .await?;
    fixture.server.cli(&["SET", "bull:q:wait", "odd"]).await?;
    for error in [
        queue
            .remove_child_dependency("kid")
            .await
            .map(drop)
            .unwrap_err(),
        queue
            .remove_unprocessed_children("par")
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert!(matches!(error, Error::Server(_)), "{error:?}");
    }
    fixture
        .server
        .cli(&["RENAME", "aside", "bull:q:wait"])
        .await?;
    assert_eq!(queue.dependency_counts("par").await?.unprocessed, 1);
    assert_eq!(queue.state("kid").await?, Some(JobState::Waiting));
    assert!(fixture.job(&JobId::existing("kid")).await?.parent.is_some());
    Ok(())
}

/// Handlers of parents are tested without Redis.
#[tokio::test]
async fn handlers_of_parents_run_without_redis() -> TestResult {
    let test = TestJob::new(&json!({ "waits": true }))?
        .child_result("bull:parts:1", &40)?
        .child_result("bull:parts:2", &2)?
        .child("bull:parts:3", DependencyState::Ignored("sick".to_owned()))
        .child("bull:parts:4", DependencyState::Unprocessed);
    let job = test.job::<Value>()?;
    let counts = job.dependency_counts().await?;
    assert_eq!(
        (counts.processed, counts.unprocessed, counts.ignored),
        (2, 1, 1)
    );
    assert_eq!(
        job.ignored_failures().await?[&JobKey::from("bull:parts:3")],
        "sick"
    );
    assert!(job.failed_children().await?.is_empty());
    assert_eq!(job.remove_unprocessed_children().await?, 1);
    let page = job
        .dependency_page(DependencyKind::Unprocessed, DependencyCursor::START, 10)
        .await?;
    assert_eq!((page.dependencies.len(), page.next), (0, None));
    assert_eq!(job.as_parent().queue, "bull:test");
    let results = job.children_values::<u64>().await?;
    assert_eq!(results.len(), 2);
    assert_eq!(results.into_map()?.into_values().sum::<u64>(), 42);
    Ok(())
}
