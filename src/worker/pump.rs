//! The one task that talks to Redis for a worker: it collects results, counts free slots, calls
//! `advance`, starts handlers, and waits for work.
//!
//! Results that arrive while a call is on its way leave with the next one, so batches form under
//! load and a lone result leaves at once. A slot is free only when the fate of its job's result
//! is known.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::client::{Throttle, jittered};
use crate::error::Error;
use crate::job::{BackoffKind, JobRecord, Outcome};
use crate::policy::{self, Attempt, AttemptEnd, CustomWait, Ending};
use crate::store::{Ended, LockToken, Next, Trim, TrimFinished, Wake};
use crate::worker::call::{BATCH, BATCH_BYTES, Caller, Fate, Report};
use crate::worker::events::{Announcer, WorkerEvent};
use crate::worker::execute::{Cancellation, Cause, Exit, Runner, panicked};
use crate::worker::keeper::{Held, HeldKey, Keeper};
use crate::worker::marker::{Member, Wakeup};
use crate::worker::options::{ShutdownOptions, WorkerOptions};

/// How many calls may be on their way at once, so that the server never waits for us.
const IN_FLIGHT: usize = 2;
/// When the token of a call whose answer was lost is looked for again, in case the call is
/// executed late.
const DOUBTS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
];
/// The first wait after a fetch that failed; it doubles up to the maximum.
const FETCH_RETRY: Duration = Duration::from_millis(50);
const FETCH_RETRY_MAX: Duration = Duration::from_secs(2);

/// What is left of a rate limit when it is no longer slept through.
const LAST_MOMENT: Duration = Duration::from_millis(1);

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

/// A job in its handler.
struct Running {
    record: Arc<JobRecord>,
    token: LockToken,
    cancellation: Cancellation,
    since: Instant,
}

/// What there is to tell about an attempt once its fate is known.
struct Story {
    took: Duration,
    kind: Kind,
}

enum Kind {
    Completed,
    Failed { retries: bool },
    SteppedBack,
}

enum Stage {
    Running,
    /// No job is started; handlers may finish.
    Finishing(Instant),
    /// Handlers are cancelled.
    Cancelling(Instant),
    /// Handlers are gone; the last results are on their way.
    Reporting(Instant),
}

enum Done {
    Call {
        report: Report,
        sent: Instant,
        slots: usize,
        /// What the pump knew of a limited queue when it made the call.
        limited: Option<u64>,
    },
    /// Jobs found by the token of a doubtful call.
    Doubt(LockToken, Vec<JobRecord>),
    /// Retention was continued.
    Trimmed,
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

