//! Jobs that would wait for themselves: an existing job may become a child of its own descendants.

use oxbull::{
    AddOutcome, ChildPolicy, Error, FlowJob, FlowProducer, JobId, JobOptions, ManualWorker,
    Outcome, Parent, Refusal,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::json;

/// More jobs than one step stores.
const LARGE: usize = 250;

fn job(id: &str) -> FlowJob {
    FlowJob::new("q", id, &json!({})).options(JobOptions::new().id(id))
}

fn parent(id: &str) -> JobOptions {
    JobOptions::new().parent(Parent::new("bull:q", id))
}

/// Whether a call was refused, and for which job.
fn circle<T: std::fmt::Debug>(result: &oxbull::Result<T>) -> Option<&JobId> {
    let error = match result {
        Err(Error::Incomplete { source, .. }) => source,
        Err(error) => error,
        Ok(_) => return None,
    };
    match error {
        Error::Refused {
            job,
            source: Refusal::WaitsForItself,
            ..
        } => Some(job),
        _ => None,
    }
}

/// A job `a` that waits for its child `b`, and a worker for both.
async fn parent_and_child() -> TestResult<(Fixture, ManualWorker)> {
    let fixture = Fixture::start().await?;
    let flow = job("a").child(ChildPolicy::Wait, job("b"));
    FlowProducer::new(&fixture.client).add(&flow).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    Ok((fixture, worker))
}

/// All that Redis has.
async fn all(fixture: &Fixture) -> TestResult<String> {
    let mut all = Vec::new();
    let mut keys = fixture.server.cli(&["KEYS", "bull:*"]).await?.texts();
    keys.sort();
    for key in keys {
        let dump = fixture.server.cli(&["DUMP", &key]).await?;
        all.push(format!("{key} {dump:?}"));
    }
    Ok(all.join("\n"))
}

/// The circle may close over one level or several, over the parent of the root, by the root itself, and over two flows
/// of one call; nothing is written then.
#[tokio::test]
async fn ancestor_is_no_child() -> TestResult {
    let fixture = Fixture::start().await?;
    let producer = FlowProducer::new(&fixture.client);
    let b = job("b").child(ChildPolicy::Wait, job("c"));
    producer.add(&job("a").child(ChildPolicy::Wait, b)).await?;
    producer
        .add(&job("x").child(ChildPolicy::Wait, job("y")))
        .await?;
    fixture
        .add("alone", JobOptions::new().id(JobId::existing("alone")))
        .await?;
    let before = all(&fixture).await?;

    let under = |id: &str, flow: FlowJob| flow.under(ChildPolicy::Wait, "bull:q", id);
    let below = |id: &str, child: &str| under(id, job("p").child(ChildPolicy::Wait, job(child)));
    for (flows, refused) in [
        (vec![below("b", "a")], "a"),
        (vec![below("c", "a")], "a"),
        (vec![under("c", job("a"))], "a"),
        (vec![job("b").child(ChildPolicy::Wait, job("a"))], "a"),
        (
            vec![
                under("y", job("p").child(ChildPolicy::Wait, job("a"))),
                under("c", job("o").child(ChildPolicy::Wait, job("x"))),
            ],
            "a",
        ),
    ] {
        let result = producer.add_many(&flows).await;
        assert_eq!(
            circle(&result),
            Some(&JobId::existing(refused)),
            "{flows:?}: {result:?}"
        );
        assert_eq!(all(&fixture).await?, before);
    }
    for (id, of) in [("a", "b"), ("a", "c"), ("alone", "alone")] {
        let result = fixture
            .queue
            .add_with("n", &json!(1), parent(of).id(JobId::existing(id)))
            .await;
        assert_eq!(
            circle(&result),
            Some(&JobId::existing(id)),
            "{id} below {of}: {result:?}"
        );
        assert_eq!(
            fixture.field(&JobId::existing(id), "parentKey").await?,
            None
        );
    }
    Ok(())
}

/// A running job cannot wait for the job that waits for it.
#[tokio::test]
async fn running_job_does_not_adopt_its_parent() -> TestResult {
    let (fixture, worker) = parent_and_child().await?;
    let b = worker.fetch("t").await?.ok_or("nothing to start")?;
    let options = parent("b").id(JobId::existing("a"));
    let result = fixture.queue.add_with("n", &json!(1), options).await;
    assert!(circle(&result).is_some(), "{result:?}");
    // It still ends, and its parent with it.
    worker.finish(&b, "t", Ok(Outcome::Done(1))).await?;
    let a = worker
        .fetch("t")
        .await?
        .ok_or("the parent is not released")?;
    assert_eq!(a.id, *"a");
    Ok(())
}

/// A link alone waits for nothing: not below a child that has ended, nor above a job that has.
#[tokio::test]
async fn links_that_nobody_waits_for_close_no_circle() -> TestResult {
    let (fixture, worker) = parent_and_child().await?;
    let run = async |id: &str| -> TestResult {
        let job = worker.fetch("t").await?.ok_or("nothing to start")?;
        assert_eq!(job.id, *id);
        worker.finish(&job, "t", Ok(Outcome::Done(1))).await?;
        Ok(())
    };
    run("b").await?;
    let below = |id: &str| {
        let flow = job(id).child(ChildPolicy::Wait, job("a"));
        flow.under(ChildPolicy::Wait, "bull:q", "b")
    };
    let producer = FlowProducer::new(&fixture.client);
    let added = producer.add(&below("p")).await?;
    assert_eq!(added.children[0].outcome, AddOutcome::Duplicate);
    run("a").await?;
    run("p").await?;
    // It has completed: its result is there, and nobody waits.
    producer.add(&below("p")).await?;
    Ok(())
}

/// A large flow has its jobs stored when the circle is seen: the link is left out, and all others run.
#[tokio::test]
async fn large_flow_closes_no_circle() -> TestResult {
    let fixture = Fixture::start().await?;
    let producer = FlowProducer::new(&fixture.client);
    producer
        .add(&job("a").child(ChildPolicy::Wait, job("b")))
        .await?;
    let leaves = (0..LARGE).map(|leaf| job(&format!("k{leaf}")));
    let inner = job("inner").child(ChildPolicy::Wait, job("a"));
    let flow = job("root")
        .children(ChildPolicy::Wait, leaves)
        .child(ChildPolicy::Wait, inner);
    let result = producer
        .add(&flow.under(ChildPolicy::Wait, "bull:q", "b"))
        .await;
    assert_eq!(circle(&result), Some(&JobId::existing("a")), "{result:?}");
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let mut last = JobId::existing("");
    while let Some(job) = worker.fetch("t").await? {
        let outcome = if job.id == *"b" {
            Ok(Outcome::WaitForChildren)
        } else {
            Ok(Outcome::Done(1))
        };
        let outcome = if job.id == *"b" && job.attempts_started > 1 {
            Ok(Outcome::Done(1))
        } else {
            outcome
        };
        worker.finish(&job, "t", outcome).await?;
        last = job.id.clone();
    }
    assert_eq!(last, *"a");
    let counts = fixture.queue.counts().await?;
    assert_eq!(
        (counts.completed, counts.waiting_children),
        (LARGE as u64 + 4, 0)
    );
    Ok(())
}
