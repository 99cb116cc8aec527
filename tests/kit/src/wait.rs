//! Waiting for what must come true, and names that do not collide.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{KitError, Result};

/// How long anything may take that must happen at all. It bounds liveness only: a passing test never waits
/// for it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a poll by [`eventually`] may answer: a value, or not yet, with a reason where it has one.
pub trait Progress {
    /// What [`eventually`] returns in the end.
    type Output;

    /// The value, or why it is not there yet.
    ///
    /// # Errors
    /// The reason why the condition does not hold yet; shown if the deadline passes.
    fn progress(self) -> std::result::Result<Self::Output, String>;
}

impl<T> Progress for Option<T> {
    type Output = T;

    fn progress(self) -> std::result::Result<T, String> {
        self.ok_or_else(|| "still nothing".to_owned())
    }
}

impl<T, E: fmt::Display> Progress for std::result::Result<T, E> {
    type Output = T;

    fn progress(self) -> std::result::Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

impl Progress for bool {
    type Output = ();

    fn progress(self) -> std::result::Result<(), String> {
        if self {
            Ok(())
        } else {
            Err("still false".to_owned())
        }
    }
}

/// Polls a condition until it holds: an `Option`, a `Result` or a `bool`.
///
/// `deadline` bounds liveness only, see [`DEADLINE`]. A poll that hangs is cut off at the deadline too.
///
/// # Errors
/// The deadline passed; the text says where `eventually` was called and what the last poll said.
#[track_caller]
pub fn eventually<P, F, Fut>(
    deadline: Duration,
    mut poll: F,
) -> impl Future<Output = Result<P::Output>>
where
    P: Progress,
    F: FnMut() -> Fut,
    Fut: Future<Output = P>,
{
    let caller = std::panic::Location::caller();
    async move {
        let started = Instant::now();
        let mut polls = 0_u64;
        let mut pause = Duration::from_millis(1);
        let mut last = "the first poll never answered".to_owned();
        loop {
            let left = deadline.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, poll()).await {
                Ok(answer) => match answer.progress() {
                    Ok(value) => return Ok(value),
                    Err(reason) => last = reason,
                },
                Err(_) => last = format!("a poll hung; before that: {last}"),
            }
            polls += 1;
            if started.elapsed() >= deadline {
                return Err(KitError::new(format!(
                    "{caller}: did not come true within {deadline:?} ({polls} polls); last answer: {last}"
                )));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A loopback TCP port without a listener right now.
///
/// Ports come from below the range that Linux hands to outgoing connections, so that a server
/// can be started again on the same port later.
///
/// # Errors
/// No port between 10000 and 32000 could be bound.
pub fn free_port() -> Result<u16> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    // Test processes that run at the same time start their search at different places.
    let start = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let candidate = FIRST + start.wrapping_add(step) % COUNT;
        let Ok(port) = u16::try_from(candidate) else {
            continue;
        };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(KitError::new(
        "no free loopback port between 10000 and 32000",
    ))
}

/// `name` with a suffix that no other call in any running test process gets.
pub fn unique(name: &str) -> String {
    let step = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{step}", std::process::id())
}
