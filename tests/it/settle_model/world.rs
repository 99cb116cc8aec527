//! Server, workers and wire together: which steps are possible, and what must hold after each.

use super::server::{ACTIVE, Answer, COMPLETED, FAILED, Job, Late, Outcome, Run, WAIT};
use super::worker::{Ask, Call, Worker};
use super::{ATTEMPTS, Breach, Config, Variant, WORKERS, ensure};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    jobs: Vec<Job>,
    workers: [Worker; WORKERS],
    late: Vec<Late>,
    losses: u8,
    lapses: u8,
    retries: u8,
}

/// One atomic step; indices are into the vectors of the state it is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Late(usize),
    Deliver(usize, usize),
    Execute(usize, usize),
    End(usize, usize, Outcome),
    Send(usize),
    Recheck(usize, usize),
    /// The lock of a late orphan runs out.
    Expire(usize),
    StalledCheck,
    Lose(usize, usize),
    /// A job's lock runs out because its worker was frozen or cut off.
    Lapse(usize, u8),
    /// A worker drops a run whose lease is over.
    Cancel(usize, usize),
    /// An operator runs a finished job again.
    Retry(usize),
}

impl Move {
    /// Order in which a fair scheduler without faults picks; `None` is a fault or a choice.
    pub(super) fn fair(self) -> Option<u8> {
        match self {
            Self::Late(_) => Some(0),
            Self::Deliver(..) => Some(1),
            Self::Execute(..) => Some(2),
            Self::End(_, _, Outcome::Complete | Outcome::CompleteAndRemove) => Some(3),
            Self::Recheck(..) => Some(4),
            Self::Send(_) => Some(5),
            Self::Expire(_) => Some(6),
            Self::StalledCheck => Some(7),
            _ => None,
        }
    }
}

impl State {
    pub(super) fn new(config: &Config) -> Self {
        let job = Job {
            places: WAIT,
            ..Job::default()
        };
        let worker = Worker {
            free: config.slots,
            runs: vec![],
            calls: vec![],
        };
        Self {
            jobs: vec![job; config.jobs],
            workers: std::array::from_fn(|_| worker.clone()),
            late: vec![],
            losses: config.losses,
            lapses: config.lapses,
            retries: config.retries,
        }
    }

    fn advance(
        &mut self,
        request: &Late,
        variant: Variant,
    ) -> Result<(Vec<Answer>, Vec<Run>), Breach> {
        let answers = request
            .fins
            .iter()
            .map(|fin| self.jobs[fin.job].finish(fin, request.repeat, variant))
            .collect::<Result<_, _>>()?;
        let waiting = self.jobs.iter_mut().filter(|job| job.places == WAIT);
        for job in waiting.take(request.take) {
            let ended = job.stored | job.recovered;
            ensure(
                job.ats == 0 || ended & (1 << job.ats) != 0,
                "run again without a cause",
            )?;
            (job.places, job.lock, job.ats) = (ACTIVE, request.token, job.ats + 1);
            job.expired = false;
        }
        // A fresh token: what carries it was taken just now.
        Ok((
            answers,
            if request.take > 0 {
                self.reclaim(request.token)
            } else {
                vec![]
            },
        ))
    }

