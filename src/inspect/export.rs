//! Numbers of queues as text for Prometheus.

use std::fmt::Write as _;
use std::time::Duration;

use super::counts::JobCounts;
use super::metrics::MetricKind;
use crate::error::{Error, Result};
use crate::job::JobState;
use crate::queue::Queue;

/// The states in the order of BullMQ's text.
const STATES: [JobState; 7] = [
    JobState::Active,
    JobState::Completed,
    JobState::Delayed,
    JobState::Failed,
    JobState::Prioritized,
    JobState::Waiting,
    JobState::WaitingChildren,
];

/// Writes numbers of one or more queues as text that Prometheus reads.
///
/// | metric | labels | what |
/// |---|---|---|
/// | `bullmq_job_count` | `queue`, `state` | jobs in each state |
/// | `bullmq_job_completed_total`, `bullmq_job_failed_total` | `queue` | ended jobs; 0 unless [recorded](crate::inspect::JobMetrics) |
/// | `oxbull_queue_oldest_wait_seconds` | `queue` | for how long the [next job has been due](crate::Backlog::oldest_wait); 0 when none waits |
/// | `oxbull_queue_schedule_lag_seconds` | `queue` | how [overdue](crate::Backlog::schedule_lag) the earliest delayed job is; 0 when none is |
/// | `oxbull_queue_paused` | `queue` | 1 while the queue is paused |
/// | `oxbull_queue_workers` | `queue` | connected workers; absent where Redis does not list its clients |
///
/// The first three are those of BullMQ, to the letter, so that its dashboards and alerts work. How
/// long jobs wait and run is not stored, so that no process but the workers knows it: they record
/// histograms themselves (feature `metrics`).
///
/// # Examples
///
/// ```no_run
/// # async fn run(mail: oxbull::Queue, reports: oxbull::Queue) -> oxbull::Result<()> {
/// use oxbull::inspect::Exporter;
///
/// let exporter = Exporter::new().queue(&mail).queue(&reports).label("env", "production");
/// // To answer GET /metrics, with Content-Type: text/plain; version=0.0.4
/// let text = exporter.render().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Exporter {
    queues: Vec<Queue>,
    labels: Vec<(String, String)>,
}

/// The numbers of a queue.
struct Numbers {
    name: String,
    counts: JobCounts,
    completed: u64,
    failed: u64,
    oldest_wait: Duration,
    schedule_lag: Duration,
    paused: bool,
    workers: Option<usize>,
}

impl Exporter {
    /// Describes an exporter of no queues.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a queue.
    pub fn queue<D>(mut self, queue: &Queue<D>) -> Self {
        self.queues.push(queue.untyped());
        self
    }

    /// Adds a label to every line, behind `queue` and `state`.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Reads the numbers and writes the text; its lines are separated, not ended, by line feeds, as
    /// BullMQ's are. Each queue costs Redis some ten constant-time reads and its list of clients.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a label's name that Prometheus does not take, that is `queue` or `state`,
    /// or that is there twice, and for two queues of one name, whose numbers could not be told apart;
    /// connection errors.
    #[doc(alias = "exportPrometheusMetrics")]
    pub async fn render(&self) -> Result<String> {
        self.check()?;
        let mut all = Vec::with_capacity(self.queues.len());
        for queue in &self.queues {
            all.push(numbers(queue).await?);
        }
        Ok(self.text(&all))
    }

    fn check(&self) -> Result<()> {
        for (at, queue) in self.queues.iter().enumerate() {
            let before = self.queues.iter().take(at);
            if before.into_iter().any(|other| other.name() == queue.name()) {
                let name = queue.name().as_str();
                let problem = "must not be the name of two queues of an exporter";
                return Err(Error::invalid_value("queue name", name, problem));
            }
        }
        for (at, (name, _)) in self.labels.iter().enumerate() {
            let problem = if !is_label(name) {
                "must be letters, digits and _, and not begin with a digit or with __"
            } else if name == "queue" || name == "state" {
                "has a meaning already"
            } else if self.labels.iter().take(at).any(|(other, _)| other == name) {
                "must not be there twice"
            } else {
                continue;
            };
            return Err(Error::invalid_value("label", name, problem));
        }
        Ok(())
    }

