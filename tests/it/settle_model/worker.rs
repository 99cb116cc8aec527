//! A worker: its slots, the activations it holds and the calls whose outcome it awaits.

use super::server::{Answer, Job, Late, Outcome, Run};
use super::{Breach, Config, Variant, ensure};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Ask {
    Advance,
    Fence,
    Repeat,
    Reclaim,
    /// Settled, but the token may still take jobs: nothing is in flight.
    Doubt,
    Recheck,
}

/// A call from its sending until its fate, and that of every job it may take, is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) token: u8,
    pub(super) take: usize,
    /// Slots that are reserved until the call is settled.
    pub(super) slots: i8,
    pub(super) fins: Vec<Run>,
    pub(super) ask: Ask,
    /// Present once the server has executed the request.
    pub(super) reply: Option<(Vec<Answer>, Vec<Run>)>,
    /// Jobs that the token has led to, one bit each.
    pub(super) yielded: u8,
    pub(super) reclaimed: bool,
    /// How often a doubtful token is still asked for.
    pub(super) rechecks: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    /// Counted as the pump counts it; the checks compare it with what is really held.
    pub(super) free: i8,
    pub(super) runs: Vec<Run>,
    pub(super) calls: Vec<Call>,
}

impl Worker {
    /// Learns the fate of each finish; only now may the run be forgotten.
    fn believe(
        jobs: &mut [Job],
        call: &mut Call,
        answers: &[Answer],
        variant: Variant,
    ) -> Result<(), Breach> {
        let repeat = call.ask == Ask::Repeat;
        for (fin, answer) in call.fins.drain(..).zip(answers) {
            // Nothing is reported of a job that was not run, whatever the answer.
            if fin.outcome == Some(Outcome::Return) {
                continue;
            }
            let (job, bit) = (&mut jobs[fin.job], 1 << fin.ats);
            let stored = job.stored & bit != 0;
            let removes = fin.outcome == Some(Outcome::CompleteAndRemove);
            let accepted = match answer {
                Answer::Done | Answer::StoredBefore => Some(true),
                Answer::Refused => Some(false),
                Answer::JobMissing if !repeat => Some(false),
                Answer::JobMissing if variant == Variant::MissingByRetention => Some(removes),
                Answer::JobMissing if variant == Variant::RemovedIsAccepted && removes => {
                    Some(true)
                }
                Answer::Unknown if variant == Variant::UnknownIsRefused => Some(false),
                Answer::JobMissing | Answer::Unknown => (!fin.lapsed).then_some(true),
            };
            match accepted {
                Some(true) => ensure(stored, "believes accepted, but nothing was stored")?,
                Some(false) => ensure(!stored, "believes refused, but it was stored")?,
                None => ensure(fin.lapsed, "gives up although its lease never lapsed")?,
            }
            job.refused |= if accepted == Some(false) { bit } else { 0 };
        }
        Ok(())
    }

    fn start(&mut self, jobs: &mut [Job], mut run: Run, variant: Variant) -> Result<(), Breach> {
        let (job, bit) = (&mut jobs[run.job], 1 << run.ats);
        if run.slot {
            ensure(job.started & bit == 0, "one activation started twice")?;
            ensure(
                run.lapsed || (job.lock, job.ats) == (run.lock, run.ats),
                "started without the lock",
            )?;
            job.started |= bit;
            run.outcome = (variant == Variant::AckBeforeRun).then_some(Outcome::Complete);
        } else {
            run.outcome = Some(Outcome::Return);
        }
        self.runs.push(run);
        self.runs.sort();
        Ok(())
    }

