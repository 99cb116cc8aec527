//! What the library's values look like in the JSON of an application's API.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use oxbull::kv::RateLimit;
use oxbull::{
    AddOutcome, Deduplication, Error, EventEntry, EventId, JobOptions, JobOutcome, JobRateLimit,
    Logs, ManualWorker, Outcome, QueueEvent, QueueEvents, Recurrence, Refusal, Schedule,
    SchedulerRecord, Timestamp, Worker,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A service that shows a value and one that reads it share the type.
fn assert_read_back<T>(value: &T) -> TestResult
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let text = serde_json::to_string(value)?;
    assert_eq!(&serde_json::from_str::<T>(&text)?, value, "{text}");
    Ok(())
}

/// A decision and a claim can be passed on to other services.
#[tokio::test]
async fn decisions_and_claims_read_back() -> TestResult {
    let fixture = Fixture::start().await?;
    let clock = fixture.client.clock();
    clock.set(Timestamp::from_millis(60_000 * 30_000_000));
    let kv = fixture.client.kv();
    let limiter = kv.rate_limiter(RateLimit::fixed_window(1, Duration::from_secs(60)))?;
    let allowed = limiter.take("e", "u").await?;
    assert_eq!(
        shown(allowed)?,
        json!({ "allowed": true, "limit": 1, "remaining": 0, "reset": 60_000, "retryAfter": null })
    );
    let refused = limiter.take("e", "u").await?;
    assert_eq!(shown(refused)?["retryAfter"], 60_000);
    assert_read_back(&allowed)?;
    assert_read_back(&refused)?;

    let acquired = kv.claim("c", "one", DEADLINE).await?;
    assert_eq!(shown(&acquired)?, json!({ "state": "acquired" }));
    let held = kv.claim("c", "two", DEADLINE).await?;
    assert_eq!(shown(&held)?, json!({ "state": "heldBy", "owner": "one" }));
    assert_read_back(&acquired)?;
    assert_read_back(&held)?;
    Ok(())
}

fn shown(value: impl serde::Serialize) -> TestResult<Value> {
    Ok(serde_json::to_value(value)?)
}

/// Names are those of BullMQ where it has any, and times are milliseconds.
#[tokio::test]
async fn reads_of_a_queue_have_bullmqs_names_and_milliseconds() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    fixture.client.clock().set(fixture.client.clock().now());
    let added = queue.add("one", &json!({})).await?;
    assert_eq!(shown(&added)?, json!({ "id": "1", "outcome": "added" }));
    let unique = || JobOptions::new().deduplication(Deduplication::new("k").ttl(DEADLINE));
    queue.add_with("two", &json!({}), unique()).await?;
    let again = queue.add_with("two", &json!({}), unique()).await?;
    assert_read_back(&added)?;
    assert_read_back(&again)?;
    assert_eq!(
        shown(again)?,
        json!({ "id": "2", "outcome": "deduplicated" })
    );
    let replaced = AddOutcome::Replaced { job: "2".into() };
    assert_read_back(&replaced)?;
    assert_read_back(&AddOutcome::KeptLast { next: "3".into() })?;
    assert_eq!(
        shown(replaced)?,
        json!({ "outcome": "replaced", "job": "2" })
    );
    let owner = queue.deduplication_owner("k").await?.ok_or("no owner")?;
    assert_read_back(&owner)?;
    let owner = shown(owner)?;
    assert_eq!(owner["job"], "2");
    assert!(owner["remaining"].is_u64(), "{owner}");

    fixture.client.clock().advance(Duration::from_millis(1500));
    let counts = json!({
        "waiting": 2, "prioritized": 0, "delayed": 0, "active": 0,
        "waiting-children": 0, "completed": 0, "failed": 0,
    });
    assert_eq!(
        shown(queue.backlog().await?)?,
        json!({ "counts": counts, "oldestWait": 1500, "scheduleLag": null })
    );
    assert_read_back(&queue.backlog().await?)?;
    assert_read_back(&queue.counts().await?)?;
    queue.log(&added.id, "row", 0).await?;
    assert_read_back(&queue.logs(&added.id, 0, -1).await?)?;
    assert_eq!(
        shown(queue.logs(&added.id, 0, -1).await?)?,
        json!({ "logs": ["row"], "count": 1 })
    );
    let limit = JobRateLimit::new(5, Duration::from_secs(1));
    assert_eq!(shown(limit)?, json!({ "max": 5, "duration": 1000 }));
    assert_read_back(&limit)?;
    let state = queue.rate_limit_state().await?;
    assert_read_back(&state)?;
    assert_eq!(shown(state)?, json!({ "state": "noWindow" }));
    queue.limit_rate(Duration::from_secs(60)).await?;
    let state = queue.rate_limit_state().await?;
    assert_read_back(&state)?;
    let state = shown(state)?;
    assert_eq!(state["state"], "limited");
    assert!(state["retryAfter"].is_u64(), "{state}");
    assert_read_back(&JobOutcome::Completed(7))?;
    assert_read_back(&JobOutcome::<u32>::Failed {
        reason: "no use".to_owned(),
    })?;
    assert_eq!(shown(JobOutcome::Completed(7))?, json!({ "completed": 7 }));
    assert_eq!(
        shown(Refusal::LockLost)?,
        json!(Refusal::LockLost.to_string())
    );
    Ok(())
}

