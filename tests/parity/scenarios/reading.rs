//! Looking at queues: what BullMQ's getters answer.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::{Driver, START};
use crate::fixture::scenarios;
use crate::step::{End, Limit, Read, Step};

scenarios!(everyone:
    jobs_are_listed_in_both_orders_and_every_range,
    jobs_of_several_states_are_listed_once_and_by_state,
    prioritized_and_delayed_jobs_are_listed_by_their_scores,
    ids_without_a_job_are_skipped,
    jobs_are_counted_by_state_priority_and_time,
    signals_of_old_versions_are_no_jobs,
    logs_are_read_from_both_ends,
    settings_are_read,
    ends_per_minute_are_read,
    numbers_are_exported,
);

const WAITING: &[&str] = &["waiting"];
const RANGES: [(i64, i64); 8] = [
    (0, -1),
    (0, 1),
    (1, 2),
    (-2, -1),
    (3, 9),
    (7, 9),
    (-9, 1),
    (0, 0),
];

async fn read(q: &mut Driver, read: Read) -> TestResult<Value> {
    q.act(Step::Read(read)).await
}

fn ids(jobs: &Value) -> Vec<&str> {
    let jobs = jobs.as_array().into_iter().flatten();
    jobs.filter_map(|job| job["id"].as_str()).collect()
}

async fn jobs_are_listed_in_both_orders_and_every_range(q: &mut Driver) -> TestResult {
    q.add_all(&["w1", "w2", "w3", "w4", "w5"]).await?;
    for range in RANGES {
        for asc in [true, false] {
            read(q, Read::Jobs(WAITING, range, asc)).await?;
            read(q, Read::Ids(WAITING, range, asc)).await?;
        }
    }
    let next = read(q, Read::Jobs(WAITING, (0, 1), true)).await?;
    assert_eq!(ids(&next), ["w1", "w2"]);
    let newest = read(q, Read::Jobs(WAITING, (-2, -1), false)).await?;
    assert_eq!(ids(&newest), ["w2", "w1"]);
    for (id, token) in [("w1", "t1"), ("w2", "t2"), ("w3", "t3"), ("w4", "t4")] {
        q.fetch_job(token, id).await?;
        q.pass(7).await?;
    }
    let fail = |message: &str| End::Fail {
        message: message.to_owned(),
        fatal: true,
    };
    q.complete("w1", "t1").await?;
    q.pass(7).await?;
    q.complete("w2", "t2").await?;
    q.end("w3", "t3", fail("no")).await?;
    for types in [&["active"] as &[_], &["completed"], &["failed"], WAITING] {
        for range in RANGES {
            for asc in [true, false] {
                read(q, Read::Jobs(types, range, asc)).await?;
            }
        }
    }
    Ok(())
}

async fn jobs_of_several_states_are_listed_once_and_by_state(q: &mut Driver) -> TestResult {
    q.add_all(&["w1", "w2", "w3"]).await?;
    for n in 1..=3 {
        let opts = json!({ "jobId": format!("d{n}"), "delay": 1000 * n });
        q.add("d", opts).await?;
    }
    // An id in two states is listed once.
    q.redis(&["ZADD", "delayed", "1", "w2"]).await?;
    for types in [
        &["waiting", "delayed"] as &[_],
        &["delayed", "waiting"],
        &["waiting", "waiting"],
    ] {
        for range in RANGES {
            for asc in [true, false] {
                read(q, Read::Jobs(types, range, asc)).await?;
                read(q, Read::Ids(types, range, asc)).await?;
            }
        }
    }
    Ok(())
}

async fn prioritized_and_delayed_jobs_are_listed_by_their_scores(q: &mut Driver) -> TestResult {
    for (id, priority) in [("p1", 9), ("p2", 1), ("p3", 9), ("p4", 2_097_151)] {
        q.add("p", json!({ "jobId": id, "priority": priority }))
            .await?;
    }
    for (id, delay) in [("d1", 900), ("d2", 100), ("d3", 900)] {
        q.add("d", json!({ "jobId": id, "delay": delay })).await?;
    }
    for types in [&["prioritized"] as &[_], &["delayed"]] {
        for range in RANGES {
            for asc in [true, false] {
                read(q, Read::Jobs(types, range, asc)).await?;
            }
        }
    }
    let first = read(q, Read::Jobs(&["prioritized"], (0, -1), true)).await?;
    assert_eq!(ids(&first), ["p2", "p1", "p3", "p4"]);
    Ok(())
}

async fn ids_without_a_job_are_skipped(q: &mut Driver) -> TestResult {
    q.add_all(&["w1", "w2", "w3", "w4"]).await?;
    q.redis(&["DEL", "w2"]).await?;
    for asc in [true, false] {
        let jobs = read(q, Read::Jobs(WAITING, (0, -1), asc)).await?;
        assert_eq!(ids(&jobs).len(), 3);
        let all = read(q, Read::Ids(WAITING, (0, -1), asc)).await?;
        assert_eq!(all.as_array().map(Vec::len), Some(4));
    }
    read(q, Read::Counts).await?;
    Ok(())
}

