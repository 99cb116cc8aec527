//! A queue with very many of everything, and everything that looks at it: for the tests beside, and for
//! `benches/looking.rs`.

use futures::TryStreamExt as _;
use oxbull::inspect::{Exporter, JobOrder, MetricKind, Search};
use oxbull::{FlowLimits, JobState, Queue, SchedulerOrder};
use oxbull_testkit::{RedisServer, TestResult};
use serde_json::Value;

/// Stores the hash of the job `id`.
pub(crate) const JOB: &str = "redis.call('HSET', B .. id, 'name', 'n', 'data', '{}', 'opts', '{}', 'timestamp', 1, 'delay', 0, \
    'priority', 0)";

const STATES: [JobState; 3] = [
    JobState::Waiting,
    JobState::Prioritized,
    JobState::Completed,
];
const ORDERS: [JobOrder; 2] = [JobOrder::Ascending, JobOrder::Descending];

/// A queue whose waiting, prioritized and completed jobs are so many each, one parent of as many children, and as many
/// rows, minutes, schedulers and deduplication ids.
pub(crate) async fn filled(server: &RedisServer, count: usize) -> TestResult {
    let jobs = format!(
        "local B = 'bull:q:' for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do local id = 'job-' .. i {JOB}
          redis.call('LPUSH', B .. 'wait', id) redis.call('ZADD', B .. 'completed', 1e12 + i, id)
          redis.call('ZADD', B .. 'prioritized', (1 + i % 100) * 4294967296 + i, id)
          redis.call('SADD', B .. 'job-1:dependencies', B .. id) redis.call('RPUSH', B .. 'job-1:logs', 'row ' .. i)
          redis.call('RPUSH', B .. 'metrics:completed:data', 1) redis.call('ZADD', B .. 'delayed', i * 4096, 'late-' .. i)
          redis.call('ZADD', B .. 'waiting-children', i, 'job-' .. (i % 100 + 1))
          redis.call('ZADD', B .. 'repeat', i, 'every-' .. i) end return 1"
    );
    let mut connection = server.connect().await?;
    for from in (1..=count).step_by(5_000) {
        let to = (from + 4_999).min(count);
        let call = ["EVAL", &jobs, "0", &from.to_string(), &to.to_string()];
        connection.call(&call).await?;
    }
    Ok(())
}

/// A job that is in `wait` and nowhere else, in the middle of it.
pub(crate) async fn lone(server: &RedisServer, id: &str, beside: usize) -> TestResult {
    let text = format!(
        "local id, B = ARGV[1], 'bull:q:' redis.call('LINSERT', B .. 'wait', 'BEFORE', ARGV[2], id) {JOB}"
    );
    let beside = format!("job-{beside}");
    server.cli(&["EVAL", &text, "0", id, &beside]).await?;
    Ok(())
}

pub(crate) type Row =
    for<'a> fn(&'a Queue) -> std::pin::Pin<Box<dyn Future<Output = TestResult> + Send + 'a>>;

/// First, middle and last pages of a hundred jobs, in both orders.
async fn pages(queue: &Queue, state: JobState) -> TestResult {
    let middle = i64::try_from(queue.counts().await?.of(state))? / 2;
    for order in ORDERS {
        for range in [0..100, middle..middle + 100, -100..-1] {
            let page = queue.jobs([state], range.clone(), order).await?;
            assert!(page.jobs.len() >= 99, "{range:?}");
        }
    }
    Ok(())
}

/// A search that looks at all jobs of a state, in steps, and begins its second half anew with a cursor.
async fn searched(queue: &Queue, search: fn() -> Search) -> TestResult {
    // Of a million jobs one state is enough: its pages are all alike.
    let all = queue.counts().await?.completed < 100_000;
    for order in ORDERS.into_iter().skip(usize::from(!all)) {
        for state in STATES.into_iter().skip(if all { 0 } else { 2 }) {
            let search = || search().states([state]).order(order);
            let mut stream = queue.search(search())?;
            let found = stream.try_next().await?.is_some();
            let rest = match stream.cursor().filter(|_| found) {
                Some(cursor) => queue.search(search().resume(cursor))?.try_next().await?,
                None => None,
            };
            drop(rest);
            let progress = stream.progress();
            assert!(progress.scanned > 0);
        }
    }
    Ok(())
}

