//! `lua/trim_finished.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::resp::Value;
use crate::store::reply;
use crate::store::transitions::advance::Trim;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!(
    "trim_finished",
    uses: ["events", "gate", "marker", "job", "parent", "retention"]
);

/// One bounded step of the retention that an `advance` left to do.
pub(crate) struct TrimFinished<'a> {
    pub(crate) now: Timestamp,
    pub(crate) trim: &'a Trim,
}

impl Transition for TrimFinished<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    /// What is left to do.
    type Reply = Option<Trim>;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.now.as_millis())
            .arg(&self.trim.set)
            .arg(self.trim.count)
            .arg(self.trim.age)
            .arg(self.trim.limit);
    }

    fn read(&self, reply: Value) -> Result<Option<Trim>> {
        let parts = reply::items(reply, "trim_finished")?;
        let [by_age, more] = parts.as_slice() else {
            return Err(reply::unexpected("trim_finished"));
        };
        let limit = self.trim.limit - reply::int(by_age, "trim_finished")?;
        Ok((reply::int(more, "trim_finished")? == 1).then(|| Trim {
            limit,
            ..self.trim.clone()
        }))
    }
}
