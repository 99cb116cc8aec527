//! Updates that nothing but their content distinguishes, and arrays with elements of another shape.

use super::*;

/// Without a time or an id, equal updates of an account are one event, within a delivery and in two; what differs
/// anywhere is another one, and so is the same change in an entry of another time.
#[tokio::test]
async fn equal_updates_without_time_or_id_are_one_event() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let worker = fixture.worker().await?;
    let referral = |text: &str| json!({ "sender": {"id": "5"}, "recipient": {"id": ACCOUNT}, "referral": {"ref": text} });
    let change = json!({ "field": "story_insights", "value": {"reach": 3} });
    let at = |time: i64, items: Value| {
        json!({ "object": "instagram", "entry": [
            { "id": ACCOUNT, "time": time, "messaging": items, "changes": [change, change] }] })
    };
    for (id, data, new, repeated) in [
        (
            "first",
            at(
                1_700_000_000,
                json!([referral("ad"), referral("ad"), referral("other")]),
            ),
            3,
            2,
        ),
        (
            "second",
            at(1_700_000_060, json!([referral("ad"), referral("third")])),
            2,
            2,
        ),
    ] {
        let id = fixture.add(id, &data).await?;
        let result = fixture.result(&id).await?;
        assert_eq!((result.events.len(), result.repeated), (new, repeated));
    }
    assert_eq!(fixture.recorded(&unknown_key(ACCOUNT)).await?.len(), 5);
    fixture.end(worker).await;
    Ok(())
}

/// An element that is no delivery is recorded whole and costs its neighbours nothing.
#[tokio::test]
async fn odd_element_of_an_array_is_recorded_and_its_neighbours_are_handled() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let worker = fixture.worker().await?;
    let odd = json!({ "object": 7, "entry": "mark" });
    let data = json!([delivery("5", "a"), odd, delivery("5", "b")]);
    assert!(!fixture.accept("array", &data).await?);
    let id = fixture.add("array", &data).await?;
    let result = fixture.result(&id).await?;
    assert_eq!((result.events.len(), result.repeated), (3, 0));
    assert_eq!(fixture.recorded(&events_key(ACCOUNT)).await?, ["a", "b"]);
    let entries = fixture
        .server
        .cli(&["XRANGE", &unknown_key("unknown"), "-", "+"])
        .await?
        .entries();
    assert_eq!(entries.len(), 1);
    let Notice { event } = serde_json::from_str(&entries[0].1["event"])?;
    assert_eq!(event.payload, json!([odd]));
    fixture.end(worker).await;
    Ok(())
}
