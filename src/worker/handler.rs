//! Handlers: plain async functions, and the tower services they become.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::client::Client;
use crate::error::BoxError;
use crate::job::{Actions, AttemptError, Job, JobError, JobId, JobRecord, JobResult, Outcome};
use crate::json;
use crate::worker::panic::caught;

/// What a handler gets beside its job: the worker's shared state, the client, and notice of being
/// cancelled.
pub struct Context<S = ()> {
    pub(crate) state: Arc<S>,
    pub(crate) client: Client,
    pub(crate) cancellation: Cancellation,
}

impl<S> Context<S> {
    /// Returns the state given to [`WorkerBuilder::state`](crate::WorkerBuilder::state).
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Returns the worker's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until the attempt is cancelled: [`Worker::cancel_job`](crate::Worker::cancel_job) asks for
    /// it, or the worker shuts down and
    /// [`ShutdownOptions::finish_within`](crate::ShutdownOptions::finish_within) has passed.
    /// A handler that loses its lock or exceeds its timeout is dropped at once instead.
    ///
    /// # Cancel safety
    ///
    /// Complete: it can be dropped and called again.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// Returns whether the attempt has been cancelled, also because its lock was lost.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Returns the attempt's cancellation, for work that the handler spawns.
    pub fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }
}

/// Notice that an attempt is over, for work that its handler has spawned: it comes when the attempt is
/// cancelled, and when it ends in any other way. Clones are about the same attempt.
#[derive(Clone)]
pub struct Cancellation(pub(crate) CancellationToken);

impl Cancellation {
    /// Waits until the attempt is over.
    ///
    /// # Cancel safety
    ///
    /// Complete: it can be dropped and called again.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Returns whether the attempt is over.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation")
            .field("cancelled", &self.is_cancelled())
            .finish()
    }
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// A function that processes jobs, in one of these forms:
///
/// ```text
/// async fn(Job<D>)             -> Result<T, E>
/// async fn(Job<D>)             -> JobResult<T>
/// async fn(Job<D>, Context<S>) -> Result<T, E>
/// async fn(Job<D>, Context<S>) -> JobResult<T>
/// ```
///
/// - `D` is decoded from the job's data and implements [`Deserialize`](serde::Deserialize). Data that
///   does not decode fails the attempt, with the reason; the job keeps its data, and is retried as its
///   options allow. Text that was cut inside a surrogate pair decodes with U+FFFD for the half that is
///   left. A handler of `Box<serde_json::value::RawValue>` gets data as it is, however deeply nested;
///   other types may read 128 levels.
/// - `S` is what [`WorkerBuilder::state`](crate::WorkerBuilder::state) was given, `()` by default.
/// - `T` is stored as the job's result and implements [`Serialize`].
/// - [`JobResult`] can end an attempt in other ways than with a result: see [`Outcome`](crate::Outcome).
/// - `E` is any error that converts into a [`BoxError`], and counts as one that `?` converts into a
///   [`JobError`](crate::JobError): the attempt has failed and is retried while attempts are left.
/// - The future is [`Send`]. Closures that return such a future are handlers too.
///
/// The type parameter `M` tells the forms apart and is always inferred.
///
/// # Examples
///
/// ```
/// use oxbull::{Context, Job, JobError, JobResult, Outcome};
///
/// async fn parse(job: Job<String>) -> Result<u32, std::num::ParseIntError> {
///     job.data().parse()
/// }
///
/// async fn send(job: Job<String>, context: Context<Mailer>) -> JobResult<()> {
///     if context.state().is_closed() {
///         return Ok(Outcome::Release);
///     }
///     Err(JobError::fatal("no such address"))
/// }
/// # struct Mailer;
/// # impl Mailer { fn is_closed(&self) -> bool { true } }
/// #
/// # fn start(client: &oxbull::Client) {
/// # use oxbull::Worker;
/// # let _ = Worker::builder(client, "a").start(parse);
/// # let _ = Worker::builder(client, "a").state(Mailer).start(send);
/// // Closures name the type of the job's data, and where they use `?` what they return.
/// # let _ = Worker::builder(client, "a").start(
/// async |job: Job<String>| -> JobResult<usize> {
///     job.log("measured").await?;
///     Ok(Outcome::Done(job.data().len()))
/// }
/// # );
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job handler",
    label = "expected `async fn(Job<D>)` or `async fn(Job<D>, Context<S>)`",
    note = "handlers return `JobResult<T>` or `Result<T, E>`",
    note = "`S` is the type given to `WorkerBuilder::state`, `()` by default"
)]
pub trait Handler<S, M>: Send + Sync + 'static {
    /// What the job's data is decoded as.
    type Data;
    /// What the handler returns in the end: see [`IntoJobResult`].
    type Output;
    /// What the handler returns at once.
    type Future: Future<Output = Self::Output>;

    /// Processes one attempt of a job.
    fn handle(&self, job: Job<Self::Data>, context: Context<S>) -> Self::Future;
}

