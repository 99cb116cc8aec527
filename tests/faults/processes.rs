//! A1 to A6, V15: worker processes that are killed, frozen and asked to end.
//!
//! The process is this test binary, started again to run the one test that is a worker. It notes
//! what its handlers did in a file, so that the evidence survives it.

use std::fs::{File, OpenOptions};
use std::future::ready;
use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxbull::{Client, ClientConfig, Context, Job, JobResult, Outcome, ShutdownOptions, Worker};
use oxbull_testkit::{DEADLINE, TestResult, eventually, unique};

use crate::check::{Allow, check_queue};
use crate::fixture::{Fixture, LOCK, Work, work};

const URL: &str = "OXBULL_FAULT_WORKER_URL";
const QUEUE: &str = "OXBULL_FAULT_WORKER_QUEUE";
const EFFECTS: &str = "OXBULL_FAULT_WORKER_EFFECTS";

/// The worker process. Does nothing unless another test started it.
#[test]
fn worker_process() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    // The end of the test that started us is the end of this process, however it came.
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        std::process::exit(3);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(serve(&url)).unwrap();
}

async fn serve(url: &str) -> TestResult {
    let effects = std::env::var(EFFECTS)?;
    let effects = Arc::new(OpenOptions::new().append(true).open(effects)?);
    let client = Client::connect(ClientConfig::from_url(url)?).await?;
    let worker = Worker::builder(&client, std::env::var(QUEUE)?)
        .concurrency(10)
        .lock_duration(LOCK)
        .stalled_interval(Duration::from_millis(500))
        .shutdown(
            ShutdownOptions::new()
                .finish_within(Duration::from_secs(30))
                .cancel_within(Duration::from_secs(30)),
        )
        .state(effects)
        .start(noted)
        .await?;
    let closed = worker.run_until_signal().await?;
    std::process::exit(if closed.abandoned == 0 { 0 } else { 4 });
}

/// Works as long as the job says, and notes its start and end.
async fn noted(job: Job<Work>, context: Context<Arc<File>>) -> JobResult<u64> {
    let note = |what: &str| {
        let line = format!("{} {} {what}\n", job.id(), job.attempts_started());
        // One write, so that lines of several processes do not mix.
        context.state().as_ref().write_all(line.as_bytes())
    };
    note("start")?;
    tokio::time::sleep(Duration::from_millis(job.data().ms)).await;
    note("end")?;
    Ok(Outcome::Done(job.data().ms))
}

/// A running worker process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    effects: PathBuf,
    /// How many of its notes are among the fixture's effects.
    taken: usize,
}

impl Process {
    fn start(fixture: &Fixture) -> TestResult<Self> {
        Self::start_at(fixture, &fixture.server.url())
    }

