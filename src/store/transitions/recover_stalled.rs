//! `lua/recover_stalled.lua`

use std::time::Duration;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};

static SCRIPT: Script =
    lua!("recover_stalled", uses: ["events", "gate", "marker", "place", "job", "lists"]);

/// One stalled check, or one bounded step of it.
pub(crate) struct RecoverStalled {
    pub(crate) now: Timestamp,
    /// The shortest time between two checks of a queue.
    pub(crate) interval: Duration,
    /// How many stalls a job may have.
    pub(crate) tolerated: u32,
    /// Where to continue a check that the caller began; 0 begins one.
    pub(crate) continued: u64,
}

/// What a check did.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// All jobs that left their workers.
    pub(crate) jobs: Vec<JobId>,
    /// Those of them that have stalled too often, and how often: they fail with their next start.
    pub(crate) failing: Vec<(JobId, u32)>,
    /// Ids without a job that were dropped.
    pub(crate) dangling: Vec<JobId>,
    /// Where to continue the check; 0: it has ended.
    pub(crate) more: u64,
    /// How long until another check is possible.
    pub(crate) wait: Duration,
}

impl Transition for RecoverStalled {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = Recovered;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.now.as_millis())
            .millis(self.interval)
            .arg(self.tolerated)
            .arg(self.continued);
    }

    fn read(&self, reply: Value) -> Result<Recovered> {
        const WHAT: &str = "recover_stalled";
        let mut parts = reply::items(reply, WHAT)?.into_iter();
        let (Some(jobs), Some(dangling), Some(more), Some(wait), Some(failing)) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            return Err(reply::unexpected(WHAT));
        };
        let mut failing = reply::items(failing, WHAT)?.into_iter();
        let mut too_often = Vec::new();
        while let (Some(id), Some(stalls)) = (failing.next(), failing.next()) {
            let stalls = u32::try_from(reply::int(&stalls, WHAT)?).unwrap_or(u32::MAX);
            too_often.push((reply::id(id, WHAT)?, stalls));
        }
        Ok(Recovered {
            jobs: reply::ids(jobs, WHAT)?,
            failing: too_often,
            dangling: reply::ids(dangling, WHAT)?,
            more: u64::try_from(reply::int(&more, WHAT)?).unwrap_or(0),
            wait: Duration::from_millis(u64::try_from(reply::int(&wait, WHAT)?).unwrap_or(0)),
        })
    }
}
