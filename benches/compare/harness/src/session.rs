//! One run of one driver on a server of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use compare_driver::{Failure, Quantiles, Report, Workload};
use oxbull_testkit::{RedisServer, RedisServerBuilder};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::contestant::{Contestant, folder};
use crate::process::Usage;
use crate::proxy::Proxy;

/// Longest wait for a driver to say its next line.
const PATIENCE: Duration = Duration::from_secs(20);

/// The same while it fills a long queue.
const LONG_PATIENCE: Duration = Duration::from_secs(400);

/// What one run came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Numbers {
    /// Jobs within the window.
    pub(crate) jobs: usize,
    /// How long it was.
    pub(crate) seconds: f64,
    /// Jobs in a second.
    pub(crate) jobs_per_s: f64,
    /// Redis' processor time, in microseconds a job.
    pub(crate) redis_us: f64,
    /// The client's, in microseconds a job.
    pub(crate) client_us: f64,
    /// From the add to the handler's start, in microseconds.
    pub(crate) start: Option<Quantiles>,
    /// From the add to the stored result, in microseconds.
    pub(crate) finish: Option<Quantiles>,
    /// The most memory that the client had within the window, in KiB.
    pub(crate) peak_kib: u64,
    /// The part of it that it did not have when the window began, in KiB.
    pub(crate) growth_kib: u64,
    /// The size of the jobs' data, about.
    pub(crate) data_bytes: usize,
}

/// How a run ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It has numbers.
    Done(Numbers),
    /// The contestant cannot do that.
    Unsupported(String),
    /// It should have worked.
    Failed(String),
}

/// What a driver is to do, and on what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn<'a> {
    /// Whose driver.
    pub(crate) contestant: Contestant,
    /// The workload.
    pub(crate) workload: &'a Workload,
    /// Its size, as the driver gets it.
    pub(crate) jobs: usize,
    /// Jobs a second, for workloads with a rate.
    pub(crate) rate: f64,
    /// Goes into the data.
    pub(crate) seed: u64,
}

/// What is done at the marks, besides reading the accounts.
pub(crate) trait Watch {
    /// The window is about to open.
    async fn start(&mut self, server: &RedisServer) -> Result<(), Failure>;
    /// It has closed.
    async fn end(&mut self, server: &RedisServer) -> Result<(), Failure>;
}

/// Nothing.
impl Watch for () {
    async fn start(&mut self, _: &RedisServer) -> Result<(), Failure> {
        Ok(())
    }

    async fn end(&mut self, _: &RedisServer) -> Result<(), Failure> {
        Ok(())
    }
}

impl Turn<'_> {
    /// Runs it on a server that is started for it.
    pub(crate) async fn run(&self, server: RedisServerBuilder, watch: &mut impl Watch) -> Outcome {
        match self.try_run(server, watch).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    async fn try_run(
        &self,
        server: RedisServerBuilder,
        watch: &mut impl Watch,
    ) -> Result<Outcome, Failure> {
        let server = server.start().await?;
        if self.workload.backlog > 0 {
            let snapshot = self.backlog().await?;
            server.kill_hard();
            std::fs::copy(snapshot, server.dir().join("dump.rdb"))?;
            server.restart().await?;
        } else if self.workload.is_filled() {
            let mut filling = Driver::start(self, "fill", &server.url())?;
            match filling.line(LONG_PATIENCE).await? {
                Line::Report(_) => {}
                Line::Unsupported(why) => return Ok(Outcome::Unsupported(why)),
                Line::Mark(mark) => return Err(format!("unexpected mark {mark}").into()),
            }
        }
        let proxy = match self.workload.rtt_ms {
            0 => None,
            rtt => Some(Proxy::start(server.port(), Duration::from_millis(rtt) / 2).await?),
        };
        let url = proxy
            .as_ref()
            .map_or_else(|| server.url(), |proxy| server.url_at(proxy.port));
        let mut driver = Driver::start(self, "run", &url)?;
        match driver.line(PATIENCE).await? {
            Line::Mark(mark) if mark == "start" => {}
            Line::Unsupported(why) => return Ok(Outcome::Unsupported(why)),
            other => return Err(format!("expected the start, got {other:?}").into()),
        }
        let pid = driver.child.id().ok_or("the driver has ended")?;
        watch.start(&server).await?;
        Usage::forget_peak(pid)?;
        let before = (server.used_cpu_us().await?, Usage::of(pid)?);
        driver.go().await?;
        match driver.line(PATIENCE).await? {
            Line::Mark(mark) if mark == "end" => {}
            other => return Err(format!("expected the end, got {other:?}").into()),
        }
        let after = (server.used_cpu_us().await?, Usage::of(pid)?);
        watch.end(&server).await?;
        driver.go().await?;
        let report = match driver.line(PATIENCE).await? {
            Line::Report(report) => report,
            other => return Err(format!("expected a report, got {other:?}").into()),
        };
        let mut numbers = numbers(&report, &before, &after);
        numbers.data_bytes = report.jobs * self.workload.bytes();
        Ok(Outcome::Done(numbers))
    }

    /// A snapshot of the server with the workload's backlog, which is made once.
    async fn backlog(&self) -> Result<PathBuf, Failure> {
        let filler = self.contestant.filler();
        let jobs = self.workload.backlog;
        let file = folder().join(format!("target/backlog-{}-{jobs}.rdb", filler.name()));
        if is_fresh(&file)? {
            return Ok(file);
        }
        let server = RedisServer::start().await?;
        let turn = Self {
            contestant: filler,
            jobs,
            ..*self
        };
        let mut filling = Driver::start(&turn, "fill", &server.url())?;
        match filling.line(LONG_PATIENCE).await? {
            Line::Report(_) => {}
            other => return Err(format!("expected a report, got {other:?}").into()),
        }
        server.cli(&["SAVE"]).await?;
        std::fs::copy(server.dir().join("dump.rdb"), &file)?;
        Ok(file)
    }
}

