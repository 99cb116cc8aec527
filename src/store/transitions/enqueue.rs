//! `lua/enqueue.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::{Error, Refusal, Result};
use crate::job::{AddOutcome, Added, Deduplication, IfDelayed, JobId};
use crate::policy::Placement;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{AddHistory, Call, PastAdd, Transition};

static SCRIPT: Script = lua!(
    "enqueue",
    uses: [
        "codes", "events", "gate", "marker", "place", "job", "parent", "dedup", "dedup_add",
        "replay"
    ]
);

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
    pub(crate) parent: Option<(Vec<u8>, Vec<u8>)>,
    /// Never together with a parent.
    pub(crate) deduplication: Option<Deduplication>,
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
    /// Where this very call may have been executed before: what the events report about that.
    pub(crate) history: Option<&'a AddHistory>,
}

impl Transition for Enqueue<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // The caller decides: a job with an id of its own may be asked for again.
    const SAFETY: Repeat = Repeat::Once;
    /// What became of each job, now or by an earlier execution of the call, in order; `None` when more
    /// events are to be read first.
    type Reply = Option<Vec<Result<Added>>>;

    fn write(&self, call: &mut Call<'_>) {
        call.optional(self.history.map(|history| history.read_to.to_string()))
            .arg(self.jobs.len());
        for job in self.jobs {
            call.arg(job.id.as_ref().map_or(b"".as_slice(), JobId::as_bytes))
                .arg(job.name.as_str())
                .arg(job.data.as_str())
                .arg(job.options.as_str())
                .arg(job.timestamp.as_millis())
                .arg(job.delay)
                .arg(job.priority)
                .arg(job.placement.as_str());
            match (&job.parent, &job.deduplication) {
                (Some((key, link)), _) => {
                    call.arg("parent").arg(key.as_slice()).arg(link.as_slice())
                }
                (None, Some(deduplication)) => call.arg("dedup").arg(argument(deduplication)),
                (None, None) => call.arg(""),
            };
        }
        for (id, add) in self.history.iter().flat_map(|history| &history.adds) {
            match add {
                PastAdd::Added => call.arg(id).arg("added").arg("").arg(""),
                PastAdd::Replaced {
                    other,
                    deduplication,
                } => call.arg(id).arg("replaced").arg(other).arg(deduplication),
                PastAdd::Deduplicated {
                    owner,
                    deduplication,
                } => call.arg(id).arg("owner").arg(owner).arg(deduplication),
            };
        }
    }

    fn read(&self, reply: Value) -> Result<Option<Vec<Result<Added>>>> {
        const WHAT: &str = "enqueue";
        let parts = reply::items(reply, WHAT)?;
        if parts.is_empty() && self.history.is_some() {
            return Ok(None);
        }
        let mut parts = parts.into_iter();
        let mut jobs = Vec::with_capacity(self.jobs.len());
        while let (Some(code), Some(id)) = (parts.next(), parts.next()) {
            let mut other = || {
                let other = parts.next().ok_or_else(|| reply::unexpected(WHAT))?;
                reply::id(other, WHAT)
            };
            let outcome = match reply::int(&code, WHAT)? {
                0 => AddOutcome::Added,
                1 => AddOutcome::Duplicate,
                2 => AddOutcome::Deduplicated,
                3 => AddOutcome::Replaced { job: other()? },
                4 => AddOutcome::KeptLast { next: other()? },
                code => {
                    jobs.push(Err(Error::Refused {
                        job: reply::id(id, WHAT)?,
                        source: Refusal::from_code(code),
                    }));
                    continue;
                }
            };
            let id = reply::id(id, WHAT)?;
            jobs.push(Ok(Added { id, outcome }));
        }
        if jobs.len() == self.jobs.len() {
            Ok(Some(jobs))
        } else {
            Err(reply::unexpected(WHAT))
        }
    }
}

/// Encodes how a job is deduplicated, in the form of the script's header.
fn argument(deduplication: &Deduplication) -> String {
    let modes = [
        ('e', deduplication.extend),
        ('r', deduplication.if_delayed == IfDelayed::Replace),
        ('s', deduplication.if_delayed == IfDelayed::Reschedule),
        ('k', deduplication.keep_last_if_active),
    ];
    let modes: String = modes
        .iter()
        .filter_map(|(mode, set)| set.then_some(mode))
        .collect();
    let ttl = deduplication.ttl.map_or(0, |ttl| ttl.as_millis());
    format!("{modes}:{ttl}:{}", deduplication.id)
}
