//! OAuth states: issued to one browser, taken once.

use std::time::Duration;

use oxbull::kv::oauth::{
    OAuthStates, REDIRECT_MAX, STATE_TTL, StateError, TakenState, pkce_challenge,
};
use oxbull::vault::OpenError;
use oxbull::{Client, ClientConfig, Error};
use oxbull_fixture::Fixture;
use oxbull_testkit::{Proxy, RedisServer, Rule, TestResult};

use crate::least;
use crate::vault::{keyring, rotated};

const BROWSER: &str = "c4nary-c00kie";
const REDIRECT: &str = "/c4nary-settings";

async fn start() -> TestResult<(Fixture, OAuthStates)> {
    let fixture = Fixture::start().await?;
    let states = OAuthStates::new(&fixture.client, keyring(), "instagram")?;
    Ok((fixture, states))
}

fn key_of(state: &str) -> String {
    format!("oauth:instagram:state:{state}")
}

/// The browser that began gets back what was kept for it, once.
#[tokio::test]
async fn state_is_taken_once_by_its_browser() -> TestResult {
    let (fixture, states) = start().await?;
    let issued = states.issue(BROWSER, Some(REDIRECT)).await?;
    let key = key_of(issued.state());
    let left = fixture.server.int(&["PTTL", &key]).await?;
    assert!((590_000..=600_000).contains(&left), "{left}");
    let stored = fixture
        .server
        .text(&["GET", &key])
        .await?
        .ok_or("not stored")?;

    let taken = states.take(issued.state(), BROWSER).await?;
    assert_eq!(pkce_challenge(taken.verifier()), issued.challenge());
    assert_eq!(taken.verifier().len(), 43, "as RFC 7636 recommends");
    assert_eq!(taken.redirect(), Some(REDIRECT));
    assert_eq!(fixture.server.int(&["EXISTS", &key]).await?, 0);
    for secret in [BROWSER, REDIRECT, taken.verifier()] {
        assert!(!stored.contains(secret), "{stored}");
    }
    let again = states.take(issued.state(), BROWSER).await;
    assert!(matches!(again, Err(StateError::Used)), "{again:?}");

    let bare = states.issue(BROWSER, None).await?;
    let taken = states.take(bare.state(), BROWSER).await?;
    assert_eq!(taken.redirect(), None);
    Ok(())
}

/// Of a hundred callbacks at the same time, over several connections, one wins.
#[tokio::test]
async fn racing_callbacks_have_one_winner() -> TestResult {
    let (fixture, states) = start().await?;
    let issued = states.issue(BROWSER, None).await?;
    let mut all = Vec::new();
    for _ in 0..5 {
        let client = Client::connect(ClientConfig::from_url(&fixture.server.url())?).await?;
        all.push(OAuthStates::new(&client, keyring(), "instagram")?);
    }
    let takes = (0..100).map(|n| all[n % all.len()].take(issued.state(), BROWSER));
    let mut won = 0;
    for taken in futures::future::join_all(takes).await {
        match taken {
            Ok(_) => won += 1,
            Err(StateError::Used) => {}
            Err(other) => return Err(other.into()),
        }
    }
    assert_eq!(won, 1);
    Ok(())
}

/// Another browser gets nothing, and cannot use the state up.
#[tokio::test]
async fn foreign_browser_cannot_burn_a_state() -> TestResult {
    let (_stage, states) = start().await?;
    let issued = states.issue(BROWSER, None).await?;
    for foreign in ["another", "c4nary-c00ki", "c4nary-c00kiee"] {
        let refused = states.take(issued.state(), foreign).await;
        assert!(matches!(refused, Err(StateError::Foreign)), "{refused:?}");
    }
    states.take(issued.state(), BROWSER).await?;
    Ok(())
}

