//! Keeping what a worker holds: lock renewal and stalled checks, on a thread, runtime and
//! connection of their own, so that no handler can hold them up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Throttle;
use crate::clock::after;
use crate::error::{Chain, Error, Result};
use crate::job::JobId;
use crate::metrics;
use crate::store::{ExtendLocks, RecoverStalled, Store};
use crate::worker::attempt::Activation;
use crate::worker::cancel::{Canceller, Cause};
use crate::worker::events::{EventSender, WorkerEvent};
use crate::worker::health::HealthMonitor;
use crate::worker::options::WorkerOptions;
use crate::worker::schedules::{RepairedScheduler, repair};

/// How long the start of a worker waits for the connection that carries its name.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// How many renewals fit into the life of a lock, so that two may fail.
const RENEWALS_PER_LOCK: u32 = 3;
/// The wait after a renewal or check that failed; a lost connection waits on its own.
const RETRY: Duration = Duration::from_millis(200);

/// The locks a worker holds. The pump adds and removes them, the lock renewer renews them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    locks: Mutex<HashMap<Activation, Lease>>,
}

#[derive(Debug, Clone)]
struct Lease {
    cancellation: Canceller,
    /// Whether the handler has ended: a lost lock is then for the settlement to judge.
    finished: bool,
}

impl Leases {
    fn locks(&self) -> std::sync::MutexGuard<'_, HashMap<Activation, Lease>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts renewing a lock.
    pub(super) fn hold(&self, activation: Activation, cancellation: Canceller) {
        self.locks().insert(
            activation,
            Lease {
                cancellation,
                finished: false,
            },
        );
    }

    /// Notes that the handler has ended; the lock is renewed until its result is settled.
    pub(super) fn mark_finished(&self, activation: &Activation) {
        if let Some(lock) = self.locks().get_mut(activation) {
            lock.finished = true;
        }
    }

    /// Stops renewing locks.
    pub(super) fn release<'a>(&self, activations: impl IntoIterator<Item = &'a Activation>) {
        let mut locks = self.locks();
        for activation in activations {
            locks.remove(activation);
        }
    }

    fn snapshot(&self) -> Vec<Activation> {
        self.locks().keys().cloned().collect()
    }

    /// Cancels the handlers whose lock is gone. Returns their jobs.
    fn lose(&self, ids: &[JobId], renewed: &[Activation]) -> Vec<JobId> {
        if ids.is_empty() {
            return Vec::new();
        }
        let mut locks = self.locks();
        let mut lost = Vec::new();
        for activation in renewed.iter().filter(|(id, _)| ids.contains(id)) {
            if let Some(lock) = locks.get_mut(activation)
                && !lock.finished
            {
                lock.finished = true;
                lock.cancellation.cancel(Cause::LockLost);
                lost.push(activation.0.clone());
            }
        }
        lost
    }
}

/// The thread that keeps a worker's locks.
#[derive(Debug)]
pub(super) struct LockRenewer {
    stop: CancellationToken,
    opened: Option<oneshot::Receiver<()>>,
    ended: Option<oneshot::Receiver<()>>,
}

