//! Answers reach their callers, whatever becomes of socket and callers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::{Batch, Command};
use super::*;

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Bounds liveness only.
const SOON: Duration = Duration::from_secs(30);

/// A connection whose driver runs, and the server's end of it, with this much room between.
fn pair(room: usize) -> (Connection, JoinHandle<()>, DuplexStream) {
    let (ours, server) = duplex(room);
    let (connection, driver) = connect(ours);
    (connection, tokio::spawn(driver), server)
}

fn echo(text: &str) -> Bytes {
    Command::new("ECHO").arg(text).encode()
}

async fn read_exactly(server: &mut DuplexStream, expected: &[u8]) -> TestResult {
    let mut sent = vec![0; expected.len()];
    timeout(SOON, server.read_exact(&mut sent)).await??;
    assert_eq!(sent, expected);
    Ok(())
}

/// Round trips are what costs: callers that ask together share one write and one read.
#[tokio::test]
async fn requests_that_wait_leave_in_one_write() -> TestResult {
    let (ours, mut server) = duplex(1 << 16);
    let (connection, driver) = connect(ours);
    let asked = async {
        tokio::join!(
            connection.request(echo("a")),
            connection.request(echo("b")),
            connection.request(echo("c")),
        )
    };
    let mut asked = std::pin::pin!(asked);
    // All have asked before the driver runs for the first time.
    assert!(futures::poll!(asked.as_mut()).is_pending());
    let mut driver = driver;
    assert!(futures::poll!(driver.as_mut()).is_pending());
    let mut sent = vec![0; 1000];
    let count = server.read(&mut sent).await?;
    assert_eq!(sent[..count], [echo("a"), echo("b"), echo("c")].concat());
    server.write_all(b":1\r\n:2\r\n:3\r\n").await?;
    assert!(futures::poll!(driver.as_mut()).is_pending());
    let (a, b, c) = timeout(SOON, asked).await?;
    assert_eq!(
        (a, b, c),
        (Ok(Value::Int(1)), Ok(Value::Int(2)), Ok(Value::Int(3)))
    );
    Ok(())
}

/// Whoever goes away leaves its answer behind; the next caller must not get it.
#[tokio::test]
async fn dropped_caller_shifts_no_answer() -> TestResult {
    let (connection, _driver, mut server) = pair(1 << 16);
    let gone = tokio::spawn({
        let connection = connection.clone();
        async move { connection.request(echo("gone")).await }
    });
    read_exactly(&mut server, &echo("gone")).await?;
    gone.abort();
    assert!(gone.await.is_err());
    let batch: Batch = [Command::new("A"), Command::new("B")].into_iter().collect();
    let both = connection.request_all(batch.encode(), 2);
    let answers = async {
        read_exactly(&mut server, &batch.encode()).await?;
        server.write_all(b"+gone\r\n:1\r\n:2\r\n").await?;
        TestResult::Ok(())
    };
    let (both, answered) = tokio::join!(timeout(SOON, both), answers);
    answered?;
    assert_eq!(both?, Ok(vec![Value::Int(1), Value::Int(2)]));
    Ok(())
}

/// A request whose caller has stopped waiting is not written.
#[tokio::test]
async fn request_of_a_caller_that_has_gone_is_not_sent() -> TestResult {
    let (ours, mut server) = duplex(1 << 16);
    let (connection, mut driver) = connect(ours);
    {
        let gone = std::pin::pin!(connection.request(echo("gone")));
        assert!(futures::poll!(gone).is_pending());
    }
    let mut kept = std::pin::pin!(connection.request(echo("kept")));
    assert!(futures::poll!(kept.as_mut()).is_pending());
    assert!(futures::poll!(driver.as_mut()).is_pending());
    read_exactly(&mut server, &echo("kept")).await
}

