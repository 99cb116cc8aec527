//! Dashboards show which process has a job.

use oxbull::client::{Client, ClientConfig};
use oxbull::{JobState, Queue};
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually};
use serde_json::{Value, json};
use tokio::process::Command;

/// A job says which worker started it: by `WORKER_NAME`, or its queue and host.
#[tokio::test]
async fn jobs_name_the_process_that_started_them() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let queue: Queue<Value> = Queue::open(&client, "webhook-processing").await?;
    for (variables, name) in [
        (vec![("HOSTNAME", "pod-7")], "webhook-processing@pod-7"),
        (vec![("HOSTNAME", "pod-7"), ("WORKER_NAME", "blue")], "blue"),
    ] {
        let program = Command::new(env!("CARGO_BIN_EXE_webhook-processing"))
            .env_clear()
            .envs(variables)
            .env("REDIS_URL", server.url())
            .kill_on_drop(true)
            .spawn()?;
        let delivery = json!({ "object": "instagram", "entry": [] });
        let id = queue.add("delivery", &delivery).await?.id;
        eventually(DEADLINE, async || {
            let state = queue.state(&id).await.map_err(|error| error.to_string())?;
            (state == Some(JobState::Completed))
                .then_some(())
                .ok_or(format!("{state:?}"))
        })
        .await?;
        let job = queue.job(&id).await?.ok_or("no job")?;
        assert_eq!(job.processed_by.as_deref(), Some(name));
        drop(program);
    }
    client.close().await;
    Ok(())
}