    fn text(&self, all: &[Numbers]) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, lines: &[(String, String)]| {
            if lines.is_empty() {
                return;
            }
            // Writing to a text does not fail.
            write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n").ok();
            for (labels, value) in lines {
                writeln!(text, "{name}{{{labels}}} {value}").ok();
            }
        };
        let mut states = Vec::new();
        for numbers in all {
            for state in STATES {
                let labels = self.labels(&numbers.name, Some(state));
                states.push((labels, numbers.counts.of(state).to_string()));
            }
        }
        let help = "Number of jobs in the queue by state";
        metric("bullmq_job_count", "gauge", help, &states);
        let of_each = |number: &dyn Fn(&Numbers) -> Option<String>| -> Vec<_> {
            all.iter()
                .filter_map(|numbers| Some((self.labels(&numbers.name, None), number(numbers)?)))
                .collect()
        };
        let seconds = |time: Duration| Some(time.as_secs_f64().to_string());
        for (name, kind, help, lines) in [
            (
                "bullmq_job_completed_total",
                "counter",
                "Total number of completed jobs",
                of_each(&|numbers| Some(numbers.completed.to_string())),
            ),
            (
                "bullmq_job_failed_total",
                "counter",
                "Total number of failed jobs",
                of_each(&|numbers| Some(numbers.failed.to_string())),
            ),
            (
                "oxbull_queue_oldest_wait_seconds",
                "gauge",
                "How long the next job has been due",
                of_each(&|numbers| seconds(numbers.oldest_wait)),
            ),
            (
                "oxbull_queue_schedule_lag_seconds",
                "gauge",
                "How overdue the earliest delayed job is",
                of_each(&|numbers| seconds(numbers.schedule_lag)),
            ),
            (
                "oxbull_queue_paused",
                "gauge",
                "Whether the queue is paused",
                of_each(&|numbers| Some(u8::from(numbers.paused).to_string())),
            ),
            (
                "oxbull_queue_workers",
                "gauge",
                "Connected workers",
                of_each(&|numbers| numbers.workers.map(|workers| workers.to_string())),
            ),
        ] {
            metric(name, kind, help, &lines);
        }
        text.truncate(text.trim_end().len());
        text
    }

    fn labels(&self, queue: &str, state: Option<JobState>) -> String {
        let mut labels = vec![format!("queue=\"{}\"", escaped(queue))];
        labels.extend(state.map(|state| format!("state=\"{state}\"")));
        for (name, value) in &self.labels {
            labels.push(format!("{name}=\"{}\"", escaped(value)));
        }
        labels.join(", ")
    }
}

async fn numbers(queue: &Queue) -> Result<Numbers> {
    let backlog = queue.backlog().await?;
    let workers = match queue.workers().await {
        Ok(workers) => Some(workers.len()),
        // Not every user may list clients, and not every service can.
        Err(Error::Denied(_) | Error::Server(_)) => None,
        Err(error) => return Err(error),
    };
    // The range is empty: only the totals are needed.
    let total = async |kind| Ok::<_, Error>(queue.metrics(kind, 0..0).await?.count);
    Ok(Numbers {
        name: queue.name().as_str().to_owned(),
        counts: backlog.counts,
        completed: total(MetricKind::Completed).await?,
        failed: total(MetricKind::Failed).await?,
        oldest_wait: backlog.oldest_wait.unwrap_or_default(),
        schedule_lag: backlog.schedule_lag.unwrap_or_default(),
        paused: queue.is_paused().await?,
        workers,
    })
}

fn is_label(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    first && rest && !name.starts_with("__")
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
