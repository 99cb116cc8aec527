//! V9 for flows: answers are lost and processes die while a flow is being added. None of its jobs runs twice, none
//! before all of them are stored.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxbull::{
    AddOutcome, ChildPolicy, Error, FlowAdded, FlowJob, FlowProducer, JobId, JobOptions,
    ManualWorker, Queue, Refusal, Retention,
};
use oxbull_testkit::{Command, DEADLINE, Rule, TestResult};

use crate::check::{Allow, check_queue};
use crate::fixture::{Fixture, Work, work};
use crate::scripts::runs;

/// More children than one step stores.
const LARGE: usize = 700;

/// A queue behind a proxy. Server and test know the script: the first answer lost is that of an execution.
async fn proxied() -> TestResult<Fixture> {
    let fixture = Fixture::proxied().await?;
    fixture
        .proxy()
        .add(Rule::delay(Duration::ZERO, runs("add_flow")));
    let first = FlowJob::new("other", "first", &Work { ms: 0 });
    FlowProducer::new(&fixture.client).add(&first).await?;
    fixture.proxy().clear_rules();
    Ok(fixture)
}

/// Accepts the calls of a step; `again` are those that may have been executed before.
fn step(name: &'static str, again: bool) -> impl Fn(&Command) -> bool + Send + Sync + 'static {
    let runs = runs("add_flow");
    move |command| runs(command) && command.text(4) == name && (command.text(5) == "1") == again
}

fn job(fixture: &Fixture, options: JobOptions) -> FlowJob {
    FlowJob::new(&fixture.name, "work", &Work { ms: 0 }).options(options)
}

fn named(fixture: &Fixture, id: &str) -> FlowJob {
    job(fixture, JobOptions::new().id(id))
}

/// A parent and its children.
fn family(fixture: &Fixture, children: usize) -> FlowJob {
    let children = (0..children).map(|_| job(fixture, JobOptions::new()));
    job(fixture, JobOptions::new()).children(ChildPolicy::Wait, children)
}

fn ids(added: &FlowAdded) -> Vec<JobId> {
    let children = added.children.iter().flat_map(ids);
    children.chain([added.id.clone()]).collect()
}

/// Tests connect anew for workers that no proxy disturbs.
fn allow() -> Allow {
    Allow {
        clients: 4,
        ..Allow::default()
    }
}

async fn event_count(fixture: &Fixture, event: &str) -> TestResult<usize> {
    let events = fixture.queue_events().await?;
    Ok(events
        .lines()
        .filter(|line| line.split(' ').nth(1) == Some(event))
        .count())
}

/// Runs all jobs, and checks that each ran once and none is held.
async fn run_off(fixture: &Fixture, added: &FlowAdded) -> TestResult {
    let worker = fixture
        .worker_of(&fixture.other_client().await?)
        .start(work)
        .await?;
    let all = ids(added);
    fixture.ended(all.len() as u64).await?;
    worker.close().await;
    let summary = check_queue(fixture, &all, allow()).await?;
    assert_eq!((summary.completed, summary.repeated), (all.len(), 0));
    for id in &all {
        assert_eq!(fixture.field(id, "hold").await?, None);
    }
    Ok(())
}

/// The answer to a small flow is lost while its jobs wait: each is there once.
#[tokio::test]
async fn lost_answer_adds_a_flow_once() -> TestResult {
    let fixture = proxied().await?;
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(step("whole", false)).nth(1));
    let added = FlowProducer::new(&fixture.client)
        .add(&family(&fixture, 5))
        .await?;
    assert_eq!(lost.fired(), 1);
    assert!(
        added
            .children
            .iter()
            .all(|child| child.outcome == AddOutcome::Added)
    );
    let counts = fixture.queue.counts().await?;
    assert_eq!((counts.waiting, counts.waiting_children), (5, 1));
    assert_eq!(event_count(&fixture, "added").await?, 6);
    assert_eq!(event_count(&fixture, "duplicated").await?, 0);
    assert_eq!(
        fixture
            .server
            .text(&["GET", &fixture.key("id")])
            .await?
            .as_deref(),
        Some("6")
    );
    run_off(&fixture, &added).await
}

