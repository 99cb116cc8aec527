//! Values by key, on a real server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::TryStreamExt;
use oxbull::Error;
use oxbull::client::{Client, ClientConfig};
use oxbull::kv::{DEFAULT_TTL, FlushDb, Kv, Ttl, escape_pattern};
use oxbull_testkit::{DEADLINE, Proxy, RedisServer, Rule, TestResult, eventually};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    name: String,
    followers: u64,
}

async fn start() -> Result<(RedisServer, Kv), Box<dyn std::error::Error + Send + Sync>> {
    let server = RedisServer::start().await?;
    let kv = Client::connect(ClientConfig::from_url(&server.url())?)
        .await?
        .kv();
    Ok((server, kv))
}

/// Structured values come back as they were; what is missing is `None`.
#[tokio::test]
async fn structured_values_round_trip_as_json() -> TestResult {
    let (server, kv) = start().await?;
    let profile = Profile {
        name: "ä \"b\"".to_owned(),
        followers: u64::MAX,
    };
    kv.set("p", &profile).await?;
    assert_eq!(kv.get("p").await?, Some(profile));
    assert_eq!(
        server.text(&["GET", "p"]).await?.as_deref(),
        Some(r#"{"name":"ä \"b\"","followers":18446744073709551615}"#)
    );
    assert_eq!(kv.get::<Profile>("missing").await?, None);
    assert_eq!(kv.get_text("missing").await?, None);
    Ok(())
}

/// Text is stored as it is, as other clients read and write it.
#[tokio::test]
async fn text_is_stored_verbatim() -> TestResult {
    let (server, kv) = start().await?;
    kv.set_text("t", "plain").await?;
    assert_eq!(server.text(&["GET", "t"]).await?.as_deref(), Some("plain"));
    server.cli(&["SET", "u", "theirs"]).await?;
    assert_eq!(kv.get_text("u").await?.as_deref(), Some("theirs"));
    Ok(())
}

/// A value lives for an hour unless its writer says otherwise.
#[tokio::test]
async fn values_live_as_long_as_they_should() -> TestResult {
    let (_server, kv) = start().await?;
    kv.set("default", &1).await?;
    let left = kv.ttl("default").await?;
    assert!(
        matches!(left, Ttl::ExpiresIn(left) if left <= DEFAULT_TTL
            && left > DEFAULT_TTL.checked_sub(DEADLINE).unwrap_or_default()),
        "{left:?}"
    );
    kv.set_with_ttl("short", &1, Duration::from_millis(1))
        .await?;
    eventually(DEADLINE, async || {
        kv.ttl("short").await.ok() == Some(Ttl::Missing)
    })
    .await?;
    kv.set_forever("kept", &1).await?;
    assert_eq!(kv.ttl("kept").await?, Ttl::NeverExpires);
    assert!(kv.expire("kept", DEADLINE).await?);
    assert!(matches!(kv.ttl("kept").await?, Ttl::ExpiresIn(_)));
    assert!(!kv.expire("missing", DEADLINE).await?);
    kv.set_forever("kept", &2).await?;
    assert_eq!(
        kv.ttl("kept").await?,
        Ttl::NeverExpires,
        "set replaces the time too"
    );
    let zero = kv.set_with_ttl("never", &1, Duration::ZERO).await;
    assert!(matches!(zero, Err(Error::Invalid { field: "ttl", .. })));
    assert!(!kv.exists("never").await?);
    Ok(())
}

/// Deleting and asking for keys tells whether they were there.
#[tokio::test]
async fn del_and_exists_return_what_was_there() -> TestResult {
    let (_server, kv) = start().await?;
    kv.set_text("k", "").await?;
    assert!(kv.exists("k").await?);
    assert!(kv.del("k").await?);
    assert!(!kv.exists("k").await?);
    assert!(!kv.del("k").await?);
    Ok(())
}

/// Counters start at nothing and go both ways.
#[tokio::test]
async fn counters_count() -> TestResult {
    let (_server, kv) = start().await?;
    assert_eq!(kv.incr("n").await?, 1);
    assert_eq!(kv.incr("n").await?, 2);
    assert_eq!(kv.decr("n").await?, 1);
    assert_eq!(kv.decr("m").await?, -1);
    Ok(())
}

/// A count whose answer is lost is not counted twice behind the caller's back.
#[tokio::test]
async fn lost_count_is_reported() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
    proxy.add(Rule::drop_reply(|c| c.is("INCR")).nth(1));
    let lost = client.kv().incr("n").await;
    assert!(matches!(lost, Err(Error::Indeterminate(_))), "{lost:?}");
    assert_eq!(server.int(&["GET", "n"]).await?, 1);
    Ok(())
}

/// Hashes hold a value per field, as JSON or as text.
#[tokio::test]
async fn hashes_hold_fields() -> TestResult {
    let (server, kv) = start().await?;
    let profile = || Profile {
        name: "n".to_owned(),
        followers: 1,
    };
    assert!(kv.hset("h", "a", &profile()).await?);
    assert!(!kv.hset("h", "a", &profile()).await?);
    assert_eq!(kv.hget("h", "a").await?, Some(profile()));
    assert_eq!(kv.hget::<Profile>("h", "b").await?, None);
    assert_eq!(
        kv.hgetall("h").await?,
        BTreeMap::from([("a".to_owned(), profile())])
    );
    assert!(kv.hset_text("t", "f", "plain").await?);
    assert_eq!(kv.hget_text("t", "f").await?.as_deref(), Some("plain"));
    assert_eq!(
        kv.hgetall_text("t").await?,
        BTreeMap::from([("f".to_owned(), "plain".to_owned())])
    );
    assert!(kv.hgetall_text("missing").await?.is_empty());
    assert_eq!(
        server.text(&["HGET", "t", "f"]).await?.as_deref(),
        Some("plain")
    );
    Ok(())
}

