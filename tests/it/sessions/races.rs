//! Sessions that several requests change, and requests whose replies are lost.

use std::time::Duration;

use oxbull::kv::session::SessionError;
use oxbull::{Client, ClientConfig};
use oxbull_testkit::{DEADLINE, Proxy, RedisServer, Rule, TestResult, eventually};
use serde_json::{Value, json};

use super::{is_in, key_of, sealed, start, user};

/// The old token is dead at once, the new one goes on with the same data and the same end.
#[tokio::test]
async fn rotation_replaces_the_token() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (old, mut session) = sessions.create(&user("7"), json!(1)).await?;
    let (until, before) = (session.until(), session.id().clone());
    *session.data_mut() = json!("admin");
    fixture.client.clock().advance(Duration::from_secs(60));
    let new = sessions.rotate(&mut session).await?;
    assert_ne!(session.id(), &before);
    assert!(!is_in(&sessions, &old).await?);
    let loaded = sessions.load::<Value>(&new).await?.ok_or("no session")?;
    assert_eq!((loaded.data(), loaded.until()), (&json!("admin"), until));
    let ids: Vec<_> = sessions
        .list(&user("7"))
        .await?
        .iter()
        .map(|info| info.id().clone())
        .collect();
    assert_eq!(ids, [new.id().clone()]);
    sessions.save(&mut session).await?;
    Ok(())
}

/// Of several rotations of one session, one wins; the others end up with nothing.
#[tokio::test]
async fn racing_rotations_leave_one_session() -> TestResult {
    let (_stage, sessions) = start().await?;
    let (token, _) = sessions.create(&user("7"), json!(1)).await?;
    let rotate = || async {
        let Ok(Some(mut session)) = sessions.load::<Value>(&token).await else {
            return None;
        };
        sessions.rotate(&mut session).await.ok()
    };
    let new = futures::future::join_all((0..20).map(|_| rotate())).await;
    let new: Vec<_> = new.into_iter().flatten().collect();
    assert_eq!(new.len(), 1);
    assert!(is_in(&sessions, &new[0]).await?);
    assert_eq!(sessions.list(&user("7")).await?.len(), 1);
    Ok(())
}

/// Of two who change a session at the same time, the second gets an error.
#[tokio::test]
async fn racing_saves_do_not_lose_one() -> TestResult {
    let (_stage, sessions) = start().await?;
    let (token, _) = sessions.create(&user("7"), json!(0)).await?;
    let add_one = || async {
        loop {
            let mut session = sessions
                .load::<i64>(&token)
                .await?
                .ok_or(SessionError::Gone)?;
            *session.data_mut() += 1;
            match sessions.save(&mut session).await {
                Err(SessionError::Conflict) => {}
                other => return other,
            }
        }
    };
    for ended in futures::future::join_all((0..10).map(|_| add_one())).await {
        ended?;
    }
    let mut session = sessions.load::<i64>(&token).await?.ok_or("no session")?;
    assert_eq!(*session.data(), 10);

    let mut stale = sessions.load::<i64>(&token).await?.ok_or("no session")?;
    sessions.save(&mut session).await?;
    sessions.save(&mut session).await?;
    assert!(matches!(
        sessions.save(&mut stale).await,
        Err(SessionError::Conflict)
    ));
    assert!(matches!(
        sessions.rotate(&mut stale).await,
        Err(SessionError::Conflict)
    ));
    assert!(is_in(&sessions, &token).await?);
    Ok(())
}

/// What was destroyed does not come back by a request that was still on its way.
#[tokio::test]
async fn destroyed_session_stays_gone() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (token, mut session) = sessions.create(&user("7"), json!(1)).await?;
    assert!(sessions.destroy(session.user(), session.id()).await?);
    assert!(!sessions.destroy(session.user(), session.id()).await?);
    assert!(!is_in(&sessions, &token).await?);
    fixture.client.clock().advance(Duration::from_secs(2 * 60));
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
    assert_eq!(
        fixture
            .server
            .int(&["EXISTS", &key_of(&session), "session:7"])
            .await?,
        0
    );
    Ok(())
}

/// A lost answer is asked for again, and the repetition finds what the first asking did.
#[tokio::test]
async fn lost_answers_change_nothing_twice() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
    let sessions = sealed(&client).build()?;
    let (_, mut session) = sessions.create(&user("7"), json!(0)).await?;
    sessions.save(&mut session).await?;
    sessions.rotate(&mut session).await?;

    let lose = || proxy.add(Rule::drop_reply(|c| c.is("EVALSHA")).nth(1));
    lose();
    let (token, mut session) = sessions.create(&user("8"), json!(0)).await?;
    lose();
    *session.data_mut() = json!(1);
    sessions.save(&mut session).await?;
    lose();
    let new = sessions.rotate(&mut session).await?;
    assert!(!is_in(&sessions, &token).await?);
    let mut session = sessions.load::<Value>(&new).await?.ok_or("no session")?;
    assert_eq!(session.data(), &json!(1));
    sessions.save(&mut session).await?;
    assert_eq!(sessions.list(&user("8")).await?.len(), 1);
    Ok(())
}

/// A server that restarts without its data has ended every session: none comes back by a save.
#[tokio::test]
async fn sessions_lost_in_a_restart_stay_gone() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (token, mut session) = sessions.create(&user("7"), json!(1)).await?;
    fixture.server.kill_hard();
    fixture.server.restart().await?;
    eventually(DEADLINE, async || {
        matches!(sessions.load::<Value>(&token).await, Ok(None))
    })
    .await?;
    fixture.client.clock().advance(Duration::from_secs(2 * 60));
    for error in [
        sessions.touch(&mut session).await.err(),
        sessions.save(&mut session).await.err(),
        sessions.rotate(&mut session).await.err(),
    ] {
        assert!(matches!(error, Some(SessionError::Gone)), "{error:?}");
    }
    assert_eq!(fixture.server.int(&["DBSIZE"]).await?, 0);
    let (token, _) = sessions.create(&user("7"), json!(2)).await?;
    assert!(is_in(&sessions, &token).await?);
    Ok(())
}

/// Without Redis nobody is logged in, and the error says that it may pass.
#[tokio::test]
async fn missing_server_is_a_typed_error() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (token, mut session) = sessions.create(&user("7"), json!(1)).await?;
    fixture.server.kill_hard();
    let someone = user("7");
    let (loaded, saved, created, destroyed) = futures::join!(
        sessions.load::<Value>(&token),
        sessions.save(&mut session),
        sessions.create(&someone, json!(1)),
        sessions.destroy_all(&someone),
    );
    let errors = [loaded.err(), saved.err(), created.err(), destroyed.err()];
    for error in errors {
        assert!(
            matches!(&error, Some(SessionError::Request(error)) if error.is_transient()),
            "{error:?}"
        );
    }
    Ok(())
}
