//! How workers run jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oxbull::{Context, Job, JobResult, Outcome};
use serde_json::Value;
use tokio::sync::Semaphore;

mod fetching;
mod handlers;
mod results;

struct Gate {
    running: AtomicUsize,
    most: AtomicUsize,
    open: Semaphore,
}

impl Gate {
    /// A gate that holds every job until permits are added.
    fn closed() -> Arc<Self> {
        Arc::new(Self {
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            open: Semaphore::new(0),
        })
    }
}

async fn pass(_: Job<Value>, context: Context<Arc<Gate>>) -> JobResult<()> {
    let gate = context.state();
    let now = gate.running.fetch_add(1, Ordering::SeqCst) + 1;
    gate.most.fetch_max(now, Ordering::SeqCst);
    gate.open.acquire().await?.forget();
    gate.running.fetch_sub(1, Ordering::SeqCst);
    Ok(Outcome::Done(()))
}
