//! No call holds up the server: every operation meets 100,000 of whatever it touches, and each script and
//! command is judged by the processor time it takes and by the commands it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use oxbull::{
    Client, ClientConfig, Deduplication, DrainScope, JobId, JobOptions, JobRateLimit, JobRecord,
    ManualWorker, NewJob, Outcome, Parent, Queue, QueuePosition, Retention, RetryOptions, Schedule,
};
use oxbull_testkit::{Connection, RedisServer, Rule, TestResult, Value as Reply};
use serde_json::{Value, json};

use crate::meter::{Cost, Meter};

/// How many of everything there are.
const MANY: usize = 100_000;
/// What a call may take of the server's processor, in microseconds: nine in ten calls of an operation, and any
/// call of a script. The time of a single call holds whatever the server does beside it: growing its tables,
/// dropping expired keys for up to 25 ms.
const USUAL_US: u64 = 5_000;
const ANY_US: u64 = 25_000;
/// How many commands a script may run.
const COMMANDS_MAX: u64 = 3_000;
/// How often an operation may miss this before it counts: all but one must be the machine's doing.
const TRIES: usize = 3;

type Row = for<'a> fn(&'a MeteredQueue) -> Pin<Box<dyn Future<Output = TestResult> + Send + 'a>>;

/// The operations. A script that none of them runs fails the test.
const ROWS: [(&str, Row); 10] = [
    ("jobs of a crowded queue", |b| Box::pin(crowded(b))),
    ("queue with very many active jobs", |b| Box::pin(busy(b))),
    ("schedules", |b| Box::pin(schedules(b))),
    ("flow of waiting children", |b| Box::pin(wide_flow(b))),
    ("flow of several levels", |b| Box::pin(deep_flow(b))),
    ("flow of ended children", |b| Box::pin(ended_flow(b))),
    ("drain", |b| Box::pin(drained(b))),
    ("retention", |b| Box::pin(retained(b))),
    ("sessions and values", |b| Box::pin(sessions(b))),
    ("windows and cache", |b| Box::pin(windows(b))),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_holds_up_the_server_at_100_000_of_anything() -> TestResult {
    let bench = MeteredQueue::start().await?;
    let mut seen = BTreeSet::new();
    let mut misses = Vec::new();
    for (row, run) in ROWS {
        let mut missed = String::new();
        for _ in 0..TRIES {
            bench.server.cli(&["FLUSHALL"]).await?;
            bench.meter.costs();
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
        costs.sort_by_key(|cost| cost.cpu_us);
        let usual = costs[(costs.len() - 1) * 9 / 10].cpu_us;
        let longest = costs[costs.len() - 1].cpu_us;
        let commands = costs.iter().map(|cost| cost.commands).max().unwrap_or(0);
        let line = format!(
            "{row}: {name} {} calls, {usual} us, at most {longest} us and {commands} commands",
            costs.len()
        );
        println!("{line}");
        let script = name.contains(char::is_lowercase);
        let too_long = usual > USUAL_US || script && longest > ANY_US;
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

/// Stores the hash of the job `id`.
pub(crate) const JOB: &str = "redis.call('HSET', B .. id, 'name', 'n', 'data', '{}', 'opts', '{}', 'timestamp', 1, 'delay', 0, \
    'priority', 0)";

fn id(text: impl Into<String>) -> TestResult<JobId> {
    Ok(JobId::new(text.into())?)
}

/// 100,000 jobs in each state that holds back jobs, events and log rows: acting on one of them.
async fn crowded(b: &MeteredQueue) -> TestResult {
    let states = "redis.call('LPUSH', B .. 'wait', 'w' .. i)
        redis.call('ZADD', B .. 'prioritized', 4294967296 + i, 'p' .. i)
        redis.call('ZADD', B .. 'delayed', (4e12 + i) * 4096, 'd' .. i)
        redis.call('ZADD', B .. 'completed', i, 'c' .. i)
        redis.call('ZADD', B .. 'failed', i, 'f' .. i)
        redis.call('RPUSH', B .. 'c1:logs', 'row ' .. i)
        redis.call('SET', B .. 'de:k' .. i, 'd' .. i)
        redis.call('XADD', B .. 'events', '*', 'event', 'added', 'jobId', i, 'name', 'n')";
    b.fill(MANY, states).await?;
    for state in ["w", "p", "d", "c", "f"] {
        for from in [0, 50_000, 99_900] {
            let code = format!("local id = '{state}' .. (i + {from}) {JOB}");
            b.fill(100, &code).await?;
        }
    }
    let queue = &b.queue;
    for n in [50_001_u32, 99_901, 2] {
        let n2 = n + 1;
        let options = JobOptions::new;
        queue.add("n", &json!({})).await?;
        queue
            .add_with("n", &json!({}), options().priority(3))
            .await?;
        queue
            .add_with("n", &json!({}), options().delay(Duration::from_secs(9)))
            .await?;
        let dedup = Deduplication::new(format!("k{n}"));
        queue
            .add_with("n", &json!({}), options().deduplication(dedup))
            .await?;
        queue.deduplication_owner(format!("k{n}")).await?;
        queue.release_deduplication(format!("k{n}")).await?;
        queue
            .change_priority(&id(format!("w{n}"))?, 5, QueuePosition::Back)
            .await?;
        queue
            .change_priority(&id(format!("p{n}"))?, 0, QueuePosition::Front)
            .await?;
        queue
            .change_delay(&id(format!("d{n}"))?, Duration::from_secs(5))
            .await?;
        queue.promote(&id(format!("d{n}"))?).await?;
        queue
            .retry(&id(format!("f{n}"))?, RetryOptions::new())
            .await?;
        queue
            .rerun(&id(format!("c{n}"))?, RetryOptions::new())
            .await?;
        for state in ["w", "p", "d", "c", "f"] {
            queue.state(&id(format!("{state}{n2}"))?).await?;
            assert!(queue.remove(&id(format!("{state}{n2}"))?).await?);
        }
        let job = id("c1")?;
        queue.update_data(&job, &json!({ "n": n })).await?;
        queue.update_progress(&job, &n).await?;
        queue.log(&job, "row", 10).await?;
        queue.logs(&job, 0, 99).await?;
        queue.job(&job).await?;
        queue.counts().await?;
        queue.publish_event("mine", &json!({ "n": "1" })).await?;
        queue.set_global_concurrency(9).await?;
        queue
            .set_global_rate_limit(JobRateLimit::new(9, Duration::from_secs(1)))
            .await?;
        queue.limit_rate(Duration::from_millis(1)).await?;
        queue.lift_rate_limit().await?;
        queue.remove_global_rate_limit().await?;
        queue.remove_global_concurrency().await?;
        b.script("wake", &["bull:q:"], &[]).await?;
        let ends: Vec<String> = (1..=100).map(|n| format!("f{n}")).collect();
        let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
        b.script("find_ends", &["bull:q:"], &ends).await?;
    }
    queue.trim_events(10).await?;
    for added in queue
        .add_bulk((0..1000).map(|n| NewJob::new("n", json!(n))))
        .await?
    {
        added?;
    }
    // An answer is lost: the events tell what became of the add.
    let hash = b.meter.hashes["enqueue"].clone();
    b.fill(
        9_000,
        "redis.call('XADD', B .. 'events', '*', 'event', 'added', 'jobId', i, 'name', 'n')",
    )
    .await?;
    let lost = Rule::drop_reply(move |command| command.has(&hash)).times(1);
    b.meter.proxy.add(lost);
    queue.add_once("n", &json!({}), JobOptions::new()).await?;
    // A BullMQ 5 client has parked the jobs.
    b.fill(MANY, "redis.call('LPUSH', B .. 'paused', 'x' .. i)")
        .await?;
    queue.pause().await?;
    queue.resume().await?;
    let job = b.start_job().await?;
    b.worker
        .extend_lock(&job.id, "token", Duration::from_secs(30))
        .await?;
    b.worker.finish(&job, "token", Ok(Outcome::Done(1))).await?;
    Ok(())
}

/// 100,000 active jobs, whose workers are gone.
async fn busy(b: &MeteredQueue) -> TestResult {
    let active = format!(
        "local id = 'a' .. i {JOB} redis.call('HSET', B .. id, 'processedOn', 1, 'ats', 1)
        redis.call('LPUSH', B .. 'active', id)"
    );
    b.fill(MANY, &active).await?;
    let mut left = String::new();
    while left != "0" {
        let found = b.script("reclaim", &["bull:q:"], &["token", &left]).await?;
        left = found
            .items()
            .first()
            .and_then(Reply::text)
            .unwrap_or_default();
    }
    // Its owner may be active: no other place shows it.
    for owner in [1, 50_000, 99_999] {
        b.fill(1, &format!("redis.call('SET', B .. 'de:k', 'a{owner}')"))
            .await?;
        let dedup = Deduplication::new("k").keep_last_if_active();
        let options = JobOptions::new().deduplication(dedup);
        b.queue.add_with("n", &json!({}), options).await?;
    }
    b.fill(
        1,
        "redis.call('ZADD', B .. 'repeat', 7, 's') redis.call('HSET', B .. 'repeat:s', 'name', 'n', 'ic', 1, 'every', \
        1000, 'overlap', 'skip') redis.call('HSET', B .. 'repeat:s:7', 'name', 'n')",
    )
    .await?;
    let args = [
        "s",
        "repeat:s:7",
        "9000",
        "",
        "",
        "",
        "0",
        "",
        "{\"a\":1}",
        "0",
        "0",
        "",
    ];
    b.script("next_iteration", &["bull:q:"], &args).await?;
    b.fill(1, "redis.call('ZADD', B .. 'repeat', 7, 'n::::r')")
        .await?;
    let opts = "{\"a\":1}";
    let args = [
        "n::::r",
        "job",
        "7",
        "9000",
        "next",
        "9",
        "4000000000000",
        opts,
        "0",
        "0",
        "",
    ];
    b.script("next_repeatable", &["bull:q:"], &args).await?;
    b.queue.add("n", &json!({})).await?;
    for _ in 0..3 {
        let job = b.start_job().await?;
        b.worker.finish(&job, "token", Ok(Outcome::Done(1))).await?;
        b.queue.add("n", &json!({})).await?;
    }
    assert_eq!(
        b.worker
            .check_stalled(Duration::from_millis(1), 9)
            .await?
            .len(),
        0
    );
    b.fill(1, "redis.call('DEL', B .. 'stalled-check')").await?;
    let recovered = b.worker.check_stalled(Duration::from_millis(1), 9).await?;
    assert_eq!(recovered.len(), MANY);
    assert_eq!(b.queue.counts().await?.waiting, MANY as u64 + 2);
    Ok(())
}

/// 100,000 schedules; a few have lost their iterations.
async fn schedules(b: &MeteredQueue) -> TestResult {
    let all = format!(
        "local slot, s = 4000000000000 + i, 's' .. i
        local id = 'repeat:' .. s .. ':' .. string.format('%.0f', slot)
        redis.call('ZADD', B .. 'repeat', slot, s)
        redis.call('HSET', B .. 'repeat:' .. s, 'name', 'n', 'ic', 1, 'every', 60000, 'offset', 1, 'data', '[]')
        if i % 500 > 0 then {JOB} end
        if i % 500 > 2 then redis.call('ZADD', B .. 'delayed', slot * 4096, id)
        elseif i % 500 > 0 then redis.call('LPUSH', B .. 'wait', id) end
        redis.call('XADD', B .. 'events', '*', 'event', 'active', 'jobId', i, 'prev', 'waiting')"
    );
    b.fill(MANY, &all).await?;
    let repaired = b.worker.check_schedulers(Duration::from_secs(1)).await?;
    assert_eq!(repaired.len(), MANY / 500);
    b.fill(MANY, "redis.call('LPUSH', B .. 'wait', 'w' .. i)")
        .await?;
    b.fill(50_000, "redis.call('RPUSH', B .. 'wait', 'v' .. i)")
        .await?;
    for n in [1, 50_001, 99_502] {
        let template = NewJob::new("n", json!([]));
        let every = Schedule::every(Duration::from_secs(60));
        b.queue
            .upsert_scheduler(format!("s{n}"), &every, template)
            .await?;
        b.queue.scheduler(format!("s{n}")).await?;
        assert!(b.queue.remove_scheduler(format!("s{n}")).await?);
    }
    b.queue.scheduler_count().await?;
    Ok(())
}

/// A parent of 100,000 children that wait in its queue, among others.
async fn wide_flow(b: &MeteredQueue) -> TestResult {
    let others = "redis.call('LPUSH', B .. 'wait', 'w' .. i)";
    let children = format!(
        "local id = 'k' .. i {JOB} redis.call('HSET', B .. id, 'parentKey', B .. 'par')
        redis.call('LPUSH', B .. 'wait', id) redis.call('SADD', B .. 'par:dependencies', B .. id)"
    );
    b.fill(MANY / 10, others).await?;
    b.fill(MANY, &children).await?;
    b.fill(MANY / 10, others).await?;
    b.fill(
        1,
        &format!("local id = 'par' {JOB} redis.call('ZADD', B .. 'waiting-children', 1, id)"),
    )
    .await?;
    let parent = Parent::new("bull:q", id("par")?);
    b.queue
        .add_with("n", &json!({}), JobOptions::new().parent(parent))
        .await?;
    assert!(b.queue.remove(&id("par")?).await?);
    assert_eq!(b.queue.counts().await?.waiting, MANY as u64 / 5);
    assert_eq!(b.queue.counts().await?.waiting_children, 0);
    Ok(())
}

/// 100,000 jobs below one, on three levels.
async fn deep_flow(b: &MeteredQueue) -> TestResult {
    let levels = format!(
        "local mid, id = 'm' .. math.ceil(i / 50), 'k' .. i {JOB}
        redis.call('ZADD', B .. 'prioritized', i, id) redis.call('SADD', B .. mid .. ':dependencies', B .. id)
        if i % 50 == 1 then id = mid {JOB} redis.call('ZADD', B .. 'waiting-children', 1, id)
          redis.call('SADD', B .. 'top:dependencies', B .. id) end"
    );
    b.fill(MANY, &levels).await?;
    b.fill(
        1,
        &format!("local id = 'top' {JOB} redis.call('ZADD', B .. 'waiting-children', 1, id)"),
    )
    .await?;
    assert!(b.queue.remove(&id("top")?).await?);
    assert_eq!(b.server.int(&["ZCARD", "bull:q:prioritized"]).await?, 0);
    Ok(())
}

/// Two parents whose 100,000 children have ended: one is removed, one by retention.
async fn ended_flow(b: &MeteredQueue) -> TestResult {
    for parent in ["kept", "brief"] {
        let children = format!(
            "redis.call('HSET', B .. '{parent}:processed', B .. '{parent}' .. i, '1')
            redis.call('HSET', B .. '{parent}:failed', B .. '{parent}f' .. i, 'no')
            redis.call('ZADD', B .. '{parent}:unsuccessful', i, B .. '{parent}u' .. i)"
        );
        b.fill(if parent == "kept" { MANY / 3 } else { MANY }, &children)
            .await?;
    }
    b.fill(
        1,
        &format!("local id = 'kept' {JOB} redis.call('LPUSH', B .. 'wait', id)"),
    )
    .await?;
    b.fill(1, "redis.call('DEL', B .. 'brief:unsuccessful')")
        .await?;
    assert!(b.queue.remove(&id("kept")?).await?);
    let brief = format!(
        "local id = 'brief' {JOB} redis.call('HSET', B .. id, 'opts', '{{\"removeOnComplete\":true}}')
        redis.call('LPUSH', B .. 'wait', id)"
    );
    b.fill(1, &brief).await?;
    let job = b.start_job().await?;
    b.worker.finish(&job, "token", Ok(Outcome::Done(1))).await?;
    assert_eq!(
        b.server.int(&["EXISTS", "bull:q:brief:processed"]).await?,
        0
    );
    Ok(())
}

/// 100,000 jobs in each place that is drained, behind 100,000 that stay.
async fn drained(b: &MeteredQueue) -> TestResult {
    let kept =
        "redis.call('ZADD', B .. 'repeat', i, 's') redis.call('LPUSH', B .. 'wait', 'w' .. i)
        local s = 's' .. i redis.call('ZADD', B .. 'repeat', i, s)
        redis.call('RPUSH', B .. 'wait', 'repeat:' .. s .. ':' .. i)";
    b.fill(MANY / 2, kept).await?;
    let others = format!(
        "local id = 'x' .. i {JOB} redis.call('RPUSH', B .. 'wait', id)
        redis.call('ZADD', B .. 'delayed', i, 'd' .. i)"
    );
    b.fill(MANY / 2, &others).await?;
    assert_eq!(
        b.queue.drain(DrainScope::ReadyAndDelayed).await?,
        (MANY / 2 * 3) as u64
    );
    assert_eq!(b.queue.counts().await?.waiting, (MANY / 2) as u64);
    Ok(())
}

/// 100,000 jobs that ended long ago.
async fn retained(b: &MeteredQueue) -> TestResult {
    let ended = format!(
        "local id = 'c' .. i {JOB} redis.call('ZADD', B .. 'completed', i, id)
        redis.call('HSET', B .. id, 'returnvalue', '1', 'finishedOn', i)"
    );
    b.fill(MANY, &ended).await?;
    let options = JobOptions::new().remove_on_complete(Retention::KeepLast(10));
    b.queue.add_with("n", &json!({}), options).await?;
    let job = b.start_job().await?;
    b.worker.finish(&job, "token", Ok(Outcome::Done(1))).await?;
    assert_eq!(b.server.int(&["ZCARD", "bull:q:completed"]).await?, 10);
    Ok(())
}

/// 100,000 sessions of one user, half of them over; and a large hash.
async fn sessions(b: &MeteredQueue) -> TestResult {
    let all = "redis.call('ZADD', 'session:u', i, 'u:' .. i)
        redis.call('HSET', 'session:u:' .. i, 'data', 'd', 'version', 'v', 'created', 1, 'touched', 1, 'ends', i)";
    b.fill(MANY, all).await?;
    let (now, ends) = ("50000", "1000000");
    let index = "session:u";
    let create = async |refuse: &str| {
        let args = ["session:", "u:new", "d", "v1", now, ends, "10", refuse];
        b.script("kv/create_session", &["session:u:new", index], &args)
            .await
    };
    create("1").await?;
    b.script("kv/list_sessions", &[index], &["session:", now, "1000"])
        .await?;
    let key = "session:u:99990";
    b.script(
        "kv/touch_session",
        &[key, index],
        &["u:99990", now, "99990"],
    )
    .await?;
    b.script(
        "kv/save_session",
        &[key, index],
        &["u:99990", "d2", "v", "v2", now, now, "99990"],
    )
    .await?;
    b.script("kv/reseal_session", &[key], &["d2", "d3"]).await?;
    let rotated = ["u:99990", "u:r", "d", "v2", "v3", now, ends];
    b.script("kv/rotate_session", &[key, "session:u:r", index], &rotated)
        .await?;
    b.script("kv/destroy_session", &["session:u:r"], &["u:r"])
        .await?;
    while create("0").await?.text().as_deref() == Some("more") {}
    b.fill(MANY, all).await?;
    loop {
        let reply = b
            .script(
                "kv/destroy_sessions",
                &[index],
                &["session:", "u:7", "1000"],
            )
            .await?;
        if reply.items()[1].int() == Some(0) {
            break;
        }
    }
    b.fill(1, "redis.call('SET', 'state', 'b.sealed')").await?;
    b.script("kv/swap", &["state"], &["b.sealed", "b.new"])
        .await?;
    b.script("kv/take_state", &["state"], &["b"]).await?;
    Ok(())
}

/// Windows with 100,000 entries that are over, and a tag of 100,000 cached answers.
async fn windows(b: &MeteredQueue) -> TestResult {
    let all = "redis.call('ZADD', 'log', i, i .. '-1')
        redis.call('ZADD', 'tag', i, 'e' .. i) redis.call('SET', 'api:e' .. i, 'body')";
    b.fill(MANY, all).await?;
    for _ in 0..3 {
        b.script(
            "kv/sliding_window",
            &["log"],
            &["10000", "1000", "200000", "1000", "1000", "0"],
        )
        .await?;
    }
    b.script("kv/fixed_window", &["window"], &["10", "1", "1000", "0"])
        .await?;
    b.script(
        "kv/token_bucket",
        &["bucket"],
        &["10", "1", "1000", "1", "1", "1000", "0"],
    )
    .await?;
    b.script("kv/hold_off", &["hold"], &["10", "1000"]).await?;
    b.script(
        "kv/cache_claim",
        &["api:b", "api:r", "api:l"],
        &["t", "1000"],
    )
    .await?;
    let keys = ["api:b", "api:r", "api:s", "api:l", "tag", "mark"];
    let args = ["t", "1", "200000", "1000", "0", "e", "head", "", "body"];
    b.script("kv/cache_store", &keys, &args).await?;
    b.script("kv/cache_release", &["api:l"], &["t"]).await?;
    loop {
        let reply = b
            .script(
                "kv/cache_invalidate",
                &["tag", "mark"],
                &["1", "1000", "200"],
            )
            .await?;
        if reply.items()[1].int() == Some(0) {
            break;
        }
    }
    let kv = b.client.kv();
    b.fill(MANY, "redis.call('SET', 'k' .. i, '1')").await?;
    let mut keys = kv.keys("k*");
    while let Some(page) = keys.next().await {
        page?;
    }
    Ok(())
}
