//! Results on their way to Redis: collected, sent with `advance` calls, until the outcome of each is
//! known.
//!
//! A lost answer leaves two questions: were the results stored, and which jobs were started? The
//! results are asked for again, which the script recognises by the job's counters; the jobs are
//! found by the call's own lock token. `tests/it/settle_model.rs` checks this protocol
//! exhaustively.

use std::sync::Arc;

use tokio::time::Instant;

use crate::client::CallError;
use crate::error::{Error, SharedError};
use crate::job::JobRecord;
use crate::store::{
    Advance, Advanced, AttemptResult, ExtendLocks, LockToken, Next, SettlementReply, Store, Trim,
};
use crate::worker::attempt::{Concluded, Settlement};
use crate::worker::cancel::Canceller;
use crate::worker::lock_renewer::Leases;
use crate::worker::options::WorkerOptions;

/// How many results one call carries and how many jobs it starts at most: one to two
/// milliseconds of the server's time.
pub(super) const BATCH: usize = 100;
/// How many bytes of results one call carries at most.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// Results that have not been sent, and the count of those whose settlement is not known.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Vec<Concluded>,
    unsettled: usize,
}

impl Outbox {
    /// Adds a result, to leave with the next call.
    pub(super) fn push(&mut self, concluded: Concluded) {
        self.unsettled += 1;
        self.waiting.push(concluded);
    }

    /// Adds a result that Redis has left for another call; it was never settled.
    pub(super) fn push_again(&mut self, concluded: Concluded) {
        self.waiting.push(concluded);
    }

    /// Notes that the settlement of a result is known.
    pub(super) fn settled(&mut self) {
        self.unsettled = self.unsettled.saturating_sub(1);
    }

    /// Takes the next call's worth of results: up to [`BATCH`] and about [`BATCH_BYTES`].
    pub(super) fn next_batch(&mut self) -> Vec<Concluded> {
        let mut bytes = 0_usize;
        let mut count = 0;
        for concluded in self.waiting.iter().take(BATCH) {
            bytes = bytes.saturating_add(concluded.result.conclusion.size());
            if count > 0 && bytes > BATCH_BYTES {
                break;
            }
            count += 1;
        }
        let rest = self.waiting.split_off(count);
        std::mem::replace(&mut self.waiting, rest)
    }

    /// Returns how many results have not been sent.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns how many results have no known settlement, those that have not been sent included.
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled
    }
}

/// What became of a call.
#[derive(Debug)]
pub(super) struct Report {
    /// The call's results, with what became of each.
    pub(super) settled: Vec<(Concluded, Settlement)>,
    /// The jobs it started.
    pub(super) started: Vec<JobRecord>,
    pub(super) token: LockToken,
    /// How many jobs it asked for.
    pub(super) asked: usize,
    /// What to do next; the error when nothing could be asked.
    pub(super) next: Result<Next, Error>,
    pub(super) backlog: Vec<Trim>,
    /// How many ids without a job were dropped.
    pub(super) dangling: i64,
    /// Whether an answer was lost: the request may still be executed later.
    pub(super) lost_answer: bool,
    /// Results that the server answers with an error, one by one. The others do not wait for them.
    pub(super) stuck: Vec<Stuck>,
}

/// A result that the server has answered with an error.
#[derive(Debug)]
pub(super) struct Stuck {
    result: Concluded,
    /// Whether an earlier call may have stored it.
    again: bool,
}

/// One worker's way to make calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) store: Store,
    pub(super) options: Arc<WorkerOptions>,
    pub(super) leases: Arc<Leases>,
}

impl Caller {
    /// Makes one call and settles it. With `respect`, starts no job under a limit imposed by hand,
    /// whether the worker knows a limit or not. Never gives up on a result before its job's lock has
    /// expired for certain; ends early only when it is dropped.
    pub(super) async fn call(
        self,
        results: Vec<Concluded>,
        take: usize,
        token: LockToken,
        respect: bool,
    ) -> Report {
        match self.attempt(&results, take, &token, respect, false).await {
            Ok(advanced) => {
                let mut report = Report::new(token, take);
                report.accept(results, advanced);
                report
            }
            // Large, and rare: calls that are answered have no room for it.
            Err(error) => Box::pin(self.settle(results, take, token, error)).await,
        }
    }

