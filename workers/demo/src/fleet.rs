//! The gateway and the three worker programs as child processes.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use oxbull_testkit::free_port;
use oxbull_workers::jobs::{analytics_refresh, post_publishing, webhook_processing};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Outcome;
use crate::deliver::SECRET;
use crate::shipped::ShippedRedis;

/// How long the workers get to stop after the signal.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// The workers are named as their queues.
const PROGRAMS: [&str; 4] = [
    "gateway",
    post_publishing::QUEUE,
    webhook_processing::QUEUE,
    analytics_refresh::QUEUE,
];

/// Variables that must not reach the programs from the demo's environment.
const FOREIGN: [&str; 29] = [
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_USERNAME",
    "REDIS_PASSWORD",
    "REDIS_DB",
    "REDIS_TLS",
    "REDIS_CACHE_URL",
    "GRAPH_TOKENS_FILE",
    "GRAPH_ACCOUNT_ID",
    "GRAPH_LOGIN",
    "MISSING_TOKEN_MAX_MS",
    "TOKEN_REFRESH_DAYS",
    "TOKEN_REFRESH_INTERVAL",
    "QUEUE_PREFIX",
    "CONCURRENCY",
    "WORKER_NAME",
    "LOCK_DURATION_MS",
    "STALLED_INTERVAL_MS",
    "CONTAINER_DEADLINE_MS",
    "PUBLISHING_QUOTA_WAIT_MS",
    "POSTPONE_MAX_MS",
    "ENCRYPTION_KEYS",
    "GATEWAY_HOST",
    "WEBHOOK_BODY_LIMIT",
    "WEBHOOK_MAX_AGE_HOURS",
    "ANALYTICS_POSTS",
    "GRAPH_ACCOUNT_BUDGET",
    "GRAPH_APPLICATION_BUDGET",
    "REFRESH_POSTPONE_MAX_MS",
];

/// The running programs. Dropping it kills them.
#[derive(Debug)]
pub(crate) struct Fleet {
    workers: Vec<Worker>,
    gateway: String,
}

#[derive(Debug)]
struct Worker {
    name: &'static str,
    child: Child,
}

impl Fleet {
    /// Starts the programs in the directory of this one.
    pub(crate) fn start(redis: &ShippedRedis, graph_url: &str) -> Outcome<Self> {
        let port = free_port()?;
        let mut workers = Vec::new();
        for name in PROGRAMS {
            let mut command = Command::new(beside_this(name)?);
            for variable in FOREIGN {
                command.env_remove(variable);
            }
            if std::env::var_os("RUST_LOG").is_none() {
                command.env("RUST_LOG", "error");
            }
            let role = if name == "gateway" { name } else { "worker" };
            let child = command
                .env("REDIS_URL", redis.url(role))
                .env("GRAPH_API_URL", graph_url)
                .env("GRAPH_ACCESS_TOKEN", "demo")
                .env("CONTAINER_POLL_MS", "100")
                .env("CONTAINER_POLL_MAX_MS", "400")
                .env("PUBLISH_SETTLE_MS", "1000")
                .env("SHUTDOWN_GRACE", "5")
                .env("GATEWAY_HOST", "127.0.0.1")
                .env("PORT", port.to_string())
                .env("META_APP_SECRET", SECRET)
                .env("META_VERIFY_TOKEN", "demo")
                .stdin(Stdio::null())
                // A group of its own: Ctrl-C reaches the demo, which then stops its workers.
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| format!("cannot start {name}: {error}"))?;
            workers.push(Worker { name, child });
        }
        let gateway = format!("http://127.0.0.1:{port}");
        Ok(Self { workers, gateway })
    }

    /// Where the gateway listens.
    pub(crate) fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Fails when a worker has ended by itself.
    pub(crate) fn check(&mut self) -> Outcome<()> {
        for worker in &mut self.workers {
            if let Some(status) = worker.child.try_wait()? {
                return Err(format!("{} has ended early: {status}", worker.name).into());
            }
        }
        Ok(())
    }

    /// Stops the workers with a signal, as an operator would, and waits for them.
    pub(crate) async fn stop(mut self) -> Outcome<()> {
        for worker in &self.workers {
            if let Some(pid) = worker.pid() {
                kill_process(pid, Signal::TERM)?;
            }
        }
        for worker in &mut self.workers {
            let name = worker.name;
            let status = timeout(STOP_DEADLINE, worker.child.wait())
                .await
                .map_err(|_| format!("{name} does not stop"))??;
            if !status.success() {
                return Err(format!("{name} has ended badly: {status}").into());
            }
        }
        Ok(())
    }
}

impl Worker {
    fn pid(&self) -> Option<Pid> {
        let id = i32::try_from(self.child.id()?).ok()?;
        Pid::from_raw(id)
    }
}

fn beside_this(name: &str) -> Outcome<PathBuf> {
    let this = std::env::current_exe()?;
    let path = this.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!(
        "{} is not built: run `cargo build -p oxbull-workers --bins` first",
        path.display()
    )
    .into())
}
