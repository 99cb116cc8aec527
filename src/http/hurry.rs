//! Asking Redis without waiting for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::Connection;
use crate::error::{Error, Result};

/// How many questions may be on their way or late at once: a server that hangs must not collect
/// more and more of them. Further callers wait for room, for no longer than for an answer.
const ROOM: usize = 256;

/// A connection whose users wait a short time only.
///
/// A late answer is not cut off: the question stays on the connection, which has a deadline of
/// its own and then knows that its socket is dead. Ending the socket after these few
/// milliseconds would end it for the queues and workers that may share it, too.
#[derive(Debug, Clone)]
pub(super) struct Hurry {
    connection: Connection,
    patience: Duration,
    room: Arc<Semaphore>,
}

impl Hurry {
    pub(super) fn new(connection: Connection, patience: Duration) -> Self {
        Self {
            connection,
            patience,
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }

    /// Waits for an answer for the short time.
    pub(super) async fn ask<T, F>(&self, work: impl FnOnce(Connection) -> F + Send) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let asked = async {
            // Nobody closes it.
            let room = Arc::clone(&self.room).acquire_owned().await;
            let task = self.spawn(room.map_err(|_| Error::Closed)?, work);
            // Fails only when the runtime has ended.
            task.await
                .map_err(|ended| Error::Indeterminate(ended.into()))?
        };
        let answer = timeout(self.patience, asked).await;
        answer.unwrap_or(Err(Error::Timeout(self.patience)))
    }

    /// Does something that nobody waits for, unless too much is on its way already.
    #[cfg(feature = "http-cache")]
    pub(super) fn tell<F>(&self, work: impl FnOnce(Connection) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            drop(self.spawn(room, work));
        }
    }

    fn spawn<T, F>(
        &self,
        room: OwnedSemaphorePermit,
        work: impl FnOnce(Connection) -> F,
    ) -> JoinHandle<Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let work = work(self.connection.clone());
        self.connection.spawn(async move {
            let answer = work.await;
            drop(room);
            answer
        })
    }
}