    fn is_over(&self) -> bool {
        match self.stage {
            Stage::Running => false,
            Stage::Reporting(until) if Instant::now() >= until => true,
            _ => self.handlers.is_empty() && self.results.is_empty() && self.advancing == 0,
        }
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

    fn obey(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Pause(done)) => {
                if !self.paused {
                    self.paused = true;
                    self.parts.events.tell(|| WorkerEvent::Paused);
                }
                self.pausing.push(done);
            }
            Some(Command::Resume) => {
                if self.paused {
                    self.paused = false;
                    self.look = true;
                    self.parts.events.tell(|| WorkerEvent::Resumed);
                }
            }
            Some(Command::Concurrency(slots)) => {
                self.look |= slots > self.concurrency;
                self.concurrency = slots;
            }
            Some(Command::Close(options)) => self.close(options),
            // The handle is gone without a word: end at once, giving the jobs back.
            None => self.close(
                ShutdownOptions::new()
                    .finish_within(Duration::ZERO)
                    .cancel_within(Duration::ZERO),
            ),
        }
    }

    fn close(&mut self, options: ShutdownOptions) {
        if matches!(self.stage, Stage::Running) {
            self.parts.events.tell(|| WorkerEvent::Closing);
        }
        let until = Instant::now() + options.finish_within;
        match self.stage {
            // A second order can only make it shorter.
            Stage::Finishing(old) => self.stage = Stage::Finishing(old.min(until)),
            Stage::Running => self.stage = Stage::Finishing(until),
            Stage::Cancelling(_) if options.cancel_within.is_zero() => self.handlers.abort_all(),
            Stage::Cancelling(_) | Stage::Reporting(_) => {}
        }
        self.shutdown = options;
        self.advance_stage();
    }

    fn advance_stage(&mut self) {
        let now = Instant::now();
        if let Stage::Finishing(until) = self.stage
            && (now >= until || self.handlers.is_empty())
        {
            for running in self.running.values() {
                running
                    .cancellation
                    .cancel(Cause::Shutdown(self.shutdown.cancel_within));
            }
            // A moment more than the handlers have, for those that end in time.
            self.stage =
                Stage::Cancelling(now + self.shutdown.cancel_within + Duration::from_millis(100));
        }
        if let Stage::Cancelling(until) = self.stage
            && (now >= until || self.handlers.is_empty())
        {
            self.stage = Stage::Reporting(now + self.shutdown.report_within);
        }
        if self.handlers.is_empty() && self.results.is_empty() && self.advancing == 0 && self.paused
        {
            for done in self.pausing.drain(..) {
                // Whoever paused may have stopped waiting.
                done.send(()).ok();
            }
        }
    }

    fn collect_exits(&mut self) {
        while let Some(exit) = self.handlers.try_join_next_with_id() {
            self.take_exit(exit);
        }
    }

    /// Turns an attempt that left its handler into a result.
    fn take_exit(&mut self, exit: Result<(Id, Exit), tokio::task::JoinError>) {
        let (id, exit) = match exit {
            Ok(exit) => exit,
            Err(error) => {
                let id = error.id();
                let exit = match error.try_into_panic() {
                    Ok(panic) => Exit::Ended(AttemptEnd::Failed(panicked(&*panic))),
                    Err(_) => Exit::GivenBack,
                };
                (id, exit)
            }
        };
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        let key = (running.record.id.clone(), running.record.attempts_started);
        self.parts.held.ending(&key);
        let end = match exit {
            Exit::Ended(end) => end,
            Exit::GivenBack => AttemptEnd::Returned(Outcome::Release),
            Exit::LockLost => {
                self.parts.held.release([&key]);
                self.look = true;
                return;
            }
        };
        if let AttemptEnd::Returned(Outcome::RateLimited(wait)) = &end {
            self.limited = Some(self.calls_made);
            self.limit(Instant::now(), *wait);
        }
        let ending = self.settle(&running.record, &end);
        let kind = match &ending {
            Ending::Complete { .. } => Kind::Completed,
            Ending::Fail { .. } => Kind::Failed { retries: false },
            Ending::Retry { .. } | Ending::Backoff { .. } => Kind::Failed { retries: true },
            Ending::Park { .. } | Ending::Release | Ending::WaitForChildren => Kind::SteppedBack,
        };
        self.stories.insert(
            key,
            Story {
                took: running.since.elapsed(),
                kind,
            },
        );
        self.results
            .push(ended(&running.record, &running.token, ending));
    }

    fn settle(&self, record: &JobRecord, end: &AttemptEnd) -> Ending {
        let options = &self.parts.options;
        let custom = match (
            end,
            record.options.backoff.as_ref().map(|backoff| &backoff.kind),
        ) {
            (AttemptEnd::Failed(error), Some(BackoffKind::Custom(name))) => {
                options.strategies.get(name).map(|strategy| {
                    strategy(record.attempts_made.saturating_add(1), error)
                        .map_or(CustomWait::GiveUp, CustomWait::Retry)
                })
            }
            _ => None,
        };
        policy::settle(
            Attempt {
                job: record,
                rules: &options.rules,
            },
            end,
            self.parts.caller.store.clock().now(),
            fastrand::f64(),
            custom,
        )
    }

    /// Starts no job for this long, or as much of it as one wait may take.
    fn limit(&mut self, since: Instant, wait: Duration) {
        let wait = wait.min(self.parts.options.max_limit_wait);
        self.hold_off = Some(since + wait);
    }

    fn take_in(&mut self, done: Done) {
        match done {
            Done::Call {
                report,
                sent,
                slots,
                limited,
            } => {
                self.reserved = self.reserved.saturating_sub(slots);
                self.advancing = self.advancing.saturating_sub(1);
                let over = matches!(report.next, Ok(next) if !matches!(next, Next::Limited(_)));
                if report.asked > 0 && over && self.limited == limited {
                    self.limited = None;
                }
                self.take_report(report, sent);
            }
            Done::Doubt(token, records) => {
                for record in records {
                    let new = self.doubts.get_mut(&token).is_some_and(|(yielded, _)| {
                        yielded.insert((record.id.clone(), record.attempts_started))
                    });
                    if new {
                        self.start(record, &token);
                    }
                }
                if let Some((_, left)) = self.doubts.get_mut(&token) {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        self.doubts.remove(&token);
                    }
                }
            }
            Done::Trimmed => self.trimming = false,
        }
        self.trim();
    }

    fn take_report(&mut self, report: Report, sent: Instant) {
        for (result, fate) in report.fates {
            self.tell_fate(result, fate);
        }
        let found = report.started.len();
        if report.doubtful && report.asked > 0 {
            let yielded = report
                .started
                .iter()
                .map(|record| (record.id.clone(), record.attempts_started));
            self.doubts
                .insert(report.token.clone(), (yielded.collect(), DOUBTS.len()));
        }
        for record in report.started {
            self.start(record, &report.token);
        }
        if report.ghosts > 0
            && let Some(skipped) = self.ghosts.admit()
        {
            tracing::warn!(
                queue = %self.parts.options.queue,
                count = report.ghosts,
                skipped,
                "ids without a job were dropped from the queue"
            );
        }
        if report.doubtful && report.asked > 0 {
            for wait in DOUBTS {
                let caller = self.parts.caller.clone();
                let token = report.token.clone();
                self.calls.push(Box::pin(async move {
                    tokio::time::sleep(wait).await;
                    let found = caller.reclaim(&token).await;
                    Done::Doubt(token, found)
                }));
            }
        }
        for trim in report.backlog {
            self.trims.retain(|other| other.set != trim.set);
            self.trims.push(trim);
        }
        let now = Instant::now();
        match report.next {
            Ok(next) => {
                self.failures = 0;
                self.parts
                    .status
                    .send_modify(|status| status.last_answer = Some(now));
                if report.asked > 0 {
                    self.plan(next, found, now, sent);
                }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let wait = FETCH_RETRY
                    .saturating_mul(1 << self.failures.min(10).saturating_sub(1))
                    .min(FETCH_RETRY_MAX);
                self.hold_off = Some(now + jittered(wait));
                self.trouble("queue could not be advanced", &error);
            }
        }
    }

    /// Decides when to look for jobs again.
    fn plan(&mut self, next: Next, found: usize, now: Instant, sent: Instant) {
        if found > 0 {
            self.drained = false;
        }
        match next {
            Next::More => self.look = true,
            // Redis counted the wait after the call was sent, and rounded it up by less than a
            // millisecond. Asking too late costs starts; asking too early costs calls, but only in the
            // last millisecond, which is too short for a timer.
            Next::Limited(wait) => match wait.checked_sub(LAST_MOMENT) {
                Some(rest) if !rest.is_zero() => self.limit(sent, rest),
                _ => self.look = true,
            },
            Next::At(due) => {
                let wait = due.since(self.parts.caller.store.clock().now());
                self.look_at = self.look_at.min(now + wait);
            }
            Next::Closed | Next::Empty | Next::Idle => {}
        }
        if found == 0 && !self.drained && matches!(next, Next::Empty | Next::At(_)) {
            self.drained = true;
            self.parts.events.tell(|| WorkerEvent::Drained);
        }
    }

    /// Starts an attempt, or gives its job back where there is no place for it any more.
    fn start(&mut self, record: JobRecord, token: &LockToken) {
        let key = (record.id.clone(), record.attempts_started);
        let cancellation = Cancellation::default();
        self.parts
            .held
            .hold(key.clone(), token.clone(), cancellation.clone());
        let room = self.handlers.len() + self.results.len() < self.concurrency;
        if !matches!(self.stage, Stage::Running) || self.paused || !room {
            self.parts.held.ending(&key);
            self.stories.insert(
                key,
                Story {
                    took: Duration::ZERO,
                    kind: Kind::SteppedBack,
                },
            );
            self.results.push(ended(&record, token, Ending::Release));
            return;
        }
        let record = Arc::new(record);
        self.parts.events.tell(|| WorkerEvent::Active {
            id: record.id.clone(),
            name: record.name.as_str().into(),
            attempt: record.attempts_started,
        });
        let attempt =
            self.parts
                .runner
                .clone()
                .run(Arc::clone(&record), token.clone(), cancellation.clone());
        let handle = self.handlers.spawn(attempt);
        self.running.insert(
            handle.id(),
            Running {
                record,
                token: token.clone(),
                cancellation,
                since: Instant::now(),
            },
        );
    }

    /// Frees the slot of a result whose fate is known, and tells whoever listens.
    fn tell_fate(&mut self, result: Ended, fate: Fate) {
        let key = (result.job.clone(), result.starts);
        self.parts.held.release([&key]);
        let story = self.stories.remove(&key);
        let id = result.job;
        match fate {
            Fate::Stored => {
                let Some(Story { took, kind }) = story else {
                    return;
                };
                self.parts.events.tell(|| match (kind, result.ending) {
                    (Kind::Completed, Ending::Complete { value, .. }) => WorkerEvent::Completed {
                        id,
                        result: value.into(),
                        took,
                    },
                    (
                        Kind::Failed { retries },
                        Ending::Fail { reason, .. }
                        | Ending::Retry { reason, .. }
                        | Ending::Backoff { reason, .. },
                    ) => WorkerEvent::Failed {
                        id,
                        reason: reason.into(),
                        retries,
                        took,
                    },
                    _ => WorkerEvent::SteppedBack { id },
                });
            }
            Fate::Refused(reason) => {
                self.refused(&id, result.starts, result.stalls, &result.token, reason);
            }
            Fate::Unknown => {
                if let Some(skipped) = self.unknowns.admit() {
                    tracing::warn!(
                        queue = %self.parts.options.queue,
                        job = %id,
                        skipped,
                        "answer was lost and the job has moved on; its result may not be stored"
                    );
                }
            }
            Fate::Abandoned(error) => {
                self.abandoned += 1;
                self.trouble(
                    "a result could not be stored; its job will be recovered",
                    &error,
                );
            }
        }
    }

    fn refused(
        &mut self,
        id: &crate::job::JobId,
        starts: u32,
        stalls: u32,
        token: &LockToken,
        reason: crate::error::Refusal,
    ) {
        use crate::error::Refusal;
        self.parts.events.tell(|| WorkerEvent::Refused {
            id: id.clone(),
            reason,
        });
        // The job is still ours: it cannot complete while children are pending or have failed,
        // so the attempt failed (spec: processing §20).
        if matches!(
            reason,
            Refusal::PendingDependencies | Refusal::FailedChildren
        ) {
            self.results.push(Ended {
                job: id.clone(),
                token: token.clone(),
                starts,
                stalls,
                ending: Ending::Fail {
                    reason: reason.to_string(),
                    traces: serde_json::json!([format!("Error: {reason}")]).to_string(),
                    keep: policy::Keep::ALL,
                    attempts: 0,
                },
            });
            return;
        }
        if let Some(skipped) = self.refusals.admit() {
            tracing::warn!(
                queue = %self.parts.options.queue,
                job = %id,
                %reason,
                skipped,
                "result refused; nothing of it is stored"
            );
        }
    }

    /// Continues the retention that calls left to do, one set at a time.
    fn trim(&mut self) {
        if self.trimming {
            return;
        }
        let Some(mut trim) = self.trims.pop() else {
            return;
        };
        self.trimming = true;
        let store = self.parts.caller.store.clone();
        self.calls.push(Box::pin(async move {
            loop {
                let now = store.clock().now();
                match store.run(&TrimFinished { now, trim: &trim }).await {
                    Ok(Some(rest)) => trim = rest,
                    // The next job that ends will ask for it again.
                    Ok(None) | Err(_) => return Done::Trimmed,
                }
            }
        }));
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

fn ended(record: &JobRecord, token: &LockToken, ending: Ending) -> Ended {
    Ended {
        job: record.id.clone(),
        token: token.clone(),
        starts: record.attempts_started,
        stalls: record.stalled,
        ending,
    }
}
