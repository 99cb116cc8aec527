//! The sessions of one user: listed, limited and destroyed together.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use oxbull::kv::session::{PER_USER, SessionError, WhenFull};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::json;

use super::{is_in, sealed, start, user};

/// Logging out everywhere takes every session of one user, and of nobody else; no key is
/// searched for.
#[tokio::test]
async fn user_is_logged_out_everywhere() -> TestResult {
    let (fixture, sessions) = start().await?;
    let mut tokens = Vec::new();
    for n in 0..5 {
        tokens.push(sessions.create(&user("7"), json!(n)).await?);
    }
    let (other, _) = sessions.create(&user("70"), json!(1)).await?;
    let listed: BTreeSet<_> = sessions
        .list(&user("7"))
        .await?
        .iter()
        .map(|i| i.id().clone())
        .collect();
    assert_eq!(
        listed,
        tokens.iter().map(|(token, _)| token.id().clone()).collect()
    );

    assert_eq!(sessions.destroy_others(&tokens[0].1).await?, 4);
    assert!(is_in(&sessions, &tokens[0].0).await?);
    assert!(!is_in(&sessions, &tokens[1].0).await?);
    assert_eq!(sessions.destroy_others(&tokens[0].1).await?, 0);
    sessions.create(&user("7"), json!(6)).await?;
    assert_eq!(sessions.destroy_all(&user("7")).await?, 2);
    assert_eq!(sessions.destroy_all(&user("7")).await?, 0);
    assert!(!is_in(&sessions, &tokens[0].0).await?);
    assert!(is_in(&sessions, &other).await?);
    assert_eq!(
        (fixture.calls("scan").await?, fixture.calls("keys").await?),
        (0, 0)
    );
    Ok(())
}

/// An index that other means filled beyond every limit is emptied all the same.
#[tokio::test]
async fn long_index_is_emptied_in_steps() -> TestResult {
    let (fixture, sessions) = start().await?;
    let fill = "for i = 1, 2500 do redis.call('ZADD', 'session:7', ARGV[1], '7:' .. i) end";
    let (_, session) = sessions.create(&user("7"), json!(1)).await?;
    let ends = session.ends().as_millis().to_string();
    fixture.server.cli(&["EVAL", fill, "0", &ends]).await?;
    assert_eq!(
        sessions.destroy_others(&session).await?,
        0,
        "there was only the index"
    );
    assert_eq!(fixture.calls("zcard").await?, 10, "250 at a time");
    assert_eq!(fixture.server.int(&["ZCARD", "session:7"]).await?, 1);
    Ok(())
}

/// Very many sessions are listed page by page, each once, those that end last first.
#[tokio::test]
async fn many_sessions_are_listed_in_steps() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (_, session) = sessions.create(&user("7"), json!(1)).await?;
    let ends = session.ends().as_millis();
    let fill = "for i = 1, 699 do local tail = '7:' .. string.rep('A', 39) .. string.format('%04d', i)
        local ends = tonumber(ARGV[1]) - math.floor(i / 300)
        redis.call('ZADD', 'session:7', ends, tail) redis.call('HSET', 'session:' .. tail, 'data', 'd', 'version', 'v',
          'created', 1, 'touched', 1, 'ends', ends) end";
    fixture
        .server
        .cli(&["EVAL", fill, "0", &ends.to_string()])
        .await?;
    let listed = sessions.list(&user("7")).await?;
    let ids: BTreeSet<_> = listed.iter().map(|one| one.id().clone()).collect();
    assert_eq!((listed.len(), ids.len()), (700, 700));
    assert!(listed.iter().any(|one| one.id() == session.id()));
    assert!(listed.is_sorted_by(|one, two| one.ends() >= two.ends()));
    // Three pages, of which none reads more than 250.
    assert_eq!(fixture.calls("hmget").await?, 700);
    assert_eq!(fixture.calls("zrevrange").await?, 1, "of the login");
    Ok(())
}

/// A user has so many sessions and no more; the one unused for longest makes room, or the login
/// is refused.
#[tokio::test]
async fn sessions_of_a_user_are_limited() -> TestResult {
    let fixture = Fixture::start().await?;
    let three = NonZeroU32::new(3).ok_or("three")?;
    let sessions = sealed(&fixture.client).max_per_user(three).build()?;
    let mut all = Vec::new();
    for n in 0..3 {
        all.push(sessions.create(&user("7"), json!(n)).await?);
        fixture.client.clock().advance(Duration::from_secs(2 * 60));
    }
    assert!(sessions.touch(&mut all[0].1).await?);
    let (newest, _) = sessions.create(&user("7"), json!(3)).await?;
    assert!(!is_in(&sessions, &all[1].0).await?, "unused for longest");
    for token in [&all[0].0, &all[2].0, &newest] {
        assert!(is_in(&sessions, token).await?);
    }
    assert_eq!(fixture.server.int(&["ZCARD", "session:7"]).await?, 3);

    let strict = sealed(&fixture.client)
        .max_per_user(three)
        .when_full(WhenFull::Refuse)
        .build()?;
    let refused = strict.create(&user("7"), json!(4)).await;
    assert!(matches!(refused, Err(SessionError::Full)), "{refused:?}");
    assert_eq!(fixture.server.int(&["ZCARD", "session:7"]).await?, 3);
    fixture.client.clock().advance(Duration::from_secs(31 * 60));
    assert!(
        strict.create(&user("7"), json!(4)).await.is_ok(),
        "the others have ended"
    );

    let one = sealed(&fixture.client)
        .max_per_user(NonZeroU32::MIN)
        .build()?;
    let (only, _) = one.create(&user("7"), json!(5)).await?;
    assert_eq!(
        one.list(&user("7")).await?.len(),
        1,
        "a lower limit holds at once"
    );
    assert!(is_in(&one, &only).await?);
    assert_eq!(PER_USER, 50);
    Ok(())
}
