//! How a queue is opened.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::client::Client;
use crate::error::Result;
use crate::job::{JobOptions, Prefix, QueueName};
use crate::queue::batcher::Batcher;
use crate::queue::waiting::Watcher;
use crate::queue::{Queue, Shared};
use crate::store::Store;

/// The version text that a queue of this library leaves in its settings.
const VERSION: &str = concat!("oxbull:", env!("CARGO_PKG_VERSION"));

/// Describes a queue before it is opened.
#[derive(Debug)]
#[must_use]
pub struct QueueBuilder<D> {
    client: Client,
    name: String,
    prefix: String,
    defaults: JobOptions,
    event_cap: u32,
    write_meta: bool,
    data: PhantomData<fn(D)>,
}

impl<D> QueueBuilder<D> {
    pub(super) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            prefix: Prefix::default().as_str().to_owned(),
            defaults: JobOptions::new(),
            event_cap: 10_000,
            write_meta: true,
            data: PhantomData,
        }
    }

    /// Sets the first part of the queue's keys. Default: `bull`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets options for jobs whose add does not set them. A default id is ignored.
    pub fn default_options(mut self, options: JobOptions) -> Self {
        self.defaults = options;
        self
    }

    /// Sets about how many entries the queue's event stream keeps. Default: 10,000.
    pub fn max_events(mut self, entries: u32) -> Self {
        self.event_cap = entries;
        self
    }

    /// Says whether opening writes the event stream's length and this library's version into the
    /// queue's settings, as BullMQ does. Default: true.
    pub fn write_meta(mut self, write: bool) -> Self {
        self.write_meta = write;
        self
    }

    /// Opens the queue.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for the name, the prefix or a default option;
    /// connection errors.
    pub async fn open(self) -> Result<Queue<D>> {
        let name = QueueName::new(&self.name)?;
        let prefix = Prefix::new(&self.prefix)?;
        let defaults = JobOptions {
            id: None,
            ..self.defaults
        };
        defaults.check()?;
        let store = Store::new(
            self.client.connection().clone(),
            &prefix,
            &name,
            self.client.clock().clone(),
        );
        if self.write_meta {
            store.write_meta(self.event_cap, VERSION).await?;
        }
        Ok(Queue {
            batcher: Batcher::new(store.clone()),
            shared: Arc::new(Shared {
                watcher: Watcher::of(&self.client, &store),
                client: self.client,
                store,
                name,
                prefix,
                defaults,
            }),
            data: PhantomData,
        })
    }
}
