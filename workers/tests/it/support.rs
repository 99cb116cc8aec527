//! Fixtures: a simulated Graph API and one account of it, a private Redis, the programs as processes,
//! and a subscriber to the users' notices.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oxbull::{Client, ClientConfig, JobId, JobRecord, JobState, Queue, Worker};
use oxbull_instagram_simulator::{Simulator, SimulatorOptions};
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually};
use oxbull_workers::graph::{
    AccessToken, AccessTokens, AccountApi, AccountId, GraphClient, GraphOptions,
};
use oxbull_workers::notify::channel;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

pub(crate) const ACCOUNT: &str = "17841405822304914";

/// Longer than any test: a job delayed by it runs only when it is promoted.
pub(crate) const LATER: Duration = Duration::from_secs(3600);

pub(crate) const TOKEN: &str = "s3cret-token";

pub(crate) struct GraphFixture {
    pub(crate) simulator: Simulator,
    graph: GraphClient,
    account: AccountId,
    token: AccessToken,
}

impl GraphFixture {
    pub(crate) async fn start() -> TestResult<Self> {
        Self::with(SimulatorOptions::new(), Duration::from_secs(10)).await
    }

    pub(crate) async fn with(options: SimulatorOptions, deadline: Duration) -> TestResult<Self> {
        let simulator = Simulator::start(options).await?;
        let graph = GraphClient::new(&GraphOptions::new(simulator.url()).deadline(deadline))?;
        Ok(Self {
            simulator,
            graph,
            account: AccountId::new(ACCOUNT)?,
            token: AccessToken::new(TOKEN),
        })
    }

    pub(crate) fn api(&self) -> AccountApi<'_> {
        self.graph.account(&self.account, &self.token)
    }
}

/// A private Redis and a client of it.
pub(crate) struct RedisFixture {
    pub(crate) server: RedisServer,
    pub(crate) client: Client,
}

impl RedisFixture {
    pub(crate) async fn start() -> TestResult<Self> {
        let server = RedisServer::start().await?;
        let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        Ok(Self { server, client })
    }

    pub(crate) async fn end(self, worker: Worker) {
        worker.close().await;
        self.client.close().await;
        drop(self.server);
    }
}

pub(crate) fn tokens() -> AccessTokens {
    AccessTokens::shared(AccessToken::new(TOKEN))
}

pub(crate) fn graph(url: &str) -> GraphClient {
    GraphClient::new(&GraphOptions::new(url)).unwrap()
}

/// Waits until a job is in a state and reads it.
pub(crate) async fn reaches<D>(
    queue: &Queue<D>,
    id: &JobId,
    state: JobState,
) -> TestResult<JobRecord> {
    eventually(DEADLINE, async || {
        let found = queue.state(id).await.map_err(|error| error.to_string())?;
        if found == Some(state) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await?;
    Ok(queue.job(id).await?.unwrap())
}

/// Collects the notices to users.
pub(crate) struct Subscriber {
    received: Arc<Mutex<Vec<(String, Value)>>>,
    task: JoinHandle<()>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscriber {
    pub(crate) async fn open(server: &RedisServer) -> TestResult<Self> {
        let mut connection = server.connect().await?;
        connection.send(&["PSUBSCRIBE", &channel("*")]).await?;
        connection.receive().await?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&received);
        let task = tokio::spawn(async move {
            while let Ok(message) = connection.receive().await {
                if let [.., channel, text] = message.texts().as_slice() {
                    let message = serde_json::from_str(text).unwrap();
                    notes.lock().unwrap().push((channel.clone(), message));
                }
            }
        });
        Ok(Self { received, task })
    }

    /// The notices to one user so far.
    pub(crate) fn notices(&self, user: &str) -> Vec<Value> {
        let channel = channel(user);
        let received = self.received.lock().unwrap();
        let notices = received.iter().filter(|(to, _)| *to == channel);
        notices.map(|(_, message)| message.clone()).collect()
    }

    /// Waits until a user has `count` notices, and returns them.
    pub(crate) async fn wait_for(&self, user: &str, count: usize) -> TestResult<Vec<Value>> {
        eventually(DEADLINE, async || {
            let notices = self.notices(user);
            if notices.len() >= count {
                Ok(())
            } else {
                Err(format!("{notices:?}"))
            }
        })
        .await?;
        Ok(self.notices(user))
    }
}

/// The program `post-publishing` with short waits, to be started; it dies with its handle.
pub(crate) fn publisher(redis_url: &str, graph_url: &str, prefix: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_post-publishing"));
    command
        .env_clear()
        .env("RUST_LOG", "off")
        .env("REDIS_URL", redis_url)
        .env("QUEUE_PREFIX", prefix)
        .env("GRAPH_API_URL", graph_url)
        .env("GRAPH_ACCESS_TOKEN", TOKEN)
        .env("CONCURRENCY", "1")
        .env("STALLED_INTERVAL_MS", "50")
        .env("CONTAINER_POLL_MS", "5")
        .env("CONTAINER_POLL_MAX_MS", "20")
        .env("PUBLISH_SETTLE_MS", "50")
        .env("PUBLISH_DOUBT_MS", "100")
        .env("CONTAINER_HIDDEN_MS", "30")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Starts it.
pub(crate) fn publisher_process(
    redis_url: &str,
    graph_url: &str,
    prefix: &str,
) -> TestResult<Child> {
    Ok(publisher(redis_url, graph_url, prefix).spawn()?)
}

/// The program `analytics-refresh`, to be started; it dies with its handle.
pub(crate) fn refresher(redis_url: &str, graph_url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_analytics-refresh"));
    command
        .env_clear()
        .env("RUST_LOG", "off")
        .env("REDIS_URL", redis_url)
        .env("GRAPH_API_URL", graph_url)
        .env("GRAPH_ACCESS_TOKEN", TOKEN)
        .env("LOCK_DURATION_MS", "2000")
        .env("STALLED_INTERVAL_MS", "50")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}
