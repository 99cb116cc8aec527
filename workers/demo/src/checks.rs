//! Whether everything ended where it should.

use std::collections::BTreeMap;
use std::fmt::Display;

use oxbull::JobState;
use oxbull::client::Client;
use oxbull_instagram_simulator::Simulator;
use oxbull_workers::jobs::analytics_refresh::{Overview, overview_key};
use oxbull_workers::jobs::webhook_processing::ProcessedDelivery;

use crate::Outcome;
use crate::notices::Notices;
use crate::queues::{QueueSnapshot, Snapshot};
use crate::report::say;
use crate::samples::Samples;

/// Prints each check with its outcome; returns whether all passed.
pub(crate) async fn run(
    client: &Client,
    samples: &Samples,
    snapshot: &Snapshot,
    simulator: &Simulator,
    notices: &Notices,
    repeats: usize,
) -> Outcome<bool> {
    say("checks:");
    let mut checks = Checks::default();
    jobs(&mut checks, samples, snapshot);
    posts(&mut checks, samples, simulator);
    users_notified(&mut checks, samples, notices);
    let claim = "repeated deliveries that became no job";
    checks.equal(claim, &repeats, &samples.deliveries.len());
    events(&mut checks, samples, &snapshot.deliveries)?;
    overviews(&mut checks, client, samples).await?;
    let claim = "accounts scheduled for their next night";
    checks.equal(claim, &snapshot.due_again, &samples.expected.accounts);
    Ok(checks.passed())
}

#[derive(Default)]
struct Checks {
    failed: usize,
}

impl Checks {
    fn equal<T: PartialEq + Display>(&mut self, claim: &str, found: &T, expected: &T) {
        if found == expected {
            say(&format!("ok      {claim}: {found}"));
        } else {
            self.failed += 1;
            say(&format!("FAILED  {claim}: {found}; expected {expected}"));
        }
    }

    fn passed(&self) -> bool {
        say("");
        match self.failed {
            0 => say("Every job is where it should be."),
            1 => say("1 check FAILED."),
            failed => say(&format!("{failed} checks FAILED.")),
        }
        self.failed == 0
    }
}

/// Every job is in the state it should end in, and no queue has any other.
fn jobs(checks: &mut Checks, samples: &Samples, snapshot: &Snapshot) {
    let expected = [
        (
            samples.expected.posts.published,
            samples.expected.posts.failed,
        ),
        (samples.deliveries.len(), 0),
        (samples.accounts.len() + samples.repeated_accounts.len(), 0),
    ];
    for (queue, expected) in snapshot.all().into_iter().zip(expected) {
        let found = (
            count(queue, JobState::Completed),
            count(queue, JobState::Failed),
        );
        checks.equal(queue.name, &ended(found), &ended(expected));
        let kept: u64 = JobState::ALL
            .iter()
            .map(|state| queue.counts.of(*state))
            .sum();
        let claim = format!("{}: jobs in any state", queue.name);
        checks.equal(&claim, &kept, &(queue.jobs.len() as u64));
    }
    let misplaced: Vec<_> = snapshot
        .posts
        .jobs
        .iter()
        .zip(&samples.posts)
        .filter(|(job, post)| {
            let expected = if post.is_publishable() {
                JobState::Completed
            } else {
                JobState::Failed
            };
            job.state != Some(expected)
        })
        .map(|(job, _)| job.record.id.to_string())
        .collect();
    let misplaced = if misplaced.is_empty() {
        "none".to_owned()
    } else {
        format!("jobs {}", misplaced.join(", "))
    };
    let claim = "posts that ended in the wrong state";
    checks.equal(claim, &misplaced, &"none".to_owned());
}

fn ended((completed, failed): (usize, usize)) -> String {
    format!("{completed} completed, {failed} failed")
}

fn count(queue: &QueueSnapshot, state: JobState) -> usize {
    queue
        .jobs
        .iter()
        .filter(|job| job.state == Some(state))
        .count()
}

/// The API has each post once, despite retries.
fn posts(checks: &mut Checks, samples: &Samples, simulator: &Simulator) {
    let mut times: BTreeMap<String, usize> = samples
        .posts
        .iter()
        .filter(|post| post.is_publishable())
        .map(|post| (post.first_url().to_owned(), 0))
        .collect();
    for post in simulator.published() {
        *times
            .entry(post.urls.into_iter().next().unwrap_or_default())
            .or_default() += 1;
    }
    let once = times.values().filter(|times| **times == 1).count();
    checks.equal(
        "posts published exactly once",
        &once,
        &samples.expected.posts.published,
    );
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for post in simulator.published() {
        *kinds.entry(post.media_type).or_default() += 1;
    }
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    for post in samples.posts.iter().filter(|post| post.is_publishable()) {
        *expected.entry(post.kind()).or_default() += 1;
    }
    checks.equal("kinds of posts", &by_kind(&kinds), &by_kind(&expected));
    let publications = simulator.counters().publications;
    checks.equal(
        "publications that the api counted",
        &publications,
        &(samples.expected.posts.published as u64),
    );
}

/// The user of every post got one notice of its outcome.
fn users_notified(checks: &mut Checks, samples: &Samples, notices: &Notices) {
    let posts = &samples.expected.posts;
    let claim = "users notified that their post is published";
    checks.equal(claim, &notices.published, &posts.published);
    checks.equal(
        "users notified that it failed",
        &notices.failed,
        &posts.failed,
    );
    checks.equal("users notified twice", &notices.repeated, &0);
}

/// Every event was passed on once, and every repeat was dropped.
fn events(checks: &mut Checks, samples: &Samples, queue: &QueueSnapshot) -> Outcome<()> {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut repeated = 0;
    for job in &queue.jobs {
        let Some(result) = job.record.return_value::<ProcessedDelivery>()? else {
            continue;
        };
        repeated += result.repeated;
        for event in result.events {
            *kinds.entry(event.kind.name().to_owned()).or_default() += 1;
        }
    }
    checks.equal(
        "events passed on",
        &by_kind(&kinds),
        &by_kind(&samples.expected.events),
    );
    checks.equal(
        "repeated events dropped",
        &repeated,
        &samples.expected.repeated_events,
    );
    Ok(())
}

fn by_kind(kinds: &BTreeMap<String, usize>) -> String {
    let counts = kinds.iter().map(|(kind, count)| format!("{count} {kind}"));
    counts.collect::<Vec<_>>().join(", ")
}

/// Every account's numbers are in the API cache.
async fn overviews(checks: &mut Checks, client: &Client, samples: &Samples) -> Outcome<()> {
    let mut cached = BTreeMap::new();
    for account in &samples.accounts {
        let key = overview_key(&account.data.account_id);
        if let Some(overview) = client.cache().get::<Overview>(&key).await? {
            cached.insert(key, overview);
        }
    }
    checks.equal(
        "accounts with cached numbers",
        &cached.len(),
        &samples.expected.accounts,
    );
    let partial = cached.values().filter(|overview| overview.partial).count();
    let claim = "accounts with a missing number";
    checks.equal(claim, &partial, &samples.expected.partial_accounts);
    Ok(())
}
