//! The one task that talks to Redis for a worker: it collects results, counts free slots, calls
//! `advance`, starts attempts, and waits for work.
//!
//! Results that arrive while a call is on its way leave with the next one, so batches form under
//! load and a lone result leaves at once. A slot is free only when the outcome of its job's result
//! is known.
//!
//! The task is in this file: send what there is to send, wait for something to happen, take it in.
//! What it does with attempts, answers and commands is in the files of these names. What it owns are
//! small parts, none of which knows another: the fetch gate, slots, running attempts, the outbox, calls
//! on their way, calls without an answer, the retention backlog, the pause and the shutdown.

mod answers;
mod attempts;
mod calls;
mod commands;
mod gate;
mod pause;
mod retention;
mod running;
mod shutdown;
mod slots;
mod unresolved;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::client::Throttle;
use crate::error::{Chain, Error};
use crate::job::JobId;
use crate::store::Wake;
use crate::worker::attempt::{Concluded, Runner};
use crate::worker::call::{BATCH, Caller, Outbox};
use crate::worker::events::WorkerEvent;
use crate::worker::health::HealthMonitor;
use crate::worker::lock_renewer::{Leases, LockRenewer};
use crate::worker::marker::{Member, Wakeup};
use crate::worker::options::{ShutdownOptions, WorkerOptions};
use crate::worker::reporter::Reporter;

use answers::Done;
use calls::Calls;
use gate::FetchGate;
use pause::Pause;
use retention::RetentionBacklog;
use running::RunningAttempts;
use shutdown::Shutdown;
use slots::Slots;
use unresolved::UnresolvedCalls;

/// How long closing waits to pass a wake-up on.
const WAKE_TIMEOUT: Duration = Duration::from_secs(1);
/// The same when the time for the last results is used up.
const WAKE_MIN: Duration = Duration::from_millis(100);

/// What the worker's handle asks of its pump.
#[derive(Debug)]
pub(super) enum Command {
    Pause(oneshot::Sender<()>),
    Resume,
    Concurrency(usize),
    /// Cancels the handler of one job, or all of them; answers how many.
    Cancel(Option<JobId>, oneshot::Sender<usize>),
    Close(ShutdownOptions),
}

/// What the handle can see of its pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) running: usize,
    pub(super) paused: bool,
    pub(super) closed: bool,
    /// How many jobs were released to the queue at shutdown.
    pub(super) released: usize,
    /// How many jobs were abandoned at shutdown, their locks left to expire.
    pub(super) abandoned: usize,
}

/// Parts that the worker's builder puts together.
pub(super) struct Parts {
    pub(super) options: Arc<WorkerOptions>,
    pub(super) runner: Arc<Runner>,
    pub(super) caller: Caller,
    pub(super) leases: Arc<Leases>,
    pub(super) lock_renewer: LockRenewer,
    pub(super) member: Member,
    pub(super) reporter: Reporter,
    pub(super) health: Arc<HealthMonitor>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) status: watch::Sender<Status>,
    pub(super) id: String,
}

pub(super) struct Pump {
    parts: Parts,
    slots: Slots,
    running: RunningAttempts,
    outbox: Outbox,
    calls: Calls<Done>,
    unresolved: UnresolvedCalls,
    retention: RetentionBacklog,
    gate: FetchGate,
    woken: Option<oneshot::Receiver<Wakeup>>,
    pause: Pause,
    shutdown: Shutdown,
    /// Whether the worker's handle is gone: no command comes any more.
    handle_dropped: bool,
    // One line a second for each thing that may happen to many jobs at once.
    trouble: Throttle,
    dangling: Throttle,
}

impl Pump {
    pub(super) fn new(parts: Parts) -> Self {
        let options = &parts.options;
        Self {
            slots: Slots::new(options.concurrency.get()),
            pause: Pause::new(options.paused),
            shutdown: Shutdown::new(options.shutdown),
            calls: Calls::new(parts.id.clone()),
            gate: FetchGate::new(options.drain_delay, options.max_limit_wait, Instant::now()),
            parts,
            running: RunningAttempts::default(),
            outbox: Outbox::default(),
            unresolved: UnresolvedCalls::default(),
            retention: RetentionBacklog::default(),
            woken: None,
            handle_dropped: false,
            trouble: Throttle::default(),
            dangling: Throttle::default(),
        }
    }

    /// Works until the worker is closed, then releases everything it holds.
    pub(super) async fn run(mut self) {
        while !self.shutdown.is_over(Instant::now(), self.is_idle()) {
            self.send_calls().await;
            self.publish();
            self.wait().await;
            self.advance_shutdown();
        }
        self.shutdown.abandoned += self.outbox.unsettled() + self.running.len();
        self.running.abort_all();
        self.calls.clear();
        self.parts.lock_renewer.stop().await;
        // A wake-up that our read took with it belongs to another worker.
        let store = &self.parts.caller.store;
        let left = self.shutdown.deadline().map_or(WAKE_TIMEOUT, |until| {
            until.saturating_duration_since(Instant::now())
        });
        let wait = left.clamp(WAKE_MIN, WAKE_TIMEOUT);
        let wake = tokio::time::timeout(wait, store.run(&Wake)).await;
        if let Ok(Err(error)) = wake {
            tracing::debug!(%error, "no wake-up was passed on");
        }
        let Shutdown {
            released,
            abandoned,
            ..
        } = self.shutdown;
        if abandoned > 0 {
            tracing::warn!(
                queue = %self.parts.options.queue,
                released,
                abandoned,
                "worker closed; abandoned jobs run again once their locks have expired"
            );
        } else {
            tracing::info!(queue = %self.parts.options.queue, released, "worker closed");
        }
        self.parts.reporter.events.send(|| WorkerEvent::Closed);
        self.parts.status.send_modify(|status| {
            status.closed = true;
            status.running = 0;
            status.released = released;
            status.abandoned = abandoned;
        });
    }

