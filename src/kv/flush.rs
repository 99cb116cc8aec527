//! The confirmation that deleting a whole database takes.

use crate::error::{Error, Result};

/// A confirmation for [`Kv::flushdb`](super::Kv::flushdb): it deletes queues and sessions too.
#[derive(Debug)]
#[must_use = "a confirmation does nothing by itself"]
pub struct FlushDb {
    db: u32,
}

impl FlushDb {
    /// Confirms that every key of database `db` is to be deleted, those of queues included.
    pub fn confirm(db: u32) -> Self {
        Self { db }
    }

    pub(super) fn check(&self, db: u32) -> Result<()> {
        if self.db == db {
            return Ok(());
        }
        Err(Error::invalid(
            "confirmation",
            format!("names database {}, but this connection uses {db}", self.db),
        ))
    }
}
