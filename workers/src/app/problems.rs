//! Present problems of a program, for its health.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The present problems of a program's parts; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Problems(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Problems {
    /// Records why a part cannot do its work, and replaces its earlier problem.
    pub fn report(&self, part: &'static str, problem: impl Display) {
        self.parts().insert(part, problem.to_string());
    }

    /// Clears the problem of a part; returns whether it had one.
    pub fn clear(&self, part: &'static str) -> bool {
        self.parts().remove(part).is_some()
    }

    /// The first of the problems, if there is one.
    pub fn current(&self) -> Option<String> {
        let parts = self.parts();
        let (part, problem) = parts.first_key_value()?;
        Some(format!("{part}: {problem}"))
    }

    /// A panic elsewhere does not make the texts invalid.
    fn parts(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