// What else a handler's parts must be is asked where it is started: bounds here would make the
// compiler say only that no form fits.
impl<F, Fut, D, S> Handler<S, fn(Job<D>, Context<S>)> for F
where
    F: Fn(Job<D>, Context<S>) -> Fut + Send + Sync + 'static,
    Fut: Future,
{
    type Data = D;
    type Output = Fut::Output;
    type Future = Fut;

    fn handle(&self, job: Job<D>, context: Context<S>) -> Fut {
        self(job, context)
    }
}

impl<F, Fut, D, S> Handler<S, fn(Job<D>)> for F
where
    F: Fn(Job<D>) -> Fut + Send + Sync + 'static,
    Fut: Future,
{
    type Data = D;
    type Output = Fut::Output;
    type Future = Fut;

    fn handle(&self, job: Job<D>, _: Context<S>) -> Fut {
        self(job)
    }
}

/// What a [`Handler`] may return: a [`JobResult`], or the value to store and any error.
#[diagnostic::on_unimplemented(
    message = "a job handler cannot return `{Self}`",
    label = "expected `JobResult<T>` or `Result<T, E>`",
    note = "`T` is the job's result and implements `serde::Serialize`; `E` converts into `BoxError`",
    note = "an `Outcome` is returned as `JobResult<T>`: its error is a `JobError`, into which `?` \
            converts any error and `JobError::from_boxed` a boxed one"
)]
pub trait IntoJobResult {
    /// What is stored as the job's result.
    type Value: Serialize;

    /// Converts the handler's answer into the outcome of its attempt.
    ///
    /// # Errors
    ///
    /// The error that the attempt has failed with.
    fn into_job_result(self) -> JobResult<Self::Value>;
}

impl<T: Serialize> IntoJobResult for JobResult<T> {
    type Value = T;

    fn into_job_result(self) -> Self {
        self
    }
}

// Not recommended: the compiler would ask for an `Outcome` that implements `Serialize`.
#[diagnostic::do_not_recommend]
impl<T, E> IntoJobResult for Result<T, E>
where
    // No `Outcome` is: that keeps the two implementations apart.
    T: Serialize,
    E: Into<BoxError>,
{
    type Value = T;

    fn into_job_result(self) -> JobResult<T> {
        self.map(Outcome::Done)
            .map_err(|error| job_error(error.into()))
    }
}

/// One attempt on its way through the worker's layers to the handler.
#[derive(Clone)]
pub struct JobCall {
    pub(crate) record: Arc<JobRecord>,
    pub(crate) actions: Arc<dyn Actions>,
    pub(crate) cancellation: Cancellation,
}

impl JobCall {
    /// Returns the job's id.
    pub fn id(&self) -> &JobId {
        &self.record.id
    }

    /// Returns everything stored about the job when the attempt started.
    pub fn record(&self) -> &JobRecord {
        &self.record
    }

    /// Returns the attempt's cancellation.
    pub fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }
}

impl fmt::Debug for JobCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobCall")
            .field("id", &self.record.id)
            .field("name", &self.record.name)
            .finish_non_exhaustive()
    }
}

/// What the handler returned, on its way back: the outcome with the result as JSON text.
#[derive(Debug)]
pub struct JobReply(pub(super) Outcome<String>);

impl JobReply {
    /// Makes a reply of an outcome, for a layer that answers without the handler.
    ///
    /// # Errors
    ///
    /// A failed attempt when the value has no JSON form.
    pub fn new<T: Serialize>(outcome: Outcome<T>) -> Result<Self, JobError> {
        let encoded = outcome.try_map(|value| serde_json::to_string(&value));
        encoded
            .map(Self)
            .map_err(|error| JobError::retry(format!("result has no json form: {error}")).at(None))
    }

    /// Returns the outcome.
    pub fn outcome(&self) -> &Outcome<String> {
        &self.0
    }

    /// Takes the outcome out of the reply.
    pub fn into_outcome(self) -> Outcome<String> {
        self.0
    }
}

/// A handler behind the layers that have been put around it.
pub type JobService = BoxCloneSyncService<JobCall, JobReply, BoxError>;

