//! The command line, the marks and the report.

use std::fmt;
use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::{Quantiles, Workload, named};

/// Why a contestant stopped.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A contestant lacks what a workload needs.
#[derive(Debug)]
pub struct Unsupported(pub &'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for Unsupported {}

/// What the harness asks for.
#[derive(Debug, Clone)]
pub struct Task {
    /// Whether the queue is to be filled; otherwise the workload is to be run.
    pub fill: bool,
    /// The workload.
    pub workload: Workload,
    /// How many jobs; flows, for a workload of flows.
    pub jobs: usize,
    /// Where Redis is.
    pub url: String,
    /// Jobs to add in a second, for a workload with a fixed rate.
    pub rate: f64,
    /// Goes into the jobs' data.
    pub seed: u64,
}

impl Task {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut next = |what: &str| {
            args.next()
                .ok_or_else(|| format!("{what} is missing: fill|run WORKLOAD JOBS URL RATE SEED"))
        };
        Ok(Self {
            fill: match next("the command")?.as_str() {
                "fill" => true,
                "run" => false,
                other => return Err(format!("{other} is neither fill nor run").into()),
            },
            workload: named(&next("the workload")?)?,
            jobs: next("the number of jobs")?.parse()?,
            url: next("the address")?,
            rate: next("the rate")?.parse()?,
            seed: next("the seed")?.parse()?,
        })
    }

    /// The names of the queues.
    pub fn queues(&self) -> Vec<String> {
        let queues = self.workload.queues.max(1);
        (0..queues).map(|queue| format!("bench-{queue}")).collect()
    }

    /// The name of the only queue.
    pub fn queue(&self) -> String {
        "bench-0".to_owned()
    }
}

/// A contestant's own result.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Jobs within the window.
    pub jobs: usize,
    /// How long the window was.
    pub seconds: f64,
    /// From the call that adds a job to its handler's start, in microseconds; for a delayed job
    /// from when it was due.
    pub start: Option<Quantiles>,
    /// To the worker's own notice that Redis has the job's result.
    pub finish: Option<Quantiles>,
}

/// The measured time.
#[derive(Debug)]
pub struct Window(Instant);

impl Window {
    /// Says that the work begins, once the harness is ready for it.
    pub fn open() -> Result<Self, Failure> {
        mark("start")?;
        Ok(Self(Instant::now()))
    }

    /// Says that it is done.
    pub fn close(self, jobs: usize) -> Result<Report, Failure> {
        let seconds = self.0.elapsed().as_secs_f64();
        mark("end")?;
        Ok(Report {
            jobs,
            seconds,
            ..Report::default()
        })
    }
}

/// Says a mark and waits for the harness.
fn mark(name: &str) -> Result<(), Failure> {
    say(&serde_json::json!({ "mark": name }))?;
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line)? == 0 {
        return Err("the harness is gone".into());
    }
    Ok(())
}

fn say(value: &serde_json::Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()?;
    Ok(())
}

/// Runs a contestant on two worker threads and prints what it reports.
pub fn drive<F, Fut>(contestant: F) -> Result<(), Failure>
where
    F: FnOnce(Task) -> Fut,
    Fut: Future<Output = Result<Report, Failure>>,
{
    let task = Task::from_args(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match runtime.block_on(contestant(task)) {
        Ok(report) => say(&serde_json::json!({ "report": report }))?,
        Err(error) => match error.downcast_ref::<Unsupported>() {
            Some(Unsupported(why)) => say(&serde_json::json!({ "unsupported": why }))?,
            None => return Err(error),
        },
    }
    // Workers are not waited for: what they do after the window is nobody's result.
    std::process::exit(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(line: &str) -> Result<Task, Failure> {
        Task::from_args(line.split(' ').map(ToOwned::to_owned))
    }

    #[test]
    fn command_lines_are_read() -> Result<(), Failure> {
        let task = task("run queues-100 5 redis://127.0.0.1:1/0 2.5 7")?;
        assert!(!task.fill);
        assert_eq!((task.jobs, task.seed), (5, 7));
        assert_eq!(task.queues().len(), 100);
        Ok(())
    }

    #[test]
    fn other_command_lines_are_refused() {
        for line in [
            "walk add-one 1 u 0 0",
            "run nothing 1 u 0 0",
            "run add-one 1",
        ] {
            assert!(task(line).is_err(), "{line}");
        }
    }
}
