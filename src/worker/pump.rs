//! The one task that talks to Redis for a worker: it collects results, counts free slots, calls
//! `advance`, starts handlers, and waits for work.
//!
//! Results that arrive while a call is on its way leave with the next one, so batches form under
//! load and a lone result leaves at once. A slot is free only when the fate of its job's result
//! is known.
//!
//! The task is in this file; what it does with attempts, with answers and when it is told to stop is
//! in the modules below.

mod attempts;
mod reports;
mod stages;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::client::Throttle;
use crate::error::Error;
use crate::policy::Ending;
use crate::store::{Ended, LockToken, Trim, Wake};
use crate::worker::call::{BATCH, BATCH_BYTES, Caller};
use crate::worker::events::{Announcer, WorkerEvent};
use crate::worker::execute::{Exit, Runner};
use crate::worker::keeper::{Held, HeldKey, Keeper};
use crate::worker::marker::{Member, Wakeup};
use crate::worker::options::{ShutdownOptions, WorkerOptions};

use attempts::{Running, Story};
use reports::Done;
use stages::Stage;

/// How many calls may be on their way at once, so that the server never waits for us.
const IN_FLIGHT: usize = 2;
/// How long closing waits to pass a wake-up on.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What the worker's handle asks of its pump.
#[derive(Debug)]
pub(super) enum Command {
    Pause(oneshot::Sender<()>),
    Resume,
    Concurrency(usize),
    Close(ShutdownOptions),
}

/// What the handle can see of its pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) running: usize,
    pub(super) paused: bool,
    pub(super) closed: bool,
    /// When Redis last answered a call.
    pub(super) last_answer: Option<Instant>,
    /// How many jobs were given up at shutdown, their locks left to expire.
    pub(super) abandoned: usize,
}

/// Parts that the worker's builder puts together.
pub(super) struct Parts {
    pub(super) options: Arc<WorkerOptions>,
    pub(super) runner: Runner,
    pub(super) caller: Caller,
    pub(super) held: Arc<Held>,
    pub(super) keeper: Keeper,
    pub(super) member: Member,
    pub(super) events: Announcer,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) status: watch::Sender<Status>,
    pub(super) id: String,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts; a state machine of them would have every combination"
)]
pub(super) struct Pump {
    parts: Parts,
    concurrency: usize,
    handlers: JoinSet<Exit>,
    running: HashMap<Id, Running>,
    /// Results not sent yet.
    results: Vec<Ended>,
    stories: HashMap<HeldKey, Story>,
    calls: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Calls among `calls` that hold slots, and how many.
    advancing: usize,
    reserved: usize,
    calls_made: u64,
    /// Calls whose answer was lost: the jobs their token has yielded, none of which is started
    /// twice, and how many searches are still to come.
    doubts: HashMap<LockToken, (HashSet<HeldKey>, usize)>,
    trims: Vec<Trim>,
    trimming: bool,
    /// Whether the queue may have a job for us.
    look: bool,
    drained: bool,
    /// How many calls had been made when a handler last limited the queue. Until a later call has
    /// found the limit over, it is obeyed, although the worker may know no other.
    limited: Option<u64>,
    /// No fetch before this time: rate limit or failed fetches.
    hold_off: Option<Instant>,
    failures: u32,
    /// When to look again although nothing woke us.
    look_at: Instant,
    woken: Option<oneshot::Receiver<Wakeup>>,
    paused: bool,
    pausing: Vec<oneshot::Sender<()>>,
    stage: Stage,
    shutdown: ShutdownOptions,
    abandoned: usize,
    // One line a second for each thing that may happen to many jobs at once.
    trouble: Throttle,
    ghosts: Throttle,
    unknowns: Throttle,
    refusals: Throttle,
}

