//! Reading job schedulers.

use crate::client::Repeat;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::SchedulerRecord;
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};
use crate::wire;

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

    /// Reads schedulers by their occurrences, in two round trips however many there are; indexes as in
    /// LRANGE.
    pub(crate) async fn schedulers(
        &self,
        start: i64,
        end: i64,
        latest_first: bool,
    ) -> Result<Vec<SchedulerRecord>> {
        const WHAT: &str = "schedulers";
        let command = Command::new(if latest_first { "ZREVRANGE" } else { "ZRANGE" })
            .arg(self.keys.key("repeat"))
            .arg(start)
            .arg(end)
            .arg("WITHSCORES");
        let members = self.connection.request(command, Repeat::Safe).await?;
        let mut members = reply::items(members, WHAT)?.into_iter();
        let mut listed = Vec::new();
        let mut batch = Batch::new();
        while let (Some(id), Some(occurrence)) = (members.next(), members.next()) {
            let id = reply::text(id, WHAT)?;
            batch.push(Command::new("HGETALL").arg(self.keys.scheduler(&id)));
            listed.push((id, reply::score(&occurrence, WHAT)?));
        }
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let definitions = self.connection.pipeline(&batch, Repeat::Safe).await?;
        if definitions.len() != listed.len() {
            return Err(reply::unexpected(WHAT));
        }
        listed
            .into_iter()
            .zip(definitions)
            .map(|((id, occurrence), definition)| match definition {
                Ok(fields) => {
                    let fields = reply::fields(fields, WHAT)?;
                    Ok(wire::decode_scheduler(id, occurrence, fields))
                }
                // One key of the wrong type must not hide the others.
                Err(crate::error::Error::Server(error)) => Ok(unreadable(id, occurrence, &error)),
                Err(error) => Err(error),
            })
            .collect()
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
