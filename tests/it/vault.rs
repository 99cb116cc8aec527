//! Encryption at rest: what opens, where, and with which key.
#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::time::Duration;

use oxbull::kv::{Ttl, Vault, VaultError};
use oxbull::vault::{AssociatedData, KEYS_MAX, Key, Keyring, OpenError, PLAINTEXT_MAX, Sealed};
use oxbull::{Error, JobOptions, Queue, QueueName};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, TestResult};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What must not be seen anywhere.
const CANARY: &str = "c4nary-t0ken";

pub(crate) fn key(id: &str, byte: u8) -> Key {
    Key::new(id, &[byte; 32]).unwrap()
}

pub(crate) fn keyring() -> Keyring {
    Keyring::new(key("k1", 7))
}

/// The keyring after a rotation: another key is active, the old one still opens.
pub(crate) fn rotated() -> Keyring {
    Keyring::new(key("k2", 8))
        .decrypt_with(key("k1", 7))
        .unwrap()
}

/// A value opens for the place it was sealed for, and never looks the same twice.
#[test]
fn value_opens_where_it_was_sealed() -> TestResult {
    let associated_data = AssociatedData::token("token:17");
    for value in ["", "x", CANARY, &"long".repeat(10_000)] {
        let sealed = keyring().seal(&associated_data, value.as_bytes())?;
        assert!(sealed.starts_with("v1.k1."), "{sealed}");
        assert!(value.len() < 4 || !sealed.contains(value));
        assert_eq!(keyring().open(&associated_data, &sealed)?, value.as_bytes());
        assert_ne!(keyring().seal(&associated_data, value.as_bytes())?, sealed);
    }
    Ok(())
}

/// Values outlive versions of this library: this one was sealed by Node.js.
#[test]
fn format_stays_what_it_is() -> TestResult {
    const STORED: &str =
        "v1.k1.L7UwvyvPMQFnJNjKT_lO1_oAzwPLR45s.wNxieM29ct-Mbm-MiBuiUNpNdA82zUhu8w";
    let opened = keyring().open(&AssociatedData::token("token:17"), STORED)?;
    assert_eq!(String::from_utf8(opened)?, "\"IGQVJä\"");
    Ok(())
}

/// A value copied to another key cannot be decrypted.
#[test]
fn moved_value_does_not_open() -> TestResult {
    let (mail, post) = (QueueName::new("mail")?, QueueName::new("post")?);
    let places = [
        AssociatedData::token("k"),
        AssociatedData::token("k:17"),
        AssociatedData::new("session", "k")?,
        AssociatedData::new("tokenk", "")?,
        AssociatedData::job(&mail),
        AssociatedData::job(&post),
        AssociatedData::job(&mail).about("17"),
        AssociatedData::job(&mail).about("18"),
    ];
    for (at, from) in places.iter().enumerate() {
        let sealed = keyring().seal(from, CANARY.as_bytes())?;
        for (to, place) in places.iter().enumerate() {
            let opened = keyring().open(place, &sealed);
            assert_eq!(opened.is_ok(), at == to, "{from:?} {place:?}");
            assert!(at == to || opened == Err(OpenError::NotAuthentic));
        }
    }
    assert!(AssociatedData::new("", "k").is_err());
    assert!(
        AssociatedData::new("to\0ken", "k").is_err(),
        "it would end the purpose early"
    );
    Ok(())
}

/// A key is replaced without a moment at which something does not open.
#[test]
fn old_keys_open_until_they_are_dropped() -> TestResult {
    let associated_data = AssociatedData::token("k");
    let old = keyring().seal(&associated_data, b"v")?;
    assert_eq!(rotated().open(&associated_data, &old)?, b"v");
    assert!(rotated().is_stale(&old));

    let new = rotated().seal(&associated_data, b"v")?;
    assert!(new.starts_with("v1.k2.") && !rotated().is_stale(&new));
    let unknown = |id: &str| Err(OpenError::UnknownKey(id.to_owned()));
    assert_eq!(keyring().open(&associated_data, &new), unknown("k2"));
    assert_eq!(
        Keyring::new(key("k2", 8)).open(&associated_data, &old),
        unknown("k1")
    );

    let renamed = old.replace("v1.k1.", "v1.k2.");
    assert_eq!(
        rotated().open(&associated_data, &renamed),
        Err(OpenError::NotAuthentic)
    );
    let same_key = Keyring::new(key("k1", 7)).decrypt_with(key("k9", 7))?;
    let renamed = old.replace("v1.k1.", "v1.k9.");
    assert_eq!(
        same_key.open(&associated_data, &renamed),
        Err(OpenError::NotAuthentic)
    );
    Ok(())
}

