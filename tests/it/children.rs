//! Children that have failed, that are removed, or that cannot be read.

use futures::TryStreamExt as _;
use oxbull::{
    AddOutcome, BlockingReason, ChildPolicy, Error, FlowJob, FlowLimits, FlowProducer, JobId,
    JobKey, JobOptions, JobResult, JobState, ManualWorker, Outcome, Parent,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, TestResult};
use serde_json::json;

fn job(id: &str) -> FlowJob {
    FlowJob::new("q", id, &json!({})).options(JobOptions::new().id(id))
}

fn key(id: &str) -> JobKey {
    JobKey::new("bull:q", &JobId::existing(id))
}

/// A running parent that adds its children each time it runs does not wait again for those that have failed already,
/// and that it goes on without.
#[tokio::test]
async fn child_that_has_failed_is_not_waited_for_again() -> TestResult {
    for policy in [
        ChildPolicy::Ignore,
        ChildPolicy::ContinueParent,
        ChildPolicy::Remove,
    ] {
        let fixture = Fixture::start().await?;
        let producer = FlowProducer::new(&fixture.client);
        producer.add(&job("par").child(policy, job("kid"))).await?;
        let worker = ManualWorker::new(&fixture.client, "q")?;
        let kid = worker.fetch("t").await?.ok_or("the child waits")?;
        let failed: JobResult<()> = Err(oxbull::JobError::fatal("no"));
        worker.finish(&kid, "t", failed).await?;
        let par = worker.fetch("t").await?.ok_or("the parent is released")?;
        assert_eq!(par.id.as_str(), "par");
        let options = JobOptions::new().id("kid");
        let options =
            options.parent(Parent::new("bull:q", JobId::existing("par")).on_failure(policy));
        let added = fixture.queue.add_with("kid", &json!({}), options).await?;
        assert_eq!(added.outcome, AddOutcome::Duplicate);
        let again = job("kid").under(policy, "bull:q", JobId::existing("par"));
        assert_eq!(producer.add(&again).await?.outcome, AddOutcome::Duplicate);
        let counts = fixture.queue.dependency_counts("par").await?;
        assert_eq!(counts.unprocessed, 0, "{policy:?}");
        worker.finish(&par, "t", Ok(Outcome::Done(1))).await?;
    }
    Ok(())
}

/// A removal of very many children that was stopped half way is completed by the next one: no child is left that
/// nobody knows.
#[tokio::test]
async fn stopped_removal_of_children_is_completed() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    let leaves = (0..3_000).map(|n| FlowJob::new("q", "leaf", &n));
    let middle = job("middle").children(ChildPolicy::Wait, leaves);
    let flow = job("root").child(ChildPolicy::Wait, middle);
    FlowProducer::new(&fixture.client).add(&flow).await?;
    let some_are_gone = async {
        while queue.counts().await?.waiting == 3_000 {}
        Ok::<_, Error>(())
    };
    tokio::select! {
        removed = queue.remove_unprocessed_children("root") => return Err(format!("it was not stopped: {removed:?}").into()),
        gone = some_are_gone => gone?,
    }
    let left = queue.counts().await?.waiting;
    assert!(left > 0);
    queue.remove_unprocessed_children("root").await?;
    let counts = queue.counts().await?;
    assert_eq!((counts.waiting, counts.waiting_children), (1, 0));
    assert_eq!(queue.state("root").await?, Some(JobState::Waiting));
    assert_eq!(queue.job("middle").await?, None);
    Ok(())
}

