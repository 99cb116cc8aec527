//! Flows that are added: what is refused before anything is sent, what comes back, and flows of more than one step.

use std::collections::HashSet;

use oxbull::{
    AddOutcome, ChildPolicy, Deduplication, Error, FlowAdded, FlowJob, FlowProducer, JobId,
    JobOptions, JobState, ManualWorker, Outcome, Parent, Prefix, Refusal, Timestamp,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

/// More jobs than one step stores.
const LARGE: usize = 450;

fn job(id: &str) -> FlowJob {
    FlowJob::new("q", id, &json!({ "n": id })).options(JobOptions::new().id(id))
}

fn producer(fixture: &Fixture) -> FlowProducer {
    FlowProducer::new(&fixture.client)
}

/// Takes the next job, which must be `id`, and completes it.
async fn run(fixture: &Fixture, id: &str) -> TestResult {
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let job = worker.fetch("t").await?.ok_or("nothing to start")?;
    assert_eq!(job.id, *id);
    worker.finish(&job, "t", Ok(Outcome::Done(id))).await?;
    Ok(())
}

/// A flow that could not work must not be stored in part: everything is checked first.
#[tokio::test]
async fn flows_are_checked_before_anything_is_sent() -> TestResult {
    let fixture = Fixture::start().await?;
    let keys = fixture.shown(&["KEYS", "*"]).await?;
    let wait = ChildPolicy::Wait;
    let parent = Parent::new("bull:q", JobId::existing("par"));
    let deduplicated = || JobOptions::new().deduplication(Deduplication::new("d"));
    let flows = [
        ("queue name", FlowJob::new("a:b", "n", &1)),
        (
            "queue name",
            job("r").child(wait, FlowJob::new("", "n", &1)),
        ),
        ("prefix", job("r").child(wait, job("k").prefix(""))),
        ("job id", job("42")),
        ("job id", job("r").child(wait, job("a:b:c"))),
        ("job id", job("wait")),
        (
            "job id",
            job("r").child(wait, job("k")).child(wait, job("k")),
        ),
        (
            "job id",
            job("r").child(wait, job("k").child(wait, job("r"))),
        ),
        (
            "parent",
            job("r").child(wait, job("k").options(JobOptions::new().parent(parent))),
        ),
        (
            "parent",
            job("r")
                .child(wait, job("k"))
                .under(wait, "bull:q", JobId::existing("k")),
        ),
        (
            "parent queue",
            job("r").under(wait, "q", JobId::existing("par")),
        ),
        (
            "deduplication",
            job("r").options(deduplicated()).child(wait, job("k")),
        ),
        (
            "deduplication",
            job("r").child(wait, job("k").options(deduplicated())),
        ),
        ("deduplication", job("r").options(deduplicated())),
        (
            "priority",
            job("r").child(wait, job("k").options(JobOptions::new().priority(u32::MAX))),
        ),
        (
            "job data",
            job("r").child(wait, job("k").options(JobOptions::new().size_limit(3))),
        ),
        (
            "flow",
            (0..1001).fold(FlowJob::new("q", "n", &1), |below, _| {
                FlowJob::new("q", "n", &1).child(wait, below)
            }),
        ),
    ];
    for (wanted, flow) in flows {
        let refused = producer(&fixture).add_many([&job("other"), &flow]).await;
        assert!(
            matches!(&refused, Err(Error::Invalid { field, .. }) if *field == wanted),
            "{wanted}: {refused:?}"
        );
    }
    let odd = FlowJob::new("q", "n", &std::collections::BTreeMap::from([((1, 2), 3)]));
    let refused = producer(&fixture).add(&odd).await;
    assert!(matches!(refused, Err(Error::Encode { .. })), "{refused:?}");
    assert_eq!(fixture.shown(&["KEYS", "*"]).await?, keys);
    // A chain that is too deep is dropped without a deep recursion.
    drop((0..200_000).fold(job("r"), |below, _| job("r").child(wait, below)));
    Ok(())
}

/// Callers find the ids of their jobs where they put them.
#[tokio::test]
async fn result_mirrors_the_flow() -> TestResult {
    let fixture = Fixture::start().await?;
    let inner = job("a")
        .child(ChildPolicy::Ignore, job("a1"))
        .child(ChildPolicy::Wait, job("a2"));
    let flow = job("r")
        .child(ChildPolicy::FailParent, inner)
        .child(ChildPolicy::Remove, job("b").prefix("other"))
        .children(ChildPolicy::ContinueParent, [job("c")]);
    let single = job("s");
    let added = producer(&fixture).add_many([&flow, &single]).await?;
    let shape = json!(added);
    let leaf =
        |id: &str| json!({ "queue": "bull:q", "id": id, "outcome": "added", "children": [] });
    let mut other = leaf("b");
    other["queue"] = "other:q".into();
    let mut a = leaf("a");
    a["children"] = json!([leaf("a1"), leaf("a2")]);
    let mut root = leaf("r");
    root["children"] = json!([a, other, leaf("c")]);
    assert_eq!(shape, json!([root, leaf("s")]));
    let read: Vec<FlowAdded> = serde_json::from_value(shape)?;
    assert_eq!(read, added);
    assert!(producer(&fixture).add_many([]).await?.is_empty());
    Ok(())
}

/// An id that nobody chose is made before the add, and no option of the job.
#[tokio::test]
async fn ids_are_made_with_the_jobs() -> TestResult {
    let fixture = Fixture::start().await?;
    let child = FlowJob::new("q", "n", &json!({}));
    let id = child.id().clone();
    let flow = FlowJob::new("q", "n", &json!({})).child(ChildPolicy::FailParent, child);
    let added = producer(&fixture).add(&flow).await?;
    assert_eq!((&added.id, &added.children[0].id), (flow.id(), &id));
    assert_eq!(id.as_str().len(), 36);
    let stored = fixture.field(&id, "opts").await?.ok_or("no options")?;
    let stored: Value = serde_json::from_str(&stored)?;
    let parent = json!({ "id": flow.id().as_str(), "queue": "bull:q" });
    assert_eq!(
        stored,
        json!({ "attempts": 0, "fpof": true, "parent": parent })
    );
    let record = fixture.job(&id).await?;
    let link = record.parent.ok_or("no parent")?;
    assert_eq!(
        (link.id, link.on_failure),
        (added.id, ChildPolicy::FailParent)
    );
    assert_eq!(fixture.queue.prefix(), &Prefix::default());
    Ok(())
}

/// Large flows take several steps: at their end everything is as if they had been small.
#[tokio::test]
async fn large_flow_is_added_as_a_small_one_is() -> TestResult {
    let fixture = Fixture::start().await?;
    let groups = (0..5).map(|group| {
        let leaves = (0..LARGE / 5).map(|leaf| job(&format!("k{group}-{leaf}")));
        job(&format!("g{group}")).children(ChildPolicy::Wait, leaves)
    });
    let flow = job("root").children(ChildPolicy::Wait, groups);
    let added = producer(&fixture).add(&flow).await?;
    assert!(
        added
            .children
            .iter()
            .all(|group| group.children.len() == LARGE / 5)
    );
    let counts = fixture.queue.counts().await?;
    assert_eq!((counts.waiting, counts.waiting_children), (LARGE as u64, 6));
    assert_eq!(
        fixture
            .server
            .int(&["SCARD", "bull:q:g3:dependencies"])
            .await?,
        90
    );
    assert_eq!(fixture.server.int(&["GET", "bull:q:id"]).await?, 456);
    let first = fixture.server.int(&["HLEN", "bull:q:k0-0"]).await?;
    assert_eq!(first, 8, "no mark is left of the steps");
    // First in, first out, as in one step.
    let order = fixture
        .server
        .cli(&["LRANGE", "bull:q:wait", "0", "-1"])
        .await?
        .texts();
    let wanted = (0..5).flat_map(|group| (0..90).map(move |leaf| format!("k{group}-{leaf}")));
    assert_eq!(
        order.into_iter().rev().collect::<Vec<_>>(),
        wanted.collect::<Vec<_>>()
    );
    let events = fixture.queue_events().await?;
    let of = |id: &str| -> Vec<_> {
        let id = format!("jobId {id}");
        let lines = events
            .lines()
            .filter(|line| line.ends_with(&id) || line.contains(&format!("{id} ")));
        lines
            .map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(of("k4-89"), ["added", "waiting"]);
    assert_eq!(of("g4"), ["added", "waiting-children"]);
    for group in 0..5 {
        for leaf in 0..90 {
            run(&fixture, &format!("k{group}-{leaf}")).await?;
        }
        run(&fixture, &format!("g{group}")).await?;
    }
    run(&fixture, "root").await
}

/// Jobs that exist already join the parents of a large flow, and those that have completed count.
#[tokio::test]
async fn existing_jobs_join_a_large_flow() -> TestResult {
    let fixture = Fixture::start().await?;
    for id in ["done", "open"] {
        producer(&fixture).add(&job(id)).await?;
    }
    run(&fixture, "done").await?;
    let leaves = (0..LARGE).map(|leaf| job(&format!("k{leaf}")));
    let ended = job("ended").child(ChildPolicy::Wait, job("done"));
    let flow = job("root")
        .child(ChildPolicy::FailParent, job("open"))
        .child(ChildPolicy::Wait, ended)
        .children(ChildPolicy::Wait, leaves);
    let added = producer(&fixture).add(&flow).await?;
    assert_eq!(added.children[0].outcome, AddOutcome::Duplicate);
    assert_eq!(added.children[1].children[0].outcome, AddOutcome::Duplicate);
    assert_eq!(added.children[2].outcome, AddOutcome::Added);
    // Its only child had ended: nothing keeps it waiting.
    run(&fixture, "ended").await?;
    assert_eq!(
        fixture
            .field(&JobId::existing("open"), "parentKey")
            .await?
            .as_deref(),
        Some("bull:q:root")
    );
    run(&fixture, "open").await?;
    for leaf in 0..LARGE {
        run(&fixture, &format!("k{leaf}")).await?;
    }
    run(&fixture, "root").await?;
    assert_eq!(
        fixture
            .server
            .int(&["HLEN", "bull:q:root:processed"])
            .await?,
        452
    );
    Ok(())
}

/// The parent of a large flow is removed and added again: its children, which have ended, keep nothing waiting, and
/// nobody takes them for jobs that the second add has stored.
#[tokio::test]
async fn large_flow_is_added_again_after_its_children_have_ended() -> TestResult {
    let fixture = Fixture::start().await?;
    let at = Timestamp::from_millis(1_700_000_000_000);
    let flow = || {
        let options = |id: String| JobOptions::new().id(id).timestamp(at);
        let leaf = |n| FlowJob::new("q", "n", &n).options(options(format!("k{n}")));
        let root = FlowJob::new("q", "n", &"root").options(options("root".to_owned()));
        root.children(ChildPolicy::Wait, (0..LARGE).map(leaf))
    };
    producer(&fixture).add(&flow()).await?;
    for leaf in 0..LARGE {
        run(&fixture, &format!("k{leaf}")).await?;
    }
    assert!(fixture.queue.remove_only("root").await?);
    let added = producer(&fixture).add(&flow()).await?;
    assert_eq!(added.outcome, AddOutcome::Added);
    assert!(
        added
            .children
            .iter()
            .all(|child| child.outcome == AddOutcome::Duplicate)
    );
    let values = fixture
        .server
        .int(&["HLEN", "bull:q:root:processed"])
        .await?;
    assert_eq!(values, i64::try_from(LARGE)?);
    run(&fixture, "root").await
}

/// Of a flow that is refused nothing is there, however large it is.
#[tokio::test]
async fn refused_flow_leaves_nothing() -> TestResult {
    let fixture = Fixture::start().await?;
    producer(&fixture)
        .add(&job("p1").child(ChildPolicy::Wait, job("taken")))
        .await?;
    let keys = async || -> TestResult<HashSet<String>> {
        Ok(fixture
            .server
            .cli(&["KEYS", "*"])
            .await?
            .texts()
            .into_iter()
            .collect())
    };
    let before = (keys().await?, fixture.queue_events().await?);
    for size in [2, LARGE] {
        let leaves = || (0..size).map(|leaf| job(&format!("k{leaf}")));
        let conflict = job("p2")
            .children(ChildPolicy::Wait, leaves())
            .child(ChildPolicy::Wait, job("taken"));
        let orphan = job("p3").children(ChildPolicy::Wait, leaves()).under(
            ChildPolicy::Wait,
            "bull:q",
            JobId::existing("nobody"),
        );
        for (flow, job, refusal) in [
            (conflict, "taken", Refusal::ParentConflict),
            (orphan, "p3", Refusal::ParentMissing),
        ] {
            let refused = producer(&fixture)
                .add_many([&self::job("fine"), &flow])
                .await;
            assert!(
                matches!(&refused, Err(Error::Refused { job: j, source, .. }) if *j == *job && *source == refusal),
                "{refused:?}"
            );
            assert_eq!((keys().await?, fixture.queue_events().await?), before);
        }
    }
    let state = fixture.queue.state("taken").await?;
    assert_eq!(state, Some(JobState::Waiting));
    Ok(())
}

/// A key that cannot hold what the flow would write stops it before the first write.
#[tokio::test]
async fn odd_keys_stop_a_flow_before_it_begins() -> TestResult {
    let fixture = Fixture::start().await?;
    for odd in [
        vec!["SET", "bull:q:waiting-children", "odd"],
        vec!["SET", "bull:q:r:dependencies", "odd"],
        vec!["SET", "bull:q:k", "odd"],
        vec!["SET", "bull:other:id", "odd"],
        vec!["SET", "bull:other:events", "odd"],
    ] {
        fixture.server.cli(&odd).await?;
        let other = FlowJob::new("other", "n", &1);
        let flow = job("r")
            .child(ChildPolicy::Wait, job("k"))
            .child(ChildPolicy::Wait, other);
        let refused = producer(&fixture).add(&flow).await;
        assert!(
            matches!(refused, Err(Error::Server(_))),
            "{odd:?}: {refused:?}"
        );
        fixture.server.cli(&["DEL", odd[1]]).await?;
        let keys = fixture.shown(&["KEYS", "*"]).await?;
        assert!(
            !keys.contains("q:r") && !keys.contains("wait"),
            "{odd:?}: {keys}"
        );
        assert_eq!(fixture.queue_events().await?, "");
    }
    Ok(())
}

/// Ids of every alphabet, as long as may be, in queues of other prefixes: each child finds its parent, and is read by it.
#[tokio::test]
async fn odd_ids_and_prefixes_run_through() -> TestResult {
    let fixture = Fixture::start().await?;
    let long = "ü".repeat(256);
    let ids = [
        "٣",
        "0x10",
        "1e3",
        "007",
        "1.0",
        "a b",
        "a{b}c",
        "%3A",
        "\\",
        "'\"",
        "🦀",
        "null",
        long.as_str(),
    ];
    let prefixes = ["bull", "{tag}", "b:u:ll", "ü", "a b"];
    for (at, id) in ids.iter().enumerate() {
        let prefix = prefixes[at % prefixes.len()];
        let child = FlowJob::new("kids", "n", &1).options(JobOptions::new().id(*id));
        let flow = job(id).child(ChildPolicy::Wait, child.prefix(prefix));
        let added = producer(&fixture).add(&flow).await;
        let added = added.map_err(|error| format!("{id}: {error:?}"))?;
        assert_eq!(added.children[0].queue, format!("{prefix}:kids"));
        let worker = ManualWorker::with_prefix(&fixture.client, prefix, "kids")?;
        let kid = worker.fetch("t").await?.ok_or("no child")?;
        assert_eq!(kid.id, **id);
        let parent = kid.parent.as_ref().ok_or("no parent")?;
        assert_eq!(
            (parent.queue.as_str(), &parent.id),
            ("bull:q", &JobId::existing(*id))
        );
        worker.finish(&kid, "t", Ok(Outcome::Done(at))).await?;
        let values = fixture
            .queue
            .children_values::<usize>(*id)
            .await?
            .into_map()?;
        let key = oxbull::JobKey::new(format!("{prefix}:kids"), &JobId::existing(*id));
        assert_eq!(values.get(&key), Some(&at), "{values:?}");
        let read = fixture.queue.flow(*id, oxbull::FlowLimits::new()).await?;
        let read = read.ok_or("no flow")?;
        assert_eq!(
            (&read.children[0].key, read.children[0].job.is_some()),
            (&key, true)
        );
        run(&fixture, id).await?;
    }
    // Those that the counter may give, or that are too long, are refused by name.
    for id in ["7", "-1", "9007199254740991", "", "a:b", &"x".repeat(513)] {
        let flow = job("fine").child(ChildPolicy::Wait, job(id));
        let refused = producer(&fixture).add(&flow).await;
        let named = matches!(
            &refused,
            Err(Error::Invalid {
                field: "job id",
                ..
            })
        );
        assert!(named, "{id}: {refused:?}");
    }
    assert_eq!(fixture.queue.state("fine").await?, None);
    Ok(())
}
