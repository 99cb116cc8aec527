//! `lua/remove_job.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Store, Transition};

static SCRIPT: Script = lua!(
    "remove_job",
    uses: [
        "codes", "events", "gate", "marker", "job", "parent", "dedup", "removal", "lists",
        "flow"
    ]
);

/// Deletes a job: one bounded step.
struct RemoveJob<'a> {
    /// The job.
    job: &'a JobId,
    /// Whether its children are deleted too.
    children: bool,
    /// Where an earlier step has ended; empty at first.
    from: &'a [Vec<u8>],
}

/// What a step did.
#[derive(Debug)]
enum Removal {
    /// The removal is complete; whether the job existed.
    Done(bool),
    /// The flow is large: a next step begins here.
    More(Vec<Vec<u8>>),
}

impl Removal {
    /// Whether something may have been deleted by now.
    fn has_begun(from: &[Vec<u8>]) -> bool {
        from.first().is_some_and(|stage| stage == b"remove")
    }
}

impl Transition for RemoveJob<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = Removal;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes()).flag(self.children);
        for part in self.from {
            call.arg(part.as_slice());
        }
    }

    fn read(&self, reply: Value) -> Result<Removal> {
        const WHAT: &str = "remove_job";
        let Value::Array(parts) = reply else {
            return Ok(Removal::Done(reply::int(&reply, WHAT)? == 1));
        };
        let parts = parts.into_iter().map(|part| match part {
            Value::BulkString(bytes) => Ok(bytes),
            Value::Int(number) => Ok(number.to_string().into_bytes()),
            _ => Err(reply::unexpected(WHAT)),
        });
        parts.collect::<Result<_>>().map(Removal::More)
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}

impl Store {
    /// Deletes a job, and with `children` all of its descendants, in bounded steps. Returns whether
    /// there was such a job.
    pub(crate) async fn remove_job(&self, job: &JobId, children: bool) -> Result<bool> {
        let mut from = Vec::new();
        loop {
            let step = RemoveJob {
                job,
                children,
                from: &from,
            };
            match self.run(&step).await {
                Ok(Removal::Done(removed)) => return Ok(removed),
                Ok(Removal::More(next)) => from = next,
                // What earlier steps deleted is gone.
                Err(error) if Removal::has_begun(&from) => {
                    return Err(
                        error.after(|| format!("some of the flow of job {job} was deleted"))
                    );
                }
                Err(error) => return Err(error),
            }
        }
    }
}