/// By when the flow is asked for again, all of its jobs have ended and are removed: none runs again, whether
/// its ids were chosen or made.
#[tokio::test]
async fn flow_that_has_ended_and_is_removed_is_not_added_again() -> TestResult {
    for chosen in [false, true] {
        let fixture = proxied().await?;
        let brief = |id: &str| {
            let options = JobOptions::new().remove_on_complete(Retention::Remove);
            job(&fixture, if chosen { options.id(id) } else { options })
        };
        let flow = brief("root")
            .child(ChildPolicy::Wait, brief("a"))
            .child(ChildPolicy::Wait, brief("b"));
        let over = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&over);
        let again = step("whole", true);
        fixture
            .proxy()
            .add(Rule::drop_reply(step("whole", false)).nth(1));
        let asked = fixture.proxy().add(Rule::reset_before(move |command| {
            again(command) && !waits.load(Ordering::SeqCst)
        }));
        let meanwhile = async {
            asked.wait_fired(1, DEADLINE).await?;
            let client = fixture.other_client().await?;
            let worker = fixture.worker_of(&client).start(work).await?;
            fixture.started(3).await?;
            fixture.drained().await?;
            worker.close().await;
            over.store(true, Ordering::SeqCst);
            TestResult::Ok(())
        };
        let producer = FlowProducer::new(&fixture.client);
        let (added, meanwhile) = tokio::join!(producer.add(&flow), meanwhile);
        meanwhile?;
        let added = added?;
        assert_eq!(added.outcome, AddOutcome::Added);
        assert!(
            added
                .children
                .iter()
                .all(|child| child.outcome == AddOutcome::Added)
        );
        let keys = fixture
            .server
            .cli(&["KEYS", &fixture.key("*")])
            .await?
            .texts();
        let known = ["events", "id", "marker", "meta", "stalled-check"];
        let known: BTreeSet<_> = known.map(|key| fixture.key(key)).into();
        let left: Vec<_> = keys.iter().filter(|key| !known.contains(*key)).collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(fixture.effects.starts(), 3);
    }
    Ok(())
}

/// A refused flow whose answer is lost is refused; one that others have added meanwhile, under other ids, is no
/// sign of our own.
#[tokio::test]
async fn lost_answers_do_not_hide_refusals_or_take_others_jobs_for_ours() -> TestResult {
    let fixture = proxied().await?;
    let producer = FlowProducer::new(&fixture.client);
    let orphan = || {
        let id = JobId::existing("nobody");
        family(&fixture, 2).under(ChildPolicy::Wait, fixture.queue.qualified_name(), id)
    };
    fixture
        .proxy()
        .add(Rule::drop_reply(step("whole", false)).nth(1));
    let refused = producer.add(&orphan()).await;
    assert!(
        matches!(
            refused,
            Err(Error::Refused {
                source: Refusal::ParentMissing,
                ..
            })
        ),
        "{refused:?}"
    );
    fixture.proxy().clear_rules();

    // The first request does not arrive at all; another producer adds the child by itself.
    let direct = fixture.other_client().await?;
    fixture
        .proxy()
        .add(Rule::reset_before(step("whole", false)).nth(1));
    let over = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&over);
    let again = step("whole", true);
    let asked = fixture.proxy().add(Rule::reset_before(move |command| {
        again(command) && !waits.load(Ordering::SeqCst)
    }));
    let child = async {
        asked.wait_fired(1, DEADLINE).await?;
        let queue: Queue<Work> = Queue::open(&direct, &fixture.name).await?;
        let options = JobOptions::new().id("shared");
        queue.add_with("work", &Work { ms: 0 }, options).await?;
        over.store(true, Ordering::SeqCst);
        TestResult::Ok(())
    };
    let flow = named(&fixture, "root").child(ChildPolicy::Wait, named(&fixture, "shared"));
    let (added, child) = tokio::join!(producer.add(&flow), child);
    child?;
    let added = added?;
    assert_eq!(added.outcome, AddOutcome::Added);
    assert_eq!(added.children[0].outcome, AddOutcome::Duplicate);
    let parent = fixture
        .field(&JobId::existing("shared"), "parentKey")
        .await?;
    assert_eq!(parent, Some(fixture.key("root")));
    run_off(&fixture, &added).await
}