/// An expired login and a forged one are different errors; neither asks Redis.
#[tokio::test]
async fn expired_and_forged_states_are_distinct_errors() -> TestResult {
    let (fixture, states) = start().await?;
    let issued = states.issue(BROWSER, None).await?;
    let scripts =
        async || Ok::<_, BoxError>(fixture.calls("evalsha").await? + fixture.calls("eval").await?);

    let state = issued.state();
    for at in 0..state.len() {
        let mut letters: Vec<char> = state.chars().collect();
        letters[at] = if letters[at] == 'A' { 'B' } else { 'A' };
        let changed: String = letters.into_iter().collect();
        let refused = states.take(&changed, BROWSER).await;
        assert!(
            matches!(refused, Err(StateError::Forged)),
            "{at}: {refused:?}"
        );
    }
    let made_up = "A".repeat(96);
    for odd in [
        "",
        "x",
        "ä",
        "a:b",
        "*",
        &made_up,
        &format!("{state}A"),
        &state[1..],
    ] {
        let refused = states.take(odd, BROWSER).await;
        assert!(
            matches!(refused, Err(StateError::Forged)),
            "{odd}: {refused:?}"
        );
    }

    let other = OAuthStates::new(&fixture.client, keyring(), "facebook")?;
    let mixed_up = other.take(state, BROWSER).await;
    assert!(matches!(mixed_up, Err(StateError::Forged)), "{mixed_up:?}");

    fixture.client.clock().advance(STATE_TTL);
    let late = states.take(state, BROWSER).await;
    assert!(matches!(late, Err(StateError::Expired)), "{late:?}");
    assert_eq!(scripts().await?, 0, "Redis was not asked");
    fixture.client.clock().rewind(Duration::from_secs(5));
    states.take(state, BROWSER).await?;
    Ok(())
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A rotation of keys does not break the logins that are on their way.
#[tokio::test]
async fn states_survive_a_rotation_of_keys() -> TestResult {
    let (fixture, states) = start().await?;
    let issued = states.issue(BROWSER, Some(REDIRECT)).await?;
    let new = OAuthStates::new(&fixture.client, rotated(), "instagram")?;
    let taken = new.take(issued.state(), BROWSER).await?;
    assert_eq!(taken.redirect(), Some(REDIRECT));
    let issued = new.issue(BROWSER, None).await?;
    let unknown = states.take(issued.state(), BROWSER).await;
    assert!(matches!(unknown, Err(StateError::Forged)), "{unknown:?}");
    Ok(())
}

/// What was kept for one state is worth nothing at another.
#[tokio::test]
async fn moved_state_does_not_open() -> TestResult {
    let (fixture, states) = start().await?;
    let (mine, theirs) = (
        states.issue(BROWSER, None).await?,
        states.issue("another", None).await?,
    );
    let stored = async |state: &str| fixture.server.text(&["GET", &key_of(state)]).await;
    let (own, other) = (stored(mine.state()).await?, stored(theirs.state()).await?);
    let (own, other) = (own.ok_or("gone")?, other.ok_or("gone")?);
    fixture
        .server
        .cli(&["SET", &key_of(mine.state()), &other])
        .await?;
    let moved = states.take(mine.state(), BROWSER).await;
    assert!(matches!(moved, Err(StateError::Foreign)), "{moved:?}");

    let (binding, _) = own.split_once('.').ok_or("no binding")?;
    let (_, sealed) = other.split_once('.').ok_or("no binding")?;
    let mixed = format!("{binding}.{sealed}");
    fixture
        .server
        .cli(&["SET", &key_of(mine.state()), &mixed])
        .await?;
    let moved = states.take(mine.state(), BROWSER).await;
    assert!(
        matches!(moved, Err(StateError::Open(OpenError::NotAuthentic))),
        "{moved:?}"
    );

    let odd = states.issue(BROWSER, None).await?;
    fixture.server.cli(&["DEL", &key_of(odd.state())]).await?;
    fixture
        .server
        .cli(&["LPUSH", &key_of(odd.state()), "x"])
        .await?;
    let list = states.take(odd.state(), BROWSER).await;
    assert!(
        matches!(list, Err(StateError::Request(Error::Decode { .. }))),
        "{list:?}"
    );
    Ok(())
}

/// Without an answer nobody gets in: the state may be used up, and a second asking would not say
/// by whom.
#[tokio::test]
async fn lost_answer_refuses_the_callback() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
    let states = OAuthStates::new(&client, keyring(), "instagram")?;
    let first = states.issue(BROWSER, None).await?;
    states.take(first.state(), BROWSER).await?;
    let issued = states.issue(BROWSER, None).await?;
    proxy.add(Rule::drop_reply(|c| c.is("EVALSHA")).nth(1));
    let lost = states.take(issued.state(), BROWSER).await;
    assert!(
        matches!(lost, Err(StateError::Request(Error::Indeterminate(_)))),
        "{lost:?}"
    );
    let again = states.take(issued.state(), BROWSER).await;
    assert!(matches!(again, Err(StateError::Used)), "{again:?}");

    server.kill_hard();
    let away = states.take(first.state(), BROWSER).await;
    assert!(
        matches!(&away, Err(StateError::Request(error)) if error.is_transient()),
        "{away:?}"
    );
    let away = states.issue(BROWSER, None).await;
    assert!(away.is_err_and(|error| error.is_transient()));
    Ok(())
}