/// Whether the snapshot is there, and younger than the program that would make it.
fn is_fresh(file: &Path) -> io::Result<bool> {
    let Ok(made) = file.metadata().and_then(|it| it.modified()) else {
        return Ok(false);
    };
    Ok(made > std::env::current_exe()?.metadata()?.modified()?)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and times are far below 2^52"
)]
fn numbers(report: &Report, before: &(u64, Usage), after: &(u64, Usage)) -> Numbers {
    let jobs = report.jobs.max(1) as f64;
    Numbers {
        jobs: report.jobs,
        seconds: report.seconds,
        jobs_per_s: jobs / report.seconds,
        redis_us: after.0.saturating_sub(before.0) as f64 / jobs,
        client_us: after.1.cpu_us.saturating_sub(before.1.cpu_us) as f64 / jobs,
        start: report.start,
        finish: report.finish,
        peak_kib: after.1.peak_kib,
        growth_kib: after.1.peak_kib.saturating_sub(before.1.resident_kib),
        data_bytes: 0,
    }
}

/// A line that a driver says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Mark(String),
    Unsupported(String),
    Report(Report),
}

struct Driver {
    child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    input: tokio::process::ChildStdin,
}

impl Driver {
    fn start(turn: &Turn<'_>, command: &str, url: &str) -> Result<Self, Failure> {
        let mut child = turn
            .contestant
            .command()
            .arg(command)
            .arg(&turn.workload.name)
            .arg(turn.jobs.to_string())
            .arg(url)
            .arg(turn.rate.to_string())
            .arg(turn.seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let input = child.stdin.take().ok_or("no standard input")?;
        Ok(Self {
            child,
            lines: BufReader::new(output).lines(),
            input,
        })
    }

    async fn line(&mut self, patience: Duration) -> Result<Line, Failure> {
        let line = timeout(patience, self.lines.next_line())
            .await
            .map_err(|_| format!("no end within {} s", patience.as_secs()))??
            .ok_or("the driver gave up")?;
        Ok(serde_json::from_str(&line)?)
    }

    async fn go(&mut self) -> Result<(), Failure> {
        self.input.write_all(b"go\n").await?;
        self.input.flush().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_drivers_are_read() -> Result<(), serde_json::Error> {
        let line = r#"{"report":{"jobs":3,"seconds":0.5,"start":{"p50":1,"p99":2},"finish":null}}"#;
        let Line::Report(report) = serde_json::from_str(line)? else {
            return Err(serde::de::Error::custom("no report"));
        };
        assert_eq!(report.jobs, 3);
        assert_eq!(report.start.map(|start| start.p99), Some(2));
        assert!(matches!(
            serde_json::from_str(r#"{"mark":"start"}"#)?,
            Line::Mark(mark) if mark == "start"
        ));
        assert!(matches!(
            serde_json::from_str(r#"{"unsupported":"no flows"}"#)?,
            Line::Unsupported(_)
        ));
        assert!(serde_json::from_str::<Line>("hello").is_err());
        Ok(())
    }

    #[test]
    fn costs_are_per_job() {
        let report = Report {
            jobs: 100,
            seconds: 0.5,
            start: None,
            finish: None,
        };
        let usage = |cpu_us, peak_kib, resident_kib| Usage {
            cpu_us,
            peak_kib,
            resident_kib,
        };
        let numbers = numbers(
            &report,
            &(1000, usage(50, 900, 800)),
            &(3000, usage(450, 1500, 1400)),
        );
        let all = [numbers.jobs_per_s, numbers.redis_us, numbers.client_us];
        assert!(
            all.iter()
                .zip([200.0, 20.0, 4.0])
                .all(|(one, other)| (one - other).abs() < 1e-9),
            "{all:?}"
        );
        assert_eq!((numbers.peak_kib, numbers.growth_kib), (1500, 700));
    }
}
