//! The shared Redis client: connections that come back, deadlines, and honest outcomes.
//!
//! A [`Client`] opens **one** connection, shared by all its clones. A cache server of its own
//! ([`ClientConfig::cache`]) adds one when it is first used. All workers of a client share one to
//! wait for jobs (one for each 16 queues), and each adds one to keep its locks. Each
//! [`QueueEvents`](crate::QueueEvents) adds one, and so does each queue while a caller
//! [waits](crate::Queue::wait_for) for its jobs. To a cluster, there is one where one is named here for each node
//! that is used, and for waiting one for each slot.

mod ask;
mod blocking;
mod call;
mod cluster;
mod command;
mod config;
mod connect;
mod env;
mod generation;
mod greet;
mod in_flight;
mod info;
mod link;
mod log;
mod login;
mod lua;
mod request;
mod retry;
mod script;
mod sentinel;
mod slots;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod url;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use call::Repeat;
pub use config::{Address, ClientConfig, TlsOptions, Topology};
pub use info::{Flavor, Mode, Role, ServerInfo, Version};
pub use script::{Script, ScriptCall};

pub use crate::resp::{Argument, Command, ServerError, Value};

#[allow(unused_imports, reason = "used by queues and workers")]
pub(crate) use blocking::{BlockedId, BlockingConnection};
pub(crate) use call::{CallError, is_outage};
pub(crate) use command::Reply;
pub(crate) use in_flight::InFlight;
pub(crate) use link::Connection;
#[allow(unused_imports, reason = "used by queues and workers")]
pub(crate) use log::Throttle;
pub(crate) use lua::{lua, lua_groups, lua_names, lua_part};
pub(crate) use retry::Waits;
pub(crate) use slots::hash_tag;

use crate::clock::Clock;
use crate::error::{Chain, Error, Result};
use crate::json;
use connect::{ConnectionOptions, Purpose, Settings};

