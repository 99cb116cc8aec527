//! The settle protocol, checked exhaustively: a pure model of worker, lossy wire and server.
//!
//! This file is the design record of how a worker learns what became of a call whose answer it
//! never saw. It depends on nothing but `std`; the runtime has to follow it.
//!
//! # Protocol
//! 1. The pump sends `advance(token, finishes, take)`. The token is fresh for every call and
//!    becomes the lock of every job the call takes. A finish names the job, its lock and what the
//!    fetch returned about this *activation*: `ats` (its number) and `stc` (recoveries so far).
//! 2. The server finishes a job only if its lock is the one named and it is active; one atomic
//!    step removes the lock, leaves `active`, places by outcome and counts `atm` (a put-back does
//!    not; a *return*, of a job that was not run, takes back the count of `ats` as well, so that the
//!    next activation has the same number: what names an activation is its token). Otherwise nothing changes. Then it takes up to `take` jobs: `ats` + 1, lock = token.
//! 3. If the answer does not come, the connection is discarded and the call is settled on
//!    another one, its slots staying reserved until the end:
//!    - *fence*: `CLIENT KILL ID` of the discarded connection, so that the lost request either has
//!      been executed or never will be;
//!    - *repeat*: the same finishes, marked as a repeat, taking nothing;
//!    - *reclaim*: active jobs whose lock is the call's token; they run as if just fetched.
//! 4. Without the fence (workers need not be allowed to kill connections; the runtime does without)
//!    the token stays *doubtful* after that: it is reclaimed a few more times, without reserving
//!    slots; a job found while no slot is free is returned. A token remembers the jobs it has
//!    yielded, so that none is started twice. What is left: a request executed after the last
//!    look costs each job it takes a recovery.
//! 5. The answer to a finish, when the job does not carry the lock named:
//!
//!    | asked | server sees | answer | the worker believes |
//!    |---|---|---|---|
//!    | first | anything | refusal | refused |
//!    | repeat | an activation before a retry by hand that reset `stc` | `UNKNOWN` | as below |
//!    | repeat | `stc` same, `ats` same, job not active | `STORED_BEFORE` | accepted |
//!    | repeat | `stc` same, `ats` higher | `STORED_BEFORE` | accepted |
//!    | repeat | `ats` same, and active or `stc` higher | refusal | refused |
//!    | repeat | `ats` and `stc` higher | `UNKNOWN` | accepted if its lease never lapsed, else unknown |
//!    | repeat | no hash | `JOB_MISSING` | accepted if its lease never lapsed, else unknown |
//!
//!    The reason: an activation ends by its holder or by a stalled recovery, and every recovery
//!    counts `stc`. Where the counters cannot tell, the lease can: while it lasts, no other worker can
//!    have ended the activation. The lease is the worker's own reckoning on a monotonic clock: the
//!    last confirmed fetch, reclaim or renewal of this lock was *sent* less than the lock's
//!    duration ago. (So a reclaim has to renew what it finds.)
//!
//! # Why not simpler
//! Each rule has a [`Variant`] without it, and the search shows the breach. Three that look right:
//! - `atm` is one higher and `ats` the same, so it was ours: a put-back does not count `atm`, and a
//!   stored retry may have been fetched by another worker since. Both would be reported refused.
//! - The hash is gone and our outcome removes the job, so it was ours: after an expired lock another
//!   worker may have finished and removed it. Ours would be reported accepted.
//! - One token per worker: the repeat of an old finish ends the job's next activation by the same
//!   worker, with the old result.
//!
//! # What is modelled
//! Requests are executed or lost, answers are lost, requests of a discarded connection are
//! executed at any later time; up to the given number of faults. Calls are not ordered among each
//! other, which allows more than one connection does. Renewal is implied: a lock that a worker
//! knows expires only by a `Lapse` (frozen or cut off for too long). Death of a worker is a lapse
//! of all it holds. An operator may run a finished job again, which resets `stc`: the job remembers
//! which activation was the last before, and of these the outcome is unknown. A retry that resets
//! `ats` as well, and obliteration, are left out: counters that went backwards must be answered with
//! `UNKNOWN`.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test model: a broken index or rule must fail loudly"
)]

mod search;
mod server;
mod worker;
mod world;

use search::explore;

const WORKERS: usize = 2;
const ATTEMPTS: u8 = 2;

/// The protocol under test: as described, or with one rule broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Sound,
    /// A call without an answer is forgotten.
    NoSettlement,
    /// A job is reported completed as soon as it is fetched.
    AckBeforeRun,
    /// A call without an answer is sent again as it was, with a new token.
    BlindResend,
    /// Settlement repeats the finishes but does not look for jobs it may have taken.
    NoReclaim,
    /// Slots are free as soon as the answer is given up.
    EarlySlots,
    /// A reclaim's answer is trusted although the job may have been yielded before.
    ForgetsYielded,
    /// `STORED_BEFORE` if `ats` is the same and `atm` is one higher: the first draft of the rule.
    AlreadyByAtsAndAtm,
    /// `STORED_BEFORE` if `atm` is one higher.
    AlreadyByAtmAlone,
    /// `STORED_BEFORE` whenever somebody activated the job since.
    AlreadyByAtsAlone,
    /// No hash means accepted if our outcome removes the job, else refused: the first draft.
    MissingByRetention,
    /// No hash means accepted if our outcome removes the job, whatever the lease says.
    RemovedIsAccepted,
    /// `UNKNOWN` means refused.
    UnknownIsRefused,
    /// All calls of a worker share one token.
    OneToken,
    /// No fence, and no doubtful tokens either.
    NoFence,
    /// Doubtful tokens are trusted to find every late execution.
    DoubtsSuffice,
    /// A retry by hand resets the stalls and leaves no trace of the activations before it.
    RetryForgetsActivations,
}

