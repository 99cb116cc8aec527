//! What is printed: lines while the demo runs, tables at its end.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;

use oxbull::JobState;
use oxbull::client::Client;

use crate::Outcome;
use crate::queues::{QueueSnapshot, Snapshot};
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

/// Failed jobs shown with their reasons.
const FAILURES_SHOWN: usize = 5;

/// Prints one line. A reader that has gone, as in `make demo | head`, does not stop the demo.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").ok();
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

/// Prints the table of queues, why jobs failed, and the keys in Redis.
pub(crate) async fn print(client: &Client, snapshot: &Snapshot) -> Outcome<()> {
    let states: String = STATES.map(|state| cell(state, &state.as_str())).concat();
    say("");
    say(&format!(
        "{:<20}{states}{:>9}{:>9}{:>9}{:>9}",
        "queue", "retried", "jobs/s", "p50 ms", "p99 ms"
    ));
    for queue in snapshot.all() {
        say(&row(queue));
    }
    say("");
    say("retried: jobs that needed more than one attempt");
    say("p50, p99: time from enqueue to finish, waits for the API and between attempts included;");
    say("          a delayed job's time counts from when it was due");
    failures(snapshot);
    say("");
    say("keys in redis, by pattern:");
    for (pattern, count) in patterns(client).await? {
        say(&format!("{count:>7}  {pattern}"));
    }
    say("");
    Ok(())
}

/// A cell of a state's column, which is as wide as the state's name needs.
fn cell(state: JobState, content: &dyn std::fmt::Display) -> String {
    format!("{content:>width$}", width = state.as_str().len() + 2)
}

fn row(queue: &QueueSnapshot) -> String {
    let timings = Timings::of(queue);
    let counts: String = STATES
        .map(|state| cell(state, &queue.counts.of(state)))
        .concat();
    let retried = queue.jobs.iter().filter(|job| job.record.attempts_made > 1);
    format!(
        "{:<20}{counts}{:>9}{:>9.1}{:>9}{:>9}",
        queue.name,
        retried.count(),
        timings.throughput,
        timings.p50.as_millis(),
        timings.p99.as_millis()
    )
}

fn failures(snapshot: &Snapshot) {
    for queue in snapshot.all() {
        let failed: Vec<_> = queue
            .jobs
            .iter()
            .filter(|job| job.state == Some(JobState::Failed))
            .collect();
        if failed.is_empty() {
            continue;
        }
        say("");
        say(&format!("failed in {}:", queue.name));
        for job in failed.iter().take(FAILURES_SHOWN) {
            let reason = job.record.failed_reason.as_deref().unwrap_or("no reason");
            say(&format!("    job {}: {reason}", job.record.id));
        }
        if failed.len() > FAILURES_SHOWN {
            say(&format!("    and {} more", failed.len() - FAILURES_SHOWN));
        }
    }
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
        (Some("bull"), Some(queue), Some("repeat")) if parts.clone().next().is_some() => {
            format!("bull:{queue}:repeat:{{schedulerId}}:{{due}}")
        }
        (Some("ratelimit"), Some("graph.account"), Some(_)) => {
            "ratelimit:graph.account:{accountId}:bucket".to_owned()
        }
        (Some("webhook"), Some(_), Some(what)) => match what {
            "snapshot" => "webhook:{accountId}:snapshot:{kind}:{eventId}".to_owned(),
            "delivery" => "webhook:{accountId}:delivery:{jobId}".to_owned(),
            "turns" => "webhook:{accountId}:turns:{conversation}".to_owned(),
            _ => format!("webhook:{{accountId}}:{what}"),
        },
        (Some("notified"), Some(queue), Some(_)) => {
            let what = parts.next().unwrap_or_default();
            format!("notified:{queue}:{{jobId}}@{{timestamp}}:{what}")
        }
        (Some("publish"), Some("container"), Some(_)) => {
            "publish:container:{jobId}@{timestamp}".to_owned()
        }
        (Some("publish"), Some("media"), Some(_)) => "publish:media:{mediaId}".to_owned(),
        (Some("api"), Some("analytics"), Some("overview")) => {
            "api:analytics:overview:{accountId}".to_owned()
        }
        _ => key.to_owned(),
    }
}

fn is_job_id(part: &str) -> bool {
    let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    is_number || part.starts_with("delivery-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list of keys must stay short however many jobs there are, and keep the queue's own.
    #[test]
    fn ids_in_keys_are_replaced() {
        assert_eq!(pattern("bull:mail:17"), "bull:mail:{jobId}");
        assert_eq!(pattern("bull:mail:delivery-0f"), "bull:mail:{jobId}");
        assert_eq!(
            pattern("webhook:{178}:snapshot:message:m"),
            "webhook:{accountId}:snapshot:{kind}:{eventId}"
        );
        assert_eq!(pattern("bull:mail:17:logs"), "bull:mail:{jobId}:logs");
        assert_eq!(pattern("bull:mail:completed"), "bull:mail:completed");
        assert_eq!(
            pattern("api:analytics:overview:178"),
            "api:analytics:overview:{accountId}"
        );
    }
}