impl LockRenewer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// [`Error::Unsuitable`] when the system gives no thread or runtime.
    pub(super) fn start(
        store: Store,
        leases: Arc<Leases>,
        events: EventSender,
        health: Arc<HealthMonitor>,
        options: &WorkerOptions,
    ) -> Result<Self> {
        let stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        let failed =
            |error: std::io::Error| Error::Unsuitable(format!("no thread for locks: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let task = Task {
            store,
            queue: options.queue.as_str().into(),
            leases,
            events,
            health,
            lock_duration: options.lock_duration,
            stalled_interval: options.stalled_interval,
            check_stalled: options.check_stalled,
            max_stalled: options.max_stalled,
            trouble: Throttle::default(),
            losses: Throttle::default(),
            recoveries: Throttle::default(),
            failures: Throttle::default(),
            dangling: Throttle::default(),
            repaired: Throttle::default(),
            unrepaired: Throttle::default(),
        };
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name(format!("oxbull-locks-{}", options.queue))
            .spawn(move || {
                runtime.block_on(task.run(stopped, open));
                // The connection's tasks end with the runtime.
                runtime.shutdown_background();
                end.send(()).ok();
            })
            .map_err(failed)?;
        Ok(Self {
            stop,
            opened: Some(opened),
            ended: Some(ended),
        })
    }

    /// Waits until the connection that carries the worker's name is open, or could not be opened in
    /// time: the thread goes on trying.
    pub(super) async fn opened(&mut self) {
        if let Some(opened) = self.opened.take() {
            // An error means that the thread has ended.
            drop(opened.await);
        }
    }

    /// Ends the thread; locks still held expire by themselves.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(ended) = self.ended.take() {
            // An error means that the thread has ended already.
            drop(ended.await);
        }
    }
}

impl Drop for LockRenewer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Task {
    store: Store,
    queue: Arc<str>,
    leases: Arc<Leases>,
    events: EventSender,
    health: Arc<HealthMonitor>,
    lock_duration: Duration,
    stalled_interval: Duration,
    check_stalled: bool,
    max_stalled: u32,
    // One line a second for each thing that may happen to many jobs at once.
    trouble: Throttle,
    losses: Throttle,
    recoveries: Throttle,
    failures: Throttle,
    dangling: Throttle,
    repaired: Throttle,
    unrepaired: Throttle,
}

impl Task {
    async fn run(self, stop: CancellationToken, open: oneshot::Sender<()>) {
        let keep = async {
            tokio::join!(self.open(open), self.renew(), async {
                if self.check_stalled {
                    self.recover().await;
                }
            });
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = keep => {}
        }
        self.store.connection().kill();
    }

    /// Opens the connection, which listings of workers show whatever the worker does with it.
    async fn open(&self, opened: oneshot::Sender<()>) {
        if let Err(error) = self.store.connect(OPEN_WITHIN).await {
            self.report("the worker's own connection is not open yet", &error);
        }
        // Whoever starts the worker may have stopped waiting.
        opened.send(()).ok();
    }

    /// Renews all locks, again and again.
    async fn renew(&self) {
        let period = self.lock_duration / RENEWALS_PER_LOCK;
        let mut next = after(Instant::now(), period);
        loop {
            tokio::time::sleep_until(next).await;
            next = after(Instant::now(), period);
            let locks = self.leases.snapshot();
            if locks.is_empty() {
                self.health.nothing_to_renew();
            }
            for batch in locks.chunks(ExtendLocks::MAX) {
                let renewal = ExtendLocks {
                    duration: self.lock_duration,
                    locks: batch,
                };
                match self.store.run(&renewal).await {
                    Ok(lost) => {
                        self.health.renewed();
                        let queue = &*self.queue;
                        metrics::renewed(queue, "renewed", batch.len().saturating_sub(lost.len()));
                        metrics::renewed(queue, "lost", lost.len());
                        let lost = self.leases.lose(&lost, batch);
                        if let Some(first) = lost.first()
                            && let Some(suppressed) = self.losses.admit()
                        {
                            tracing::warn!(
                                queue = &*self.queue,
                                job = %first,
                                jobs = lost.len(),
                                suppressed,
                                "lock lost; the handler is cancelled and its result dropped"
                            );
                        }
                        for id in lost {
                            self.events.send(|| WorkerEvent::LockLost { id });
                        }
                    }
                    Err(error) => {
                        metrics::renewed(&self.queue, "failed", batch.len());
                        self.health
                            .not_renewed(format!("locks were not renewed: {error}"));
                        self.report("locks were not renewed", &error);
                        next = Instant::now() + RETRY.min(period);
                    }
                }
            }
        }
    }

