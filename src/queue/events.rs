//! Publishing custom events and trimming the event stream.

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::store::{PublishEvent, TrimEvents};
use crate::telemetry::Operation;
use crate::wire::{EventId, is_reserved_event};

/// Longest name of an event, in bytes.
const NAME_MAX: usize = 128;
/// Most fields of an event.
const FIELDS_MAX: usize = 256;

impl<D> Queue<D> {
    /// Publishes a custom event to the queue's event stream, for every process that listens:
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
    /// or has a meaning for BullMQ; when the fields are not an object, more than 256, or named
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
    /// many entries were deleted.
    ///
    /// # Errors
    ///
    /// Connection errors, in an [`Error::Incomplete`] when some entries were deleted. Safe to repeat.
    pub async fn trim_events(&self, keep: u64) -> Result<u64> {
        let span = Operation::new(self.name().as_str(), "trimEvents")
            .number("bullmq.queue.event.max.length", keep);
        span.around(self.trim_all_events(keep)).await
    }

    async fn trim_all_events(&self, keep: u64) -> Result<u64> {
        let mut gone = 0;
        loop {
            match self.store().run(&TrimEvents { keep }).await {
                Ok(0) => return Ok(gone),
                Ok(step) => gone += step,
                Err(error) if gone == 0 => return Err(error),
                Err(error) => return Err(error.after(|| format!("{gone} entries were deleted"))),
            }
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    const FIELD: &str = "event name";
    if name.is_empty() {
        return Err(Error::invalid(FIELD, "must not be empty"));
    }
    if name.len() > NAME_MAX {
        return Err(Error::invalid_value(
            FIELD,
            name,
            format!("must not be longer than {NAME_MAX} bytes"),
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid_value(
            FIELD,
            name,
            "must not contain control characters",
        ));
    }
    if is_reserved_event(name) {
        return Err(Error::invalid_value(
            FIELD,
            name,
            "has a meaning for BullMQ",
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
