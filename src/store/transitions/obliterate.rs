//! `lua/obliterate.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::{Error, Refusal, Result};
use crate::resp::Value;
use crate::store::transitions::walk::{Walk, WalkStep, read_step};
use crate::store::{Call, Place, Transition};

static SCRIPT: Script = lua!(
    "obliterate",
    uses: [
        "codes", "events", "gate", "marker", "job", "parent", "dedup", "removal", "lists",
        "walk"
    ]
);

/// A part of deleting a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ObliteratePart {
    /// Pauses the queue.
    Begin,
    /// The jobs of a place.
    Jobs(Place),
    /// The definitions of schedulers.
    Schedulers,
    /// Those of these deduplication ids whose owners are gone.
    Deduplication(Vec<Vec<u8>>),
    /// The keys of the queue.
    End,
}

/// One bounded step of deleting a queue.
pub(crate) struct Obliterate<'a> {
    /// The queue, for messages.
    pub(crate) queue: &'a str,
    pub(crate) part: &'a ObliteratePart,
    pub(crate) walk: Walk,
    /// Whether active jobs are deleted too.
    pub(crate) with_active: bool,
}

impl Transition for Obliterate<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = WalkStep;

    fn write(&self, call: &mut Call<'_>) {
        let part = match self.part {
            ObliteratePart::Begin => "begin",
            ObliteratePart::Jobs(place) => place.suffix(),
            ObliteratePart::Schedulers => "repeat",
            ObliteratePart::Deduplication(_) => "dedup",
            ObliteratePart::End => "end",
        };
        self.walk.write(call, part);
        call.flag(self.with_active);
        if let ObliteratePart::Deduplication(ids) = self.part {
            for id in ids {
                call.arg(id.as_slice());
            }
        }
    }

    fn read(&self, reply: Value) -> Result<WalkStep> {
        if let Value::Int(code @ ..=-1) = reply {
            return Err(Error::QueueRefused {
                queue: self.queue.to_owned(),
                source: Refusal::from_code(code),
            });
        }
        read_step(reply, "obliterate")
    }
}
