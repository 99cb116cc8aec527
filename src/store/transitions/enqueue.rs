//! `lua/enqueue.lua`

use redis::Value;

use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::{Refusal, Result};
use crate::job::JobId;
use crate::policy::Placement;
use crate::store::reply;
use crate::store::script::lua;
use crate::store::{Call, Transition};

static SCRIPT: Script =
    lua!("enqueue", uses: ["codes", "events", "gate", "marker", "place", "job", "parent"]);

/// A job as it is sent to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewRecord {
    /// The id its producer chose.
    pub(crate) id: Option<JobId>,
    pub(crate) name: String,
    /// JSON text.
    pub(crate) data: String,
    /// JSON text.
    pub(crate) options: String,
    pub(crate) timestamp: Timestamp,
    /// Milliseconds.
    pub(crate) delay: u64,
    pub(crate) priority: u32,
    pub(crate) placement: Placement,
    /// The parent's key and the link to it (JSON).
    pub(crate) parent: Option<(String, String)>,
}

impl NewRecord {
    /// How many bytes the job adds to a call.
    pub(crate) fn size(&self) -> usize {
        self.name.len() + self.data.len() + self.options.len() + 64
    }
}

/// Stores and queues jobs.
pub(crate) struct Enqueue<'a> {
    pub(crate) jobs: &'a [NewRecord],
    /// Whether this very call may have been executed before.
    pub(crate) again: bool,
}

/// What became of one job of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Enqueued {
    pub(crate) code: EnqueueCode,
    pub(crate) id: JobId,
}

/// The codes of `lua/enqueue.lua`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EnqueueCode {
    /// Stored by this call, or by an earlier execution of it.
    Added,
    /// The id existed; nothing was stored.
    Duplicate,
    Refused(Refusal),
}

impl Transition for Enqueue<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // The caller decides: a job with an id of its own may be asked for again.
    const SAFETY: Repeat = Repeat::Once;
    /// Per job, in order.
    type Reply = Vec<Enqueued>;

    fn write(&self, call: &mut Call<'_>) {
        call.flag(self.again).arg(self.jobs.len());
        for job in self.jobs {
            let (parent_key, parent_link) = job
                .parent
                .as_ref()
                .map_or(("", ""), |(key, link)| (key, link));
            call.arg(job.id.as_ref().map_or("", JobId::as_str))
                .arg(job.name.as_str())
                .arg(job.data.as_str())
                .arg(job.options.as_str())
                .arg(job.timestamp.as_millis())
                .arg(job.delay)
                .arg(job.priority)
                .arg(job.placement.as_str())
                .arg(parent_key)
                .arg(parent_link);
        }
    }

    fn read(&self, reply: Value) -> Result<Vec<Enqueued>> {
        const WHAT: &str = "enqueue";
        let mut parts = reply::items(reply, WHAT)?.into_iter();
        let mut jobs = Vec::with_capacity(self.jobs.len());
        while let (Some(code), Some(id)) = (parts.next(), parts.next()) {
            let code = match reply::int(&code, WHAT)? {
                0 | 2 => EnqueueCode::Added,
                1 => EnqueueCode::Duplicate,
                code => EnqueueCode::Refused(Refusal::from_code(code)),
            };
            jobs.push(Enqueued {
                code,
                id: JobId::existing(reply::text(id, WHAT)?),
            });
        }
        if jobs.len() == self.jobs.len() {
            Ok(jobs)
        } else {
            Err(reply::unexpected(WHAT))
        }
    }
}
