//! How much of what a rate limit allows is started, on a private Redis with jobs in plenty.
//!
//! Prints one line a limit and number of workers: `limit-MAX-per-MSms workers=N windows=W ratio=R`.
//! R is the time that W windows last over the time it took, by the events' times, from the first
//! start until W * MAX jobs had started and the next one could: what is missing to 1 is the time
//! lost between windows. Names as arguments choose limits.
#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports on its standard output"
)]

use std::time::Duration;

use oxbull::{
    Client, ClientConfig, Context, Job, JobRateLimit, JobResult, NewJob, Outcome, Queue, Worker,
};
use oxbull_testkit::{RedisServer, TestResult};

/// Jobs and milliseconds of each limit: 50 to 2,000 jobs a second.
const LIMITS: [(u32, u64); 6] = [
    (50, 1000),
    (10, 200),
    (100, 200),
    (200, 200),
    (200, 100),
    (2000, 1000),
];

/// How long each limit is measured.
const TIME: Duration = Duration::from_secs(4);

fn main() -> TestResult {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for (max, window) in LIMITS {
            for workers in [1, 3] {
                let name = format!("limit-{max}-per-{window}ms");
                if wanted.is_empty() || wanted.iter().any(|arg| name.contains(arg.as_str())) {
                    measure(&name, max, window, workers).await?;
                }
            }
        }
        Ok(())
    })
}

async fn measure(name: &str, max: u32, window: u64, workers: usize) -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let queue = Queue::<()>::builder(&client, "bench")
        .max_events(1_000_000)
        .open()
        .await?;
    let windows = u64::try_from(TIME.as_millis())?.div_ceil(window);
    let whole = usize::try_from(u64::from(max) * windows)?;
    let batch = (0..=whole).map(|_| NewJob::new("job", ()));
    for added in queue.add_bulk(batch).await? {
        added?;
    }
    let mut fleet = Vec::new();
    for _ in 0..workers {
        let worker = Worker::builder(&client, "bench")
            .concurrency(50)
            .rate_limit(JobRateLimit::new(max, Duration::from_millis(window)));
        fleet.push(worker.start(nothing).await?);
    }
    while queue.counts().await?.completed <= u64::try_from(whole)? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for worker in fleet {
        worker.close().await;
    }
    let starts = starts(&server).await?;
    let (Some(first), Some(last)) = (starts.first(), starts.get(whole)) else {
        return Err("starts are missing from the stream of events".into());
    };
    let ratio =
        f64::from(u32::try_from(windows * window)?) / f64::from(u32::try_from(last - first)?);
    println!("{name} workers={workers} windows={windows} ratio={ratio:.4}");
    Ok(())
}

async fn nothing(_: Job<()>, _: Context) -> JobResult<()> {
    Ok(Outcome::Done(()))
}

/// The times (ms) of the events that tell of a start.
async fn starts(server: &RedisServer) -> TestResult<Vec<u64>> {
    let events = server
        .cli(&["XRANGE", "bull:bench:events", "-", "+"])
        .await?;
    let mut entries = events.entries();
    entries.retain(|(_, fields)| fields.get("event").is_some_and(|event| event == "active"));
    Ok(entries.into_iter().map(|(time, _)| time).collect())
}