    /// Settles a call that failed.
    async fn settle(
        &self,
        results: Vec<Concluded>,
        take: usize,
        token: LockToken,
        error: CallError,
    ) -> Report {
        let again = matches!(error, CallError::Unknown(_));
        let mut report = Report::new(token.clone(), take);
        report.lost_answer = again;
        report.next = Err(error.into());
        // Both at once: the locks of started jobs are not renewed until they are found.
        let search = async {
            if !again || take == 0 {
                return Vec::new();
            }
            let started = self.reclaim(&token).await;
            for record in &started {
                self.leases
                    .hold((record.id.clone(), token.clone()), Canceller::default());
            }
            started
        };
        let settlement = async {
            if !results.is_empty() {
                self.settle_results(&mut report, results, again, false)
                    .await;
            }
        };
        let ((), started) = tokio::join!(settlement, search);
        if !started.is_empty() {
            report.next = Ok(Next::More);
        }
        report.started.extend(started);
        report
    }

    async fn attempt(
        &self,
        results: &[Concluded],
        take: usize,
        token: &LockToken,
        respect: bool,
        again: bool,
    ) -> Result<Advanced, CallError> {
        let results: Vec<&AttemptResult> = results.iter().map(|result| &result.result).collect();
        self.store
            .attempt(&Advance {
                now: self.store.clock().now(),
                take,
                token,
                lock_duration: self.options.lock_duration,
                worker_name: self.options.name.as_deref(),
                limit: self.options.limit,
                respect_imposed: respect,
                metrics: self.options.metrics,
                results: &results,
                again,
            })
            .await
    }

    /// Settles a result that the server has answered with an error, for as long as its job's lock lasts.
    pub(super) async fn settle_alone(self, stuck: Stuck, token: LockToken) -> Report {
        let mut report = Report::new(token, 0);
        let Stuck { result, again } = stuck;
        self.settle_results(&mut report, vec![result], again, true)
            .await;
        report
    }

    /// Sends results until each has an answer. A batch that the server answers with an error is
    /// taken apart, so that one result cannot hold up the others; it is left to
    /// [`settle_alone`](Self::settle_alone).
    async fn settle_results(
        &self,
        report: &mut Report,
        results: Vec<Concluded>,
        mut again: bool,
        alone: bool,
    ) {
        let mut batches = vec![results];
        let mut retry = self.store.connection().retry();
        let since = Instant::now();
        while let Some(batch) = batches.pop() {
            // With no job asked for, the token marks nothing.
            match self
                .attempt(&batch, 0, &report.token.clone(), false, again)
                .await
            {
                Ok(mut advanced) => {
                    if again {
                        // Before this lie at most a third of the lock since its last renewal
                        // and half of it for the lost answer.
                        let held = since.elapsed() < self.options.lock_duration / 6;
                        for code in &mut advanced.codes {
                            recognise_removal(held, code);
                        }
                    }
                    let next = std::mem::replace(&mut report.next, Ok(Next::Idle));
                    report.accept(batch, advanced);
                    report.next = next;
                    let left = report.take_not_looked_at();
                    if !left.is_empty() {
                        batches.push(left);
                    }
                    retry.reset();
                    continue;
                }
                Err(CallError::Unknown(_)) => again = true,
                Err(error) if !error.may_pass() => {
                    if matches!(error, CallError::Answered(_)) && batch.len() > 1 {
                        batches.extend(batch.into_iter().map(|result| vec![result]));
                        continue;
                    }
                    let error = Error::from(error);
                    if !alone && !matches!(error, Error::Closed) {
                        let stuck = batch.into_iter().map(|result| Stuck { result, again });
                        report.stuck.extend(stuck);
                        continue;
                    }
                    let lapsed = since.elapsed() > self.options.lock_duration;
                    if lapsed || matches!(error, Error::Closed) {
                        report.abandon(batch, error);
                        continue;
                    }
                }
                Err(_) => {}
            }
            if retry.pause().await {
                batches.insert(0, batch);
            } else {
                report.abandon(batch, Error::Closed);
            }
        }
    }

    /// Finds the jobs that a call started, once its answer is lost.
    pub(super) async fn reclaim(&self, token: &LockToken) -> Vec<JobRecord> {
        let mut retry = self.store.connection().retry();
        loop {
            match self.store.reclaim(token).await {
                Ok(records) => {
                    self.renew(&records, token).await;
                    return records;
                }
                Err(_) if retry.pause().await => {}
                // Closed: the jobs are recovered by others.
                Err(_) => return Vec::new(),
            }
        }
    }