/// Every other answer is lost while a large flow is added and workers run what they find: each job runs
/// once, and the root when all others have ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_add_a_large_flow_once() -> TestResult {
    let fixture = proxied().await?;
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(runs("add_flow")).every(2));
    let flow = family(&fixture, LARGE);
    let worker = fixture
        .worker_of(&fixture.other_client().await?)
        .start(work)
        .await?;
    let added = FlowProducer::new(&fixture.client).add(&flow).await?;
    assert!(lost.fired() >= 6, "{}", lost.fired());
    fixture.ended(LARGE as u64 + 1).await?;
    worker.close().await;
    assert_eq!(event_count(&fixture, "added").await?, LARGE + 1);
    assert_eq!(event_count(&fixture, "duplicated").await?, 0);
    let all = ids(&added);
    let summary = check_queue(&fixture, &all, allow()).await?;
    assert_eq!((summary.completed, summary.repeated), (LARGE + 1, 0));
    let processed = fixture.key(&format!("{}:processed", added.id));
    assert_eq!(
        fixture.server.int(&["HLEN", &processed]).await?,
        i64::try_from(LARGE)?
    );
    Ok(())
}

/// A producer dies while it adds a large flow: no worker starts any of its jobs. Adding the flow again completes
/// it; removing its root removes what there is.
#[tokio::test]
async fn flow_of_a_dead_producer_is_completed_or_removed() -> TestResult {
    for remove in [false, true] {
        for (dies, nth) in [("store", 3), ("place", 1)] {
            let fixture = proxied().await?;
            let flow = family(&fixture, LARGE);
            let stop = fixture.proxy().add(Rule::reset_before({
                let matches = step(dies, false);
                let count = std::sync::atomic::AtomicU64::new(1);
                move |command| matches(command) && count.fetch_add(1, Ordering::SeqCst) >= nth
            }));
            let again = fixture.proxy().add(Rule::reset_before(step(dies, true)));
            let producer = FlowProducer::new(&fixture.client);
            tokio::select! {
                added = producer.add(&flow) => return Err(format!("added: {added:?}").into()),
                fired = again.wait_fired(1, DEADLINE) => { fired?; }
            }
            assert!(stop.fired() >= 1);
            fixture.proxy().clear_rules();

            let direct = fixture.other_client().await?;
            let counts = fixture.queue.counts().await?;
            assert_eq!((counts.waiting, counts.waiting_children), (0, 1));
            let worker = ManualWorker::new(&direct, &fixture.name)?;
            assert!(worker.fetch("t").await?.is_none());
            if remove {
                assert!(fixture.queue.remove(flow.id()).await?);
                let keys = fixture
                    .server
                    .cli(&["KEYS", &fixture.key("*-*-*")])
                    .await?
                    .texts();
                assert!(keys.is_empty(), "{keys:?}");
                continue;
            }
            let added = FlowProducer::new(&direct).add(&flow).await?;
            assert_eq!(event_count(&fixture, "added").await?, LARGE + 1);
            run_off(&fixture, &added).await?;
        }
    }
    Ok(())
}

/// A job gets another parent while the large flow that names it is being stored. That is reported; the flow runs
/// without it.
#[tokio::test]
async fn child_that_is_lost_to_another_flow_is_reported() -> TestResult {
    let fixture = proxied().await?;
    let direct = fixture.other_client().await?;
    let other = FlowProducer::new(&direct);
    other.add(&named(&fixture, "shared")).await?;
    let over = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&over);
    let places = [step("place", false), step("place", true)];
    let asked = fixture.proxy().add(Rule::reset_before(move |command| {
        places.iter().any(|place| place(command)) && !waits.load(Ordering::SeqCst)
    }));
    let meanwhile = async {
        asked.wait_fired(1, DEADLINE).await?;
        let flow = named(&fixture, "first").child(ChildPolicy::Wait, named(&fixture, "shared"));
        other.add(&flow).await?;
        over.store(true, Ordering::SeqCst);
        TestResult::Ok(())
    };
    let only = named(&fixture, "only").child(ChildPolicy::Wait, named(&fixture, "shared"));
    let flow = family(&fixture, LARGE).child(ChildPolicy::Wait, only);
    let producer = FlowProducer::new(&fixture.client);
    let (added, meanwhile) = tokio::join!(producer.add(&flow), meanwhile);
    meanwhile?;
    let Err(Error::Incomplete { source, .. }) = added else {
        return Err(format!("{added:?}").into());
    };
    assert!(
        matches!(
            *source,
            Error::Refused {
                source: Refusal::ParentConflict,
                ..
            }
        ),
        "{source:?}"
    );
    // The parent of nothing but that child does not wait for ever, nor does the root.
    let worker = fixture.worker_of(&direct).start(work).await?;
    fixture.ended(LARGE as u64 + 4).await?;
    worker.close().await;
    Ok(())
}
