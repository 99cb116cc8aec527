//! Sessions: who gets in, for how long, and what Redis knows about it.
#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use oxbull::kv::session::{
    DATA_MAX, PER_USER, Session, SessionError, SessionId, SessionToken, Sessions, SessionsBuilder,
    UserId, WhenFull,
};
use oxbull::vault::{Keyring, OpenError};
use oxbull::{Client, ClientConfig, Error};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, Proxy, RedisServer, Rule, TestResult, eventually};
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
    assert_eq!(fixture.calls("zcard").await?, 3, "a thousand at a time");
    assert_eq!(fixture.server.int(&["ZCARD", "session:7"]).await?, 1);
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

/// Settings and names that would break something are refused before anything is sent.
#[tokio::test]
async fn odd_settings_and_names_are_refused() -> TestResult {
    let (fixture, sessions) = start().await?;
    for odd in ["", "a:b", "{a}", "a*", "a b", "a\n", "\0", &"x".repeat(129)] {
        assert!(
            matches!(UserId::new(odd), Err(Error::Invalid { .. })),
            "{odd:?}"
        );
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
