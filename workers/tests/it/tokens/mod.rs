//! Accounts' tokens: where they come from, sellers who connect later, missing and refused ones.

mod command;
mod crashes;
mod spoiled;
mod upkeep;

use std::process::Stdio;

use oxbull::vault::{AssociatedData, Key, Keyring};
use oxbull::{JobId, JobRecord, JobState, Queue};
use oxbull_instagram_simulator::{Simulator, SimulatorOptions};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use oxbull_workers::graph::{AccessToken, AccountId, StoredToken, TokenStore};
use oxbull_workers::jobs::post_publishing::{QUEUE, options};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::{ACCOUNT, RedisFixture, Subscriber, publisher, reaches, refresher};

const USER: &str = "user-1";

/// Keys as in `ENCRYPTION_KEYS`; `k2` comes after `k1`.
const K1: &str = "k1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const K2: &str = "k2:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";

const OTHER: &str = "17841405822309999";

struct Fixture {
    redis: RedisFixture,
    simulator: Simulator,
    subscriber: Subscriber,
    queue: Queue<Value>,
}

impl Fixture {
    async fn start() -> TestResult<Self> {
        let redis = RedisFixture::start().await?;
        Ok(Self {
            simulator: Simulator::start(SimulatorOptions::new()).await?,
            subscriber: Subscriber::open(&redis.server).await?,
            queue: Queue::open(&redis.client, QUEUE).await?,
            redis,
        })
    }

    fn store(&self) -> TestResult<TokenStore> {
        Ok(TokenStore::new(&self.redis.client, Keyring::parse(K1)?))
    }

    async fn put(&self, account: &str, token: &str) -> TestResult {
        let stored = StoredToken::new(AccessToken::new(token));
        Ok(self
            .store()?
            .put(&AccountId::new(account)?, &stored)
            .await?)
    }

    async fn add(&self, account: &str) -> TestResult<JobId> {
        let post = json!({
            "postId": format!("post-{account}"),
            "userId": USER,
            "accountId": account,
            "imageUrl": "https://cdn.example/shoes.jpg",
        });
        Ok(self.queue.add_with("publish", &post, options()).await?.id)
    }

    /// The publisher without the token of the environment, and with the keys of the store.
    fn publisher(&self) -> Command {
        let mut command = publisher(&self.redis.server.url(), self.simulator.url(), "bull");
        command
            .env_remove("GRAPH_ACCESS_TOKEN")
            .env("ENCRYPTION_KEYS", K1);
        command
    }

    /// Waits until a post is postponed for want of a token, and returns its job and the reason.
    async fn waits_for_token(&self, id: &JobId) -> TestResult<(JobRecord, String)> {
        eventually(DEADLINE, async || {
            let job = self
                .queue
                .job(id)
                .await
                .map_err(|error| error.to_string())?;
            let data: Value = job.ok_or("gone")?.data().map_err(|e| e.to_string())?;
            let wait = &data["publication"]["tokenWait"];
            if wait["reason"].is_string() {
                Ok(())
            } else {
                Err(data.to_string())
            }
        })
        .await?;
        let job = reaches(&self.queue, id, JobState::Delayed).await?;
        let data: Value = job.data()?;
        let reason = &data["publication"]["tokenWait"]["reason"];
        let reason = reason.as_str().unwrap().to_owned();
        Ok((job, reason))
    }
}

/// Runs `graph-tokens` with something on its standard input; returns its exit code, output and log.
async fn tokens_command(
    redis: &RedisFixture,
    keys: &str,
    arguments: &[&str],
    input: &str,
) -> TestResult<(Option<i32>, String, String)> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_graph-tokens"))
        .args(arguments)
        .env_clear()
        .env("REDIS_URL", redis.server.url())
        .env("ENCRYPTION_KEYS", keys)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    Ok((
        output.status.code(),
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}

/// A seller who connects while workers run needs no restart, and waiting for the token uses no attempt;
/// each account's requests are made with its own token.
#[tokio::test]
async fn seller_who_connects_later_is_published_without_a_restart() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.simulator.add_token(ACCOUNT, "IGone");
    fixture.simulator.add_token(OTHER, "IGother");
    fixture.put(ACCOUNT, "IGone").await?;
    let mut publisher = fixture.publisher().spawn()?;
    let early = fixture.add(ACCOUNT).await?;
    reaches(&fixture.queue, &early, JobState::Completed).await?;
    let late = fixture.add(OTHER).await?;
    let (job, reason) = fixture.waits_for_token(&late).await?;
    assert_eq!(job.attempts_made, 0);
    assert!(reason.contains(OTHER), "{reason}");
    assert_eq!(fixture.simulator.counters().accounts.get(OTHER), None);

    let (code, said, log) = tokens_command(
        &fixture.redis,
        K1,
        &["put", OTHER, "--user", USER],
        "IGother\n",
    )
    .await?;
    assert_eq!(code, Some(0), "{said} {log}");
    let job = reaches(&fixture.queue, &late, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 1);
    let notices = fixture.subscriber.wait_for(USER, 2).await?;
    assert!(
        notices
            .iter()
            .all(|notice| notice["type"] == "post.published")
    );
    publisher.kill().await?;
    Ok(())
}

