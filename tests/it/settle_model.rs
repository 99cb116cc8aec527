//! The settle protocol, checked exhaustively: a pure model of worker, lossy wire and server.
//!
//! This file is the design record of how a worker learns what became of a call whose answer it
//! never saw. It depends on nothing but `std`; the runtime has to follow it.
//!
//! # Protocol
//! 1. The pump sends `advance(token, finishes, take)`. The token is fresh for every call and
//!    becomes the lock of every job the call takes. A finish names the job, its lock and what the
//!    fetch told about this *activation*: `ats` (its number) and `stc` (recoveries so far).
//! 2. The server finishes a job only if its lock is the one named and it is active; one atomic
//!    step removes the lock, leaves `active`, places by outcome and counts `atm` (a put-back does
//!    not). Otherwise nothing changes. Then it takes up to `take` jobs: `ats` + 1, lock = token.
//! 3. If the answer does not come, the connection is discarded for good and the call is settled on
//!    another one, its slots staying reserved until the end:
//!    - *fence*: `CLIENT KILL ID` of the discarded connection, so that the lost request either has
//!      been executed or never will be;
//!    - *repeat*: the same finishes, marked as a repeat, taking nothing;
//!    - *reclaim*: active jobs whose lock is the call's token; they run as if just fetched.
//! 4. Where the fence is not permitted, the token stays *doubtful* after that: it is reclaimed a
//!    few more times, without reserving slots; a job found while no slot is free is put back.
//!    A token remembers the jobs it has yielded, so that none is started twice.
//! 5. The answer to a finish, when the job does not carry the lock named:
//!
//!    | asked | server sees | answer | the worker believes |
//!    |---|---|---|---|
//!    | first | anything | refusal | refused |
//!    | repeat | `stc` same, `ats` same, job not active | ALREADY | accepted |
//!    | repeat | `stc` same, `ats` higher | ALREADY | accepted |
//!    | repeat | `ats` same, and active or `stc` higher | refusal | refused |
//!    | repeat | `ats` and `stc` higher | SUPERSEDED | unknown |
//!    | repeat | no hash | `JOB_MISSING` | accepted if its lease never lapsed, else unknown |
//!
//!    The reason: an activation ends by its holder or by a stalled recovery, and every recovery
//!    counts `stc`. The lease is the worker's own reckoning on a monotonic clock: the last
//!    confirmed fetch, reclaim or renewal was *sent* less than the lock's duration ago.
//!
//! # What is modelled
//! Requests are executed or lost, answers are lost, requests of a discarded connection are
//! executed at any later time; up to the given number of faults. Calls are not ordered among each
//! other, which allows more than one connection does. Renewal is implied: a lock that a worker
//! knows expires only by a `Lapse` (frozen or cut off for too long). Death of a worker is a lapse
//! of all it holds. Operators (retry with reset counters, obliterate) are left out: counters that
//! went backwards must be answered with SUPERSEDED.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test model: a broken index or rule must fail loudly"
)]

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

const JOBS: usize = 2;
const WORKERS: usize = 2;
const ATTEMPTS: u8 = 2;

/// What is wrong with the protocol under test.
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
    /// ALREADY if `ats` is the same and `atm` is one higher: the first draft of the rule.
    AlreadyByAtsAndAtm,
    /// ALREADY if `atm` is one higher.
    AlreadyByAtmAlone,
    /// ALREADY whenever somebody activated the job since.
    AlreadyByAtsAlone,
    /// No hash means accepted if our outcome removes the job, else refused.
    MissingByRetention,
}

