//! Numbers of queues as text for Prometheus.

mod latencies;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::counts::{JobCounts, STATES};
use super::metrics::MetricKind;
use crate::error::{Error, Result};
use crate::queue::Queue;
use latencies::{BUCKETS, ENDS, Histogram, Latencies};

/// The labels that have a meaning.
const LABELS: [&str; 5] = ["queue", "state", "result", "le", "time"];

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
/// The first three are those of BullMQ, to the letter, so that its dashboards and alerts work.
/// [`latencies`](Self::latencies) adds how long jobs wait and run.
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
    queues: Vec<Source>,
    labels: Vec<(String, String)>,
    latencies: bool,
}

/// A queue, and what is measured of it from one text to the next.
#[derive(Debug, Clone)]
struct Source {
    queue: Queue,
    latencies: Arc<Mutex<Latencies>>,
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
    latencies: Option<Measured>,
}

/// How long jobs of a queue have waited and run.
struct Measured {
    wait: Histogram,
    run: [Histogram; ENDS.len()],
    unmeasured: [(&'static str, u64); 2],
    gaps: u64,
}

impl Exporter {
    /// Describes an exporter of no queues.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a queue.
    pub fn queue<D>(mut self, queue: &Queue<D>) -> Self {
        self.queues.push(Source {
            queue: queue.untyped(),
            latencies: Arc::default(),
        });
        self
    }

    /// Adds histograms of how long jobs wait and run, whichever processes work, those of BullMQ included. Keep
    /// the exporter, or a clone of it, from one [`render`](Self::render) to the next: what it counts is what has
    /// happened since its first.
    ///
    /// | metric | labels | what |
    /// |---|---|---|
    /// | `oxbull_queue_wait_seconds` | `queue`, `le` | from when a job could run, which is when it was added, due or released, to its start; for each start |
    /// | `oxbull_queue_run_seconds` | `queue`, `result`, `le` | from a start to its end: `completed`, `failed` for good, or `returned`, that is retried, stalled, released or put off |
    /// | `oxbull_queue_unmeasured_total` | `queue`, `time` | starts (`wait`) and ends (`run`) in neither, because it is not known since when |
    /// | `oxbull_queue_event_gaps_total` | `queue` | how often events were trimmed before they were read |
    ///
    /// They are measured from the queue's events, by the server's clock, each once. Several exporters of one
    /// queue count each for itself: add up their numbers for none. Not known is what began before the first
    /// `render` or a gap, and with more than 100,000 jobs ready or delayed, those that began first.
    ///
    /// Each `render` then reads what the queue has emitted since the one before, results included, up to 10,000
    /// events or 16 MiB, in reads of 1 MiB at most where events have about one size; a busier queue is caught up with
    /// later. A usual job emits four events and a queue keeps about the newest
    /// [10,000](crate::QueueBuilder::max_events): where more are emitted between two texts, the histograms
    /// are a sample, and `oxbull_queue_event_gaps_total` grows.
    pub fn latencies(mut self) -> Self {
        self.latencies = true;
        self
    }

    /// Adds a label to every line, behind those it has.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }

    /// Reads the numbers and writes the text; its lines are separated, not ended, by line feeds, as
    /// BullMQ's are. Each queue costs Redis some ten constant-time reads and its list of clients, and more
    /// for [`latencies`](Self::latencies).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a label's name that Prometheus does not take, that has a
    /// meaning already (`queue`, `state`, `result`, `le`, `time`) or is there twice, and for two queues of one name, whose numbers could not be told apart;
    /// connection errors.
    #[doc(alias = "exportPrometheusMetrics")]
    pub async fn render(&self) -> Result<String> {
        self.check()?;
        let mut all = Vec::with_capacity(self.queues.len());
        for source in &self.queues {
            let mut numbers = numbers(&source.queue).await?;
            if self.latencies {
                numbers.latencies = Some(source.measured().await?);
            }
            all.push(numbers);
        }
        Ok(self.text(&all))
    }

    fn check(&self) -> Result<()> {
        for (at, Source { queue, .. }) in self.queues.iter().enumerate() {
            let mut before = self.queues.iter().take(at);
            if before.any(|other| other.queue.name() == queue.name()) {
                let name = queue.name().as_str();
                let problem = "must not be the name of two queues of an exporter";
                return Err(Error::invalid_value("queue name", name, problem));
            }
        }
        for (at, (name, _)) in self.labels.iter().enumerate() {
            let problem = if !is_label(name) {
                "must be letters, digits and _, and not begin with a digit or with __"
            } else if LABELS.contains(&name.as_str()) {
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
        let states = all.iter().flat_map(|numbers| {
            STATES.map(|state| {
                let labels = self.labels(&numbers.name, &[("state", state.as_str())]);
                Line::new(labels, &numbers.counts.of(state))
            })
        });
        let help = "Number of jobs in the queue by state";
        metric(&mut text, "bullmq_job_count", "gauge", help, states);
        let of_each = |number: &dyn Fn(&Numbers) -> Option<String>| -> Vec<_> {
            all.iter()
                .filter_map(|numbers| {
                    Some(Line::new(
                        self.labels(&numbers.name, &[]),
                        &number(numbers)?,
                    ))
                })
                .collect()
        };
        let seconds = |time: Duration| Some(time.as_secs_f64().to_string());
        let gaps = |numbers: &Numbers| Some(numbers.latencies.as_ref()?.gaps.to_string());
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
            (
                "oxbull_queue_event_gaps_total",
                "counter",
                "How often events were trimmed before they were read",
                of_each(&gaps),
            ),
            (
                "oxbull_queue_unmeasured_total",
                "counter",
                "Starts and ends whose wait or run is not known",
                measured(all, |name, measured| {
                    let counts = measured.unmeasured.iter();
                    let lines = counts.map(|(time, count)| {
                        Line::new(self.labels(name, &[("time", time)]), count)
                    });
                    lines.collect()
                }),
            ),
            (
                "oxbull_queue_wait_seconds",
                "histogram",
                "From when a job could run to its start",
                measured(all, |name, measured| {
                    self.histogram(name, &[], &measured.wait)
                }),
            ),
            (
                "oxbull_queue_run_seconds",
                "histogram",
                "From the start of a job to its end",
                measured(all, |name, measured| {
                    let runs = ENDS.iter().zip(&measured.run);
                    let lines =
                        runs.flat_map(|(end, run)| self.histogram(name, &[("result", end)], run));
                    lines.collect()
                }),
            ),
        ] {
            metric(&mut text, name, kind, help, lines);
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// The lines of a histogram.
    fn histogram(&self, queue: &str, own: &[(&str, &str)], histogram: &Histogram) -> Vec<Line> {
        let mut lines = Vec::with_capacity(BUCKETS.len() + 3);
        let whole = [("+Inf", histogram.count())];
        for (le, count) in histogram.cumulated().chain(whole) {
            let own = [own, &[("le", le)]].concat();
            lines.push(Line {
                suffix: "_bucket",
                ..Line::new(self.labels(queue, &own), &count)
            });
        }
        for (suffix, value) in [
            ("_sum", histogram.sum()),
            ("_count", histogram.count().to_string()),
        ] {
            lines.push(Line {
                suffix,
                ..Line::new(self.labels(queue, own), &value)
            });
        }
        lines
    }

    fn labels(&self, queue: &str, own: &[(&str, &str)]) -> String {
        let given = self.labels.iter();
        let given = given.map(|(name, value)| (name.as_str(), value.as_str()));
        let all = [("queue", queue)].into_iter().chain(own.iter().copied());
        let all = all.chain(given);
        let all: Vec<_> = all
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        all.join(", ")
    }
}

impl Source {
    /// Reads on and returns what was measured so far. Others who measure the queue wait: an event
    /// counts once.
    async fn measured(&self) -> Result<Measured> {
        let mut latencies = self.latencies.lock().await;
        latencies.read(self.queue.store()).await?;
        Ok(Measured {
            wait: latencies.wait.clone(),
            run: latencies.run.clone(),
            unmeasured: [
                ("wait", latencies.unmeasured_waits),
                ("run", latencies.unmeasured_runs),
            ],
            gaps: latencies.gaps,
        })
    }
}

/// The lines of what is measured of each queue.
fn measured(all: &[Numbers], lines: impl Fn(&str, &Measured) -> Vec<Line>) -> Vec<Line> {
    let measured = all
        .iter()
        .filter_map(|numbers| Some((&numbers.name, numbers.latencies.as_ref()?)));
    measured
        .flat_map(|(name, measured)| lines(name, measured))
        .collect()
}

/// A line of a metric.
struct Line {
    /// What follows the metric's name.
    suffix: &'static str,
    labels: String,
    value: String,
}

impl Line {
    fn new(labels: String, value: &impl ToString) -> Self {
        Self {
            suffix: "",
            labels,
            value: value.to_string(),
        }
    }
}

/// Describes a metric and writes its lines, if it has any.
fn metric(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    lines: impl IntoIterator<Item = Line>,
) {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        return;
    }
    // Writing to a text does not fail.
    write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n").ok();
    for Line {
        suffix,
        labels,
        value,
    } in lines
    {
        writeln!(text, "{name}{suffix}{{{labels}}} {value}").ok();
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
        latencies: None,
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
