//! What the pump does with the answers of its calls: it settles results, starts attempts, and decides
//! when to fetch again.

use tokio::time::Instant;

use crate::job::JobRecord;
use crate::metrics;
use crate::store::{LockToken, Next, TrimFinished};
use crate::worker::attempt::{Attempt, Concluded, Settled, Settlement, Stored};
use crate::worker::call::Report;
use crate::worker::events::WorkerEvent;

use super::Pump;
use super::gate::Found;
use super::unresolved::SEARCHES;

/// A call that has ended.
pub(super) enum Done {
    Call {
        report: Report,
        sent: Instant,
        slots: usize,
        /// What the pump knew of a limited queue when it made the call.
        limited_at: Option<u64>,
    },
    /// Jobs found by the token of a call whose answer was lost.
    Searched(LockToken, Vec<JobRecord>),
    /// A result that the server had answered with an error; its slot was kept.
    Alone(Report),
    /// Retention was continued.
    Trimmed,
}

impl Pump {
    pub(super) fn take_answer(&mut self, done: Done) {
        match done {
            Done::Call {
                report,
                sent,
                slots,
                limited_at,
            } => {
                self.slots.release(slots);
                let over = matches!(report.next, Ok(next) if !matches!(next, Next::Limited(_) | Next::Idle));
                if report.asked > 0 && over {
                    self.gate.limit_is_over(limited_at);
                }
                self.take_report(report, sent);
            }
            Done::Searched(token, records) => self.take_found(&token, records),
            Done::Alone(report) => {
                self.slots.release(1);
                for (concluded, settled) in report.settled {
                    self.take_settled(concluded, settled);
                }
                self.retention.add(report.backlog);
                self.gate.wake();
            }
            Done::Trimmed => self.retention.finished(),
        }
        self.trim();
    }

    fn take_report(&mut self, report: Report, sent: Instant) {
        let started = report.started.len();
        metrics::advanced(
            self.parts.options.queue.as_str(),
            report.settled.len(),
            started,
        );
        let mut refused = false;
        for (concluded, settled) in report.settled {
            refused |= matches!(settled, Settlement::Refused(_) | Settlement::TryAgain);
            self.take_settled(concluded, settled);
        }
        if report.lost_answer && report.asked > 0 {
            self.search(&report.token, &report.started);
        }
        for record in report.started {
            self.start(record, &report.token);
        }
        for stuck in report.stuck {
            self.slots.reserve(1);
            let settling = self
                .parts
                .caller
                .clone()
                .settle_alone(stuck, report.token.clone());
            self.calls.send(async move { Done::Alone(settling.await) });
        }
        self.report_dangling(report.dangling);
        self.retention.add(report.backlog);
        match report.next {
            Ok(next) => {
                self.parts.health.answered(report.asked > 0);
                if report.asked > 0 {
                    self.plan(next, started, sent);
                }
                // A refusal took the place of a job to start.
                if refused {
                    self.gate.wake();
                }
            }
            Err(error) => {
                self.gate.failed(Instant::now());
                self.trouble("queue could not be advanced", &error);
            }
        }
    }

    /// Looks for the jobs of a call whose answer was lost, several times: it may be executed late.
    fn search(&mut self, token: &LockToken, started: &[JobRecord]) {
        self.unresolved.add(token, started);
        for wait in SEARCHES {
            let caller = self.parts.caller.clone();
            let token = token.clone();
            self.calls.send(async move {
                tokio::time::sleep(wait).await;
                let found = caller.reclaim(&token).await;
                Done::Searched(token, found)
            });
        }
    }

    fn report_dangling(&self, count: i64) {
        if count > 0
            && let Some(suppressed) = self.dangling.admit()
        {
            tracing::warn!(
                queue = %self.parts.options.queue,
                count,
                suppressed,
                "ids without a job were dropped from the queue"
            );
        }
    }

    /// Decides when to look for jobs again.
    fn plan(&mut self, next: Next, started: usize, sent: Instant) {
        let found = match next {
            Next::Limited(wait) => Found::Limited { sent, wait },
            Next::At(due) => Found::NothingFor(due.since(self.parts.caller.store.clock().now())),
            Next::Blocked | Next::Empty => Found::Nothing,
            // Idle: refused results took the places of all jobs to start, and nothing is known.
            Next::More | Next::Idle => Found::More,
        };
        if self.gate.answered(found, started, Instant::now()) {
            self.parts.reporter.events.send(|| WorkerEvent::Drained);
        }
    }

    /// Takes in the settlement of a result: its slot is free unless the attempt is concluded again.
    fn take_settled(&mut self, concluded: Concluded, settlement: Settlement) {
        let settled = concluded.settled(settlement, &self.parts.reporter);
        if !matches!(settled, Settled::SendAgain(_)) {
            self.outbox.settled();
        }
        let activation = match settled {
            Settled::SendAgain(concluded) => return self.outbox.push_again(concluded),
            Settled::ConcludeAgain(attempt, outcome) => {
                return self.conclude_again(attempt, outcome);
            }
            Settled::Stored(activation, stored) => {
                match stored {
                    Stored::Released | Stored::NotRun if self.shutdown.has_begun() => {
                        self.shutdown.released += 1;
                    }
                    Stored::NotRun | Stored::Postponed => {}
                    Stored::Released | Stored::Worked => {
                        self.gate.served();
                        self.parts.health.served();
                    }
                }
                activation
            }
            Settled::Lost(activation) => activation,
            Settled::Abandoned(activation, error) => {
                self.shutdown.abandoned += 1;
                self.trouble(
                    "a result could not be stored; its job will be recovered",
                    &error,
                );
                activation
            }
        };
        self.parts.leases.release([&activation]);
    }

    /// Starts the jobs that a search has found, none of them twice.
    fn take_found(&mut self, token: &LockToken, records: Vec<JobRecord>) {
        for record in self.unresolved.searched(token, records) {
            self.start(record, token);
        }
    }

    /// Starts an attempt, or gives its job back where there is no place for it any more.
    fn start(&mut self, record: JobRecord, token: &LockToken) {
        let attempt = Attempt::new(record, token);
        let room = self.slots.has_room(self.occupied());
        if !self.shutdown.has_begun() && !self.pause.is_paused() && room {
            self.begin(attempt);
        } else {
            self.release(attempt);
        }
    }

    /// Continues the retention that calls left to do, one set at a time.
    fn trim(&mut self) {
        let Some(mut trim) = self.retention.start() else {
            return;
        };
        let store = self.parts.caller.store.clone();
        self.calls.send(async move {
            loop {
                let now = store.clock().now();
                match store.run(&TrimFinished { now, trim: &trim }).await {
                    Ok(Some(rest)) => trim = rest,
                    // The next job that ends will ask for it again.
                    Ok(None) | Err(_) => return Done::Trimmed,
                }
            }
        });
    }
}
