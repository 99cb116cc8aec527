//! Jobs that no queue has.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::client::Client;
use crate::error::{BoxError, Error, Refusal, Result};
use crate::job::{
    Actions, Dependency, DependencyState, Job, JobError, JobId, JobKey, JobOptions, JobRecord,
    Outcome,
};
use crate::json;
use crate::policy::{self, WorkerRules};
use crate::testing::recorder::Recorder;
use crate::testing::{TestRun, unconnected_client};
use crate::worker::{
    self, Cancellation, Concluder, Context, FailedAttempt, Handler, IntoJobResult, JobCall,
    JobReply, Strategies,
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
    concluder: Concluder,
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
        let client = unconnected_client();
        Self {
            record: Arc::new(record),
            concluder: Concluder {
                rules: WorkerRules::default(),
                strategies: Strategies::default(),
                clock: client.clock().clone(),
            },
            client,
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

    /// Gives the job a child that has completed with this result, for handlers that
    /// [read](Job::children_values) it.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] when the result has no JSON form.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), oxbull::BoxError> {
    /// use oxbull::testing::TestJob;
    /// use oxbull::{Job, JobResult, Outcome};
    ///
    /// async fn sum(job: Job<()>) -> JobResult<u64> {
    ///     let results = job.children_values::<u64>().await?.into_map()?;
    ///     Ok(Outcome::Done(results.into_values().sum()))
    /// }
    ///
    /// let test = TestJob::new(&())?
    ///     .child_result("bull:pages:1", &40)?
    ///     .child_result("bull:pages:2", &2)?;
    /// assert_eq!(sum(test.job()?).await.unwrap(), Outcome::Done(42));
    /// # Ok(())
    /// # }
    /// ```
    pub fn child_result<R: Serialize + ?Sized>(
        self,
        child: impl Into<JobKey>,
        result: &R,
    ) -> Result<Self> {
        let result = serde_json::to_string(result).map_err(|source| Error::Encode {
            what: "result of a child",
            source,
        })?;
        Ok(self.child(child, DependencyState::Processed(result)))
    }

    /// Gives the job a child of any kind: one that is pending, has failed, or has completed with what
    /// Redis may hold as its result.
    #[must_use]
    pub fn child(self, child: impl Into<JobKey>, state: DependencyState) -> Self {
        let child = Dependency::new(child.into(), state);
        self.recorder.lock().children.push(child);
        self
    }

    /// Gives the handler's [context](Context::client) this client. Default: an
    /// [unconnected](unconnected_client) one.
    #[must_use]
    pub fn client(mut self, client: &Client) -> Self {
        self.client = client.clone();
        self.concluder.clock = client.clock().clone();
        self
    }

    /// Registers the backoff strategy for jobs that name it, as
    /// [`WorkerBuilder::backoff_strategy`](crate::WorkerBuilder::backoff_strategy) does. A job that
    /// names one which is not registered is not retried.
    #[must_use]
    pub fn backoff_strategy<F, Fut>(mut self, name: impl Into<String>, strategy: F) -> Self
    where
        F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Duration>> + Send + 'static,
    {
        self.concluder.strategies.insert(name.into(), strategy);
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
    /// [`Error::Decode`] when the data is not JSON of type `D`; the attempt fails then.
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
    /// failed attempt, and the job's options decide what follows. A job with a
    /// [deferred failure](JobRecord::deferred_failure) fails without its handler.
    ///
    /// What depends on other jobs is not covered: a result that is refused because a child is pending,
    /// and an iteration that is skipped because an earlier one runs.
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
    /// assert_eq!(run.stored(), &Stored::Completed("42".to_owned()));
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
    /// assert_eq!(run.stored(), &Stored::Completed("42".to_owned()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_service<T>(&self, service: T) -> TestRun
    where
        T: Service<JobCall, Response = JobReply>,
        T::Error: Into<BoxError>,
    {
        let preflight = policy::preflight(&self.record, &self.concluder.rules);
        let outcome = if let Some(error) = preflight {
            Err(error)
        } else {
            let call = self.call();
            // The attempt's end is its cancellation for whatever the handler has spawned.
            let _cancel_spawned = call.cancellation.0.clone().drop_guard();
            let reply = worker::answer(service, call).await;
            reply.map(JobReply::into_outcome)
        };
        if let Ok(Outcome::RateLimited(wait)) = &outcome {
            self.recorder.lock().limits.push(*wait);
        }
        TestRun::new(&self.record, outcome, &self.concluder).await
    }
}

/// # Actions of the handler
///
/// What the handler did through its [`Job`], over all jobs and runs of this value.
impl TestJob {
    /// Decodes every [progress](Job::update_progress) that the handler reported, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when one of them is not JSON of type `P`.
    pub fn progress<P: DeserializeOwned>(&self) -> Result<Vec<P>> {
        let recorded = self.recorder.lock();
        let progress = recorded.progress.iter();
        progress.map(|text| decode("progress", text)).collect()
    }

    /// Returns the rows that the handler wrote to the job's [log](Job::log), as many of them as the
    /// job's [option](JobOptions::keep_logs) keeps, oldest first.
    pub fn logs(&self) -> Vec<String> {
        self.recorder.lock().logs.clone()
    }

    /// Decodes the data that the next attempt would get; `None` when the handler has not
    /// [updated](Job::update_data) it.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when it is not JSON of type `D`.
    pub fn updated_data<D: DeserializeOwned>(&self) -> Result<Option<D>> {
        let recorded = self.recorder.lock();
        let data = recorded.data.as_deref();
        data.map(|text| decode("updated data", text)).transpose()
    }

    /// Returns the rate limits that the handler imposed, oldest first: by [`Job::limit_rate`], and with
    /// [`Outcome::RateLimited`].
    pub fn rate_limits(&self) -> Vec<Duration> {
        self.recorder.lock().limits.clone()
    }
}

fn decode<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    json::read(text).map_err(|source| Error::Decode {
        what: what.to_owned(),
        source: source.into(),
    })
}
