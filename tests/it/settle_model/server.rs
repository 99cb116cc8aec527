//! The server: jobs, and what a request does to them in one atomic step.

use super::{Breach, Variant, ensure};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Outcome {
    Complete,
    CompleteAndRemove,
    Fail,
    Retry,
    PutBack,
    /// Put back as if it had not been started: `ats` is one lower again.
    Return,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Answer {
    Done,
    StoredBefore,
    Refused,
    Unknown,
    JobMissing,
}

// Places are bits, so that "exactly one" is a claim and not a consequence of the type.
pub(super) const WAIT: u8 = 1;
pub(super) const ACTIVE: u8 = 2;
pub(super) const COMPLETED: u8 = 4;
pub(super) const FAILED: u8 = 8;
pub(super) const REMOVED: u8 = 16;

/// A job in Redis. The second half is what really happened, one bit per activation number; only
/// the checks look at it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Job {
    pub(super) places: u8,
    /// 0 is no lock.
    pub(super) lock: u8,
    pub(super) ats: u8,
    pub(super) atm: u8,
    pub(super) stc: u8,
    /// The last activation before a retry by hand that reset `stc` (`stf` in Redis).
    pub(super) forgotten: u8,
    pub(super) marked: bool,
    pub(super) started: u8,
    pub(super) ran: u8,
    pub(super) stored: u8,
    pub(super) recovered: u8,
    pub(super) refused: u8,
    /// The lock of the current activation ran out.
    pub(super) expired: bool,
    /// Taken by a late request whose token is not looked for any more.
    pub(super) orphan: bool,
}

/// One activation in a worker's hands, as returned by fetch or reclaim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) job: usize,
    pub(super) ats: u8,
    pub(super) atm: u8,
    pub(super) stc: u8,
    pub(super) lock: u8,
    /// The lease may be over: known to the worker by its own clock.
    pub(super) lapsed: bool,
    pub(super) slot: bool,
    pub(super) outcome: Option<Outcome>,
}

/// A request of a discarded connection that the server may still read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Late {
    pub(super) token: u8,
    pub(super) take: usize,
    pub(super) fins: Vec<Run>,
    pub(super) repeat: bool,
}

impl Job {
    pub(super) fn finish(
        &mut self,
        fin: &Run,
        repeat: bool,
        variant: Variant,
    ) -> Result<Answer, Breach> {
        if self.places == REMOVED {
            return Ok(Answer::JobMissing);
        }
        if self.lock != fin.lock || self.lock == 0 {
            return Ok(if repeat {
                self.already(fin, variant)
            } else {
                Answer::Refused
            });
        }
        ensure(self.places == ACTIVE && self.ats == fin.ats, "stale write")?;
        let outcome = fin.outcome.ok_or("finish without an outcome")?;
        let bit = 1 << fin.ats;
        let put_back = matches!(outcome, Outcome::PutBack | Outcome::Return);
        ensure(put_back || self.ran & bit != 0, "stored without a run")?;
        ensure(self.stored & bit == 0, "stored twice")?;
        if outcome == Outcome::Return {
            ensure(self.ran & bit == 0, "a run was taken back")?;
            // The number will name another activation.
            self.ats -= 1;
            self.started &= !bit;
            self.refused &= !bit;
        } else {
            self.stored |= bit;
        }
        self.lock = 0;
        self.orphan = false;
        self.marked = false;
        self.atm += u8::from(!put_back);
        self.places &= !ACTIVE;
        self.places |= match outcome {
            Outcome::Complete => COMPLETED,
            Outcome::CompleteAndRemove => REMOVED,
            Outcome::Fail => FAILED,
            Outcome::Retry | Outcome::PutBack | Outcome::Return => WAIT,
        };
        Ok(Answer::Done)
    }

    /// Answers a repeat that finds the job without the lock it names.
    fn already(&self, fin: &Run, variant: Variant) -> Answer {
        let counted = self.atm == fin.atm + 1;
        let yes_if = |yes| {
            if yes {
                Answer::StoredBefore
            } else {
                Answer::Refused
            }
        };
        match variant {
            Variant::AlreadyByAtsAndAtm => return yes_if(self.ats == fin.ats && counted),
            Variant::AlreadyByAtmAlone => return yes_if(counted),
            Variant::AlreadyByAtsAlone if self.ats > fin.ats => return Answer::StoredBefore,
            _ => {}
        }
        if fin.ats <= self.forgotten || self.ats < fin.ats || self.stc < fin.stc {
            return Answer::Unknown;
        }
        match (self.ats == fin.ats, self.stc == fin.stc) {
            (true, same) => yes_if(same && self.places != ACTIVE),
            (false, true) => Answer::StoredBefore,
            (false, false) => Answer::Unknown,
        }
    }

    /// An operator runs the job again: its stalls and attempts are forgotten.
    pub(super) fn retry(&mut self, variant: Variant) {
        if self.stc > 0 && variant != Variant::RetryForgetsActivations {
            self.forgotten = self.ats;
        }
        (self.places, self.stc, self.atm) = (WAIT, 0, 0);
    }

    pub(super) fn expire(&mut self) {
        self.expired |= self.lock != 0;
        (self.lock, self.orphan) = (0, false);
    }
}
