//! Lists that are read by index, and what is stored beside them: logs and metrics. Hashes of the queue.

use crate::client::Repeat;
use crate::error::Result;
use crate::job::{JobId, JobState};
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};

/// How many rows are read at once.
const ROWS_MAX: i64 = 1_000;

/// A queue's numbers of ended jobs, as they are stored.
#[derive(Debug, Default)]
pub(crate) struct StoredMetrics {
    pub(crate) count: Option<String>,
    pub(crate) last_minute: Option<String>,
    pub(crate) last_count: Option<String>,
    pub(crate) points: Vec<String>,
    pub(crate) total_points: u64,
}

impl Store {
    /// Reads rows of a list from `start` to `end`, indexes as in LRANGE, and how many there are in
    /// all; the newest are at the end. More than a thousand rows are not read at one moment.
    async fn rows(
        &self,
        key: &[u8],
        (start, end): (i64, i64),
        what: &str,
    ) -> Result<(Vec<String>, u64)> {
        let command = Command::new("LLEN").arg(key);
        let length = self.connection.request(command, Repeat::Safe).await?;
        let length = reply::int(&length, what)?;
        let index = |at: i64| {
            if at < 0 {
                at.saturating_add(length)
            } else {
                at
            }
        };
        let (mut from, to) = (index(start).max(0), index(end).min(length - 1));
        let mut rows = Vec::new();
        while from <= to {
            let last = to.min(from.saturating_add(ROWS_MAX - 1));
            let command = Command::new("LRANGE").arg(key).arg(from).arg(last);
            let answer = self.connection.request(command, Repeat::Safe).await?;
            rows.extend(reply::texts(answer, what)?);
            from = last + 1;
        }
        Ok((rows, u64::try_from(length).unwrap_or(0)))
    }

    /// Reads rows of a job's log, oldest first; indexes as in LRANGE.
    pub(crate) async fn logs(&self, id: &JobId, range: (i64, i64)) -> Result<(Vec<String>, u64)> {
        self.rows(&self.keys.logs(id), range, "the log of a job")
            .await
    }

    /// Reads the counts of ended jobs per minute, newest first; indexes as in LRANGE.
    pub(crate) async fn metrics(
        &self,
        state: JobState,
        range: (i64, i64),
    ) -> Result<StoredMetrics> {
        const WHAT: &str = "the metrics of a queue";
        let key = self.keys.key(&format!("metrics:{state}"));
        let command = Command::new("HMGET")
            .arg(&key)
            .args(["count", "prevTS", "prevCount"]);
        let values = self.connection.request(command, Repeat::Safe).await?;
        let mut values = reply::items(values, WHAT)?
            .into_iter()
            .map(|value| reply::text(value, WHAT).ok());
        let data = format!("{key}:data");
        let (points, total_points) = self.rows(data.as_bytes(), range, WHAT).await?;
        Ok(StoredMetrics {
            count: values.next().flatten(),
            last_minute: values.next().flatten(),
            last_count: values.next().flatten(),
            points,
            total_points,
        })
    }

    /// Reads the queue's settings as they are stored.
    pub(crate) async fn meta(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let command = Command::new("HGETALL").arg(self.keys.key("meta"));
        let fields = self.connection.request(command, Repeat::Safe).await?;
        reply::fields(fields, "the settings of a queue")
    }

    /// Looks how a job ended at one moment: whether it exists, the state that it ended in, and its
    /// result or reason.
    pub(crate) async fn end(&self, id: &JobId) -> Result<(bool, Option<(JobState, Vec<u8>)>)> {
        const WHAT: &str = "the end of a job";
        let job = self.keys.job(id);
        let mut batch = Batch::new();
        batch.push(Command::new("EXISTS").arg(&job));
        for state in [JobState::Completed, JobState::Failed] {
            let key = self.keys.key(state.as_str());
            batch.push(Command::new("ZSCORE").arg(key).arg(id.as_bytes()));
        }
        let end = Command::new("HMGET").arg(&job);
        batch.push(end.args(["returnvalue", "failedReason"]));
        let mut answers = self.snapshot(&batch, WHAT).await?.into_iter();
        let mut answer = || answers.next().ok_or_else(|| reply::unexpected(WHAT));
        let exists = reply::int(&answer()?, WHAT)? == 1;
        let (completed, failed) = (answer()? != Value::Nil, answer()? != Value::Nil);
        let mut values = reply::items(answer()?, WHAT)?.into_iter();
        let (result, reason) = (values.next(), values.next());
        let (state, value) = match (completed, failed) {
            (true, _) => (JobState::Completed, result),
            (_, true) => (JobState::Failed, reason),
            _ => return Ok((exists, None)),
        };
        let value = value.and_then(Value::into_option);
        let value = value.map_or(Ok(Vec::new()), |value| reply::bytes(value, WHAT))?;
        Ok((exists, Some((state, value))))
    }
}
