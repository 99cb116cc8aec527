//! `lua/reclaim.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobRecord;
use crate::resp::Value;
use crate::store::transitions::advance::read_started;
use crate::store::{Call, LockToken, Store, Transition, reply};

static SCRIPT: Script = lua!("reclaim", uses: []);

/// Looks for the jobs that a call started although its answer was lost: one bounded step.
struct Reclaim<'a> {
    /// The lock token of that call.
    token: &'a LockToken,
    /// How many of the oldest active jobs are still to be searched.
    left: Option<u64>,
}

impl Transition for Reclaim<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    /// The jobs, as they are now: already counted as started; and how many are left.
    type Reply = (Vec<JobRecord>, u64);

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.token.as_str()).optional(self.left);
    }

    fn read(&self, reply: Value) -> Result<Self::Reply> {
        const WHAT: &str = "reclaim";
        let mut parts = reply::items(reply, WHAT)?;
        if parts.is_empty() {
            return Err(reply::unexpected(WHAT));
        }
        let left = reply::int(&parts.remove(0), WHAT)?;
        let left = u64::try_from(left).map_err(|_| reply::unexpected(WHAT))?;
        Ok((read_started(parts.into_iter(), WHAT)?, left))
    }
}

impl Store {
    /// Finds the jobs that a call started although its answer was lost, in bounded steps.
    pub(crate) async fn reclaim(&self, token: &LockToken) -> Result<Vec<JobRecord>> {
        let (mut found, mut left) = self.run(&Reclaim { token, left: None }).await?;
        while left > 0 {
            let step = Reclaim {
                token,
                left: Some(left),
            };
            let (more, rest) = self.run(&step).await?;
            found.extend(more);
            left = rest;
        }
        Ok(found)
    }
}
