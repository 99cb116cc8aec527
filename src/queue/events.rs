//! The queue's event stream from its producers' side: waiting for jobs' ends, publishing events
//! of one's own, trimming.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::job::{JobId, JobOptions};
use crate::json;
use crate::queue::Queue;
use crate::queue::waiting::{End, Ticket};
use crate::store::{PublishEvent, TrimEvents};
use crate::wire::{EventId, is_reserved_event};

/// Longest name of an event, in bytes.
const NAME_MAX: usize = 128;
/// Most fields of an event.
const FIELDS_MAX: usize = 256;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEnd<R> {
    /// It completed with this result.
    Completed(R),
    /// It failed for good.
    Failed {
        /// Why.
        reason: String,
    },
}

impl<D> Queue<D> {
    /// Waits until a job has ended, whoever runs it, for at most `within`. A job that has ended
    /// before and still is there answers at once. A failed attempt that is followed by another
    /// is no end.
    ///
    /// Nothing is polled: all who wait for jobs of a queue through one client share one
    /// connection, which is opened for the first of them and closed some seconds after the last.
    /// The wait goes on through lost connections.
    ///
    /// # Errors
    ///
    /// [`Error::JobMissing`] when there is no such job. That includes one that ended before the
    /// call and was removed by its retention; to add a job whose end is needed, see
    /// [`add_and_wait`](Self::add_and_wait). [`Error::JobRemoved`] when it is removed or cleaned
    /// meanwhile; nobody tells of a drain, nor of a scheduler's iteration that an upsert replaces:
    /// after these, this waits in vain. [`Error::Timeout`],
    /// which says nothing about the job. [`Error::Decode`] when the result is no `R`.
    /// [`Error::Closed`] when the client is closed.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves nothing behind.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::JobEnd;
    /// use std::time::Duration;
    ///
    /// let added = queue.add("resize", &serde_json::json!({ "width": 80 })).await?;
    /// match queue.wait_for::<String>(&added.id, Duration::from_secs(30)).await? {
    ///     JobEnd::Completed(url) => println!("resized: {url}"),
    ///     JobEnd::Failed { reason } => println!("not resized: {reason}"),
    ///     _ => {}
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "wait_until_finished")]
    pub async fn wait_for<R: DeserializeOwned>(
        &self,
        job: &JobId,
        within: Duration,
    ) -> Result<JobEnd<R>> {
        match timeout(within, self.end_of(job)).await {
            Ok(end) => decode(job, end?),
            Err(_) => Err(Error::Timeout(within)),
        }
    }

    /// Adds a job and waits until it has ended. Its end is not missed even if its retention
    /// removes it at once. The job gets a unique id, unless the options have one; of a job that
    /// exists already, this waits for the end of that one.
    ///
    /// # Errors
    ///
    /// As [`add_once`](Self::add_once) and [`wait_for`](Self::wait_for). After
    /// [`Error::Timeout`], the job may have been added. It has been after [`Error::JobRemoved`],
    /// and after [`Error::Incomplete`], which holds whatever else went wrong while waiting, or
    /// that the result is no `R`.
    ///
    /// # Cancel safety
    ///
    /// The job may be added although the call was dropped.
    pub async fn add_and_wait<R: DeserializeOwned>(
        &self,
        name: impl Into<String>,
        data: &D,
        options: JobOptions,
        within: Duration,
    ) -> Result<JobEnd<R>>
    where
        D: Serialize,
    {
        let id = options.id.clone().unwrap_or_else(JobId::unique);
        let options = options.id(id.clone());
        let adding = async {
            // Registered before there is a job: its end may come, and go, with the add's answer.
            let ticket = self.register_placed(&id).await?;
            let added = self.add_with(name, data, options).await?;
            let end = if added.id == id {
                ticket.check();
                self.follow(&id, ticket).await
            } else {
                self.end_of(&added.id).await
            };
            match end.and_then(|end| decode(&added.id, end)) {
                // It was there a moment ago.
                Err(Error::JobMissing(id)) => Err(Error::JobRemoved(id)),
                end => end.map_err(|error| error.after(|| format!("job {} was added", added.id))),
            }
        };
        match timeout(within, adding).await {
            Ok(end) => end,
            Err(_) => Err(Error::Timeout(within)),
        }
    }

    async fn end_of(&self, job: &JobId) -> Result<End> {
        let ticket = self.register(job);
        ticket.check();
        self.follow(job, ticket).await
    }

    fn register(&self, job: &JobId) -> Ticket {
        let shared = &self.shared;
        shared.hub.register(&shared.client, &shared.store, job)
    }

    async fn follow(&self, job: &JobId, mut ticket: Ticket) -> Result<End> {
        loop {
            if let Some(end) = ticket.end().await {
                return end;
            }
            if self.shared.client.closing().is_cancelled() {
                return Err(Error::Closed);
            }
            // The runtime that read for everybody is gone; ours is not.
            ticket = self.register(job);
            ticket.check();
        }
    }

    /// Registers, and waits until whatever the job does is seen.
    async fn register_placed(&self, job: &JobId) -> Result<Ticket> {
        loop {
            let mut ticket = self.register(job);
            match ticket.ready().await {
                Some(ready) => return ready.map(|()| ticket),
                None if self.shared.client.closing().is_cancelled() => return Err(Error::Closed),
                None => {}
            }
        }
    }

    /// Writes an event of one's own to the queue's event stream, for every process that listens:
    /// with [`QueueEvents`](crate::QueueEvents) it is an
    /// [`Unknown`](crate::QueueEvent::Unknown), with BullMQ for Node an event of that name. The
    /// stream keeps as many entries as the queue's [settings](crate::QueueBuilder::max_events)
    /// say. Returns the entry's id.
    ///
    /// `fields` is anything whose JSON form is an object, or `()` for none. Text is written as it
    /// is, other members as JSON, and `null` is left out;
    /// [`EventFields::decode`](crate::EventFields::decode) reads the same type back.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the name is empty, longer than 128 bytes, has control characters,
    /// or has a meaning for BullMQ; when the fields are no object, more than 256, or named
    /// `event` or nothing. [`Error::Encode`]; connection errors. After [`Error::Indeterminate`] a
    /// repetition may write the event twice.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// queue.publish_event("deployed", &serde_json::json!({ "version": "1.2.0" })).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish_event<F: Serialize + ?Sized>(
        &self,
        name: &str,
        fields: &F,
    ) -> Result<EventId> {
        self.publish(name, fields, None).await
    }

    /// As [`publish_event`](Self::publish_event), and the stream keeps only about `keep` entries,
    /// BullMQ's own included. (BullMQ's producer of custom events does so with 1,000.)
    ///
    /// # Errors
    ///
    /// As [`publish_event`](Self::publish_event).
    pub async fn publish_event_keeping<F: Serialize + ?Sized>(
        &self,
        name: &str,
        fields: &F,
        keep: u64,
    ) -> Result<EventId> {
        self.publish(name, fields, Some(keep)).await
    }

    async fn publish<F: Serialize + ?Sized>(
        &self,
        name: &str,
        fields: &F,
        keep: Option<u64>,
    ) -> Result<EventId> {
        check_name(name)?;
        let fields = texts(fields)?;
        let event = PublishEvent {
            name,
            fields: &fields,
            keep,
        };
        self.store().run(&event).await
    }

    /// Cuts the event stream to about `keep` entries, the oldest first, in bounded steps. Redis
    /// removes whole blocks of entries, so that up to about a hundred more may stay. Returns how
    /// many entries are gone.
    ///
    /// # Errors
    ///
    /// Connection errors, in an [`Error::Incomplete`] when some entries are gone. Safe to repeat.
    pub async fn trim_events(&self, keep: u64) -> Result<u64> {
        let mut gone = 0;
        loop {
            match self.store().run(&TrimEvents { keep }).await {
                Ok(0) => return Ok(gone),
                Ok(step) => gone += step,
                Err(error) if gone == 0 => return Err(error),
                Err(error) => return Err(error.after(|| format!("{gone} entries are gone"))),
            }
        }
    }
}

