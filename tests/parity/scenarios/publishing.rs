//! The event stream itself: `docs/protocol.md#events`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::Step;

scenarios!(everyone:
    custom_event_joins_the_others,
    custom_event_bounds_the_stream,
    stream_is_cut_in_blocks,
    missing_stream_is_cut_to_nothing,
);

fn publish(n: u32, keep: u64) -> Step {
    Step::Publish {
        event: "ticked".to_owned(),
        fields: json!({ "a": n, "b": "two words", "c": true }),
        keep,
    }
}

async fn custom_event_joins_the_others(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.act(publish(1, 1000)).await?;
    q.work_off("a").await?;
    let events = q.snapshot().await?.value("q:events");
    assert_eq!(events[2], json!("event ticked a 1 b two words c true"));
    Ok(())
}

async fn custom_event_bounds_the_stream(q: &mut Driver) -> TestResult {
    for n in 0..30 {
        q.add_all(&[&format!("j{n}"), &format!("k{n}")]).await?;
    }
    q.act(publish(1, 5)).await?;
    let events = q.snapshot().await?.value("q:events");
    assert!(events.as_array().is_some_and(|events| events.len() < 121));
    Ok(())
}

async fn stream_is_cut_in_blocks(q: &mut Driver) -> TestResult {
    for n in 0..60 {
        q.add_all(&[&format!("j{n}"), &format!("k{n}")]).await?;
    }
    let gone = q.act(Step::TrimEvents { keep: 50 }).await?;
    assert!(gone.as_u64().is_some_and(|gone| gone > 0), "{gone}");
    q.act(Step::TrimEvents { keep: 50 }).await?;
    q.act(Step::TrimEvents { keep: 0 }).await?;
    Ok(())
}

async fn missing_stream_is_cut_to_nothing(q: &mut Driver) -> TestResult {
    assert_eq!(q.act(Step::TrimEvents { keep: 0 }).await?, json!(0));
    q.expect("events", json!(null)).await
}
