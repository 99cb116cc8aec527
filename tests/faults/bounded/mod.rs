//! No call holds up the server: every operation meets 100,000 of whatever it touches, and each script and
//! command is judged by the processor time it takes and by the commands it runs. The time is told in multiples of a
//! reference that is measured beside it, because machines differ, and one machine from hour to hour.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use oxbull::{Client, ClientConfig, JobId, JobRecord, ManualWorker, Queue};
use oxbull_testkit::{Connection, RedisServer, TestResult, Value as Reply};
use serde_json::Value;

use crate::meter::{Cost, Meter};
pub(crate) use crate::scale::rows::JOB;

mod flows;
mod jobs;
mod many;
mod reading;
mod values;

/// How many of everything there are.
const MANY: usize = 100_000;

/// What nine in ten calls of an operation may take of the server's processor, in references: about two milliseconds
/// where a reference takes 1.3. Steps take less than one; the rest is for what the machine does beside.
const USUAL: f64 = 1.5;

/// Those that may take more, and why.
const MORE: [(&str, f64, &str); 5] = [
    (
        "advance",
        2.5,
        "up to 600 ids without a job are passed over in a call",
    ),
    (
        "upsert_scheduler",
        2.5,
        "its iteration is looked for in a list of 100,000, and taken out of it",
    ),
    (
        "remove_job",
        3.0,
        "a child in a list of 120,000 is looked for, and taken out of its middle",
    ),
    ("remove_unprocessed_children", 3.0, "as above"),
    (
        "kv/sliding_window",
        3.5,
        "a request of cost 1,000 has 1,000 entries, all or none",
    ),
];

/// What any call of a script may take, in references. The time of a single call holds whatever the server does
/// beside it: growing its tables, dropping expired keys for up to 25 ms.
const ANY: f64 = 15.0;

/// How many commands a script may run: a flow of 200 jobs is added in one call, and has seven or eight a job.
const COMMANDS_MAX: u64 = 1_700;

/// How often an operation may miss this before it counts: all but one must be the machine's doing.
const TRIES: usize = 3;

type Row = for<'a> fn(&'a MeteredQueue) -> Pin<Box<dyn Future<Output = TestResult> + Send + 'a>>;