fn decode<R: DeserializeOwned>(job: &JobId, end: End) -> Result<JobEnd<R>> {
    match end {
        End::Completed(value) => match json::read(&value) {
            Ok(value) => Ok(JobEnd::Completed(value)),
            Err(source) => Err(Error::Decode {
                what: format!("returnvalue of job {job}"),
                source: source.into(),
            }),
        },
        End::Failed(reason) => Ok(JobEnd::Failed { reason }),
        End::Removed => Err(Error::JobRemoved(job.clone())),
    }
}

fn check_name(name: &str) -> Result<()> {
    const FIELD: &str = "event name";
    if name.is_empty() {
        return Err(Error::invalid(FIELD, "must not be empty"));
    }
    if name.len() > NAME_MAX {
        return Err(Error::invalid(
            FIELD,
            format!("must not be longer than {NAME_MAX} bytes"),
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid(FIELD, "must not contain control characters"));
    }
    if is_reserved_event(name) {
        return Err(Error::invalid(
            FIELD,
            format!("{name} has a meaning for BullMQ"),
        ));
    }
    Ok(())
}

/// Writes the members of an object as texts.
fn texts<F: Serialize + ?Sized>(fields: &F) -> Result<Vec<(String, String)>> {
    const FIELD: &str = "event fields";
    let value = serde_json::to_value(fields).map_err(|source| Error::Encode {
        what: FIELD,
        source,
    })?;
    let members = match value {
        Value::Object(members) => members,
        Value::Null => return Ok(Vec::new()),
        _ => return Err(Error::invalid(FIELD, "must be an object")),
    };
    if members.len() > FIELDS_MAX {
        return Err(Error::invalid(
            FIELD,
            format!("must not be more than {FIELDS_MAX}"),
        ));
    }
    let mut texts = Vec::with_capacity(members.len());
    for (name, value) in members {
        if name.is_empty() || name == "event" {
            return Err(Error::invalid(FIELD, "must not be named event or nothing"));
        }
        match value {
            Value::Null => {}
            Value::String(text) => texts.push((name, text)),
            other => texts.push((name, other.to_string())),
        }
    }
    Ok(texts)
}
