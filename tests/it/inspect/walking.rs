//! Going through all jobs while they move.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::TryStreamExt as _;
use oxbull::JobState;
use oxbull::inspect::{Cursor, JobOrder, Search};
use oxbull_fixture::Fixture;
use oxbull_testkit::{TestResult, Value as Reply};
use serde_json::json;

use super::{all, ids};

/// Makes `count` jobs and puts them into a list or sorted set.
async fn fill(fixture: &Fixture, count: usize, put: &str) -> TestResult {
    let text = format!(
        "for i = 1, {count} do local id = string.format('j%06d', i) \
         redis.call('HSET', 'bull:q:' .. id, 'name', 'n', 'timestamp', i, 'data', '{{}}') {put} end"
    );
    run(fixture, &text).await
}

async fn run(fixture: &Fixture, text: &str) -> TestResult {
    match fixture.server.cli(&["EVAL", text, "0"]).await? {
        Reply::Error(error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn names(range: std::ops::RangeInclusive<usize>) -> BTreeSet<String> {
    range.map(|n| format!("j{n:06}")).collect()
}

/// Of a queue at rest every job comes once, in order, whatever holds it.
#[tokio::test]
async fn every_job_comes_once_and_in_order() -> TestResult {
    for (state, put) in [
        (JobState::Waiting, "redis.call('LPUSH', 'bull:q:wait', id)"),
        (JobState::Active, "redis.call('LPUSH', 'bull:q:active', id)"),
        (
            JobState::Completed,
            "redis.call('ZADD', 'bull:q:completed', i, id)",
        ),
        // All of one moment, and some of three.
        (
            JobState::Delayed,
            "redis.call('ZADD', 'bull:q:delayed', 5, id)",
        ),
        (
            JobState::Failed,
            "redis.call('ZADD', 'bull:q:failed', math.floor(i / 700), id)",
        ),
    ] {
        let fixture = Fixture::start().await?;
        fill(&fixture, 2_000, put).await?;
        let mut ascending = fixture.queue.all_jobs([state], JobOrder::Ascending);
        assert_eq!(ascending.progress().total, 0);
        let mut found = Vec::new();
        while let Some(one) = ascending.try_next().await? {
            assert_eq!(one.state, state);
            found.push(one.job.id.as_str().to_owned());
        }
        let expected: Vec<String> = names(1..=2_000).into_iter().collect();
        assert_eq!(found, expected, "{state}");
        let progress = ascending.progress();
        assert_eq!(
            (progress.scanned, progress.total, progress.missing),
            (2_000, 2_000, 0)
        );
        assert_eq!(ascending.cursor(), None);
        found.reverse();
        let descending = all(fixture.queue.all_jobs([state], JobOrder::Descending)).await?;
        assert_eq!(ids(&descending), found, "{state}");
    }
    Ok(())
}

/// While both ends of a list, or members all over a set, come and go, those that stay are all given, and
/// none twice.
#[tokio::test]
async fn jobs_that_stay_are_given_while_others_move() -> TestResult {
    let list = "bull:q:wait";
    let churn_list = |round: usize| {
        format!(
            "for i = 1, 90 do redis.call('RPOP', '{list}') end \
             for i = 1, 40 do local id = 'new{round}.' .. i redis.call('HSET', 'bull:q:' .. id, 'timestamp', 1) \
             redis.call('LPUSH', '{list}', id) redis.call('RPUSH', '{list}', 'l' .. id) end \
             for i = 2000, 3999, 7 do redis.call('LREM', '{list}', 1, string.format('j%06d', i + {round})) end"
        )
    };
    let churn_set = |round: usize| {
        format!(
            "for i = 1, 90 do redis.call('ZPOPMIN', 'bull:q:failed') redis.call('ZPOPMAX', 'bull:q:failed') end \
             for i = 1, 40 do redis.call('ZADD', 'bull:q:failed', 0, 'new{round}.' .. i) end \
             for i = 2000, 3999, 7 do redis.call('ZREM', 'bull:q:failed', string.format('j%06d', i + {round})) end"
        )
    };
    let wait = "redis.call('LPUSH', 'bull:q:wait', id)";
    let ended = "redis.call('ZADD', 'bull:q:failed', math.floor(i / 1500), id)";
    for (state, put, is_list) in [
        (JobState::Waiting, wait, true),
        (JobState::Failed, ended, false),
    ] {
        for order in [JobOrder::Ascending, JobOrder::Descending] {
            let fixture = Fixture::start().await?;
            fill(&fixture, 8_000, put).await?;
            let mut jobs = fixture.queue.all_jobs([state], order);
            let mut found = Vec::new();
            while let Some(one) = jobs.try_next().await? {
                found.push(one.job.id.as_str().to_owned());
                if found.len() % 450 == 0 && found.len() < 4_000 {
                    let round = found.len() / 450;
                    let text = if is_list {
                        churn_list(round)
                    } else {
                        churn_set(round)
                    };
                    run(&fixture, &text).await?;
                }
            }
            let unique: BTreeSet<String> = found.iter().cloned().collect();
            assert_eq!(unique.len(), found.len(), "given twice: {state} {order:?}");
            let left = fixture
                .queue
                .job_ids([state], .., JobOrder::Ascending)
                .await?;
            let left: BTreeSet<String> = left.iter().map(|id| id.as_str().to_owned()).collect();
            let stayed: BTreeSet<_> = names(1..=8_000).intersection(&left).cloned().collect();
            assert!(stayed.len() > 4_000, "{}", stayed.len());
            let lost: Vec<_> = stayed.difference(&unique).collect();
            assert!(lost.is_empty(), "{state} {order:?} lost {lost:?}");
        }
    }
    Ok(())
}

/// A job that moves on to a state that is read later is given once.
#[tokio::test]
async fn job_that_changes_its_state_is_given_once() -> TestResult {
    let fixture = Fixture::start().await?;
    fill(&fixture, 600, "redis.call('LPUSH', 'bull:q:wait', id)").await?;
    let states = [JobState::Waiting, JobState::Active];
    let mut jobs = fixture.queue.all_jobs(states, JobOrder::Ascending);
    let first = jobs.try_next().await?.ok_or("no job")?;
    run(
        &fixture,
        "redis.call('RPOPLPUSH', 'bull:q:wait', 'bull:q:active')",
    )
    .await?;
    let rest: Vec<_> = jobs.try_collect().await?;
    assert_eq!(
        (first.job.id.as_str(), first.state),
        ("j000001", JobState::Waiting)
    );
    assert_eq!(rest.len(), 599);
    Ok(())
}

/// Dangling ids and the signals of old versions are not jobs; a dangling id is counted.
#[tokio::test]
async fn walks_pass_over_what_is_no_job() -> TestResult {
    let fixture = Fixture::start().await?;
    fill(&fixture, 3, "redis.call('LPUSH', 'bull:q:wait', id)").await?;
    run(
        &fixture,
        "redis.call('RPUSH', 'bull:q:wait', '0:0') redis.call('DEL', 'bull:q:j000002')",
    )
    .await?;
    let mut jobs = fixture.queue.all_jobs(JobState::ALL, JobOrder::Ascending);
    let mut found = Vec::new();
    while let Some(one) = jobs.try_next().await? {
        found.push(one.job.id.as_str().to_owned());
    }
    assert_eq!(found, ["j000001", "j000003"]);
    let progress = jobs.progress();
    assert_eq!(
        (progress.scanned, progress.total, progress.missing),
        (3, 3, 1)
    );
    Ok(())
}

/// A walk that ended early is gone on with from its cursor, in another process too, whatever left.
#[tokio::test]
async fn walk_goes_on_from_its_cursor() -> TestResult {
    for (state, put) in [
        (JobState::Waiting, "redis.call('LPUSH', 'bull:q:wait', id)"),
        (
            JobState::Failed,
            "redis.call('ZADD', 'bull:q:failed', math.floor(i / 900), id)",
        ),
    ] {
        for order in [JobOrder::Ascending, JobOrder::Descending] {
            let fixture = Fixture::start().await?;
            fill(&fixture, 3_000, put).await?;
            let search = || Search::new().states([state]).order(order);
            let mut jobs = fixture.queue.search(search())?;
            let mut read = Vec::new();
            // Until all jobs of a step have been taken, the cursor stays where the step began.
            let text = loop {
                let before = jobs.cursor();
                let one = jobs.try_next().await?.ok_or("too few")?;
                read.push(one.job.id.as_str().to_owned());
                let cursor = jobs.cursor();
                if read.len() >= 900 && cursor != before {
                    break cursor.ok_or("no cursor")?.to_string();
                }
            };
            drop(jobs);
            // Most of what was given leaves.
            let key = if state == JobState::Failed {
                "bull:q:failed"
            } else {
                "bull:q:wait"
            };
            for id in read.iter().take(read.len() - 50) {
                let remove = match state {
                    JobState::Failed => vec!["ZREM", key, id],
                    _ => vec!["LREM", key, "1", id],
                };
                fixture.server.cli(&remove).await?;
            }
            let mut found: BTreeSet<String> = read.into_iter().collect();
            let rest = search().resume(text.parse()?);
            let mut rest = fixture.queue.search(rest)?;
            let mut twice = 0;
            while let Some(one) = rest.try_next().await? {
                twice += usize::from(!found.insert(one.job.id.as_str().to_owned()));
            }
            assert_eq!(found, names(1..=3_000), "{state} {order:?}");
            assert_eq!(twice, 0, "{state} {order:?}");
            assert!(rest.progress().scanned >= 3_000, "{:?}", rest.progress());
        }
    }
    Ok(())
}

/// A cursor of another search, or none at all, is refused.
#[tokio::test]
async fn bad_cursors_are_refused() -> TestResult {
    let fixture = Fixture::start().await?;
    for text in ["", "x", "e30", "%%%"] {
        let error = text.parse::<Cursor>().unwrap_err().to_string();
        assert!(error.starts_with("cursor is none"), "{error}");
    }
    let failed = || Search::new().states([JobState::Failed]);
    let cursor = fixture
        .queue
        .search(failed())?
        .cursor()
        .ok_or("no cursor")?;
    let shown = serde_json::to_string(&cursor)?;
    assert_eq!(serde_json::from_str::<Cursor>(&shown)?, cursor);
    let other = Search::new()
        .states([JobState::Active])
        .resume(cursor.clone());
    let turned = failed().order(JobOrder::Descending).resume(cursor.clone());
    for search in [other, turned] {
        let error = fixture
            .queue
            .search(search)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("cursor belongs to"), "{error}");
    }
    assert!(fixture.queue.search(failed().resume(cursor)).is_ok());
    Ok(())
}

/// A cursor may have passed through anybody's hands: a forged one is refused, or ends.
#[tokio::test]
async fn forged_cursors_neither_fail_nor_go_on_for_ever() -> TestResult {
    let fixture = Fixture::start().await?;
    fill(&fixture, 3, "redis.call('LPUSH', 'bull:q:wait', id)").await?;
    fill(&fixture, 2, "redis.call('ZADD', 'bull:q:failed', i, id)").await?;
    let states = [JobState::Waiting, JobState::Failed];
    let forged = |state: &str, place: &str, scanned: u64, spot: serde_json::Value| {
        let text = json!({ "state": state, "place": place, "descending": false, "scanned": scanned, "spot": spot });
        URL_SAFE_NO_PAD.encode(text.to_string())
    };
    for spot in [u64::MAX, i64::MAX as u64, 1 << 40] {
        let text = forged(
            "waiting",
            "wait",
            u64::MAX,
            json!({ "Entry": [spot, ["x"]] }),
        );
        let search = Search::new().states(states).resume(text.parse()?);
        assert_eq!(all(fixture.queue.search(search)?).await?.len(), 3, "{spot}");
    }
    for (state, place, spot) in [
        ("failed", "failed", json!({ "Member": ["j000001", "NaN"] })),
        ("failed", "failed", json!({ "Member": ["j000001", "x"] })),
        ("failed", "failed", json!({ "Entry": [0, []] })),
        ("waiting", "wait", json!({ "Member": ["j000001", "1"] })),
    ] {
        let search = Search::new()
            .states(states)
            .resume(forged(state, place, 0, spot).parse()?);
        let refused = fixture
            .queue
            .search(search)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(refused.starts_with("cursor is none"), "{refused}");
    }
    Ok(())
}