/// The operations. A script that none of them runs fails the test.
const ROWS: [(&str, Row); 17] = [
    ("jobs of a crowded queue", |b| Box::pin(jobs::crowded(b))),
    ("queue with very many active jobs", |b| {
        Box::pin(jobs::busy(b))
    }),
    ("schedules", |b| Box::pin(jobs::schedules(b))),
    ("flow of waiting children", |b| {
        Box::pin(flows::wide_flow(b))
    }),
    ("flows that are added", |b| Box::pin(flows::added_flows(b))),
    ("flow of several levels", |b| Box::pin(flows::deep_flow(b))),
    ("flow of ended children", |b| Box::pin(flows::ended_flow(b))),
    ("unprocessed children and blocked parents", |b| {
        Box::pin(flows::unprocessed_flow(b))
    }),
    ("drain", |b| Box::pin(jobs::drained(b))),
    ("retention", |b| Box::pin(jobs::retained(b))),
    ("looking at a queue", |b| Box::pin(reading::looked_at(b))),
    ("clean", |b| Box::pin(many::cleaned(b))),
    ("obliterate", |b| Box::pin(many::obliterated(b))),
    ("retry and promote", |b| Box::pin(many::queued_again(b))),
    ("orphans and logs", |b| Box::pin(many::orphaned(b))),
    ("sessions and values", |b| Box::pin(values::sessions(b))),
    ("windows and cache", |b| Box::pin(values::windows(b))),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_holds_up_the_server_at_100_000_of_anything() -> TestResult {
    let bench = MeteredQueue::start().await?;
    let mut seen = BTreeSet::new();
    let mut misses = Vec::new();
    for (row, run) in ROWS {
        let mut missed = String::new();
        for _ in 0..TRIES {
            bench.meter.rest();
            bench.server.cli(&["FLUSHALL"]).await?;
            bench.meter.costs();
            bench.meter.go_on();
            run(&bench)
                .await
                .map_err(|error| format!("{row}: {error}"))?;
            let costs = bench.meter.costs();
            seen.extend(costs.iter().map(|cost| cost.name.clone()));
            missed = judge(row, costs);
            if missed.is_empty() {
                break;
            }
        }
        if !missed.is_empty() {
            misses.push(missed);
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
    let scripts: BTreeSet<_> = bench.meter.hashes.into_keys().collect();
    let unseen: Vec<_> = scripts.difference(&seen).collect();
    assert!(unseen.is_empty(), "no operation runs {unseen:?}");
    Ok(())
}

/// Prints what the calls of an operation cost; returns those that cost too much.
fn judge(row: &str, costs: Vec<Cost>) -> String {
    let mut by_name: BTreeMap<String, Vec<Cost>> = BTreeMap::new();
    for cost in costs {
        by_name.entry(cost.name.clone()).or_default().push(cost);
    }
    let mut missed = String::new();
    for (name, mut costs) in by_name {
        costs.sort_by(|a, b| a.references().total_cmp(&b.references()));
        let usual = costs[(costs.len() - 1) * 9 / 10].references();
        let longest = costs[costs.len() - 1].references();
        let commands = costs.iter().map(|cost| cost.commands).max().unwrap_or(0);
        let line = format!(
            "{row}: {name} {} calls, {usual:.2} references, at most {longest:.2} and {commands} commands",
            costs.len()
        );
        println!("{line}");
        let script = name.contains(char::is_lowercase);
        let more = MORE.iter().find(|(named, ..)| *named == name);
        let allowed = more.map_or(USUAL, |(_, allowed, _)| *allowed);
        let too_long = usual > allowed || script && longest > ANY;
        // The text of a test's own set-up is compiled and costs what it costs.
        if name != "EVAL" && (too_long || commands > COMMANDS_MAX) {
            missed = missed + &line + "\n";
        }
    }
    missed
}

/// A server, a client whose calls are measured, and a queue.
pub(crate) struct MeteredQueue {
    pub(crate) server: RedisServer,
    meter: Meter,
    client: Client,
    pub(crate) queue: Queue<Value>,
    pub(crate) worker: ManualWorker,
}

impl MeteredQueue {
    pub(crate) async fn start() -> TestResult<Self> {
        let server = RedisServer::start().await?;
        let meter = Meter::start(&server).await?;
        let client = Client::connect(ClientConfig::from_url(&meter.proxy.url())?).await?;
        Ok(Self {
            queue: Queue::open(&client, "q").await?,
            worker: ManualWorker::new(&client, "q")?,
            server,
            meter,
            client,
        })
    }

    /// Runs Lua for `i` from 1 to `count`, with `B` for the queue's base, behind the meter's back.
    pub(crate) async fn fill(&self, count: usize, code: &str) -> TestResult {
        let text = format!(
            "local B = 'bull:q:' for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do {code} end return 1"
        );
        self.meter.rest();
        let mut connection = self.server.connect().await?;
        for from in (1..=count).step_by(5_000) {
            let to = (from + 4_999).min(count);
            connection
                .call(&["EVAL", &text, "0", &from.to_string(), &to.to_string()])
                .await?;
        }
        self.meter.go_on();
        Ok(())
    }

    /// Starts a job; ids without one may be dropped before.
    async fn start_job(&self) -> TestResult<JobRecord> {
        for _ in 0..10_000 {
            if let Some(job) = self.worker.fetch("token").await? {
                return Ok(job);
            }
        }
        Err("nothing to start".into())
    }

    /// Runs a script that no call of the public API runs by itself.
    pub(crate) async fn script(
        &self,
        name: &str,
        keys: &[&str],
        args: &[&str],
    ) -> TestResult<Reply> {
        let mut connection = Connection::open(self.meter.proxy.port()).await?;
        let (hash, count) = (&self.meter.hashes[name], keys.len().to_string());
        let head = ["EVALSHA", hash, &count];
        let words: Vec<&str> = [&head[..], keys, args].concat();
        Ok(connection.call(&words).await?)
    }
}

fn id(text: impl Into<String>) -> TestResult<JobId> {
    Ok(JobId::new(text.into())?)
}