impl Pump {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            concurrency: parts.options.concurrency.get(),
            paused: parts.options.paused,
            shutdown: parts.options.shutdown,
            parts,
            handlers: JoinSet::new(),
            running: HashMap::new(),
            results: Vec::new(),
            stories: HashMap::new(),
            calls: FuturesUnordered::new(),
            advancing: 0,
            reserved: 0,
            calls_made: 0,
            doubts: HashMap::new(),
            trims: Vec::new(),
            trimming: false,
            look: true,
            drained: true,
            limited: None,
            hold_off: None,
            failures: 0,
            look_at: Instant::now(),
            woken: None,
            pausing: Vec::new(),
            stage: Stage::Running,
            abandoned: 0,
            trouble: Throttle::default(),
            ghosts: Throttle::default(),
            unknowns: Throttle::default(),
            refusals: Throttle::default(),
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
        // A story is there for each result whose fate is unknown.
        self.abandoned += self.stories.len() + self.running.len();
        self.handlers.abort_all();
        let store = self.parts.caller.store.clone();
        drop(std::mem::take(&mut self.calls));
        self.parts.keeper.stop().await;
        // A wake-up that our read took with it belongs to another worker.
        let wake = tokio::time::timeout(LAST_WORD, store.run(&Wake)).await;
        if let Ok(Err(error)) = wake {
            tracing::debug!(%error, "no wake-up was passed on");
        }
        self.parts.events.tell(|| WorkerEvent::Closed);
        let abandoned = self.abandoned;
        self.parts.status.send_modify(|status| {
            status.closed = true;
            status.running = 0;
            status.abandoned = abandoned;
        });
    }

    fn may_fetch(&self) -> bool {
        matches!(self.stage, Stage::Running) && !self.paused && self.hold_off.is_none()
    }

    /// Slots that neither a handler, nor an unknown result, nor a call on its way occupies.
    fn free_slots(&self) -> usize {
        self.concurrency
            .saturating_sub(self.handlers.len() + self.results.len() + self.reserved)
    }

    /// Sends what there is to send.
    async fn send_calls(&mut self) {
        if self.advancing < IN_FLIGHT && !self.results.is_empty() && !self.handlers.is_empty() {
            // Handlers that are ready to finish do so now, and share the call.
            tokio::task::yield_now().await;
            self.collect_exits();
        }
        while self.advancing < IN_FLIGHT {
            let results = self.next_results();
            // The slots of these results are free for this very call.
            let free = self.free_slots();
            let wanted = self.look || !results.is_empty();
            let take = if self.may_fetch() && wanted {
                free.min(BATCH)
            } else {
                0
            };
            if results.is_empty() && take == 0 {
                return;
            }
            if take > 0 {
                self.look = false;
                self.look_at = Instant::now() + self.parts.options.drain_delay;
            }
            let slots = results.len().max(take);
            self.reserved += slots;
            self.advancing += 1;
            let limited = self.limited;
            let token = self.new_token();
            let caller = self.parts.caller.clone();
            let call = caller.call(results, take, token, limited.is_some());
            let sent = Instant::now();
            self.calls.push(Box::pin(async move {
                Done::Call {
                    report: call.await,
                    sent,
                    slots,
                    limited,
                }
            }));
        }
    }

    /// Takes the next call's worth of results.
    fn next_results(&mut self) -> Vec<Ended> {
        let mut bytes = 0_usize;
        let mut count = 0;
        for result in self.results.iter().take(BATCH) {
            bytes = bytes.saturating_add(match &result.ending {
                Ending::Complete { value, .. } => value.len(),
                Ending::Fail { traces, .. }
                | Ending::Retry { traces, .. }
                | Ending::Backoff { traces, .. } => traces.len(),
                Ending::Park { .. } | Ending::Release | Ending::WaitForChildren => 0,
            });
            if count > 0 && bytes > BATCH_BYTES {
                break;
            }
            count += 1;
        }
        let rest = self.results.split_off(count);
        std::mem::replace(&mut self.results, rest)
    }

    fn new_token(&mut self) -> LockToken {
        let number = self.calls_made;
        self.calls_made += 1;
        LockToken::new(format!("{}:{number}", self.parts.id))
    }

    /// Waits until something happens, and takes it in.
    async fn wait(&mut self) {
        let idle = self.may_fetch() && !self.look && self.free_slots() > 0;
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
                self.take_in(done);
                self.collect_exits();
            }
            Some(exit) = self.handlers.join_next_with_id(), if !self.handlers.is_empty() => {
                self.take_exit(exit);
                self.collect_exits();
            }
            wakeup = woken => {
                self.woken = None;
                self.wake(wakeup.unwrap_or(Wakeup::Now));
            }
            command = self.parts.commands.recv() => self.obey(command),
            () = tokio::time::sleep_until(timer) => {
                let now = Instant::now();
                if self.hold_off.is_some_and(|until| until <= now) {
                    self.hold_off = None;
                    self.look = true;
                }
                if self.look_at <= now {
                    self.look = true;
                    self.look_at = now + self.parts.options.drain_delay;
                }
            }
        }
    }

    /// When to act although nothing happens.
    fn timer(&self, idle: bool) -> Instant {
        let stage = match self.stage {
            Stage::Running => None,
            Stage::Finishing(until) | Stage::Cancelling(until) | Stage::Reporting(until) => {
                Some(until)
            }
        };
        let look = idle.then_some(self.look_at);
        [stage, look, self.hold_off]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }

    fn wake(&mut self, wakeup: Wakeup) {
        match wakeup {
            Wakeup::Now => self.look = true,
            Wakeup::Due(due) => {
                let now = self.parts.caller.store.clock().now().as_millis();
                #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 ms")]
                let left = due - now as f64;
                if left <= 0.0 {
                    self.look = true;
                } else {
                    let due =
                        Instant::now() + Duration::from_secs_f64((left / 1000.0).min(86_400.0));
                    self.look_at = self.look_at.min(due);
                }
            }
        }
    }

    fn trouble(&self, what: &str, error: &Error) {
        if let Some(skipped) = self.trouble.admit() {
            let source = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(
                queue = %self.parts.options.queue,
                %error,
                cause = source.as_deref().unwrap_or(""),
                skipped,
                "{what}"
            );
            self.parts.events.tell(|| WorkerEvent::Trouble {
                message: format!("{what}: {error}").into(),
            });
        }
    }

    fn publish(&self) {
        let (running, paused) = (self.handlers.len(), self.paused);
        self.parts.status.send_if_modified(|status| {
            let changed = status.running != running || status.paused != paused;
            status.running = running;
            status.paused = paused;
            changed
        });
    }
}