/// How long closing waits for its tasks, which end at once unless their runtime is stuck.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A handle of the process's connection to Redis, cheap to clone and to share.
///
/// A lost connection is opened again in the background, with the waits of
/// [`ClientConfig::reconnect_backoff`].
///
/// Each connection's task runs on the tokio runtime that was current at its first use. When that runtime
/// is dropped, the next use starts another task; while it exists and nothing drives it, as after the
/// `block_on` of a current-thread runtime, requests from other runtimes end as
/// [`Error::Unreachable`].
///
/// # Examples
/// ```no_run
/// # async fn run() -> oxbull::Result<()> {
/// use oxbull::client::{Client, ClientConfig};
///
/// let client = Client::connect(ClientConfig::from_env()?).await?;
/// client.kv().set_text("greeting", "hello").await?;
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Arc<Settings>,
    main: Connection,
    cache: OnceLock<Connection>,
    cache_settings: Option<Arc<Settings>>,
    server: Arc<ServerInfo>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// What the users of this client share, by type; the types are theirs.
    extensions: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl Client {
    /// Connects, trying again until [`ClientConfig::start_deadline`] while the server cannot be
    /// reached, is loading its data or is a replica.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the configuration, [`Error::Denied`] for the credentials,
    /// [`Error::Unsuitable`] for a server that is too old or evicts keys in strict mode,
    /// [`Error::Unreachable`] with the last reason.
    pub async fn connect(config: ClientConfig) -> Result<Self> {
        let mut config = config;
        let cache = config.cache.take();
        let clock = Clock::default();
        let cache_settings = cache
            .map(|config| Settings::new(*config, Purpose::Cache, Clock::default()))
            .transpose()?
            .map(Arc::new);
        let settings = Arc::new(Settings::new(config, Purpose::Queues, clock)?);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let main = Connection::new(
            Arc::clone(&settings),
            ConnectionOptions::main(),
            stop.child_token(),
            tasks.clone(),
        );
        let first = main.generation(settings.config.start_deadline).await?;
        Ok(Self {
            shared: Arc::new(Shared {
                server: Arc::clone(&first.server),
                settings,
                main,
                cache: OnceLock::new(),
                cache_settings,
                stop,
                tasks,
                extensions: Mutex::default(),
            }),
        })
    }

    /// Connects as the environment says ([`ClientConfig::from_env`]).
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn from_env() -> Result<Self> {
        Self::connect(ClientConfig::from_env()?).await
    }

    /// Makes a client that has no server and is closed, for tests of code that is given one.
    ///
    /// # Errors
    /// None, as long as the default configuration is valid.
    #[cfg(feature = "testing")]
    pub(crate) fn unconnected() -> Result<Self> {
        let settings = Settings::new(ClientConfig::new(), Purpose::Queues, Clock::default())?;
        let settings = Arc::new(settings);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let options = ConnectionOptions::main();
        let main = Connection::new(
            Arc::clone(&settings),
            options,
            stop.child_token(),
            tasks.clone(),
        );
        main.kill();
        stop.cancel();
        Ok(Self {
            shared: Arc::new(Shared {
                server: Arc::new(ServerInfo::unknown()),
                settings,
                main,
                cache: OnceLock::new(),
                cache_settings: None,
                stop,
                tasks,
                extensions: Mutex::default(),
            }),
        })
    }

    /// Returns the clock that follows the server's.
    pub fn clock(&self) -> &Clock {
        &self.shared.settings.clock
    }

    /// Returns what the server reported when this connection was made.
    pub fn server(&self) -> Arc<ServerInfo> {
        self.shared.main.current().map_or_else(
            || Arc::clone(&self.shared.server),
            |generation| Arc::clone(&generation.server),
        )
    }

    /// Returns the one value of its type that all users of this client share, made by the first.
    pub(crate) fn extension<T: Any + Send + Sync>(&self, make: impl Fn() -> T) -> Arc<T> {
        let mut extensions = self
            .shared
            .extensions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let value = extensions
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Arc::new(make()));
        // The key is the type, so that the value is of that type.
        Arc::clone(value)
            .downcast()
            .unwrap_or_else(|_| Arc::new(make()))
    }

    /// Returns a token that is cancelled when this client is closed.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.shared.stop.child_token()
    }

    /// Runs a task that closing the client waits for; it must end when [`closing`](Self::closing)
    /// says so.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn(task);
    }

    /// Sends a command that this crate has no call for. Its arguments are not checked.
    ///
    /// It goes over the connection that all requests share, and like every request it waits for
    /// a lost connection to come back and is bounded by [`ClientConfig::command_deadline`]. Keep
    /// blocking commands and those that change the connection (`BLPOP`, `SUBSCRIBE`, `SELECT`,
    /// `MULTI`) away from it: they hold up or confuse every other user.
    ///
    /// # Errors
    /// [`Error::Unreachable`] and [`Error::Overloaded`] for a command that was not executed,
    /// [`Error::Indeterminate`] for one that may have been, [`Error::Denied`] and
    /// [`Error::Server`] for one that was refused.
    ///
    /// # Cancel safety
    /// A command whose call is dropped may or may not be executed.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(client: oxbull::Client) -> oxbull::Result<()> {
    /// use oxbull::client::{Command, Repeat};
    ///
    /// let length = client.request(Command::new("STRLEN").arg("key"), Repeat::Safe).await?;
    /// println!("{} bytes", length.into_int()?);
    ///
    /// let popped = client.request(Command::new("LPOP").arg("list"), Repeat::Once).await?;
    /// if let Some(value) = popped.into_option() {
    ///     println!("popped {}", value.into_text()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn request(&self, command: Command, repeat: Repeat) -> Result<Value> {
        Ok(self.shared.main.request(command, repeat).await?)
    }

    /// Runs a script by its hash; a server that does not know it gets its text once.
    ///
    /// # Errors
    /// As [`Client::request`].
    ///
    /// # Cancel safety
    /// A script whose call is dropped may or may not be run.
    pub async fn run(&self, call: ScriptCall, repeat: Repeat) -> Result<Value> {
        let build = |command: &mut Command| call.append_to(command);
        Ok(self.shared.main.eval(call.script(), build, repeat).await?)
    }

    /// Asks the server for an answer to PING and reports the outcome, within `deadline`.
    pub async fn health(&self, deadline: Duration) -> Health {
        self.shared.main.health(deadline).await
    }

    /// Closes every connection of this client and its clones; later calls fail with
    /// [`Error::Closed`]. Answers that are still due are lost, so close queues and workers
    /// before. Returns at once whether the server is up or not.
    pub async fn close(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if timeout(CLOSE_DEADLINE, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("redis connections are still closing: their runtime does not run");
        }
    }
}