#[tokio::test]
async fn events_are_what_bullmqs_listeners_get() -> TestResult {
    let fixture = Fixture::start().await?;
    let events = QueueEvents::open(&fixture.client, "q").await?;
    let id = fixture.add("one", JobOptions::new()).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let job = worker.fetch("token").await?.ok_or("nothing to fetch")?;
    worker
        .finish(&job, "token", Ok(Outcome::Done(json!({ "n": 1.5 }))))
        .await?;
    fixture
        .queue
        .publish_event("mine", &json!({ "x": "1" }))
        .await?;
    let entries: Vec<_> = events.take(6).collect().await;
    let mut seen = Vec::new();
    for entry in entries {
        let mut entry = shown(entry?)?;
        assert!(entry["id"].is_string(), "{entry}");
        entry.as_object_mut().ok_or("no object")?.remove("id");
        seen.push(entry);
    }
    assert_eq!(
        seen,
        [
            json!({ "event": "added", "jobId": id, "name": "one" }),
            json!({ "event": "waiting", "jobId": id }),
            json!({ "event": "active", "jobId": id, "prev": "waiting" }),
            json!({ "event": "completed", "jobId": id, "returnvalue": { "n": 1.5 }, "prev": "active" }),
            json!({ "event": "drained" }),
            json!({ "event": "unknown", "name": "mine", "fields": { "x": "1" } }),
        ]
    );
    Ok(())
}

/// Code that reads what a queue holds is tested without a queue.
#[test]
fn records_logs_and_events_can_be_made_by_hand() -> TestResult {
    let mut record = SchedulerRecord::new("digest", Timestamp::from_millis(60_000));
    assert_eq!(record.schedule(), None);
    record.recurrence = Some(Recurrence::Cron("0 2 * * *".to_owned()));
    assert_eq!(record.schedule(), Some(Schedule::cron("0 2 * * *")));
    assert_eq!(record.data::<Value>()?, json!({}));

    let logs = Logs::new(["one", "two"]);
    assert_eq!((logs.rows.len(), logs.total), (2, 2));

    let id = EventId::new(7, 1);
    let fields = [("event", "failed"), ("jobId", "a"), ("failedReason", "no")];
    let entry = EventEntry::from_fields(id, fields);
    assert_eq!((entry.id, entry.event.name()), (id, "failed"));
    assert!(
        matches!(&entry.event, QueueEvent::Failed { reason, .. } if reason == "no"),
        "{entry:?}"
    );
    assert!(entry.extra.is_empty());
    let own = EventEntry::from_fields(id, [("event", "mine"), ("x", "1")]);
    assert!(
        matches!(&own.event, QueueEvent::Unknown { fields, .. } if fields.get("x") == Some("1")),
        "{own:?}"
    );
    let gap = EventEntry::gap(id, Some(3)).event;
    assert!(
        matches!(
            gap,
            QueueEvent::Gap {
                missed: Some(3),
                ..
            }
        ),
        "{gap:?}"
    );
    Ok(())
}

#[tokio::test]
async fn health_is_shown_with_its_reasons() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut events = Vec::new();
    let builder = Worker::builder(&fixture.client, "q");
    let mut stream = builder.events();
    let worker = builder.start(scripted).await?;
    let health = shown(worker.health())?;
    assert_eq!(
        (&health["running"], &health["closed"]),
        (&json!(0), &json!(false))
    );
    assert!(
        health["trouble"].is_null() && health["lastRenewal"].is_null(),
        "{health}"
    );
    worker.close().await;
    while let Some(event) = stream.next().await {
        events.push(shown(event)?["event"].clone());
    }
    assert_eq!(events.last(), Some(&json!("closed")));

    let server = shown(fixture.client.server())?;
    assert_eq!(server["role"], "primary");
    assert!(
        server["version"]
            .as_str()
            .is_some_and(|text| text.contains('.')),
        "{server}"
    );
    let up = shown(fixture.client.health(DEADLINE).await)?;
    assert!(up["error"].is_null() && up["latency"].is_u64(), "{up}");
    fixture.client.close().await;
    let down = shown(fixture.client.health(DEADLINE).await)?;
    assert_eq!(down["error"], json!(Error::Closed.to_string()));
    Ok(())
}
