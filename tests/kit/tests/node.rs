//! Peers run both versions of `BullMQ` and report to the tests what they do.

use oxbull_testkit::{
    BullMq, DEADLINE, KitError, NodePeer, Proxy, RedisServer, TestResult, eventually,
};
use serde_json::{Value, json};

#[tokio::test]
async fn both_versions_add_and_process_a_job() -> TestResult {
    let server = RedisServer::start().await?;
    for version in BullMq::ALL {
        let queue = version.package();
        let peer = NodePeer::bullmq(version, server.port()).await?;
        let info = peer.call("peer.info", json!({})).await?;
        assert_eq!(info["package"], version.package());
        let add = json!({ "queue": queue, "name": "greet", "data": { "do": "progress;failOnce", "result": 7 },
            "opts": { "attempts": 2 } });
        let job = peer.call("queue.add", add).await?;
        let start = json!({ "queue": queue, "effectsKey": format!("effects-{queue}") });
        peer.call("worker.start", start).await?;
        let done = peer.wait_event_named(DEADLINE, "worker.completed").await?;
        assert_eq!((&done["id"], &done["result"]), (&job["id"], &json!(7)));
        let failed = peer.wait_event_named(DEADLINE, "worker.failed").await?;
        assert_eq!(failed["error"]["message"], "boom");
        let id = json!({ "queue": queue, "id": job["id"] });
        assert_eq!(peer.call("queue.getState", id.clone()).await?, "completed");
        let stored = peer.call("queue.getJob", id).await?;
        assert_eq!(stored["attemptsMade"], 2, "{stored}");
        assert_eq!(stored["progress"], json!({ "step": 2 }));
        let key = |kind: &str| format!("effects-{queue}:{kind}");
        assert_eq!(server.int(&["HGET", &key("started"), "1"]).await?, 2);
        assert_eq!(server.int(&["HGET", &key("done"), "1"]).await?, 1);
        peer.call("worker.close", json!({})).await?;
        peer.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn manual_worker_moves_jobs_at_the_time_the_test_sets() -> TestResult {
    const NOW: u64 = 1_700_000_000_000;
    let server = RedisServer::start().await?;
    for version in BullMq::ALL {
        let queue = version.package();
        let peer = NodePeer::bullmq(version, server.port()).await?;
        peer.call("clock.set", json!({ "ms": NOW })).await?;
        for name in ["a", "b", "c"] {
            let added = peer
                .call("queue.add", json!({ "queue": queue, "name": name }))
                .await?;
            assert_eq!(added["timestamp"], NOW);
        }
        peer.call("manual.open", json!({ "queue": queue })).await?;
        let job = peer
            .call("manual.getNextJob", json!({ "token": "t" }))
            .await?;
        assert_eq!(
            (&job["name"], &job["processedOn"]),
            (&json!("a"), &json!(NOW))
        );
        let finish = json!({ "id": "1", "token": "t", "value": "done", "fetchNext": true });
        let next = peer.call("manual.complete", finish).await?;
        assert_eq!(next["next"]["name"], "b", "{next}");
        peer.call("manual.log", json!({ "id": "2", "line": "hello" }))
            .await?;
        let fail = json!({ "id": "2", "token": "t", "message": "no" });
        peer.call("manual.fail", fail).await?;
        let failed = peer
            .call("queue.getJob", json!({ "queue": queue, "id": "2" }))
            .await?;
        assert_eq!(failed["failedReason"], "no");
        assert_eq!(failed["stacktrace"], json!(["Error: no\n    at scenario"]));
        peer.call("manual.getNextJob", json!({ "token": "t" }))
            .await?;
        let park = json!({ "id": "3", "token": "t", "timestamp": NOW + 500 });
        peer.call("manual.moveToDelayed", park).await?;
        let counts = peer
            .call("queue.getCounts", json!({ "queue": queue }))
            .await?;
        assert_eq!(
            (&counts["completed"], &counts["failed"], &counts["delayed"]),
            (&json!(1), &json!(1), &json!(1)),
            "{counts}"
        );
        let refused = json!({ "id": "1", "token": "t" });
        let error = peer
            .try_call("manual.complete", refused)
            .await?
            .unwrap_err();
        assert!(error.message.contains("lock"), "{error}");
    }
    Ok(())
}

/// The first check marks a job without a lock, the second hands it back.
#[tokio::test]
async fn stalled_checks_run_one_at_a_time() -> TestResult {
    let server = RedisServer::start().await?;
    for version in BullMq::ALL {
        let queue = version.package();
        let key = |name: &str| format!("bull:{queue}:{name}");
        let peer = NodePeer::bullmq(version, server.port()).await?;
        peer.call("queue.add", json!({ "queue": queue })).await?;
        peer.call("manual.open", json!({ "queue": queue })).await?;
        peer.call("manual.getNextJob", json!({ "token": "t" }))
            .await?;
        server.cli(&["DEL", &key("1:lock")]).await?;
        peer.call("manual.checkStalled", json!({})).await?;
        assert_eq!(server.int(&["SCARD", &key("stalled")]).await?, 1);
        server.cli(&["DEL", &key("stalled-check")]).await?;
        let second = peer.call("manual.checkStalled", json!({})).await?;
        assert_eq!(second["stalled"], json!(["1"]));
        let state = peer
            .call("queue.getState", json!({ "queue": queue, "id": "1" }))
            .await?;
        assert_eq!(state, "waiting");
    }
    Ok(())
}

#[tokio::test]
async fn gates_and_events_replace_sleeping() -> TestResult {
    let server = RedisServer::start().await?;
    let peer = NodePeer::bullmq(BullMq::V6, server.port()).await?;
    peer.call("events.open", json!({ "queue": "q" })).await?;
    peer.call(
        "worker.start",
        json!({ "queue": "q", "behaviour": "gate:x" }),
    )
    .await?;
    peer.call("queue.add", json!({ "queue": "q" })).await?;
    peer.wait_event_named(DEADLINE, "job.started").await?;
    assert_eq!(
        peer.call("queue.getState", json!({ "queue": "q", "id": "1" }))
            .await?,
        "active"
    );
    peer.call("gate.open", json!({ "name": "x" })).await?;
    let event = peer.wait_event_named(DEADLINE, "queue.completed").await?;
    assert_eq!(event["fields"]["jobId"], "1");
    Ok(())
}

#[tokio::test]
async fn flow_is_added_and_its_parent_waits_for_the_child() -> TestResult {
    let server = RedisServer::start().await?;
    for version in BullMq::ALL {
        let peer = NodePeer::bullmq(version, server.port()).await?;
        let prefix = version.package();
        let flow = json!({ "name": "parent", "queueName": "p", "children": [{ "name": "child", "queueName": "c" }] });
        let tree = peer
            .call("flow.add", json!({ "prefix": prefix, "flow": flow }))
            .await?;
        let id = json!({ "queue": "p", "prefix": prefix, "id": tree["job"]["id"] });
        assert_eq!(peer.call("queue.getState", id).await?, "waiting-children");
        assert_eq!(tree["children"][0]["job"]["name"], "child");
    }
    Ok(())
}

#[tokio::test]
async fn many_calls_at_once_get_their_own_answers() -> TestResult {
    let server = RedisServer::start().await?;
    let peer = NodePeer::bullmq(BullMq::V6, server.port()).await?;
    let add = |n: u64| peer.call("queue.add", json!({ "queue": "q", "data": { "n": n } }));
    let (a, b, c) = tokio::try_join!(add(1), add(2), add(3))?;
    let numbers: Vec<&Value> = [&a, &b, &c].iter().map(|job| &job["data"]["n"]).collect();
    assert_eq!(numbers, [&json!(1), &json!(2), &json!(3)]);
    Ok(())
}

#[tokio::test]
async fn dead_peer_fails_calls_and_says_why() -> TestResult {
    let server = RedisServer::start().await?;
    let peer = NodePeer::bullmq(BullMq::V6, server.port()).await?;
    let error = peer.call("no.such", json!({})).await.unwrap_err();
    assert!(
        error.to_string().contains("no such method: no.such"),
        "{error}"
    );
    peer.kill_hard();
    eventually(DEADLINE, async || {
        peer.call("peer.info", json!({})).await.is_err()
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn jobs_say_what_happens_to_them() -> TestResult {
    let table = [
        ("ok", "completed", 1),
        ("log:x;data:{\"do\":\"ok\"}", "completed", 1),
        ("sleep:1;block:1", "completed", 1),
        ("failTimes:2", "completed", 3),
        ("delayOnce:1", "completed", 2),
        ("waitOnce", "completed", 2),
        ("rateLimitOnce:1", "completed", 2),
        ("waitChildren", "completed", 1),
        ("fail", "failed", 3),
        ("unrecoverable", "failed", 1),
    ];
    let server = RedisServer::start().await?;
    for version in BullMq::ALL {
        let queue = version.package();
        let peer = NodePeer::bullmq(version, server.port()).await?;
        peer.call(
            "worker.start",
            json!({ "queue": queue, "effectsKey": queue }),
        )
        .await?;
        for (behaviour, state, starts) in table {
            let add =
                json!({ "queue": queue, "data": { "do": behaviour }, "opts": { "attempts": 3 } });
            let job = peer.call("queue.add", add).await?;
            let id = json!({ "queue": queue, "id": job["id"] });
            eventually(DEADLINE, async || {
                match peer.call("queue.getState", id.clone()).await? {
                    now if now == state => Ok(()),
                    now => Err(KitError::new(format!("{behaviour}: {now}"))),
                }
            })
            .await?;
            let job_id = job["id"].as_str().ok_or("no id")?;
            let started = server
                .int(&["HGET", &format!("{queue}:started"), job_id])
                .await?;
            assert_eq!(started, starts, "{version:?} {behaviour}");
        }
    }
    Ok(())
}

/// A peer behind the proxy: what `BullMQ` sends and gets is framed right, and it reconnects.
#[tokio::test]
async fn peer_works_through_a_proxy_that_resets_it() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    for version in BullMq::ALL {
        let queue = version.package();
        let peer = NodePeer::bullmq_through(version, &server, proxy.port()).await?;
        peer.call(
            "worker.start",
            json!({ "queue": queue, "effectsKey": queue }),
        )
        .await?;
        peer.call("queue.add", json!({ "queue": queue })).await?;
        peer.wait_event_named(DEADLINE, "worker.completed").await?;
        proxy.kill_all();
        peer.wait_event_named(DEADLINE, "peer.error").await?;
        peer.call("queue.add", json!({ "queue": queue })).await?;
        peer.wait_event_named(DEADLINE, "worker.completed").await?;
        assert_eq!(server.int(&["HLEN", &format!("{queue}:done")]).await?, 2);
    }
    assert!(proxy.stats().count("EVALSHA") > 0);
    assert_eq!(proxy.stats().count("HINCRBY"), 0);
    Ok(())
}

#[tokio::test]
async fn manual_worker_releases_jobs() -> TestResult {
    let server = RedisServer::start().await?;
    for version in BullMq::ALL {
        let queue = version.package();
        let peer = NodePeer::bullmq(version, server.port()).await?;
        peer.call("queue.add", json!({ "queue": queue })).await?;
        peer.call("manual.open", json!({ "queue": queue })).await?;
        let get = json!({ "token": "t" });
        peer.call("manual.getNextJob", get.clone()).await?;
        let own = json!({ "id": "1", "token": "t", "duration": 60_000, "progress": 5 });
        peer.call("manual.extendLock", own.clone()).await?;
        peer.call("manual.updateProgress", own.clone()).await?;
        assert_eq!(
            peer.call("manual.moveToWaitingChildren", own.clone())
                .await?,
            false
        );
        peer.call("manual.moveToWait", own.clone()).await?;
        let again = peer.call("manual.getNextJob", get).await?;
        assert_eq!((&again["id"], &again["progress"]), (&json!("1"), &json!(5)));
        assert_eq!(again["attemptsStarted"], 2);
    }
    Ok(())
}
