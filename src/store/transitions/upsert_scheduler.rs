//! `lua/upsert_scheduler.lua`

use std::time::Duration;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::{Error, Refusal, Result};
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};
use crate::wire::{EventId, Iteration};

static SCRIPT: Script = lua!(
    "upsert_scheduler",
    uses: [
        "codes", "events", "gate", "marker", "place", "job", "parent", "dedup", "removal", "lists",
        "replay", "scheduler"
    ]
);

/// When the first iteration of a schedule is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstOccurrence {
    /// An interval: the script decides, by what is stored.
    Interval {
        every: Duration,
        start: Option<Timestamp>,
        offset: Duration,
        /// Whether missed occurrences are made up for.
        all: bool,
    },
    /// A pattern: the occurrence, and the one after it for the case that the first is taken.
    Pattern {
        first: Timestamp,
        later: Option<Timestamp>,
    },
}

/// Writes a scheduler's definition and adds its iteration.
pub(crate) struct UpsertScheduler<'a> {
    pub(crate) scheduler: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) occurrence: FirstOccurrence,
    pub(crate) name: &'a str,
    /// JSON text.
    pub(crate) data: Option<&'a str>,
    pub(crate) iteration: &'a Iteration,
    /// Where this very call may have been executed before: the event up to which was read, and
    /// the first occurrence whose iteration was added by then.
    pub(crate) history: Option<(EventId, Option<Timestamp>)>,
    /// Fields of the definition.
    pub(crate) fields: &'a [(&'static str, String)],
}

impl Transition for UpsertScheduler<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // With `history` it may be asked again.
    const SAFETY: Repeat = Repeat::Once;
    /// The iteration and its occurrence; `None` when more events are to be read first.
    type Reply = Option<(JobId, Timestamp)>;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.scheduler).arg(self.now.as_millis());
        match self.occurrence {
            FirstOccurrence::Interval {
                every,
                start,
                offset,
                all,
            } => call
                .arg("")
                .arg("")
                .millis(every)
                .optional(start.map(Timestamp::as_millis))
                .millis(offset)
                .flag(all),
            FirstOccurrence::Pattern { first, later } => call
                .arg(first.as_millis())
                .optional(later.map(Timestamp::as_millis))
                .arg("")
                .arg("")
                .arg(0)
                .flag(false),
        }
        .arg(self.name)
        .arg(self.data.unwrap_or(""));
        write_iteration(call, self.iteration);
        let (after, first) = self.history.unzip();
        call.optional(after.map(|after| after.to_string()))
            .optional(first.flatten().map(Timestamp::as_millis));
        for (field, value) in self.fields {
            call.arg(*field).arg(value.as_str());
        }
    }

    fn read(&self, reply: Value) -> Result<Self::Reply> {
        const WHAT: &str = "upsert_scheduler";
        if let Value::Int(code @ ..=-1) = reply {
            return Err(Error::Refused {
                job: JobId::existing(format!("repeat:{}", self.scheduler)),
                source: Refusal::from_code(code),
            });
        }
        let mut parts = reply::items(reply, WHAT)?.into_iter();
        let (id, occurrence) = match (parts.next(), parts.next()) {
            (Some(id), Some(occurrence)) => (id, occurrence),
            (None, _) if self.history.is_some() => return Ok(None),
            _ => return Err(reply::unexpected(WHAT)),
        };
        Ok(Some((
            reply::id(id, WHAT)?,
            Timestamp::from_millis(reply::int(&occurrence, WHAT)?),
        )))
    }
}

/// Appends the options of an iteration to be made, in the order of the scripts' headers.
pub(super) fn write_iteration(call: &mut Call<'_>, iteration: &Iteration) {
    call.arg(iteration.options.as_str())
        .arg(iteration.priority)
        .flag(iteration.lifo)
        .arg(iteration.deduplication.as_deref().unwrap_or(""));
}
