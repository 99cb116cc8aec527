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
    max_events: u64,
    update_settings: bool,
    data: PhantomData<fn(D)>,
}

impl<D> QueueBuilder<D> {
    pub(super) fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            name: name.to_owned(),
            prefix: Prefix::default().as_str().to_owned(),
            defaults: JobOptions::new(),
            max_events: 10_000,
            update_settings: true,
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
    pub fn max_events(mut self, entries: u64) -> Self {
        self.max_events = entries;
        self
    }

    /// Leaves the queue's settings as they are. By default opening a queue writes the length of its
    /// event stream and this library's version into them, as BullMQ does.
    #[doc(alias = "skipMetasUpdate")]
    pub fn skip_settings_update(mut self) -> Self {
        self.update_settings = false;
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
        let store = Store::open(&self.client, &prefix, &name)?;
        if self.update_settings {
            store.write_meta(self.max_events, VERSION).await?;
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
