//! The names of a queue's keys (`docs/protocol.md#key-names`), built nowhere else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::client::hash_tag;
use crate::job::{JobId, Prefix, QueueName};

/// The keys of one queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueKeys {
    /// `<prefix>:<queue>:`
    base: String,
    /// The name by which worker listings find this queue's connections.
    client_name: String,
}

impl QueueKeys {
    pub(crate) fn new(prefix: &Prefix, queue: &QueueName) -> Self {
        Self {
            base: format!("{prefix}:{queue}:"),
            client_name: format!("{prefix}:{}", STANDARD.encode(queue.as_str())),
        }
    }

    /// Returns what every key of the queue begins with, the trailing colon included.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Returns whether all keys of the queue are in one slot of a cluster: the hash tag ends before they differ.
    pub(crate) fn share_a_slot(&self) -> bool {
        hash_tag(self.base.as_bytes()).is_some()
    }

    /// Returns the qualified queue name, as references to parents use it.
    pub(crate) fn qualified(&self) -> &str {
        self.base.strip_suffix(':').unwrap_or(&self.base)
    }

    /// Returns a queue-level key.
    pub(crate) fn key(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.base)
    }

    /// Returns the key of a job's hash.
    pub(crate) fn job(&self, id: &JobId) -> Vec<u8> {
        [self.base.as_bytes(), id.as_bytes()].concat()
    }

    /// Returns the key of a job's log.
    pub(crate) fn logs(&self, id: &JobId) -> Vec<u8> {
        [&self.job(id), b":logs".as_slice()].concat()
    }

    /// Returns the name of a connection that reads the event stream
    /// (`docs/protocol.md#connection-names`).
    pub(crate) fn events_client_name(&self) -> String {
        format!("{}:qe", self.client_name)
    }

    /// Returns the key of a scheduler's definition.
    pub(crate) fn scheduler(&self, id: &str) -> String {
        format!("{}repeat:{id}", self.base)
    }

    /// Returns the name of a worker's connection (`docs/protocol.md#connection-names`).
    pub(crate) fn worker_client_name(&self, worker: Option<&str>) -> String {
        match worker {
            Some(worker) => format!("{}:w:{worker}", self.client_name),
            None => self.client_name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A brace that a job's id may close, or a pair with nothing in it, holds nothing together.
    #[test]
    fn hash_tag_is_in_the_prefix_or_the_name() {
        let share = |prefix: &str, queue: &str| {
            let prefix = Prefix::new(prefix).unwrap();
            QueueKeys::new(&prefix, &QueueName::new(queue).unwrap()).share_a_slot()
        };
        assert!(share("bull", "{mail}") && share("{bull}", "mail") && share("a{b}", "c{d}"));
        assert!(!share("bull", "mail") && !share("bull", "{mail") && !share("bull", "{}mail"));
    }

    #[test]
    fn names_are_those_of_the_protocol() {
        let keys = QueueKeys::new(&Prefix::default(), &QueueName::new("g4").unwrap());
        assert_eq!(keys.key("wait"), "bull:g4:wait");
        assert_eq!(keys.qualified(), "bull:g4");
        assert_eq!(keys.job(&JobId::existing("7")), b"bull:g4:7");
        let cut = JobId::from_bytes(b"a\xed\xa0\xbd");
        assert_eq!(keys.logs(&cut), b"bull:g4:a\xed\xa0\xbd:logs");
        assert_eq!(keys.worker_client_name(Some("wname")), "bull:ZzQ=:w:wname");
        assert_eq!(keys.worker_client_name(None), "bull:ZzQ=");
        assert_eq!(keys.events_client_name(), "bull:ZzQ=:qe");
    }
}
