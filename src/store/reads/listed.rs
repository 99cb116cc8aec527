//! The ids in the lists of a queue, read once: to search a list for each of many ids would cost the server as much as
//! the list is long.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::error::Result;
use crate::store::{Place, Store};

/// The places that are lists.
const LISTS: [Place; 3] = [Place::Active, Place::Wait, Place::Paused];

/// Ids, as hashes, of which many take little room. Two of one hash are taken for each other.
#[derive(Debug, Default)]
pub(crate) struct IdHashes {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

/// Returns the keys of the lists of a queue, whose base is given.
pub(crate) fn lists_of(base: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    LISTS
        .map(|list| [base, list.suffix().as_bytes()].concat())
        .into_iter()
}

impl IdHashes {
    /// Adds the ids of a list, by its key.
    ///
    /// # Errors
    ///
    /// [`Error::Server`](crate::Error::Server) for a key of another type; connection errors.
    pub(crate) async fn read(&mut self, store: &Store, list: &[u8]) -> Result<()> {
        let mut skip = 0;
        loop {
            let page = store.ids_page(list, skip).await?;
            if page.is_empty() {
                return Ok(());
            }
            skip += page.len() as u64;
            for id in page {
                self.insert(&id);
            }
        }
    }

    /// Adds an id.
    pub(crate) fn insert(&mut self, id: &[u8]) {
        self.hashes.insert(self.hasher.hash_one(id));
    }

    /// Returns whether the id is there.
    pub(crate) fn has(&self, id: &[u8]) -> bool {
        self.hashes.contains(&self.hasher.hash_one(id))
    }
}
