//! The demo as its reader runs it.

use std::process::Stdio;

use oxbull_testkit::{DEADLINE, TestResult};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The help opens with the demo's own title and purpose, not with a package's description.
#[tokio::test]
async fn help_opens_with_what_the_demo_does() -> TestResult {
    let output = timeout(2 * DEADLINE, demo().arg("--help").output()).await??;
    let text = String::from_utf8(output.stdout)?;
    let opening =
        "Demo of the gateway and the workers\n\nRuns the gateway and the workers on sample input";
    assert!(text.starts_with(opening), "{text}");
    Ok(())
}

/// Whoever clones the repository sees every job end where it should, and exit code 0.
#[tokio::test]
async fn demo_ends_well_and_says_so() -> TestResult {
    let output = timeout(2 * DEADLINE, demo().args(["--latency-ms", "1"]).output()).await??;
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{text}");
    for part in [
        "post-publishing",
        "p99 ms",
        "bull:webhook-processing:{jobId}",
        "repeated deliveries that became no job",
        "Every job is where it should be.",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("FAILED"), "{text}");
    assert!(
        !text.contains('\x1b'),
        "control characters in a pipe: {text}"
    );
    Ok(())
}

/// A deadline that passes means jobs are left, and a script must be able to tell.
#[tokio::test]
async fn demo_fails_when_jobs_are_left() -> TestResult {
    let arguments = ["--deadline", "0", "--latency-ms", "500"];
    let output = timeout(2 * DEADLINE, demo().args(arguments).output()).await??;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("FAILED"), "{text}");
    Ok(())
}

/// Ctrl-C in the middle leaves neither workers nor a server. The workers write where the demo
/// writes, so the end of its output is the end of theirs.
#[tokio::test]
async fn interrupted_demo_leaves_nothing_running() -> TestResult {
    let mut child = demo().args(["--latency-ms", "2000"]).spawn()?;
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("started the three workers") {
        let read = timeout(2 * DEADLINE, output.read_line(&mut text)).await??;
        assert_ne!(read, 0, "the demo ended early: {text}");
    }
    let pid = i32::try_from(child.id().unwrap())?;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::INT)?;
    timeout(2 * DEADLINE, output.read_to_string(&mut text)).await??;
    let status = timeout(2 * DEADLINE, child.wait()).await??;
    assert_eq!(status.code(), Some(130), "{text}");
    let words = text.split_once(" on port ").unwrap().1;
    let port: u16 = words.split(',').next().unwrap().parse()?;
    let server = TcpStream::connect(("127.0.0.1", port)).await;
    assert!(server.is_err(), "the server still listens on {port}");
    Ok(())
}