#[derive(Clone, Copy, Debug)]
struct Config {
    variant: Variant,
    /// Settlement kills the discarded connection; otherwise tokens stay doubtful.
    fence: bool,
    /// Settlement looks for started jobs before it repeats the finishes. The runtime does both at
    /// once, which is either order.
    reclaim_first: bool,
    jobs: usize,
    slots: i8,
    /// Calls of a worker that may be in flight or in settlement at once.
    calls: usize,
    /// Workers whose wire loses; the wire of the others is perfect.
    lossy: usize,
    losses: u8,
    lapses: u8,
    /// How often finished jobs are run again by hand.
    retries: u8,
}

type Breach = &'static str;

fn ensure(holds: bool, breach: Breach) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(breach) }
}

/// A worker with one slot and a wire that loses twice, and one with a perfect wire; one job.
const FENCED: Config = Config {
    variant: Variant::Sound,
    fence: true,
    reclaim_first: false,
    jobs: 1,
    slots: 1,
    calls: 1,
    lossy: 1,
    losses: 2,
    lapses: 0,
    retries: 0,
};

/// One loss, and tokens that stay doubtful: what the runtime does.
const DOUBTFUL: Config = Config {
    fence: false,
    losses: 1,
    ..FENCED
};

fn assert_sound(searches: &[Config]) {
    for config in searches {
        match explore(config) {
            Ok(states) => assert!(states > 1000, "only {states} states: {config:?}"),
            Err((breach, states, steps)) => {
                panic!("{breach}, after {states} states of {config:?}, by {steps:#?}")
            }
        }
    }
}

/// With the fence, no fault within these bounds loses, repeats or misreports anything, and every
/// state leads to a good end.
#[test]
fn fenced_settlement_is_sound() {
    let two_jobs = Config { jobs: 2, ..FENCED };
    let batch = Config {
        slots: 2,
        losses: 1,
        ..two_jobs
    };
    assert_sound(&[
        Config {
            lapses: 1,
            ..FENCED
        },
        two_jobs,
        batch,
        Config { calls: 2, ..batch },
        Config {
            lossy: 2,
            losses: 1,
            ..FENCED
        },
    ]);
}

/// Without the fence the same holds, except that a request executed after the last look for its
/// token costs its jobs a recovery (see [`Variant::DoubtsSuffice`]).
#[test]
fn doubtful_settlement_is_sound() {
    assert_sound(&[
        Config {
            losses: 2,
            ..DOUBTFUL
        },
        Config {
            lapses: 1,
            ..DOUBTFUL
        },
        Config {
            jobs: 2,
            ..DOUBTFUL
        },
        Config {
            lossy: 2,
            ..DOUBTFUL
        },
    ]);
}

/// A late look-up of an activation gets no false answer from a job that was run again.
#[test]
fn retry_by_hand_misleads_nobody() {
    assert_sound(&[
        Config {
            lapses: 1,
            retries: 1,
            losses: 1,
            ..FENCED
        },
        Config {
            retries: 1,
            ..DOUBTFUL
        },
    ]);
}

/// The runtime repeats and reclaims at the same time.
#[test]
fn settlement_is_sound_in_either_order() {
    let either = Config {
        reclaim_first: true,
        ..DOUBTFUL
    };
    assert_sound(&[
        Config {
            lapses: 1,
            ..either
        },
        Config { jobs: 2, ..either },
        Config {
            fence: true,
            jobs: 2,
            slots: 2,
            calls: 2,
            ..either
        },
    ]);
}

/// Each rule is needed: without it the search finds the breach that it prevents.
#[test]
fn every_broken_variant_is_caught() {
    const ORPHANED: Breach = "orphaned: locked, but nobody knows";
    const FALSE_YES: Breach = "believes accepted, but nothing was stored";
    const FALSE_NO: Breach = "believes refused, but it was stored";
    let lapse = Config {
        lapses: 1,
        ..FENCED
    };
    let two_jobs = Config { jobs: 2, ..FENCED };
    let two_calls = Config { calls: 2, ..FENCED };
    for (variant, config, expected) in [
        (Variant::NoSettlement, FENCED, ORPHANED),
        (Variant::AckBeforeRun, FENCED, "stored without a run"),
        (Variant::BlindResend, FENCED, ORPHANED),
        (Variant::NoReclaim, FENCED, ORPHANED),
        (Variant::EarlySlots, two_calls, "more jobs than slots"),
        (
            Variant::ForgetsYielded,
            DOUBTFUL,
            "one activation started twice",
        ),
        (Variant::AlreadyByAtsAndAtm, FENCED, FALSE_NO),
        (Variant::AlreadyByAtmAlone, FENCED, FALSE_NO),
        (Variant::AlreadyByAtsAlone, lapse, FALSE_YES),
        (Variant::MissingByRetention, two_jobs, FALSE_NO),
        (Variant::RemovedIsAccepted, lapse, FALSE_YES),
        (Variant::UnknownIsRefused, lapse, FALSE_NO),
        (Variant::OneToken, FENCED, "stale write"),
        (
            Variant::RetryForgetsActivations,
            Config {
                lapses: 1,
                losses: 1,
                retries: 1,
                ..FENCED
            },
            FALSE_YES,
        ),
        (Variant::NoFence, FENCED, ORPHANED),
        (Variant::DoubtsSuffice, DOUBTFUL, ORPHANED),
    ] {
        match explore(&Config { variant, ..config }) {
            Err((breach, states, steps)) => assert_eq!(
                breach, expected,
                "{variant:?}, after {states} states, by {steps:#?}"
            ),
            Ok(states) => panic!("{variant:?} was not caught in {states} states"),
        }
    }
}