/// Bounds are checked before anything is sent.
#[tokio::test]
async fn odd_input_is_refused() -> TestResult {
    let (fixture, states) = start().await?;
    for odd in ["", "a:b", "{a}", "a*", "a\n", &"x".repeat(129)] {
        let refused = OAuthStates::new(&fixture.client, keyring(), odd);
        assert!(
            matches!(
                refused,
                Err(Error::Invalid {
                    field: "provider",
                    ..
                })
            ),
            "{odd:?}"
        );
    }
    let long = "x".repeat(REDIRECT_MAX + 1);
    let invalid = [
        states.issue("", None).await.err(),
        states.issue(&"x".repeat(4097), None).await.err(),
        states.issue(BROWSER, Some(&long)).await.err(),
        states
            .clone()
            .ttl(Duration::ZERO)
            .issue(BROWSER, None)
            .await
            .err(),
        states
            .clone()
            .ttl(Duration::from_secs(3601))
            .issue(BROWSER, None)
            .await
            .err(),
    ];
    for error in invalid {
        assert!(matches!(error, Some(Error::Invalid { .. })), "{error:?}");
    }
    let empty = states.take("x", "").await;
    assert!(
        matches!(empty, Err(StateError::Request(Error::Invalid { .. }))),
        "{empty:?}"
    );
    assert_eq!(fixture.calls("set").await?, 0);

    let longer = states.clone().max_redirect(REDIRECT_MAX + 1);
    longer.issue(BROWSER, Some(&long)).await?;
    let short = states.ttl(Duration::from_secs(60));
    let issued = short.issue(BROWSER, None).await?;
    assert!(
        fixture
            .server
            .int(&["PTTL", &key_of(issued.state())])
            .await?
            <= 60_000
    );
    fixture.client.clock().advance(Duration::from_secs(60));
    let late = short.take(issued.state(), BROWSER).await;
    assert!(matches!(late, Err(StateError::Expired)), "{late:?}");
    Ok(())
}

/// Bytes that are no text do not open; the state is used up as any other that does not.
#[tokio::test]
async fn bytes_that_are_no_text_do_not_open() -> TestResult {
    let (stage, states) = start().await?;
    let issued = states.issue(BROWSER, None).await?;
    let key = key_of(issued.state());
    let odd: [&[u8]; 3] = [b"APPEND", key.as_bytes(), b"\xff"];
    stage.server.cli(&odd).await?;
    let taken = states.take(issued.state(), BROWSER).await;
    assert!(matches!(taken, Err(StateError::Open(_))), "{taken:?}");
    assert_eq!(stage.server.int(&["EXISTS", &key]).await?, 0);
    Ok(())
}

/// What is shown for debugging has no secret.
#[tokio::test]
async fn debug_output_has_no_secret() -> TestResult {
    let (_stage, states) = start().await?;
    let issued = states.issue(BROWSER, Some(REDIRECT)).await?;
    let foreign = states
        .take(issued.state(), "other")
        .await
        .err()
        .ok_or("taken")?;
    let taken: TakenState = states.take(issued.state(), BROWSER).await?;
    let text = format!("{issued:?} {taken:?} {states:?} {foreign} {foreign:?}");
    for secret in [
        issued.state(),
        BROWSER,
        REDIRECT,
        taken.verifier(),
        issued.challenge(),
    ] {
        assert!(!text.contains(secret), "{text}");
    }
    Ok(())
}

/// A role for states needs to write, read and delete its own keys, by way of a script.
#[tokio::test]
async fn rights_suffice_and_are_least() -> TestResult {
    let commands = ["del", "eval", "evalsha", "get", "set"];
    least::suffices_and_is_least("~oauth:*", &commands, async |client| {
        let states = OAuthStates::new(client, keyring(), "instagram")?;
        let issued = states.issue(BROWSER, None).await?;
        states.take(issued.state(), BROWSER).await?;
        Ok(())
    })
    .await
}
