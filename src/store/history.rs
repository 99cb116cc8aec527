//! Reading the past of the event stream, page by page: what earlier calls did, and which iterations have
//! started. The client reads it, because a script that reads so much would hold up the server.

mod adds;
mod starts;

use super::stream::{RawEvent, event};
use super::{Store, reply};
use crate::client::{CallError, Repeat};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::resp::{Command, Value};
use crate::wire::EventId;

pub(crate) use adds::{AddHistory, PastAdd};
pub(crate) use starts::Starts;

/// How many entries one read returns.
const PAGE: usize = 500;

impl Store {
    /// Reads up to so many entries from one on, itself included.
    pub(crate) async fn events_from(&self, from: EventId, count: usize) -> Result<Vec<RawEvent>> {
        Ok(self.events("XRANGE", &from.to_string(), "+", count).await?)
    }

    /// Returns the id of the newest entry; that before every entry where there is none.
    pub(crate) async fn newest_event(&self) -> Result<EventId> {
        let newest = self.events("XREVRANGE", "+", "-", 1).await?;
        Ok(newest.first().map_or(EventId::START, |entry| entry.id))
    }

    /// Reads the entries after one, to the end.
    pub(super) async fn read_on(
        &self,
        after: &mut EventId,
        mut take: impl FnMut(&RawEvent),
    ) -> Result<(), CallError> {
        loop {
            let page = self
                .events("XRANGE", &format!("({after}"), "+", PAGE)
                .await?;
            page.iter().for_each(&mut take);
            if let Some(last) = page.last() {
                *after = last.id;
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Reads a page of the stream.
    async fn events(
        &self,
        command: &str,
        from: &str,
        to: &str,
        count: usize,
    ) -> Result<Vec<RawEvent>, CallError> {
        let read = Command::new(command)
            .arg(self.keys.key("events"))
            .arg(from)
            .arg(to)
            .arg("COUNT")
            .arg(count);
        let page = self.connection.request(read, Repeat::Safe).await?;
        read_page(page, command).map_err(CallError::Answered)
    }
}

fn read_page(page: Value, command: &str) -> Result<Vec<RawEvent>> {
    reply::items(page, command)?
        .into_iter()
        .map(|entry| event(entry, command))
        .collect()
}

/// The place in the stream before the first event of a time.
pub(super) fn before(time: Timestamp) -> EventId {
    let millis = u64::try_from(time.as_millis()).unwrap_or(0);
    EventId::new(millis.saturating_sub(1), u64::MAX)
}

/// Returns an id as text. Those that Oxbull makes are text; others belong to no call of its own.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
