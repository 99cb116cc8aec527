//! Pausing a queue and resuming it.

use crate::error::Result;
use crate::queue::Queue;
use crate::store::{Pause, Resume};
use crate::telemetry::Operation;

impl<D> Queue<D> {
    /// Stops all workers of the queue, BullMQ's included, from starting jobs. Running jobs finish, and
    /// jobs can still be added.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn pause(&self) -> Result<()> {
        let span = Operation::new(self.name().as_str(), "pause");
        span.around(self.store().run(&Pause)).await
    }

    /// Lets workers start jobs again.
    ///
    /// # Errors
    ///
    /// Connection errors, in an [`Error::Incomplete`](crate::Error::Incomplete) when jobs that old
    /// versions have parked did not all move. Safe to repeat.
    pub async fn resume(&self) -> Result<()> {
        let span = Operation::new(self.name().as_str(), "resume");
        span.around(self.resume_all()).await
    }

    async fn resume_all(&self) -> Result<()> {
        let mut continued = false;
        loop {
            match self.store().run(&Resume { continued }).await {
                Ok(true) => continued = true,
                Ok(false) => return Ok(()),
                Err(error) if continued => {
                    return Err(error.after(|| "the queue was resumed".to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns whether the queue is paused.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn is_paused(&self) -> Result<bool> {
        self.store().is_paused().await
    }
}