/// Only when the token has been missing for the configured time is the seller told, once.
#[tokio::test]
async fn seller_is_told_of_a_missing_token_after_the_configured_time() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut publisher = fixture
        .publisher()
        .env("MISSING_TOKEN_MAX_MS", "1500")
        .spawn()?;
    let id = fixture.add(ACCOUNT).await?;
    fixture.waits_for_token(&id).await?;
    assert!(fixture.subscriber.notices(USER).is_empty());
    let job = reaches(&fixture.queue, &id, JobState::Failed).await?;
    assert!(job.failed_reason.unwrap().contains("no access token"));
    let notices = fixture.subscriber.wait_for(USER, 1).await?;
    assert_eq!(notices[0]["code"], "reconnect");
    publisher.kill().await?;
    Ok(())
}

/// A refused token is told at once, but not when the seller has connected again since it was read.
#[tokio::test]
async fn refused_token_that_was_replaced_is_not_told() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.simulator.add_token(ACCOUNT, "IGold");
    fixture.put(ACCOUNT, "IGold").await?;
    let mut publisher = fixture.publisher().spawn()?;
    let first = fixture.add(ACCOUNT).await?;
    reaches(&fixture.queue, &first, JobState::Completed).await?;
    // The worker knows the old token for a while.
    fixture.simulator.revoke_tokens(ACCOUNT);
    fixture.simulator.add_token(ACCOUNT, "IGnew");
    fixture.put(ACCOUNT, "IGnew").await?;
    let second = fixture.add(ACCOUNT).await?;
    let job = reaches(&fixture.queue, &second, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 1);

    fixture.simulator.revoke_tokens(ACCOUNT);
    let third = fixture.add(ACCOUNT).await?;
    reaches(&fixture.queue, &third, JobState::Failed).await?;
    let notices = fixture.subscriber.wait_for(USER, 3).await?;
    assert_eq!(notices[2]["code"], "reconnect");
    publisher.kill().await?;
    Ok(())
}

/// A token of the other login is the operator's mistake: nothing is asked of the API with it, no seller is
/// told to reconnect, and the reason names the remedy.
#[tokio::test]
async fn token_of_the_other_login_tells_no_seller_to_reconnect() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.put(ACCOUNT, "EAAs3cret").await?;
    let mut publisher = fixture
        .publisher()
        .env("GRAPH_LOGIN", "instagram")
        .env("POSTPONE_MAX_MS", "1500")
        .spawn()?;
    let id = fixture.add(ACCOUNT).await?;
    let (job, reason) = fixture.waits_for_token(&id).await?;
    assert_eq!(job.attempts_made, 0);
    assert!(reason.contains("graph.facebook.com"), "{reason}");
    assert!(!reason.contains("s3cret"), "{reason}");
    reaches(&fixture.queue, &id, JobState::Failed).await?;
    let notices = fixture.subscriber.wait_for(USER, 1).await?;
    assert_eq!(notices[0]["code"], "unavailable");
    assert!(fixture.simulator.counters().accounts.is_empty());
    publisher.kill().await?;
    Ok(())
}

/// An API that cannot read a token of unknown origin says the same as to one of the other host: no seller is told
/// to reconnect, which would not help. One that was revoked is told at once.
#[tokio::test]
async fn token_that_the_api_cannot_read_tells_no_seller_to_reconnect() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.simulator.add_token(OTHER, "right");
    fixture.put(ACCOUNT, "damaged-s3cret").await?;
    let mut publisher = fixture
        .publisher()
        .env("GRAPH_LOGIN", "instagram")
        .env("POSTPONE_MAX_MS", "1500")
        .spawn()?;
    let id = fixture.add(ACCOUNT).await?;
    let (job, reason) = fixture.waits_for_token(&id).await?;
    assert_eq!(job.attempts_made, 0);
    assert!(reason.contains("GRAPH_API_URL"), "{reason}");
    reaches(&fixture.queue, &id, JobState::Failed).await?;
    let notices = fixture.subscriber.wait_for(USER, 1).await?;
    assert_eq!(notices[0]["code"], "unavailable");

    fixture.put(OTHER, "right").await?;
    fixture.simulator.revoke_tokens(OTHER);
    let id = fixture.add(OTHER).await?;
    reaches(&fixture.queue, &id, JobState::Failed).await?;
    let notices = fixture.subscriber.wait_for(USER, 2).await?;
    assert_eq!(notices[1]["code"], "reconnect");
    publisher.kill().await?;
    Ok(())
}

