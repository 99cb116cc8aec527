//! How long sessions live, and what is left of them.

use std::time::Duration;

use oxbull::kv::session::SessionError;
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use super::{HOUR, MINUTE, is_in, key_of, sealed, start, user};

/// Reading prolongs nothing. Using does, at most once a minute.
#[tokio::test]
async fn session_lives_while_it_is_used() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (token, session) = sessions.create(&user("7"), json!(1)).await?;
    let key = key_of(&session);
    let pttl = async |key: &str| fixture.server.int(&["PTTL", key]).await;
    let half_an_hour = 29 * MINUTE..=30 * MINUTE;
    assert!(half_an_hour.contains(&pttl(&key).await?));
    assert!(half_an_hour.contains(&pttl("session:7").await?));

    fixture.server.cli(&["PEXPIRE", &key, "600000"]).await?;
    let wrote = fixture.calls("hset").await?;
    fixture.client.clock().advance(Duration::from_secs(59));
    let mut session = sessions.load::<Value>(&token).await?.ok_or("no session")?;
    assert!(!sessions.touch(&mut session).await?, "a use was just noted");
    assert!(pttl(&key).await? <= 600_000);
    assert_eq!(fixture.calls("hset").await?, wrote);

    fixture.client.clock().advance(Duration::from_secs(2));
    let before = session.ends();
    assert!(sessions.touch(&mut session).await?);
    assert_eq!(
        session.ends().since(before),
        session.touched().since(session.created())
    );
    assert!(half_an_hour.contains(&pttl(&key).await?));
    let loaded = sessions.load::<Value>(&token).await?.ok_or("no session")?;
    assert_eq!(
        (loaded.touched(), loaded.ends()),
        (session.touched(), session.ends())
    );

    let eager = sealed(&fixture.client)
        .touch_every(Duration::ZERO)
        .build()?;
    assert!(eager.touch(&mut session).await?);
    Ok(())
}

/// Half an hour without a use ends a session, whatever Redis has still got.
#[tokio::test]
async fn unused_session_ends() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (token, mut session) = sessions.create(&user("7"), json!(1)).await?;
    fixture
        .client
        .clock()
        .advance(Duration::from_secs(30 * 60 - 5));
    assert!(is_in(&sessions, &token).await?);
    fixture.client.clock().advance(Duration::from_secs(5));
    assert_eq!(fixture.server.int(&["EXISTS", &key_of(&session)]).await?, 1);
    assert!(!is_in(&sessions, &token).await?);
    assert!(matches!(
        sessions.touch(&mut session).await,
        Err(SessionError::Gone)
    ));
    assert!(matches!(
        sessions.save(&mut session).await,
        Err(SessionError::Gone)
    ));
    assert!(matches!(
        sessions.rotate(&mut session).await,
        Err(SessionError::Gone)
    ));
    assert_eq!(sessions.list(&user("7")).await?, []);
    Ok(())
}

/// No use keeps a session longer than twelve hours, and neither does a rotation or a write to
/// Redis.
#[tokio::test]
async fn destroyed_session_stays_destroyed() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (_, mut session) = sessions.create(&user("7"), json!(1)).await?;
    let until = session.until();
    assert_eq!(
        until.since(session.created()),
        Duration::from_secs(12 * 3600)
    );
    for _ in 0..35 {
        fixture.client.clock().advance(Duration::from_secs(20 * 60));
        assert!(sessions.touch(&mut session).await?);
    }
    let token = sessions.rotate(&mut session).await?;
    sessions.save(&mut session).await?;
    assert_eq!((session.until(), session.ends()), (until, until));
    let key = key_of(&session);
    assert!(fixture.server.int(&["PTTL", &key]).await? <= 20 * MINUTE);

    let later = (until.as_millis() + HOUR).to_string();
    fixture.server.cli(&["HSET", &key, "ends", &later]).await?;
    fixture.server.cli(&["PERSIST", &key]).await?;
    assert!(is_in(&sessions, &token).await?);
    fixture.client.clock().advance(Duration::from_secs(20 * 60));
    assert!(!is_in(&sessions, &token).await?);
    Ok(())
}

/// Redis itself lets sessions and their index go.
#[tokio::test]
async fn ended_sessions_leave_nothing_behind() -> TestResult {
    let fixture = Fixture::start().await?;
    let short = sealed(&fixture.client)
        .idle(Duration::from_secs(1))
        .touch_every(Duration::ZERO)
        .build()?;
    short.create(&user("7"), json!(1)).await?;
    let keys = || async { fixture.server.int(&["EXISTS", "session:7"]).await };
    assert_eq!(keys().await?, 1);
    eventually(DEADLINE, || async {
        (keys().await.ok()? == 0).then_some(())
    })
    .await?;
    assert_eq!(fixture.shown(&["KEYS", "session:*"]).await?, "");
    Ok(())
}

/// The index forgets what has ended when somebody writes to it or asks.
#[tokio::test]
async fn index_cleans_itself() -> TestResult {
    let (fixture, sessions) = start().await?;
    sessions.create(&user("7"), json!(1)).await?;
    fixture.client.clock().advance(Duration::from_secs(20 * 60));
    let (_, kept) = sessions.create(&user("7"), json!(2)).await?;
    let card = || async { fixture.server.int(&["ZCARD", "session:7"]).await };
    assert_eq!(card().await?, 2);
    fixture.client.clock().advance(Duration::from_secs(15 * 60));
    sessions.create(&user("7"), json!(3)).await?;
    assert_eq!(card().await?, 2, "the first one's time is over");
    fixture.server.cli(&["DEL", &key_of(&kept)]).await?;
    assert_eq!(sessions.list(&user("7")).await?.len(), 1);
    assert_eq!(card().await?, 1);
    Ok(())
}
