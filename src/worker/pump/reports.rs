//! What calls come back with, and when to look for jobs again.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::jittered;
use crate::job::JobRecord;
use crate::store::{LockToken, Next, TrimFinished};
use crate::worker::call::Report;
use crate::worker::events::WorkerEvent;

use super::Pump;

/// When the token of a call whose answer was lost is looked for again, in case the call is
/// executed late.
const DOUBTS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
];
/// The first wait after a fetch that failed; it doubles up to the maximum.
const FETCH_RETRY: Duration = Duration::from_millis(50);
const FETCH_RETRY_MAX: Duration = Duration::from_secs(2);

/// What is left of a rate limit when it is no longer slept through.
const LAST_MOMENT: Duration = Duration::from_millis(1);

/// A call that has ended.
pub(super) enum Done {
    Call {
        report: Report,
        sent: Instant,
        slots: usize,
        /// What the pump knew of a limited queue when it made the call.
        limited: Option<u64>,
    },
    /// Jobs found by the token of a doubtful call.
    Doubt(LockToken, Vec<JobRecord>),
    /// Retention was continued.
    Trimmed,
}

impl Pump {
    /// Starts no job for this long, or as much of it as one wait may take.
    pub(super) fn limit(&mut self, since: Instant, wait: Duration) {
        let wait = wait.min(self.parts.options.max_limit_wait);
        self.hold_off = Some(since + wait);
    }

    pub(super) fn take_in(&mut self, done: Done) {
        match done {
            Done::Call {
                report,
                sent,
                slots,
                limited,
            } => {
                self.reserved = self.reserved.saturating_sub(slots);
                self.advancing = self.advancing.saturating_sub(1);
                let over = matches!(report.next, Ok(next) if !matches!(next, Next::Limited(_)));
                if report.asked > 0 && over && self.limited == limited {
                    self.limited = None;
                }
                self.take_report(report, sent);
            }
            Done::Doubt(token, records) => {
                for record in records {
                    let new = self.doubts.get_mut(&token).is_some_and(|(yielded, _)| {
                        yielded.insert((record.id.clone(), record.attempts_started))
                    });
                    if new {
                        self.start(record, &token);
                    }
                }
                if let Some((_, left)) = self.doubts.get_mut(&token) {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        self.doubts.remove(&token);
                    }
                }
            }
            Done::Trimmed => self.trimming = false,
        }
        self.trim();
    }

    pub(super) fn take_report(&mut self, report: Report, sent: Instant) {
        for (result, fate) in report.fates {
            self.tell_fate(result, fate);
        }
        let found = report.started.len();
        if report.doubtful && report.asked > 0 {
            let yielded = report
                .started
                .iter()
                .map(|record| (record.id.clone(), record.attempts_started));
            self.doubts
                .insert(report.token.clone(), (yielded.collect(), DOUBTS.len()));
        }
        for record in report.started {
            self.start(record, &report.token);
        }
        if report.ghosts > 0
            && let Some(skipped) = self.ghosts.admit()
        {
            tracing::warn!(
                queue = %self.parts.options.queue,
                count = report.ghosts,
                skipped,
                "ids without a job were dropped from the queue"
            );
        }
        if report.doubtful && report.asked > 0 {
            for wait in DOUBTS {
                let caller = self.parts.caller.clone();
                let token = report.token.clone();
                self.calls.push(Box::pin(async move {
                    tokio::time::sleep(wait).await;
                    let found = caller.reclaim(&token).await;
                    Done::Doubt(token, found)
                }));
            }
        }
        for trim in report.backlog {
            self.trims.retain(|other| other.set != trim.set);
            self.trims.push(trim);
        }
        let now = Instant::now();
        match report.next {
            Ok(next) => {
                self.failures = 0;
                self.parts
                    .status
                    .send_modify(|status| status.last_answer = Some(now));
                if report.asked > 0 {
                    self.plan(next, found, now, sent);
                }
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let wait = FETCH_RETRY
                    .saturating_mul(1 << self.failures.min(10).saturating_sub(1))
                    .min(FETCH_RETRY_MAX);
                self.hold_off = Some(now + jittered(wait));
                self.trouble("queue could not be advanced", &error);
            }
        }
    }

    /// Decides when to look for jobs again.
    pub(super) fn plan(&mut self, next: Next, found: usize, now: Instant, sent: Instant) {
        if found > 0 {
            self.drained = false;
        }
        match next {
            Next::More => self.look = true,
            // Redis counted the wait after the call was sent, and rounded it up by less than a
            // millisecond. Asking too late costs starts; asking too early costs calls, but only in the
            // last millisecond, which is too short for a timer.
            Next::Limited(wait) => match wait.checked_sub(LAST_MOMENT) {
                Some(rest) if !rest.is_zero() => self.limit(sent, rest),
                _ => self.look = true,
            },
            Next::At(due) => {
                let wait = due.since(self.parts.caller.store.clock().now());
                self.look_at = self.look_at.min(now + wait);
            }
            Next::Closed | Next::Empty | Next::Idle => {}
        }
        if found == 0 && !self.drained && matches!(next, Next::Empty | Next::At(_)) {
            self.drained = true;
            self.parts.events.tell(|| WorkerEvent::Drained);
        }
    }

    /// Continues the retention that calls left to do, one set at a time.
    pub(super) fn trim(&mut self) {
        if self.trimming {
            return;
        }
        let Some(mut trim) = self.trims.pop() else {
            return;
        };
        self.trimming = true;
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
