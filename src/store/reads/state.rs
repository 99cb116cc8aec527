//! Finding the state of a job (`docs/protocol.md#job-states`).

use super::places::{Place, Window};
use crate::client::Repeat;
use crate::error::Result;
use crate::job::{JobId, JobState};
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};

const WHAT: &str = "the state of a job";

/// The sets that have jobs, with the state of these.
pub(super) const SETS: [(&str, JobState); 5] = [
    ("completed", JobState::Completed),
    ("failed", JobState::Failed),
    ("delayed", JobState::Delayed),
    ("prioritized", JobState::Prioritized),
    ("waiting-children", JobState::WaitingChildren),
];
const LISTS: [(Place, JobState); 3] = [
    (Place::Active, JobState::Active),
    (Place::Wait, JobState::Waiting),
    (Place::Paused, JobState::Waiting),
];

/// How much of each end of a list is searched at once: a fraction of a millisecond.
const ENDS: u64 = 5_000;
/// How often a job that moves is looked for before a list is searched as a whole.
const TRIES: usize = 2;

/// What a look at the sets and at the ends of the lists shows.
#[derive(Debug)]
enum Look {
    Found(Option<JobState>),
    /// It may be in the middle of one of these lists, of these lengths.
    Unknown {
        exists: bool,
        long: Vec<(Place, JobState, u64)>,
    },
}

impl Store {
    /// Finds the state of a job by the place that holds it. A job deep within a list of many thousands is found page by
    /// page, so that the search holds nobody up.
    pub(crate) async fn state(&self, id: &JobId) -> Result<Option<JobState>> {
        for _ in 0..TRIES {
            let (exists, long) = match self.look(id, Some(ENDS)).await? {
                Look::Found(state) => return Ok(state),
                Look::Unknown { exists, long } => (exists, long),
            };
            for (place, state, length) in long {
                if self.is_within(id, place, length).await? {
                    return Ok(Some(state));
                }
            }
            if !exists {
                return Ok(None);
            }
        }
        // There is a job, and it is nowhere or never where it is looked for: only one moment tells.
        match self.look(id, None).await? {
            Look::Found(state) => Ok(state),
            Look::Unknown { .. } => Ok(None),
        }
    }

    /// Looks at all sets, and at so much of both ends of the lists, at one moment; `None`: at all of them.
    async fn look(&self, id: &JobId, ends: Option<u64>) -> Result<Look> {
        let ranks: &[i64] = if ends.is_some() { &[1, -1] } else { &[1] };
        let mut batch = Batch::new();
        batch.push(Command::new("EXISTS").arg(self.keys.job(id)));
        for (set, _) in SETS {
            let key = self.keys.key(set);
            batch.push(Command::new("ZSCORE").arg(key).arg(id.as_bytes()));
        }
        for (list, _) in LISTS {
            let key = self.keys.key(list.suffix());
            batch.push(Command::new("LLEN").arg(&key));
            for rank in ranks {
                let search = Command::new("LPOS").arg(&key).arg(id.as_bytes());
                let search = search.arg("RANK").arg(*rank);
                batch.push(match ends {
                    Some(ends) => search.arg("MAXLEN").arg(ends),
                    None => search,
                });
            }
        }
        let mut answers = self.snapshot(&batch, WHAT).await?.into_iter();
        let mut answer = || answers.next().ok_or_else(|| reply::unexpected(WHAT));
        let exists = reply::int(&answer()?, WHAT)? == 1;
        for (_, state) in SETS {
            if answer()? != Value::Nil {
                return Ok(Look::Found(Some(state)));
            }
        }
        let mut long = Vec::new();
        for (list, state) in LISTS {
            let length = u64::try_from(reply::int(&answer()?, WHAT)?).unwrap_or(0);
            let mut found = false;
            for _ in ranks {
                found |= answer()? != Value::Nil;
            }
            if found {
                return Ok(Look::Found(Some(state)));
            }
            if ends.is_some_and(|ends| length > 2 * ends) {
                long.push((list, state, length));
            }
        }
        Ok(if long.is_empty() {
            Look::Found(None)
        } else {
            Look::Unknown { exists, long }
        })
    }

    /// Looks for an id between the ends of a list, from the head on: what others take from the tail and add in front
    /// moves nothing past the search.
    async fn is_within(&self, id: &JobId, place: Place, length: u64) -> Result<bool> {
        let mut from = ENDS;
        while from < length {
            let windows = Window {
                place,
                from,
                to: from + ENDS - 1,
                ascending: false,
            };
            let mut batch = Batch::new();
            let mut count = 0;
            for piece in windows.pieces() {
                batch.push(piece.command(self));
                count += 1;
            }
            let answers = self.connection.pipeline(&batch, Repeat::Safe).await?;
            if answers.len() != count {
                return Err(reply::unexpected(WHAT));
            }
            for answer in answers {
                for found in reply::items(answer?, WHAT)? {
                    if reply::bytes(found, WHAT)? == id.as_bytes() {
                        return Ok(true);
                    }
                }
            }
            from += ENDS;
        }
        Ok(false)
    }
}