/// A loss says whether anybody can have executed the request.
#[tokio::test]
async fn lost_requests_say_whether_they_were_sent() -> TestResult {
    let (ours, server) = duplex(8);
    let (connection, mut driver) = connect(ours);
    let asked = async {
        tokio::join!(
            connection.request(echo("partly")),
            connection.request(echo("not at all")),
        )
    };
    let mut asked = std::pin::pin!(asked);
    assert!(futures::poll!(asked.as_mut()).is_pending());
    assert!(futures::poll!(driver.as_mut()).is_pending());
    let mut queued = std::pin::pin!(connection.request(echo("queued")));
    assert!(futures::poll!(queued.as_mut()).is_pending());
    drop(server);
    timeout(SOON, driver).await?;
    let (partly, not_at_all) = timeout(SOON, asked).await?;
    assert!(partly.clone().is_err_and(|lost| lost.sent), "{partly:?}");
    for unsent in [
        not_at_all,
        timeout(SOON, queued).await?,
        connection.request(echo("late")).await,
    ] {
        assert!(unsent.clone().is_err_and(|lost| !lost.sent), "{unsent:?}");
    }
    Ok(())
}

/// A driver whose runtime ends leaves no caller waiting.
#[tokio::test]
async fn dropped_driver_fails_what_waits() -> TestResult {
    let (connection, driver, mut server) = pair(1 << 16);
    let (lost, sent) = tokio::join!(timeout(SOON, connection.request(echo("x"))), async {
        let sent = read_exactly(&mut server, &echo("x")).await;
        driver.abort();
        sent
    });
    sent?;
    assert!(lost?.is_err_and(|lost| lost.sent));
    Ok(())
}

#[tokio::test]
async fn end_of_the_socket_is_explained() -> TestResult {
    for (answer, cause) in [
        (&b""[..], "closed by the server"),
        (b"?\r\n", "could not be parsed"),
    ] {
        let (connection, driver, mut server) = pair(1 << 16);
        let (lost, sent) = tokio::join!(timeout(SOON, connection.request(echo("x"))), async {
            let sent = read_exactly(&mut server, &echo("x")).await;
            server.write_all(answer).await?;
            drop(server);
            sent
        });
        sent?;
        let lost = lost?.unwrap_err();
        assert!(lost.cause.contains(cause), "{lost:?}");
        timeout(SOON, driver).await??;
    }
    Ok(())
}

/// An answer and the end of the socket come together: the answer counts.
#[tokio::test]
async fn answer_before_the_end_is_delivered() -> TestResult {
    let (connection, _driver, mut server) = pair(1 << 16);
    let (answer, sent) = tokio::join!(timeout(SOON, connection.request(echo("x"))), async {
        server.write_all(b"$1\r\nx\r\n").await?;
        let sent = read_exactly(&mut server, &echo("x")).await;
        drop(server);
        sent
    });
    sent?;
    assert_eq!(answer?, Ok(Value::BulkString(b"x".to_vec())));
    Ok(())
}

/// More than any buffer holds, in both directions at once.
#[tokio::test]
async fn large_requests_and_answers_pass_through_small_buffers() -> TestResult {
    let (connection, _driver, server) = pair(1000);
    let (mut read, mut write) = tokio::io::split(server);
    let echoing = tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
    let text = |size: usize| "x".repeat(size);
    let sizes = [1 << 20, 10, 100_000, 1 << 20, 0];
    // What comes back is the request itself, as the value that it encodes.
    let calls = sizes.map(|size| connection.request(echo(&text(size))));
    let answers = timeout(SOON, futures::future::join_all(calls)).await?;
    for (answer, size) in answers.into_iter().zip(sizes) {
        let parts = answer.map_err(|lost| lost.cause)?.into_array()?;
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1], Value::BulkString(text(size).into_bytes()));
    }
    echoing.abort();
    Ok(())
}

#[tokio::test]
async fn driver_ends_with_the_last_connection() -> TestResult {
    let (connection, driver, _server) = pair(1000);
    drop(connection);
    timeout(SOON, driver).await??;
    Ok(())
}

