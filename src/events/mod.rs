//! A queue's event stream as typed events.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::{Prefix, QueueName};
use crate::queue::Queue;
use crate::store::{EventBatch, EventReader, RawEvent, Store, StreamStart};
use crate::wire::{EventFields, EventId, QueueEvent};

/// How many batches may wait for a slow consumer. With the one it consumes, two batches of at
/// most 256 entries, or of about a megabyte, are in memory.
const BUFFERED: usize = 1;

/// The events of a queue, whichever process caused them (`docs/protocol.md#events`).
///
/// A [`Stream`] that resumes after a lost connection where it was: without loss and without
/// duplicates, as long as the entries exist. Queues keep about the newest
/// [10,000](crate::QueueBuilder::max_events); entries that were removed unread are reported by a
/// [`Gap`](QueueEvent::Gap). It has a connection of its own, under the name by which BullMQ's
/// tools list event listeners. A slow consumer holds up only itself. Dropping it closes the
/// connection.
///
/// The stream ends with an error when waiting cannot help: [`Error::Denied`], [`Error::Server`]
/// (the key is not a stream), [`Error::Closed`] (the client was closed).
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> oxbull::Result<()> {
/// use oxbull::{Client, QueueEvent, QueueEvents};
///
/// let client = Client::from_env().await?;
/// let mut events = QueueEvents::open(&client, "mail").await?;
/// while let Some(entry) = events.next().await {
///     match entry?.event {
///         QueueEvent::Completed { job, return_value, .. } => {
///             println!("{job}: {}", return_value.as_str());
///         }
///         QueueEvent::Failed { job, reason, .. } => println!("{job}: {reason}"),
///         QueueEvent::Gap { .. } => println!("some events are lost"),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct QueueEvents {
    batches: mpsc::Receiver<Result<EventBatch>>,
    pending: std::vec::IntoIter<RawEvent>,
    last: EventId,
    /// Whether the reader has ended and reported why.
    ended: bool,
    _stop: DropGuard,
}

/// An entry of the event stream. As JSON it is its event, with the entry's `id`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EventEntry {
    /// Its place in the stream. A stream opened [after](QueueEventsBuilder::after) it begins with the
    /// next entry.
    pub id: EventId,
    /// What happened.
    #[serde(flatten)]
    pub event: QueueEvent,
    /// Fields of an event that this version does not know; usually none.
    #[serde(skip_serializing_if = "EventFields::is_empty")]
    pub extra: EventFields,
}

impl EventEntry {
    /// Makes an entry of the fields that Redis holds (`docs/protocol.md#events`), the event's name among
    /// them. For tests of code that is given events.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::{EventEntry, EventId, QueueEvent};
    ///
    /// let fields = [("event", "completed"), ("jobId", "7"), ("returnvalue", "42")];
    /// let entry = EventEntry::from_fields(EventId::new(1_795_409_883_072, 0), fields);
    /// let QueueEvent::Completed { return_value, .. } = &entry.event else {
    ///     panic!("{entry:?}");
    /// };
    /// assert_eq!(return_value.decode::<u32>()?, 42);
    /// # Ok::<(), oxbull::Error>(())
    /// ```
    pub fn from_fields<N, V>(id: EventId, fields: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Vec<u8>>,
        V: Into<Vec<u8>>,
    {
        let fields = fields.into_iter().map(|(name, value)| {
            let (name, value): (Vec<u8>, Vec<u8>) = (name.into(), value.into());
            (name.into_boxed_slice(), value.into_boxed_slice())
        });
        Self::decode(id, EventFields::new(fields.collect()))
    }

    /// Makes the entry of a [gap](QueueEvent::Gap), `None` where it is unknown how many entries are
    /// missing. For tests of code that is given events.
    pub fn gap(id: EventId, missed: Option<u64>) -> Self {
        Self {
            id,
            event: QueueEvent::Gap { missed },
            extra: EventFields::default(),
        }
    }

    fn decode(id: EventId, fields: EventFields) -> Self {
        let (event, extra) = QueueEvent::decode(fields);
        Self { id, event, extra }
    }
}

/// Describes an event stream before it is opened.
#[derive(Debug)]
#[must_use]
pub struct QueueEventsBuilder {
    client: Client,
    name: String,
    prefix: String,
    start: StreamStart,
}

impl QueueEventsBuilder {
    /// Sets the first part of the queue's keys. Default: `bull`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Begins with the oldest entry that exists. Default: with what happens after
    /// [`open`](Self::open).
    pub fn from_beginning(self) -> Self {
        self.after(EventId::START)
    }

