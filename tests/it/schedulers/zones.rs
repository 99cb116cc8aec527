//! Processes with other zone data: their occurrences are not those of this process.

use super::*;

/// A morning in Havana, and the hour before it.
const NINE: i64 = 1_700_056_800_000;
const EIGHT: i64 = NINE - 3_600_000;

/// Starts a worker on the second iteration of a schedule, and returns its warnings until the
/// iteration has ended.
async fn troubles(slot: i64) -> TestResult<Vec<String>> {
    let fixture = Fixture::start().await?;
    let at = slot.to_string();
    let (scheduler, job) = ("bull:q:repeat:s", format!("bull:q:repeat:s:{at}"));
    let repeat = json!({ "pattern": "0 9 * * *", "tz": "America/Havana", "count": 2 });
    let opts = json!({ "repeat": repeat, "prevMillis": slot }).to_string();
    let commands: [&[&str]; 4] = [
        &["ZADD", "bull:q:repeat", &at, "s"],
        &[
            "HSET",
            scheduler,
            "name",
            "n",
            "pattern",
            "0 9 * * *",
            "tz",
            "America/Havana",
            "ic",
            "2",
        ],
        &[
            "HSET",
            &job,
            "name",
            "n",
            "data",
            r#"{"do":"ok"}"#,
            "opts",
            &opts,
            "rjk",
            "s",
        ],
        &["LPUSH", "bull:q:wait", &format!("repeat:s:{at}")],
    ];
    for command in commands {
        fixture.server.cli(command).await?;
    }
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    let mut events = worker.events();
    fixture
        .server
        .cli(&["ZADD", "bull:q:marker", "0", "0"])
        .await?;
    fixture.ended(1).await?;
    assert_eq!(fixture.queue.counts().await?.delayed, 1);
    worker.close().await;
    let mut troubles = Vec::new();
    loop {
        match events.next().await.ok_or("it ended without a word")? {
            WorkerEvent::Trouble { message, .. } => troubles.push(message.to_string()),
            WorkerEvent::Closed => return Ok(troubles),
            _ => {}
        }
    }
}

/// Who has made it may know better or worse: the worker says that they disagree, and where.
#[tokio::test]
async fn occurrence_of_other_zone_data_is_reported() -> TestResult {
    let warnings = troubles(EIGHT).await?;
    let version = Schedule::zone_data_version();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let expected = format!(
        "job repeat:s:{EIGHT} of scheduler s: its occurrence {EIGHT} does not match its pattern in \
         America/Havana by zone data {version} of this process: "
    );
    assert!(warnings[0].starts_with(&expected), "{warnings:?}");
    assert_eq!(troubles(NINE).await?, Vec::<String>::new());
    Ok(())
}
