//! What is stored about a job scheduler: its definition, and `opts.repeat` of its iterations
//! (`docs/protocol.md#scheduler-keys`).

mod definition;
mod iteration;

use std::time::Duration;

pub(crate) use definition::{decode_scheduler, definition_fields, is_legacy_key};
pub(crate) use iteration::{Iteration, Repetition, first_iteration};

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn length(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;

    proptest! {
        /// No content of a definition or of options makes decoding panic.
        #[test]
        fn anything_decodes_or_is_named(
            fields in proptest::collection::vec(
                ("(name|every|pattern|offset|ic|limit|opts|endDate|data|xyz)",
                 proptest::collection::vec(any::<u8>(), 0..20)), 0..8),
            options in ".{0,60}",
        ) {
            let fields = fields.into_iter().map(|(name, value)| (name.into_bytes(), value));
            let record = decode_scheduler("s".to_owned(), Timestamp::default(), fields);
            Repetition::of_definition(&record).ok();
            Repetition::of_iteration(&options).ok();
        }
    }
}
