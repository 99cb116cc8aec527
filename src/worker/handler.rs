//! Handlers: plain async functions, and the tower services they become.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tower::Service;
use tower::util::BoxCloneSyncService;

use crate::client::Client;
use crate::error::BoxError;
use crate::job::{Actions, AttemptError, Job, JobError, JobId, JobRecord, JobResult, Outcome};
use crate::json;

/// What a handler gets beside its job: the worker's shared state, the client, and word of being
/// cancelled.
pub struct Context<S = ()> {
    state: Arc<S>,
    client: Client,
    cancellation: CancellationToken,
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

    /// Waits until the attempt is cancelled: the worker shuts down and its patience has ended, or
    /// [`Worker::cancel_job`](crate::Worker::cancel_job) asks for it.
    /// A handler that loses its lock or exceeds its timeout is dropped at once instead.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.cancellation.cancelled()
    }

    /// Says whether the attempt has been cancelled, also because its lock was lost.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    /// Returns a token for work that the handler spawns; it is cancelled with the attempt, for
    /// whatever reason.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }
}

impl<S> fmt::Debug for Context<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// A function that processes jobs: any `async fn(Job<D>, Context<S>) -> JobResult<R>`.
///
/// `D` must decode from JSON and `R` encode to it. Data that does not decode as `D` fails the
/// attempt, with the reason; the job keeps its data, and is retried as its options allow. Text
/// that was cut inside a surrogate pair decodes with U+FFFD for the half that is left. A handler
/// of `Box<serde_json::value::RawValue>` gets data as it is, however deeply nested; other types
/// may read 128 levels.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a job handler",
    label = "expected `async fn(Job<D>, Context<S>) -> JobResult<R>`",
    note = "D needs `serde::Deserialize`, R needs `serde::Serialize`, and the future must be `Send`"
)]
pub trait Handler<D, S, R>: Send + Sync + 'static {
    /// Processes one attempt of a job.
    fn handle(&self, job: Job<D>, context: Context<S>)
    -> impl Future<Output = JobResult<R>> + Send;
}

impl<F, Fut, D, S, R> Handler<D, S, R> for F
where
    F: Fn(Job<D>, Context<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = JobResult<R>> + Send,
{
    fn handle(
        &self,
        job: Job<D>,
        context: Context<S>,
    ) -> impl Future<Output = JobResult<R>> + Send {
        self(job, context)
    }
}

/// One attempt on its way through the worker's layers to the handler.
#[derive(Clone)]
pub struct JobCall {
    pub(super) record: Arc<JobRecord>,
    pub(super) actions: Arc<dyn Actions>,
    pub(super) cancellation: CancellationToken,
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

    /// Returns the token that is cancelled with the attempt.
    pub fn cancellation(&self) -> &CancellationToken {
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
    /// Returns the outcome.
    pub fn outcome(&self) -> &Outcome<String> {
        &self.0
    }
}

/// A handler behind the layers that have been put around it.
pub type JobService = BoxCloneSyncService<JobCall, JobReply, BoxError>;

/// Carries a [`JobError`] through layers, which know boxed errors only.
#[derive(Debug)]
struct Failure(JobError);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.error().source()
    }
}

/// Reads the error that came back through the layers: the handler's own, whose decision holds
/// however layers wrap it, or that of a layer, which counts as if a handler had returned it
/// with `?`.
pub(super) fn job_error(error: BoxError) -> JobError {
    let error = match error.downcast::<Failure>() {
        Ok(failure) => return failure.0,
        Err(error) => error,
    };
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    let decided = causes
        .find_map(|cause| cause.downcast_ref::<Failure>())
        .map(|failure| failure.0.decision());
    match decided {
        Some(decision) => decision.about(error),
        None => JobError::from_boxed(error).at(None),
    }
}

/// The innermost service: decodes the job, calls the handler, encodes its result.
pub(super) struct HandlerService<H, D, S, R> {
    handler: Arc<H>,
    state: Arc<S>,
    client: Client,
    types: PhantomData<fn(D) -> R>,
}

impl<H, D, S, R> HandlerService<H, D, S, R> {
    pub(super) fn new(handler: H, state: Arc<S>, client: Client) -> Self {
        Self {
            handler: Arc::new(handler),
            state,
            client,
            types: PhantomData,
        }
    }
}

impl<H, D, S, R> Clone for HandlerService<H, D, S, R> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            state: Arc::clone(&self.state),
            client: self.client.clone(),
            types: PhantomData,
        }
    }
}

impl<H, D, S, R> Service<JobCall> for HandlerService<H, D, S, R>
where
    H: Handler<D, S, R>,
    D: DeserializeOwned + Send + 'static,
    S: Send + Sync + 'static,
    R: Serialize + 'static,
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
            let data: D = json::read(&call.record.raw_data).map_err(|error| {
                Failure(JobError::retry(AttemptError::Undecodable(error.to_string())).at(None))
            })?;
            let job = Job::new(call.record, data, call.actions);
            let outcome = handler.handle(job, context).await.map_err(Failure)?;
            let reply = outcome.try_map(|value| serde_json::to_string(&value));
            let reply = reply.map_err(|error| {
                Failure(JobError::retry(format!("result has no json form: {error}")).at(None))
            })?;
            Ok(JobReply(reply))
        })
    }
}
