//! A cluster: where keys are, what moves, and who takes over.

use std::time::Duration;

use oxbull::client::{Client, ClientConfig};
use oxbull::{
    ChildPolicy, Error, FlowJob, FlowProducer, JobOptions, JobOutcome, Parent, Queue, QueueEvents,
    Worker,
};
use oxbull_testkit::{DEADLINE, RedisCluster, RedisServer, TestResult, eventually};

use crate::load::{Load, Runs};

/// A name for each of the three nodes with slots, whose keys are there.
async fn names(cluster: &RedisCluster) -> TestResult<[String; 3]> {
    let mut names = [const { None }; 3];
    for n in 0..200 {
        let name = format!("{{q{n}}}");
        let third = cluster.slot(&name).await? * 3 / 16_384;
        if let Some(place) = names.get_mut(usize::try_from(third)?) {
            place.get_or_insert(name);
        }
    }
    let [Some(a), Some(b), Some(c)] = names else {
        return Err("no names".into());
    };
    Ok([a, b, c])
}

async fn connect(cluster: &RedisCluster) -> TestResult<Client> {
    Ok(Client::connect(ClientConfig::from_url(&cluster.url())?).await?)
}

/// Every acknowledged job ran once, and no job ran twice.
fn once(acknowledged: &[oxbull::JobId], runs: &Runs) {
    for id in acknowledged {
        assert_eq!(runs.get(&id.to_string()), Some(&(1, 1)), "{id}");
    }
    for (id, run) in runs {
        assert_eq!(*run, (1, 1), "{id}");
    }
}

/// What a cluster would spread over slots is refused before anything is sent, with what to write.
#[tokio::test]
async fn keys_of_several_slots_are_refused_with_what_to_write() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let client = connect(&cluster).await?;
    let opened = [
        Queue::<u64>::builder(&client, "mail")
            .open()
            .await
            .map(drop),
        Queue::<u64>::builder(&client, "{}mail")
            .open()
            .await
            .map(drop),
        QueueEvents::builder(&client, "mail").open().await.map(drop),
        oxbull::ManualWorker::new(&client, "mail").map(drop),
        Worker::builder(&client, "mail")
            .start(async |_: oxbull::Job<u64>| Ok::<_, oxbull::JobError>(oxbull::Outcome::Done(())))
            .await
            .map(drop),
    ];
    for error in opened {
        let text = error.unwrap_err().to_string();
        assert!(text.contains("mail}") && text.contains("{bull}"), "{text}");
    }
    for (prefix, name) in [("{bull}", "mail"), ("bull", "{mail}")] {
        let queue = Queue::<u64>::builder(&client, name).prefix(prefix);
        queue.open().await?.add("n", &1).await?;
    }

    let flow = |prefix: &str| {
        let child = FlowJob::new("{other}", "child", &1);
        let root = FlowJob::new("{mail}", "root", &1).child(ChildPolicy::Wait, child);
        (FlowProducer::new(&client).prefix(prefix), root)
    };
    let (producer, root) = flow("bull");
    let error = producer.add(&root).await.unwrap_err();
    assert!(error.to_string().contains("{bull}"), "{error}");
    let (producer, root) = flow("{bull}");
    producer.add(&root).await?;

    let queue: Queue<u64> = Queue::builder(&client, "{mail}").open().await?;
    let parent = JobOptions::new().parent(Parent::new("bull:{other}", "1"));
    let error = queue.add_with("n", &1, parent).await.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Invalid {
                field: "parent",
                ..
            }
        ),
        "{error:?}"
    );

    #[cfg(feature = "sessions")]
    {
        let builder = || oxbull::kv::session::Sessions::builder(&client).unsealed();
        let error = builder().build().unwrap_err();
        assert!(error.to_string().contains("{session}"), "{error}");
        let sessions = builder().prefix("{session}").build()?;
        for user in ["ada", "bob"] {
            let user = oxbull::kv::session::UserId::new(user)?;
            sessions.create(&user, 1_u8).await?;
            assert_eq!(sessions.list(&user).await?.len(), 1);
        }
    }
    #[cfg(feature = "http-cache")]
    {
        let options = oxbull::http::CacheOptions::default();
        let refused = oxbull::http::CacheLayer::new(&client.kv(), options).map(drop);
        let error = refused.unwrap_err();
        assert!(error.to_string().contains("REDIS_CACHE_URL"), "{error}");
    }

    let error = Client::connect(ClientConfig::from_url(&cluster.url())?.db(1))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { field: "db", .. }),
        "{error:?}"
    );
    let alone = RedisServer::start().await?;
    let url = alone.url().replace("redis://", "redis+cluster://");
    let error = Client::connect(ClientConfig::from_url(&url)?)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Unsuitable(text) if text.contains("redis://")),
        "{error:?}"
    );
    Ok(())
}

