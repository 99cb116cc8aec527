//! Which iterations of job schedulers have started, by the event stream.

use std::collections::HashSet;

use super::{PAGE, text};
use crate::error::Result;
use crate::store::Store;
use crate::store::stream::RawEvent;
use crate::wire::{EventId, StreamEvent};

/// How many of the newest entries are searched for the start of an iteration.
const NEWEST: usize = 5_000;

/// Which iterations of schedulers have started, by the newest events.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    /// The event up to which was read; `None` before the first read.
    after: Option<EventId>,
    started: HashSet<String>,
}

impl Starts {
    /// Returns the event up to which was read.
    pub(crate) fn after(&self) -> Option<EventId> {
        self.after
    }

    /// Whether an event up to that one reports that the iteration has started.
    pub(crate) fn has(&self, iteration: &str) -> bool {
        self.started.contains(iteration)
    }

    /// Reads on: what is new, and at first the newest entries.
    pub(crate) async fn read(&mut self, store: &Store) -> Result<()> {
        if let Some(after) = &mut self.after {
            let started = &mut self.started;
            let take = |event: &RawEvent| started.extend(started_iteration(event));
            return Ok(store.read_on(after, take).await?);
        }
        let (mut left, mut end, mut newest) = (NEWEST, "+".to_owned(), EventId::START);
        while left > 0 {
            let page = store.events("XREVRANGE", &end, "-", PAGE).await?;
            let Some(last) = page.last() else { break };
            end = format!("({}", last.id);
            newest = newest.max(page.first().map_or(newest, |first| first.id));
            self.started
                .extend(page.iter().filter_map(started_iteration));
            left = left.saturating_sub(page.len());
            if page.len() < PAGE {
                break;
            }
        }
        self.after = Some(newest);
        Ok(())
    }
}

fn started_iteration(event: &RawEvent) -> Option<String> {
    let Some(StreamEvent::Active { job }) = StreamEvent::decode(&event.fields) else {
        return None;
    };
    let id = text(job)?;
    id.starts_with("repeat:").then(|| id.to_owned())
}
