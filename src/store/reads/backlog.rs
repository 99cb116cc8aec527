//! How much work a queue has, for monitoring.

use crate::client::Repeat;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, JobRecord};
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};
use crate::wire;

const WHAT: &str = "the backlog of a queue";

/// How many parts of a delayed job's score make a millisecond (`docs/protocol.md#scores`).
const PARTS: f64 = 4096.0;

/// The fields that say since when a job waits.
const FIELDS: [&str; 4] = ["timestamp", "delay", "opts", "processedOn"];

/// The jobs that have waited longest, judged by the order of the queue.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// The next jobs to run: of those without a priority, and of those with one.
    pub(crate) next: Vec<JobRecord>,
    /// When the earliest delayed job is due.
    pub(crate) due: Option<Timestamp>,
}

impl Store {
    /// Reads the jobs that run next, without their data.
    pub(crate) async fn waiting(&self) -> Result<Waiting> {
        let mut batch = Batch::new();
        batch.push(Command::new("LINDEX").arg(self.keys.key("wait")).arg(-1));
        for set in ["prioritized", "delayed"] {
            let key = self.keys.key(set);
            batch.push(
                Command::new("ZRANGE")
                    .arg(key)
                    .arg(0)
                    .arg(0)
                    .arg("WITHSCORES"),
            );
        }
        let answers = self.connection.pipeline(&batch, Repeat::Safe).await?;
        let mut answers = answers.into_iter();
        let mut answer = || {
            answers
                .next()
                .unwrap_or_else(|| Err(reply::unexpected(WHAT)))
        };
        let (waiting, prioritized, delayed) = (answer()?, answer()?, answer()?);
        let mut waited = Waiting::default();
        let waiting = (waiting != Value::Nil).then_some(waiting);
        let prioritized = first(prioritized)?.map(|(id, _)| id);
        for id in [waiting, prioritized].into_iter().flatten() {
            let id = reply::id(id, WHAT)?;
            waited.next.extend(self.times(id).await?);
        }
        if let Some((_, score)) = first(delayed)? {
            waited.due = due(score);
        }
        Ok(waited)
    }

    /// Reads when a job was added and was to run; `None` if the job has just been removed, or is none.
    async fn times(&self, id: JobId) -> Result<Option<JobRecord>> {
        let command = Command::new("HMGET").arg(self.keys.job(&id)).args(FIELDS);
        let value = self.connection.request(command, Repeat::Safe).await;
        let value = match value.map_err(Error::from) {
            // A key of another type is no job, and must not hide the backlog.
            Err(Error::Server(_)) => return Ok(None),
            value => value?,
        };
        let mut fields = Vec::new();
        for (name, value) in FIELDS.iter().zip(reply::items(value, WHAT)?) {
            if let Value::BulkString(value) = value {
                fields.push((name.as_bytes().to_vec(), value));
            }
        }
        Ok((!fields.is_empty()).then(|| wire::decode_record(id, fields)))
    }
}

/// The first member of a sorted set and its score, however the protocol nests them.
fn first(answer: Value) -> Result<Option<(Value, Value)>> {
    let mut items = reply::items(answer, WHAT)?.into_iter();
    match (items.next(), items.next()) {
        (None, _) => Ok(None),
        (Some(Value::Array(pair)), _) => {
            let mut pair = pair.into_iter();
            Ok(pair.next().zip(pair.next()))
        }
        (Some(member), Some(score)) => Ok(Some((member, score))),
        (Some(_), None) => Err(reply::unexpected(WHAT)),
    }
}

/// The time in a delayed job's score.
fn due(score: Value) -> Option<Timestamp> {
    let score = match score {
        Value::Double(score) => score,
        other => reply::text(other, WHAT).ok()?.parse::<f64>().ok()?,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a time, in whole milliseconds"
    )]
    let millis = (score / PARTS).floor() as i64;
    Some(Timestamp::from_millis(millis))
}