    /// Begins with the first entry after this one, for instance after the
    /// [last](QueueEvents::last_id) that another process has handled. If entries after it were
    /// removed meanwhile, the first item is a [`Gap`](QueueEvent::Gap).
    pub fn after(mut self, id: EventId) -> Self {
        self.start = StreamStart::After(id);
        self
    }

    /// Opens the stream. What happens from now on is read, however late the first poll is.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the name or the prefix; connection errors.
    pub async fn open(self) -> Result<QueueEvents> {
        let name = QueueName::new(&self.name)?;
        let prefix = Prefix::new(&self.prefix)?;
        let store = Store::open(&self.client, &prefix, &name)?;
        let reader = EventReader::open(&self.client, &store, self.start).await?;
        let last = reader.position();
        let (sender, batches) = mpsc::channel(BUFFERED);
        let stop = self.client.closing();
        self.client.spawn(forward(reader, sender, stop.clone()));
        Ok(QueueEvents {
            batches,
            pending: Vec::new().into_iter(),
            last,
            ended: false,
            _stop: stop.drop_guard(),
        })
    }
}

/// Reads ahead of the consumer until it is stopped.
async fn forward(
    mut reader: EventReader,
    sender: mpsc::Sender<Result<EventBatch>>,
    stop: CancellationToken,
) {
    let reading = async {
        loop {
            // A full channel holds up the reader, not the server.
            let Ok(place) = sender.reserve().await else {
                return;
            };
            match reader.read().await {
                Ok(batch) if batch.gap.is_none() && batch.events.is_empty() => {}
                Ok(batch) => place.send(Ok(batch)),
                Err(Error::Closed) => return,
                Err(error) => return place.send(Err(error)),
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = reading => {}
    }
}

impl QueueEvents {
    /// Opens the events of a queue under the default prefix, from now on.
    ///
    /// # Errors
    ///
    /// As [`QueueEventsBuilder::open`].
    pub async fn open(client: &Client, queue: impl AsRef<str>) -> Result<Self> {
        Self::builder(client, queue).open().await
    }

    /// Starts to describe a queue's events.
    pub fn builder(client: &Client, queue: impl AsRef<str>) -> QueueEventsBuilder {
        QueueEventsBuilder {
            client: client.clone(),
            name: queue.as_ref().to_owned(),
            prefix: Prefix::default().as_str().to_owned(),
            start: StreamStart::Now,
        }
    }

    /// Waits for the next item; `None` after an error.
    ///
    /// # Errors
    ///
    /// Those that end the stream: see [`QueueEvents`].
    ///
    /// # Cancel safety
    ///
    /// No item is lost when the call is dropped.
    pub async fn next(&mut self) -> Option<Result<EventEntry>> {
        StreamExt::next(self).await
    }

    /// Returns the id of the last item that was returned, or where reading began. A process
    /// that stores it can be followed by another that begins [after](QueueEventsBuilder::after)
    /// it.
    pub fn last_id(&self) -> EventId {
        self.last
    }

    /// Ends the stream and closes its connection; as dropping it does.
    pub fn close(self) {}
}

impl<D> Queue<D> {
    /// Starts to describe the stream of this queue's events, under the queue's name and prefix, over its
    /// client.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// let mut events = queue.events().open().await?;
    /// while let Some(entry) = events.next().await {
    ///     println!("{:?}", entry?.event);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> QueueEventsBuilder {
        QueueEvents::builder(self.client(), self.name().as_str()).prefix(self.prefix().as_str())
    }
}

impl Stream for QueueEvents {
    type Item = Result<EventEntry>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(RawEvent { id, fields }) = this.pending.next() {
                this.last = id;
                return Poll::Ready(Some(Ok(EventEntry::decode(id, fields))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match ready!(this.batches.poll_recv(cx)) {
                Some(Ok(batch)) => {
                    this.pending = batch.events.into_iter();
                    if let Some(gap) = batch.gap {
                        this.last = gap.at;
                        return Poll::Ready(Some(Ok(EventEntry::gap(gap.at, gap.missed))));
                    }
                }
                Some(Err(error)) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                // The client was closed, or the runtime that ran the reader has shut down.
                None => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(Error::Closed)));
                }
            }
        }
    }
}

impl fmt::Debug for QueueEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueEvents")
            .field("last", &self.last)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
