//! What the crate-internal calls promise when connections fail.

mod blocking;
mod unanswered;

use std::time::Duration;

use oxbull_testkit::{Direction, Proxy, RedisServer, Rule, eventually};

use super::*;
use crate::resp::Batch;

type TestResult = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Bounds liveness only.
const SOON: Duration = Duration::from_secs(30);

async fn client_of(url: &str) -> Result<Client> {
    let config = ClientConfig::from_url(url)?
        .retries(100)
        .command_deadline(SOON);
    Client::connect(config).await
}

fn command(parts: &[&str]) -> Command {
    Command::new(parts[0]).args(&parts[1..])
}

fn text(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        other => panic!("no text: {other:?}"),
    }
}

/// Lists the server's clients as lines of CLIENT LIST, without the one that asks.
async fn clients(server: &RedisServer) -> Vec<String> {
    let list = server.text(&["CLIENT", "LIST"]).await;
    let list = list.ok().flatten().unwrap_or_default();
    list.lines()
        .filter(|line| !line.contains("cmd=client|list"))
        .map(str::to_owned)
        .collect()
}

/// A command that may have run is repeated only if that does no harm.
#[tokio::test]
async fn lost_answer_is_repeated_when_safe_and_reported_when_not() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = client_of(&proxy.url()).await?;

    proxy.add(Rule::drop_reply(|c| c.is("INCR") && c.has("once")).nth(1));
    let lost = client
        .connection()
        .request(command(&["INCR", "once"]), Repeat::Once)
        .await;
    assert!(
        matches!(&lost, Err(CallError::Unknown(Error::Indeterminate(_)))),
        "{lost:?}"
    );
    assert_eq!(server.int(&["GET", "once"]).await?, 1);

    let rule = proxy.add(Rule::drop_reply(|c| c.is("INCR") && c.has("safe")).nth(1));
    let value = client
        .connection()
        .request(command(&["INCR", "safe"]), Repeat::Safe)
        .await
        .map_err(Error::from)?;
    assert_eq!(value, Value::Int(2));
    assert_eq!(rule.fired(), 1);
    Ok(())
}

/// After a lost answer, a refusal of the repetition does not prove that nothing happened.
#[tokio::test]
async fn refusal_after_a_lost_answer_leaves_the_outcome_unknown() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = client_of(&proxy.url()).await?;
    // The first sending makes a string, on which the second fails with WRONGTYPE.
    proxy.add(Rule::drop_reply(|c| c.is("EVAL")).nth(1));
    let script = "if redis.call('EXISTS', 'k') == 1 then return redis.call('LPOP', 'k') end \
                  return redis.call('SET', 'k', 'v')";
    let result = client
        .connection()
        .request(command(&["EVAL", script, "0"]), Repeat::Safe)
        .await;
    assert!(matches!(result, Err(CallError::Unknown(_))), "{result:?}");
    Ok(())
}

/// A late answer reaches no other caller: its connection is thrown away.
#[tokio::test]
async fn late_answer_costs_the_connection() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let config = ClientConfig::from_url(&proxy.url())?.command_deadline(Duration::from_millis(500));
    let client = Client::connect(config).await?;
    proxy.add(Rule::swallow_reply(|c| c.has("mute")).nth(1));
    let late = client
        .connection()
        .request(command(&["GET", "mute"]), Repeat::Once)
        .await;
    assert!(matches!(late, Err(CallError::Unknown(_))), "{late:?}");
    let echo = client
        .connection()
        .request(command(&["ECHO", "mine"]), Repeat::Once)
        .await
        .map_err(Error::from)?;
    assert_eq!(text(&echo), b"mine");
    assert_eq!(proxy.stats().connections, 2);
    Ok(())
}

/// A peer that keeps the socket and never answers again costs one deadline.
#[tokio::test]
async fn half_open_connection_is_replaced() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let config = ClientConfig::from_url(&proxy.url())?.command_deadline(Duration::from_secs(1));
    let client = Client::connect(config).await?;
    proxy.half_open();
    let pending = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .connection()
                .request(command(&["ECHO", "back"]), Repeat::Safe)
                .await
        }
    });
    eventually(SOON, || async { proxy.stats().count("ECHO") >= 1 }).await?;
    proxy.pass().await?;
    let echo = pending.await?.map_err(Error::from)?;
    assert_eq!(text(&echo), b"back");
    Ok(())
}