#[derive(Clone, Copy, Debug)]
struct Config {
    variant: Variant,
    /// Settlement kills the discarded connection; otherwise tokens stay doubtful.
    fence: bool,
    /// How many of the jobs are not completed from the start.
    jobs: usize,
    slots: i8,
    /// Calls of a worker that may be in flight or in settlement at once.
    calls: usize,
    /// Workers whose wire loses; the wire of the others is perfect.
    lossy: usize,
    losses: u8,
    lapses: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Outcome {
    Complete,
    CompleteAndRemove,
    Fail,
    Retry,
    PutBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Answer {
    Done,
    Already,
    Refused,
    Superseded,
    JobMissing,
}

// Places are bits, so that "exactly one" is a claim and not a consequence of the type.
const WAIT: u8 = 1;
const ACTIVE: u8 = 2;
const COMPLETED: u8 = 4;
const FAILED: u8 = 8;
const REMOVED: u8 = 16;

/// A job in Redis. The second half is what really happened, one bit per activation number; only
/// the checks look at it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
struct Job {
    places: u8,
    /// 0 is no lock.
    lock: u8,
    ats: u8,
    atm: u8,
    stc: u8,
    marked: bool,
    started: u8,
    ran: u8,
    stored: u8,
    recovered: u8,
    refused: u8,
    expired: u8,
    /// Taken by a late request whose token nobody asks for any more.
    orphan: bool,
}

/// One activation in a worker's hands, as told by fetch or reclaim.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Run {
    job: usize,
    ats: u8,
    atm: u8,
    stc: u8,
    lock: u8,
    /// The lease may be over: known to the worker by its own clock.
    lapsed: bool,
    slot: bool,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Ask {
    Advance,
    Fence,
    Repeat,
    Reclaim,
    /// Settled, but the token may still take jobs: nothing is in flight.
    Doubt,
    Recheck,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    token: u8,
    take: usize,
    slots: i8,
    fins: Vec<Run>,
    ask: Ask,
    /// Present once the server has executed the request.
    reply: Option<(Vec<Answer>, Vec<Run>)>,
    yielded: u8,
    /// How often a doubtful token is still asked for.
    rechecks: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Worker {
    free: i8,
    runs: Vec<Run>,
    calls: Vec<Call>,
}

/// A request of a discarded connection that the server may still read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Late {
    token: u8,
    take: usize,
    fins: Vec<Run>,
    repeat: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    jobs: [Job; JOBS],
    workers: [Worker; WORKERS],
    late: Vec<Late>,
    losses: u8,
    lapses: u8,
}

/// One atomic step; indices are into the vectors of the state it is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
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
}

impl Move {
    /// Order in which a fair scheduler without faults picks; `None` is a fault or a choice.
    fn fair(self) -> Option<u8> {
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

type Breach = &'static str;

fn ensure(holds: bool, breach: Breach) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(breach) }
}

// ---- server ----

impl Job {
    fn finish(&mut self, fin: &Run, repeat: bool, variant: Variant) -> Result<Answer, Breach> {
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
        ensure(
            outcome == Outcome::PutBack || self.ran & bit != 0,
            "stored without a run",
        )?;
        self.stored |= bit;
        self.lock = 0;
        self.orphan = false;
        self.marked = false;
        self.atm += u8::from(outcome != Outcome::PutBack);
        self.places &= !ACTIVE;
        self.places |= match outcome {
            Outcome::Complete => COMPLETED,
            Outcome::CompleteAndRemove => REMOVED,
            Outcome::Fail => FAILED,
            Outcome::Retry | Outcome::PutBack => WAIT,
        };
        Ok(Answer::Done)
    }

    /// Answers a repeat that finds the job without the lock it names.
    fn already(&self, fin: &Run, variant: Variant) -> Answer {
        let counted = self.atm == fin.atm + 1;
        let yes_if = |yes| {
            if yes {
                Answer::Already
            } else {
                Answer::Refused
            }
        };
        match variant {
            Variant::AlreadyByAtsAndAtm => return yes_if(self.ats == fin.ats && counted),
            Variant::AlreadyByAtmAlone => return yes_if(counted),
            Variant::AlreadyByAtsAlone if self.ats > fin.ats => return Answer::Already,
            _ => {}
        }
        match (self.ats == fin.ats, self.stc == fin.stc) {
            (true, same) => yes_if(same && self.places != ACTIVE),
            (false, true) => Answer::Already,
            (false, false) => Answer::Superseded,
        }
    }
}

impl State {
    fn new(config: &Config) -> Self {
        let worker = Worker {
            free: config.slots,
            runs: vec![],
            calls: vec![],
        };
        Self {
            jobs: std::array::from_fn(|id| Job {
                places: if id < config.jobs { WAIT } else { COMPLETED },
                ..Job::default()
            }),
            workers: std::array::from_fn(|_| worker.clone()),
            late: vec![],
            losses: config.losses,
            lapses: config.lapses,
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
    fn stalled_check(&mut self) {
        for job in self
            .jobs
            .iter_mut()
            .filter(|job| job.places == ACTIVE && job.lock == 0)
        {
            if std::mem::replace(&mut job.marked, true) {
                (job.places, job.marked) = (WAIT, false);
                job.stc += 1;
                job.recovered |= 1 << job.ats;
            }
        }
    }
}

// ---- worker ----

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
            let (job, bit) = (&mut jobs[fin.job], 1 << fin.ats);
            let stored = job.stored & bit != 0;
            let removes = fin.outcome == Some(Outcome::CompleteAndRemove);
            let accepted = match answer {
                Answer::Done | Answer::Already => Some(true),
                Answer::Refused => Some(false),
                Answer::JobMissing if !repeat => Some(false),
                Answer::JobMissing if variant == Variant::MissingByRetention => Some(removes),
                Answer::JobMissing | Answer::Superseded => (!fin.lapsed).then_some(true),
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
            run.outcome = Some(Outcome::PutBack);
        }
        self.runs.push(run);
        self.runs.sort();
        Ok(())
    }

