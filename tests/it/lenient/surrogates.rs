//! Text cut inside a surrogate pair: in ids, names, data, links, templates and stack traces.

use std::time::Duration;

use oxbull::{
    ChildPolicy, JobId, JobOptions, JobOutcome, JobState, ManualWorker, Parent, RetryOptions,
    SchedulerOrder,
};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use super::{BYTES, HALF, Setup, cut, key, listen};

/// Node.js sends three U+FFFD back for such an id, finds no job, and runs it again and again. We run
/// each once, with the half as U+FFFD, the raw text as it is, and everything else in place.
#[tokio::test]
async fn jobs_with_halves_of_surrogate_pairs_run_once() -> TestResult {
    let setup = Setup::start().await?;
    setup
        .add(&format!(
            r#""name":"n{HALF}","data":{{"t":"hi {HALF}"}},"opts":{{"jobId":"j{HALF}",
            "attempts":2,"deduplication":{{"id":"d{HALF}"}},"telemetry":{{"metadata":"m{HALF}"}},
            "new{HALF}":"o{HALF}"}}"#
        ))
        .await?;
    setup
        .add(&format!(
            r#""data":{{"do":"fail"}},"opts":{{"jobId":"f{HALF}"}}"#
        ))
        .await?;
    setup.run(2).await?;

    let heard = setup.heard();
    assert_eq!(heard.len(), 2);
    let [job, failed] = heard.as_slice() else {
        return Err("two jobs".into());
    };
    assert_eq!(job.id, cut("j"));
    assert!(job.name.starts_with("n\u{fffd}"), "{}", job.name);
    assert_eq!(job.stored("name"), Some([b"n", BYTES].concat().as_slice()));
    assert_eq!(job.data::<Value>()?, json!({ "t": "hi \u{fffd}" }));
    assert_eq!(job.raw_data, format!(r#"{{"t":"hi {HALF}"}}"#));
    assert_eq!(job.problems, Vec::<String>::new());
    assert_eq!(setup.state(&job.id).await?, Some(JobState::Completed));
    assert_eq!(setup.state(&failed.id).await?, Some(JobState::Failed));
    let deduplication = job.stored("deid").ok_or("no deduplication id")?;
    let owner = setup
        .fixture
        .queue
        .deduplication_owner(deduplication)
        .await?;
    assert_eq!(owner, None, "the end of the job frees its deduplication id");
    let left = setup.fixture.server.cli(&["KEYS", "*:lock"]).await?;
    assert!(left.items().is_empty());
    setup.peer.close().await?;
    Ok(())
}

/// Whatever is done to a job by hand reaches it, also where its id is no text.
#[tokio::test]
async fn ids_that_are_no_text_are_good_for_every_action() -> TestResult {
    let setup = Setup::start().await?;
    let queue = &setup.fixture.queue;
    let id = cut("j");
    let add =
        |opts: &str| format!(r#""data":{{"do":"progress"}},"opts":{{"jobId":"j{HALF}"{opts}}}"#);
    setup.add(&add(r#","delay":3600000"#)).await?;
    queue.change_delay(&id, Duration::from_secs(7200)).await?;
    queue.promote(&id).await?;
    queue.log(&id, "by hand", 0).await?;
    assert_eq!(setup.state(&id).await?, Some(JobState::Waiting));
    setup.run(1).await?;
    let job = queue.job(&id).await?.ok_or("gone")?;
    assert_eq!(job.data::<Value>()?, json!({ "do": "done" }));
    assert_eq!(job.progress::<Value>()?, Some(json!({ "half": true })));
    assert_eq!(queue.logs(&id, 0, -1).await?.rows, ["by hand", "a row"]);
    let waiting = tokio::spawn({
        let (queue, id) = (queue.clone(), id.clone());
        async move { queue.wait_for::<String>(&id, DEADLINE).await }
    });
    queue.rerun(&id, RetryOptions::default()).await?;
    let worker = setup.worker().start(listen).await?;
    let end = waiting.await??;
    assert!(
        matches!(&end, JobOutcome::Completed(value) if value == "done"),
        "{end:?}"
    );
    worker.close().await;
    assert!(queue.remove(&id).await?);
    assert_eq!(queue.job(&id).await?, None);
    setup.peer.close().await?;
    Ok(())
}

/// A job whose worker vanished is handed back and renewed by its bytes.
#[tokio::test]
async fn stalled_job_with_half_a_surrogate_pair_is_recovered() -> TestResult {
    let setup = Setup::start().await?;
    setup
        .add(&format!(r#""data":{{}},"opts":{{"jobId":"j{HALF}"}}"#))
        .await?;
    let id = cut("j");
    let manual = ManualWorker::new(&setup.fixture.client, "q")?;
    let job = manual.fetch("t").await?.ok_or("nothing to do")?;
    assert_eq!(job.id, id);
    assert!(manual.extend_lock(&id, "t", DEADLINE).await?);
    let lock = key(&[id.as_bytes(), b":lock"]);
    let dropped = setup
        .fixture
        .server
        .cli(&[b"DEL".as_slice(), &lock])
        .await?;
    assert_eq!(dropped.int(), Some(1));
    let recovered = eventually(DEADLINE, || async {
        let recovered = manual
            .check_stalled(Duration::from_millis(1), 1)
            .await
            .ok()?;
        recovered.into_iter().next()
    });
    assert_eq!(recovered.await?, id);
    setup.run(1).await?;
    assert_eq!(setup.state(&id).await?, Some(JobState::Completed));
    setup.peer.close().await?;
    Ok(())
}

/// A parent whose id is no text waits for its children and no longer, however its child's link
/// to it is written; one whose child must not fail fails.
#[tokio::test]
async fn parents_with_halves_of_surrogate_pairs_are_released() -> TestResult {
    let setup = Setup::start().await?;
    let flow = |parent: &str, child: &str, work: &str| {
        format!(
            r#"{{"flow":{{"name":"p","queueName":"q","data":{{}},"opts":{{"jobId":"{parent}{HALF}"}},
            "children":[{{"name":"c","queueName":"q","data":{{"do":"{work}"}},
            "opts":{{"jobId":"{child}{HALF}","failParentOnFailure":true}}}}]}}}}"#
        )
    };
    for (parent, child, work) in [
        ("P", "C", "ok"),
        ("F", "D", "fail"),
        ("E", "G", "ok"),
        ("H", "I", "fail"),
    ] {
        setup.node("flow.add", &flow(parent, child, work)).await?;
    }
    // Writers that escape all that is not ASCII, such as Python's, leave links like these.
    for (parent, child) in [("E", "G"), ("H", "I")] {
        let link = format!(r#"{{"id":"{parent}{HALF}","queueKey":"bull:q","fpof":true}}"#);
        setup.set(&cut(child), "parent", link.as_bytes()).await?;
    }
    // A child of our own joins such a parent.
    let own = JobOptions::new().parent(Parent::new("bull:q", cut("P")));
    setup.fixture.add("ok", own).await?;
    setup.run(9).await?;
    for (parent, state) in [
        ("P", JobState::Completed),
        ("E", JobState::Completed),
        ("F", JobState::Failed),
        ("H", JobState::Failed),
    ] {
        assert_eq!(setup.state(&cut(parent)).await?, Some(state), "{parent}");
    }
    let heard = setup.heard();
    let child = heard.iter().find(|job| job.id == cut("I")).ok_or("no I")?;
    let link = child.parent.as_ref().ok_or("no parent")?;
    assert_eq!(
        (&link.id, link.on_failure),
        (&cut("H"), ChildPolicy::FailParent)
    );
    let key = key(&[b"P", BYTES, b":processed"]);
    let processed = setup
        .fixture
        .server
        .cli(&[b"HGETALL".as_slice(), &key])
        .await?;
    assert_eq!(processed.items().len(), 4);
    setup.peer.close().await?;
    Ok(())
}

/// A schedule is advanced and repaired whatever text its template holds; its jobs run.
#[tokio::test]
async fn schedule_with_halves_of_surrogate_pairs_goes_on() -> TestResult {
    let setup = Setup::start().await?;
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    setup
        .node(
            "queue.upsertJobScheduler",
            &format!(
                r#"{{"queue":"q","id":"s{HALF}","repeat":{{"every":3600000}},"template":{{
                "name":"n{HALF}","data":{{"t":"{HALF}"}},
                "opts":{{"telemetry":{{"metadata":"m{HALF}"}},"other":"o{HALF}","deep":{deep}}}}}}}"#
            ),
        )
        .await?;
    let schedulers = setup
        .fixture
        .queue
        .schedulers(0, -1, SchedulerOrder::default())
        .await?;
    let [scheduler] = schedulers.as_slice() else {
        return Err("one scheduler".into());
    };
    assert_eq!(scheduler.problems, Vec::<String>::new());
    setup.run(1).await?;
    let heard = setup.heard();
    assert_eq!(heard[0].data::<Value>()?, json!({ "t": "\u{fffd}" }));
    let counts = setup.fixture.counts(|counts| counts.delayed == 1).await?;
    assert_eq!(counts.completed, 1);
    setup.peer.close().await?;
    Ok(())
}

/// The text of a failure that a cut message left in the hash stays as it is beside a new one.
#[tokio::test]
async fn older_stack_traces_stay_as_they_are() -> TestResult {
    let setup = Setup::start().await?;
    setup
        .add(r#""data":{"do":"fail"},"opts":{"attempts":2,"jobId":"j"}"#)
        .await?;
    let older = format!(r#"["Error: cut {HALF}\n    at x",7"#);
    let id = JobId::existing("j");
    setup
        .set(&id, "stacktrace", format!("{older}]").as_bytes())
        .await?;
    setup.run(1).await?;
    let stored = setup
        .fixture
        .server
        .text(&["HGET", "bull:q:j", "stacktrace"])
        .await?;
    let stored = stored.ok_or("no stack traces")?;
    assert!(stored.starts_with(&format!("{older},\"")), "{stored}");
    let traces = setup.fixture.job(&id).await?.stack_traces;
    assert_eq!(traces.len(), 4);
    assert!(traces[0].starts_with("Error: cut \u{fffd}"), "{traces:?}");
    setup.peer.close().await?;
    Ok(())
}
