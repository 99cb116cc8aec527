//! What is printed: lines while the demo runs, tables at its end.

use std::collections::BTreeMap;
use std::error::Error;

use oxbull::JobState;
use oxbull::client::Client;

use crate::Outcome;
use crate::queues::{Seen, SeenQueue};
use crate::timings::Timings;

/// States in the table's order.
const STATES: [JobState; 6] = [
    JobState::Waiting,
    JobState::Prioritized,
    JobState::Delayed,
    JobState::Active,
    JobState::Completed,
    JobState::Failed,
];

/// Prints one line.
#[expect(clippy::print_stdout, reason = "the demo's output is for its reader")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Prints the table of queues and the keys in Redis.
pub(crate) async fn print(client: &Client, seen: &Seen) -> Outcome<()> {
    say("");
    let states = STATES.map(|state| format!("{:>12}", state.as_str()));
    say(&format!(
        "{:<20}{}{:>10}{:>10}{:>10}",
        "queue",
        states.concat(),
        "jobs/s",
        "p50 ms",
        "p99 ms"
    ));
    for queue in seen.all() {
        say(&row(queue));
    }
    say("p50 and p99: time from enqueue to finish; for a delayed job, from when it was due");
    say("");
    say("keys in redis");
    for (pattern, count) in patterns(client).await? {
        say(&format!("{count:>8}  {pattern}"));
    }
    say("");
    Ok(())
}

fn row(queue: &SeenQueue) -> String {
    let timings = Timings::of(queue);
    let counts = STATES.map(|state| format!("{:>12}", queue.counts.of(state)));
    format!(
        "{:<20}{}{:>10.1}{:>10}{:>10}",
        queue.name,
        counts.concat(),
        timings.throughput,
        timings.p50.as_millis(),
        timings.p99.as_millis()
    )
}

/// How many keys there are of each pattern.
async fn patterns(client: &Client) -> Outcome<BTreeMap<String, u64>> {
    let mut keys: Vec<String> = Vec::new();
    let mut scan = client.kv().keys("*");
    while let Some(key) = scan.next().await {
        keys.push(key?);
    }
    // A scan may show a key twice.
    keys.sort_unstable();
    keys.dedup();
    let mut patterns = BTreeMap::new();
    for key in keys {
        *patterns.entry(pattern(&key)).or_default() += 1;
    }
    Ok(patterns)
}

/// A key with its ids replaced by what they are.
fn pattern(key: &str) -> String {
    let mut parts = key.split(':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("bull"), Some(queue), Some(id)) if is_job_id(id) => {
            let rest: Vec<_> = ["bull", queue, "{jobId}"]
                .into_iter()
                .chain(parts)
                .collect();
            rest.join(":")
        }
        (Some("webhook"), Some("seen"), Some(_)) => {
            "webhook:seen:{accountId}:{kind}:{eventId}".to_owned()
        }
        (Some("api"), Some("analytics"), Some("overview")) => {
            "api:analytics:overview:{accountId}".to_owned()
        }
        _ => key.to_owned(),
    }
}

fn is_job_id(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of keys must stay short however many jobs there are, and keep the queue's own.
    #[test]
    fn ids_in_keys_are_replaced() {
        assert_eq!(pattern("bull:mail:17"), "bull:mail:{jobId}");
        assert_eq!(pattern("bull:mail:17:logs"), "bull:mail:{jobId}:logs");
        assert_eq!(pattern("bull:mail:completed"), "bull:mail:completed");
        assert_eq!(
            pattern("api:analytics:overview:178"),
            "api:analytics:overview:{accountId}"
        );
    }
}
