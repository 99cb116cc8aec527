//! V9 under a deduplication id: an add whose answer is lost is asked for again, by when the queue
//! has moved on, and still ends as one job and with the answer that was lost.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use oxbull::{
    AddOutcome, Added, Deduplication, JobId, JobOptions, ManualWorker, Outcome, Queue, Retention,
};
use oxbull_testkit::{Command, DEADLINE, Rule, TestResult};
use std::time::Duration;

use crate::fixture::{Fixture, Work};
use crate::scripts::runs;

/// A queue through a proxy that loses answers, and the same queue past it.
struct LostReply {
    fixture: Fixture,
    queue: Queue<Work>,
    worker: ManualWorker,
}

impl LostReply {
    async fn start() -> TestResult<Self> {
        let fixture = Fixture::proxied().await?;
        let direct = fixture.other_client().await?;
        // Server and test know both scripts from here on: the first answer lost is that of an
        // execution.
        fixture
            .proxy()
            .add(Rule::delay(Duration::ZERO, runs("enqueue")));
        let other: Queue<Work> = Queue::open(&fixture.client, "other").await?;
        other.add("first", &Work { ms: 0 }).await?;
        let alone = JobOptions::new().deduplication(Deduplication::new("k"));
        other.add_with("second", &Work { ms: 0 }, alone).await?;
        fixture.proxy().clear_rules();
        Ok(Self {
            queue: Queue::open(&direct, &fixture.name).await?,
            worker: ManualWorker::new(&direct, &fixture.name)?,
            fixture,
        })
    }

    /// Adds a job past the proxy.
    async fn add(&self, id: &str, options: JobOptions) -> TestResult<Added> {
        let options = options.id(JobId::existing(id));
        Ok(self.queue.add_with(id, &Work { ms: 0 }, options).await?)
    }

    /// Adds the job `lost`, whose answer is lost. What happens `meanwhile` is over before the add
    /// is asked for again.
    async fn lose(
        &self,
        options: JobOptions,
        meanwhile: impl Future<Output = TestResult>,
    ) -> TestResult<Added> {
        // A call that may have been executed before says since when.
        let again = |command: &Command| runs("enqueue")(command) && command.text(4).contains(':');
        let over = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&over);
        let proxy = self.fixture.proxy();
        let lost = proxy.add(Rule::drop_reply(move |c| runs("enqueue")(c) && !again(c)).nth(1));
        let asked = proxy.add(Rule::reset_before(move |c| {
            again(c) && !waits.load(Ordering::SeqCst)
        }));
        let options = options.id(JobId::existing("lost"));
        let replies = async {
            // Asking again means that the first call was executed and its answer dropped.
            asked.wait_fired(1, DEADLINE).await?;
            assert_eq!(lost.fired(), 1);
            meanwhile.await?;
            over.store(true, Ordering::SeqCst);
            TestResult::Ok(())
        };
        let (added, replies) = tokio::join!(
            self.fixture
                .queue
                .add_with("lost", &Work { ms: 0 }, options),
            replies
        );
        replies?;
        proxy.clear_rules();
        Ok(added?)
    }

    /// Starts the next job, which must be `id`.
    async fn begin(&self, id: &str) -> TestResult {
        let job = self.worker.fetch("t").await?.ok_or("no job")?;
        assert_eq!(job.id.as_str(), id);
        Ok(())
    }

    async fn complete(&self, id: &str) -> TestResult {
        let job = self.queue.job(&JobId::existing(id)).await?.ok_or("gone")?;
        self.worker.finish(&job, "t", Ok(Outcome::Done(1))).await?;
        Ok(())
    }

    async fn run(&self, id: &str) -> TestResult {
        self.begin(id).await?;
        self.complete(id).await
    }

    /// How many entries of the event stream are `event`s of job `id`.
    async fn event_count(&self, event: &str, id: &str) -> TestResult<usize> {
        let events = self.fixture.key("events");
        let entries = self
            .fixture
            .server
            .cli(&["XRANGE", &events, "-", "+"])
            .await?;
        let wanted = ["event", event, "jobId", id];
        Ok(entries
            .items()
            .iter()
            .filter_map(|entry| entry.items().get(1))
            .filter(|fields| fields.texts().starts_with(&wanted.map(str::to_owned)))
            .count())
    }

    async fn ids(&self) -> TestResult<(u64, u64)> {
        let counts = self.queue.counts().await?;
        let left = counts.waiting + counts.delayed + counts.active;
        Ok((left, counts.completed))
    }
}

