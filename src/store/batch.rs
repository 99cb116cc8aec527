//! What bounds a call that carries jobs.

use std::collections::VecDeque;

/// How many jobs one call stores at most: about a millisecond of the server's time.
pub(crate) const BATCH_JOBS: usize = 100;
/// How many bytes of jobs one call carries at most.
pub(crate) const BATCH_BYTES: usize = 1 << 20;

/// Takes the next call's worth from the front of `waiting`: at least one, at most a batch.
pub(crate) fn cut<T>(waiting: &mut VecDeque<T>, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut bytes = 0_usize;
    let mut count = 0;
    for item in waiting.iter().take(BATCH_JOBS) {
        bytes = bytes.saturating_add(size(item));
        if count > 0 && bytes > BATCH_BYTES {
            break;
        }
        count += 1;
    }
    waiting.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Batches keep the order, lose nothing, and are bounded.
        #[test]
        fn batches_are_bounded_and_complete(sizes in proptest::collection::vec(0usize..(2 << 20), 0..500)) {
            let mut waiting = VecDeque::from(sizes.clone());
            let mut seen = Vec::new();
            while !waiting.is_empty() {
                let batch = cut(&mut waiting, |size| *size);
                prop_assert!(!batch.is_empty() && batch.len() <= BATCH_JOBS);
                prop_assert!(batch.len() == 1 || batch.iter().sum::<usize>() <= BATCH_BYTES);
                seen.extend(batch);
            }
            prop_assert_eq!(seen, sizes);
        }
    }
}
