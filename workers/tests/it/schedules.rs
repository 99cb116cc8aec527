//! Accounts' daily refreshes, set up here or by the Node.js backend.

use std::collections::BTreeMap;
use std::time::Duration;

use oxbull::{Error, JobId, JobState, Queue, SchedulerOrder, Timestamp};
use oxbull_instagram_simulator::{Moment, Simulator, SimulatorOptions};
use oxbull_testkit::{DEADLINE, NodePeer, TestResult, eventually};
use oxbull_workers::graph::AccountId;
use oxbull_workers::jobs::analytics_refresh::{
    AnalyticsRefresh, Overview, QUEUE, RefreshWindow, ScheduleError, overview_key,
    schedule_account, schedule_of, scheduler_id, unschedule_account,
};
use serde_json::{Value, json};

use crate::support::{ACCOUNT, RedisFixture, reaches, refresher};

const DAY: i64 = 24 * 3600 * 1000;

/// Zones whose clocks never change, with their distance to UTC in minutes.
const ZONES: [(&str, i64); 6] = [
    ("Asia/Tokyo", 540),
    ("Asia/Kolkata", 330),
    ("Asia/Dubai", 240),
    ("UTC", 0),
    ("America/Bogota", -300),
    ("Pacific/Honolulu", -600),
];

fn account(number: usize) -> AccountId {
    AccountId::new((17_841_400_000_000_000 + number).to_string()).unwrap()
}

fn backend(redis: &RedisFixture) -> TestResult<NodePeer> {
    let port = redis.server.port().to_string();
    let peer = NodePeer::builder("scheduling.mjs").env("REDIS_PORT", port);
    Ok(peer.start()?)
}

async fn only_iteration(queue: &Queue<AnalyticsRefresh>, account: &AccountId) -> TestResult<JobId> {
    let scheduler = queue.scheduler(scheduler_id(account)).await?.unwrap();
    Ok(iteration(account, scheduler.next))
}

fn iteration(account: &AccountId, due: Timestamp) -> JobId {
    let id = format!("repeat:{}:{}", scheduler_id(account), due.as_millis());
    JobId::existing(id)
}

/// Every account is due between 02:00 and 03:00 where it is, hardly two at the same moment; once
/// due it is read, cached and due again a day later.
#[tokio::test]
async fn accounts_of_the_world_are_refreshed_at_their_night() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let window = RefreshWindow::default();
    let mut seconds: BTreeMap<i64, usize> = BTreeMap::new();
    let mut due = Vec::new();
    for number in 0..240 {
        let (zone, minutes) = ZONES[number % ZONES.len()];
        let data = AnalyticsRefresh::new(account(number));
        let first = schedule_account(&queue, data, zone, &window)
            .await?
            .unwrap();
        let local = (first.due.as_millis() + minutes * 60_000).rem_euclid(DAY);
        assert!((7_200_000..10_800_000).contains(&local), "{zone}: {local}");
        *seconds.entry(local / 1000).or_default() += 1;
        due.push(first);
    }
    assert_eq!(queue.scheduler_count().await?, 240);
    let most = seconds.values().max().unwrap();
    assert!(*most <= 3, "{most} accounts share a second");

    for first in &due {
        queue.promote(&first.id).await?;
    }
    let mut worker = refresher(&redis.server.url(), simulator.url()).spawn()?;
    let read = async || {
        let counts = queue.counts().await.map_err(|error| error.to_string())?;
        if counts.completed == 240 {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
    };
    eventually(DEADLINE, read).await?;
    worker.kill().await?;
    assert_eq!(simulator.counters().requests.values().sum::<u64>(), 240);
    let schedulers = queue.schedulers(0, -1, SchedulerOrder::SoonestFirst);
    let mut next: BTreeMap<_, _> = schedulers
        .await?
        .into_iter()
        .map(|scheduler| (scheduler.id, scheduler.next))
        .collect();
    for (number, first) in due.into_iter().enumerate() {
        let account = account(number);
        let next = next.remove(&scheduler_id(&account)).unwrap();
        assert_eq!(next.as_millis() - first.due.as_millis(), DAY);
        let state = queue.state(&iteration(&account, next)).await?;
        assert_eq!(state, Some(JobState::Delayed));
        let cached: Option<Overview> = redis.client.cache().get(&overview_key(&account)).await?;
        assert_eq!(cached.unwrap().account_id, account);
    }
    redis.client.close().await;
    Ok(())
}

