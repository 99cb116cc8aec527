//! Sessions: who gets in, for how long, and what Redis knows about it.
#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

mod lifetime;
mod races;
mod users;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use oxbull::kv::session::{
    DATA_MAX, Session, SessionError, SessionId, SessionToken, Sessions, SessionsBuilder, UserId,
};
use oxbull::vault::{Keyring, OpenError};
use oxbull::{Client, Error};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::least;
use crate::vault::{key, keyring, rotated};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// What must not be seen anywhere.
const CANARY: &str = "c4nary-r0le";

fn sealed(client: &Client) -> SessionsBuilder {
    Sessions::builder(client).sealed_with(keyring())
}

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

async fn start() -> TestResult<(Fixture, Sessions)> {
    let fixture = Fixture::start().await?;
    let sessions = sealed(&fixture.client).build()?;
    Ok((fixture, sessions))
}

fn key_of<T>(session: &Session<T>) -> String {
    format!("session:{}:{}", session.user(), session.id())
}

async fn is_in(sessions: &Sessions, token: &SessionToken) -> TestResult<bool> {
    Ok(sessions.load::<Value>(token).await?.is_some())
}

/// The token lets in; what Redis holds neither tells the data nor lets anybody in.
#[tokio::test]
async fn session_is_readable_with_its_token_only() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (token, created) = sessions.create(&user("7"), json!(CANARY)).await?;
    let token = SessionToken::parse(token.as_str())?;
    let session = sessions.load::<Value>(&token).await?.ok_or("no session")?;
    assert_eq!(session.data(), CANARY);
    assert_eq!((session.user(), session.id()), (&user("7"), created.id()));
    assert_eq!(session.created(), created.created());

    let other = SessionToken::parse(&token.as_str().replace(".7", ".8"))?;
    assert!(!is_in(&sessions, &other).await?, "another user's");
    let guess = format!("{}.7", created.id());
    assert!(
        !is_in(&sessions, &SessionToken::parse(&guess)?).await?,
        "the key's part"
    );

    let secret = token.as_str().split('.').next().unwrap_or_default();
    let keys = fixture.shown(&["KEYS", "session:*"]).await?;
    let hash = fixture.shown(&["HGETALL", &key_of(&session)]).await?;
    let index = fixture.shown(&["ZRANGE", "session:7", "0", "-1"]).await?;
    let seen = format!("{keys} {hash} {index}");
    assert!(seen.contains(created.id().as_str()));
    assert!(!seen.contains(secret) && !seen.contains(CANARY), "{seen}");
    Ok(())
}

/// Tokens have 256 random bits, and no two are alike.
#[tokio::test]
async fn tokens_are_distinct() -> TestResult {
    let (_stage, sessions) = start().await?;
    let mut seen = BTreeSet::new();
    for n in 0..500 {
        let (token, session) = sessions.create(&user(&format!("u{}", n % 20)), n).await?;
        let secret = token
            .as_str()
            .split('.')
            .next()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(secret.len(), 43, "32 bytes as base64url");
        assert!(seen.insert(secret));
        assert!(seen.insert(session.id().to_string()));
    }
    Ok(())
}

/// Settings and names that would break something are refused before anything is sent.
#[tokio::test]
async fn odd_settings_and_names_are_refused() -> TestResult {
    let (fixture, sessions) = start().await?;
    for odd in ["", "a:b", "{a}", "a*", "a b", "a\n", "\0", &"x".repeat(129)] {
        assert!(
            matches!(UserId::new(odd), Err(Error::Invalid { .. })),
            "{odd:?}"
        );
        // A hash tag keeps all sessions on one node of a cluster.
        let odd = if odd == "{a}" { "{a}{" } else { odd };
        assert!(
            sealed(&fixture.client).prefix(odd).build().is_err(),
            "{odd:?}"
        );
        assert!(SessionId::parse(odd).is_err(), "{odd:?}");
        assert!(SessionToken::parse(odd).is_err(), "{odd:?}");
    }
    let zero = Duration::ZERO;
    let odd = [
        Sessions::builder(&fixture.client),
        sealed(&fixture.client).idle(zero),
        sealed(&fixture.client).absolute(Duration::MAX),
        sealed(&fixture.client).touch_every(Duration::from_secs(1800)),
        sealed(&fixture.client).max_per_user(NonZeroU32::MAX),
    ];
    for builder in odd {
        let shown = format!("{builder:?}");
        assert!(
            matches!(builder.build(), Err(Error::Invalid { .. })),
            "{shown}"
        );
    }

    let long = |length: usize| json!("x".repeat(length - 2));
    assert!(sessions.create(&user("7"), long(DATA_MAX)).await.is_ok());
    let refused = sessions.create(&user("7"), long(DATA_MAX + 1)).await;
    assert!(
        matches!(refused, Err(SessionError::Request(Error::Invalid { .. }))),
        "{refused:?}"
    );
    let small = sealed(&fixture.client).max_data(10).build()?;
    assert!(small.create(&user("7"), long(11)).await.is_err());
    Ok(())
}

