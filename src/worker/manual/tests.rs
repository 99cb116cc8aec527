//! A batch of results is the same as one result after the other.

use std::collections::BTreeMap;

use oxbull_testkit::{Connection, RedisServer};

use super::*;
use crate::client::ClientConfig;
use crate::clock::Timestamp;
use crate::job::Retention;
use crate::job::{Backoff, JobOptions, Parent};
use crate::queue::Queue;

type TestResult<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TOKEN: &str = "token";

/// All jobs of the scene, in the order in which their attempts end.
fn scene() -> Vec<(&'static str, JobOptions)> {
    let plain = JobOptions::new;
    let keep_two = || plain().remove_on_complete(Retention::KeepLast(2));
    let tried = || plain().attempts(3);
    let wait = Backoff::fixed(Duration::from_millis(500));
    vec![
        ("complete-1", keep_two()),
        ("complete-2", keep_two()),
        ("complete-3", keep_two()),
        (
            "complete-removed",
            plain().remove_on_complete(Retention::Remove),
        ),
        ("fail-1", plain()),
        ("fail-removed", plain().remove_on_fail(Retention::Remove)),
        ("fail-retry-1", tried()),
        ("fail-retry-2", tried().lifo()),
        ("fail-retry-3", tried().priority(2)),
        ("fail-retry-4", tried().priority(2)),
        ("fail-backoff-1", tried().backoff(wait.clone())),
        ("fail-backoff-2", tried().backoff(wait)),
        ("park-1", plain()),
        ("park-2", plain()),
        ("release-1", plain()),
        ("release-2", plain().priority(2)),
        ("children-1", plain()),
        ("children-2", plain().priority(3)),
        // Children of the two before: they release them within the same call.
        ("complete-child-1", keep_two()),
        ("fail-child-2", plain()),
    ]
}

fn result_of(id: &str) -> Result<Outcome<u32>, JobError> {
    let kind = id.split('-').next();
    match kind {
        Some("complete") => Ok(Outcome::Done(1)),
        Some("park") => Ok(Outcome::DelayFor(Duration::from_millis(500))),
        Some("release") => Ok(Outcome::Release),
        Some("children") => Ok(Outcome::WaitForChildren),
        _ => Err(JobError::retry("boom")),
    }
}

/// Adds and starts the jobs of the scene; returns the attempts as they end.
async fn play(client: &Client, prefix: &str) -> TestResult<(ManualWorker, Vec<Concluded>)> {
    use crate::job::ChildPolicy::Ignore;
    let queue: Queue<u32> = Queue::builder(client, "q").prefix(prefix).open().await?;
    let worker = ManualWorker::with_prefix(client, prefix, "q")?;
    let mut records = BTreeMap::new();
    let parent = |id| Parent::new(format!("{prefix}:q"), JobId::existing(id));
    for (id, options) in scene() {
        let options = match id {
            "complete-child-1" => options.parent(parent("children-1")),
            "fail-child-2" => options.parent(parent("children-2").on_failure(Ignore)),
            _ => options,
        };
        queue
            .add_with("job", &1, options.id(JobId::new(id)?))
            .await?;
        let record = worker.fetch(TOKEN).await?.ok_or("nothing to fetch")?;
        records.insert(record.id.clone(), record);
    }
    // Keeps both queues from being drained on the way.
    queue.add("waits", &1).await?;
    let mut concluded = Vec::new();
    for (id, _) in scene() {
        let record = &records[&JobId::existing(id)];
        concluded.push(
            worker
                .concluded(record, TOKEN, end_of(result_of(id))?)
                .await,
        );
    }
    Ok((worker, concluded))
}

