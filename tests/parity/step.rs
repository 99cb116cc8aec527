//! The steps a scenario is made of, and who can take them.

use futures::future::BoxFuture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::many::Many;

/// One step of a scenario. Options are those of BullMQ, by their API names.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Add {
        name: String,
        data: Value,
        opts: Value,
    },
    /// Name, data and options of each job.
    AddBulk(Vec<(String, Value, Value)>),
    /// A flow as BullMQ's users write it, and options for the jobs of queues by their names.
    AddFlow {
        flow: Value,
        defaults: Value,
    },
    AddFlows(Vec<Value>),
    Fetch {
        token: String,
    },
    End {
        id: String,
        token: String,
        end: End,
        fetch_next: bool,
    },
    ExtendLock {
        id: String,
        token: String,
        millis: u64,
    },
    CheckStalled {
        tolerated: u32,
    },
    Pause,
    Resume,
    Drain {
        delayed: bool,
    },
    Many(Many),
    Remove {
        id: String,
        children: bool,
    },
    UpdateData {
        id: String,
        data: Value,
    },
    UpdateProgress {
        id: String,
        progress: Value,
    },
    Log {
        id: String,
        row: String,
        keep: u32,
    },
    Retry {
        id: String,
        completed: bool,
        reset_made: bool,
        reset_started: bool,
    },
    Promote {
        id: String,
    },
    ChangeDelay {
        id: String,
        millis: u64,
    },
    ChangePriority {
        id: String,
        priority: u32,
        lifo: bool,
    },
    DeduplicationOwner {
        id: String,
    },
    ReleaseDeduplication {
        id: String,
        /// Only if this job, which was added under that id, owns it.
        owner: Option<String>,
    },
    State {
        id: String,
    },
    /// Schedule and template as BullMQ's users write them.
    UpsertScheduler {
        id: String,
        repeat: Value,
        template: Value,
    },
    RemoveScheduler {
        id: String,
    },
    GetScheduler {
        id: String,
    },
    ListSchedulers {
        start: i64,
        end: i64,
        asc: bool,
    },
    CountSchedulers,
    Limit(Limit),
    Flow(FlowStep),
    Read(Read),
    /// An application's own event; `keep` as in BullMQ's producer.
    Publish {
        event: String,
        fields: Value,
        keep: u64,
    },
    TrimEvents {
        keep: u64,
    },
    /// A real worker starts, whose handlers do what the script says for each run of each job:
    /// `{"<id>": [[["fail", "reason"]], [["return", 5]]]}`; see `ox/working.rs`.
    StartWork {
        script: Value,
    },
    /// Waits until a handler has come to its step `["gate", name]`; the gate `drained` is
    /// reached when the worker emits `drained`.
    Reach {
        gate: String,
    },
    /// Lets the handler go on.
    OpenGate {
        gate: String,
    },
    /// Whether a handler of the worker has limited the queue's rate.
    IsLimited,
    /// Ends the worker. Returns what its handlers saw and which events it emitted.
    EndWork,
}

/// What bounds all workers of a queue together.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    SetConcurrency(u32),
    RemoveConcurrency,
    Concurrency,
    IsMaxed,
    /// Jobs, and milliseconds of the window.
    SetRate(u32, u64),
    RemoveRate,
    Rate,
    /// Milliseconds.
    Impose(u64),
    Lift,
    /// Whether the limit of so many jobs holds; answered as `free`, `held` or `endless`.
    State(Option<u32>),
}

/// What concerns parents and their children.
#[derive(Debug, Clone)]
pub(crate) enum FlowStep {
    /// Everything that a parent knows of its children.
    Children { id: String },
    /// A job with those below it, siblings in the order of their text.
    Tree {
        id: String,
        depth: u32,
        max_children: u32,
    },
    /// Deletes the children that a parent waits for.
    RemoveUnprocessed { id: String },
    /// Breaks the link of a child to its parent.
    Unlink { id: String },
}

/// A list in an order that depends on what is in it only.
pub(crate) fn sorted(list: Value) -> Value {
    match list {
        Value::Array(mut items) => {
            items.sort_by_key(Value::to_string);
            items.into()
        }
        other => other,
    }
}

/// What is looked at; states and orders as BullMQ's users name them.
#[derive(Debug, Clone)]
pub(crate) enum Read {
    Jobs(&'static [&'static str], (i64, i64), bool),
    Ids(&'static [&'static str], (i64, i64), bool),
    Counts,
    /// How many wait, are prioritized, delayed or wait for children.
    Pending,
    CountsByPriority(&'static [u32]),
    DelayedBefore(i64),
    Logs(&'static str, (i64, i64), bool),
    Settings,
    Metrics(&'static str, (i64, i64)),
    /// Names and values of labels. Only BullMQ's lines count.
    Export(Value),
}

/// How an attempt ends.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Complete(Value),
    Fail {
        message: String,
        fatal: bool,
    },
    /// Milliseconds since the epoch.
    DelayUntil(i64),
    Release,
    WaitForChildren,
    /// Milliseconds.
    RateLimited(u64),
}

/// Where a step is taken: a queue, and the worker that takes it with its options.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) prefix: String,
    pub(crate) queue: String,
    pub(crate) worker: String,
    /// Options of the worker, by BullMQ's names.
    pub(crate) options: Value,
}

/// An implementation that takes steps. What a step answers is JSON in the same form from every
/// implementation.
pub(crate) trait Implementation: Send + Sync {
    /// Opens the queue of `place`, so that its settings are written.
    fn open<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, TestResult>;
    /// Takes one step.
    fn take<'a>(&'a self, place: &'a Place, step: &'a Step) -> BoxFuture<'a, TestResult<Value>>;
    /// Whether this side started the job by the worker of `place`, and no other has since.
    fn holds(&self, place: &Place, id: &str) -> bool;
    /// Forgets a job that another side has started since.
    fn forget(&self, place: &Place, id: &str);
    /// Gives up what it opened.
    fn close(&self) -> BoxFuture<'_, TestResult>;
}

/// The answer to a step that was declined with one of BullMQ's codes.
pub(crate) fn refused(code: i64) -> Value {
    json!({ "refused": code })
}

/// The answer to a remove that found a lock; BullMQ has no code for it.
pub(crate) fn locked() -> Value {
    json!({ "refused": "locked" })
}

/// What is compared of a job in a list.
pub(crate) fn shown_job(job: &Value) -> Value {
    json!({
        "id": job["id"], "name": job["name"], "data": job["data"], "priority": job["priority"],
        "attemptsMade": job["attemptsMade"], "failedReason": job["failedReason"],
        "finishedOn": job["finishedOn"], "processedOn": job["processedOn"],
    })
}
