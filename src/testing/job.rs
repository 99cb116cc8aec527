//! Jobs that no queue has.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::client::Client;
use crate::error::{BoxError, Error, Refusal, Result};
use crate::job::{Action, Actions, Job, JobError, JobId, JobOptions, JobRecord};
use crate::json;
use crate::store::LimitRate;
use crate::testing::{TestRun, unconnected_client};
use crate::worker::{
    self, Cancellation, Context, FailedAttempt, Handler, IntoJobResult, JobCall, JobReply,
};

/// One attempt at a job that no queue has: what a handler or layer is given, and a record of what it
/// did with it.
///
/// By default the attempt is the first one at a job `1` named `test`, without options. Its handler's
/// [client](Context::client) is [unconnected](unconnected_client).
///
/// # Examples
///
/// A handler is called as the function that it is:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), oxbull::BoxError> {
/// use oxbull::testing::TestJob;
/// use oxbull::{Context, Job, JobError, JobResult, Outcome};
///
/// async fn send(job: Job<String>, context: Context<Vec<String>>) -> JobResult<usize> {
///     if context.is_cancelled() {
///         return Ok(Outcome::Release);
///     }
///     if !context.state().contains(job.data()) {
///         return Err(JobError::fatal("no such address"));
///     }
///     job.log(format!("sent to {}", job.data())).await?;
///     Ok(Outcome::Done(1))
/// }
///
/// let attempt = TestJob::new("ada@example.org")?;
/// let known = vec!["ada@example.org".to_owned()];
/// let outcome = send(attempt.job()?, attempt.context(known)).await;
/// assert_eq!(outcome.unwrap(), Outcome::Done(1));
/// assert_eq!(attempt.logs(), ["sent to ada@example.org"]);
///
/// let outcome = send(attempt.job()?, attempt.context(vec![])).await;
/// assert!(outcome.unwrap_err().is_fatal());
///
/// attempt.cancel();
/// let outcome = send(attempt.job()?, attempt.context(vec![])).await;
/// assert_eq!(outcome.unwrap(), Outcome::Release);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TestJob {
    record: Arc<JobRecord>,
    client: Client,
    recorder: Arc<Recorder>,
    cancellation: CancellationToken,
}

impl TestJob {
    /// Makes a job of its data.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] when the data has no JSON form.
    pub fn new<D: Serialize + ?Sized>(data: &D) -> Result<Self> {
        let data = serde_json::to_string(data).map_err(|source| Error::Encode {
            what: "job data",
            source,
        })?;
        Ok(Self::from_json(data))
    }

    /// Makes a job of what Redis may hold as its data: JSON of any kind, or none.
    pub fn from_json(data: impl Into<String>) -> Self {
        let mut record = JobRecord::new("1");
        "test".clone_into(&mut record.name);
        record.raw_data = data.into();
        record.attempts_started = 1;
        Self::from_record(record)
    }

    /// Makes a job of a record, which has to count the attempt among those
    /// [started](JobRecord::attempts_started).
    pub fn from_record(record: JobRecord) -> Self {
        Self {
            record: Arc::new(record),
            client: unconnected_client(),
            recorder: Arc::default(),
            cancellation: CancellationToken::new(),
        }
    }

    /// Sets the job's id. Default: `1`.
    #[must_use]
    pub fn id(self, id: impl Into<JobId>) -> Self {
        self.with(|record| record.id = id.into())
    }

