//! A Redis as it is shipped, with its users, and the programs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::sync::Mutex;

use oxbull::{Client, ClientConfig};
use oxbull_instagram_simulator::{Simulator, SimulatorOptions};
use oxbull_testkit::{
    BullMq, Connection, DEADLINE, NodePeer, RedisServer, TestResult, eventually, free_port,
};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// The roles of `config/redis/users.acl`.
pub(crate) const ROLES: [&str; 4] = ["producer", "worker", "gateway", "operator"];

/// The key of what is sealed; a test's own.
pub(crate) const KEYS: &str = "k1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// The test's own user, who may do everything.
const OBSERVER: (&str, &str) = ("observer", "watching");

/// The commands of the watching itself, and what nobody can be refused.
const OWN: [&str; 7] = [
    "acl|log",
    "config|resetstat",
    "zlexcount",
    "zmscore",
    "auth",
    "quit",
    "reset",
];

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn read(path: &str) -> TestResult<String> {
    let file = repository().join(path);
    std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// A role's password; its own, so that one role's cannot open another.
pub(crate) fn password(role: &str) -> String {
    format!("{role}-s3cret~1")
}

/// The variable that gives a role's password to the servers.
pub(crate) fn password_variable(role: &str) -> String {
    format!("REDIS_{}_PASSWORD", role.to_uppercase())
}

pub(crate) fn passwords() -> impl Iterator<Item = (String, String)> {
    ROLES
        .map(|role| (password_variable(role), password(role)))
        .into_iter()
}

/// A directory for PATH whose `redis-server` is the server under test.
pub(crate) fn server_on_path() -> TestResult<(tempfile::TempDir, String)> {
    let dir = tempfile::tempdir()?;
    let path = std::env::var("PATH")?;
    if let Some(binary) = std::env::var_os("OXBULL_REDIS_SERVER").filter(|path| !path.is_empty()) {
        symlink(binary, dir.path().join("redis-server"))?;
    }
    let path = format!("{}:{path}", dir.path().display());
    Ok((dir, path))
}

/// What `users.sh` makes of `users.acl` with these variables.
pub(crate) fn users(variables: impl IntoIterator<Item = (String, String)>) -> TestResult<String> {
    let (_dir, path) = server_on_path()?;
    let output = StdCommand::new("sh")
        .arg(repository().join("config/redis/users.sh"))
        .env_clear()
        .env("PATH", path)
        .envs(variables)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr)?.into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The commands that a role has.
pub(crate) fn granted(role: &str) -> TestResult<BTreeSet<String>> {
    let users = users(passwords())?;
    let user = format!("user {role} ");
    let line = users
        .lines()
        .find(|line| line.starts_with(&user))
        .ok_or("no such user")?;
    let granted = line.split(' ').filter_map(|rule| rule.strip_prefix('+'));
    Ok(granted
        .filter(|name| !OWN.contains(name))
        .map(str::to_owned)
        .collect())
}

/// A server of the shipped configuration and its users.
pub(crate) struct ShippedRedis {
    pub(crate) server: RedisServer,
}

impl ShippedRedis {
    pub(crate) async fn start(file: &str) -> TestResult<Self> {
        let (user, word) = OBSERVER;
        let server = RedisServer::builder()
            .config_file(&repository().join("config/redis").join(file))?
            .configs(&users(passwords())?.lines().collect::<Vec<_>>())
            .config(format!("user {user} on >{word} ~* &* +@all"))
            .login(user, word)
            .start()
            .await?;
        Ok(Self { server })
    }

    pub(crate) fn url(&self, role: &str) -> String {
        Self::url_at(role, self.server.port())
    }

    /// As [`url`](Self::url), through something that listens on another port.
    pub(crate) fn url_at(role: &str, port: u16) -> String {
        format!("redis://{role}:{}@127.0.0.1:{port}/0", password(role))
    }

    pub(crate) async fn client(&self, role: &str) -> TestResult<Client> {
        Ok(Client::connect(ClientConfig::from_url(&self.url(role))?).await?)
    }

    pub(crate) async fn observer(&self) -> TestResult<Client> {
        Ok(Client::connect(ClientConfig::from_url(&self.server.url())?).await?)
    }

    /// A connection without a client behind it, as a role.
    pub(crate) async fn connect(&self, role: &str) -> TestResult<Connection> {
        let mut connection = Connection::open(self.server.port()).await?;
        connection.call(&["AUTH", role, &password(role)]).await?;
        Ok(connection)
    }

    /// A process with BullMQ, as a role.
    pub(crate) async fn node(&self, role: &str) -> TestResult<NodePeer> {
        self.node_as(role, &password(role)).await
    }

    /// A process with BullMQ that may do everything.
    pub(crate) async fn node_observer(&self) -> TestResult<NodePeer> {
        self.node_as(OBSERVER.0, OBSERVER.1).await
    }

    async fn node_as(&self, user: &str, password: &str) -> TestResult<NodePeer> {
        let node = NodePeer::bullmq_with(BullMq::V6, self.server.port(), |peer| {
            peer.env("REDIS_USERNAME", user)
                .env("REDIS_PASSWORD", password)
        });
        Ok(node.await?)
    }

    /// One of the programs, as a role, with short waits; it dies with its handle.
    pub(crate) fn program(&self, binary: &str, role: &str, graph: &str) -> Command {
        let mut command = Command::new(binary);
        command
            .env_clear()
            .env("RUST_LOG", "error")
            .env("REDIS_URL", self.url(role))
            .env("GRAPH_API_URL", graph)
            .env("GRAPH_ACCESS_TOKEN", "token")
            .env("ENCRYPTION_KEYS", KEYS)
            .env("CONTAINER_POLL_MS", "20")
            .env("CONTAINER_POLL_MAX_MS", "40")
            .env("PUBLISH_SETTLE_MS", "100")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs `graph-tokens` as the gateway's role, with something on its standard input; returns what it says.
    pub(crate) async fn tokens(&self, arguments: &[&str], input: &str) -> TestResult<String> {
        let graph = "https://graph.instagram.com/v23.0";
        let mut child = self
            .program(env!("CARGO_BIN_EXE_graph-tokens"), "gateway", graph)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().ok_or("no standard input")?;
        // A command that reads nothing may have ended.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output = child.wait_with_output().await?;
        let said = String::from_utf8(output.stdout)?;
        if output.status.success() {
            return Ok(said);
        }
        Err(format!("{arguments:?}: {said}").into())
    }

    /// The three workers.
    pub(crate) fn workers(&self, graph: &str) -> TestResult<Vec<Program>> {
        self.workers_at(&self.url("worker"), graph)
    }

    /// The three workers on a server by its URL.
    pub(crate) fn workers_at(&self, redis: &str, graph: &str) -> TestResult<Vec<Program>> {
        let programs = [
            env!("CARGO_BIN_EXE_post-publishing"),
            env!("CARGO_BIN_EXE_webhook-processing"),
            env!("CARGO_BIN_EXE_analytics-refresh"),
        ];
        let start = |program| {
            let mut command = self.program(program, "worker", graph);
            Program::start(command.env("REDIS_URL", redis))
        };
        programs.into_iter().map(start).collect()
    }

    /// Waits until so many jobs of a queue have ended. It asks with a command that is nobody
    /// else's, so that what the roles use is seen.
    pub(crate) async fn ended(&self, queue: &str, jobs: i64) -> TestResult {
        let seen = eventually(DEADLINE, async || {
            let mut total = 0;
            for state in ["completed", "failed"] {
                let key = format!("bull:{queue}:{state}");
                let count = self.server.int(&["ZLEXCOUNT", &key, "-", "+"]).await;
                total += count.map_err(|error| error.to_string())?;
            }
            if total >= jobs {
                Ok(())
            } else {
                Err(format!("{total} of {jobs} in {queue}"))
            }
        });
        Ok(seen.await?)
    }

    /// Waits until a sorted set has a member, in the same way.
    pub(crate) async fn holds(&self, key: &str, member: &str) -> TestResult {
        let seen = eventually(DEADLINE, async || {
            let scores = self.server.cli(&["ZMSCORE", key, member]).await;
            scores.is_ok_and(|scores| !scores.items()[0].is_nil())
        });
        Ok(seen.await?)
    }

    /// Waits until a client waits for something to come.
    pub(crate) async fn is_blocked(&self) -> TestResult {
        let blocked = eventually(DEADLINE, async || {
            let clients = self.server.info("clients").await;
            clients.is_ok_and(|clients| clients.get("blocked_clients").is_some_and(|n| n != "0"))
        });
        Ok(blocked.await?)
    }

    /// Waits until a command has been used.
    pub(crate) async fn uses(&self, command: &str) -> TestResult {
        let used = eventually(DEADLINE, async || {
            self.used().await.is_ok_and(|used| used.contains(command))
        });
        Ok(used.await?)
    }

    /// Forgets the commands used so far.
    pub(crate) async fn watch(&self) -> TestResult {
        self.server.cli(&["SCRIPT", "FLUSH"]).await?;
        self.server.cli(&["CONFIG", "RESETSTAT"]).await?;
        self.server.cli(&["ACL", "LOG", "RESET"]).await?;
        Ok(())
    }

    /// The commands executed since [`watch`](Self::watch), those inside scripts included.
    pub(crate) async fn used(&self) -> TestResult<BTreeSet<String>> {
        let stats: BTreeMap<_, _> = self.server.info("commandstats").await?;
        let used = stats
            .into_iter()
            .filter(|(_, text)| !text.starts_with("calls=0,"));
        let names = used.filter_map(|(name, _)| Some(name.strip_prefix("cmdstat_")?.to_owned()));
        Ok(names.filter(|name| !OWN.contains(&name.as_str())).collect())
    }

    /// What was refused since [`watch`](Self::watch).
    pub(crate) async fn refused(&self) -> TestResult<Vec<String>> {
        let log = self.server.cli(&["ACL", "LOG"]).await?;
        let line = |entry: &oxbull_testkit::Value| {
            let entry = entry.map();
            format!(
                "{} {} {}",
                entry["username"], entry["reason"], entry["object"]
            )
        };
        Ok(log.items().iter().map(line).collect())
    }
}

/// A worker program that answers for its health; it dies with its handle.
pub(crate) struct Program {
    health: u16,
    _process: Child,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> TestResult<Self> {
        let health = free_port()?;
        let process = command.env("HEALTH_PORT", health.to_string()).spawn()?;
        Ok(Self {
            health,
            _process: process,
        })
    }

    /// Asks until the answer is 200; returns it.
    pub(crate) async fn answers(&self, path: &str) -> TestResult<String> {
        self.answers_with(path, 200).await
    }

    /// Asks until the answer has this status; returns it.
    pub(crate) async fn answers_with(&self, path: &str, status: u16) -> TestResult<String> {
        let body = Mutex::new(String::new());
        eventually(DEADLINE, async || {
            let answer = crate::http::get(self.health, path).await;
            let (found, text) = answer.map_err(|error| error.to_string())?;
            body.lock().unwrap().clone_from(&text);
            if found == status {
                Ok(())
            } else {
                Err(format!("{found} {text}"))
            }
        })
        .await?;
        Ok(body.into_inner().unwrap())
    }
}

/// Receives the notices to users.
pub(crate) struct NoticeListener(Connection);

impl NoticeListener {
    pub(crate) async fn open(fixture: &ShippedRedis) -> TestResult<Self> {
        let mut connection = fixture.connect("producer").await?;
        connection.send(&["PSUBSCRIBE", "notify:*"]).await?;
        connection.receive().await?;
        Ok(Self(connection))
    }

    /// Waits until each of these users has a notice.
    pub(crate) async fn wait_for(&mut self, users: &[&str]) -> TestResult {
        let mut missing: BTreeSet<_> = users.iter().map(|user| format!("notify:{user}")).collect();
        while !missing.is_empty() {
            let message = tokio::time::timeout(DEADLINE, self.0.receive()).await;
            let message = message.map_err(|_| format!("no notice to {missing:?}"))??;
            if let [.., channel, _] = message.texts().as_slice() {
                missing.remove(channel);
            }
        }
        Ok(())
    }
}

pub(crate) async fn simulator() -> TestResult<Simulator> {
    Ok(Simulator::start(SimulatorOptions::new()).await?)
}
