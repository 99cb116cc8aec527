//! Sealed values shared with a Node.js service that has nothing but Node's own crypto module.

use oxbull::kv::Vault;
use oxbull::kv::session::{Sessions, UserId};
use oxbull::vault::{AssociatedData, Keyring, Sealed};
use oxbull::{Context, Job, JobError, JobResult, Outcome, QueueName, Timestamp, Worker};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, NodePeer, TestResult};
use serde::Deserialize;
use serde_json::{Value, json};

/// Two keys; Node.js seals with the first, as we do.
const KEYS: &str = "k2:CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=,\
                    k1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

async fn start() -> TestResult<(Fixture, Keyring, NodePeer)> {
    let peer = NodePeer::builder("sealing.mjs")
        .env("ENCRYPTION_KEYS", KEYS)
        .start()?;
    Ok((Fixture::start().await?, Keyring::parse(KEYS)?, peer))
}

/// A token that one side stores, the other reads.
#[tokio::test]
async fn tokens_are_shared_with_node() -> TestResult {
    let (fixture, keyring, peer) = start().await?;
    let vault = Vault::new(fixture.client.kv(), keyring);
    vault.set("token:17", "IGQVJ ä", DEADLINE).await?;
    let stored = fixture.server.text(&["GET", "token:17"]).await?;
    let opened = peer
        .call("token.open", json!({ "key": "token:17", "stored": stored }))
        .await?;
    assert_eq!(opened, "IGQVJ ä");
    let moved = json!({ "key": "token:18", "stored": stored });
    assert!(peer.try_call("token.open", moved).await?.is_err());

    let sealed = peer
        .call("token.seal", json!({ "key": "token:18", "value": "ü" }))
        .await?;
    fixture
        .server
        .cli(&["SET", "token:18", sealed.as_str().ok_or("no text")?])
        .await?;
    assert_eq!(vault.get::<String>("token:18").await?.as_deref(), Some("ü"));
    peer.close().await?;
    Ok(())
}

/// A session that we created, Node.js reads by the browser's token; data it seals, we load.
#[tokio::test]
async fn sessions_are_shared_with_node() -> TestResult {
    let (fixture, keyring, peer) = start().await?;
    let sessions = Sessions::builder(&fixture.client)
        .sealed_with(keyring)
        .build()?;
    let user = UserId::new("a.b@example.org")?;
    let (token, session) = sessions.create(&user, json!({ "role": "seller" })).await?;
    let key = format!("session:{user}:{}", session.id());
    let stored = fixture.server.text(&["HGET", &key, "data"]).await?;
    let token_text = token.as_str();
    let opened = peer
        .call(
            "session.open",
            json!({ "token": token_text, "stored": stored }),
        )
        .await?;
    let times = (session.created(), session.until());
    assert_eq!(
        opened,
        json!({
            "created": times.0.as_millis(),
            "until": times.1.as_millis(),
            "data": { "role": "seller" },
        })
    );

    let changed =
        json!({ "created": opened["created"], "until": opened["until"], "data": "theirs" });
    let sealed = peer
        .call(
            "session.seal",
            json!({ "token": token_text, "session": changed }),
        )
        .await?;
    let sealed = sealed.as_str().ok_or("no text")?;
    fixture.server.cli(&["HSET", &key, "data", sealed]).await?;
    let loaded = sessions.load::<String>(&token).await?.ok_or("no session")?;
    assert_eq!(loaded.data(), "theirs");
    assert_eq!((loaded.created(), loaded.until()), times);
    assert!(loaded.until() > Timestamp::default());
    peer.close().await?;
    Ok(())
}

/// A sealed field of a job's data goes both ways.
#[tokio::test]
async fn job_fields_are_shared_with_node() -> TestResult {
    let (fixture, keyring, peer) = start().await?;
    let queue = QueueName::new("q")?;
    let associated_data = AssociatedData::job(&queue).about("17");
    let data = json!({ "token": Sealed::<String>::seal(&keyring, &associated_data, "IGQVJ")? });
    let added = fixture.queue.add("publish", &data).await?;
    let key = format!("bull:q:{}", added.id);
    let stored = fixture
        .server
        .text(&["HGET", &key, "data"])
        .await?
        .ok_or("no data")?;
    let stored: Value = serde_json::from_str(&stored)?;
    let params =
        |subject: &str| json!({ "queue": "q", "subject": subject, "field": stored["token"] });
    assert_eq!(peer.call("job.open", params("17")).await?, "IGQVJ");
    assert!(peer.try_call("job.open", params("18")).await?.is_err());

    let data = json!({ "queue": "q", "subject": "17", "value": "theirs" });
    let field = peer.call("job.seal", data).await?;
    let theirs = fixture
        .queue
        .add("publish", &json!({ "token": field }))
        .await?;
    let worker = Worker::builder(&fixture.client, "q")
        .state(keyring)
        .start(reveal)
        .await?;
    fixture.ended(2).await?;
    for (id, revealed) in [(&added.id, "IGQVJ"), (&theirs.id, "theirs")] {
        let returned: Option<String> = fixture.job(id).await?.return_value()?;
        assert_eq!(returned.as_deref(), Some(revealed));
    }
    worker.close().await;
    peer.close().await?;
    Ok(())
}

#[derive(Deserialize)]
struct Publish {
    token: Sealed<String>,
}

/// A handler that opens what its job keeps sealed.
async fn reveal(job: Job<Publish>, context: Context<Keyring>) -> JobResult<String> {
    let queue = QueueName::new("q").map_err(JobError::fatal)?;
    let associated_data = AssociatedData::job(&queue).about("17");
    let token = job.data().token.open(context.state(), &associated_data);
    Ok(Outcome::Done(token.map_err(JobError::fatal)?))
}
