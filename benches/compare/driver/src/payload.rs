//! The jobs' data.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What a job carries: a message, and when it was added.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Payload {
    /// When the job was added, or is due: microseconds since 1970.
    pub at: u64,
    /// Whom it is for.
    pub to: String,
    /// The message.
    pub body: String,
}

impl Payload {
    /// A payload whose JSON has about `bytes` bytes.
    pub fn new(bytes: usize, seed: u64) -> Self {
        let to = format!("seller-{}@example.org", seed % 100_000);
        let body = "a short message that a seller gets. "
            .chars()
            .cycle()
            .take(bytes.saturating_sub(60))
            .collect();
        Self { at: 0, to, body }
    }

    /// The same, added now.
    #[must_use]
    pub fn now(&self) -> Self {
        self.at(now_us())
    }

    /// The same, added or due at that time.
    #[must_use]
    pub fn at(&self, at: u64) -> Self {
        Self { at, ..self.clone() }
    }
}

/// Microseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the wall clock that the driver in Node.js reads, too"
)]
pub fn now_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_about_the_size_asked_for() -> Result<(), serde_json::Error> {
        for bytes in [100_usize, 1024, 65_536] {
            let text = serde_json::to_string(&Payload::new(bytes, 42).now())?;
            assert!(
                text.len().abs_diff(bytes) < 30,
                "{} for {bytes}",
                text.len()
            );
        }
        Ok(())
    }
}