/// The outcome of a health check. In JSON the latency is in milliseconds, and the error a text.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Health {
    /// How long the check took.
    #[serde(serialize_with = "json::millis::serialize")]
    pub latency: Duration,
    /// Why the server is not usable, if it is not.
    #[serde(serialize_with = "as_text")]
    pub error: Option<Error>,
    /// The memory policy, when known: other than `noeviction`, queue keys can be lost.
    pub eviction_policy: Option<String>,
}

/// Shows an error with its causes.
#[expect(clippy::ref_option, reason = "the shape that serde calls")]
fn as_text<S: Serializer>(error: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = error.as_ref().map(|error| Chain(error).to_string());
    text.serialize(serializer)
}

impl Health {
    /// Returns whether the server answered.
    pub fn is_up(&self) -> bool {
        self.error.is_none()
    }
}

impl Client {
    /// Returns the shared connection.
    pub(crate) fn connection(&self) -> &Connection {
        &self.shared.main
    }

    /// Returns the connection to the cache server, which is opened when it is first asked for. It is
    /// the shared one where no cache server is configured.
    pub(crate) fn cache_connection(&self) -> &Connection {
        let Some(settings) = &self.shared.cache_settings else {
            return &self.shared.main;
        };
        self.shared.cache.get_or_init(|| {
            Connection::new(
                Arc::clone(settings),
                ConnectionOptions::main(),
                self.shared.stop.child_token(),
                self.shared.tasks.clone(),
            )
        })
    }

    /// Prepares a connection of its own, shown under `name` in the server's client list.
    ///
    /// An answer may take as long as `timeout`, and not longer than the configuration says. Its
    /// task runs on the runtime of its first request.
    pub(crate) fn dedicated(&self, name: Option<&str>, timeout: Duration) -> Connection {
        Connection::new(
            Arc::clone(&self.shared.settings),
            ConnectionOptions {
                name: name.map(str::to_owned),
                timeout: Some(timeout),
                ..ConnectionOptions::default()
            },
            self.shared.stop.child_token(),
            self.shared.tasks.clone(),
        )
    }

    /// Prepares a connection for reads that wait at the server.
    ///
    /// On a cluster it leads to the node of `slot`, and follows it.
    pub(crate) fn blocking(&self, name: Option<&str>, slot: Option<u16>) -> BlockingConnection {
        BlockingConnection::new(
            Arc::clone(&self.shared.settings),
            name,
            slot,
            self.shared.stop.child_token(),
        )
    }

    /// Ends the wait of a blocking connection as if it had timed out; says whether it waited.
    ///
    /// # Errors
    /// As for every request; a user without the permission gets `Ok(false)`.
    pub(crate) async fn unblock(&self, id: &BlockedId) -> Result<bool> {
        let Some((id, node)) = id.get() else {
            return Ok(false);
        };
        let node = self.shared.main.at(node.as_ref());
        let command = Command::new("CLIENT").arg("UNBLOCK").arg(id).arg("TIMEOUT");
        match node.request(command, Repeat::Safe).await {
            Ok(value) => Ok(matches!(value, Value::Int(1))),
            Err(CallError::Answered(Error::Denied(_))) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Measures the server's clock again.
    #[cfg(test)]
    pub(crate) async fn sync_clock(&self) -> Result<()> {
        let settings = &self.shared.settings;
        let within = settings.config.command_deadline;
        let generation = self.shared.main.generation(within).await?;
        login::measure(settings, self.shared.main.options(), &generation, within)
            .await
            .map(drop)
            .map_err(|loss| Error::Unreachable(loss.into()))
    }
}

#[cfg(test)]
mod tests;