/// Reads all keys of a prefix; the order of events among jobs is left open.
async fn keys(redis: &mut Connection, prefix: &str) -> TestResult<BTreeMap<String, Vec<String>>> {
    let mut all = BTreeMap::new();
    for key in redis.call(&["KEYS", &format!("{prefix}:*")]).await?.texts() {
        let kind = redis.call(&["TYPE", &key]).await?.text();
        let value = match kind.as_deref().unwrap_or_default() {
            "string" => vec![redis.call(&["GET", &key]).await?.text().unwrap_or_default()],
            "list" => redis.call(&["LRANGE", &key, "0", "-1"]).await?.texts(),
            "set" => redis.call(&["SORT", &key, "ALPHA"]).await?.texts(),
            "zset" => {
                let range = ["ZRANGE", key.as_str(), "0", "-1", "WITHSCORES"];
                redis.call(&range).await?.texts()
            }
            "hash" => {
                let fields = redis.call(&["HGETALL", &key]).await?.map();
                fields.iter().map(|(f, v)| format!("{f}={v}")).collect()
            }
            _ => {
                let entries = redis.call(&["XRANGE", &key, "-", "+"]).await?;
                let fields = |entry: &oxbull_testkit::Value| {
                    entry.items().last().map(|f| f.texts().join(" "))
                };
                let mut entries: Vec<_> = entries.items().iter().filter_map(fields).collect();
                entries.sort();
                entries
            }
        };
        let value = value.iter().map(|text| text.replace(prefix, "P")).collect();
        all.insert(key.replacen(prefix, "P", 1), value);
    }
    Ok(all)
}

/// Results travel together under load: that must not show in what they leave.
#[tokio::test]
async fn many_results_at_once_leave_what_they_leave_one_by_one() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    client
        .clock()
        .set(Timestamp::from_millis(1_700_000_000_000));
    let (worker, ended) = play(&client, "single").await?;
    for result in ended {
        worker.advance(&[&result.result], TOKEN, 0).await?;
    }
    let (worker, ended) = play(&client, "batch").await?;
    let ended: Vec<&AttemptResult> = ended.iter().map(|result| &result.result).collect();
    worker.advance(&ended, TOKEN, 0).await?;
    let mut redis = server.connect().await?;
    let (single, batch) = (
        keys(&mut redis, "single").await?,
        keys(&mut redis, "batch").await?,
    );
    assert!(single.contains_key("P:q:completed"), "{single:?}");
    assert_eq!(batch, single);
    Ok(())
}

/// Finding a job takes longer the more jobs are active: a call then takes fewer results, and says which
/// it has left. The others are not touched.
#[tokio::test]
async fn results_are_left_for_another_call_when_very_many_jobs_are_active() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let queue: Queue<u32> = Queue::open(&client, "q").await?;
    let worker = ManualWorker::new(&client, "q")?;
    let mut redis = server.connect().await?;
    let many: Vec<String> = (0..20_000).map(|n| format!("other-{n}")).collect();
    let mut push = vec!["RPUSH".to_owned(), "bull:q:active".to_owned()];
    push.extend(many);
    redis.call(&push).await?;
    let mut concluded = Vec::new();
    for _ in 0..12 {
        queue.add("x", &1).await?;
        let job = worker.fetch(TOKEN).await?.ok_or("nothing to fetch")?;
        let end = end_of(Ok(Outcome::Done(1)))?;
        concluded.push(worker.concluded(&job, TOKEN, end).await);
    }
    let ended: Vec<&AttemptResult> = concluded.iter().map(|result| &result.result).collect();
    let token = LockToken::new(TOKEN);
    let call = |results| Advance {
        now: Timestamp::from_millis(1),
        take: 0,
        token: &token,
        lock_duration: Duration::from_secs(30),
        worker_name: None,
        limit: None,
        respect_imposed: false,
        metrics: 0,
        results,
        again: false,
    };
    let first = worker.store.run(&call(&ended)).await?;
    let stored = |code: &&SettlementReply| **code == SettlementReply::Stored;
    let done = first.codes.iter().filter(stored).count();
    assert_eq!(done, 9, "{:?}", first.codes);
    let left = first.codes.iter().skip(done);
    assert!(left.clone().all(|code| *code == SettlementReply::TryAgain));
    let rest = worker.store.run(&call(&ended[done..])).await?;
    assert_eq!(rest.codes.iter().filter(stored).count(), 3);
    assert_eq!(queue.counts().await?.completed, 12);
    Ok(())
}