    fn deliver(&mut self, jobs: &mut [Job], index: usize, config: &Config) -> Result<(), Breach> {
        let mut call = self.calls.remove(index);
        let (answers, mut found) = call.reply.take().ok_or("no reply to deliver")?;
        if matches!(call.ask, Ask::Advance | Ask::Repeat) {
            Self::believe(jobs, &mut call, &answers, config.variant)?;
        }
        let next = match call.ask {
            Ask::Fence | Ask::Repeat => call.settle(config),
            Ask::Reclaim if !config.fence => Some(Ask::Doubt),
            Ask::Recheck if call.rechecks > 0 => Some(Ask::Doubt),
            _ => None,
        };
        if matches!(next, None | Some(Ask::Doubt)) {
            self.free += std::mem::take(&mut call.slots);
        }
        if config.variant == Variant::ForgetsYielded {
            found.retain(|run| !self.holds(run.job, run.ats));
        } else {
            found.retain(|run| call.yielded & (1 << run.job) == 0);
        }
        for mut run in found {
            call.yielded |= 1 << run.job;
            run.slot = call.ask != Ask::Recheck || self.free > 0;
            self.free -= i8::from(run.slot);
            self.start(jobs, run, config.variant)?;
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
    fn lose(&mut self, index: usize, fresh: u8, config: &Config) -> Option<Late> {
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
        let next = if config.fence && call.take > 0 {
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
}

impl Call {
    /// The next question of a settlement whose fence, if any, is up.
    fn settle(&self, config: &Config) -> Option<Ask> {
        if !self.fins.is_empty() {
            return Some(Ask::Repeat);
        }
        (self.take > 0 && config.variant != Variant::NoReclaim).then_some(Ask::Reclaim)
    }

    /// Whether this call's answers, here or to come, can still yield a job with this lock.
    fn asks_for(&self, token: u8) -> bool {
        let over = self.ask == Ask::Recheck && self.rechecks == 0 && self.reply.is_some();
        self.token == token && !over
    }

    fn request(&self) -> Late {
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

// ---- all together ----

impl State {
    fn moves(&self, config: &Config) -> Vec<Move> {
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
                moves.push(Move::End(
                    w,
                    r,
                    if run.job == 0 {
                        Outcome::Complete
                    } else {
                        Outcome::CompleteAndRemove
                    },
                ));
                moves.push(Move::End(
                    w,
                    r,
                    if last { Outcome::Fail } else { Outcome::Retry },
                ));
                if run.ats == 1 {
                    moves.push(Move::End(w, r, Outcome::PutBack));
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

    fn apply(&self, step: Move, config: &Config) -> Result<Self, Breach> {
        let mut next = self.clone();
        match step {
            Move::Send(w) => next.send(w),
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
                    next.jobs[run.job].orphan = !asked_for && !config.fence;
                }
            }
            Move::End(w, r, outcome) => {
                let run = &mut next.workers[w].runs[r];
                run.outcome = Some(outcome);
                next.jobs[run.job].ran |= 1 << run.ats;
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
            Move::StalledCheck => next.stalled_check(),
        }
        next.check(config)?;
        Ok(next)
    }

    /// Group commit: one call takes all results that are there and asks for all free slots.
    fn send(&mut self, w: usize) {
        let token = self.fresh_token();
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

    /// The smallest number nobody refers to: fresh for all that matters, and the space is finite.
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
            ensure(
                u32::from(job.atm) <= job.ran.count_ones(),
                "more attempts than runs",
            )?;
            ensure(job.atm <= ATTEMPTS, "too many attempts")?;
            ensure(job.stc <= job.expired, "stalled without an expired lock")?;
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
    fn is_quiet(&self) -> bool {
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

impl Job {
    fn expire(&mut self) {
        self.expired += u8::from(self.lock != 0);
        (self.lock, self.orphan) = (0, false);
    }
}

impl Worker {
    /// Every activation this worker knows or is about to be told of.
    fn known(&self) -> impl Iterator<Item = &Run> {
        let told = self
            .calls
            .iter()
            .filter_map(|call| call.reply.as_ref())
            .flat_map(|reply| &reply.1);
        self.runs
            .iter()
            .chain(self.calls.iter().flat_map(|call| &call.fins))
            .chain(told)
    }

    fn known_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        let in_calls = self.calls.iter_mut().flat_map(|call| {
            call.fins
                .iter_mut()
                .chain(call.reply.iter_mut().flat_map(|reply| &mut reply.1))
        });
        self.runs.iter_mut().chain(in_calls)
    }
}

// ---- search ----

/// How far a search came: the number of states, or the breach and the steps that lead to it.
type Verdict = Result<usize, (Breach, usize, Vec<Move>)>;

/// Visits every reachable state, then follows the fair scheduler from each to the end.
fn explore(config: &Config) -> Verdict {
    let start = Rc::new(State::new(config));
    let mut ids = HashMap::from([(Rc::clone(&start), 0_usize)]);
    let mut queue = VecDeque::from([start]);
    let mut cause: Vec<Option<(usize, Move)>> = vec![None];
    let mut fair: Vec<Option<usize>> = vec![];
    let mut quiet = vec![];
    let trace = |cause: &[Option<(usize, Move)>], mut at: usize, last: Option<Move>| {
        let mut steps: Vec<Move> = last.into_iter().collect();
        while let Some((before, step)) = cause[at] {
            steps.push(step);
            at = before;
        }
        steps.reverse();
        steps
    };
    while let Some(state) = queue.pop_front() {
        let id = fair.len();
        let mut best: Option<(u8, usize)> = None;
        for step in state.moves(config) {
            let next = match state.apply(step, config) {
                Ok(next) => Rc::new(next),
                Err(breach) => return Err((breach, ids.len(), trace(&cause, id, Some(step)))),
            };
            let found = ids.len();
            let to = *ids.entry(Rc::clone(&next)).or_insert(found);
            if to == found {
                cause.push(Some((id, step)));
                queue.push_back(next);
            }
            if let Some(rank) = step.fair()
                && best.is_none_or(|(least, _)| rank < least)
            {
                best = Some((rank, to));
            }
        }
        fair.push(best.map(|(_, to)| to));
        quiet.push(state.is_quiet());
    }
    // Each state has one fair successor: it ends well if that chain reaches quiet.
    let mut good = quiet.clone();
    for from in 0..fair.len() {
        let (mut at, mut chain) = (from, vec![]);
        while !good[at] {
            chain.push(at);
            let stuck =
                (if quiet[at] { None } else { fair[at] }).filter(|_| chain.len() <= fair.len());
            at = stuck.ok_or_else(|| ("stuck", fair.len(), trace(&cause, from, None)))?;
        }
        for id in chain {
            good[id] = true;
        }
    }
    Ok(fair.len())
}

const SOUND: Config = Config {
    variant: Variant::Sound,
    fence: true,
    jobs: JOBS,
    slots: 1,
    calls: 1,
    lossy: 1,
    losses: 2,
    lapses: 1,
};

/// The protocol as it stands, with and without the fence, within the bounds of each search.
#[test]
fn sound_protocol_has_no_breach() {
    let searches = [
        // Two jobs, two calls in flight, one loss.
        Config {
            losses: 1,
            lapses: 0,
            calls: 2,
            ..SOUND
        },
        // Both wires lose.
        Config {
            losses: 1,
            lapses: 0,
            lossy: 2,
            ..SOUND
        },
        // Doubtful tokens instead of the fence, which is what the runtime does.
        Config {
            losses: 1,
            lapses: 0,
            jobs: 1,
            fence: false,
            ..SOUND
        },
        // A loss, and a lock that expires at any time.
        Config {
            losses: 1,
            jobs: 1,
            ..SOUND
        },
    ];
    for config in searches {
        let verdict = explore(&config);
        assert!(verdict.is_ok(), "{config:?}: {verdict:?}");
    }
}

/// Each rule is needed: without it the search finds a breach.
#[test]
fn every_broken_variant_is_caught() {
    let one = Config {
        losses: 1,
        lapses: 0,
        jobs: 1,
        ..SOUND
    };
    let broken = [
        (Variant::NoSettlement, one),
        (Variant::AckBeforeRun, one),
        (Variant::BlindResend, one),
        (Variant::NoReclaim, one),
        (Variant::EarlySlots, Config { calls: 2, ..one }),
        (
            Variant::ForgetsYielded,
            Config {
                fence: false,
                ..one
            },
        ),
        (Variant::AlreadyByAtsAndAtm, one),
        (Variant::AlreadyByAtmAlone, one),
        (Variant::AlreadyByAtsAlone, Config { lapses: 1, ..one }),
        (
            Variant::MissingByRetention,
            Config {
                losses: 2,
                jobs: JOBS,
                ..one
            },
        ),
    ];
    for (variant, config) in broken {
        let verdict = explore(&Config { variant, ..config });
        assert!(verdict.is_err(), "{variant:?} was not caught");
    }
}
