//! Results on their way to Redis.

use crate::worker::attempt::Concluded;
use crate::worker::call::{BATCH, BATCH_BYTES};

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