fn id(text: &str) -> JobId {
    JobId::existing(text)
}

fn key() -> Deduplication {
    Deduplication::new("k")
}

fn simple() -> JobOptions {
    JobOptions::new().deduplication(key())
}

fn delayed(deduplication: Deduplication) -> JobOptions {
    let delay = Duration::from_secs(600);
    JobOptions::new().delay(delay).deduplication(deduplication)
}

fn keep() -> JobOptions {
    JobOptions::new().deduplication(key().keep_last_if_active())
}

#[tokio::test]
async fn added_job_is_not_added_twice() -> TestResult {
    let setup = LostReply::start().await?;
    let added = setup.lose(simple(), async { Ok(()) }).await?;
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("lost", AddOutcome::Added)
    );
    assert_eq!(setup.ids().await?, (1, 0));
    assert_eq!(setup.event_count("added", "lost").await?, 1);
    assert_eq!(setup.event_count("duplicated", "lost").await?, 0);
    Ok(())
}

/// No key of the job is left when it is asked for again; its event is.
#[tokio::test]
async fn job_that_has_ended_and_is_removed_is_not_added_again() -> TestResult {
    let setup = LostReply::start().await?;
    let options = simple().remove_on_complete(Retention::Remove);
    let added = setup.lose(options, setup.run("lost")).await?;
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("lost", AddOutcome::Added)
    );
    assert_eq!(setup.ids().await?, (0, 0));
    Ok(())
}

/// As above without deduplication: `add_once` must not run a job again that has run.
#[tokio::test]
async fn plain_job_that_has_ended_and_is_removed_is_not_added_again() -> TestResult {
    let setup = LostReply::start().await?;
    let options = JobOptions::new().remove_on_complete(Retention::Remove);
    let added = setup.lose(options, setup.run("lost")).await?;
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("lost", AddOutcome::Added)
    );
    assert_eq!(setup.ids().await?, (0, 0));
    assert_eq!(setup.event_count("added", "lost").await?, 1);
    Ok(())
}

/// The owner has ended and the id is free: the add was deduplicated all the same.
#[tokio::test]
async fn deduplicated_add_stays_deduplicated() -> TestResult {
    let setup = LostReply::start().await?;
    setup.add("owner", simple()).await?;
    let added = setup.lose(simple(), setup.run("owner")).await?;
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("owner", AddOutcome::Deduplicated)
    );
    assert_eq!(setup.ids().await?, (0, 1));
    assert_eq!(setup.event_count("deduplicated", "owner").await?, 1);
    Ok(())
}

/// The replaced job is gone, so that only the event knows which it was.
#[tokio::test]
async fn replacement_is_published_once_and_names_the_job_replaced() -> TestResult {
    let setup = LostReply::start().await?;
    setup.add("owner", delayed(key())).await?;
    let added = setup
        .lose(delayed(key().replace()), async { Ok(()) })
        .await?;
    let job = id("owner");
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("lost", AddOutcome::Replaced { job })
    );
    assert_eq!(setup.ids().await?, (1, 0));
    assert_eq!(setup.event_count("removed", "owner").await?, 1);
    assert_eq!(setup.event_count("deduplicated", "lost").await?, 1);
    Ok(())
}

/// Replaced itself by the time it is asked for again: a second replacement would undo the newer.
#[tokio::test]
async fn replacement_does_not_replace_its_successor() -> TestResult {
    let setup = LostReply::start().await?;
    setup.add("owner", delayed(key())).await?;
    let replace = || delayed(key().replace());
    let successor = async { setup.add("newer", replace()).await.map(drop) };
    let added = Box::pin(setup.lose(replace(), successor)).await?;
    let job = id("owner");
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("lost", AddOutcome::Replaced { job })
    );
    let owner = setup.queue.deduplication_owner("k").await?.ok_or("free")?;
    assert_eq!(owner.job, id("newer"));
    assert_eq!(setup.ids().await?, (1, 0));
    Ok(())
}