/// A session's data opens under its own key only: nobody becomes somebody else by a copy.
#[tokio::test]
async fn moved_session_does_not_open() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (_, admin) = sessions.create(&user("1"), json!("admin")).await?;
    let (token, mine) = sessions.create(&user("7"), json!("guest")).await?;
    let data = fixture
        .server
        .text(&["HGET", &key_of(&admin), "data"])
        .await?
        .ok_or("no data")?;
    for (data, expected) in [
        (data.as_str(), OpenError::NotAuthentic),
        (
            r#"{"created":1,"until":9999999999999,"data":"admin"}"#,
            OpenError::Malformed("it does not begin with v1"),
        ),
    ] {
        fixture
            .server
            .cli(&["HSET", &key_of(&mine), "data", data])
            .await?;
        let moved = sessions.load::<Value>(&token).await;
        assert!(
            matches!(&moved, Err(SessionError::Open(e)) if *e == expected),
            "{moved:?}"
        );
    }
    Ok(())
}

/// Plain data takes an explicit choice, and is then what anybody can read.
#[tokio::test]
async fn plain_sessions_take_a_choice() -> TestResult {
    let fixture = Fixture::start().await?;
    let plain = Sessions::builder(&fixture.client).unsealed().build()?;
    let (token, session) = plain.create(&user("7"), json!("visible")).await?;
    let data = fixture
        .server
        .text(&["HGET", &key_of(&session), "data"])
        .await?
        .ok_or("no data")?;
    let data: Value = serde_json::from_str(&data)?;
    assert_eq!(data["data"], "visible");
    assert!(is_in(&plain, &token).await?);
    let sealed = sealed(&fixture.client).build()?;
    assert!(matches!(
        sealed.load::<Value>(&token).await,
        Err(SessionError::Open(_))
    ));
    Ok(())
}

/// After a rotation of keys sessions go on, move to the new key as they are read, and live no
/// longer for it.
#[tokio::test]
async fn sessions_move_to_the_active_key() -> TestResult {
    let (fixture, old) = start().await?;
    let (token, session) = old.create(&user("7"), json!(CANARY)).await?;
    let new = Sessions::builder(&fixture.client)
        .sealed_with(rotated())
        .build()?;
    let alone = Sessions::builder(&fixture.client)
        .sealed_with(Keyring::new(key("k2", 8)))
        .build()?;
    let unknown = alone.load::<Value>(&token).await;
    assert!(
        matches!(&unknown, Err(SessionError::Open(OpenError::UnknownKey(id))) if id == "k1"),
        "{unknown:?}"
    );

    fixture.client.clock().advance(Duration::from_secs(10 * 60));
    fixture
        .server
        .cli(&["PEXPIRE", &key_of(&session), "500000"])
        .await?;
    let mut before = old.load::<Value>(&token).await?.ok_or("no session")?;
    let loaded = new.load::<Value>(&token).await?.ok_or("no session")?;
    assert_eq!(loaded.ends(), session.ends());
    assert!(fixture.server.int(&["PTTL", &key_of(&session)]).await? <= 500_000);
    assert!(is_in(&alone, &token).await?);
    assert_eq!(new.list(&user("7")).await?.len(), 1);
    new.save(&mut before).await?;
    Ok(())
}

