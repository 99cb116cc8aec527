//! The wait between attempts.

use std::time::Duration;

use crate::error::{Error, Result};

/// The wait before a failed job's next attempt (`docs/protocol.md#backoff`).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Backoff {
    /// How the wait grows.
    pub kind: BackoffKind,
    /// How long it is.
    pub delay: Option<Duration>,
    /// How much of it is random, 0 to 1.
    pub jitter: Option<f64>,
}

/// How the wait grows from attempt to attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackoffKind {
    /// The same wait each time.
    Fixed,
    /// Twice the last wait each time.
    Exponential,
    /// A strategy that the worker registers under this name.
    Custom(String),
}

impl Backoff {
    /// Waits the same time before each retry.
    pub fn fixed(delay: Duration) -> Self {
        Self {
            kind: BackoffKind::Fixed,
            delay: Some(delay),
            jitter: None,
        }
    }

    /// Waits `delay`, then twice as long each time.
    pub fn exponential(delay: Duration) -> Self {
        Self {
            kind: BackoffKind::Exponential,
            delay: Some(delay),
            jitter: None,
        }
    }

    /// Leaves the wait to the strategy that the worker registers under `name`. A job that no worker
    /// knows the strategy of fails with its first attempt.
    pub fn custom(name: impl Into<String>) -> Self {
        Self {
            kind: BackoffKind::Custom(name.into()),
            delay: None,
            jitter: None,
        }
    }

    /// Gives the wait a length, which a [custom](Self::custom) strategy may use. Default for such
    /// a strategy: none.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Spreads the wait: it is drawn evenly from `delay * (1 - jitter)` up to `delay`; 0 to 1.
    #[must_use]
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = Some(jitter);
        self
    }

    /// Returns the name of the custom strategy.
    pub(crate) fn strategy(&self) -> Option<&str> {
        match &self.kind {
            BackoffKind::Custom(name) => Some(name),
            BackoffKind::Fixed | BackoffKind::Exponential => None,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.jitter.is_some_and(|j| !(0.0..=1.0).contains(&j)) {
            return Err(Error::invalid_value(
                "jitter",
                self.jitter,
                "must be between 0 and 1",
            ));
        }
        if matches!(&self.kind, BackoffKind::Custom(name) if name.is_empty()) {
            return Err(Error::invalid("backoff", "needs the name of a strategy"));
        }
        Ok(())
    }
}