/// A stream that counts what is written to it at once.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, room)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A caller that is alone wakes nobody to have its request written; of many, most share a write.
#[tokio::test]
async fn lone_request_is_written_by_its_caller() -> TestResult {
    let (ours, mut server) = duplex(1 << 16);
    let writes = Arc::<AtomicUsize>::default();
    let written = || writes.load(Ordering::Relaxed);
    let (connection, mut driver) = connect(Counted(ours, Arc::clone(&writes)));
    assert!(futures::poll!(driver.as_mut()).is_pending());
    for n in 1..=10 {
        let mut asked = std::pin::pin!(connection.request(echo("alone")));
        assert!(futures::poll!(asked.as_mut()).is_pending());
        assert_eq!(written(), n);
        read_exactly(&mut server, &echo("alone")).await?;
        server.write_all(b":1\r\n").await?;
        assert!(futures::poll!(driver.as_mut()).is_pending());
        assert_eq!(asked.await, Ok(Value::Int(1)));
    }
    let calls = (0..20).map(|_| connection.request(echo("many")));
    let mut asked = std::pin::pin!(futures::future::join_all(calls));
    assert!(futures::poll!(asked.as_mut()).is_pending());
    assert!(futures::poll!(driver.as_mut()).is_pending());
    assert_eq!(written(), 13, "two by their callers, the others at once");
    read_exactly(&mut server, &echo("many").repeat(20)).await?;
    server.write_all(&b":1\r\n".repeat(20)).await?;
    assert!(futures::poll!(driver.as_mut()).is_pending());
    assert_eq!(asked.await, vec![Ok(Value::Int(1)); 20]);
    Ok(())
}

/// What a caller could not write is written by the driver, in its place.
#[tokio::test]
async fn request_that_is_written_in_part_is_completed() -> TestResult {
    let (ours, mut server) = duplex(8);
    let (connection, mut driver) = connect(ours);
    assert!(futures::poll!(driver.as_mut()).is_pending());
    let mut asked = std::pin::pin!(async {
        tokio::join!(
            connection.request(echo("first")),
            connection.request(echo("second"))
        )
    });
    assert!(futures::poll!(asked.as_mut()).is_pending());
    tokio::spawn(driver);
    read_exactly(&mut server, &[echo("first"), echo("second")].concat()).await?;
    server.write_all(b":1\r\n").await?;
    server.write_all(b":2\r\n").await?;
    assert_eq!(
        timeout(SOON, asked).await?,
        (Ok(Value::Int(1)), Ok(Value::Int(2)))
    );
    Ok(())
}

/// One timer keeps the deadlines of all: the first that passes ends the socket, and only its caller was
/// kept waiting for too long.
#[tokio::test]
async fn late_answer_ends_the_socket() -> TestResult {
    let (connection, driver, mut server) = pair(1 << 16);
    let soon = Instant::now() + Duration::from_millis(50);
    let far = Instant::now() + SOON * 2;
    let answered = connection.request_by(echo("a"), Some(far));
    let (answered, sent) = tokio::join!(timeout(SOON, answered), async {
        server.write_all(b":1\r\n").await?;
        read_exactly(&mut server, &echo("a")).await
    });
    sent?;
    assert_eq!(answered?, Ok(Value::Int(1)));
    let both = async {
        tokio::join!(
            connection.request_by(echo("far"), Some(far)),
            connection.request_by(echo("soon"), Some(soon)),
        )
    };
    let (far, soon) = timeout(SOON, both).await?;
    assert!(
        far.clone().is_err_and(|lost| lost.sent && !lost.late),
        "{far:?}"
    );
    assert!(
        soon.clone().is_err_and(|lost| lost.sent && lost.late),
        "{soon:?}"
    );
    timeout(SOON, driver).await??;
    assert!(connection.is_late());
    Ok(())
}

/// Whoever has stopped waiting does not end the socket of the others.
#[tokio::test]
async fn deadline_of_a_caller_that_has_gone_is_nobodys() -> TestResult {
    let (connection, _driver, mut server) = pair(1 << 16);
    {
        let soon = Instant::now() + Duration::from_millis(20);
        let mut gone = std::pin::pin!(connection.request_by(echo("gone"), Some(soon)));
        assert!(futures::poll!(gone.as_mut()).is_pending());
        read_exactly(&mut server, &echo("gone")).await?;
    }
    let far = Instant::now() + Duration::from_millis(100);
    let late = connection.request_by(echo("x"), Some(far));
    assert!(timeout(SOON, late).await?.is_err_and(|lost| lost.late));
    assert!(Instant::now() >= far, "it had its time");
    Ok(())
}