    /// Sets the job's name. Default: `test`.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with(|record| record.name = name.into())
    }

    /// Sets the options that the job was added with. Default: none.
    #[must_use]
    pub fn options(self, options: JobOptions) -> Self {
        self.with(|record| record.options = options)
    }

    /// Makes this the attempt of that number: all attempts before it have failed. Default: 1.
    #[must_use]
    pub fn attempt(self, number: u32) -> Self {
        self.with(|record| {
            record.attempts_made = number.saturating_sub(1);
            record.attempts_started = number;
        })
    }

    /// Changes anything else of the job's record.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut JobRecord)) -> Self {
        change(Arc::make_mut(&mut self.record));
        self
    }

    /// Gives the handler's [context](Context::client) this client. Default: an
    /// [unconnected](unconnected_client) one.
    #[must_use]
    pub fn client(mut self, client: &Client) -> Self {
        self.client = client.clone();
        self
    }

    /// Lets every [action](Self#actions-of-the-handler) of the handler fail from now on, as
    /// [`Error::Refused`]: with [`Refusal::JobMissing`] as if the job had been removed, with
    /// [`Refusal::LockLost`] as if another worker had it.
    pub fn refuse_actions(&self, refusal: Refusal) {
        self.recorder.lock().refusal = Some(refusal);
    }

    /// Cancels the attempt, as [`Worker::cancel_job`](crate::Worker::cancel_job) does: the handler is
    /// [notified](Context::cancelled). It is not dropped: that it returns in time is for the test to
    /// see.
    pub fn cancel(&self) {
        self.cancellation.cancel();
    }
}

/// # What handlers and layers are given
impl TestJob {
    /// Returns everything that is stored about the job.
    pub fn record(&self) -> &JobRecord {
        &self.record
    }

    /// Returns the job as its handler gets it.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the data is no JSON of type `D`; the attempt fails then.
    pub fn job<D: DeserializeOwned>(&self) -> Result<Job<D>> {
        let data = json::read(&self.record.raw_data).map_err(|source| Error::Decode {
            what: format!("data of job {}", self.record.id),
            source: source.into(),
        })?;
        Ok(Job::new(Arc::clone(&self.record), data, self.actions()))
    }

    /// Returns the context that comes with the job, with the worker's state.
    pub fn context<S>(&self, state: S) -> Context<S> {
        Context {
            state: Arc::new(state),
            client: self.client.clone(),
            cancellation: Cancellation(self.cancellation.clone()),
        }
    }

    /// Returns the attempt as layers get it.
    pub fn call(&self) -> JobCall {
        JobCall {
            record: Arc::clone(&self.record),
            actions: self.actions(),
            cancellation: Cancellation(self.cancellation.child_token()),
        }
    }

    /// Returns the attempt as a [custom backoff strategy](crate::Backoff::custom) gets it once it has
    /// failed with this error.
    pub fn failed_with(&self, error: impl Into<JobError>) -> FailedAttempt {
        FailedAttempt {
            job: Arc::clone(&self.record),
            attempt: self.record.attempts_made.saturating_add(1),
            error: Arc::new(error.into()),
        }
    }

    fn actions(&self) -> Arc<dyn Actions> {
        Arc::<Recorder>::clone(&self.recorder)
    }
}

/// # Attempts as a worker makes them
impl TestJob {
    /// Makes the attempt with a handler: its data is decoded and its result encoded, a panic is a
    /// failed attempt, and the job's options decide what follows.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), oxbull::BoxError> {
    /// use std::num::ParseIntError;
    /// use std::time::Duration;
    /// use oxbull::testing::{Stored, TestJob};
    /// use oxbull::{Backoff, Job, JobOptions};
    ///
    /// async fn parse(job: Job<String>) -> Result<u32, ParseIntError> {
    ///     job.data().parse()
    /// }
    ///
    /// let run = TestJob::new("42")?.run(parse, ()).await;
    /// assert_eq!(run.stored(), &Stored::Completed(42.into()));
    ///
    /// let backoff = Backoff::exponential(Duration::from_secs(1));
    /// let options = JobOptions::new().attempts(3).backoff(backoff);
    /// let run = TestJob::new("many")?.options(options).attempt(2).run(parse, ()).await;
    /// let reason = "invalid digit found in string".to_owned();
    /// let wait = Duration::from_secs(2);
    /// assert_eq!(run.stored(), &Stored::Retried { reason, wait });
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<H, S, M>(&self, handler: H, state: S) -> TestRun
    where
        H: Handler<S, M>,
        H::Data: DeserializeOwned + Send + 'static,
        H::Future: Send,
        H::Output: IntoJobResult,
        S: Send + Sync + 'static,
        M: 'static,
    {
        let service = worker::service(handler, state, &self.client);
        self.run_service(service).await
    }