/// Everything that looks at a queue and what is in it.
pub(crate) const ROWS: [(&str, Row); 24] = [
    ("pages of `wait`", |q| Box::pin(pages(q, JobState::Waiting))),
    ("pages of `prioritized`", |q| {
        Box::pin(pages(q, JobState::Prioritized))
    }),
    ("pages of `completed`", |q| {
        Box::pin(pages(q, JobState::Completed))
    }),
    ("all ids of three states", |q| {
        Box::pin(async move {
            for order in ORDERS {
                q.job_ids(STATES, .., order).await?;
            }
            Ok(())
        })
    }),
    ("search by name, none", |q| {
        Box::pin(searched(q, || Search::new().name("none")))
    }),
    ("search by data, none", |q| {
        Box::pin(searched(q, || {
            Search::new().data("$.none exists".parse().expect("a condition"))
        }))
    }),
    ("search by prefix, all", |q| {
        Box::pin(searched(q, || Search::new().name_prefix("n")))
    }),
    ("search by reason, none", |q| {
        Box::pin(searched(q, || Search::new().failed_reason_contains("no")))
    }),
    ("search by times, none", |q| {
        Box::pin(searched(q, || {
            let time = oxbull::Timestamp::from_millis;
            Search::new()
                .added(time(5)..time(6))
                .processed(time(5)..)
                .finished(time(5)..)
        }))
    }),
    ("search by attempts, none", |q| {
        Box::pin(searched(q, || {
            Search::new().attempts_made(5..).ignore_case()
        }))
    }),
    ("walk of 2,000 jobs", |q| {
        Box::pin(async move {
            for order in ORDERS {
                let mut jobs = q.all_jobs(STATES, order);
                for _ in 0..2_000 {
                    jobs.try_next().await?.ok_or("there are more")?;
                }
            }
            Ok(())
        })
    }),
    ("counts", |q| {
        Box::pin(async move {
            q.counts().await?;
            q.backlog().await?;
            q.delayed_before(oxbull::Timestamp::from_millis(500))
                .await?;
            Ok(())
        })
    }),
    ("counts of 1,000 priorities", |q| {
        Box::pin(async move {
            q.counts_by_priority(0..1_000).await?;
            Ok(())
        })
    }),
    ("log", |q| {
        Box::pin(async move {
            q.logs("job-1", 0, -1).await?;
            Ok(())
        })
    }),
    ("metrics", |q| {
        Box::pin(async move {
            q.metrics(MetricKind::Completed, ..).await?;
            Ok(())
        })
    }),
    ("`Exporter`", |q| {
        Box::pin(async move {
            Exporter::new().queue(q).render().await?;
            Ok(())
        })
    }),
    ("workers and activity", |q| {
        Box::pin(async move {
            q.workers().await?;
            q.listeners().await?;
            q.activity().await?;
            Ok(())
        })
    }),
    ("parents that nothing releases", |q| {
        Box::pin(async move {
            let mut blocked = q.blocked_parents();
            while let Some(parent) = blocked.next().await {
                parent?;
            }
            Ok(())
        })
    }),
    ("children of a job", |q| {
        Box::pin(async move {
            q.children_values::<Value>("job-1").await?.into_map()?;
            q.flow("job-1", FlowLimits::new()).await?;
            q.dependency_counts("job-1").await?;
            Ok(())
        })
    }),
    ("schedulers", |q| {
        Box::pin(async move {
            for order in [SchedulerOrder::SoonestFirst, SchedulerOrder::LatestFirst] {
                let found = q.schedulers(0, -1, order).await?;
                assert_eq!(found.len() as u64, q.scheduler_count().await?);
                let times = found.iter().map(|one| one.next.as_millis());
                assert!(match order {
                    SchedulerOrder::LatestFirst => times.rev().is_sorted(),
                    _ => times.is_sorted(),
                });
            }
            Ok(())
        })
    }),
    ("one job, by id", |q| {
        Box::pin(async move {
            q.job("job-7").await?;
            q.ended::<Value>("job-7").await?;
            let states = q.search(Search::new().id("job-9"))?.try_next().await?;
            assert_eq!(states.map(|found| found.state), Some(JobState::Completed));
            Ok(())
        })
    }),
    ("state of a waiting job", |q| {
        Box::pin(async move {
            assert_eq!(q.state("only-waiting").await?, Some(JobState::Waiting));
            assert_eq!(q.state("nowhere").await?, None);
            Ok(())
        })
    }),
    ("orphans, dry run", |q| {
        Box::pin(async move {
            assert_eq!(q.remove_orphaned_jobs().dry_run().run().await?.jobs, 0);
            Ok(())
        })
    }),
    ("clean and promote, dry run", |q| {
        Box::pin(async move {
            let clean = q.clean(JobState::Waiting, std::time::Duration::ZERO);
            clean.dry_run().limit(2_000).run().await?;
            q.promote_jobs().dry_run().limit(2_000).run().await?;
            Ok(())
        })
    }),
];
