//! The programs in `examples/`, run as a user runs them.

use std::env;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use oxbull_testkit::{DEADLINE, RedisServer, TestResult};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

/// The program, which cargo builds beside the tests when it builds all of them.
fn example(name: &str) -> TestResult<PathBuf> {
    let tests = env::current_exe()?;
    let profile = tests.ancestors().nth(2).ok_or("tests run in target/")?;
    let program = profile.join("examples").join(name);
    if program.exists() {
        return Ok(program);
    }
    let build = "cargo build -p oxbull --all-features --examples";
    Err(format!("{} is not built: {build}", program.display()).into())
}

/// A program that talks to `server` and is killed with the test.
fn command(name: &str, server: &RedisServer) -> TestResult<Command> {
    let mut command = Command::new(example(name)?);
    command
        .env_clear()
        .env("REDIS_URL", server.url())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// What a program prints until it ends by itself.
async fn run(name: &str, server: &RedisServer) -> TestResult<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = timeout(DEADLINE, command(name, server)?.output()).await??;
    let printed = String::from_utf8(stdout)?;
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{name}: {status}\n{printed}\n{errors}");
    Ok(printed)
}

#[tokio::test]
async fn producer_adds_and_says_what_became_of_it() -> TestResult {
    let server = RedisServer::start().await?;
    let printed = run("producer", &server).await?;
    assert!(
        printed.contains("the second digest: Deduplicated"),
        "{printed}"
    );
    assert!(
        printed.ends_with("2 waiting, 3 with a priority, 1 delayed\n"),
        "{printed}"
    );
    let prioritized = ["ZCARD", "bull:example-mails:prioritized"];
    assert_eq!(server.int(&prioritized).await?, 3);
    let stored = ["HGET", "bull:example-mails:1", "opts"];
    let options = server.text(&stored).await?.unwrap_or_default();
    assert!(options.contains(r#""attempts":5"#), "{options}");
    Ok(())
}

#[tokio::test]
async fn worker_shares_state_and_its_layer_sees_every_attempt() -> TestResult {
    let server = RedisServer::start().await?;
    let printed = run("worker", &server).await?;
    assert!(
        printed.contains("ada@example.org: mail number 1\n"),
        "{printed}"
    );
    assert!(
        printed.contains("busy@example.org: mailbox is busy\n"),
        "{printed}"
    );
    assert!(printed.contains("nobody: not an address\n"), "{printed}");
    // One, two and one: an address that is none is not tried again.
    assert_eq!(printed.matches("attempt at job").count(), 4, "{printed}");
    assert_eq!(
        server.int(&["ZCARD", "bull:example-worker:failed"]).await?,
        2
    );
    assert_eq!(
        server.int(&["LLEN", "bull:example-worker:active"]).await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn schedules_run_and_are_removed() -> TestResult {
    let server = RedisServer::start().await?;
    let printed = run("schedules", &server).await?;
    // The second of these nights has no 2:30.
    for millis in ["1806197400000", "1806280200000", "1806366600000"] {
        assert!(printed.contains(millis), "{millis}: {printed}");
    }
    assert_eq!(printed.matches("ran repeat:often:").count(), 3, "{printed}");
    assert!(printed.contains("often removed: true\n"), "{printed}");
    assert!(printed.contains("nightly removed: true\n"), "{printed}");
    assert_eq!(
        server
            .int(&["ZCARD", "bull:example-reports:completed"])
            .await?,
        3
    );
    assert_eq!(
        server
            .int(&["EXISTS", "bull:example-reports:repeat"])
            .await?,
        0
    );
    assert_eq!(
        server
            .int(&["EXISTS", "bull:example-reports:delayed"])
            .await?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn events_are_followed_and_resumed() -> TestResult {
    let server = RedisServer::start().await?;
    let printed = run("events", &server).await?;
    assert!(printed.contains("1 completed: 42\n"), "{printed}");
    assert!(printed.contains("2 failed: too large\n"), "{printed}");
    assert!(printed.ends_with("3 completed meanwhile\n"), "{printed}");
    Ok(())
}

#[tokio::test]
async fn flows_treat_failures_as_told() -> TestResult {
    let server = RedisServer::start().await?;
    let printed = run("flow", &server).await?;
    for line in [
        "Ignore: 550 words",
        "Remove: 550 words",
        "a parent waits: its child has Failed",
        "released: Completed(0)",
        "children added by a handler: Completed(300)",
    ] {
        assert!(printed.lines().any(|l| l == line), "{line}: {printed}");
    }
    assert!(
        printed.contains("FailParent: child bull:example-flow-pages:"),
        "{printed}"
    );
    let failed = "    page of example-flow-pages: Failed\n";
    assert_eq!(printed.matches(failed).count(), 1, "{printed}");
    Ok(())
}

#[tokio::test]
async fn admin_looks_and_acts() -> TestResult {
    let server = RedisServer::start().await?;
    run("flow", &server).await?;
    let admin = async |arguments: &str| -> TestResult<(bool, String)> {
        let mut command = command("admin", &server)?;
        let output = timeout(DEADLINE, command.args(arguments.split(' ')).output()).await??;
        let printed = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(printed)?))
    };
    let pages = "example-flow-pages";
    let (_, counts) = admin(&format!("{pages} counts")).await?;
    assert!(
        counts.contains(r#""completed":8,"delayed":0,"failed":4"#),
        "{counts}"
    );
    let (_, list) = admin(&format!("{pages} list failed")).await?;
    assert!(list.contains("the page is empty"), "{list}");
    assert!(list.ends_with("4 of 4\n"), "{list}");
    let (_, found) = admin(&format!("{pages} search $.words>=250 page")).await?;
    assert_eq!(
        found.matches(r#""state":"completed""#).count(),
        6,
        "{found}"
    );
    let (_, would) = admin(&format!("{pages} clean completed 0 --dry-run")).await?;
    assert!(would.contains(r#""jobs":8"#), "{would}");
    let completed = ["ZCARD", "bull:example-flow-pages:completed"];
    assert_eq!(server.int(&completed).await?, 8);
    let (_, retried) = admin(&format!("{pages} retry")).await?;
    assert!(retried.starts_with("4 jobs so far\n"), "{retried}");
    assert_eq!(
        server
            .int(&["LLEN", "bull:example-flow-pages:wait"])
            .await?,
        4
    );
    admin(&format!("{pages} pause")).await?;
    assert_eq!(
        server
            .int(&["HEXISTS", "bull:example-flow-pages:meta", "paused"])
            .await?,
        1
    );
    let (_, blocked) = admin("example-flow-reports blocked").await?;
    assert_eq!(blocked, "");
    // Looking does not create a queue.
    let (looked, _) = admin("nobodys counts").await?;
    assert!(looked);
    assert_eq!(server.int(&["EXISTS", "bull:nobodys:meta"]).await?, 0);
    let (known, said) = admin("nobodys dance").await?;
    assert!(!known && said.contains("unknown command"), "{said}");
    Ok(())
}

/// Sends one request and returns the answer, head and body.
async fn ask(address: &str, request: &str, body: &str) -> TestResult<String> {
    let mut connection = TcpStream::connect(address).await?;
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    connection.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    timeout(DEADLINE, connection.read_to_string(&mut answer)).await??;
    Ok(answer)
}

#[tokio::test]
async fn axum_service_adds_waits_and_shows() -> TestResult {
    let server = RedisServer::start().await?;
    let mut service = command("axum_service", &server)?
        .env("PORT", "0")
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = service.stdout.take().ok_or("the output is piped")?;
    let mut printed = BufReader::new(stdout).lines();
    let line = timeout(DEADLINE, printed.next_line()).await??;
    let line = line.ok_or("it says where it listens")?;
    let address = line.rsplit('/').next().ok_or("an address")?.to_owned();

    let sum = ask(&address, "POST /sums/wait", "[1,2,3]").await?;
    assert!(
        sum.starts_with("HTTP/1.1 200") && sum.contains('6'),
        "{sum}"
    );
    let failed = ask(&address, "POST /sums/wait", "[4294967295,1]").await?;
    assert!(failed.contains("the sum is too large"), "{failed}");

    let added = ask(&address, "POST /sums", "[4,5]").await?;
    assert!(added.starts_with("HTTP/1.1 202"), "{added}");
    let id = added.lines().last().unwrap_or_default().trim_matches('"');
    let show = format!("GET /sums/{id}");
    let shown = oxbull_testkit::eventually(DEADLINE, || async {
        let shown = ask(&address, &show, "").await.ok()?;
        shown.contains(r#""returnvalue":"#).then_some(shown)
    })
    .await?;
    assert!(shown.contains('9'), "{shown}");
    let missing = ask(&address, "GET /sums/nobody", "").await?;
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    let counts = ask(&address, "GET /counts", "").await?;
    assert!(
        counts.contains(r#""completed":1"#) && counts.contains(r#""failed":1"#),
        "{counts}"
    );
    let metrics = ask(&address, "GET /metrics", "").await?;
    let count = r#"bullmq_job_count{queue="example-sums", state="failed"} 1"#;
    assert!(metrics.contains(count), "{metrics}");

    let process = service.id().ok_or("it runs")?;
    Command::new("kill")
        .arg(process.to_string())
        .status()
        .await?;
    let status = timeout(DEADLINE, service.wait()).await??;
    assert!(status.success(), "{status}");
    assert_eq!(printed.next_line().await?.as_deref(), Some("closed"));
    Ok(())
}