/// A token sealed with a key that the worker lacks, or for another account, is not used and not taken for a
/// missing one.
#[tokio::test]
async fn token_that_does_not_open_waits_for_the_operator() -> TestResult {
    let fixture = Fixture::start().await?;
    let keyring = Keyring::new(Key::from_base64("k2", &K2[3..])?);
    let place = format!("token:instagram:{ACCOUNT}");
    let sealed = keyring.seal(&AssociatedData::token(&place), br#"{"token":"IGone"}"#)?;
    let kv = fixture.redis.client.kv();
    kv.hset_text("token:instagram", ACCOUNT, &sealed).await?;
    fixture.put("elsewhere", "IGone").await?;
    let moved = kv.hget_text("token:instagram", "elsewhere").await?.unwrap();
    kv.hset_text("token:instagram", OTHER, &moved).await?;
    let mut publisher = fixture
        .publisher()
        .env("MISSING_TOKEN_MAX_MS", "0")
        .spawn()?;
    for (account, problem) in [(ACCOUNT, "unknown key"), (OTHER, "belongs elsewhere")] {
        let id = fixture.add(account).await?;
        let (_, reason) = fixture.waits_for_token(&id).await?;
        assert!(reason.contains(problem), "{reason}");
    }
    assert!(fixture.subscriber.notices(USER).is_empty());
    publisher.kill().await?;
    Ok(())
}

/// The refresher of numbers waits for a token in the same way.
#[tokio::test]
async fn refresh_waits_for_a_missing_token() -> TestResult {
    let fixture = Fixture::start().await?;
    let name = oxbull_workers::jobs::analytics_refresh::QUEUE;
    let queue: Queue<Value> = Queue::open(&fixture.redis.client, name).await?;
    let data = json!({ "accountId": ACCOUNT, "userId": USER });
    let id = queue.add("refresh", &data).await?.id;
    let mut refresher = refresher(&fixture.redis.server.url(), fixture.simulator.url())
        .env_remove("GRAPH_ACCESS_TOKEN")
        .env("ENCRYPTION_KEYS", K1)
        .spawn()?;
    let job = reaches(&queue, &id, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 0);
    fixture.put(ACCOUNT, "IGone").await?;
    let job = reaches(&queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 1);
    assert!(fixture.subscriber.notices(USER).is_empty());
    refresher.kill().await?;
    Ok(())
}

/// The start ends with a message that names the remedy when no token can work.
#[tokio::test]
async fn wrong_pairs_end_the_start_and_name_the_remedy() -> TestResult {
    let fixture = Fixture::start().await?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("tokens.json");
    std::fs::write(&file, format!(r#"{{"{ACCOUNT}":"EAAs3cret"}}"#))?;
    let file = file.display().to_string();
    let (instagram, facebook) = (
        "https://graph.instagram.com/v23.0",
        "https://graph.facebook.com/v23.0",
    );
    for (variables, remedy) in [
        (
            vec![
                ("GRAPH_API_URL", instagram),
                ("GRAPH_ACCESS_TOKEN", "EAAs3cret"),
            ],
            "set GRAPH_API_URL to https://graph.facebook.com",
        ),
        (
            vec![
                ("GRAPH_API_URL", facebook),
                ("GRAPH_ACCESS_TOKEN", "IGs3cret"),
            ],
            "set GRAPH_API_URL to https://graph.instagram.com",
        ),
        (
            vec![("GRAPH_API_URL", instagram), ("GRAPH_TOKENS_FILE", &*file)],
            "set GRAPH_API_URL to https://graph.facebook.com",
        ),
        (
            vec![("GRAPH_API_URL", instagram), ("GRAPH_LOGIN", "facebook")],
            "change one of them",
        ),
        (
            vec![
                ("GRAPH_API_URL", instagram),
                ("GRAPH_ACCESS_TOKEN", "IGs3cret"),
            ],
            "set GRAPH_ACCOUNT_ID",
        ),
        (vec![("ENCRYPTION_KEYS", "")], "set ENCRYPTION_KEYS"),
        (
            vec![("ENCRYPTION_KEYS", "k1:s3cret")],
            "keys of the access tokens",
        ),
    ] {
        for mut command in [
            fixture.publisher(),
            refresher(&fixture.redis.server.url(), fixture.simulator.url()),
        ] {
            let output = command
                .env_remove("GRAPH_ACCESS_TOKEN")
                .env("RUST_LOG", "error")
                .env("ENCRYPTION_KEYS", K1)
                .envs(variables.iter().copied())
                .output();
            let output = tokio::time::timeout(DEADLINE, output).await??;
            let log = String::from_utf8(output.stderr)?;
            assert!(!output.status.success(), "{variables:?}");
            assert!(log.contains(remedy), "{variables:?}: {log}");
            assert!(!log.contains("s3cret"), "{log}");
        }
    }
    Ok(())
}

/// Tokens are put from standard input only, listed without being shown, sealed anew with the active key so that
/// the old one can be dropped, and removed.
#[tokio::test]
async fn command_puts_lists_rotates_and_removes_tokens() -> TestResult {
    let redis = RedisFixture::start().await?;
    let run = async |keys: &str, arguments: &[&str], input: &str| {
        tokens_command(&redis, keys, arguments, input).await
    };
    let put = ["put", ACCOUNT, "--user", USER, "--expires-in", "5184000"];
    let (code, said, log) = run(K1, &put, "IGs3cret\n").await?;
    assert_eq!(code, Some(0), "{log}");
    assert!(
        said.contains("key k1") && !said.contains("s3cret"),
        "{said}"
    );
    let (code, ..) = run(K1, &["put", OTHER], "IGother-s3cret").await?;
    assert_eq!(code, Some(0));
    // Nothing is stored of what cannot be a token of this host.
    for input in ["", "\n", "two tokens", "EAAs3cret", &"x".repeat(5000)] {
        let (code, said, log) = run(K1, &["put", "unwanted"], input).await?;
        assert_eq!(code, Some(1), "{said}");
        assert!(!log.contains("s3cret"), "{log}");
    }

    let (_, list, _) = run(K1, &["list", "--json"], "").await?;
    let lines: Vec<Value> = list
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(lines.len(), 2, "{list}");
    assert_eq!(lines[0]["account"], ACCOUNT);
    assert_eq!(
        (&lines[0]["kind"], &lines[0]["key"]),
        (&json!("instagram-user"), &json!("k1"))
    );
    let life = lines[0]["expiresAt"].as_i64().unwrap() - lines[0]["obtainedAt"].as_i64().unwrap();
    assert_eq!(life, 5_184_000_000);
    let (_, text, _) = run(K1, &["list"], "").await?;
    assert!(
        text.contains("key k1") && !text.contains("s3cret") && !list.contains("s3cret"),
        "{text}"
    );

    let both = format!("{K2},{K1}");
    let (code, said, _) = run(&both, &["rotate"], "").await?;
    assert_eq!(
        (code, said.as_str()),
        (
            Some(0),
            "2 sealed anew with key k2, 0 had it, 0 unreadable\n"
        )
    );
    let (_, list, _) = run(K2, &["list", "--json"], "").await?;
    assert!(
        list.contains("\"k2\"") && !list.contains("problem"),
        "{list}"
    );
    // With keys that do not open them nothing is changed.
    let (code, said, _) = run(K1, &["rotate"], "").await?;
    assert_eq!(
        (code, said.contains("2 unreadable")),
        (Some(1), true),
        "{said}"
    );

    let (code, ..) = run(K2, &["remove", OTHER], "").await?;
    assert_eq!(code, Some(2), "it needs a confirmation");
    for (code, account) in [(Some(0), OTHER), (Some(1), OTHER)] {
        assert_eq!(run(K2, &["remove", account, "--yes"], "").await?.0, code);
    }
    let (_, list, _) = run(K2, &["list", "--json"], "").await?;
    assert_eq!(list.lines().count(), 1, "{list}");
    let stored = redis.server.cli(&["HGETALL", "token:instagram"]).await?;
    assert!(!format!("{stored:?}").contains("s3cret"));
    Ok(())
}

/// What the store seals is what docs/encryption.md says a `Vault` would: other programs can read and write it.
#[tokio::test]
async fn stored_tokens_have_the_documented_form() -> TestResult {
    let redis = RedisFixture::start().await?;
    let keyring = Keyring::parse(K1)?;
    let store = TokenStore::new(&redis.client, keyring.clone());
    let account = AccountId::new(ACCOUNT)?;
    let place = format!("token:instagram:{ACCOUNT}");
    let place = AssociatedData::token(&place);
    let kv = redis.client.kv();
    let sealed = keyring.seal(
        &place,
        br#"{"token":"IGs3cret","userId":"u","expiresAt":7}"#,
    )?;
    kv.hset_text("token:instagram", ACCOUNT, &sealed).await?;
    let mut stored = store.get(&account).await?.unwrap();
    assert_eq!(
        (stored.user_id.as_deref(), stored.expires_at),
        (Some("u"), Some(7))
    );
    stored.refreshed_at = Some(9);
    store.put(&account, &stored).await?;
    let sealed = kv.hget_text("token:instagram", ACCOUNT).await?.unwrap();
    let json: Value = serde_json::from_slice(&keyring.open(&place, &sealed)?)?;
    assert_eq!(json["token"], "IGs3cret");
    assert_eq!(json["refreshedAt"], 9);
    assert!(!format!("{stored:?}").contains("s3cret"));
    Ok(())
}
