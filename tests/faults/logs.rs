//! What the library logs while the tests run, by whom and about what.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines of one cause are at least this far apart; the library promises a second.
const APART: Duration = Duration::from_millis(900);

/// What has a line each time it happens: the end of every failed attempt, a worker's start and end.
const EACH: [&str; 6] = [
    "job failed",
    "attempt failed; the job is retried",
    "worker started",
    "worker closing",
    "worker closed",
    "worker closed; abandoned jobs run again once their locks have expired",
];

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// One line of the log.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) message: String,
    /// Every other field, as text.
    pub(crate) fields: String,
}

/// Starts to record, once for all tests: the library logs from threads of its own too.
pub(crate) fn record() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing::subscriber::set_global_default(Recorder).expect("nobody else records");
    });
}

/// The lines that mention one of the subjects: a queue's name, a server's address. Without those
/// that come with each event of their kind.
pub(crate) fn about(subjects: &[String]) -> Vec<Line> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let mentions = |line: &Line| subjects.iter().any(|subject| line.fields.contains(subject));
    let each = |line: &Line| EACH.contains(&line.message.as_str());
    lines
        .iter()
        .filter(|line| mentions(line) && !each(line))
        .cloned()
        .collect()
}

/// The causes that were logged more than `allowed` times within a second, with an example.
pub(crate) fn too_often(lines: &[Line], allowed: usize) -> Vec<String> {
    let mut found = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let burst = lines[place..]
            .iter()
            .filter(|other| other.message == line.message && other.at - line.at < APART)
            .count();
        if burst > allowed
            && !found
                .iter()
                .any(|text: &String| text.contains(&line.message))
        {
            found.push(format!("{burst} x {} {}", line.message, line.fields));
        }
    }
    found
}

struct Recorder;

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("oxbull") && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line {
            at: Instant::now(),
            message: String::new(),
            fields: String::new(),
        };
        event.record(&mut line);
        if std::env::var_os("FAULTS_LOG").is_some() {
            println!("{} {}", line.message, line.fields);
        }
        LINES
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            // Writing to a string cannot fail.
            write!(self.fields, "{}={value:?} ", field.name()).ok();
        }
    }
}