/// Queues on all nodes, from one address: adds, workers, events, listings, keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_work_on_every_node() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let client = connect(&cluster).await?;
    let mut loads = Vec::new();
    for name in names(&cluster).await? {
        loads.push((Load::start(&client, &name).await?, name));
    }
    for (load, name) in &loads {
        load.goes_on(100).await?;
        let workers = load.queue.workers().await?;
        assert_eq!(workers.len(), 1, "{name}: {workers:?}");
        let added = load.queue.add("waited for", &3).await?;
        let ended = load.queue.wait_for::<u64>(&added.id, DEADLINE).await?;
        assert!(matches!(ended, JobOutcome::Completed(3)), "{ended:?}");
        let mut events = QueueEvents::builder(&client, name).open().await?;
        assert!(events.next().await.is_some());
    }
    for n in 0..60 {
        client.kv().set(&format!("k{n}"), &n).await?;
    }
    let mut keys = client.kv().keys("k*");
    let mut found = std::collections::BTreeSet::new();
    while let Some(key) = keys.next().await {
        found.insert(key?);
    }
    assert_eq!(found.len(), 60);
    assert!(client.health(DEADLINE).await.is_up());
    for (load, name) in loads {
        let (acknowledged, runs) = load.finish().await?;
        assert!(acknowledged.len() >= 100, "{name}");
        let owner = cluster.owner(&name).await?;
        assert_eq!(owner.int(&["EXISTS", &format!("bull:{name}:id")]).await?, 1);
        for id in &acknowledged {
            assert_eq!(runs.get(&id.to_string()), Some(&(1, 1)), "{id}");
        }
    }
    Ok(())
}

/// The slot of a busy queue goes to another node and back: while its keys are in both places nothing runs on
/// a part of them, and no job is lost or run twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slot_of_a_busy_queue_moves_and_nothing_is_lost() -> TestResult {
    let cluster = RedisCluster::start().await?;
    let client = connect(&cluster).await?;
    let [name, ..] = names(&cluster).await?;
    let [first, second, ..] = cluster.nodes() else {
        return Err("no nodes".into());
    };
    let load = Load::start(&client, &name).await?;
    for (from, to) in [(first, second), (second, first), (first, second)] {
        load.goes_on(100).await?;
        cluster.begin_move(&name, to).await?;
        // Some keys are there, some here, and requests come in.
        cluster.move_keys(&name, from, to, 50).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        while cluster.move_keys(&name, from, to, 200).await? > 0 {}
        cluster.end_move(&name, from, to).await?;
        assert_eq!(cluster.owner(&name).await?.port(), to.port());
    }
    load.goes_on(100).await?;
    assert_eq!(load.queue.workers().await?.len(), 1);
    let (acknowledged, runs) = load.finish().await?;
    once(&acknowledged, &runs);
    assert!(acknowledged.len() > 300, "{}", acknowledged.len());
    Ok(())
}

/// A node is killed and its replica promoted: its queue goes on, and the others do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_node_is_replaced_and_the_others_go_on() -> TestResult {
    let cluster = RedisCluster::start().await?;
    // The other slots are served meanwhile, which a cluster does only when it is told to.
    for node in cluster.nodes() {
        node.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"])
            .await?;
    }
    let client = connect(&cluster).await?;
    let [dying, other, _] = names(&cluster).await?;
    let [first, ..] = cluster.nodes() else {
        return Err("no nodes".into());
    };
    let load = Load::start(&client, &dying).await?;
    let beside = Load::start(&client, &other).await?;
    load.goes_on(100).await?;
    first.kill_hard();
    beside.goes_on(50).await?;
    let new = eventually(DEADLINE, || cluster.owner(&dying)).await?;
    assert_ne!(new.port(), first.port());
    load.goes_on(100).await?;
    beside.goes_on(50).await?;

    first.restart().await?;
    load.goes_on(100).await?;
    let (acknowledged, runs) = beside.finish().await?;
    once(&acknowledged, &runs);
    let (acknowledged, _) = load.finish().await?;
    let queue: Queue<u64> = Queue::builder(&client, &dying).open().await?;
    let mut lost = 0;
    for id in &acknowledged {
        lost += usize::from(queue.job(id).await?.is_none());
    }
    // Replication is asynchronous.
    assert!(lost < 50, "{lost} of {} jobs are lost", acknowledged.len());
    Ok(())
}