    /// Returns whether no handler runs, no result waits and no call is on its way.
    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.outbox.is_empty() && !self.calls.is_advancing()
    }

    fn may_fetch(&self) -> bool {
        !self.shutdown.has_begun() && !self.pause.is_paused() && self.gate.is_open()
    }

    /// How many slots running handlers and results that wait occupy.
    fn occupied(&self) -> usize {
        self.running.len() + self.outbox.len()
    }

    /// Slots that neither a handler, nor an unknown result, nor a call on its way occupies.
    fn free_slots(&self) -> usize {
        self.slots.free(self.occupied())
    }

    /// Sends what there is to send.
    async fn send_calls(&mut self) {
        if self.calls.may_advance() && !self.outbox.is_empty() && !self.running.is_empty() {
            // Handlers that are ready to finish do so now, and share the call.
            tokio::task::yield_now().await;
            self.collect_exits();
        }
        while self.calls.may_advance() && !self.waits_for_company() {
            let results = self.outbox.next_batch();
            let take = self.wanted(!results.is_empty());
            if results.is_empty() && take == 0 {
                return;
            }
            self.advance(results, take);
        }
    }

    /// Returns whether the results are better sent with those that are about to come: a call is on its way,
    /// and most handlers still run. They leave once it has an answer, at the latest.
    fn waits_for_company(&self) -> bool {
        self.calls.is_advancing()
            && !self.outbox.is_empty()
            && self.outbox.len() < self.running.len()
    }

    /// How many jobs the next call asks for; the slots of the results it carries are free for it.
    fn wanted(&self, carries_results: bool) -> usize {
        if self.may_fetch() && (carries_results || self.gate.is_wanted()) {
            self.gate.bounded(self.free_slots().min(BATCH))
        } else {
            0
        }
    }

    /// Sends results, and asks for up to `take` jobs.
    fn advance(&mut self, results: Vec<Concluded>, take: usize) {
        let sent = Instant::now();
        if take > 0 {
            self.gate.fetching(sent);
        }
        let slots = results.len().max(take);
        self.slots.reserve(slots);
        let limited_at = self.gate.limited_at();
        let token = self.calls.next_token();
        let caller = self.parts.caller.clone();
        let call = caller.call(results, take, token, limited_at.is_some());
        self.calls.advance(async move {
            Done::Call {
                report: call.await,
                sent,
                slots,
                limited_at,
            }
        });
    }

    /// Waits until something happens, and takes it in.
    async fn wait(&mut self) {
        let idle = self.may_fetch() && !self.gate.is_wanted() && self.free_slots() > 0;
        if idle && self.woken.is_none() {
            // A worker that takes one job and has another slot waits on.
            let returns = self.free_slots() > 1;
            self.woken = Some(self.parts.member.wait(returns));
        } else if !idle {
            self.woken = None;
        }
        let timer = self.timer(idle);
        let woken = async {
            match &mut self.woken {
                Some(woken) => woken.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = self.calls.next() => {
                self.take_answer(done);
                self.collect_exits();
            }
            Some(left) = self.running.join_next(), if !self.running.is_empty() => {
                self.take_exit(left);
                self.collect_exits();
            }
            wakeup = woken => {
                self.woken = None;
                self.wake(wakeup.unwrap_or(Wakeup::Now));
            }
            command = self.parts.commands.recv(), if !self.handle_dropped => self.handle_command(command),
            () = tokio::time::sleep_until(timer) => self.gate.tick(Instant::now()),
        }
    }

    /// When to act although nothing happens.
    fn timer(&self, idle: bool) -> Instant {
        [self.shutdown.deadline(), self.gate.deadline(idle)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    fn wake(&mut self, wakeup: Wakeup) {
        let wait = wakeup.wait(self.parts.caller.store.clock().now());
        if wait.is_zero() {
            self.gate.wake();
        } else {
            self.gate.wake_in(wait, Instant::now());
        }
    }

    /// Reports a failure that may concern many jobs, and that the worker goes on trying to overcome.
    fn trouble(&self, what: &str, error: &Error) {
        let error = Chain(error);
        self.parts.health.troubled(format!("{what}: {error}"));
        if let Some(suppressed) = self.trouble.admit() {
            tracing::warn!(
                queue = %self.parts.options.queue,
                %error,
                suppressed,
                "{what}"
            );
            self.parts.reporter.events.send(|| WorkerEvent::Trouble {
                message: format!("{what}: {error}").into(),
            });
        }
    }

    fn publish(&self) {
        let (running, paused) = (self.running.len(), self.pause.is_paused());
        self.parts.status.send_if_modified(|status| {
            let changed = status.running != running || status.paused != paused;
            status.running = running;
            status.paused = paused;
            changed
        });
    }
}
