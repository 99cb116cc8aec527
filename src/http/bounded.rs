//! Requests to Redis with a short limit for their caller.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::Connection;
use crate::error::{Error, Result};

/// How many requests may be in flight at once, those past their limit included, so that a server
/// that hangs does not collect more and more of them. Further callers wait for a permit, within the
/// same limit.
const IN_FLIGHT_MAX: usize = 256;

/// A connection whose callers wait for a short time only.
///
/// A request that exceeds the limit is not cancelled: it stays on the connection, which has a
/// deadline of its own. Closing the socket after these few milliseconds would close it for the
/// queues and workers that may share it, too.
#[derive(Debug, Clone)]
pub(super) struct BoundedConnection {
    connection: Connection,
    limit: Duration,
    permits: Arc<Semaphore>,
}

impl BoundedConnection {
    pub(super) fn new(connection: Connection, limit: Duration) -> Self {
        Self {
            connection,
            limit,
            permits: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        }
    }

    /// Sends a request and waits for its answer within the limit.
    pub(super) async fn ask<T, F>(&self, work: impl FnOnce(Connection) -> F + Send) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let asked = async {
            // It is never closed.
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let task = self.spawn(permit.map_err(|_| Error::Closed)?, work);
            // Fails only when the runtime has ended.
            task.await
                .map_err(|ended| Error::Indeterminate(ended.into()))?
        };
        let answer = timeout(self.limit, asked).await;
        answer.unwrap_or(Err(Error::Timeout(self.limit)))
    }

    /// Sends a request without waiting for its answer; drops it when too many are in flight.
    #[cfg(feature = "http-cache")]
    pub(super) fn detach<F>(&self, work: impl FnOnce(Connection) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            drop(self.spawn(permit, work));
        }
    }

    fn spawn<T, F>(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(Connection) -> F,
    ) -> JoinHandle<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let work = work(self.connection.clone());
        self.connection.spawn(async move {
            let answer = work.await;
            drop(permit);
            answer
        })
    }
}
