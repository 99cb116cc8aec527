//! Going through keys and lists page by page, for what no transition needs to know at one moment.

use crate::client::Repeat;
use crate::error::Result;
use crate::resp::Command;
use crate::store::{Store, reply};

/// How many keys of the server a page goes through: a fraction of a millisecond.
const KEYS: u32 = 500;
/// How many ids a page of a list has.
const IDS: u64 = 1000;

impl Store {
    /// Reads the keys of the queue that go on with `suffix`, without what precedes that: a page of
    /// them, from `cursor` on. Returns where the next page begins, `None` at the end. A key may come
    /// twice.
    pub(crate) async fn keys_page(
        &self,
        suffix: &str,
        cursor: &[u8],
    ) -> Result<(Vec<Vec<u8>>, Option<Vec<u8>>)> {
        const WHAT: &str = "a page of keys";
        let base = self.keys.key(suffix);
        let mut pattern = String::with_capacity(base.len() + 1);
        for character in base.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push('*');
        let command = Command::new("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(KEYS);
        let answer = self.connection.request(command, Repeat::Safe).await?;
        let mut parts = reply::items(answer, WHAT)?.into_iter();
        let (Some(next), Some(keys)) = (parts.next(), parts.next()) else {
            return Err(reply::unexpected(WHAT));
        };
        let next = reply::bytes(next, WHAT)?;
        let keys = reply::items(keys, WHAT)?.into_iter().map(|key| {
            let key = reply::bytes(key, WHAT)?;
            Ok(key.strip_prefix(base.as_bytes()).map(<[u8]>::to_vec))
        });
        let keys = keys.collect::<Result<Vec<_>>>()?.into_iter().flatten();
        Ok((keys.collect(), (next != b"0").then_some(next)))
    }

    /// Reads ids of a list, by its key, from the `skip`th entry on: a page of them, empty at the end.
    pub(super) async fn ids_page(&self, list: &[u8], skip: u64) -> Result<Vec<Vec<u8>>> {
        const WHAT: &str = "a page of a list";
        let command = Command::new("LRANGE")
            .arg(list)
            .arg(skip)
            .arg(skip + IDS - 1);
        let answer = self.connection.request(command, Repeat::Safe).await?;
        let ids = reply::items(answer, WHAT)?.into_iter();
        ids.map(|id| reply::bytes(id, WHAT)).collect()
    }
}
