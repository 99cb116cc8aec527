//! Listening, connections and their end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use oxbull::client::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::intake::Intake;
use super::metrics::Metrics;
use super::options::GatewayOptions;
use super::overview::Source;
use super::routes::{App, router};

/// Most headers of a request.
const MOST_HEADERS: usize = 100;

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// After a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The queue could not be opened.
    #[error("redis")]
    Redis(#[from] oxbull::Error),
    /// The address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
}

/// A running gateway. Dropping it makes it stop; [`Gateway::stop`] waits until it has.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    grace: Duration,
    stopping: CancellationToken,
    abandoned: CancellationToken,
    tasks: TaskTracker,
}

impl Gateway {
    /// Opens the queue and starts to listen.
    ///
    /// # Errors
    /// [`GatewayError`] when either is not possible.
    pub async fn start(client: &Client, options: GatewayOptions) -> Result<Self, GatewayError> {
        let intake = Intake::open(client, &options.prefix, options.max_age).await?;
        let address = options.address;
        let failed = |source| GatewayError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stopping = CancellationToken::new();
        let router = router(Arc::new(App {
            client: client.clone(),
            intake,
            overviews: Source::new(client, options.overviews)?,
            sessions: options.sessions,
            metrics: Metrics::default(),
            secrets: options.secrets,
            token: options.token,
            body_limit: options.body_limit,
            read_timeout: options.read_timeout,
            store_within: options.store_within,
            stopping: stopping.clone(),
        }));
        let tasks = TaskTracker::new();
        let abandoned = CancellationToken::new();
        let acceptor = Acceptor {
            router,
            read_timeout: options.read_timeout,
            slots: Arc::new(Semaphore::new(options.connections)),
            stopping: stopping.clone(),
            abandoned: abandoned.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(acceptor.run(listener));
        Ok(Self {
            address,
            grace: options.grace,
            stopping,
            abandoned,
            tasks,
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets requests under way finish, and cuts off what is left when
    /// their time is over.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        if timeout(self.grace, self.tasks.wait()).await.is_err() {
            tracing::warn!("requests were cut off: their time was over");
            self.abandoned.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.abandoned.cancel();
    }
}

/// Takes connections, and serves each in a task of its own.
struct Acceptor {
    router: Router,
    read_timeout: Duration,
    slots: Arc<Semaphore>,
    stopping: CancellationToken,
    abandoned: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            let next = async {
                // Never closed, so a slot comes as soon as a connection ends.
                let slot = Arc::clone(&self.slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                next = next => next,
                () = self.stopping.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = self.serve(stream);
                    self.tasks.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + use<> {
        let service = TowerToHyperService::new(self.router.clone());
        let (stopping, abandoned) = (self.stopping.clone(), self.abandoned.clone());
        let read_timeout = self.read_timeout;
        async move {
            // Answers are small and should not wait for company.
            stream.set_nodelay(true).ok();
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(read_timeout)
                .max_headers(MOST_HEADERS)
                .max_buf_size(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        () = abandoned.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        }
    }
}
