//! What the pump does with the answers of its calls: it settles results, starts attempts, and decides
//! when to fetch again.

use tokio::time::Instant;

use crate::job::JobRecord;
use crate::metrics;
use crate::policy::Conclusion;
use crate::store::{LockToken, Next, TrimFinished};
use crate::worker::attempt::{Attempt, Concluded, Settlement};
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
                self.advancing = self.advancing.saturating_sub(1);
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
            self.unresolved.add(&report.token, &report.started);
            for wait in SEARCHES {
                let caller = self.parts.caller.clone();
                let token = report.token.clone();
                self.calls.push(Box::pin(async move {
                    tokio::time::sleep(wait).await;
                    let found = caller.reclaim(&token).await;
                    Done::Searched(token, found)
                }));
            }
        }
        for record in report.started {
            self.start(record, &report.token);
        }
        for stuck in report.stuck {
            self.slots.reserve(1);
            let caller = self.parts.caller.clone();
            let token = report.token.clone();
            self.calls.push(Box::pin(async move {
                Done::Alone(caller.settle_alone(stuck, token).await)
            }));
        }
        if report.dangling > 0
            && let Some(suppressed) = self.dangling.admit()
        {
            tracing::warn!(
                queue = %self.parts.options.queue,
                count = report.dangling,
                suppressed,
                "ids without a job were dropped from the queue"
            );
        }
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
    fn take_settled(&mut self, concluded: Concluded, settled: Settlement) {
        if matches!(settled, Settlement::TryAgain) {
            self.outbox.push_again(concluded);
            return;
        }
        self.outbox.settled();
        if let Settlement::Refused(refusal) = settled
            && let Some(end) = concluded.after_refusal(refusal)
        {
            self.parts.reporter.refused(&concluded.result.job, refusal);
            self.conclude_again(concluded.attempt, end);
            return;
        }
        self.parts.leases.release([&concluded.attempt.activation()]);
        match settled {
            Settlement::Stored => {
                match concluded.result.conclusion {
                    Conclusion::Return | Conclusion::Release if !self.is_running() => {
                        self.released += 1;
                    }
                    Conclusion::Postpone { .. } | Conclusion::Return => {}
                    _ => {
                        self.gate.served();
                        self.parts.health.served();
                    }
                }
                self.parts.reporter.stored(concluded);
            }
            Settlement::Refused(refusal) => self.parts.reporter.lost(&concluded, refusal),
            Settlement::Unknown => self.parts.reporter.unknown(&concluded),
            // Sent again, see above.
            Settlement::TryAgain => {}
            Settlement::Abandoned(error) => {
                self.abandoned += 1;
                self.trouble(
                    "a result could not be stored; its job will be recovered",
                    &error,
                );
            }
        }
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
        if self.is_running() && !self.paused && room {
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
        self.calls.push(Box::pin(async move {
            loop {
                let now = store.clock().now();
                match store.run(&TrimFinished { now, trim: &trim }).await {
                    Ok(Some(rest)) => trim = rest,
                    // The next job that ends will ask for it again.
                    Ok(None) | Err(_) => return Done::Trimmed,
                }
            }
        }));
    }
}