#[tokio::test]
async fn owner_is_rescheduled_once() -> TestResult {
    let setup = LostReply::start().await?;
    setup.add("owner", delayed(key())).await?;
    let added = setup
        .lose(delayed(key().reschedule()), async { Ok(()) })
        .await?;
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("owner", AddOutcome::Deduplicated)
    );
    assert_eq!(setup.event_count("delayed", "owner").await?, 2);
    assert_eq!(setup.event_count("deduplicated", "owner").await?, 1);
    Ok(())
}

/// Its owner has ended and it waits itself: not a duplicate, and not to be kept again.
#[tokio::test]
async fn kept_add_that_has_become_a_job_was_kept() -> TestResult {
    let setup = LostReply::start().await?;
    setup.add("owner", keep()).await?;
    setup.begin("owner").await?;
    let added = setup.lose(keep(), setup.complete("owner")).await?;
    let next = id("lost");
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("owner", AddOutcome::KeptLast { next })
    );
    assert_eq!(setup.ids().await?, (1, 1));
    assert_eq!(setup.event_count("duplicated", "lost").await?, 0);
    setup.run("lost").await?;
    assert_eq!(setup.ids().await?, (0, 2));
    Ok(())
}

/// A newer add is kept by now: the older one must not come back over it.
#[tokio::test]
async fn kept_add_does_not_displace_a_newer_one() -> TestResult {
    let setup = LostReply::start().await?;
    setup.add("owner", keep()).await?;
    setup.begin("owner").await?;
    let newer = async { setup.add("newer", keep()).await.map(drop) };
    let added = Box::pin(setup.lose(keep(), newer)).await?;
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("owner", AddOutcome::Deduplicated)
    );
    setup.complete("owner").await?;
    setup.run("newer").await?;
    assert_eq!(setup.ids().await?, (0, 2));
    Ok(())
}

/// Executed or not, the first try left no trace: the add is decided again.
#[tokio::test]
async fn add_without_a_trace_is_decided_again() -> TestResult {
    let setup = LostReply::start().await?;
    setup.add("owner", simple()).await?;
    // An owner that does not wait for a time is not replaced, and no event says so.
    let replace = JobOptions::new().deduplication(key().replace());
    let added = setup.lose(replace, setup.run("owner")).await?;
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("lost", AddOutcome::Added)
    );
    assert_eq!(setup.ids().await?, (1, 1));
    Ok(())
}

/// Other clients may write to the event stream; an entry that says less than ours keeps no add from
/// being settled.
#[tokio::test]
async fn odd_events_do_not_keep_an_add_unsettled() -> TestResult {
    let setup = LostReply::start().await?;
    let events = setup.fixture.key("events");
    let odd = async {
        for event in ["added", "deduplicated"] {
            let server = &setup.fixture.server;
            server.cli(&["XADD", &events, "*", "event", event]).await?;
        }
        Ok(())
    };
    let added = setup.lose(simple(), odd).await?;
    assert_eq!(
        (added.id.as_str(), added.outcome),
        ("lost", AddOutcome::Added)
    );
    assert_eq!(setup.ids().await?, (1, 0));
    Ok(())
}

/// Every fourth answer is lost, from bursts of adds under few ids, with workers of the same queue
/// in between: each acknowledged job runs, none twice, and nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_among_bursts_leave_one_job_an_id() -> TestResult {
    let setup = LostReply::start().await?;
    let fixture = &setup.fixture;
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(runs("enqueue")).every(4));
    let mut added = Vec::new();
    for _ in 0..20 {
        let adds = (0..30).map(|n| {
            let options =
                JobOptions::new().deduplication(Deduplication::new(format!("k{}", n % 3)));
            fixture.queue.add_once("work", &Work { ms: 0 }, options)
        });
        for answer in futures::future::join_all(adds).await {
            added.push(answer?);
        }
    }
    fixture.proxy().clear_rules();
    assert!(lost.fired() > 0);
    let stored: Vec<_> = added
        .iter()
        .filter(|added| added.outcome == AddOutcome::Added)
        .collect();
    assert_eq!(stored.len(), 3, "{stored:?}");
    let owners: Vec<_> = stored.iter().map(|added| &added.id).collect();
    assert!(added.iter().all(|added| owners.contains(&&added.id)));
    assert_eq!(setup.ids().await?, (3, 0));
    println!("V9 600 deduplicated adds, {} answers lost", lost.fired());
    Ok(())
}