/// With many callers and failing connections, each gets its own answer or none.
#[tokio::test]
async fn answers_are_never_swapped() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = client_of(&proxy.url()).await?;
    proxy.add(Rule::drop_reply(|c| c.is("ECHO")).chance(7, 0.01));
    proxy.add(Rule::reset_inside(|c| c.is("ECHO")).chance(8, 0.01));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..20 {
        let client = client.clone();
        tasks.spawn(async move {
            for round in 0..50 {
                let want = format!("{task}-{round}");
                let request = command(&["ECHO", &want]);
                // Some callers go away before their answer comes.
                if round % 7 == 0 {
                    let hurry = Duration::from_micros(200);
                    let call = client.connection().request(request.clone(), Repeat::Safe);
                    if timeout(hurry, call).await.is_err() {
                        continue;
                    }
                }
                let got = client
                    .connection()
                    .request(request.clone(), Repeat::Safe)
                    .await;
                assert_eq!(text(&got.unwrap()), want.as_bytes());
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    assert!(proxy.stats().connections > 1, "{:?}", proxy.stats());
    Ok(())
}

/// What was not sent is known not to have happened.
#[tokio::test]
async fn request_without_a_server_is_not_executed() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    server.kill_hard();
    eventually(SOON, || async { client.connection().current().is_none() }).await?;
    let result = client
        .connection()
        .request(command(&["PING"]), Repeat::Once)
        .await;
    assert!(
        matches!(&result, Err(CallError::NotExecuted(Error::Unreachable(_)))),
        "{result:?}"
    );
    Ok(())
}

/// What was not sent is sent once a server is back, also when it must not be repeated.
#[tokio::test]
async fn request_waits_for_the_reconnect() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client_of(&server.url()).await?;
    server.kill_hard();
    eventually(SOON, || async { client.connection().current().is_none() }).await?;
    let incr = command(&["INCR", "n"]);
    let (value, restarted) = tokio::join!(
        client.connection().request(incr, Repeat::Once),
        server.restart()
    );
    restarted?;
    assert_eq!(value.map_err(Error::from)?, Value::Int(1));
    Ok(())
}

async fn add(client: &Client, repeat: Repeat) -> Result<Value, CallError> {
    let call = ADD.call().key("sum").arg(5);
    let build = |command: &mut Command| call.append_to(command);
    client.connection().eval(&ADD, build, repeat).await
}

static ADD: Script = Script::new("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])");

/// A server that lost its scripts gets the text, and only then.
#[tokio::test]
async fn script_survives_a_script_flush() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = client_of(&proxy.url()).await?;
    for expected in [5, 10] {
        let sum = add(&client, Repeat::Once).await;
        assert_eq!(sum.map_err(Error::from)?, Value::Int(expected));
    }
    assert_eq!(proxy.stats().count("EVAL"), 1);
    server.cli(&["SCRIPT", "FLUSH"]).await?;
    let sum = add(&client, Repeat::Once).await;
    assert_eq!(sum.map_err(Error::from)?, Value::Int(15));
    assert_eq!(proxy.stats().count("EVAL"), 2);

    Ok(())
}

/// One command's error leaves the other answers of a pipeline as they are.
#[tokio::test]
async fn pipeline_answers_each_command() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client_of(&server.url()).await?;
    let mut pipe = Batch::new();
    pipe.push(command(&["SET", "k", "text"]));
    pipe.push(command(&["LPUSH", "k", "x"]));
    pipe.push(command(&["ECHO", "end"]));
    let answers = client
        .connection()
        .pipeline(&pipe, Repeat::Safe)
        .await
        .map_err(Error::from)?;
    assert!(
        matches!(
            answers.as_slice(),
            [
                Ok(Value::SimpleString(_)),
                Err(Error::Server(_)),
                Ok(Value::BulkString(_))
            ]
        ),
        "{answers:?}"
    );
    Ok(())
}

