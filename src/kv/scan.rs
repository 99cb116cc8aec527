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
/// a key that comes or goes meanwhile may or may not be found.
#[derive(Debug)]
pub struct Scan {
    connection: Connection,
    pattern: String,
    /// Where the next page starts; `None` when there is none.
    cursor: Option<u64>,
    page: VecDeque<Vec<u8>>,
}

impl Scan {
    pub(super) fn new(connection: Connection, pattern: &str) -> Self {
        Self {
            connection,
            pattern: pattern.to_owned(),
            cursor: Some(0),
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
            let command = Command::new("SCAN")
                .int(self.cursor?)
                .arg("MATCH")
                .arg(&self.pattern)
                .arg("COUNT")
                .int(PAGE);
            let reply = self.connection.call(command, Repeat::Safe).await;
            match reply.and_then(crate::client::Reply::page) {
                Ok((cursor, page)) => {
                    self.cursor = Some(cursor).filter(|cursor| *cursor != 0);
                    self.page = page.into();
                }
                Err(error) => return Some(Err(error)),
            }
        }
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
