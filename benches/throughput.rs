//! Throughput of the hot paths on a private Redis, with about 100 bytes of data a job.
//!
//! Prints one line a workload: `NAME jobs_per_s=N redis_us=X client_us=Y`, microseconds of CPU per
//! job, Redis' from `INFO cpu` and ours from the process's own times. Names as arguments choose
//! workloads. Where Redis runs under callgrind (`make bench ARGS=--instructions`), the line also has
//! the `redis_instructions` of a job, and a tenth of the jobs is run.
#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports on its standard output"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use oxbull::{Context, Job, JobResult, NewJob, Outcome, Queue, Worker};
use oxbull_testkit::{RedisServer, TestResult};
use tokio::sync::Notify;

/// About a hundred bytes of JSON.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Payload {
    to: String,
    body: String,
}

impl Payload {
    fn sample() -> Self {
        Self {
            to: "seller-18422@example.org".into(),
            body: "a short message of about sixty bytes that a seller gets".into(),
        }
    }
}

fn main() -> TestResult {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let fewer = if counts_instructions() { 10 } else { 1 };
    let chosen =
        |name: &str| wanted.is_empty() || wanted.iter().any(|arg| name.contains(arg.as_str()));
    runtime.block_on(async {
        if chosen("add-one") {
            add_one(20_000 / fewer).await?;
        }
        if chosen("add-1000-in-flight") {
            add_in_flight(100_000 / fewer).await?;
        }
        if chosen("add-bulk") {
            add_bulk(200_000 / fewer).await?;
        }
        for concurrency in [1, 10, 100] {
            if chosen(&format!("process-{concurrency}")) {
                let jobs = if concurrency == 1 { 30_000 } else { 100_000 };
                process(concurrency, jobs / fewer).await?;
            }
        }
        Ok(())
    })
}

type Fixture = oxbull_fixture::Fixture<Payload>;

async fn fixture() -> TestResult<Fixture> {
    oxbull_fixture::Fixture::builder()
        .name("bench")
        .start()
        .await
}

async fn fill(queue: &Queue<Payload>, jobs: usize) -> TestResult {
    let batch = (0..jobs).map(|_| NewJob::new("job", Payload::sample()));
    for added in queue.add_bulk(batch).await? {
        added?;
    }
    Ok(())
}

/// The CPU that Redis and this process have used, and the time.
struct Meter {
    redis: u64,
    client: Duration,
    instructions: Option<u64>,
    at: Instant,
}

impl Meter {
    async fn start(server: &RedisServer) -> TestResult<Self> {
        Ok(Self {
            redis: server.used_cpu_us().await?,
            client: own_cpu(),
            instructions: instructions(server),
            at: Instant::now(),
        })
    }

    async fn report(self, server: &RedisServer, name: &str, jobs: usize) -> TestResult {
        let seconds = self.at.elapsed().as_secs_f64();
        let redis = server.used_cpu_us().await? - self.redis;
        let client = own_cpu().saturating_sub(self.client);
        let count = f64::from(u32::try_from(jobs)?);
        let instructions = instructions(server)
            .zip(self.instructions)
            .map(|(now, before)| (now - before) / u64::try_from(jobs).unwrap_or(u64::MAX))
            .map_or_else(String::new, |each| format!(" redis_instructions={each}"));
        println!(
            "{name} jobs_per_s={:.0} redis_us={:.2} client_us={:.2}{instructions}",
            count / seconds,
            f64::from(u32::try_from(redis)?) / count,
            client.as_secs_f64() * 1e6 / count,
        );
        Ok(())
    }
}

fn counts_instructions() -> bool {
    std::env::var_os("CALLGRIND_REDIS_SERVER").is_some()
}

/// The instructions that the server's main thread has executed, if it runs under callgrind.
fn instructions(server: &RedisServer) -> Option<u64> {
    if !counts_instructions() {
        return None;
    }
    let answer = std::process::Command::new("callgrind_control")
        .args(["-e", &server.pid()?.to_string()])
        .output()
        .ok()?;
    let answer = String::from_utf8_lossy(&answer.stdout);
    let total = answer
        .lines()
        .find_map(|line| line.trim().strip_prefix("Th 1"))?;
    total.trim().replace(',', "").parse().ok()
}

/// User and system time of this process, from the kernel's account in ticks of 10 ms; zero where
/// there is no `/proc`.
fn own_cpu() -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the command name, which may contain spaces.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: u32 = fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u32>().ok())
        .sum();
    TICK * ticks
}

async fn add_one(jobs: usize) -> TestResult {
    let fixture = fixture().await?;
    let data = Payload::sample();
    let meter = Meter::start(&fixture.server).await?;
    for _ in 0..jobs {
        fixture.queue.add("job", &data).await?;
    }
    meter.report(&fixture.server, "add-one", jobs).await
}

async fn add_in_flight(jobs: usize) -> TestResult {
    let fixture = fixture().await?;
    let data = Payload::sample();
    let meter = Meter::start(&fixture.server).await?;
    let mut adds = futures::stream::iter(0..jobs)
        .map(|_| fixture.queue.add("job", &data))
        .buffer_unordered(1000);
    while let Some(added) = adds.next().await {
        added?;
    }
    drop(adds);
    meter
        .report(&fixture.server, "add-1000-in-flight", jobs)
        .await
}

async fn add_bulk(jobs: usize) -> TestResult {
    let fixture = fixture().await?;
    let meter = Meter::start(&fixture.server).await?;
    fill(&fixture.queue, jobs).await?;
    meter.report(&fixture.server, "add-bulk", jobs).await
}

struct Counter {
    left: AtomicUsize,
    done: Notify,
}

async fn count(_: Job<Payload>, context: Context<Arc<Counter>>) -> JobResult<()> {
    if context.state().left.fetch_sub(1, Ordering::Relaxed) == 1 {
        context.state().done.notify_one();
    }
    Ok(Outcome::Done(()))
}

async fn process(concurrency: usize, jobs: usize) -> TestResult {
    let fixture = fixture().await?;
    fill(&fixture.queue, jobs).await?;
    let counter = Arc::new(Counter {
        left: AtomicUsize::new(jobs),
        done: Notify::new(),
    });
    let meter = Meter::start(&fixture.server).await?;
    let worker = Worker::builder(&fixture.client, "bench")
        .concurrency(concurrency)
        .state(Arc::clone(&counter))
        .start(count)
        .await?;
    counter.done.notified().await;
    // The last result counts too.
    while fixture.queue.counts().await?.completed < u64::try_from(jobs)? {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    meter
        .report(&fixture.server, &format!("process-{concurrency}"), jobs)
        .await?;
    worker.close().await;
    Ok(())
}
