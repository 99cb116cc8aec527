//! The differences that `docs/differences.md` lists, as far as sequences would meet them: turns
//! that are not taken, and wake-ups that are levelled. Each names its row.

use serde_json::Value;

use super::turn::{Action, Turn};
use super::view::View;
use crate::step::{End, Limit, Step};

/// Says whether a turn is known to leave something else.
pub(super) fn differs(turn: &Turn, view: &View<'_>, now: i64) -> bool {
    match &turn.action {
        Action::Take(step) => step_differs(step, view, now),
        Action::Flow { id, children, .. } => {
            let children = children.as_array().into_iter().flatten();
            let mut ids = children.filter_map(|child| child["opts"]["jobId"].as_str());
            ids.any(|child| view.descends(id, child) || has_colons(child))
        }
        _ => false,
    }
}

fn step_differs(step: &Step, view: &View<'_>, now: i64) -> bool {
    match step {
        Step::Add { opts, .. } => links_badly(opts, view),
        Step::AddBulk(jobs) => jobs.iter().any(|(_, _, opts)| links_badly(opts, view)),
        Step::End {
            id,
            end,
            fetch_next,
            ..
        } => end_differs(id, end, *fetch_next, view, now),
        // "puts a stalled job with a priority into `wait`", "starts an iteration that kills its
        // workers for ever while its scheduler lives", "hands jobs that stalled together back in no
        // order to rely on"
        Step::CheckStalled { .. } => {
            let mut stalled = view.members("stalled");
            stalled.retain(|id| !view.has(&format!("{id}:lock")));
            let differs = |id: &String| view.is_prioritized(id) || !view.field(id, "rjk").is_null();
            stalled.len() > 1 || stalled.iter().any(differs)
        }
        // "keeps the stalls, and a deferred failure, of a job that is retried by hand"
        Step::Retry { id, .. } => ["stc", "defa"]
            .iter()
            .any(|field| !view.field(id, field).is_null()),
        // "may drop a scheduler's pending iteration when draining", "a parent that is removed with its
        // last child, by a drain, keeps its deduplication id"
        Step::Drain { .. } => {
            let waiting = view.members("waiting-children");
            let owns = |id: &String| !view.field(id, "deid").is_null();
            !view.schedulers().is_empty() || waiting.iter().any(owns)
        }
        Step::UpsertScheduler { id, .. } => {
            // "on a paused queue, leaves the waiting iteration of a replaced schedule next to the new one"
            let paused = !view.meta("paused").is_null() && view.schedulers().contains(id);
            // "makes the iteration of the slot after it"
            let taken = ["active", "completed", "failed", "wait", "prioritized"]
                .map(|state| view.members(state));
            let ahead = |job: &String| {
                let slot = job.rsplit(':').next().and_then(|slot| slot.parse().ok());
                view.field(job, "rjk") == id.as_str() && slot.is_some_and(|slot: i64| slot >= now)
            };
            paused || taken.iter().flatten().any(ahead)
        }
        // Whose child is removed first is up to a set.
        Step::Remove { id, children: true } => view.branches(id, 9),
        _ => false,
    }
}

fn end_differs(id: &str, end: &End, fetch_next: bool, view: &View<'_>, now: i64) -> bool {
    let opts = view.field(id, "opts");
    let refused = !view.has(&format!("{id}:lock"));
    match end {
        // "answers \"not moved\" to a parent with nothing pending, and leaves it active"
        End::WaitForChildren => !view.is_parent(id),
        // "promotes due jobs even when the retry that came along is refused"
        End::Fail { .. } if refused && view.has_due(now) => true,
        // With BullMQ, ending a job by hand makes no next iteration, but by asking for a job.
        _ if fetch_next && !view.schedulers().is_empty() => true,
        // "answers the manual end of an attempt that is retried at once with no next job"
        End::Fail { fatal: false, .. } if fetch_next => {
            let waits = opts["backoff"]["delay"].as_f64().unwrap_or(0.0) > 0.0;
            opts["attempts"].as_f64().unwrap_or(0.0) > 1.0 && !waits
        }
        _ => false,
    }
}

/// "fails when it removes jobs that are each other's parents", and ids with colons
fn links_badly(opts: &Value, view: &View<'_>) -> bool {
    match (opts["jobId"].as_str(), opts["parent"]["id"].as_str()) {
        (_, Some(parent)) if has_colons(parent) => true,
        (Some(id), Some(parent)) => view.descends(parent, id),
        _ => false,
    }
}

/// "leaves a parent whose id has colons waiting": BullMQ takes a key apart at its last colon
fn has_colons(id: &str) -> bool {
    id.contains(':')
}

/// Says whether a turn may leave a wake-up that BullMQ does not leave.
pub(super) fn levels_marker(turn: &Turn, view: &View<'_>) -> bool {
    let Action::Take(step) = &turn.action else {
        return false;
    };
    match step {
        // "gives a job with a priority back without a wake-up"
        Step::End {
            id,
            end: End::Release | End::RateLimited(_),
            ..
        } if view.is_prioritized(id) => true,
        // "lets workers of a full queue sleep on when a job ends on a worker that takes no other"
        Step::End { .. } => !view.meta("concurrency").is_null(),
        // "leaves the due time of a delayed job that a later job of its bulk has replaced"
        Step::AddBulk(jobs) => jobs
            .iter()
            .any(|(_, _, opts)| opts["deduplication"]["replace"] == true),
        // "moves a job before its equals without a wake-up"
        Step::ChangePriority { lifo, .. } => *lifo,
        // "lets them sleep on when global concurrency is raised or a limit removed"
        Step::Limit(
            Limit::SetConcurrency(_)
            | Limit::RemoveConcurrency
            | Limit::SetRate(..)
            | Limit::RemoveRate
            | Limit::Lift,
        ) => true,
        _ => false,
    }
}
