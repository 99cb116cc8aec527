//! The one task that talks to Redis for a worker: it collects results, counts free slots, calls
//! `advance`, starts attempts, and waits for work.
//!
//! Results that arrive while a call is on its way leave with the next one, so batches form under
//! load and a lone result leaves at once. A slot is free only when the outcome of its job's result
//! is known.
//!
//! The task is in this file: send what there is to send, wait for something to happen, take it in.
//! What it does with attempts, answers and commands is in `attempts`, `answers` and `stages`. What it
//! owns are small parts, none of which knows another: the fetch gate, slots, running attempts, the
//! outbox, unresolved calls and the retention backlog.

mod answers;
mod attempts;
mod gate;
mod outbox;
mod retention;
mod running;
mod slots;
mod stages;
mod unresolved;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::client::Throttle;
use crate::error::{Chain, Error};
use crate::job::JobId;
use crate::store::{LockToken, Wake};
use crate::worker::attempt::Reporter;
use crate::worker::call::{BATCH, Caller};
use crate::worker::events::WorkerEvent;
use crate::worker::execute::Runner;
use crate::worker::health::HealthMonitor;
use crate::worker::lock_renewer::{Leases, LockRenewer};
use crate::worker::marker::{Member, Wakeup};
use crate::worker::options::{ShutdownOptions, WorkerOptions};

use answers::Done;
use gate::FetchGate;
use outbox::Outbox;
use retention::RetentionBacklog;
use running::RunningAttempts;
use slots::Slots;
use stages::Stage;
use unresolved::UnresolvedCalls;

/// How many calls may be on their way at once, so that the server never waits for us.
const IN_FLIGHT: usize = 2;
/// How long closing waits to pass a wake-up on.
const WAKE_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// How many jobs were given back to the queue at shutdown.
    pub(super) released: usize,
    /// How many jobs were given up at shutdown, their locks left to expire.
    pub(super) abandoned: usize,
}

/// Parts that the worker's builder puts together.
pub(super) struct Parts {
    pub(super) options: Arc<WorkerOptions>,
    pub(super) runner: Runner,
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
    /// Everything that is on its way to the server, or waits to be sent there.
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    /// How many of them are calls of `advance`.
    advancing: usize,
    calls_made: u64,
    unresolved: UnresolvedCalls,
    retention: RetentionBacklog,
    gate: FetchGate,
    woken: Option<oneshot::Receiver<Wakeup>>,
    paused: bool,
    pausing: Vec<oneshot::Sender<()>>,
    /// Whether the worker's handle is gone: nobody gives orders any more.
    handle_dropped: bool,
    stage: Stage,
    shutdown: ShutdownOptions,
    released: usize,
    abandoned: usize,
    // One line a second for each thing that may happen to many jobs at once.
    trouble: Throttle,
    dangling: Throttle,
}

impl Pump {
    pub(super) fn new(parts: Parts) -> Self {
        let options = &parts.options;
        Self {
            slots: Slots::new(options.concurrency.get()),
            paused: options.paused,
            shutdown: options.shutdown,
            gate: FetchGate::new(options.drain_delay, options.max_limit_wait, Instant::now()),
            parts,
            running: RunningAttempts::default(),
            outbox: Outbox::default(),
            calls: FuturesUnordered::new(),
            advancing: 0,
            calls_made: 0,
            unresolved: UnresolvedCalls::default(),
            retention: RetentionBacklog::default(),
            woken: None,
            pausing: Vec::new(),
            handle_dropped: false,
            stage: Stage::Running,
            released: 0,
            abandoned: 0,
            trouble: Throttle::default(),
            dangling: Throttle::default(),
        }
    }

    /// Works until the worker is closed, then lets go of everything.
    pub(super) async fn run(mut self) {
        while !self.is_over() {
            self.send_calls().await;
            self.publish();
            self.wait().await;
            self.advance_stage();
        }
        self.abandoned += self.outbox.unsettled() + self.running.len();
        self.running.abort_all();
        let store = self.parts.caller.store.clone();
        drop(std::mem::take(&mut self.calls));
        self.parts.lock_renewer.stop().await;
        // A wake-up that our read took with it belongs to another worker.
        let wake = tokio::time::timeout(WAKE_TIMEOUT, store.run(&Wake)).await;
        if let Ok(Err(error)) = wake {
            tracing::debug!(%error, "no wake-up was passed on");
        }
        let (released, abandoned) = (self.released, self.abandoned);
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

    fn may_fetch(&self) -> bool {
        matches!(self.stage, Stage::Running) && !self.paused && self.gate.is_open()
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
        if self.advancing < IN_FLIGHT && !self.outbox.is_empty() && !self.running.is_empty() {
            // Handlers that are ready to finish do so now, and share the call.
            tokio::task::yield_now().await;
            self.collect_exits();
        }
        while self.advancing < IN_FLIGHT {
            let results = self.outbox.next_batch();
            // The slots of these results are free for this very call.
            let free = self.free_slots();
            let wanted = self.gate.is_wanted() || !results.is_empty();
            let take = if self.may_fetch() && wanted {
                self.gate.bounded(free.min(BATCH))
            } else {
                0
            };
            if results.is_empty() && take == 0 {
                return;
            }
            let sent = Instant::now();
            if take > 0 {
                self.gate.fetching(sent);
            }
            let slots = results.len().max(take);
            self.slots.reserve(slots);
            self.advancing += 1;
            let limited_at = self.gate.limited_at();
            let token = self.new_token();
            let caller = self.parts.caller.clone();
            let call = caller.call(results, take, token, limited_at.is_some());
            self.calls.push(Box::pin(async move {
                Done::Call {
                    report: call.await,
                    sent,
                    slots,
                    limited_at,
                }
            }));
        }
    }

    fn new_token(&mut self) -> LockToken {
        let number = self.calls_made;
        self.calls_made += 1;
        LockToken::new(format!("{}:{number}", self.parts.id))
    }

    /// Waits until something happens, and takes it in.
    async fn wait(&mut self) {
        let idle = self.may_fetch() && !self.gate.is_wanted() && self.free_slots() > 0;
        if idle && self.woken.is_none() {
            self.woken = Some(self.parts.member.wait());
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
            Some(done) = self.calls.next(), if !self.calls.is_empty() => {
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
        [self.stage.deadline(), self.gate.deadline(idle)]
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
        let (running, paused) = (self.running.len(), self.paused);
        self.parts.status.send_if_modified(|status| {
            let changed = status.running != running || status.paused != paused;
            status.running = running;
            status.paused = paused;
            changed
        });
    }
}
