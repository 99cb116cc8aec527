//! Who works for a queue, and on what.

use oxbull::JobOptions;
use oxbull::{Client, ClientConfig, Error, QueueEvents, Worker};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};

/// Workers are shown with what they do; a job whose worker is gone is shown without a worker.
#[tokio::test]
async fn workers_are_shown_with_their_jobs() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    assert!(queue.workers().await?.is_empty() && queue.listeners().await?.is_empty());
    let start = async |name: Option<&str>| {
        let mut builder = Worker::builder(&fixture.client, "q").concurrency(1);
        if let Some(name) = name {
            builder = builder.name(name);
        }
        builder.start(scripted).await
    };
    let (rosa, bare) = (start(Some("rosa")).await?, start(None).await?);
    let _events = QueueEvents::open(&fixture.client, "q").await?;
    fixture.add("hang", JobOptions::new()).await?;
    fixture.add("hang", JobOptions::new()).await?;
    let lost = fixture.add("hang", JobOptions::new()).await?;
    fixture
        .counts(|counts| counts.active == 2 && counts.waiting == 1)
        .await?;
    // One that a worker left behind.
    let key = format!("bull:q:{lost}");
    fixture
        .server
        .cli(&["HSET", &key, "pb", "ruth", "ats", "2"])
        .await?;
    fixture
        .server
        .cli(&["LMOVE", "bull:q:wait", "bull:q:active", "RIGHT", "LEFT"])
        .await?;
    let activity = eventually(DEADLINE, || async {
        let activity = queue.activity().await.map_err(|error| error.to_string())?;
        let listeners = queue.listeners().await.map_err(|error| error.to_string())?;
        let workers: usize = activity
            .by_name
            .iter()
            .map(|group| group.workers.len())
            .sum();
        if workers == 2 && listeners.len() == 1 {
            Ok(activity)
        } else {
            Err(format!("{activity:?} {listeners:?}"))
        }
    })
    .await?;
    assert_eq!(activity.active, 3);
    let shown: Vec<_> = activity
        .by_name
        .iter()
        .map(|group| (group.name.as_deref(), group.workers.len(), group.jobs.len()))
        .collect();
    assert_eq!(
        shown,
        [(None, 1, 1), (Some("rosa"), 1, 1), (Some("ruth"), 0, 1)]
    );
    let ruth = &activity.by_name[2].jobs[0];
    assert_eq!((&ruth.id, ruth.attempts_started), (&lost, 2));
    assert!(activity.by_name[1].jobs[0].processed_on.is_some());
    let worker = &activity.by_name[1].workers[0];
    assert_eq!(worker.client_name, "bull:cQ==:w:rosa");
    assert!(
        worker.address.starts_with("127.0.0.1:") && worker.id > 0,
        "{worker:?}"
    );
    let json = serde_json::to_value(worker)?;
    assert_eq!(
        (&json["rawname"], &json["name"]),
        (&"bull:cQ==:w:rosa".into(), &"rosa".into())
    );
    rosa.close_now().await;
    bare.close_now().await;
    Ok(())
}

/// Who may not list clients is told so, and the numbers that need no list are still exported.
#[tokio::test]
async fn users_that_may_not_list_clients_are_told() -> TestResult {
    let fixture = Fixture::start().await?;
    let user = [
        "ACL",
        "SETUSER",
        "viewer",
        "on",
        ">pw",
        "~*",
        "+@all",
        "-client|list",
    ];
    fixture.server.cli(&user).await?;
    let url = format!("redis://viewer:pw@127.0.0.1:{}", fixture.server.port());
    let client = Client::connect(ClientConfig::from_url(&url)?).await?;
    let queue: oxbull::Queue = oxbull::Queue::open(&client, "q").await?;
    for error in [
        queue.workers().await.map(drop),
        queue.listeners().await.map(drop),
        queue.activity().await.map(drop),
    ] {
        assert!(
            matches!(&error, Err(Error::Denied(text)) if text.starts_with("CLIENT")),
            "{error:?}"
        );
    }
    let text = oxbull::inspect::Exporter::new()
        .queue(&queue)
        .render()
        .await?;
    assert!(
        text.contains("oxbull_queue_paused") && !text.contains("oxbull_queue_workers"),
        "{text}"
    );
    Ok(())
}
