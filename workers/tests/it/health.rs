//! What the programs say about themselves to whoever restarts, balances and watches them.

use std::process::Stdio;

use oxbull::{JobOptions, Queue};
use oxbull_instagram_simulator::{Simulator, SimulatorOptions};
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually, free_port};
use oxbull_workers::jobs::webhook_processing::QUEUE;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::http::Http;
use crate::support::{LATER, RedisFixture, publisher};

/// Where every worker program is.
const WORKERS: [&str; 3] = [
    env!("CARGO_BIN_EXE_post-publishing"),
    env!("CARGO_BIN_EXE_webhook-processing"),
    env!("CARGO_BIN_EXE_analytics-refresh"),
];

pub(crate) fn program(path: &str, redis: &str) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("REDIS_URL", redis)
        .env("GRAPH_ACCESS_TOKEN", "token")
        .env("META_APP_SECRET", "secret")
        .env("META_VERIFY_TOKEN", "token")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What a program says and its exit code, once it has ended by itself.
async fn ended(command: &mut Command) -> TestResult<(String, Option<i32>)> {
    let output = tokio::time::timeout(DEADLINE, command.output()).await??;
    let said = [output.stdout, output.stderr].concat();
    Ok((String::from_utf8(said)?, output.status.code()))
}

/// Asks a path until the answer has this status; returns it.
pub(crate) async fn answers(port: u16, path: &str, status: u16) -> TestResult<String> {
    let address = ([127, 0, 0, 1], port).into();
    let ask = async || -> TestResult<(u16, String)> {
        let answer = Http::open(address).await?.get(path).await?;
        Ok((answer.status, answer.body))
    };
    Ok(eventually(DEADLINE, async || match ask().await {
        Ok((found, body)) if found == status => Ok(body),
        Ok((found, body)) => Err(format!("{path}: {found} {body}")),
        Err(error) => Err(format!("{path}: {error}")),
    })
    .await?)
}

