//! `lua/remove_child_dependency.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!(
    "remove_child_dependency",
    uses: ["codes", "events", "gate", "marker", "place", "job", "parent"]
);

/// Breaks the link between a pending child and its parent; whether the parent waited for it.
pub(crate) struct RemoveChildDependency<'a> {
    /// The child.
    pub(crate) job: &'a JobId,
}

impl Transition for RemoveChildDependency<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = bool;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes());
    }

    fn read(&self, reply: Value) -> Result<bool> {
        Ok(reply::int(&reply, "remove_child_dependency")? == 1)
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}
