//! Looking at a queue with a backlog: each command asks for a bounded piece of it, however large the queue is.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use oxbull::{Client, ClientConfig, JobState, Queue};
use oxbull_testkit::{Command, Proxy, RedisServer, Rule, TestResult};

use super::rows::{ROWS, filled, lone};

/// Elements that a command may ask for; the commands of one MULTI together.
const WIDTH_MAX: i64 = 1_025;
/// Commands of one MULTI.
const COMMANDS_MAX: usize = 1_010;
/// Arguments of a script: ids, mostly.
const ARGS_MAX: usize = 410;

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