    /// Renews the locks of jobs just found, of which little may be left. A failure is for the
    /// lock renewer to repair.
    async fn renew(&self, records: &[JobRecord], token: &LockToken) {
        let locks: Vec<_> = records
            .iter()
            .map(|record| (record.id.clone(), token.clone()))
            .collect();
        for batch in locks.chunks(ExtendLocks::MAX) {
            let renewal = ExtendLocks {
                duration: self.options.lock_duration,
                locks: batch,
            };
            if let Err(error) = self.store.run(&renewal).await {
                tracing::debug!(%error, "locks of jobs just found were not renewed");
            }
        }
    }
}

/// A repeated result whose job is gone: stored and removed since, as long as the job's lock
/// cannot have expired before (`held`); otherwise it is unknown.
fn recognise_removal(held: bool, code: &mut SettlementReply) {
    if *code == SettlementReply::Refused(crate::error::Refusal::JobMissing) {
        *code = if held {
            SettlementReply::Stored
        } else {
            SettlementReply::Unknown
        };
    }
}

impl Report {
    fn new(token: LockToken, asked: usize) -> Self {
        Self {
            settled: Vec::new(),
            started: Vec::new(),
            token,
            asked,
            next: Ok(Next::Idle),
            backlog: Vec::new(),
            dangling: 0,
            lost_answer: false,
            stuck: Vec::new(),
        }
    }

    fn accept(&mut self, results: Vec<Concluded>, advanced: Advanced) {
        let settled = advanced.codes.into_iter().map(|code| match code {
            SettlementReply::Stored => Settlement::Stored,
            SettlementReply::Unknown => Settlement::Unknown,
            SettlementReply::TryAgain => Settlement::TryAgain,
            SettlementReply::Refused(refusal) => Settlement::Refused(refusal),
        });
        self.settled.extend(results.into_iter().zip(settled));
        self.started.extend(advanced.started);
        self.next = Ok(advanced.next);
        self.dangling += advanced.dangling;
        self.backlog.extend(advanced.backlog);
    }

    /// Takes out the results that were left for another call.
    fn take_not_looked_at(&mut self) -> Vec<Concluded> {
        self.settled
            .extract_if(.., |(_, settled)| matches!(settled, Settlement::TryAgain))
            .map(|(result, _)| result)
            .collect()
    }

    fn abandon(&mut self, results: Vec<Concluded>, error: Error) {
        let error = SharedError::new(error);
        self.settled.extend(
            results
                .into_iter()
                .map(|result| (result, Settlement::Abandoned(error.copy()))),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobId, JobRecord};
    use crate::policy::{Conclusion, Keep};
    use crate::store::LockToken;
    use crate::worker::attempt::Attempt;

    fn result(bytes: usize) -> Concluded {
        let record = JobRecord::new(JobId::existing("7"));
        let attempt = Attempt::new(record, &LockToken::new("worker:1".to_owned()));
        let keep = Keep {
            count: -1,
            age: -1,
            limit: 0,
        };
        let value = "x".repeat(bytes);
        Concluded::new(attempt, Conclusion::Complete { value, keep })
    }

    #[test]
    fn batches_are_bounded_by_count() {
        let mut outbox = Outbox::default();
        for _ in 0..=BATCH {
            outbox.push(result(1));
        }
        assert_eq!(outbox.next_batch().len(), BATCH);
        assert_eq!(outbox.next_batch().len(), 1);
        assert!(outbox.is_empty());
        assert_eq!(outbox.unsettled(), BATCH + 1);
    }

    /// A result that is larger than a batch still leaves, by itself.
    #[test]
    fn batches_are_bounded_by_size() {
        let mut outbox = Outbox::default();
        for bytes in [1, BATCH_BYTES, BATCH_BYTES + 1, 1] {
            outbox.push(result(bytes));
        }
        let sizes: Vec<_> = (0..4).map(|_| outbox.next_batch().len()).collect();
        assert_eq!(sizes, [1, 1, 1, 1]);
    }

    #[test]
    fn results_that_are_sent_again_count_once() {
        let mut outbox = Outbox::default();
        outbox.push(result(1));
        for again in outbox.next_batch() {
            outbox.push_again(again);
        }
        assert_eq!((outbox.len(), outbox.unsettled()), (1, 1));
        outbox.next_batch();
        outbox.settled();
        assert_eq!((outbox.len(), outbox.unsettled()), (0, 0));
    }
}