/// Runs a handler behind its layers to its answer.
///
/// # Errors
///
/// The error that the attempt has failed with; a panic is one.
pub(crate) async fn answer<T>(service: T, call: JobCall) -> Result<JobReply, JobError>
where
    T: Service<JobCall, Response = JobReply>,
    T::Error: Into<BoxError>,
{
    let reply = caught(service.oneshot(call)).await?;
    reply.map_err(|error| job_error(error.into()))
}

/// Reads an error that came through the layers: it counts as if a handler had returned it with `?`,
/// except that its place is unknown.
pub(super) fn job_error(error: BoxError) -> JobError {
    JobError::decided(error).unwrap_or_else(|error| JobError::from_boxed(error).at(None))
}

/// The innermost service: decodes the job, calls the handler, encodes its result.
struct HandlerService<H, S, M> {
    handler: Arc<H>,
    state: Arc<S>,
    client: Client,
    form: PhantomData<fn(M)>,
}

/// Makes a service of a handler, which is the last to depend on the handler's types.
pub(crate) fn service<H, S, M>(handler: H, state: S, client: &Client) -> JobService
where
    H: Handler<S, M>,
    H::Data: DeserializeOwned + Send + 'static,
    H::Future: Send,
    H::Output: IntoJobResult,
    S: Send + Sync + 'static,
    M: 'static,
{
    JobService::new(HandlerService {
        handler: Arc::new(handler),
        state: Arc::new(state),
        client: client.clone(),
        form: PhantomData,
    })
}

impl<H, S, M> Clone for HandlerService<H, S, M> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            state: Arc::clone(&self.state),
            client: self.client.clone(),
            form: PhantomData,
        }
    }
}

impl<H, S, M> Service<JobCall> for HandlerService<H, S, M>
where
    H: Handler<S, M>,
    H::Data: DeserializeOwned + Send + 'static,
    H::Future: Send,
    H::Output: IntoJobResult,
    S: Send + Sync + 'static,
    M: 'static,
{
    type Response = JobReply;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<JobReply, BoxError>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: JobCall) -> Self::Future {
        let handler = Arc::clone(&self.handler);
        let context = Context {
            state: Arc::clone(&self.state),
            client: self.client.clone(),
            cancellation: call.cancellation,
        };
        Box::pin(async move {
            let data: H::Data = json::read(&call.record.raw_data).map_err(|error| {
                JobError::retry(AttemptError::Undecodable(error.to_string())).at(None)
            })?;
            let job = Job::new(call.record, data, call.actions);
            let outcome = handler.handle(job, context).await.into_job_result()?;
            Ok(JobReply::new(outcome)?)
        })
    }
}

/// Functions that are no handlers, and must not compile as such: with one error each, at the call
/// of `start`.
///
/// Data that cannot be decoded:
/// ```compile_fail
/// struct Data;
/// async fn handle(_: oxbull::Job<Data>) -> oxbull::JobResult<()> { std::future::pending().await }
/// # fn f(client: &oxbull::Client) { let _ = oxbull::Worker::builder(client, "q").start(handle); }
/// ```
/// A result that cannot be encoded:
/// ```compile_fail
/// struct Value;
/// async fn handle(_: oxbull::Job<u32>) -> oxbull::JobResult<Value> { std::future::pending().await }
/// # fn f(client: &oxbull::Client) { let _ = oxbull::Worker::builder(client, "q").start(handle); }
/// ```
/// The context of another state:
/// ```compile_fail
/// async fn handle(_: oxbull::Job<u32>, _: oxbull::Context<u64>) -> oxbull::JobResult<()> { std::future::pending().await }
/// # fn f(client: &oxbull::Client) { let _ = oxbull::Worker::builder(client, "q").start(handle); }
/// ```
/// An outcome with an error that is no `JobError`:
/// ```compile_fail
/// use oxbull::{BoxError, Job, Outcome};
/// async fn handle(_: Job<u32>) -> Result<Outcome<()>, BoxError> { std::future::pending().await }
/// # fn f(client: &oxbull::Client) { let _ = oxbull::Worker::builder(client, "q").start(handle); }
/// ```
/// A future that cannot move between threads:
/// ```compile_fail
/// async fn handle(_: oxbull::Job<u32>) -> oxbull::JobResult<()> {
///     let shared = std::rc::Rc::new(1);
///     std::future::ready(()).await;
///     drop(shared);
///     std::future::pending().await
/// }
/// # fn f(client: &oxbull::Client) { let _ = oxbull::Worker::builder(client, "q").start(handle); }
/// ```
#[cfg(doctest)]
struct NoHandlers;
