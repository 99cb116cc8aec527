//! What operators do to a running system loses no job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oxbull::{Client, ClientConfig, Context, Job, JobResult, NewJob, Outcome, Queue, Worker};
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually};
use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::fixture::{ShippedRedis, password, password_variable, passwords, repository, users};

/// How often this library's handler was started.
type Runs = Arc<AtomicU64>;

async fn run(_: Job<Value>, runs: Context<Runs>) -> JobResult<Value> {
    runs.state().fetch_add(1, Ordering::Relaxed);
    Ok(Outcome::Done(json!("rust")))
}

/// A copy of the append-only file, as the manual makes it, brings every job back, each in its state.
#[tokio::test]
async fn restored_backup_has_every_job() -> TestResult {
    let deployment = Deployment::start().await?;
    let client = Client::connect(ClientConfig::from_url(&deployment.url("producer"))?).await?;
    let queue: Queue<Value> = Queue::open(&client, "kept").await?;
    for half in 0..2 {
        let delayed = oxbull::JobOptions::new().delay(DEADLINE * 60);
        queue.add_with("later", &json!(half), delayed).await?;
        for added in queue
            .add_bulk((0..50).map(|n| NewJob::new("job", json!(n))))
            .await?
        {
            added?;
        }
        if half == 0 {
            // What follows lies in another file than what was before.
            rewrite(&deployment).await?;
        }
    }
    // What was acknowledged may be on its way to the file for up to two seconds.
    says(
        &deployment,
        &["aof_buffer_length:0", "aof_pending_bio_fsync:0"],
    )
    .await?;
    deployment
        .shell("docker compose exec -T redis sh /etc/oxbull/backup.sh > backup.tar; mkdir restored; tar -xf backup.tar -C restored")
        .await?;
    let left = std::fs::read_dir(deployment.data("redis"))?;
    let left: Vec<_> = left
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    assert_eq!(left, ["appendonlydir"], "the work is not cleared away");

    let restored = RedisServer::builder()
        .config_file(&repository().join("config/redis/queue.conf"))?
        .start()
        .await?;
    restored.stop_graceful().await?;
    let files = restored.dir().join("appendonlydir");
    std::fs::remove_dir_all(&files)?;
    let copy = deployment.dir.path().join("restored/appendonlydir");
    std::fs::create_dir(&files)?;
    for file in std::fs::read_dir(copy)? {
        let file = file?;
        std::fs::copy(file.path(), files.join(file.file_name()))?;
    }
    restored.restart().await?;
    let client = Client::connect(ClientConfig::from_url(&restored.url())?).await?;
    let queue: Queue<Value> = Queue::open(&client, "kept").await?;
    let counts = queue.counts().await?;
    assert_eq!((counts.waiting, counts.delayed), (100, 2));
    let worker = Worker::builder(&client, "kept")
        .state(Runs::default())
        .concurrency(10)
        .start(run)
        .await?;
    eventually(DEADLINE, async || {
        queue
            .counts()
            .await
            .is_ok_and(|counts| counts.completed == 100)
    })
    .await?;
    worker.close().await;
    Ok(())
}

async fn rewrite(deployment: &Deployment) -> TestResult {
    deployment.ask("BGREWRITEAOF").await?;
    says(
        deployment,
        &["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"],
    )
    .await
}

/// Waits until the server's persistence is so.
async fn says(deployment: &Deployment, lines: &[&str]) -> TestResult {
    let said = eventually(DEADLINE, async || {
        let said = deployment.ask("INFO persistence").await;
        let said = said.map_err(|error| error.to_string())?;
        if lines.iter().all(|line| said.contains(line)) {
            Ok(())
        } else {
            Err(said)
        }
    });
    Ok(said.await?)
}

