//! Jobs whose records are spoiled: every look at the queue shows the others, and says what is wrong with theirs.

use futures::TryStreamExt as _;
use oxbull::inspect::{Exporter, JobOrder, Search};
use oxbull::{
    ChildPolicy, DependencyCursor, DependencyKind, Error, FlowJob, FlowLimits, FlowProducer, JobId,
    JobOptions, JobState, ManualWorker, Outcome,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

const FIELDS: [&str; 26] = [
    "name",
    "data",
    "opts",
    "timestamp",
    "delay",
    "priority",
    "processedOn",
    "finishedOn",
    "ats",
    "atm",
    "attemptsMade",
    "stc",
    "stf",
    "defa",
    "progress",
    "returnvalue",
    "failedReason",
    "stacktrace",
    "pb",
    "rjk",
    "deid",
    "parent",
    "parentKey",
    "hold",
    "nrjid",
    "tm",
];

const GARBAGE: [&str; 16] = [
    "",
    "x",
    "{",
    "[1",
    "null",
    "true",
    "[]",
    "{}",
    "\"text\"",
    "NaN",
    "-1",
    "1e999",
    "99999999999999999999999999",
    "{\"id\":{},\"queueKey\":7}",
    "{\"id\":9007199254740993,\"queueKey\":\"bull:q\"}",
    "\u{0}\u{1}:é🦀",
];

/// Keys of a job, with a command that makes one of another type.
const KEYS: [&str; 5] = ["", ":logs", ":dependencies", ":processed", ":failed"];

/// `root` waits for `odd` and `fine`, which waits itself below `odd`; `fine-N` are in every other state.
async fn family() -> TestResult<Fixture> {
    let fixture = Fixture::start().await?;
    let job =
        |id: &str| FlowJob::new("q", id, &json!({ "a": 1 })).options(JobOptions::new().id(id));
    let odd = job("odd").child(ChildPolicy::Wait, job("leaf"));
    let flow = job("root")
        .child(ChildPolicy::Wait, odd)
        .child(ChildPolicy::Wait, job("fine"));
    FlowProducer::new(&fixture.client).add(&flow).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let fine = worker.fetch("t").await?.ok_or("nothing to start")?;
    assert_eq!(fine.id, *"fine");
    let leaf = worker.fetch("t").await?.ok_or("no leaf")?;
    worker.finish(&leaf, "t", Ok(Outcome::Done(5))).await?;
    Ok(fixture)
}

/// Moves `odd` and `fine` into one state, whatever they were in.
async fn put(fixture: &Fixture, state: JobState) -> TestResult {
    let places = [
        "wait",
        "active",
        "prioritized",
        "delayed",
        "waiting-children",
        "completed",
        "failed",
    ];
    for place in places.map(|place| format!("bull:q:{place}")) {
        fixture.server.cli(&["DEL", &place]).await?;
    }
    fixture
        .server
        .cli(&["ZADD", "bull:q:waiting-children", "1", "root"])
        .await?;
    // The spoiled one is the next to run.
    for (id, score) in [("fine", "2"), ("odd", "1")] {
        let (place, list) = match state {
            JobState::Waiting => ("wait", true),
            JobState::Active => ("active", true),
            state => (state.as_str(), false),
        };
        let key = format!("bull:q:{place}");
        if list {
            fixture.server.cli(&["RPUSH", &key, id]).await?;
        } else {
            fixture.server.cli(&["ZADD", &key, score, id]).await?;
        }
    }
    Ok(())
}

/// A job's own calls answer, or say what does not decode or cannot be read.
fn may_say<T>(what: &str, result: oxbull::Result<T>) -> TestResult {
    match result {
        Ok(_) | Err(Error::Decode { .. } | Error::Server(_) | Error::JobMissing(_)) => Ok(()),
        Err(error) => Err(format!("{what}: {error:?}").into()),
    }
}

/// Calls every getter: those of `odd` by themselves, all others must show `fine`.
async fn look_at_all(fixture: &Fixture, state: JobState) -> TestResult {
    let queue = &fixture.queue;
    may_say("job", queue.job("odd").await)?;
    queue.state("odd").await?;
    may_say("ended", queue.ended::<Value>("odd").await)?;
    may_say("logs", queue.logs("odd", 0, -1).await)?;
    may_say("newest_logs", queue.newest_logs("odd", 0, 9).await)?;
    may_say("dependency_counts", queue.dependency_counts("odd").await)?;
    may_say("children_values", queue.children_values::<u64>("odd").await)?;
    may_say("ignored_failures", queue.ignored_failures("odd").await)?;
    may_say("failed_children", queue.failed_children("odd").await)?;
    if let Ok(Some(job)) = queue.job("odd").await {
        may_say("data", job.data::<Value>())?;
        may_say("progress", job.progress::<Value>())?;
        may_say("return_value", job.return_value::<Value>())?;
        serde_json::to_string(&job)?;
    }

    for order in [JobOrder::Ascending, JobOrder::Descending] {
        let page = queue.jobs(JobState::ALL, .., order).await?;
        assert!(
            page.jobs
                .iter()
                .any(|listed| listed.job.id == *"fine" && listed.state == state),
            "{page:?}"
        );
        let odd = page.jobs.iter().any(|listed| listed.job.id == *"odd");
        assert!(
            odd || page.missing.contains(&JobId::existing("odd")),
            "{page:?}"
        );
        serde_json::to_string(&page)?;
        assert!(
            queue
                .job_ids(JobState::ALL, .., order)
                .await?
                .contains(&JobId::existing("odd"))
        );
        let all: Vec<_> = queue.all_jobs(JobState::ALL, order).try_collect().await?;
        assert!(all.iter().any(|listed| listed.job.id == *"fine"), "{all:?}");
    }
    let everything = || Search::new().states(JobState::ALL);
    for search in [
        everything().id("fine"),
        everything().name("fine"),
        everything().data("$.a == 1".parse()?),
        everything()
            .data("$[\"a\"] exists".parse()?)
            .attempts_made(..9),
    ] {
        let found: Vec<_> = queue.search(search)?.try_collect().await?;
        assert!(
            found.iter().any(|listed| listed.job.id == *"fine"),
            "{found:?}"
        );
    }

    let flow = queue
        .flow("root", FlowLimits::new())
        .await?
        .ok_or("no root")?;
    let keys: Vec<_> = flow
        .children
        .iter()
        .map(|child| child.key.to_string())
        .collect();
    assert!(
        keys.contains(&"bull:q:odd".to_owned()) && keys.contains(&"bull:q:fine".to_owned()),
        "{keys:?}"
    );
    queue.dependency_counts("root").await?;
    for kind in DependencyKind::ALL {
        queue
            .dependency_page("root", kind, DependencyCursor::START, 9)
            .await?;
        may_say(
            "dependency_page",
            queue
                .dependency_page("odd", kind, DependencyCursor::START, 9)
                .await,
        )?;
        let walk: Vec<_> = queue
            .dependencies("root", kind)?
            .into_stream()
            .try_collect()
            .await?;
        assert_eq!(
            walk.len(),
            if kind == DependencyKind::Unprocessed {
                2
            } else {
                0
            }
        );
    }
    let blocked: Vec<_> = queue.blocked_parents().into_stream().try_collect().await?;
    let gone = |child: &oxbull::BlockingChild| child.key.id() == *"fine";
    let root = blocked.iter().find(|parent| parent.id == *"root");
    if state.is_finished() {
        let root = root.ok_or("the root is blocked")?;
        assert!(root.children.iter().any(gone), "{root:?}");
    }

    queue.counts().await?;
    queue.counts_by_priority([0, 1]).await?;
    queue.backlog().await?;
    queue.activity().await?;
    Exporter::new().queue(queue).render().await?;
    Ok(())
}

/// Each field of a record in turn is something else than it should be.
#[tokio::test]
async fn every_getter_shows_the_others_beside_a_spoiled_record() -> TestResult {
    let fixture = family().await?;
    let key = "bull:q:odd";
    let before = fixture.server.cli(&["HGETALL", key]).await?.texts();
    for (at, field) in FIELDS.into_iter().enumerate() {
        let state = JobState::ALL[at % JobState::ALL.len()];
        put(&fixture, state).await?;
        for garbage in GARBAGE {
            fixture.server.cli(&["HSET", key, field, garbage]).await?;
            let looked = look_at_all(&fixture, state).await;
            looked.map_err(|error| format!("{field} = {garbage:?}, {state}: {error}"))?;
        }
        fixture.server.cli(&["DEL", key]).await?;
        let restore = ["HSET", key]
            .into_iter()
            .chain(before.iter().map(String::as_str));
        fixture.server.cli(&restore.collect::<Vec<_>>()).await?;
    }
    Ok(())
}

/// The job's hash is gone, or one of its keys has another type than it should.
#[tokio::test]
async fn every_getter_shows_the_others_beside_keys_of_another_type() -> TestResult {
    for suffix in KEYS {
        let key = format!("bull:q:odd{suffix}");
        for command in [
            vec!["PING"],
            vec!["SET", &key, "odd"],
            vec!["RPUSH", &key, "odd"],
            vec!["SADD", &key, "bull:q:x", "y", ""],
            vec!["ZADD", &key, "inf", "x"],
            vec!["HSET", &key, "", ""],
        ] {
            let fixture = family().await?;
            for state in JobState::ALL {
                put(&fixture, state).await?;
                fixture.server.cli(&["DEL", &key]).await?;
                fixture.server.cli(&command).await?;
                let looked = look_at_all(&fixture, state).await;
                looked.map_err(|error| format!("{command:?}, {state}: {error}"))?;
            }
        }
    }
    Ok(())
}
