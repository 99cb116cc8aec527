//! `lua/check_schedulers.lua`

use std::time::Duration;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::SchedulerRecord;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};
use crate::wire;

static SCRIPT: Script = lua!("check_schedulers", uses: ["scheduler"]);

/// How many schedulers one call checks: less than a millisecond of the server's time.
const PAGE: usize = 100;

/// Finds schedulers whose current iteration will not run: a page of them.
pub(crate) struct CheckSchedulers {
    pub(crate) now: Timestamp,
    /// The shortest time between two checks of a queue.
    pub(crate) interval: Duration,
    /// How many schedulers earlier calls of this check have checked.
    pub(crate) skip: u64,
}

/// What became of a scheduler's current iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IterationState {
    /// It has ended without a successor.
    Finished,
    /// Its hash does not exist.
    Gone,
    /// Its hash exists, but no state has it.
    Stranded,
}

impl IterationState {
    /// The state's name in the scripts.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Gone => "gone",
            Self::Stranded => "stranded",
        }
    }
}

/// A scheduler whose current iteration will not run.
#[derive(Debug)]
pub(crate) struct StoppedScheduler {
    pub(crate) scheduler: SchedulerRecord,
    pub(crate) state: IterationState,
    /// The options of the iteration, where it exists.
    pub(crate) options: Option<String>,
}

/// What a page of schedulers has.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) stopped: Vec<StoppedScheduler>,
    /// Where the next page begins; `None` at the end of the check.
    pub(crate) next: Option<u64>,
}

impl Transition for CheckSchedulers {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = Checked;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.now.as_millis())
            .millis(self.interval)
            .arg(self.skip)
            .arg(PAGE);
    }

    fn read(&self, reply: Value) -> Result<Checked> {
        const WHAT: &str = "check_schedulers";
        let mut parts = reply::items(reply, WHAT)?.into_iter();
        let (Some(next), Some(finds)) = (parts.next(), parts.next()) else {
            return Err(reply::unexpected(WHAT));
        };
        let mut finds = reply::items(finds, WHAT)?.into_iter();
        let mut stopped = Vec::new();
        while let (Some(id), Some(occurrence), Some(state), Some(definition), Some(options)) = (
            finds.next(),
            finds.next(),
            finds.next(),
            finds.next(),
            finds.next(),
        ) {
            let occurrence = reply::score(&occurrence, WHAT)?;
            let state = match reply::text(state, WHAT)?.as_str() {
                "finished" => IterationState::Finished,
                "gone" => IterationState::Gone,
                "stranded" => IterationState::Stranded,
                _ => return Err(reply::unexpected(WHAT)),
            };
            let options = match options {
                Value::Nil => None,
                options => Some(reply::text(options, WHAT)?).filter(|text| !text.is_empty()),
            };
            stopped.push(StoppedScheduler {
                scheduler: wire::decode_scheduler(
                    reply::text(id, WHAT)?,
                    occurrence,
                    reply::fields(definition, WHAT)?,
                ),
                state,
                options,
            });
        }
        Ok(Checked {
            stopped,
            next: u64::try_from(reply::int(&next, WHAT)?)
                .ok()
                .filter(|next| *next > 0),
        })
    }
}