proptest! {
    /// Whatever lies in Redis, opening it is an error at worst.
    #[test]
    fn odd_text_is_an_error(
        text in "\\PC*",
        id in "[a-z0-9]{0,3}",
        unique in "[A-Za-z0-9_=-]{0,40}",
        body in "[A-Za-z0-9_=-]{0,60}",
    ) {
        let associated_data = AssociatedData::token("k");
        prop_assert!(keyring().open(&associated_data, &text).is_err());
        let text = format!("v1.{id}.{unique}.{body}");
        prop_assert!(keyring().open(&associated_data, &text).is_err());
        let text = format!("v1.k1.{}.{body}", "A".repeat(32));
        prop_assert!(keyring().open(&associated_data, &text).is_err());
    }

    /// Each character counts.
    #[test]
    fn changed_value_does_not_open(
        value in prop::collection::vec(any::<u8>(), 0..40),
        at in any::<prop::sample::Index>(),
        to in prop::char::range('!', '~'),
    ) {
        let associated_data = AssociatedData::token("k");
        let sealed = keyring().seal(&associated_data, &value).unwrap();
        let mut letters: Vec<char> = sealed.chars().collect();
        let at = at.index(letters.len());
        let changed = letters[at] != to;
        letters[at] = to;
        let opened = keyring().open(&associated_data, &letters.into_iter().collect::<String>());
        prop_assert_eq!(opened.is_err(), changed);
    }

    /// Any bytes go in and come out, at any place.
    #[test]
    fn any_value_round_trips(
        value in prop::collection::vec(any::<u8>(), 0..200),
        name in "\\PC{0,20}",
    ) {
        let associated_data = AssociatedData::token(&name);
        let sealed = rotated().seal(&associated_data, &value).unwrap();
        prop_assert_eq!(rotated().open(&associated_data, &sealed).unwrap(), value);
    }
}

/// A keyring that is not what it seems must not start, and errors must not tell keys.
#[test]
fn keys_are_checked() {
    let thirty_two = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let ring = Keyring::parse(&format!("b:{thirty_two}, a:{thirty_two}")).unwrap();
    assert_eq!(ring.active_id(), "b");
    let url_safe = "__________________________________________8";
    assert!(Key::from_base64("k", url_safe).is_ok());

    let short = "c2hvcnQ=";
    for odd in [
        "",
        "k",
        ":",
        thirty_two,
        &format!("k:{short}"),
        &format!("k:{thirty_two},"),
        &format!("k:{thirty_two},k:{thirty_two}"),
        &format!("k.1:{thirty_two}"),
        &format!("{}:{thirty_two}", "k".repeat(33)),
    ] {
        let error = Keyring::parse(odd).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        let text = format!("{error} {error:?}");
        assert!(
            !text.contains(thirty_two) && !text.contains(short),
            "{text}"
        );
    }

    let mut full = keyring();
    for n in 1..KEYS_MAX {
        full = full.decrypt_with(key(&format!("old{n}"), 1)).unwrap();
    }
    assert!(full.decrypt_with(key("more", 1)).is_err());
}

/// The bound on what is sealed is an option.
#[test]
fn long_values_are_refused() {
    let associated_data = AssociatedData::token("k");
    let most = vec![0; PLAINTEXT_MAX];
    assert!(keyring().seal(&associated_data, &most).is_ok());
    let over = vec![0; PLAINTEXT_MAX + 1];
    assert!(matches!(
        keyring().seal(&associated_data, &over),
        Err(Error::Invalid { .. })
    ));
    assert!(
        keyring()
            .max_plaintext(PLAINTEXT_MAX + 1)
            .seal(&associated_data, &over)
            .is_ok()
    );
    assert!(
        keyring()
            .max_plaintext(3)
            .seal(&associated_data, b"1234")
            .is_err()
    );
}

/// Debug output ends up in logs.
#[test]
fn debug_output_has_no_secret() -> TestResult {
    let base64 = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let key = Key::from_base64("k1", base64)?;
    let sealed = Sealed::<String>::seal(&keyring(), &AssociatedData::token("k"), CANARY)?;
    let text = format!(
        "{key:?} {:?} {sealed:?} {:?}",
        rotated(),
        AssociatedData::token(CANARY)
    );
    assert_eq!(
        text,
        r#"Key { id: "k1", .. } ["k2", "k1"] Sealed(…) AssociatedData { purpose: "token", .. }"#
    );
    Ok(())
}

