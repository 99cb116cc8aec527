//! Listening, connections and their end: a small HTTP server whose time and size are bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most headers of a request.
const MOST_HEADERS: usize = 100;

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// After a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much a server takes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// How long a request's head may take to come. A connection without a request for that long
    /// is closed.
    pub(crate) read_timeout: Duration,
    /// How many connections are open at a time; more wait until one closes.
    pub(crate) connections: usize,
}

/// A server that runs. Dropping it makes it stop; [`HttpServer::stop`] waits until it has.
#[derive(Debug)]
pub(crate) struct HttpServer {
    stopping: CancellationToken,
    abandoned: CancellationToken,
    tasks: TaskTracker,
}

impl HttpServer {
    /// Answers what comes in by these routes.
    pub(crate) fn start(listener: TcpListener, router: Router, limits: ConnectionLimits) -> Self {
        let server = Self {
            stopping: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let acceptor = Acceptor {
            router,
            read_timeout: limits.read_timeout,
            slots: Arc::new(Semaphore::new(limits.connections)),
            stopping: server.stopping.clone(),
            abandoned: server.abandoned.clone(),
            tasks: server.tasks.clone(),
        };
        server.tasks.spawn(acceptor.run(listener));
        server
    }

    /// Takes no more connections, lets requests under way finish, and cuts off what is left when
    /// their time is over.
    pub(crate) async fn stop(self, grace: Duration) {
        self.stopping.cancel();
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_err() {
            tracing::warn!("requests were cut off: their time was over");
            self.abandoned.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.abandoned.cancel();
    }
}

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; change {settings}, or end the program that has it")]
pub struct ListenError {
    address: SocketAddr,
    settings: &'static str,
    #[source]
    source: std::io::Error,
}

/// Listens on an address; `settings` are named in the error.
///
/// # Errors
/// When it is taken, no address of this machine, or not permitted.
pub(crate) async fn listen(
    address: SocketAddr,
    settings: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError {
        address,
        settings,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
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