/// Where 02:00 does not exist for a night, or exists twice, an account is still refreshed once.
#[test]
fn nights_of_clock_changes_have_one_refresh() -> TestResult {
    let account = AccountId::new(ACCOUNT)?;
    let quarter = Duration::from_secs(2 * 3600 + 15 * 60);
    let window = RefreshWindow::new(quarter, Duration::from_secs(1))?;
    let minutes_from = |zone: &str, from: i64, count| -> TestResult<Vec<i64>> {
        let from = Timestamp::from_millis(from);
        let runs = schedule_of(&account, zone, &window)?.preview(from, count)?;
        let passed = runs.iter().map(|run| run.as_millis() - from.as_millis());
        Ok(passed.map(|millis| millis / 60_000).collect())
    };
    // 2026-03-28 12:00 UTC; clocks go from 02:00 to 03:00, which is 01:00 UTC. So 02:15 becomes
    // 03:15, 01:15 UTC; the next night's is at 00:15 UTC.
    let berlin = minutes_from("Europe/Berlin", 1_774_699_200_000, 2)?;
    assert_eq!(berlin, [780 + 15, 2160 + 15]);
    // 2026-03-07 12:00 UTC: 07:15 UTC is 03:15 of the new time, and 06:15 UTC is 02:15.
    let new_york = minutes_from("America/New_York", 1_772_884_800_000, 2)?;
    assert_eq!(new_york, [1140 + 15, 2520 + 15]);
    // 2026-10-24 12:00 UTC: 02:15 comes at 00:15 and 01:15 UTC; it counts once.
    let autumn = minutes_from("Europe/Berlin", 1_792_843_200_000, 2)?;
    assert_eq!(autumn, [720 + 15, 2220 + 15]);
    // 2026-10-03 12:00 UTC: Lord Howe goes from 02:00 to 02:30 at 15:30 UTC, and 02:15 is left out.
    let lord_howe = minutes_from("Australia/Lord_Howe", 1_791_028_800_000, 1)?;
    assert_eq!(lord_howe, [1620 + 15]);
    Ok(())
}

/// A mistake in an account's zone is the caller's to hear, and leaves no trace.
#[tokio::test]
async fn bad_zones_are_refused() -> TestResult {
    let redis = RedisFixture::start().await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let data = AnalyticsRefresh::new(AccountId::new(ACCOUNT)?);
    let window = RefreshWindow::default();
    for zone in ["", "local", "Local"] {
        let refused = schedule_account(&queue, data.clone(), zone, &window).await;
        assert!(matches!(refused, Err(ScheduleError::Zone)), "{zone:?}");
    }
    for zone in ["Europe/Atlantis", "+03:00", "Europe/Berlin\n"] {
        let refused = schedule_account(&queue, data.clone(), zone, &window).await;
        let invalid = matches!(refused, Err(ScheduleError::Queue(Error::Invalid { .. })));
        assert!(invalid, "{zone:?}: {refused:?}");
    }
    assert_eq!(queue.scheduler_count().await?, 0);
    assert_eq!(queue.counts().await?.delayed, 0);
    redis.client.close().await;
    Ok(())
}

/// Setting an account up again moves it; ending it leaves no job behind.
#[tokio::test]
async fn account_has_one_schedule_until_it_is_ended() -> TestResult {
    let redis = RedisFixture::start().await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let account = AccountId::new(ACCOUNT)?;
    let window = RefreshWindow::default();
    for zone in ["Asia/Tokyo", "America/Bogota", "America/Bogota"] {
        let data = AnalyticsRefresh::new(account.clone()).user("ada");
        schedule_account(&queue, data, zone, &window).await?;
        assert_eq!(
            (
                queue.scheduler_count().await?,
                queue.counts().await?.delayed
            ),
            (1, 1)
        );
    }
    let scheduler = queue.scheduler(scheduler_id(&account)).await?.unwrap();
    assert_eq!(scheduler.time_zone.as_deref(), Some("America/Bogota"));
    let data: AnalyticsRefresh = scheduler.data()?;
    assert_eq!(data.user_id.as_deref(), Some("ada"));
    assert!(unschedule_account(&queue, &account).await?);
    assert!(!unschedule_account(&queue, &account).await?);
    assert_eq!(
        (
            queue.scheduler_count().await?,
            queue.counts().await?.delayed
        ),
        (0, 0)
    );
    redis.client.close().await;
    Ok(())
}

