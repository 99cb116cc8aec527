//! Tests of an application, without Redis (feature `testing`).
//!
//! Depend on the feature in tests only, so that nothing of this ships:
//!
//! ```toml
//! [dev-dependencies]
//! oxbull = { path = "../oxbull", features = ["testing"] }
//! ```
//!
//! - [`TestJob`] is an attempt at a job that no queue has. A test calls the handler itself, with a
//!   [`Job`](crate::Job) and a [`Context`](crate::Context) built from it, or runs the attempt as a
//!   worker makes it, and reads what would be [`Stored`]. Progress, log rows and the like are recorded.
//! - [`service`] puts a handler behind layers, as [`WorkerBuilder::layer`](crate::WorkerBuilder::layer)
//!   does.
//! - [`unconnected_client`] replaces a client where code needs one.
//! - [`JobRecord::new`](crate::JobRecord::new) makes records for code that reads them.
//! - With this feature a client's [`Clock`](crate::Clock) can be set and moved.
//!
//! What locks, stalls and retries do to jobs over time is better tested with a server, and
//! [`ManualWorker`](crate::ManualWorker) takes a worker's steps one at a time.

mod job;
mod recorder;
mod run;

use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::worker::{self, Handler, IntoJobResult, JobService};

pub use job::TestJob;
pub use run::{Stored, TestRun};

/// Makes a client without a server: its clock runs, and every request fails with
/// [`Error::Closed`](crate::Error::Closed), as after [`Client::close`]. It needs no runtime.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use oxbull::{Error, testing};
///
/// let client = testing::unconnected_client();
/// let answer = client.kv().get_text("greeting").await;
/// assert!(matches!(answer, Err(Error::Closed)));
/// # }
/// ```
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "the default configuration is valid: this module's tests make such a client"
)]
pub fn unconnected_client() -> Client {
    Client::unconnected().expect("the default configuration is valid")
}

/// Makes the innermost service of a handler, for a layer to be put around it; its context has an
/// [unconnected client](unconnected_client). See [`TestJob::run_service`].
pub fn service<H, S, M>(handler: H, state: S) -> JobService
where
    H: Handler<S, M>,
    H::Data: DeserializeOwned + Send + 'static,
    H::Future: Send,
    H::Output: IntoJobResult,
    S: Send + Sync + 'static,
    M: 'static,
{
    worker::service(handler, state, &unconnected_client())
}