async fn jobs_are_counted_by_state_priority_and_time(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    for (id, priority) in [("p1", 1), ("p2", 5), ("p3", 5), ("p4", 2_097_151)] {
        q.add("p", json!({ "jobId": id, "priority": priority }))
            .await?;
    }
    for (id, delay) in [("d1", 100), ("d2", 100), ("d3", 500)] {
        q.add("d", json!({ "jobId": id, "delay": delay })).await?;
    }
    let counts = read(q, Read::CountsByPriority(&[0, 1, 5, 5, 7, 2_097_151])).await?;
    assert_eq!(
        counts,
        json!({ "0": 2, "1": 1, "5": 2, "7": 0, "2097151": 1 })
    );
    for time in [
        0,
        START,
        START + 100,
        START + 101,
        START + 501,
        9_000_000_000_000,
    ] {
        read(q, Read::DelayedBefore(time)).await?;
    }
    assert_eq!(read(q, Read::DelayedBefore(START + 100)).await?, json!(0));
    assert_eq!(read(q, Read::DelayedBefore(START + 101)).await?, json!(2));
    assert_eq!(read(q, Read::Pending).await?, json!(9));
    q.fetch_job("t", "a").await?;
    read(q, Read::Counts).await?;
    read(q, Read::Pending).await?;
    Ok(())
}

/// BullMQ takes such a signal out while it counts, so the lists are equal only without it.
async fn signals_of_old_versions_are_no_jobs(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    for signal in ["0:0", "0:123"] {
        q.redis(&["RPUSH", "wait", signal]).await?;
        for asc in [true, false] {
            let first = read(q, Read::Jobs(WAITING, (0, 0), asc)).await?;
            assert_eq!(ids(&first), [if asc { "a" } else { "c" }]);
        }
        let counts = read(q, Read::Counts).await?;
        assert_eq!(counts["waiting"], 3);
        let counts = read(q, Read::CountsByPriority(&[0])).await?;
        assert_eq!(counts["0"], 3);
        q.redis(&["LREM", "wait", "0", signal]).await?;
    }
    Ok(())
}

async fn logs_are_read_from_both_ends(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    for row in ["one", "two", "three", "four", "five"] {
        let (id, row) = ("a".to_owned(), row.to_owned());
        q.act(Step::Log { id, row, keep: 4 }).await?;
    }
    for range in RANGES {
        for asc in [true, false] {
            read(q, Read::Logs("a", range, asc)).await?;
            read(q, Read::Logs("gone", range, asc)).await?;
        }
    }
    let newest = read(q, Read::Logs("a", (0, 1), false)).await?;
    assert_eq!(newest, json!({ "logs": ["five", "four"], "count": 4 }));
    Ok(())
}

async fn settings_are_read(q: &mut Driver) -> TestResult {
    q.redis(&["HSET", "meta", "version", "somebody:1.2.3"])
        .await?;
    read(q, Read::Settings).await?;
    q.limit(Limit::SetConcurrency(3)).await?;
    q.limit(Limit::SetRate(10, 1000)).await?;
    q.act(Step::Pause).await?;
    q.redis(&["HSET", "meta", "other", "x"]).await?;
    let settings = read(q, Read::Settings).await?;
    assert_eq!(
        (&settings["paused"], &settings["other"]),
        (&json!(true), &json!("x"))
    );
    Ok(())
}

async fn ends_per_minute_are_read(q: &mut Driver) -> TestResult {
    read(q, Read::Metrics("completed", (0, -1))).await?;
    q.worker("counting", json!({ "metrics": { "maxDataPoints": 5 } }));
    q.add_all(&["1a", "2b", "3c", "4d"]).await?;
    for (id, wait) in [("1a", 0), ("2b", 60_000), ("3c", 180_000), ("4d", 1)] {
        q.pass(wait).await?;
        q.fetch_job("t", id).await?;
        q.complete(id, "t").await?;
        for range in [(0, -1), (0, 0), (1, 2), (-1, -1), (9, 12)] {
            read(q, Read::Metrics("completed", range)).await?;
        }
        read(q, Read::Metrics("failed", (0, -1))).await?;
    }
    Ok(())
}

async fn numbers_are_exported(q: &mut Driver) -> TestResult {
    read(q, Read::Export(json!({}))).await?;
    q.worker("counting", json!({ "metrics": { "maxDataPoints": 5 } }));
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.complete("a", "t").await?;
    read(q, Read::Export(json!({}))).await?;
    read(q, Read::Export(json!({ "env": "pr\"od", "z": "x\\y\nz" }))).await?;
    Ok(())
}