/// Has no JSON form.
struct Odd;

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("odd"))
    }
}

/// Odd data is an error that leaves it alone, never a panic or a default.
#[tokio::test]
async fn odd_data_is_a_decode_error() -> TestResult {
    let (server, kv) = start().await?;
    server.cli(&["RPUSH", "list", "x"]).await?;
    server.cli(&["SET", "text", "{broken"]).await?;
    let binary: [&[u8]; 3] = [b"SET", b"binary", b"\xff\xfe"];
    server.cli(&binary).await?;
    let binary: [&[u8]; 4] = [b"HSET", b"hash", b"f", b"\xff"];
    server.cli(&binary).await?;

    let errors = [
        kv.get::<Profile>("text").await.err(),
        kv.get::<Profile>("list").await.err(),
        kv.get_text("binary").await.err(),
        kv.get_text("hash").await.err(),
        kv.incr("text").await.err(),
        kv.incr("list").await.err(),
        kv.hget::<Profile>("hash", "f").await.err(),
        kv.hget_text("text", "f").await.err(),
        kv.hset_text("list", "f", "v").await.err(),
        kv.hgetall_text("hash").await.err(),
        kv.hgetall::<u8>("text").await.err(),
    ];
    for (index, error) in errors.iter().enumerate() {
        assert!(
            matches!(error, Some(Error::Decode { .. })),
            "{index}: {error:?}"
        );
    }
    assert_eq!(
        kv.get_bytes("binary").await?.as_deref(),
        Some(&b"\xff\xfe"[..])
    );
    assert_eq!(
        server.text(&["GET", "text"]).await?.as_deref(),
        Some("{broken")
    );

    let odd = kv.set("odd", &Odd).await;
    assert!(matches!(odd, Err(Error::Encode { .. })), "{odd:?}");
    Ok(())
}

/// Keys are found page by page, every one of them, and none that does not match.
#[tokio::test]
async fn scan_finds_ten_thousand_keys() -> TestResult {
    const KEYS: i64 = 10_000;
    let (server, kv) = start().await?;
    let fill = "for i = 1, tonumber(ARGV[1]) do redis.call('SET', 'session:' .. i, i) \
                redis.call('SET', 'other:' .. i, i) end";
    server.cli(&["EVAL", fill, "0", &KEYS.to_string()]).await?;
    let mut found = BTreeSet::new();
    let mut scan = kv.keys("session:*");
    while let Some(key) = scan.next().await {
        found.insert(key?);
    }
    let expected: BTreeSet<_> = (1..=KEYS).map(|n| format!("session:{n}")).collect();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);

    let streamed: BTreeSet<String> = kv.keys("session:*").into_stream().try_collect().await?;
    assert_eq!(streamed, expected);

    assert!(kv.keys("nothing:*").next().await.is_none());
    let keys = server.info("commandstats").await?;
    assert!(!keys.contains_key("cmdstat_keys"), "KEYS blocks the server");
    Ok(())
}

/// What users type is no pattern unless it is meant as one.
#[tokio::test]
async fn escaped_text_matches_only_itself() -> TestResult {
    let (_server, kv) = start().await?;
    for odd in ["a*", "a?", "a[b]", "a[^b]", r"a\b", "ab", "a-b"] {
        kv.set_text(odd, "x").await?;
    }
    for odd in ["a*", "a?", "a[b]", "a[^b]", r"a\b", "a-b"] {
        let found: Vec<_> = kv
            .keys(&escape_pattern(odd))
            .into_stream()
            .try_collect()
            .await?;
        assert_eq!(found, [odd]);
    }
    Ok(())
}

/// A key that is no text is an error, and does not end the scan.
#[tokio::test]
async fn scan_goes_on_after_a_binary_key() -> TestResult {
    let (server, kv) = start().await?;
    let binary: [&[u8]; 3] = [b"SET", b"\xff", b"x"];
    server.cli(&binary).await?;
    kv.set_text("k", "x").await?;
    let mut scan = kv.keys("*");
    let (mut keys, mut errors) = (Vec::new(), 0);
    while let Some(key) = scan.next().await {
        match key {
            Ok(key) => keys.push(key),
            Err(Error::Decode { .. }) => errors += 1,
            Err(other) => return Err(other.into()),
        }
    }
    assert_eq!((keys, errors), (vec!["k".to_owned()], 1));
    Ok(())
}

/// Deleting everything takes the number of the right database.
#[tokio::test]
async fn flushdb_needs_the_right_confirmation() -> TestResult {
    let server = RedisServer::start().await?;
    let config = ClientConfig::from_url(&server.url())?.db(2);
    let kv = Client::connect(config).await?.kv();
    kv.set_text("k", "x").await?;
    server.cli(&["SET", "elsewhere", "x"]).await?;
    let wrong = kv.flushdb(FlushDb::confirm(0)).await;
    assert!(
        matches!(
            wrong,
            Err(Error::Invalid {
                field: "confirmation",
                ..
            })
        ),
        "{wrong:?}"
    );
    assert!(kv.exists("k").await?);
    kv.flushdb(FlushDb::confirm(2)).await?;
    assert!(!kv.exists("k").await?);
    assert_eq!(server.int(&["EXISTS", "elsewhere"]).await?, 1);
    Ok(())
}

/// The health check of values is that of their server.
#[tokio::test]
async fn health_shows_whether_the_server_answers() -> TestResult {
    let (server, kv) = start().await?;
    assert!(kv.health(DEADLINE).await.is_up());
    server.kill_hard();
    eventually(DEADLINE, async || !kv.health(DEADLINE).await.is_up()).await?;
    Ok(())
}
