//! Settings by flag or environment variable; a flag wins.

use std::num::NonZeroUsize;
use std::time::Duration;

use oxbull::client::ClientConfig;

use super::{HealthSettings, LogFormat, StartError};

/// A URL that may hold a password, so `Debug` hides it.
#[derive(Clone)]
struct HiddenUrl(String);

impl std::str::FromStr for HiddenUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for HiddenUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Where Redis is. The environment is read as [`ClientConfig::from_env`] reads it, password and
/// TLS included; flags change parts of that.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Redis (REDIS_PASSWORD and REDIS_TLS: environment only)")]
#[expect(clippy::struct_field_names, reason = "they name the flags")]
pub struct RedisSettings {
    #[arg(long, help = "Server of the queues as one URL [env: REDIS_URL]")]
    redis_url: Option<HiddenUrl>,
    #[arg(long, help = "Host of the server [env: REDIS_HOST]")]
    redis_host: Option<String>,
    #[arg(long, help = "Port of the server [env: REDIS_PORT]")]
    redis_port: Option<u16>,
    #[arg(long, help = "User of the server [env: REDIS_USERNAME]")]
    redis_username: Option<String>,
    #[arg(long, help = "Database of the server [env: REDIS_DB]")]
    redis_db: Option<u32>,
    /// Server of the API cache; the server of the queues when unset
    #[arg(long, env = "REDIS_CACHE_URL", hide_env_values = true)]
    redis_cache_url: Option<HiddenUrl>,
}

impl RedisSettings {
    /// The client's configuration.
    ///
    /// # Errors
    /// [`StartError::Redis`] naming the setting at fault, never its value.
    pub fn config(&self) -> Result<ClientConfig, StartError> {
        let mut config = match &self.redis_url {
            Some(url) => ClientConfig::from_url(&url.0)?,
            None => ClientConfig::from_env()?,
        };
        if let Some(host) = &self.redis_host {
            config = config.host(host);
        }
        if let Some(port) = self.redis_port {
            config = config.port(port);
        }
        if let Some(username) = &self.redis_username {
            config = config.username(username);
        }
        if let Some(db) = self.redis_db {
            config = config.db(db);
        }
        // An empty variable, as compose files make them, counts as unset.
        match &self.redis_cache_url {
            Some(url) if !url.0.is_empty() => Ok(config.cache(ClientConfig::from_url(&url.0)?)),
            _ => Ok(config),
        }
    }
}

/// How a worker program runs.
#[derive(Debug, Clone, clap::Args)]
pub struct WorkerSettings {
    /// Jobs handled at a time [default: the queue's own]
    #[arg(long, env = "CONCURRENCY")]
    concurrency: Option<NonZeroUsize>,
    /// Name that dashboards show for jobs of this process [default: queue@host]
    #[arg(long, env = "WORKER_NAME")]
    worker_name: Option<String>,
    /// Prefix of the queue's keys
    #[arg(
        long,
        env = "QUEUE_PREFIX",
        value_name = "QUEUE_PREFIX",
        default_value = "bull"
    )]
    prefix: String,
    /// Seconds that running jobs get to finish once the program is stopping, up to 45: what
    /// is left is then cancelled, and all of it ends within 60 s
    #[arg(long, env = "SHUTDOWN_GRACE", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=45))]
    shutdown_grace: u64,
    /// Milliseconds that a job stays with a worker that gives no sign of life
    #[arg(long, env = "LOCK_DURATION_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..))]
    lock_duration_ms: u64,
    /// Milliseconds between two searches for jobs of workers that vanished
    #[arg(long, env = "STALLED_INTERVAL_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(10..))]
    stalled_interval_ms: u64,
    /// How log lines are written
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(flatten)]
    health: HealthSettings,
    #[command(flatten)]
    redis: RedisSettings,
}

impl WorkerSettings {
    /// Jobs handled at a time, or `default`.
    pub fn concurrency(&self, default: usize) -> usize {
        self.concurrency.map_or(default, NonZeroUsize::get)
    }

    /// The name that dashboards show for jobs of a worker of this queue.
    pub fn worker_name(&self, queue: &str) -> String {
        match (&self.worker_name, host_name()) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => format!("{queue}@{host}"),
            (None, None) => queue.to_owned(),
        }
    }

    /// Prefix of the queue's keys.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How long running jobs get to finish once the program is stopping.
    pub fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace)
    }

    /// How long a job stays with a worker that gives no sign of life.
    pub fn lock_duration(&self) -> Duration {
        Duration::from_millis(self.lock_duration_ms)
    }

    /// The time between two searches for jobs of workers that vanished.
    pub fn stalled_interval(&self) -> Duration {
        Duration::from_millis(self.stalled_interval_ms)
    }

    /// How log lines are written.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Where the program answers for its health.
    pub fn health(&self) -> &HealthSettings {
        &self.health
    }

    /// Where Redis is.
    pub fn redis(&self) -> &RedisSettings {
        &self.redis
    }
}

/// The host's name: that of the container or pod where there is one.
fn host_name() -> Option<String> {
    let named = std::env::var("HOSTNAME").ok();
    let kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = named.or_else(kernel)?.trim().to_owned();
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        worker: WorkerSettings,
    }

    fn parse(arguments: &[&str]) -> Program {
        let program = ["program"].iter().chain(arguments);
        Program::try_parse_from(program).unwrap()
    }

    /// Every setting that is not secret has a flag.
    #[test]
    fn flags_decide_where_redis_is() {
        let program = parse(&["--redis-url", "redis://:hidden@queues:7000/2"]);
        let config = program.worker.redis().config().unwrap();
        assert_eq!(config.to_string(), "redis://***@queues:7000/2");
        assert_eq!(program.worker.concurrency(5), 5);
        let program = parse(&["--concurrency=9", "--redis-url=redis://h", "--redis-db=3"]);
        let config = program.worker.redis().config().unwrap();
        assert_eq!(config.to_string(), "redis://h:6379/3");
        assert_eq!(program.worker.concurrency(5), 9);
        let name = program.worker.worker_name("posts");
        assert!(name.starts_with("posts"), "{name}");
        let named = parse(&["--worker-name", "blue"]);
        assert_eq!(named.worker.worker_name("posts"), "blue");
    }

    /// A mistake at start must be named without showing a password.
    #[test]
    fn errors_do_not_repeat_the_url() {
        let program = parse(&["--redis-url", "http://:hidden@queues"]);
        let error = program.worker.redis().config().unwrap_err();
        assert!(!format!("{error} {error:?} {program:?}").contains("hidden"));
    }
}
