//! A tree of 10,000 jobs is added: all of it or nothing, each job once, none to be seen before all are there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxbull::{ChildPolicy, Client, Error, FlowAdded, FlowJob, FlowProducer, JobId, JobOptions};
use oxbull_testkit::TestResult;

use crate::check::{Allow, check_queue};
use crate::fixture::{Fixture, Work, work};

/// Parents below the root, and jobs below each: with the root 10,000 jobs.
const GROUPS: usize = 99;
const LEAVES: usize = 100;
const ALL: usize = 1 + GROUPS * (1 + LEAVES);

/// Answers how many jobs of the queue a worker could start, runs or has ended; and how many keys there are. A tree that
/// is there has a key for each of its jobs.
const SEEN: &str = "local B = KEYS[1]
    return { redis.call('LLEN', B .. 'wait') + redis.call('LLEN', B .. 'active') + redis.call('ZCARD', B .. 'prioritized')
        + redis.call('ZCARD', B .. 'delayed') + redis.call('ZCARD', B .. 'completed') + redis.call('ZCARD', B .. 'failed'),
      redis.call('DBSIZE') }";

/// The tree, with ids of its own or ids that are made for it.
fn tree(fixture: &Fixture, named: bool) -> FlowJob {
    let job = |id: String, priority: u32| {
        let options = JobOptions::new().priority(priority);
        let options = if named { options.id(id) } else { options };
        FlowJob::new(&fixture.name, "work", &Work { ms: 0 }).options(options)
    };
    let groups = (0..GROUPS).map(|group| {
        let priority = |leaf: usize| u32::from(leaf.is_multiple_of(10));
        let leaves = (0..LEAVES).map(|leaf| job(format!("leaf-{group}-{leaf}"), priority(leaf)));
        job(format!("group-{group}"), 0).children(ChildPolicy::Wait, leaves)
    });
    job("root-0".to_owned(), 0).children(ChildPolicy::Wait, groups)
}

/// A queue that keeps all events of a tree.
async fn large() -> TestResult<Fixture> {
    let fixture = Fixture::start().await?;
    let all = ["HSET", &fixture.key("meta"), "opts.maxLenEvents", "1000000"];
    fixture.server.cli(&all).await?;
    Ok(fixture)
}

fn ids(added: &FlowAdded) -> Vec<JobId> {
    let children = added.children.iter().flat_map(ids);
    children.chain([added.id.clone()]).collect()
}

/// Looks at the queue at one moment: nothing may be seen of a tree that is not all there.
async fn look(fixture: &Fixture, connection: &mut oxbull_testkit::Connection) -> TestResult<bool> {
    let seen = connection
        .call(&["EVAL", SEEN, "1", &fixture.key("")])
        .await?;
    let number = |at: usize| seen.items()[at].int().unwrap_or(0);
    let (queued, keys) = (number(0), number(1));
    assert!(
        queued == 0 || keys >= i64::try_from(ALL)?,
        "{queued} jobs are to be seen when there are {keys} keys"
    );
    Ok(queued > 0)
}