    /// Starts a process that reaches the fixture's server by this URL.
    pub(crate) fn start_at(fixture: &Fixture, url: &str) -> TestResult<Self> {
        let effects = fixture.server.dir().join(unique("effects"));
        File::create(&effects)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["--exact", "processes::worker_process", "--nocapture"])
            .env(URL, url)
            .env(QUEUE, &fixture.name)
            .env(EFFECTS, &effects)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self {
            child,
            effects,
            taken: 0,
        })
    }

    /// Moves what the process noted to the fixture's effects.
    pub(crate) fn take_notes(&mut self, fixture: &Fixture) -> TestResult {
        let text = std::fs::read_to_string(&self.effects)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let notes: Vec<&str> = whole.lines().collect();
        for note in &notes[self.taken..] {
            let mut words = note.split(' ');
            let (Some(id), Some(start), Some(what)) = (words.next(), words.next(), words.next())
            else {
                return Err(format!("a note that says {note:?}").into());
            };
            fixture.effects.note(id, start.parse()?, what == "end");
        }
        self.taken = notes.len();
        Ok(())
    }

    /// Waits until handlers have started so many times, here or there.
    pub(crate) async fn started(&mut self, fixture: &Fixture, count: usize) -> TestResult {
        let from = Instant::now();
        while fixture.effects.starts() < count {
            self.take_notes(fixture)?;
            if from.elapsed() > DEADLINE {
                return Err(format!("{} starts", fixture.effects.starts()).into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, name: &str) -> TestResult {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status()?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| "no such process".into())
    }

    pub(crate) async fn ended(&mut self) -> TestResult<ExitStatus> {
        let status = eventually(DEADLINE, || ready(self.child.try_wait().ok().flatten()));
        Ok(status.await?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A1: a process is killed with jobs in its hands; a worker that lives runs them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_process_loses_no_job() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(40, 400).await?;
    let mut process = Process::start(&fixture)?;
    process.started(&fixture, 15).await?;
    process.signal("-KILL")?;
    process.ended().await?;
    process.take_notes(&fixture)?;
    let from = Instant::now();
    let held = fixture.queue.counts().await?.active;
    let worker = fixture.worker().concurrency(40).start(work).await?;
    fixture.drained().await?;
    let took = from.elapsed();
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("A1 kill -9 with {held} jobs: drained after {took:?}, {summary}");
    assert_eq!((summary.completed, summary.failed), (40, 0));
    assert_eq!(u64::try_from(summary.stalls)?, held);
    assert!(summary.repeated <= 10);
    assert!(took < (LOCK + Duration::from_secs(1)) * 5, "{took:?}");
    Ok(())
}

/// V15: a process is frozen for longer than its locks last. Others run its jobs; when it wakes up
/// it stores nothing of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_frozen_beyond_its_locks_stores_nothing() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(16, 1000).await?;
    let mut process = Process::start(&fixture)?;
    process.started(&fixture, 10).await?;
    process.signal("-STOP")?;
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    let completed = fixture.queue.counts().await?.completed;
    assert_eq!(completed, 16);
    let events = fixture
        .server
        .int(&["XLEN", &fixture.key("events")])
        .await?;
    process.signal("-CONT")?;
    // It takes part again, and so has dealt with what it held.
    let mut ids = ids;
    worker.pause().await?;
    let before = fixture.effects.starts();
    process.take_notes(&fixture)?;
    ids.extend(fixture.add(1, 0).await?);
    process.started(&fixture, before + 1).await?;
    fixture.drained().await?;
    process.signal("-TERM")?;
    assert!(process.ended().await?.success());
    process.take_notes(&fixture)?;
    worker.close().await;
    let finished = fixture
        .server
        .cli(&["XRANGE", &fixture.key("events"), "-", "+"])
        .await?;
    let finished = finished.items().iter().filter(|entry| {
        entry.items()[1]
            .map()
            .get("event")
            .is_some_and(|event| event == "completed")
    });
    assert_eq!(
        finished.count(),
        17,
        "completed more than once ({events} events)"
    );
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("V15 SIGSTOP beyond the lock: {summary}");
    assert_eq!((summary.completed, summary.failed), (17, 0));
    assert!(summary.repeated <= 10 && summary.stalls == 10);
    Ok(())
}

/// A3: frozen for less than the locks last, nothing changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_frozen_within_its_locks_goes_on() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(10, 1500).await?;
    let mut process = Process::start(&fixture)?;
    let worker = fixture.worker().paused().start(work).await?;
    process.started(&fixture, 10).await?;
    process.signal("-STOP")?;
    tokio::time::sleep(LOCK / 4).await;
    process.signal("-CONT")?;
    fixture.drained().await?;
    process.take_notes(&fixture)?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("A3 SIGSTOP within the lock: {summary}");
    assert_eq!(
        (summary.completed, summary.repeated, summary.stalls),
        (10, 0, 0)
    );
    Ok(())
}

/// A4, A6: SIGTERM lets handlers finish; a second one gives their jobs back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_signal_releases_jobs() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut ids = fixture.add(3, 1000).await?;
    let mut process = Process::start(&fixture)?;
    process.started(&fixture, 3).await?;
    process.signal("-TERM")?;
    let status = process.ended().await?;
    process.take_notes(&fixture)?;
    assert!(status.success(), "{status}");
    assert_eq!(fixture.queue.counts().await?.completed, 3);

    let long = fixture.add(5, 60_000).await?;
    let mut process = Process::start(&fixture)?;
    process.started(&fixture, 8).await?;
    process.signal("-TERM")?;
    // A signal that is still pending would swallow a second one of its kind.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let from = Instant::now();
    process.signal("-INT")?;
    let status = process.ended().await?;
    let took = from.elapsed();
    assert!(status.success(), "{status}");
    assert_eq!(fixture.queue.counts().await?.waiting, 5);
    for id in &long {
        assert_eq!(fixture.field(id, "atm").await?, None);
        fixture.queue.update_data(id, &Work { ms: 0 }).await?;
    }
    ids.extend(long);
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("A6 second signal took {took:?}: {summary}");
    assert_eq!((summary.completed, summary.stalls), (8, 0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    Ok(())
}
