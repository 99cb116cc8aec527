//! A gateway from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use oxbull::client::Client;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::body::BodyMemory;
use super::intake::Intake;
use super::options::GatewayOptions;
use super::overview::Source;
use super::routes::{App, router};
use crate::app::StartError;
use crate::app::http_server::{self, ConnectionLimits, HttpServer, ListenError};
use crate::app::write_probe::WriteProbe;

/// Large deliveries that are read and stored at a time.
const LARGE: usize = 2;

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The queue could not be opened.
    #[error("redis")]
    Redis(#[from] oxbull::Error),
    /// The address could not be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl From<GatewayError> for StartError {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Redis(error) => Self::Redis(error),
            GatewayError::Listen(error) => Self::Setting(error.into()),
        }
    }
}

/// A running gateway. Dropping it makes it stop; [`Gateway::stop`] waits until it has.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    grace: Duration,
    drain_delay: Duration,
    draining: CancellationToken,
    server: HttpServer,
}

impl Gateway {
    /// Opens the queue and starts to listen.
    ///
    /// # Errors
    /// [`GatewayError`] when either is not possible.
    pub async fn start(client: &Client, options: GatewayOptions) -> Result<Self, GatewayError> {
        let intake = Intake::open(client, &options.prefix, options.max_age).await?;
        let listening = http_server::listen(options.address, "PORT or GATEWAY_HOST").await;
        let (listener, address) = listening?;
        let draining = CancellationToken::new();
        let router = router(Arc::new(App {
            client: client.clone(),
            intake,
            overviews: Source::new(client, options.overviews)?,
            sessions: options.sessions,
            writes: WriteProbe::new(client),
            metrics: options.metrics.into(),
            not_stored: AtomicU64::new(0),
            secrets: options.secrets,
            token: options.token,
            body_limit: options.body_limit,
            bodies: BodyMemory::new(options.body_memory.max(options.body_limit)),
            large: Arc::new(Semaphore::new(LARGE)),
            read_timeout: options.read_timeout,
            store_within: options.store_within,
            draining: draining.clone(),
        }));
        let limits = ConnectionLimits {
            read_timeout: options.read_timeout,
            connections: options.connections,
        };
        Ok(Self {
            address,
            grace: options.grace,
            drain_delay: options.drain_delay,
            draining,
            server: HttpServer::start(listener, router, limits),
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reports that it is not ready any more, and keeps serving for the
    /// [`drain_delay`](GatewayOptions::drain_delay): load balancers need that time to notice
    /// before connections are refused. Dropping the call ends the wait.
    pub async fn drain(&self) {
        self.draining.cancel();
        sleep(self.drain_delay).await;
    }

    /// Takes no more connections, lets requests under way finish, and cuts off what is left when
    /// their time is over.
    pub async fn stop(self) {
        self.draining.cancel();
        self.server.stop(self.grace).await;
    }
}
