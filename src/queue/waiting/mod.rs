//! Waiting for the ends of jobs.

mod waiters;
mod watcher;

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::job::{JobId, JobOptions, JobOutcome};
use crate::json;
use crate::queue::{Queue, named};

use watcher::Subscription;
pub(super) use watcher::Watcher;

impl<D> Queue<D> {
    /// Waits until a job has ended, on whichever worker, for at most `within`. Returns at once if the
    /// job has ended already and was kept. A failed attempt that will be retried does not count.
    ///
    /// Nothing is polled: all who wait for jobs of a queue through one client share one
    /// connection, which is opened for the first of them and closed some seconds after the last.
    /// The wait survives lost connections.
    ///
    /// # Errors
    ///
    /// [`Error::JobMissing`] when there is no such job. That includes one that ended before the
    /// call and was removed by its retention; to add a job whose end is needed, see
    /// [`add_and_wait`](Self::add_and_wait). [`Error::JobRemoved`] when it is removed or cleaned
    /// meanwhile. No event reports jobs deleted by a drain, or the iteration that the upsert of a
    /// scheduler replaces: for these, this returns only on timeout. [`Error::JobNotEnded`] says nothing
    /// about the job. [`Error::Decode`] when the result does not decode as `R`.
    /// [`Error::Closed`] when the client is closed.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing behind.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::JobOutcome;
    /// use std::time::Duration;
    ///
    /// let added = queue.add("resize", &serde_json::json!({ "width": 80 })).await?;
    /// match queue.wait_for::<String>(&added.id, Duration::from_secs(30)).await? {
    ///     JobOutcome::Completed(url) => println!("resized: {url}"),
    ///     JobOutcome::Failed { reason } => println!("not resized: {reason}"),
    ///     _ => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "wait_until_finished")]
    pub async fn wait_for<R: DeserializeOwned>(
        &self,
        job: impl Into<JobId>,
        within: Duration,
    ) -> Result<JobOutcome<R>> {
        let job = named(job)?;
        match timeout(within, self.end_of(&job)).await {
            Ok(end) => decode(&job, end?),
            Err(_) => Err(Error::JobNotEnded { job, within }),
        }
    }

    /// Adds a job and waits until it has ended. Its end is not missed even if its retention
    /// removes it at once. The job gets a unique id, unless the options have one; if a job of that id
    /// exists already, this waits for that one.
    ///
    /// # Errors
    ///
    /// As [`add_once`](Self::add_once) and [`wait_for`](Self::wait_for). After
    /// [`Error::JobNotEnded`], the job may have been added. It has been after [`Error::JobRemoved`],
    /// and after [`Error::Incomplete`], which holds any other error of waiting, or the result not
    /// decoding as `R`.
    ///
    /// # Cancel safety
    ///
    /// The job may be added although the call was dropped.
    pub async fn add_and_wait<R: DeserializeOwned>(
        &self,
        name: impl Into<String>,
        data: &D,
        options: JobOptions,
        within: Duration,
    ) -> Result<JobOutcome<R>>
    where
        D: Serialize,
    {
        let id = options.id.clone().unwrap_or_else(JobId::unique);
        let options = options.id(id.clone());
        let mut awaited = id.clone();
        let adding = async {
            // Registered before there is a job: its end may come, and go, with the add's answer.
            let subscription = self.subscribe_placed(&id).await?;
            let added = self.add_with(name, data, options).await?;
            awaited.clone_from(&added.id);
            let end = if added.id == id {
                subscription.check();
                self.follow(&id, subscription).await
            } else {
                self.end_of(&added.id).await
            };
            match end.and_then(|end| decode(&added.id, end)) {
                // It was there a moment ago.
                Err(Error::JobMissing(id)) => Err(Error::JobRemoved(id)),
                end => end.map_err(|error| error.after(|| format!("job {} was added", added.id))),
            }
        };
        match timeout(within, adding).await {
            Ok(end) => end,
            Err(_) => Err(Error::JobNotEnded {
                job: awaited,
                within,
            }),
        }
    }

    async fn end_of(&self, job: &JobId) -> Result<JobOutcome<String>> {
        let subscription = self.subscribe(job);
        subscription.check();
        self.follow(job, subscription).await
    }

    fn subscribe(&self, job: &JobId) -> Subscription {
        let shared = &self.shared;
        shared.watcher.subscribe(&shared.client, &shared.store, job)
    }

    async fn follow(
        &self,
        job: &JobId,
        mut subscription: Subscription,
    ) -> Result<JobOutcome<String>> {
        loop {
            if let Some(end) = subscription.end().await {
                return end;
            }
            if self.shared.client.closing().is_cancelled() {
                return Err(Error::Closed);
            }
            // The runtime that ran the shared reader has shut down; this one has not.
            subscription = self.subscribe(job);
            subscription.check();
        }
    }

    /// Subscribes, and waits until everything that the job does from now on is seen.
    async fn subscribe_placed(&self, job: &JobId) -> Result<Subscription> {
        loop {
            let mut subscription = self.subscribe(job);
            match subscription.ready().await {
                Some(ready) => return ready.map(|()| subscription),
                None if self.shared.client.closing().is_cancelled() => return Err(Error::Closed),
                None => {}
            }
        }
    }
}

fn decode<R: DeserializeOwned>(job: &JobId, end: JobOutcome<String>) -> Result<JobOutcome<R>> {
    match end {
        JobOutcome::Completed(value) => match json::read(&value) {
            Ok(value) => Ok(JobOutcome::Completed(value)),
            Err(source) => Err(Error::Decode {
                what: format!("returnvalue of job {job}"),
                source: source.into(),
            }),
        },
        JobOutcome::Failed { reason } => Ok(JobOutcome::Failed { reason }),
    }
}
