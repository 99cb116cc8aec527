//! Counting jobs.

use super::places::{Place, PlaceSize};
use crate::client::Repeat;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::resp::{Batch, Command};
use crate::store::{Store, reply};

const WHAT: &str = "the counts of a queue";

/// How many parts of a prioritized job's score are one priority (`docs/protocol.md#scores`).
const PRIORITY: u64 = 1 << 32;
/// How many parts of a delayed job's score are a millisecond.
const MILLI: i64 = 4096;

/// How many jobs are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) waiting: u64,
    /// Jobs that a BullMQ 5 client parked while it had the queue paused.
    pub(crate) parked: u64,
    pub(crate) active: u64,
    pub(crate) prioritized: u64,
    pub(crate) delayed: u64,
    pub(crate) waiting_children: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
}

impl Store {
    /// Counts the jobs of each state at one moment.
    pub(crate) async fn counts(&self) -> Result<Counts> {
        const PLACES: [Place; 8] = [
            Place::Wait,
            Place::Paused,
            Place::Active,
            Place::Prioritized,
            Place::Delayed,
            Place::WaitingChildren,
            Place::Completed,
            Place::Failed,
        ];
        let sizes = self.sizes(&PLACES).await?;
        let jobs: Vec<u64> = sizes.iter().map(|size| size.jobs).collect();
        let [
            waiting,
            parked,
            active,
            prioritized,
            delayed,
            waiting_children,
            completed,
            failed,
        ] = *jobs
        else {
            return Err(reply::unexpected(WHAT));
        };
        Ok(Counts {
            waiting,
            parked,
            active,
            prioritized,
            delayed,
            waiting_children,
            completed,
            failed,
        })
    }

    /// Counts the jobs that are ready to run with each of these priorities; 0 is none.
    pub(crate) async fn counts_by_priority(&self, priorities: &[u32]) -> Result<Vec<u64>> {
        let mut batch = Batch::new();
        for place in [Place::Wait, Place::Paused] {
            let key = self.keys.key(place.suffix());
            batch.push(Command::new("LINDEX").arg(&key).arg(-1));
            batch.push(Command::new("LLEN").arg(&key));
        }
        for priority in priorities {
            let first = u64::from(*priority) * PRIORITY;
            batch.push(
                Command::new("ZCOUNT")
                    .arg(self.keys.key(Place::Prioritized.suffix()))
                    .arg(first)
                    .arg(first + PRIORITY - 1),
            );
        }
        let answers = self.snapshot(&batch, WHAT).await?;
        let [tail, wait, parked_tail, parked, counts @ ..] = answers.as_slice() else {
            return Err(reply::unexpected(WHAT));
        };
        let without = PlaceSize::read(wait, Some(tail), WHAT)?.jobs
            + PlaceSize::read(parked, Some(parked_tail), WHAT)?.jobs;
        priorities
            .iter()
            .zip(counts)
            .map(|(priority, count)| match priority {
                0 => Ok(without),
                _ => Ok(u64::try_from(reply::int(count, WHAT)?).unwrap_or(0)),
            })
            .collect()
    }

    /// Counts the delayed jobs that are due before a time.
    pub(crate) async fn delayed_before(&self, time: Timestamp) -> Result<u64> {
        let limit = time.as_millis().saturating_mul(MILLI).saturating_sub(1);
        let command = Command::new("ZCOUNT")
            .arg(self.keys.key(Place::Delayed.suffix()))
            .arg("-inf")
            .arg(limit);
        let count = self.connection.request(command, Repeat::Safe).await?;
        Ok(u64::try_from(reply::int(&count, WHAT)?).unwrap_or(0))
    }
}