/// Two refreshes of one account at once would only fight for its limits: while one runs, the next
/// is passed over.
#[tokio::test]
async fn refresh_that_still_runs_is_not_joined_by_the_next() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let account = AccountId::new(ACCOUNT)?;
    let data = AnalyticsRefresh::new(account.clone());
    let window = RefreshWindow::default();
    let first = schedule_account(&queue, data, "UTC", &window)
        .await?
        .unwrap();
    let mut held = simulator.pause_request(ACCOUNT, 1, Moment::Before);
    queue.promote(&first.id).await?;
    let mut worker = refresher(&redis.server.url(), simulator.url()).spawn()?;
    held.reached().await;
    let second = only_iteration(&queue, &account).await?;
    queue.promote(&second).await?;
    let job = reaches(&queue, &second, JobState::Completed).await?;
    let result: Value = job.return_value()?.unwrap();
    assert_eq!(
        result,
        json!({ "skipped": format!("{} still runs", first.id) })
    );
    drop(held);
    reaches(&queue, &first.id, JobState::Completed).await?;
    assert_eq!(simulator.counters().accounts[ACCOUNT], 1);
    worker.kill().await?;
    redis.client.close().await;
    Ok(())
}

/// The backend's rule and ours are one: the same id and pattern for every account and window.
#[tokio::test]
async fn node_and_rust_have_one_rule() -> TestResult {
    let redis = RedisFixture::start().await?;
    let backend = backend(&redis)?;
    for (start, length) in [(2 * 3600, 3600), (0, 24 * 3600), (23 * 3600 + 59, 7)] {
        let seconds = Duration::from_secs;
        let window = RefreshWindow::new(seconds(start), seconds(length))?;
        let mut accounts: Vec<_> = (0..50).map(|n| account(n * 7919)).collect();
        accounts.push(AccountId::new("shop_One-2")?);
        let ids: Vec<_> = accounts.iter().map(AccountId::as_str).collect();
        let asked = json!({ "accounts": ids, "window": { "start": start, "length": length } });
        let rules = backend.call("rules", asked).await?;
        let ours: Vec<_> = accounts
            .iter()
            .map(|account| json!([scheduler_id(account), window.pattern(account)]))
            .collect();
        assert_eq!(rules, json!(ours));
    }
    Ok(())
}

/// A schedule that Node.js made is carried on by our worker and removed by Node.js; one that we
/// made is Node's to remove as well.
#[tokio::test]
async fn schedules_are_shared_with_node() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let queue = Queue::open(&redis.client, QUEUE).await?;
    let backend = backend(&redis)?;
    let (theirs, ours) = (account(1), account(2));
    let asked = json!({ "accountId": theirs, "userId": "ada", "timeZone": "Asia/Tokyo" });
    let first = backend.call("schedule", asked).await?;
    let first = JobId::existing(first.as_str().unwrap());
    let window = RefreshWindow::default();
    let same = schedule_of(&theirs, "Asia/Tokyo", &window)?;
    let expected = same.preview(redis.client.clock().now(), 1)?[0];
    assert_eq!(first, iteration(&theirs, expected));

    queue.promote(&first).await?;
    let mut worker = refresher(&redis.server.url(), simulator.url()).spawn()?;
    let job = reaches(&queue, &first, JobState::Completed).await?;
    let overview: Overview = job.return_value()?.unwrap();
    assert_eq!(overview.account_id, theirs);
    let second = only_iteration(&queue, &theirs).await?;
    assert_ne!(second, first);
    reaches(&queue, &second, JobState::Delayed).await?;
    worker.kill().await?;

    let data = AnalyticsRefresh::new(ours.clone());
    schedule_account(&queue, data, "Asia/Tokyo", &window).await?;
    let listed = backend.call("schedulers", json!({})).await?;
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(
        listed
            .iter()
            .all(|scheduler| scheduler["tz"] == "Asia/Tokyo")
    );
    for account in [&theirs, &ours] {
        let removed = backend
            .call("unschedule", json!({ "accountId": account }))
            .await?;
        assert_eq!(removed, true);
    }
    assert_eq!(queue.state(&second).await?, None);
    assert_eq!(
        (
            queue.scheduler_count().await?,
            queue.counts().await?.delayed
        ),
        (0, 0)
    );
    redis.client.close().await;
    Ok(())
}
