//! Takes Instagram's webhook deliveries into the queue, and serves health and cached numbers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use oxbull::client::Client;
use oxbull::kv::session::Sessions;
use oxbull::vault::Keyring;
use oxbull_workers::app::{self, LogFormat, MetricsRegistry, Problems, RedisSettings, StartError};
use oxbull_workers::gateway::{
    AppSecrets, Gateway, GatewayOptions, InvalidSecret, Overviews, VerifyToken,
};
use oxbull_workers::graph::{GraphSettings, GraphSettingsError};
use oxbull_workers::jobs::analytics_refresh::ReadSettings;
use oxbull_workers::upkeep::FileUpkeep;

/// The variables with secrets. They have no flags, since arguments are visible to every user of
/// the machine.
const APP_SECRET: &str = "META_APP_SECRET";
const VERIFY_TOKEN: &str = "META_VERIFY_TOKEN";

/// The keys of the sessions; without them every request is anonymous.
const ENCRYPTION_KEYS: &str = "ENCRYPTION_KEYS";

/// Queues Instagram's webhook deliveries, and serves health and cached account numbers
#[derive(Debug, Parser)]
#[command(
    version,
    before_help = "Instagram webhook gateway",
    after_help = "Environment only: META_APP_SECRET, several separated by commas while one is \
        replaced; META_VERIFY_TOKEN; ENCRYPTION_KEYS where users are known by their sessions"
)]
struct Arguments {
    /// Port to listen on
    #[arg(long, env = "PORT", default_value_t = 4000)]
    port: u16,
    /// Address to listen on
    #[arg(long, env = "GATEWAY_HOST", value_name = "GATEWAY_HOST", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    host: IpAddr,
    /// Largest delivery, in bytes
    #[arg(long, env = "WEBHOOK_BODY_LIMIT", value_name = "WEBHOOK_BODY_LIMIT", default_value_t = 8 << 20)]
    body_limit: usize,
    /// Age in hours from which a delivery is refused; repeats are known for 48 hours
    #[arg(long, env = "WEBHOOK_MAX_AGE_HOURS", value_name = "WEBHOOK_MAX_AGE_HOURS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=47))]
    max_age_hours: u64,
    /// Prefix of the queue's keys
    #[arg(
        long,
        env = "QUEUE_PREFIX",
        value_name = "QUEUE_PREFIX",
        default_value = "bull"
    )]
    prefix: String,
    /// Seconds that requests get to finish once the program is stopping
    #[arg(long, env = "SHUTDOWN_GRACE", default_value_t = 10)]
    shutdown_grace: u64,
    /// Seconds that the stopping program answers /ready with 503 before it refuses connections, so
    /// that a load balancer notices, as in Kubernetes
    #[arg(long, env = "DRAIN_DELAY", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=60))]
    drain_delay: u64,
    /// How log lines are written
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(flatten)]
    redis: RedisSettings,
    #[command(flatten)]
    graph: GraphSettings,
    #[command(flatten)]
    reading: ReadSettings,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = app::settings(|these: &Arguments| these.log_format);
    app::exit_code(run(&arguments).await)
}

async fn run(arguments: &Arguments) -> Result<(), StartError> {
    let secrets = secret(APP_SECRET, AppSecrets::parse)?;
    let token = secret(VERIFY_TOKEN, VerifyToken::new)?;
    let sources = match arguments.graph.tokens() {
        Ok(sources) => Some(sources),
        Err(GraphSettingsError::NoToken) => None,
        Err(error) => return Err(error.into()),
    };
    let graph = arguments.graph.client()?;
    let mut signals = app::listen()?;
    let metrics = MetricsRegistry::default();
    metrics.install();
    let client = Client::connect(arguments.redis.config()?).await?;
    let tokens = sources.map(|sources| sources.connect(&client));
    let upkeep = FileUpkeep::new(&tokens.clone().unwrap_or_default(), &Problems::default())?;
    let overviews = tokens.map_or_else(Overviews::stored, |tokens| {
        Overviews::from_api(graph, tokens, arguments.reading.options())
    });
    let options = GatewayOptions::new(secrets, token, overviews)
        .address(SocketAddr::from((arguments.host, arguments.port)))
        .prefix(&arguments.prefix)
        .body_limit(arguments.body_limit)
        .max_age(Duration::from_secs(arguments.max_age_hours * 3600))
        .grace(Duration::from_secs(arguments.shutdown_grace))
        .drain_delay(Duration::from_secs(arguments.drain_delay));
    let options = options.metrics(metrics);
    let options = match std::env::var_os(ENCRYPTION_KEYS) {
        Some(keys) if !keys.is_empty() => {
            let sessions = Sessions::builder(&client).sealed_with(Keyring::from_env()?);
            options.sessions(sessions.build()?)
        }
        _ => options,
    };
    let gateway = Gateway::start(&client, options).await?;
    tracing::info!(address = %gateway.address(), "listening");
    tokio::select! {
        () = signals.next() => {}
        () = upkeep.run() => {}
    }
    tracing::info!(
        delay = arguments.drain_delay,
        "not ready any more; stopping after the delay"
    );
    tokio::select! {
        () = gateway.drain() => {}
        () = signals.next() => {}
    }
    tracing::info!("stopping");
    gateway.stop().await;
    client.close().await;
    Ok(())
}

/// A secret that cannot be used. The text explains what is wrong and never shows its content.
#[derive(Debug, thiserror::Error)]
#[error("{variable}")]
struct SecretError {
    variable: &'static str,
    source: InvalidSecret,
}

fn secret<T>(
    variable: &'static str,
    read: impl Fn(&str) -> Result<T, InvalidSecret>,
) -> Result<T, StartError> {
    let failed = |source| StartError::Setting(SecretError { variable, source }.into());
    match std::env::var(variable) {
        Ok(text) => read(&text).map_err(failed),
        Err(_) => Err(failed(InvalidSecret::Missing)),
    }
}
