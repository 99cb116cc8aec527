//! `lua/drain.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!(
    "drain",
    uses: ["gate", "marker", "job", "parent", "dedup", "removal", "lists"]
);

/// The places that can be drained.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Drainable {
    Wait,
    /// Where BullMQ 5 clients keep the jobs of a paused queue.
    Paused,
    Prioritized,
    Delayed,
}

/// One bounded step of deleting the jobs of a place.
pub(crate) struct Drain {
    pub(crate) from: Drainable,
    /// Entries that earlier steps left in place.
    pub(crate) skip: u64,
}

/// What a step did.
pub(crate) struct Drained {
    pub(crate) deleted: u64,
    pub(crate) skip: u64,
    pub(crate) more: bool,
}

impl Transition for Drain {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = Drained;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(match self.from {
            Drainable::Wait => "wait",
            Drainable::Paused => "paused",
            Drainable::Prioritized => "prioritized",
            Drainable::Delayed => "delayed",
        })
        .arg(self.skip);
    }

    fn read(&self, reply: Value) -> Result<Drained> {
        let parts = reply::items(reply, "drain")?;
        let number = |at: usize| match parts.get(at) {
            Some(value) => {
                u64::try_from(reply::int(value, "drain")?).map_err(|_| reply::unexpected("drain"))
            }
            None => Err(reply::unexpected("drain")),
        };
        Ok(Drained {
            deleted: number(0)?,
            skip: number(1)?,
            more: number(2)? == 1,
        })
    }
}
