//! What the code under test logs on this test's thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Collects this crate's log lines while it lives; works for tests on a current-thread runtime.
pub(crate) struct Logs {
    lines: Lines,
    _guard: DefaultGuard,
    /// While there is one dispatcher only, a line that another test's thread reaches first is
    /// judged by that thread's, which is none, and then is off for all of them.
    _second: Dispatch,
}

type Lines = Arc<Mutex<Vec<(Level, String)>>>;

fn held(lines: &Lines) -> MutexGuard<'_, Vec<(Level, String)>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Logs {
    pub(crate) fn capture() -> Self {
        let lines = Lines::default();
        let second = Dispatch::new(Collector(Arc::clone(&lines)));
        let guard = tracing::subscriber::set_default(Collector(Arc::clone(&lines)));
        Self {
            lines,
            _guard: guard,
            _second: second,
        }
    }

    /// Returns the lines of a level that contain `text`.
    pub(crate) fn of(&self, level: Level, text: &str) -> Vec<String> {
        let lines = held(&self.lines);
        let found = lines
            .iter()
            .filter(|(at, line)| *at == level && line.contains(text));
        found.map(|(_, line)| line.clone()).collect()
    }

    pub(crate) fn all(&self) -> String {
        format!("{:?}", held(&self.lines))
    }
}

struct Collector(Lines);

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("oxbull")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let entry = (*event.metadata().level(), line.0);
        held(&self.0).push(entry);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0
            .extend([field.name(), "=", &format!("{value:?}"), " "]);
    }
}