/// Bytes that are no text are data that does not open, and one odd entry hides no other session.
#[tokio::test]
async fn bytes_that_are_no_text_do_not_open() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (token, session) = sessions.create(&user("7"), json!(1)).await?;
    let (_, other) = sessions.create(&user("7"), json!(2)).await?;
    let odd_entry: [&[u8]; 4] = [b"ZADD", b"session:7", b"9999999999999", b"7:\xff"];
    fixture.server.cli(&odd_entry).await?;
    let odd_session: [&[u8]; 8] = [
        b"HSET",
        b"session:7:\xff",
        b"created",
        b"1",
        b"touched",
        b"1",
        b"ends",
        b"9999999999999",
    ];
    fixture.server.cli(&odd_session).await?;
    let listed = sessions.list(&user("7")).await?;
    let ids: BTreeSet<_> = listed.iter().map(|info| info.id().as_str()).collect();
    assert_eq!(ids, [session.id().as_str(), other.id().as_str()].into());

    let key = key_of(&session);
    let odd_data: [&[u8]; 4] = [b"HSET", key.as_bytes(), b"data", b"\xff"];
    fixture.server.cli(&odd_data).await?;
    let odd = sessions.load::<Value>(&token).await;
    assert!(matches!(odd, Err(SessionError::Open(_))), "{odd:?}");
    assert_eq!(sessions.destroy_all(&user("7")).await?, 3);
    Ok(())
}

/// A key of another kind in the place of a session or an index is an error that changes nothing.
#[tokio::test]
async fn odd_keys_are_left_alone() -> TestResult {
    let (fixture, sessions) = start().await?;
    let (token, mut session) = sessions.create(&user("7"), json!(1)).await?;
    fixture.client.clock().advance(Duration::from_secs(2 * 60));
    fixture.server.cli(&["SET", "session:7", "odd"]).await?;
    let before = fixture
        .server
        .cli(&["HGETALL", &key_of(&session)])
        .await?
        .map();
    let decode = |error: Option<SessionError>| {
        assert!(
            matches!(error, Some(SessionError::Request(Error::Decode { .. }))),
            "{error:?}"
        );
    };
    decode(sessions.touch(&mut session).await.err());
    decode(sessions.save(&mut session).await.err());
    decode(sessions.rotate(&mut session).await.err());
    decode(sessions.create(&user("7"), json!(1)).await.err());
    decode(sessions.destroy(session.user(), session.id()).await.err());
    decode(sessions.destroy_all(&user("7")).await.err());
    decode(sessions.list(&user("7")).await.err());
    assert_eq!(
        fixture.server.text(&["GET", "session:7"]).await?.as_deref(),
        Some("odd")
    );
    let after = fixture
        .server
        .cli(&["HGETALL", &key_of(&session)])
        .await?
        .map();
    assert_eq!(after, before);
    fixture
        .server
        .cli(&["SET", &key_of(&session), "odd"])
        .await?;
    decode(sessions.load::<Value>(&token).await.err());
    fixture.server.cli(&["DEL", &key_of(&session)]).await?;
    fixture
        .server
        .cli(&["HSET", &key_of(&session), "foreign", "field"])
        .await?;
    assert!(!is_in(&sessions, &token).await?);
    Ok(())
}

/// What is shown for debugging has neither tokens nor data.
#[tokio::test]
async fn debug_output_has_no_secret() -> TestResult {
    let (_stage, sessions) = start().await?;
    let (token, session) = sessions.create(&user("7"), json!(CANARY)).await?;
    let wrong = sessions
        .load::<u8>(&token)
        .await
        .err()
        .ok_or("it is not a number")?;
    let text = format!("{token:?} {session:?} {sessions:?} {wrong} {wrong:?}");
    let secret = token.as_str().split('.').next().unwrap_or_default();
    assert!(!text.contains(secret) && !text.contains(CANARY), "{text}");
    Ok(())
}

/// A role for sessions may do what it must, on its own keys, and not a command more.
#[tokio::test]
async fn rights_suffice_and_are_least() -> TestResult {
    let commands = "del eval evalsha hexists hget hmget hset pexpire zadd zcard zcount zrange \
                    zrangebyscore zrem zrevrange zscore";
    let commands: Vec<_> = commands.split_whitespace().collect();
    least::suffices_and_is_least("~session:*", &commands, async |client| {
        let sessions = sealed(client).max_per_user(NonZeroU32::MIN).build()?;
        sessions.create(&user("7"), json!(1)).await?;
        let (token, _) = sessions.create(&user("7"), json!(1)).await?;
        let mut session = sessions.load::<Value>(&token).await?.ok_or("no session")?;
        let eager = sealed(client).touch_every(Duration::ZERO).build()?;
        eager.touch(&mut session).await?;
        sessions.save(&mut session).await?;
        sessions.rotate(&mut session).await?;
        sessions.list(session.user()).await?;
        sessions.destroy_others(&session).await?;
        sessions.destroy(session.user(), session.id()).await?;
        sessions.destroy_all(session.user()).await?;
        Ok(())
    })
    .await
}