    pub(super) fn deliver(
        &mut self,
        jobs: &mut [Job],
        index: usize,
        config: &Config,
    ) -> Result<(), Breach> {
        let mut call = self.calls.remove(index);
        let (answers, mut found) = call.reply.take().ok_or("no reply to deliver")?;
        if matches!(call.ask, Ask::Advance | Ask::Repeat) {
            Self::believe(jobs, &mut call, &answers, config.variant)?;
        }
        let next = match call.ask {
            Ask::Fence | Ask::Repeat | Ask::Reclaim => {
                call.reclaimed |= call.ask == Ask::Reclaim;
                call.settle(config)
            }
            Ask::Recheck if call.rechecks > 0 => Some(Ask::Doubt),
            _ => None,
        };
        if config.variant == Variant::ForgetsYielded {
            found.retain(|run| !self.holds(run.job, run.ats));
        } else {
            found.retain(|run| call.yielded & (1 << run.job) == 0);
        }
        for mut run in found {
            call.yielded |= 1 << run.job;
            run.slot = call.ask != Ask::Recheck || self.free > 0;
            if call.slots > 0 {
                call.slots -= 1;
            } else {
                self.free -= i8::from(run.slot);
            }
            self.start(jobs, run, config.variant)?;
        }
        if matches!(next, None | Some(Ask::Doubt)) {
            self.free += std::mem::take(&mut call.slots);
        }
        if let Some(ask) = next {
            call.ask = ask;
            self.calls.insert(index, call);
        }
        Ok(())
    }

    fn holds(&self, job: usize, ats: u8) -> bool {
        let fins = self.calls.iter().flat_map(|call| &call.fins);
        self.runs
            .iter()
            .chain(fins)
            .any(|run| (run.job, run.ats) == (job, ats))
    }

    /// Gives up an answer: the connection is discarded and the call is settled on a new one.
    pub(super) fn lose(&mut self, index: usize, fresh: u8, config: &Config) -> Option<Late> {
        let call = &mut self.calls[index];
        let unread = call.reply.take().is_none() && matches!(call.ask, Ask::Advance | Ask::Repeat);
        let late = unread.then(|| call.request());
        if call.ask != Ask::Advance {
            return late;
        }
        match config.variant {
            Variant::BlindResend => {
                call.token = fresh;
                return late;
            }
            Variant::EarlySlots => self.free += std::mem::take(&mut call.slots),
            _ => {}
        }
        let fence = config.fence && config.variant != Variant::NoFence;
        let next = if fence && call.take > 0 {
            Some(Ask::Fence)
        } else {
            call.settle(config)
        };
        match next {
            Some(ask) if config.variant != Variant::NoSettlement => call.ask = ask,
            _ => self.free += self.calls.remove(index).slots,
        }
        late
    }

    /// Every activation this worker knows or is about to learn of.
    pub(super) fn known(&self) -> impl Iterator<Item = &Run> {
        let announced = self
            .calls
            .iter()
            .filter_map(|call| call.reply.as_ref())
            .flat_map(|reply| &reply.1);
        self.runs
            .iter()
            .chain(self.calls.iter().flat_map(|call| &call.fins))
            .chain(announced)
    }

    pub(super) fn known_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        let in_calls = self.calls.iter_mut().flat_map(|call| {
            call.fins
                .iter_mut()
                .chain(call.reply.iter_mut().flat_map(|reply| &mut reply.1))
        });
        self.runs.iter_mut().chain(in_calls)
    }
}

impl Call {
    /// The next question of a settlement whose fence, if any, is up.
    fn settle(&self, config: &Config) -> Option<Ask> {
        let unknown = !self.reclaimed && config.variant != Variant::NoReclaim;
        let reclaim = (self.take > 0 && unknown).then_some(Ask::Reclaim);
        let repeat = (!self.fins.is_empty()).then_some(Ask::Repeat);
        let doubt = (self.reclaimed && !config.fence).then_some(Ask::Doubt);
        if config.reclaim_first {
            reclaim.or(repeat).or(doubt)
        } else {
            repeat.or(reclaim).or(doubt)
        }
    }

    /// Whether this call's answers, here or to come, can still yield a job with this lock.
    pub(super) fn asks_for(&self, token: u8) -> bool {
        let over = self.ask == Ask::Recheck && self.rechecks == 0 && self.reply.is_some();
        self.token == token && !over
    }

    pub(super) fn request(&self) -> Late {
        let repeat = self.ask == Ask::Repeat;
        let take = if repeat { 0 } else { self.take };
        Late {
            token: self.token,
            take,
            fins: self.fins.clone(),
            repeat,
        }
    }
}
