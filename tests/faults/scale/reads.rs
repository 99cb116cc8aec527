//! Looking at a queue with a backlog: each command asks for a bounded piece of it, however large the queue is.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt as _;
use oxbull::inspect::{Exporter, JobOrder, MetricKind, Search};
use oxbull::{Client, ClientConfig, FlowLimits, JobState, Queue, SchedulerOrder};
use oxbull_testkit::{Command, Proxy, RedisServer, Rule, TestResult};
use serde_json::Value;

use crate::bounded::JOB;

/// Elements that a command may ask for; the commands of one MULTI together.
const WIDTH_MAX: i64 = 1_025;
/// Commands of one MULTI.
const COMMANDS_MAX: usize = 1_010;
/// Arguments of a script: ids, mostly.
const ARGS_MAX: usize = 410;

const STATES: [JobState; 3] = [
    JobState::Waiting,
    JobState::Prioritized,
    JobState::Completed,
];
const ORDERS: [JobOrder; 2] = [JobOrder::Ascending, JobOrder::Descending];

/// A queue whose waiting, prioritized and completed jobs are so many each, one parent of as many children, and as many
/// rows, minutes, schedulers and deduplication ids.
pub(super) async fn filled(server: &RedisServer, count: usize) -> TestResult {
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
pub(super) async fn lone(server: &RedisServer, id: &str, beside: usize) -> TestResult {
    let text = format!(
        "local id, B = ARGV[1], 'bull:q:' redis.call('LINSERT', B .. 'wait', 'BEFORE', ARGV[2], id) {JOB}"
    );
    let beside = format!("job-{beside}");
    server.cli(&["EVAL", &text, "0", id, &beside]).await?;
    Ok(())
}

pub(super) type Row =
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
pub(super) const ROWS: [(&str, Row); 24] = [
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

/// What a client asks for.
#[derive(Default)]
struct Asked {
    /// Of a MULTI that is open: its commands and their elements.
    open: Option<(usize, i64)>,
    too_much: Vec<String>,
}

impl Asked {
    fn note(&mut self, command: &Command) {
        let width = width_of(command);
        let name = command.name();
        match (name.as_str(), &mut self.open) {
            ("MULTI", _) => self.open = Some((0, 0)),
            ("EXEC", open) => {
                let (commands, elements) = open.take().unwrap_or_default();
                if commands > COMMANDS_MAX || elements > WIDTH_MAX {
                    let line = format!("a MULTI of {commands} commands and {elements} elements");
                    self.too_much.push(line);
                }
            }
            (_, Some((commands, elements))) => {
                *commands += 1;
                *elements = elements.saturating_add(width);
            }
            _ if width > WIDTH_MAX => self.too_much.push(shown(command)),
            _ => {}
        }
    }
}

fn shown(command: &Command) -> String {
    let mut line = String::new();
    for at in 0..8 {
        write!(line, "{} ", command.text(at)).ok();
    }
    line
}

/// How many elements a command asks for; those that have no bound ask for too many.
fn width_of(command: &Command) -> i64 {
    let number = |at: usize| command.text(at).parse::<i64>().ok();
    let after = |word: &str| {
        let at = (1..24).find(|at| command.text(*at).eq_ignore_ascii_case(word))?;
        number(at + 1)
    };
    match command.name().as_str() {
        "LRANGE" | "ZRANGE" | "ZREVRANGE" => match (number(2), number(3)) {
            (Some(from), Some(to)) if (from < 0) == (to < 0) => to - from + 1,
            _ => i64::MAX,
        },
        "ZRANGEBYSCORE" | "ZREVRANGEBYSCORE" => {
            let limit = (1..24).find(|at| command.text(*at) == "LIMIT");
            let window = limit.and_then(|at| Some(number(at + 1)? + number(at + 2)?));
            window.unwrap_or(i64::MAX)
        }
        "SCAN" | "SSCAN" | "HSCAN" | "ZSCAN" | "XRANGE" | "XREVRANGE" => {
            after("COUNT").unwrap_or(i64::MAX)
        }
        "LPOS" => after("MAXLEN").map_or(i64::MAX, |length| length / 50),
        "KEYS" | "SMEMBERS" | "HKEYS" | "HVALS" | "SORT" | "LREM" => i64::MAX,
        "EVALSHA" | "EVAL" if !command.arg(ARGS_MAX).is_empty() => i64::MAX,
        _ => 1,
    }
}

/// No command that looks at a queue asks for more than a thousand elements of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_asks_for_bounded_pieces() -> TestResult {
    let server = RedisServer::start().await?;
    filled(&server, 3_000).await?;
    lone(&server, "only-waiting", 1_500).await?;
    let proxy = Proxy::start(server.port()).await?;
    let asked = Arc::new(Mutex::new(Asked::default()));
    let notes = Arc::clone(&asked);
    proxy.add(Rule::reset_before(move |command| {
        let mut asked = notes.lock().unwrap_or_else(PoisonError::into_inner);
        asked.note(command);
        false
    }));
    let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
    let queue: Queue = Queue::open(&client, "q").await?;
    let mut wrong = Vec::new();
    for (row, run) in ROWS {
        run(&queue)
            .await
            .map_err(|error| format!("{row}: {error}"))?;
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.extend(
            asked
                .too_much
                .drain(..)
                .map(|line| format!("{row}: {line}")),
        );
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// The state of a job is found wherever the job stands in a long list, and so is that a job is nowhere.
#[tokio::test]
async fn state_is_found_deep_within_a_list() -> TestResult {
    let server = RedisServer::start().await?;
    let fill = "for i = 1, 30000 do redis.call('LPUSH', 'bull:q:wait', 'j' .. i) end
        for _, id in ipairs({ 'j15000', 'j2', 'nowhere' }) do redis.call('HSET', 'bull:q:' .. id, 'name', 'n') end";
    server.cli(&["EVAL", fill, "0"]).await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let queue: Queue = Queue::open(&client, "q").await?;
    let waiting = Some(JobState::Waiting);
    for (id, state) in [
        ("j15000", waiting),
        ("j2", waiting),
        ("j29999", waiting),
        ("j24990", waiting),
        ("j5001", waiting),
        ("nowhere", None),
        ("nobody", None),
    ] {
        assert_eq!(queue.state(id).await?, state, "{id}");
    }
    Ok(())
}