    /// Hands back the jobs of workers that vanished, again and again.
    async fn recover(&self) {
        let mut continued = 0;
        loop {
            let check = RecoverStalled {
                now: self.store.clock().now(),
                interval: self.stalled_interval,
                tolerated: self.max_stalled,
                continued,
            };
            let wait = match self.store.run(&check).await {
                Ok(checked) => {
                    self.report_recovered(checked.jobs, &checked.failing);
                    if !checked.dangling.is_empty()
                        && let Some(suppressed) = self.dangling.admit()
                    {
                        tracing::warn!(
                            queue = &*self.queue,
                            count = checked.dangling.len(),
                            suppressed,
                            "ids without a job were dropped"
                        );
                    }
                    continued = checked.more;
                    if continued > 0 {
                        continue;
                    }
                    self.repair_schedulers().await;
                    checked.wait
                }
                Err(error) => {
                    self.report("stalled jobs were not looked for", &error);
                    RETRY.max(self.stalled_interval / 8)
                }
            };
            // A little later than possible, and not in step with the rest of the fleet.
            let spread = Duration::from_millis(fastrand::u64(1..=20));
            tokio::time::sleep(wait.min(self.stalled_interval).saturating_add(spread)).await;
        }
    }

    /// Tells which jobs of vanished workers run again, and which have stalled too often for that.
    fn report_recovered(&self, jobs: Vec<JobId>, failing: &[(JobId, u32)]) {
        let queue = &*self.queue;
        for (id, stalls) in failing {
            if let Some(suppressed) = self.failures.admit() {
                tracing::warn!(
                    queue,
                    job = %id,
                    stalls,
                    suppressed,
                    "job stalled more often than allowed: it fails"
                );
            }
            self.events.send(|| WorkerEvent::StalledTooOften {
                id: id.clone(),
                stalls: *stalls,
            });
        }
        let back: Vec<_> = jobs
            .into_iter()
            .filter(|id| !failing.iter().any(|(failing, _)| failing == id))
            .collect();
        if let Some(first) = back.first()
            && let Some(suppressed) = self.recoveries.admit()
        {
            tracing::warn!(
                queue,
                job = %first,
                jobs = back.len(),
                suppressed,
                "stalled job was handed back: its worker has not renewed the lock"
            );
        }
        for id in back {
            self.events.send(|| WorkerEvent::Stalled { id });
        }
    }

    /// Repairs schedulers that have lost their iteration. It has an interval of its own: where
    /// BullMQ's workers always are the first to look for stalled jobs, no other worker would do this.
    async fn repair_schedulers(&self) {
        match repair(&self.store, self.stalled_interval).await {
            Ok(repairs) => {
                for RepairedScheduler { scheduler, id } in repairs.repaired {
                    if let Some(suppressed) = self.repaired.admit() {
                        tracing::warn!(
                            queue = &*self.queue,
                            scheduler,
                            job = %id,
                            suppressed,
                            "scheduler had no iteration to come and was repaired"
                        );
                    }
                    self.events.send(|| WorkerEvent::SchedulerRepaired {
                        scheduler: scheduler.into(),
                        id,
                    });
                }
                for problem in repairs.problems {
                    if let Some(suppressed) = self.unrepaired.admit() {
                        tracing::warn!(queue = &*self.queue, suppressed, "{problem}");
                        self.events.send(|| WorkerEvent::Trouble {
                            message: problem.into(),
                        });
                    }
                }
            }
            Err(error) => self.report("schedulers were not checked", &error),
        }
    }

    fn report(&self, what: &str, error: &Error) {
        let error = Chain(error);
        if let Some(suppressed) = self.trouble.admit() {
            tracing::warn!(queue = &*self.queue, %error, suppressed, "{what}");
            self.events.send(|| WorkerEvent::Trouble {
                message: format!("{what}: {error}").into(),
            });
        }
    }
}