    /// Makes the attempt with a handler behind layers, or with any other service of jobs. See
    /// [`service`](crate::testing::service).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), oxbull::BoxError> {
    /// use oxbull::testing::{self, Stored, TestJob};
    /// use oxbull::tower::Layer;
    /// use oxbull::tower::util::MapRequestLayer;
    /// use oxbull::{Job, JobCall};
    ///
    /// async fn double(job: Job<u32>) -> Result<u32, std::convert::Infallible> {
    ///     Ok(job.data() * 2)
    /// }
    ///
    /// let named = MapRequestLayer::new(|call: JobCall| {
    ///     assert_eq!(call.record().name, "double");
    ///     call
    /// });
    /// let stack = named.layer(testing::service(double, ()));
    /// let run = TestJob::new(&21)?.name("double").run_service(stack).await;
    /// assert_eq!(run.stored(), &Stored::Completed(42.into()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_service<T>(&self, service: T) -> TestRun
    where
        T: Service<JobCall, Response = JobReply>,
        T::Error: Into<BoxError>,
    {
        let call = self.call();
        // The attempt's end is its cancellation for whatever the handler has spawned.
        let _cancel_spawned = call.cancellation.0.clone().drop_guard();
        let reply = worker::answer(service, call).await;
        let outcome = reply.map(JobReply::into_outcome);
        TestRun::new(&self.record, outcome, self.client.clock().now())
    }
}

/// # Actions of the handler
///
/// What the handler did by way of its [`Job`], over all jobs and runs made of this value.
impl TestJob {
    /// Returns every [progress](Job::update_progress) that the handler reported, oldest first.
    pub fn progress(&self) -> Vec<Value> {
        self.recorder.lock().progress.clone()
    }

    /// Returns the rows that the handler wrote to the job's [log](Job::log), as many of them as the
    /// job's [option](JobOptions::keep_logs) keeps, oldest first.
    pub fn logs(&self) -> Vec<String> {
        self.recorder.lock().logs.clone()
    }

    /// Returns the data that the next attempt would get; `None` when the handler has not
    /// [updated](Job::update_data) it.
    pub fn updated_data(&self) -> Option<Value> {
        self.recorder.lock().data.clone()
    }

    /// Returns the [rate limits](Job::limit_rate) that the handler imposed, oldest first.
    pub fn rate_limits(&self) -> Vec<Duration> {
        self.recorder.lock().limits.clone()
    }
}

/// Records the actions of a handler.
#[derive(Debug, Default)]
struct Recorder(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    progress: Vec<Value>,
    logs: Vec<String>,
    data: Option<Value>,
    limits: Vec<Duration>,
    refusal: Option<Refusal>,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, job: &JobId, action: Action) -> Result<u64> {
        let mut recorded = self.lock();
        if let Some(source) = recorded.refusal {
            let job = job.clone();
            return Err(Error::Refused { job, source });
        }
        match action {
            Action::Progress(progress) => recorded.progress.push(value("progress", &progress)?),
            Action::Data(data) => recorded.data = Some(value("job data", &data)?),
            Action::Log { row, keep } => {
                recorded.logs.push(row);
                let rows = recorded.logs.len();
                if let Ok(keep @ 1..) = usize::try_from(keep) {
                    recorded.logs.drain(..rows.saturating_sub(keep));
                }
                return Ok(u64::try_from(recorded.logs.len()).unwrap_or(u64::MAX));
            }
            Action::Limit(wait) => {
                LimitRate::checked(wait, None)?;
                recorded.limits.push(wait);
                return Ok(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            }
        }
        Ok(0)
    }
}

fn value(what: &'static str, text: &str) -> Result<Value> {
    json::read(text).map_err(|source| Error::Encode { what, source })
}

impl Actions for Recorder {
    fn run<'a>(&'a self, job: &'a JobId, action: Action) -> BoxFuture<'a, Result<u64>> {
        Box::pin(std::future::ready(self.record(job, action)))
    }
}
