//! Reading a queue's event stream without missing an entry unnoticed (`docs/protocol.md#events`).

use std::time::Duration;

use crate::client::{BlockingConnection, Client, Repeat, Throttle};
use crate::error::{Chain, Error, Result};
use crate::resp::{Command, Value};
use crate::store::{Store, reply};
use crate::wire::{EventFields, EventId};

/// The longest blocking read; it bounds how long a connection that died silently goes unnoticed.
const READ_MAX: Duration = Duration::from_secs(3);
/// The most entries of one read, and of the first one, when their size is not known yet.
const BATCH: usize = 256;
const FIRST_BATCH: usize = 32;
/// About how many bytes one read should bring, by the size of the entries of the one before.
const BATCH_BYTES: usize = 1 << 20;

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawEvent {
    pub(crate) id: EventId,
    pub(crate) fields: EventFields,
}

/// Entries that were removed before they could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamGap {
    /// Where the reader continues.
    pub(crate) at: EventId,
    /// How many entries are missing, where the server knows.
    pub(crate) missed: Option<u64>,
}

/// What one read brought; the gap, if any, is before the entries.
#[derive(Debug, Default)]
pub(crate) struct EventBatch {
    pub(crate) gap: Option<StreamGap>,
    pub(crate) events: Vec<RawEvent>,
}

/// What the server knows about a stream.
#[derive(Debug, Default, PartialEq)]
struct StreamState {
    exists: bool,
    /// The newest id that was assigned.
    last: EventId,
    /// The oldest entry that is there.
    first: Option<EventId>,
    /// How many entries have gone; unknown before Redis 7.
    gone: Option<u64>,
    /// How many entries there have been.
    added: Option<u64>,
}

/// Where a reader of the stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamStart {
    Now,
    After(EventId),
}

/// A place in a queue's event stream, and the connection that waits there.
#[derive(Debug)]
pub(crate) struct EventReader {
    store: Store,
    connection: BlockingConnection,
    key: String,
    position: EventId,
    /// How many entries there had been up to the position, where that is known.
    ordinal: Option<u64>,
    count: usize,
    refused: Throttle,
}

impl EventReader {
    /// Finds the position to begin at. Everything after it is read, however late.
    pub(crate) async fn open(client: &Client, store: &Store, start: StreamStart) -> Result<Self> {
        let (position, ordinal) = match start {
            StreamStart::After(id) => (id, None),
            StreamStart::Now => {
                let state = store.stream_state().await?;
                (state.last, state.added)
            }
        };
        Ok(Self {
            connection: client.blocking(Some(&store.keys().events_client_name()), store.slot()),
            key: store.keys().key("events"),
            store: store.clone(),
            position,
            ordinal,
            count: FIRST_BATCH,
            refused: Throttle::default(),
        })
    }

    /// Returns the id of the last entry that was read, or where reading began.
    pub(crate) fn position(&self) -> EventId {
        self.position
    }

