//! Counts jobs, and keeps how long they took.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

use crate::{Failure, Kind, Report, Workload, now_us};

/// Latencies, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of the jobs took no longer.
    pub p50: u64,
    /// 99 of 100 jobs took no longer.
    pub p99: u64,
}

/// Latencies as they are measured.
#[derive(Debug, Default)]
pub struct Latencies(Mutex<Vec<u64>>);

impl Latencies {
    /// Adds one that began `at` and ends now.
    pub fn since(&self, at: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(now_us().saturating_sub(at));
    }

    /// Their quantiles; none without any.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.sort_unstable();
        let at = |percent: usize| {
            let rank = (all.len() * percent).div_ceil(100);
            all.get(rank.saturating_sub(1)).copied()
        };
        Some(Quantiles {
            p50: at(50)?,
            p99: at(99)?,
        })
    }
}

/// So many things to wait for.
#[derive(Debug)]
pub struct Countdown {
    left: AtomicUsize,
    done: Notify,
}

impl Countdown {
    fn from(count: usize) -> Self {
        Self {
            left: AtomicUsize::new(count),
            done: Notify::new(),
        }
    }

    /// One less to wait for. More of them than there were to wait for do no harm.
    pub fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.notify_one();
        }
    }

    /// Until there is none left.
    pub async fn wait(&self) {
        self.done.notified().await;
    }
}

/// More than rounding can explain.
const EARLY_US: u64 = 50_000;

/// What a worker's handlers do, and what they and the listeners tell.
#[derive(Debug)]
pub struct Tally {
    /// Handlers that ended well; that began, if they never end.
    pub handled: Countdown,
    /// `completed` events of the queue that a listener got.
    pub heard: Countdown,
    /// Jobs that may still be added before another one has been handled.
    room: Semaphore,
    timed: bool,
    fails: u32,
    forever: bool,
    early: AtomicBool,
    start: Latencies,
    finish: Latencies,
    /// When the jobs whose handlers ran were added, by id, until Redis has their results.
    running: Mutex<HashMap<String, u64>>,
}

impl Tally {
    /// The tally of `jobs` jobs of that workload.
    pub fn new(jobs: usize, workload: &Workload) -> Self {
        Self {
            handled: Countdown::from(jobs),
            heard: Countdown::from(jobs),
            room: Semaphore::new(workload.in_flight),
            timed: workload.is_timed(),
            fails: workload.fails,
            forever: workload.kind == Kind::Ramp,
            early: AtomicBool::new(false),
            start: Latencies::default(),
            finish: Latencies::default(),
            running: Mutex::default(),
        }
    }

    /// Whether [`finished`](Self::finished) is to be called.
    pub fn is_timed(&self) -> bool {
        self.timed
    }

    /// Handles a job that was added `at` and has failed so often before: whether it completes.
    pub async fn handle(&self, id: &str, at: u64, failed: u32) -> bool {
        if self.timed {
            self.start.since(at);
            if at > now_us() + EARLY_US {
                self.early.store(true, Ordering::Relaxed);
            }
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.insert(id.to_owned(), at);
        }
        if failed < self.fails {
            return false;
        }
        self.handled.one_less();
        self.room.add_permits(1);
        if self.forever {
            std::future::pending::<()>().await;
        }
        true
    }

    /// Waits until fewer jobs than the workload has in flight were added and not handled.
    pub async fn has_room(&self) -> Result<(), Failure> {
        self.room.acquire().await?.forget();
        Ok(())
    }

    /// Whether a job started well before it was due.
    pub fn is_early(&self) -> bool {
        self.early.load(Ordering::Relaxed)
    }

    /// Redis has the result of that job.
    pub fn finished(&self, id: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = running.remove(id) {
            drop(running);
            self.finish.since(at);
        }
    }

    /// Puts the latencies into the report.
    pub fn report(&self, report: &mut Report) {
        report.start = self.start.quantiles();
        report.finish = self.finish.quantiles();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named;

    #[test]
    fn quantiles_are_ranks() {
        let latencies = Latencies(Mutex::new((1..=200).rev().collect()));
        let quantiles = latencies.quantiles();
        assert_eq!(quantiles, Some(Quantiles { p50: 100, p99: 198 }));
        let one = Latencies(Mutex::new(vec![7]));
        assert_eq!(one.quantiles(), Some(Quantiles { p50: 7, p99: 7 }));
        assert_eq!(Latencies::default().quantiles(), None);
    }

    #[tokio::test]
    async fn jobs_are_timed_once() -> Result<(), Failure> {
        let tally = Tally::new(1, &named("load-10")?);
        assert!(tally.handle("1", crate::now_us(), 0).await);
        tally.finished("1");
        tally.finished("1");
        tally.finished("2");
        tally.handled.wait().await;
        let finish = tally.finish.0.into_inner()?;
        assert_eq!(finish.len(), 1);
        Ok(())
    }

    #[tokio::test]
    async fn handled_jobs_make_room() -> Result<(), Failure> {
        let workload = named("payload-1k")?;
        let tally = Tally::new(1000, &workload);
        for _ in 0..workload.in_flight {
            tally.has_room().await?;
        }
        assert_eq!(tally.room.available_permits(), 0);
        tally.handle("1", 0, 0).await;
        tally.has_room().await?;
        assert_eq!(tally.room.available_permits(), 0);
        Ok(())
    }

    #[tokio::test]
    async fn jobs_before_their_time_are_noticed() -> Result<(), Failure> {
        let tally = Tally::new(2, &named("delayed")?);
        tally.handle("1", now_us() + EARLY_US / 2, 0).await;
        assert!(!tally.is_early());
        tally.handle("2", now_us() + 2 * EARLY_US, 0).await;
        assert!(tally.is_early());
        Ok(())
    }

    #[tokio::test]
    async fn jobs_fail_as_often_as_the_workload_says() -> Result<(), Failure> {
        let tally = Tally::new(1, &named("retries")?);
        assert!(!tally.handle("1", 0, 0).await);
        assert!(!tally.handle("1", 0, 1).await);
        assert!(tally.handle("1", 0, 2).await);
        tally.handled.wait().await;
        Ok(())
    }
}