/// A demoted server keeps its sockets: READONLY must end ours, and nothing has been written.
#[tokio::test]
async fn read_only_server_is_left_until_it_accepts_writes() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?.retries(2)).await?;
    let set = command(&["SET", "k", "v"]);
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]).await?;
    let refused = client.connection().request(set.clone(), Repeat::Once).await;
    assert!(
        matches!(&refused, Err(CallError::NotExecuted(error)) if error.is_transient()),
        "{refused:?}"
    );
    server.cli(&["REPLICAOF", "NO", "ONE"]).await?;
    eventually(SOON, || {
        client.connection().request(set.clone(), Repeat::Once)
    })
    .await?;
    Ok(())
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A full server and a missing permission have errors of their own.
#[tokio::test]
async fn server_errors_are_told_apart() -> TestResult {
    let server = RedisServer::builder()
        .acl("user default on nopass ~* &* +@all\nuser app on >secret ~* &* +@all -get\n")
        .start()
        .await?;
    let config = ClientConfig::from_url(&server.url())?
        .username("app")
        .password("secret");
    let client = Client::connect(config).await?;
    let denied = client
        .connection()
        .request(command(&["GET", "k"]), Repeat::Safe)
        .await;
    assert!(
        matches!(&denied, Err(CallError::Answered(Error::Denied(text))) if text.starts_with("GET: ")),
        "{denied:?}"
    );
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    let full = client
        .connection()
        .request(command(&["SET", "k", "v"]), Repeat::Safe)
        .await;
    assert!(
        matches!(&full, Err(CallError::Answered(Error::Overloaded(_)))),
        "{full:?}"
    );
    let full = add(&client, Repeat::Safe).await;
    assert!(
        matches!(&full, Err(CallError::Answered(Error::Overloaded(_)))),
        "{full:?}"
    );
    let odd = client
        .connection()
        .request(command(&["NOPE", "hunter2"]), Repeat::Safe)
        .await;
    let shown = format!("{odd:?}");
    assert!(
        matches!(odd, Err(CallError::Answered(Error::Server(_)))),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    Ok(())
}

/// A dedicated connection keeps its name over reconnects and closes with its owner.
#[tokio::test]
async fn dedicated_connection_keeps_its_name_and_ends_with_its_owner() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client_of(&server.url()).await?;
    let named = |list: Vec<String>| list.iter().any(|line| line.contains("name=keeper "));
    let ping = command(&["PING"]);

    let keeper = client.dedicated(Some("keeper"), Duration::MAX);
    assert!(!named(clients(&server).await), "it connects when used");
    keeper.request(ping.clone(), Repeat::Safe).await?;
    assert!(named(clients(&server).await));

    server
        .cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await?;
    keeper.request(ping.clone(), Repeat::Safe).await?;
    assert!(named(clients(&server).await));

    let copy = keeper.clone();
    copy.kill();
    eventually(SOON, || async { !named(clients(&server).await) }).await?;
    let closed = keeper.request(ping.clone(), Repeat::Safe).await;
    assert!(
        matches!(&closed, Err(CallError::NotExecuted(Error::Closed))),
        "{closed:?}"
    );

    let keeper = client.dedicated(Some("keeper"), Duration::MAX);
    keeper.request(ping.clone(), Repeat::Safe).await?;
    drop(keeper);
    eventually(SOON, || async { !named(clients(&server).await) }).await?;

    let odd = client.dedicated(Some("has a space"), Duration::MAX);
    odd.request(ping.clone(), Repeat::Safe).await?;
    Ok(())
}

impl std::error::Error for CallError {}

/// A connection follows its users to another runtime when its own has ended.
#[test]
fn connection_outlives_the_runtime_it_was_opened_on() -> TestResult {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    let first = runtime()?;
    let (server, client) = first.block_on(async {
        let server = RedisServer::start().await?;
        let client = client_of(&server.url()).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((server, client))
    })?;
    drop(first);
    let second = runtime()?;
    second.block_on(
        client
            .connection()
            .request(command(&["PING"]), Repeat::Safe),
    )?;
    drop(second);
    drop(server);
    Ok(())
}

/// A request may wait for a connection, but not forever.
#[tokio::test]
async fn request_ends_by_its_deadline_without_a_server() -> TestResult {
    let server = RedisServer::start().await?;
    let config = ClientConfig::from_url(&server.url())?
        .retries(u32::MAX)
        .command_deadline(Duration::from_millis(200));
    let client = Client::connect(config).await?;
    server.kill_hard();
    eventually(SOON, || async { client.connection().current().is_none() }).await?;
    let result = timeout(
        SOON,
        client
            .connection()
            .request(Command::new("PING"), Repeat::Safe),
    )
    .await?;
    assert!(
        matches!(&result, Err(CallError::NotExecuted(Error::Unreachable(_)))),
        "{result:?}"
    );
    Ok(())
}
