//! Reading job schedulers.

use std::collections::HashSet;

use super::places::{HASHES_MAX, IDS_MAX, Member, Ordered};
use crate::client::Repeat;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::SchedulerRecord;
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};
use crate::wire;

const WHAT: &str = "schedulers";

impl Store {
    /// Reads a scheduler.
    pub(crate) async fn scheduler(&self, id: &str) -> Result<Option<SchedulerRecord>> {
        const WHAT: &str = "a scheduler";
        let mut batch = Batch::new();
        batch.push(Command::new("ZSCORE").arg(self.keys.key("repeat")).arg(id));
        batch.push(Command::new("HGETALL").arg(self.keys.scheduler(id)));
        let mut answers = self.snapshot(&batch, WHAT).await?.into_iter();
        let (Some(occurrence), Some(fields)) = (answers.next(), answers.next()) else {
            return Err(reply::unexpected(WHAT));
        };
        if occurrence == Value::Nil {
            return Ok(None);
        }
        let fields = reply::fields(fields, WHAT)?;
        let occurrence = reply::score(&occurrence, WHAT)?;
        Ok(Some(wire::decode_scheduler(
            id.to_owned(),
            occurrence,
            fields,
        )))
    }

    /// Reads schedulers by their occurrences, a thousand at one moment; indexes as in LRANGE.
    pub(crate) async fn schedulers(
        &self,
        start: i64,
        end: i64,
        latest_first: bool,
    ) -> Result<Vec<SchedulerRecord>> {
        let listed = self.scheduler_ids(start, end, latest_first).await?;
        let mut found = Vec::with_capacity(listed.len());
        for listed in listed.chunks(HASHES_MAX) {
            let mut batch = Batch::new();
            for (id, _) in listed {
                let key = self.keys.scheduler(id.as_ref());
                batch.push(Command::new("HGETALL").arg(key));
            }
            let definitions = self.connection.pipeline(&batch, Repeat::Safe).await?;
            if definitions.len() != listed.len() {
                return Err(reply::unexpected(WHAT));
            }
            for ((id, score), definition) in listed.iter().zip(definitions) {
                #[expect(clippy::cast_possible_truncation, reason = "a time in milliseconds")]
                let occurrence = Timestamp::from_millis(*score as i64);
                found.push(match definition {
                    Ok(fields) => {
                        let fields = reply::fields(fields, WHAT)?;
                        wire::decode_scheduler(id.to_string(), occurrence, fields)
                    }
                    // One key of the wrong type must not hide the others.
                    Err(crate::error::Error::Server(error)) => {
                        unreadable(id.to_string(), occurrence, &error)
                    }
                    Err(error) => return Err(error),
                });
            }
        }
        Ok(found)
    }

    /// Reads the ids of schedulers, and when they are due.
    async fn scheduler_ids(&self, start: i64, end: i64, latest_first: bool) -> Result<Vec<Member>> {
        let total = i64::try_from(self.scheduler_count().await?).unwrap_or(i64::MAX);
        let index = |at: i64| if at < 0 { total.saturating_add(at) } else { at };
        let (from, to) = (index(start).max(0), index(end).min(total - 1));
        let numbers =
            |(from, to): (i64, i64)| Some((u64::try_from(from).ok()?, u64::try_from(to).ok()?));
        let Some((from, to)) = numbers((from, to)).filter(|(from, to)| from <= to) else {
            return Ok(Vec::new());
        };
        let mut set = Ordered {
            key: self.keys.key("repeat"),
            ascending: !latest_first,
        };
        if to - from < IDS_MAX {
            return self.ranked(&set, (from, to)).await;
        }
        // The earliest first: one that is advanced meanwhile comes again, and none is passed over.
        let last = total.unsigned_abs().saturating_sub(1);
        let (from, to) = if latest_first {
            (last.saturating_sub(to), last.saturating_sub(from))
        } else {
            (from, to)
        };
        set.ascending = true;
        let mut listed = self.ranked(&set, (from, from + IDS_MAX - 1)).await?;
        let mut left = (to - from + 1).saturating_sub(listed.len() as u64);
        while let Some(last) = listed.last().filter(|_| left > 0).cloned() {
            let page = self.members_behind(&set, &last, left.min(IDS_MAX)).await?;
            if page.is_empty() {
                break;
            }
            left = left.saturating_sub(page.len() as u64);
            listed.extend(page);
        }
        listed.reverse();
        let mut seen = HashSet::new();
        listed.retain(|(id, _)| seen.insert(id.clone()));
        if !latest_first {
            listed.reverse();
        }
        Ok(listed)
    }

    /// Counts the schedulers.
    pub(crate) async fn scheduler_count(&self) -> Result<u64> {
        let command = Command::new("ZCARD").arg(self.keys.key("repeat"));
        let count = self.connection.request(command, Repeat::Safe).await?;
        Ok(u64::try_from(reply::int(&count, "ZCARD")?).unwrap_or(0))
    }
}

fn unreadable(id: String, occurrence: Timestamp, error: &str) -> SchedulerRecord {
    let mut record = wire::decode_scheduler(id, occurrence, []);
    record.problems = vec![format!("definition: {error}")];
    record
}