/// A job of a flow whose keys cannot be read hides no other.
#[tokio::test]
async fn odd_keys_hide_no_other_job_of_a_flow() -> TestResult {
    let fixture = Fixture::start().await?;
    let flow = job("par").children(ChildPolicy::Wait, ["a", "b", "c"].map(job));
    FlowProducer::new(&fixture.client).add(&flow).await?;
    fixture
        .server
        .cli(&["SET", "bull:q:a:processed", "x"])
        .await?;
    fixture.server.cli(&["DEL", "bull:q:b"]).await?;
    fixture.server.cli(&["SET", "bull:q:b", "x"]).await?;
    let flow = fixture
        .queue
        .flow("par", FlowLimits::new())
        .await?
        .ok_or("it is there")?;
    let problems: Vec<_> = ["a", "b", "c"]
        .map(|id| {
            let node = flow.children.iter().find(|node| node.key == key(id));
            let job = node.and_then(|node| node.job.as_ref());
            job.map(|job| {
                job.problems
                    .iter()
                    .map(|problem| problem.split(':').next().unwrap_or("").to_owned())
                    .collect::<Vec<_>>()
            })
        })
        .into();
    let named = |names: &[&str]| {
        Some(
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        problems,
        [named(&["processed"]), named(&["hash"]), named(&[])]
    );
    // A tree is no deeper than its reader can bear, a circle neither.
    let deep = fixture
        .queue
        .flow("par", FlowLimits::new().depth(1_001))
        .await;
    assert!(matches!(deep, Err(Error::Invalid { .. })), "{deep:?}");
    Ok(())
}

/// What is read of flows can be shown by a dashboard, under the names of jobs and counts elsewhere.
#[tokio::test]
async fn flows_and_blocked_parents_serialize() -> TestResult {
    let fixture = Fixture::start().await?;
    let flow = job("par").child(ChildPolicy::Wait, job("kid"));
    FlowProducer::new(&fixture.client).add(&flow).await?;
    let flow = fixture.queue.flow("par", FlowLimits::new()).await?;
    let shown = json!(flow);
    assert_eq!(shown["key"], "bull:q:par");
    assert_eq!(shown["counts"]["unprocessed"], 1);
    let kid = &shown["children"][0];
    assert_eq!(
        (&kid["kind"], &kid["job"]["name"]),
        (&json!("unprocessed"), &json!("kid"))
    );
    fixture.server.cli(&["DEL", "bull:q:kid"]).await?;
    let blocked = fixture
        .queue
        .blocked_parents()
        .next()
        .await
        .ok_or("par")??;
    let child = json!({ "key": "bull:q:kid", "reason": "missing" });
    let expected = json!({ "id": "par", "pending": 1, "children": [child], "truncated": false });
    assert_eq!(json!(blocked), expected);
    Ok(())
}

/// A child that is in no state never ends: it blocks its parent as a missing one does. Those in any other place do not.
#[tokio::test]
async fn children_in_no_state_block_their_parents() -> TestResult {
    let fixture = Fixture::start().await?;
    let waits = |id: &str| JobOptions::new().id(id);
    let flow = job("par")
        .children(
            ChildPolicy::Wait,
            [
                "lost",
                "in-active",
                "in-wait",
                "in-paused",
                "kept",
                "broken",
            ]
            .map(job),
        )
        .child(
            ChildPolicy::Wait,
            FlowJob::new("q", "n", &1).options(waits("in-prioritized").priority(1)),
        )
        .child(
            ChildPolicy::Wait,
            FlowJob::new("q", "n", &1).options(waits("in-delayed").delay(DEADLINE)),
        )
        .child(
            ChildPolicy::Wait,
            FlowJob::new("other", "n", &1).options(waits("away")),
        )
        .child(
            ChildPolicy::Wait,
            FlowJob::new("other", "n", &1).options(waits("lost")),
        )
        .child(
            ChildPolicy::Wait,
            job("inner").child(ChildPolicy::Wait, job("low")),
        );
    FlowProducer::new(&fixture.client).add(&flow).await?;
    for id in ["lost", "in-active", "in-paused", "kept", "broken"] {
        fixture
            .server
            .cli(&["LREM", "bull:q:wait", "1", id])
            .await?;
    }
    fixture
        .server
        .cli(&["LREM", "bull:other:wait", "1", "lost"])
        .await?;
    fixture
        .server
        .cli(&["LPUSH", "bull:q:active", "in-active"])
        .await?;
    fixture
        .server
        .cli(&["LPUSH", "bull:q:paused", "in-paused"])
        .await?;
    // A producer that is adding a flow holds one; another died long ago.
    let now = fixture.client.clock().now().as_millis().to_string();
    fixture
        .server
        .cli(&["HSET", "bull:q:kept", "hold", &now])
        .await?;
    fixture
        .server
        .cli(&["HSET", "bull:q:broken", "hold", "1"])
        .await?;
    let blocked = fixture.queue.blocked_parents().into_stream();
    let blocked: Vec<_> = blocked.try_collect().await?;
    assert_eq!(blocked.len(), 1, "{blocked:?}");
    assert_eq!((blocked[0].id.as_str(), blocked[0].pending), ("par", 11));
    let mut lost: Vec<_> = blocked[0].children.iter().collect();
    lost.sort_by(|a, b| a.key.cmp(&b.key));
    let shown: Vec<_> = lost
        .iter()
        .map(|child| (child.key.as_str(), child.reason))
        .collect();
    let reason = BlockingReason::Stateless;
    assert_eq!(
        shown,
        [
            ("bull:other:lost", reason),
            ("bull:q:broken", reason),
            ("bull:q:lost", reason)
        ]
    );
    Ok(())
}

/// One parent that cannot be read costs the walk no other.
#[tokio::test]
async fn parents_that_cannot_be_read_hide_no_other() -> TestResult {
    let fixture = Fixture::start().await?;
    for (parent, child) in [("a", "a1"), ("b", "b1"), ("c", "c1")] {
        let child = FlowJob::new(child, "n", &1).options(JobOptions::new().id(child));
        let flow = job(parent).child(ChildPolicy::Wait, child);
        FlowProducer::new(&fixture.client).add(&flow).await?;
    }
    for command in [
        vec!["SET", "bull:q:a:dependencies", "odd"],
        vec!["DEL", "bull:b1:wait"],
        vec!["SET", "bull:b1:failed", "odd"],
        vec!["SET", "bull:b1:wait", "odd"],
        vec!["DEL", "bull:c1:c1"],
    ] {
        fixture.server.cli(&command).await?;
    }
    let blocked = fixture.queue.blocked_parents().into_stream();
    let blocked: Vec<_> = blocked.try_collect().await?;
    let mut shown: Vec<_> = blocked
        .iter()
        .map(|parent| {
            (
                parent.id.as_str(),
                parent.children.first().map(|child| child.reason),
            )
        })
        .collect();
    shown.sort_by_key(|(id, _)| *id);
    let (lost, missing) = (BlockingReason::Stateless, BlockingReason::Missing);
    assert_eq!(
        shown,
        [("a", None), ("b", Some(lost)), ("c", Some(missing))]
    );
    Ok(())
}