    /// Waits for entries, for at most a few seconds: the batch may be empty. Reconnects by itself
    /// after a lost connection.
    ///
    /// # Errors
    ///
    /// Only errors that are not transient.
    ///
    /// # Cancel safety
    ///
    /// Entries that a dropped call was about to return are read again.
    pub(crate) async fn read(&mut self) -> Result<EventBatch> {
        loop {
            let error = match self.read_once().await {
                Ok(batch) => return Ok(batch),
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            // Lost connections have been logged, and the next read waits before it connects.
            if let Error::Overloaded(_) = error {
                if let Some(suppressed) = self.refused.admit() {
                    let error = Chain(&error);
                    tracing::warn!(key = self.key, %error, suppressed, "events cannot be read");
                }
                self.connection.rest().await;
            }
        }
    }

    async fn read_once(&mut self) -> Result<EventBatch> {
        let after = self.position.to_string();
        let reading = self
            .connection
            .xread(&self.key, &after, self.count, READ_MAX);
        let [before, fresh, behind] = Box::pin(reading).await?;
        // Streams are trimmed from their old end: an entry up to here guarantees that everything after it is there.
        // An idle reader checks too: a new stream may have ids that it will never reach.
        let before = !reply::items(before, "XRANGE")?.is_empty();
        let behind = !reply::items(behind, "XRANGE")?.is_empty();
        let events = fresh_events(fresh)?;
        let begins = self.position == EventId::START && self.ordinal.is_none();
        let gap = if before && behind && !events.is_empty() || begins {
            None
        } else {
            let state = self.store.stream_state().await?;
            self.find_gap(&state, &events, (before, behind))
        };
        if let Some(last) = events.last() {
            self.position = last.id;
            let read = u64::try_from(events.len()).unwrap_or(u64::MAX);
            self.ordinal = self.ordinal.map(|ordinal| ordinal.saturating_add(read));
            let bytes: usize = events.iter().map(|event| event.fields.size()).sum();
            let each = (bytes / events.len()).max(1);
            self.count = (BATCH_BYTES / each).clamp(1, BATCH);
        }
        Ok(EventBatch { gap, events })
    }

    /// Finds out whether entries were removed unread, where no entry up to the position guarantees that
    /// for them: there was one `before` the read, or one `behind` it when it ended. Moves the
    /// position if no entry would ever come after it.
    fn find_gap(
        &mut self,
        state: &StreamState,
        events: &[RawEvent],
        (before, behind): (bool, bool),
    ) -> Option<StreamGap> {
        if !state.exists {
            let lost = self.position != EventId::START && events.is_empty();
            if events.is_empty() {
                // Everything written from now on is new, even by a server whose clock is behind.
                self.position = EventId::START;
                self.ordinal = Some(0);
            }
            return lost.then_some(self.gap(None));
        }
        if state.last < self.position {
            // Another stream has taken its place, and its ids are smaller.
            self.position = EventId::START;
            self.ordinal = state.gone;
            return Some(self.gap(None));
        }
        let read = u64::try_from(events.len()).unwrap_or(u64::MAX);
        if let (Some(ordinal), Some(added), Some(gone)) = (self.ordinal, state.added, state.gone)
            && !behind
            && (added < ordinal.saturating_add(read) || gone == 0 && ordinal > 0)
        {
            // Another stream: it has had fewer entries, or has them all and not those we know.
            self.ordinal = Some(gone);
            return Some(self.gap(None));
        }
        if state.last == self.position {
            self.ordinal = state.added;
            return None;
        }
        if before || events.is_empty() && state.first.is_some() {
            // What was trimmed had been read; or there are entries that the next read sees.
            return None;
        }
        let missed = match (state.gone, self.ordinal) {
            (Some(gone), Some(ordinal)) => Some(gone.saturating_sub(ordinal)),
            _ => None,
        };
        if missed == Some(0) || missed.is_none() && self.position == EventId::START {
            return None;
        }
        if events.is_empty() {
            self.position = state.last;
            self.ordinal = state.added;
        } else {
            let whole = events.first().map(|event| event.id) == state.first;
            self.ordinal = state.gone.filter(|_| whole);
        }
        Some(self.gap(missed))
    }

    fn gap(&self, missed: Option<u64>) -> StreamGap {
        StreamGap {
            at: self.position,
            missed,
        }
    }
}

impl Store {
    /// Reads the state of the event stream.
    async fn stream_state(&self) -> Result<StreamState> {
        let command = Command::new("XINFO")
            .arg("STREAM")
            .arg(self.keys().key("events"));
        match self.connection.request(command, Repeat::Safe).await {
            Ok(value) => parse_state(value),
            Err(error) => match Error::from(error) {
                Error::Server(text) if text.contains("no such key") => Ok(StreamState {
                    added: Some(0),
                    ..StreamState::default()
                }),
                error => Err(error),
            },
        }
    }
}

fn parse_state(value: Value) -> Result<StreamState> {
    const WHAT: &str = "XINFO STREAM";
    let mut state = StreamState {
        exists: true,
        ..StreamState::default()
    };
    let mut length = None;
    let pairs: Vec<(Value, Value)> = match value {
        Value::Map(pairs) => pairs,
        other => {
            let mut flat = reply::items(other, WHAT)?.into_iter();
            std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
        }
    };
    let number = |value: &Value| reply::int(value, WHAT).map(|number| u64::try_from(number).ok());
    for (name, value) in pairs {
        match reply::text(name, WHAT)?.as_str() {
            "last-generated-id" => state.last = event_id(value, WHAT)?,
            "length" => length = number(&value)?,
            "entries-added" => state.added = number(&value)?,
            "first-entry" => {
                state.first = match value {
                    Value::Nil => None,
                    entry => Some(event(entry, WHAT)?.id),
                }
            }
            _ => {}
        }
    }
    if let (Some(added), Some(length)) = (state.added, length) {
        state.gone = Some(added.saturating_sub(length));
    }
    Ok(state)
}

/// Reads the answer of an XREAD of one stream.
fn fresh_events(value: Value) -> Result<Vec<RawEvent>> {
    const WHAT: &str = "XREAD";
    let entries = match value {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(streams) => streams.into_iter().next().map(|(_, entries)| entries),
        other => match reply::items(other, WHAT)?.into_iter().next() {
            None => return Ok(Vec::new()),
            Some(stream) => reply::items(stream, WHAT)?.into_iter().nth(1),
        },
    };
    let entries = entries.ok_or_else(|| reply::unexpected(WHAT))?;
    reply::items(entries, WHAT)?
        .into_iter()
        .map(|entry| event(entry, WHAT))
        .collect()
}

pub(super) fn event(value: Value, what: &str) -> Result<RawEvent> {
    let mut parts = reply::items(value, what)?.into_iter();
    let (Some(id), Some(fields)) = (parts.next(), parts.next()) else {
        return Err(reply::unexpected(what));
    };
    let fields = match fields {
        // An entry that is deleted while it is read.
        Value::Nil => Vec::new(),
        fields => reply::fields(fields, what)?,
    };
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    Ok(RawEvent {
        id: event_id(id, what)?,
        fields: EventFields::new(fields),
    })
}

fn event_id(value: Value, what: &str) -> Result<EventId> {
    reply::text(value, what)?
        .parse()
        .map_err(|_| reply::unexpected(what))
}