/// Ends all other connections of the server again and again until `over`. Returns how many it has ended.
async fn kill_on(fixture: &Fixture, over: &AtomicBool) -> TestResult<i64> {
    let mut connection = fixture.server.connect().await?;
    let mut killed = 0;
    while !over.load(Ordering::SeqCst) {
        look(fixture, &mut connection).await?;
        let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        killed += connection.call(&kill).await?.int().unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    Ok(killed)
}

/// Adds a flow, and again after each error that says that some of it may be there.
async fn add_on(client: &Client, flow: &FlowJob, over: &AtomicBool) -> TestResult<FlowAdded> {
    let producer = FlowProducer::new(client);
    let mut tries = 0;
    let added = loop {
        tries += 1;
        match producer.add(flow).await {
            Ok(added) => break Ok(added),
            Err(Error::Refused { job, source, .. }) => {
                break Err(format!("{job}: {source} at try {tries}").into());
            }
            Err(_) if tries < 50 => {}
            Err(error) => break Err(error.into()),
        }
    };
    over.store(true, Ordering::SeqCst);
    added
}

/// Runs the tree; each job was stored once and runs once.
async fn run_off(fixture: &Fixture, added: &FlowAdded) -> TestResult {
    fixture.ended(ALL as u64).await?;
    let all = ids(added);
    assert_eq!(all.len(), ALL);
    let events = fixture.queue_events().await?;
    let added = events
        .lines()
        .filter(|line| line.split(' ').nth(1) == Some("added"));
    assert_eq!(added.count(), ALL, "each is stored once");
    let allow = Allow {
        clients: 1_000,
        ..Allow::default()
    };
    let summary = check_queue(fixture, &all, allow).await?;
    assert_eq!(summary.completed, ALL);
    assert_eq!(fixture.effects.ends(), ALL, "each ran once");
    Ok(())
}

/// All connections are killed over and over while the tree is added, and nothing of it is to be seen until it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_is_added_while_connections_are_killed() -> TestResult {
    for named in [false, true] {
        let fixture = large().await?;
        let flow = tree(&fixture, named);
        let over = AtomicBool::new(false);
        let (added, killed) = tokio::join!(
            add_on(&fixture.client, &flow, &over),
            kill_on(&fixture, &over)
        );
        let (added, killed) = (added?, killed?);
        assert!(killed > 10, "{killed} connections were killed");
        println!("{killed} connections were killed");
        let worker = fixture
            .worker_of(&fixture.other_client().await?)
            .concurrency(50)
            .start(work)
            .await?;
        run_off(&fixture, &added).await?;
        worker.close().await;
    }
    Ok(())
}

/// Two producers add the same tree at once, and hungry workers wait for it: each job is stored and run once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_producers_add_the_same_tree_at_once() -> TestResult {
    let fixture = large().await?;
    let flow = tree(&fixture, true);
    let (one, two) = (fixture.other_client().await?, fixture.other_client().await?);
    let worker = fixture
        .worker_of(&fixture.other_client().await?)
        .concurrency(50)
        .start(work)
        .await?;
    let seen = async {
        let mut connection = fixture.server.connect().await?;
        while !look(&fixture, &mut connection).await? {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        TestResult::Ok(())
    };
    let over = AtomicBool::new(false);
    let (first, second, seen) =
        tokio::join!(add_on(&one, &flow, &over), add_on(&two, &flow, &over), seen);
    let (first, second) = (first?, second?);
    seen?;
    assert_eq!(ids(&first), ids(&second));
    run_off(&fixture, &first).await?;
    worker.close().await;
    Ok(())
}

/// A producer that dies in the middle leaves nothing to be seen; another one goes on with the same tree, or its root is
/// removed and nothing of it is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tree_of_a_dead_producer_is_gone_on_with_or_removed() -> TestResult {
    for remove in [false, true] {
        let fixture = large().await?;
        let flow = tree(&fixture, true);
        let client = fixture.other_client().await?;
        let mut connection = fixture.server.connect().await?;
        let half = async {
            while connection.call(&["DBSIZE"]).await?.int().unwrap_or(0) < 5_000 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            TestResult::Ok(())
        };
        let producer = FlowProducer::new(&client);
        tokio::select! {
            added = producer.add(&flow) => return Err(format!("added: {:?}", added.is_ok()).into()),
            half = half => half?,
        }
        client.close().await;
        assert!(!look(&fixture, &mut connection).await?);
        if remove {
            assert!(fixture.queue.remove(flow.id()).await?);
            let left = fixture
                .server
                .cli(&["KEYS", &fixture.key("*-*")])
                .await?
                .texts();
            assert!(
                left.iter().all(|key| key.ends_with("stalled-check")),
                "{left:?}"
            );
            assert_eq!(fixture.queue.counts().await?.waiting_children, 0);
            continue;
        }
        let added = FlowProducer::new(&fixture.client).add(&flow).await?;
        let worker = fixture
            .worker_of(&fixture.other_client().await?)
            .concurrency(50);
        let worker = worker.start(work).await?;
        run_off(&fixture, &added).await?;
        worker.close().await;
    }
    Ok(())
}