/// A port that is taken is a mistake in a deployment: the program ends before it has started a job,
/// and names what to change.
#[tokio::test]
async fn health_port_that_is_taken_ends_the_program() -> TestResult {
    let server = RedisServer::start().await?;
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let port = taken.local_addr()?.port().to_string();
    for path in WORKERS {
        let (said, code) = ended(program(path, &server.url()).env("HEALTH_PORT", &port)).await?;
        assert_eq!(code, Some(1), "{said}");
        for word in ["HEALTH_PORT", "HEALTH_HOST", &port] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    Ok(())
}

/// Every variable that a program reads is in its help, under its own name, so that the message about
/// a value that is wrong names the variable.
#[tokio::test]
async fn mistakes_in_variables_are_named() -> TestResult {
    for path in [&WORKERS[..], &[env!("CARGO_BIN_EXE_gateway")]].concat() {
        let (help, _) = ended(program(path, "redis://h").arg("--help")).await?;
        let variables: Vec<_> = help
            .split("[env: ")
            .skip(1)
            .filter_map(|rest| rest.split([']', '=']).next())
            .collect();
        assert!(variables.len() > 8, "{variables:?}");
        if path != env!("CARGO_BIN_EXE_gateway") {
            assert!(variables.contains(&"HEALTH_PORT"), "{variables:?}");
            assert!(variables.contains(&"HEALTH_HOST"), "{variables:?}");
        }
        for variable in variables {
            // Any text will do for these, or they are the library's to read.
            let text = [
                "WORKER_NAME",
                "QUEUE_PREFIX",
                "GRAPH_API_URL",
                "GRAPH_TOKENS_FILE",
            ];
            if text.contains(&variable) || variable.starts_with("REDIS_") {
                continue;
            }
            let mut wrong = program(path, "redis://127.0.0.1:1");
            let (said, code) = ended(wrong.env(variable, "x y")).await?;
            assert!(code.is_some_and(|code| code != 0), "{variable}: {said}");
            assert!(said.contains(variable), "{variable}: {said}");
        }
    }
    Ok(())
}

/// A compose file or a chart makes an empty variable of one that is not set.
#[tokio::test]
async fn empty_variables_count_as_unset() -> TestResult {
    let server = RedisServer::start().await?;
    let port = free_port()?;
    let mut worker = program(WORKERS[1], &server.url());
    for variable in ["CONCURRENCY", "HEALTH_HOST", "SHUTDOWN_GRACE", "LOG_FORMAT"] {
        worker.env(variable, "");
    }
    let _worker = worker.env("HEALTH_PORT", port.to_string()).spawn()?;
    answers(port, "/ready", 200).await?;
    Ok(())
}

/// Who watches a worker sees what it did, how long that took and waited, and what is left.
#[tokio::test]
async fn numbers_of_a_worker_are_told() -> TestResult {
    let redis = RedisFixture::start().await?;
    let port = free_port()?;
    let queue: Queue<Value> = Queue::open(&redis.client, QUEUE).await?;
    for n in 0..3 {
        let event = json!({ "object": "instagram", "entry": [{ "id": "1", "time": n }] });
        queue.add("delivery", &event).await?;
    }
    queue.add("delivery", &json!("not a delivery")).await?;
    let later = JobOptions::new().delay(LATER);
    queue.add_with("delivery", &json!({}), later).await?;
    let _worker = program(WORKERS[1], &redis.server.url())
        .env("HEALTH_PORT", port.to_string())
        .spawn()?;
    let label = format!("{{queue=\"{QUEUE}\"");
    let wanted = [
        format!("oxbull_jobs_total{label},outcome=\"completed\"}} 3\n"),
        format!("oxbull_jobs_total{label},outcome=\"failed\"}} 1\n"),
        format!("oxbull_attempts_started_total{label}}} 4\n"),
        format!("oxbull_job_duration_seconds_count{label}}} 4\n"),
        format!("oxbull_job_wait_seconds_count{label}}} 4\n"),
        format!("oxbull_fetch_batch_size_count{label}}} "),
        format!("oxbull_finish_batch_size_count{label}}} "),
        format!("oxbull_queue_jobs{label},state=\"completed\"}} 3\n"),
        format!("oxbull_queue_jobs{label},state=\"delayed\"}} 1\n"),
        format!("oxbull_queue_oldest_wait_seconds{label}}} 0\n"),
        format!("oxbull_queue_schedule_lag_seconds{label}}} 0\n"),
        format!("oxbull_worker_running_jobs{label}}} 0\n"),
        format!("oxbull_worker_healthy{label}}} 1\n"),
        "oxbull_redis_connections_total ".to_owned(),
        "oxbull_redis_up 1\n".to_owned(),
    ];
    eventually(DEADLINE, async || {
        let told = answers(port, "/metrics", 200)
            .await
            .map_err(|error| error.to_string())?;
        match wanted.iter().find(|line| !told.contains(line.as_str())) {
            Some(missing) => Err(format!("{missing} in {told}")),
            None => Ok(()),
        }
    })
    .await?;
    redis.client.close().await;
    Ok(())
}

/// A worker whose role lacks what it needs does no work, and says which command it is: neither is
/// it ready, nor would a restart help. It works as soon as the role is mended.
#[tokio::test]
async fn worker_that_may_not_run_scripts_is_not_ready() -> TestResult {
    let server = RedisServer::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let user = ["ACL", "SETUSER", "few", "on", ">pw", "~*", "&*", "+@all"];
    server
        .cli(&[&user[..], &["-evalsha", "-eval"]].concat())
        .await?;
    let url = format!("redis://few:pw@127.0.0.1:{}", server.port());
    let port = free_port()?;
    let _worker = publisher(&url, simulator.url(), "bull")
        .env("HEALTH_PORT", port.to_string())
        .spawn()?;
    for path in ["/ready", "/health"] {
        eventually(DEADLINE, async || {
            let said = answers(port, path, 503)
                .await
                .map_err(|error| error.to_string())?;
            said.contains("evalsha").then_some(()).ok_or(said)
        })
        .await?;
    }
    answers(port, "/live", 200).await?;
    server
        .cli(&["ACL", "SETUSER", "few", "+eval", "+evalsha"])
        .await?;
    answers(port, "/ready", 200).await?;
    Ok(())
}

/// A server that is away or takes no writes is told by readiness, but no restart would help.
#[tokio::test]
async fn redis_that_is_full_or_away_is_not_ready() -> TestResult {
    let server = RedisServer::start().await?;
    let port = free_port()?;
    let _worker = program(WORKERS[1], &server.url())
        .env("HEALTH_PORT", port.to_string())
        .spawn()?;
    answers(port, "/ready", 200).await?;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    let said = answers(port, "/ready", 503).await?;
    assert!(said.contains("OOM"), "{said}");
    answers(port, "/live", 200).await?;
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    answers(port, "/ready", 200).await?;
    server.kill_hard();
    answers(port, "/ready", 503).await?;
    answers(port, "/live", 200).await?;
    server.restart().await?;
    answers(port, "/ready", 200).await?;
    Ok(())
}