    fn reclaim(&self, token: u8) -> Vec<Run> {
        let held = self
            .jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| job.lock == token);
        held.map(|(id, job)| Run {
            job: id,
            ats: job.ats,
            atm: job.atm,
            stc: job.stc,
            lock: token,
            lapsed: false,
            slot: true,
            outcome: None,
        })
        .collect()
    }

    /// One pass recovers what an earlier pass has marked and marks the rest.
    fn stalled_check(&mut self) -> Result<(), Breach> {
        for job in self
            .jobs
            .iter_mut()
            .filter(|job| job.places == ACTIVE && job.lock == 0)
        {
            if std::mem::replace(&mut job.marked, true) {
                ensure(job.expired, "stalled without an expired lock")?;
                (job.places, job.marked) = (WAIT, false);
                job.stc += 1;
                job.recovered |= 1 << job.ats;
            }
        }
        Ok(())
    }

    pub(super) fn moves(&self, config: &Config) -> Vec<Move> {
        let mut moves: Vec<Move> = (0..self.late.len()).map(Move::Late).collect();
        for (w, worker) in self.workers.iter().enumerate() {
            let busy = worker
                .calls
                .iter()
                .filter(|call| !matches!(call.ask, Ask::Doubt | Ask::Recheck));
            let ended = worker.runs.iter().any(|run| run.outcome.is_some());
            let poll = worker.free > 0 && self.jobs.iter().any(|job| job.places == WAIT);
            if busy.count() < config.calls && (ended || poll) {
                moves.push(Move::Send(w));
            }
            for (c, call) in worker.calls.iter().enumerate() {
                moves.push(match (call.ask, &call.reply) {
                    (Ask::Doubt, _) => Move::Recheck(w, c),
                    (_, None) => Move::Execute(w, c),
                    (_, Some(_)) => Move::Deliver(w, c),
                });
                if self.losses > 0 && w < config.lossy && call.ask != Ask::Doubt {
                    moves.push(Move::Lose(w, c));
                }
            }
            for (r, run) in worker
                .runs
                .iter()
                .enumerate()
                .filter(|(_, run)| run.outcome.is_none())
            {
                let last = run.atm + 1 >= ATTEMPTS;
                if run.job != 1 {
                    moves.push(Move::End(w, r, Outcome::Complete));
                }
                if run.job != 0 || config.jobs == 1 {
                    moves.push(Move::End(w, r, Outcome::CompleteAndRemove));
                }
                let failed = if last { Outcome::Fail } else { Outcome::Retry };
                moves.push(Move::End(w, r, failed));
                if run.job == 0 && run.ats == 1 {
                    moves.push(Move::End(w, r, Outcome::PutBack));
                    if config.jobs == 1 {
                        moves.push(Move::End(w, r, Outcome::Return));
                    }
                }
                if run.lapsed {
                    moves.push(Move::Cancel(w, r));
                }
            }
        }
        for (id, job) in self.jobs.iter().enumerate() {
            if job.orphan {
                moves.push(Move::Expire(id));
            }
            // A number that no party refers to is as good as new.
            let asked = || {
                let mut known = self.workers.iter().flat_map(Worker::known);
                known.any(|run| run.job == id)
            };
            if self.retries > 0 && job.places & (COMPLETED | FAILED) != 0 && asked() {
                moves.push(Move::Retry(id));
            }
            if self.lapses > 0 {
                let known = self
                    .workers
                    .iter()
                    .flat_map(Worker::known)
                    .filter(|run| run.job == id && !run.lapsed);
                let mut lapsing: Vec<u8> = known.map(|run| run.ats).collect();
                lapsing.extend((job.lock != 0).then_some(job.ats));
                lapsing.sort_unstable();
                lapsing.dedup();
                moves.extend(lapsing.into_iter().map(|ats| Move::Lapse(id, ats)));
            }
        }
        if self
            .jobs
            .iter()
            .any(|job| job.places == ACTIVE && job.lock == 0)
        {
            moves.push(Move::StalledCheck);
        }
        moves
    }

    pub(super) fn apply(&self, step: Move, config: &Config) -> Result<Self, Breach> {
        let mut next = self.clone();
        match step {
            Move::Send(w) => {
                next.send(w, config.variant);
                if w >= config.lossy {
                    next.execute(w, 0, config)?;
                    next.workers[w].deliver(&mut next.jobs, 0, config)?;
                }
            }
            Move::Execute(w, c) => next.execute(w, c, config)?,
            Move::Deliver(w, c) => next.workers[w].deliver(&mut next.jobs, c, config)?,
            Move::Lose(w, c) => {
                let fresh = next.fresh_token();
                next.losses -= 1;
                next.late.extend(next.workers[w].lose(c, fresh, config));
                next.late.sort();
            }
            Move::Late(index) => {
                let request = next.late.remove(index);
                let (_, taken) = next.advance(&request, config.variant)?;
                let asked_for = next.calls().any(|call| call.asks_for(request.token));
                for run in taken {
                    next.jobs[run.job].orphan =
                        !asked_for && !config.fence && config.variant != Variant::DoubtsSuffice;
                }
            }
            Move::End(w, r, outcome) => {
                let run = &mut next.workers[w].runs[r];
                run.outcome = Some(outcome);
                if outcome != Outcome::Return {
                    next.jobs[run.job].ran |= 1 << run.ats;
                }
                next.workers[w].runs.sort();
            }
            Move::Cancel(w, r) => {
                let run = next.workers[w].runs.remove(r);
                next.workers[w].free += i8::from(run.slot);
            }
            Move::Recheck(w, c) => {
                let call = &mut next.workers[w].calls[c];
                (call.ask, call.rechecks) = (Ask::Recheck, call.rechecks - 1);
            }
            Move::Lapse(id, ats) => {
                next.lapses -= 1;
                let known = next.workers.iter_mut().flat_map(Worker::known_mut);
                known
                    .filter(|run| (run.job, run.ats) == (id, ats))
                    .for_each(|run| run.lapsed = true);
                if next.jobs[id].ats == ats {
                    next.jobs[id].expire();
                }
            }
            Move::Expire(id) => next.jobs[id].expire(),
            Move::Retry(id) => {
                next.retries -= 1;
                next.jobs[id].retry(config.variant);
            }
            Move::StalledCheck => next.stalled_check()?,
        }
        next.check(config)?;
        next.forget();
        Ok(next)
    }

    /// Drops what no later step can tell apart: the space shrinks, the behaviour stays.
    fn forget(&mut self) {
        let Self {
            jobs,
            workers,
            late,
            ..
        } = self;
        for request in late.iter_mut() {
            // A lock that is gone never comes back, and a late answer is never read.
            request.fins.retain(|fin| jobs[fin.job].lock == fin.lock);
            request.fins.iter_mut().for_each(|fin| fin.lapsed = false);
        }
        late.retain(|request| request.take > 0 || !request.fins.is_empty());
        late.sort();
        for (id, job) in jobs.iter_mut().enumerate() {
            // The number of the current activation, and the one it has again if it is taken back.
            let mut bits = 1 << job.ats | (1 << job.ats) >> 1;
            let mut least = job.stc;
            let mut known = false;
            for run in workers
                .iter()
                .flat_map(Worker::known)
                .filter(|run| run.job == id)
            {
                known = true;
                bits |= 1 << run.ats;
                least = least.min(run.stc);
            }
            for request in late
                .iter()
                .flat_map(|request| &request.fins)
                .filter(|run| run.job == id)
            {
                known = true;
                least = least.min(request.stc);
            }
            if job.places & (WAIT | ACTIVE) == 0 && !known {
                *job = Job {
                    places: job.places,
                    ..Job::default()
                };
                continue;
            }
            for mask in [
                &mut job.started,
                &mut job.ran,
                &mut job.stored,
                &mut job.recovered,
                &mut job.refused,
            ] {
                *mask &= bits;
            }
            if least > 0 {
                job.stc -= least;
                for run in workers
                    .iter_mut()
                    .flat_map(Worker::known_mut)
                    .chain(late.iter_mut().flat_map(|l| &mut l.fins))
                    .filter(|run| run.job == id)
                {
                    run.stc -= least;
                }
            }
        }
    }

    /// Group commit: one call takes all results that are there and asks for all free slots.
    fn send(&mut self, w: usize, variant: Variant) {
        let token = match (variant, w) {
            (Variant::OneToken, 0) => 100,
            (Variant::OneToken, _) => 101,
            _ => self.fresh_token(),
        };
        let worker = &mut self.workers[w];
        let (fins, runs): (Vec<Run>, _) =
            worker.runs.drain(..).partition(|run| run.outcome.is_some());
        worker.runs = runs;
        let slots = worker.free + fins.iter().map(|fin| i8::from(fin.slot)).sum::<i8>();
        worker.free = 0;
        let take = usize::try_from(slots).unwrap_or(0);
        let (ask, reply) = (Ask::Advance, None);
        worker.calls.push(Call {
            token,
            take,
            slots,
            fins,
            ask,
            reply,
            yielded: 0,
            reclaimed: false,
            rechecks: 1,
        });
    }

    fn execute(&mut self, w: usize, c: usize, config: &Config) -> Result<(), Breach> {
        let call = &self.workers[w].calls[c];
        let (token, request) = (call.token, call.request());
        let reply = match call.ask {
            Ask::Advance | Ask::Repeat => self.advance(&request, config.variant)?,
            Ask::Fence => {
                self.late.retain(|late| late.token != token);
                (vec![], vec![])
            }
            Ask::Reclaim | Ask::Recheck | Ask::Doubt => (vec![], self.reclaim(token)),
        };
        for run in &reply.1 {
            self.jobs[run.job].orphan = false;
        }
        self.workers[w].calls[c].reply = Some(reply);
        Ok(())
    }

    fn calls(&self) -> impl Iterator<Item = &Call> {
        self.workers.iter().flat_map(|worker| &worker.calls)
    }

    /// The smallest number that no party refers to: fresh for all that matters, and the space is finite.
    fn fresh_token(&self) -> u8 {
        let used = |token: u8| {
            self.jobs.iter().any(|job| job.lock == token)
                || self.calls().any(|call| call.token == token)
                || self.late.iter().any(|late| late.token == token)
                || self
                    .late
                    .iter()
                    .flat_map(|late| &late.fins)
                    .any(|fin| fin.lock == token)
                || self
                    .workers
                    .iter()
                    .flat_map(Worker::known)
                    .any(|run| run.lock == token)
        };
        (1..=u8::MAX).find(|token| !used(*token)).unwrap_or(0)
    }

    /// What must hold in every reachable state.
    fn check(&self, config: &Config) -> Result<(), Breach> {
        for (id, job) in self.jobs.iter().enumerate() {
            ensure(job.places.is_power_of_two(), "not in exactly one place")?;
            ensure(
                job.lock == 0 || job.places == ACTIVE,
                "a lock outside active",
            )?;
            ensure(job.atm <= ATTEMPTS, "too many attempts")?;
            ensure(
                job.stored & (job.refused | job.recovered) == 0,
                "stored what was refused",
            )?;
            let mut known = self.workers.iter().flat_map(Worker::known);
            let held = known.any(|run| (run.job, run.lock) == (id, job.lock));
            let asked_for = held || self.calls().any(|call| call.asks_for(job.lock));
            ensure(
                job.lock == 0 || asked_for || job.orphan,
                "orphaned: locked, but nobody knows",
            )?;
        }
        for worker in &self.workers {
            let runs = worker.runs.iter().map(|run| i8::from(run.slot)).sum::<i8>();
            let calls = worker.calls.iter().map(|call| call.slots).sum::<i8>();
            ensure(worker.free >= 0, "more jobs than slots")?;
            ensure(worker.free + runs + calls == config.slots, "slots leaked")?;
        }
        Ok(())
    }

    /// Every job at its end, every worker idle with all its slots.
    pub(super) fn is_quiet(&self) -> bool {
        let idle = self
            .workers
            .iter()
            .all(|worker| worker.runs.is_empty() && worker.calls.is_empty());
        idle && self
            .jobs
            .iter()
            .all(|job| job.places & (WAIT | ACTIVE) == 0)
    }
}
