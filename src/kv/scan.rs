//! Keys by pattern, page by page.

use std::collections::VecDeque;

use futures_util::Stream;

use crate::client::{Command, Connection, Repeat};
use crate::error::{Error, Result};

/// About how many keys the server looks at for one page.
const PAGE: u64 = 500;

/// A walk over the keys that match a pattern.
///
/// A key that is there for the whole walk is found at least once, and possibly more than once;
/// a key that comes or goes meanwhile may or may not be found. On a cluster it goes over one node after
/// the other, and may miss or find twice what moves between them meanwhile.
#[derive(Debug)]
pub struct Scan {
    connection: Connection,
    /// The nodes that are left, once they are known; the last one is being walked over.
    nodes: Option<Vec<Connection>>,
    pattern: String,
    /// Where the next page starts; 0 at the start of a node.
    cursor: u64,
    page: VecDeque<Vec<u8>>,
}

impl Scan {
    pub(super) fn new(connection: Connection, pattern: &str) -> Self {
        Self {
            connection,
            nodes: None,
            pattern: pattern.to_owned(),
            cursor: 0,
            page: VecDeque::new(),
        }
    }

    /// Returns the next key; `None` at the end.
    ///
    /// # Errors
    /// Those of every request, after which the walk can go on where it was; and
    /// [`Error::Decode`] for a key that is not UTF-8, which is then left out.
    ///
    /// # Cancel safety
    /// A dropped call skips nothing.
    pub async fn next(&mut self) -> Option<Result<String>> {
        loop {
            if let Some(key) = self.page.pop_front() {
                return Some(String::from_utf8(key).map_err(|_| Error::Decode {
                    what: "a key".to_owned(),
                    source: "not valid UTF-8".into(),
                }));
            }
            let node = match self.node().await {
                Ok(node) => node?,
                Err(error) => return Some(Err(error)),
            };
            let command = Command::new("SCAN")
                .int(self.cursor)
                .arg("MATCH")
                .arg(&self.pattern)
                .arg("COUNT")
                .int(PAGE);
            let reply = node.call(command, Repeat::Safe).await;
            match reply.and_then(crate::client::Reply::page) {
                Ok((cursor, page)) => {
                    self.cursor = cursor;
                    if cursor == 0
                        && let Some(nodes) = &mut self.nodes
                    {
                        nodes.pop();
                    }
                    self.page = page.into();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Returns the node to walk over; `None` at the end.
    async fn node(&mut self) -> Result<Option<Connection>> {
        if self.nodes.is_none() {
            self.nodes = Some(self.connection.each().await?);
        }
        Ok(self.nodes.as_ref().and_then(|nodes| nodes.last().cloned()))
    }

    /// Turns the walk into a stream of keys.
    pub fn into_stream(self) -> impl Stream<Item = Result<String>> + Send {
        futures_util::stream::unfold(self, |mut scan| async move {
            let item = scan.next().await?;
            Some((item, scan))
        })
    }
}

/// Escapes what a pattern would take for a wildcard.
///
/// # Examples
/// ```
/// assert_eq!(oxbull::kv::escape_pattern("a*[b]?"), r"a\*\[b\]\?");
/// ```
pub fn escape_pattern(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '\\' | '-') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
