//! What the event stream of a queue says about its limits, by the server's times.

use std::collections::BTreeMap;

use oxbull_testkit::{RedisServer, TestResult};

/// How long (ms) a script may take from the time it judges by to the time its events get: a server
/// that is interrupted stamps them late.
const SLACK: u64 = 40;

/// The entries of an event stream.
pub(crate) struct Story(Vec<(u64, BTreeMap<String, String>)>);

impl Story {
    pub(crate) async fn read(server: &RedisServer, queue: &str) -> TestResult<Self> {
        let key = format!("bull:{queue}:events");
        let entries = server.cli(&["XRANGE", &key, "-", "+"]).await?;
        Ok(Self(entries.entries()))
    }

    /// Event and job of each entry that names a job.
    pub(crate) fn events(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(_, fields)| {
            Some((fields.get("event")?.as_str(), fields.get("jobId")?.as_str()))
        })
    }

    /// When jobs started.
    pub(crate) fn starts(&self) -> Vec<u64> {
        let active = |fields: &BTreeMap<String, String>| {
            fields.get("event").is_some_and(|event| event == "active")
        };
        let starts = self.0.iter().filter(|(_, fields)| active(fields));
        starts.map(|(time, _)| *time).collect()
    }

    /// The most jobs that were active at once.
    pub(crate) fn most_active(&self) -> usize {
        let mut active = std::collections::BTreeSet::new();
        let mut most = 0;
        for (event, job) in self.events() {
            match event {
                "active" => {
                    active.insert(job);
                    most = most.max(active.len());
                }
                "completed" | "failed" | "waiting" | "delayed" | "waiting-children" => {
                    active.remove(job);
                }
                _ => {}
            }
        }
        most
    }
}

/// Says whether starts at these times (ms, in order) can be those of a limiter that lets `max` jobs
/// start in a window of `length` ms. A window begins with the first start in it and is followed by
/// another no earlier than its end.
///
/// Which window a start at an end belongs to is unknown, within the slack: every way is tried.
pub(crate) fn fit(starts: &[u64], max: usize, length: u64) -> bool {
    let mut may_begin = vec![false; starts.len() + 1];
    if let Some(first) = may_begin.first_mut() {
        *first = true;
    }
    for begin in 0..starts.len() {
        if !may_begin[begin] {
            continue;
        }
        for next in begin + 1..=(begin + max).min(starts.len()) {
            let last = starts[next - 1];
            if last >= starts[begin] + length + SLACK {
                break;
            }
            let followed = |&at: &u64| at + SLACK >= starts[begin] + length;
            may_begin[next] |= starts.get(next).is_none_or(followed);
        }
    }
    may_begin[starts.len()]
}

/// The check is worth something only if it finds what breaks a limit.
#[test]
fn windows_that_are_too_full_do_not_fit() {
    let full = |at: u64| (0..10).map(move |n| at + n);
    let good: Vec<u64> = full(0).chain(full(200)).chain(full(450)).collect();
    assert!(fit(&good, 10, 200));
    assert!(!fit(&good, 9, 200));
    // One more in the middle of a window, and a window that came too early.
    let mut crowded = good.clone();
    crowded.insert(10, 100);
    assert!(!fit(&crowded, 10, 200));
    let early: Vec<u64> = full(0).chain(full(150)).collect();
    assert!(!fit(&early, 10, 200));
    // The same starts in windows that slide: half of them late, then ten early ones.
    let sliding: Vec<u64> = (0..5).chain(100..105).chain(full(205)).collect();
    assert!(fit(&sliding, 10, 200), "a fixed window is no sliding one");
    // A start just before or after the end of a window may belong to either.
    assert!(fit(&[0, 205, 206], 2, 200));
    assert!(fit(&[0, 195, 390], 1, 200));
    assert!(!fit(&[0, 150, 390], 1, 200));
    assert!(fit(&[], 1, 200));
}
