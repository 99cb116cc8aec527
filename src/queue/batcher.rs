//! Group commit of adds: jobs that are added while a call is in flight leave with the next one. An add
//! that is alone is its caller's own call, so that no task has to be woken for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::client::InFlight;
use crate::error::{Error, Result};
use crate::job::Added;
use crate::metrics;
use crate::store::{BATCH_JOBS, NewRecord, Store, cut};

/// How many calls may be on their way at once, so that the server never waits for us.
const IN_FLIGHT: usize = 2;
/// How many adds may wait for their call; further ones wait for a place.
const BACKLOG: usize = 4096;

struct Order {
    job: NewRecord,
    answer: oneshot::Sender<Result<Added>>,
}

/// Turns concurrent adds into batched calls. One task per queue handle owns the calls; it starts with
/// the first add that is not alone and ends when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Batcher {
    store: Store,
    orders: Mutex<Option<mpsc::Sender<Order>>>,
    /// How many callers add.
    adding: AtomicUsize,
}

/// A caller that adds.
struct Adding<'a>(&'a AtomicUsize);

impl Drop for Adding<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Batcher {
    pub(super) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self {
            store,
            orders: Mutex::new(None),
            adding: AtomicUsize::new(0),
        })
    }

    /// Stores one job, together with others that are being added.
    pub(super) async fn add(&self, job: NewRecord) -> Result<Added> {
        let others = self.adding.fetch_add(1, Ordering::Relaxed);
        let _adding = Adding(&self.adding);
        if others == 0 {
            metrics::added(self.store.keys().qualified(), 1);
            return self.store.enqueue_alone(job).await;
        }
        let (answer, answered) = oneshot::channel();
        let lost = || Error::Indeterminate("the runtime that added the job has ended".into());
        self.orders()?
            .send(Order { job, answer })
            .await
            .map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| lost())?
    }

    /// Returns a sender to the task, which is started if it does not run.
    fn orders(&self) -> Result<mpsc::Sender<Order>> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = orders.as_ref().filter(|orders| !orders.is_closed()) {
            return Ok(orders.clone());
        }
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::Unreachable("there is no tokio runtime here".into()))?;
        let (sender, receiver) = mpsc::channel(BACKLOG);
        runtime.spawn(run(self.store.clone(), receiver));
        *orders = Some(sender.clone());
        Ok(sender)
    }
}

/// Gathers orders into calls until the last sender is dropped and every call is answered.
async fn run(store: Store, mut orders: mpsc::Receiver<Order>) {
    let mut calls = InFlight::default();
    let mut arrived = Vec::new();
    let mut waiting = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            () = calls.next(), if !calls.is_empty() => {}
            received = orders.recv_many(&mut arrived, BATCH_JOBS), if calls.len() < IN_FLIGHT => {
                if received == 0 {
                    break;
                }
                waiting.extend(arrived.drain(..));
                while !waiting.is_empty() && calls.len() < IN_FLIGHT {
                    let batch = cut(&mut waiting, |order: &Order| order.job.size());
                    calls.push(send(store.clone(), batch));
                }
                // Only an oversized batch leaves a rest; it goes before anything newer.
                for batch in std::iter::from_fn(|| {
                    (!waiting.is_empty()).then(|| cut(&mut waiting, |order: &Order| order.job.size()))
                }) {
                    calls.push(send(store.clone(), batch));
                }
            }
        }
    }
    while !calls.is_empty() {
        calls.next().await;
    }
}

/// Sends one batch and gives each caller its outcome.
async fn send(store: Store, orders: Vec<Order>) {
    let (jobs, answers): (Vec<_>, Vec<_>) = orders
        .into_iter()
        .map(|order| (order.job, order.answer))
        .unzip();
    let outcomes = enqueue(&store, jobs).await;
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        // A caller that went away does not need its answer.
        drop(answer.send(outcome));
    }
}

/// Stores one batch and returns what became of each job, in order.
pub(super) async fn enqueue(store: &Store, jobs: Vec<NewRecord>) -> Vec<Result<Added>> {
    metrics::added(store.keys().qualified(), jobs.len());
    store.enqueue(jobs).await
}