/// Tokens lie in Redis sealed, for a time, and only under their own key.
#[tokio::test]
async fn vault_keeps_tokens_sealed() -> TestResult {
    let fixture = Fixture::start().await?;
    let vault = Vault::new(fixture.client.kv(), keyring());
    vault.set("token:17", CANARY, DEADLINE).await?;
    assert_eq!(
        vault.get::<String>("token:17").await?.as_deref(),
        Some(CANARY)
    );
    assert_eq!(vault.get::<String>("token:18").await?, None);

    let stored = fixture
        .server
        .text(&["GET", "token:17"])
        .await?
        .ok_or("gone")?;
    assert!(stored.starts_with("v1.k1.") && !stored.contains(CANARY));
    assert!(
        matches!(fixture.client.kv().ttl("token:17").await?, Ttl::ExpiresIn(left) if left <= DEADLINE)
    );
    assert!(vault.set("token:17", CANARY, Duration::ZERO).await.is_err());

    fixture
        .server
        .cli(&["COPY", "token:17", "token:18"])
        .await?;
    let moved = vault.get::<String>("token:18").await;
    assert!(
        matches!(moved, Err(VaultError::Open(OpenError::NotAuthentic))),
        "{moved:?}"
    );
    fixture.server.cli(&["SET", "token:18", "plain"]).await?;
    let plain = vault.get::<String>("token:18").await;
    assert!(
        matches!(plain, Err(VaultError::Open(OpenError::Malformed(_)))),
        "{plain:?}"
    );
    let number = vault
        .get::<u32>("token:17")
        .await
        .err()
        .ok_or("it is not a number")?;
    assert!(
        matches!(number, VaultError::Open(OpenError::Content(_))),
        "{number:?}"
    );
    let text = format!("{number} {number:?} {vault:?}");
    assert!(!text.contains(CANARY), "{text}");
    Ok(())
}

/// After a rotation, reading moves values to the active key, and does not prolong their life.
#[tokio::test]
async fn vault_reseals_with_the_active_key() -> TestResult {
    let fixture = Fixture::start().await?;
    let kv = fixture.client.kv();
    let old = Vault::new(kv.clone(), keyring());
    old.set("k", CANARY, Duration::from_secs(1000)).await?;
    fixture.server.cli(&["PEXPIRE", "k", "500000"]).await?;

    let stored = || async { fixture.server.text(&["GET", "k"]).await };
    let still = Vault::new(kv.clone(), rotated()).without_resealing();
    assert_eq!(still.get::<String>("k").await?.as_deref(), Some(CANARY));
    assert!(
        stored()
            .await?
            .is_some_and(|text| text.starts_with("v1.k1."))
    );

    let new = Vault::new(kv.clone(), rotated());
    assert_eq!(new.get::<String>("k").await?.as_deref(), Some(CANARY));
    assert!(
        stored()
            .await?
            .is_some_and(|text| text.starts_with("v1.k2."))
    );
    let left = fixture.server.int(&["PTTL", "k"]).await?;
    assert!((1..=500_000).contains(&left), "{left}");
    let alone = Vault::new(kv, Keyring::new(key("k2", 8)));
    assert_eq!(alone.get::<String>("k").await?.as_deref(), Some(CANARY));
    Ok(())
}

/// A job whose token is sealed, and whose rest is plain.
#[derive(Debug, Serialize, Deserialize)]
struct Publish {
    account: String,
    token: Sealed<String>,
}

/// Job data stays plain but for the fields that ask for it, and those open in their queue and for
/// their account only.
#[tokio::test]
async fn job_data_is_sealed_by_field() -> TestResult {
    let fixture = Fixture::start().await?;
    let name = QueueName::new("post-publishing")?;
    let queue: Queue<Publish> = Queue::open(&fixture.client, name.as_str()).await?;
    let data = Publish {
        account: "17".to_owned(),
        token: Sealed::seal(&keyring(), &AssociatedData::job(&name).about("17"), CANARY)?,
    };
    let added = queue.add_with("publish", &data, JobOptions::new()).await?;
    let key = format!("bull:post-publishing:{}", added.id);
    let stored = fixture
        .server
        .text(&["HGET", &key, "data"])
        .await?
        .ok_or("no data")?;
    assert!(!stored.contains(CANARY), "{stored}");
    let plain: Value = serde_json::from_str(&stored)?;
    assert_eq!(
        plain,
        json!({ "account": "17", "token": { "$sealed": data.token.as_str() } })
    );

    let back: Publish = serde_json::from_str(&stored)?;
    let associated_data = |account: &str| AssociatedData::job(&name).about(account);
    assert_eq!(back.token.open(&keyring(), &associated_data("17"))?, CANARY);
    for elsewhere in [
        associated_data("18"),
        AssociatedData::job(&name),
        AssociatedData::job(&QueueName::new("mail")?),
    ] {
        assert_eq!(
            back.token.open(&keyring(), &elsewhere),
            Err(OpenError::NotAuthentic)
        );
    }
    Ok(())
}
