//! `lua/publish_event.lua`, `lua/trim_events.lua` and `lua/find_ends.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::{JobId, JobOutcome};
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};
use crate::wire::EventId;

static PUBLISH: Script = lua!("publish_event", uses: ["events", "gate"]);
static TRIM: Script = lua!("trim_events", uses: []);
static FIND_ENDS: Script = lua!("find_ends", uses: []);

/// Appends an application's own event.
pub(crate) struct PublishEvent<'a> {
    pub(crate) name: &'a str,
    pub(crate) fields: &'a [(String, String)],
    /// How many entries the stream keeps; `None`: as the queue's settings say.
    pub(crate) keep: Option<u64>,
}

impl Transition for PublishEvent<'_> {
    const SCRIPT: &'static Script = &PUBLISH;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = EventId;

    fn write(&self, call: &mut Call<'_>) {
        match self.keep {
            Some(keep) => call.arg(keep),
            None => call.arg("-1"),
        };
        call.arg(self.name);
        for (name, value) in self.fields {
            call.arg(name).arg(value);
        }
    }

    fn read(&self, reply: Value) -> Result<EventId> {
        event_id(reply, "publish_event")
    }
}

/// Cuts the stream, one bounded step.
pub(crate) struct TrimEvents {
    pub(crate) keep: u64,
}

impl Transition for TrimEvents {
    const SCRIPT: &'static Script = &TRIM;
    const SAFETY: Repeat = Repeat::Safe;
    /// How many entries were deleted.
    type Reply = u64;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.keep);
    }

    fn read(&self, reply: Value) -> Result<u64> {
        let gone = reply::int(&reply, "trim_events")?;
        u64::try_from(gone).map_err(|_| reply::unexpected("trim_events"))
    }
}

/// Looks at the ends of jobs and at the event stream, at one moment.
pub(crate) struct FindEnds<'a> {
    pub(crate) jobs: Vec<&'a JobId>,
}

/// What is stored about a job's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredEnd {
    /// It has ended; a result is JSON text.
    Ended(JobOutcome<String>),
    /// It has not ended.
    Open,
    /// There is no such job.
    Missing,
}

impl Transition for FindEnds<'_> {
    const SCRIPT: &'static Script = &FIND_ENDS;
    const SAFETY: Repeat = Repeat::Safe;
    /// The newest event, and each job's end in the order asked for.
    type Reply = (EventId, Vec<StoredEnd>);

    fn write(&self, call: &mut Call<'_>) {
        for job in &self.jobs {
            call.arg(job.as_bytes());
        }
    }

    fn read(&self, reply: Value) -> Result<Self::Reply> {
        const WHAT: &str = "find_ends";
        let mut parts = reply::items(reply, WHAT)?.into_iter();
        let newest = parts.next().ok_or_else(|| reply::unexpected(WHAT))?;
        let mut ends = Vec::with_capacity(self.jobs.len());
        while let (Some(end), Some(text)) = (parts.next(), parts.next()) {
            let text = reply::text(text, WHAT)?;
            ends.push(match reply::text(end, WHAT)?.as_str() {
                "completed" => StoredEnd::Ended(JobOutcome::Completed(text)),
                "failed" => StoredEnd::Ended(JobOutcome::Failed { reason: text }),
                "open" => StoredEnd::Open,
                "missing" => StoredEnd::Missing,
                _ => return Err(reply::unexpected(WHAT)),
            });
        }
        if ends.len() != self.jobs.len() {
            return Err(reply::unexpected(WHAT));
        }
        Ok((event_id(newest, WHAT)?, ends))
    }
}

fn event_id(value: Value, what: &str) -> Result<EventId> {
    reply::text(value, what)?
        .parse()
        .map_err(|_| reply::unexpected(what))
}