/// Node alone, both, Rust alone, both, Node alone, while jobs keep coming: each runs once.
#[tokio::test]
async fn queue_moves_to_rust_and_back_without_a_loss() -> TestResult {
    const QUEUE: &str = "moving";
    const JOBS: u64 = 60;
    let fixture = ShippedRedis::start("queue.conf").await?;
    let producer = fixture.node("producer").await?;
    let node = fixture.node("worker").await?;
    let client = fixture.client("worker").await?;
    let seen = fixture.observer().await?;
    let queue: Queue<Value> = Queue::open(&seen, QUEUE).await?;
    let mut added = 0;
    let mut rust = None;
    let runs = Runs::default();
    for (step, (node_works, rust_works)) in [
        (true, false),
        (true, true),
        (false, true),
        (true, true),
        (true, false),
    ]
    .into_iter()
    .enumerate()
    {
        let jobs: Vec<_> = (0..JOBS)
            .map(|n| json!({ "name": "job", "data": { "n": n } }))
            .collect();
        producer
            .call("queue.addBulk", json!({ "queue": QUEUE, "jobs": jobs }))
            .await?;
        added += JOBS;
        if rust_works && rust.is_none() {
            rust = Some(
                Worker::builder(&client, QUEUE)
                    .state(runs.clone())
                    .concurrency(3)
                    .start(run)
                    .await?,
            );
        }
        if node_works {
            let opts = json!({ "concurrency": 3 });
            let start = json!({ "queue": QUEUE, "worker": format!("step{step}"), "opts": opts });
            node.call("worker.start", start).await?;
        }
        if !rust_works && let Some(worker) = rust.take() {
            worker.close().await;
        }
        eventually(DEADLINE, async || {
            queue
                .counts()
                .await
                .is_ok_and(|counts| counts.completed == added)
        })
        .await?;
        if node_works {
            node.call("worker.close", json!({ "worker": format!("step{step}") }))
                .await?;
        }
    }
    let mut by_rust = 0;
    for id in 1..=added {
        let job = queue
            .job(&oxbull::JobId::existing(id.to_string()))
            .await?
            .ok_or("a job is gone")?;
        assert_eq!(job.attempts_made, 1, "job {id}");
        by_rust += u64::from(job.return_value::<Value>()? == Some(json!("rust")));
    }
    assert_eq!(
        runs.load(Ordering::Relaxed),
        by_rust,
        "a handler ran for nothing"
    );
    assert!(by_rust >= JOBS && by_rust < added, "{by_rust} of {added}");
    assert_eq!(fixture.refused().await?, Vec::<String>::new());
    Ok(())
}

/// While a password is replaced, both let in; then the new one alone does.
#[tokio::test]
async fn former_password_works_until_it_is_taken_out() -> TestResult {
    let former = |role: &str| {
        (
            format!("{}_OLD", password_variable(role)),
            "former-1".to_owned(),
        )
    };
    let both = users(passwords().chain([former("worker")]))?;
    let alone = users(passwords())?;
    for (lines, works) in [(both, true), (alone, false)] {
        let server = RedisServer::builder()
            .configs(&lines.lines().collect::<Vec<_>>())
            .login("worker", &password("worker"))
            .start()
            .await?;
        let mut connection = oxbull_testkit::Connection::open(server.port()).await?;
        let answer = connection.call(&["AUTH", "worker", "former-1"]).await;
        assert_eq!(answer.is_ok(), works);
        let mut connection = oxbull_testkit::Connection::open(server.port()).await?;
        connection
            .call(&["AUTH", "worker", &password("worker")])
            .await?;
    }
    Ok(())
}

/// A role without a password, or with one that would need quoting in a URL, is a refusal to start that
/// names the variable and shows no password.
#[test]
fn servers_do_not_start_without_good_passwords() {
    for role in crate::fixture::ROLES {
        let variable = password_variable(role);
        let without = users(passwords().filter(|(name, _)| *name != variable));
        assert!(without.unwrap_err().to_string().contains(&variable));
        let odd = passwords().map(|(name, word)| {
            let word = if name == variable {
                "p@ss/w:rd".to_owned()
            } else {
                word
            };
            (name, word)
        });
        let text = users(odd).unwrap_err().to_string();
        assert!(text.contains(&variable) && !text.contains("p@ss"), "{text}");
    }
}
