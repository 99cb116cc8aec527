//! The server configurations that we ship, on real servers.

use std::path::Path;
use std::time::Duration;

use oxbull::{Client, ClientConfig, Error, NewJob, Queue};
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually};
use serde_json::{Value, json};

async fn serve(file: &str, extra: &[&str]) -> TestResult<RedisServer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config/redis")
        .join(file);
    let server = RedisServer::builder()
        .config_file(&path)?
        .configs(extra)
        .start()
        .await?;
    Ok(server)
}

/// The server for queues keeps what it wrote through a kill, and refuses rather than evicts when
/// it is full. With `everysec`, a write may wait up to two seconds for a slow disk.
#[tokio::test]
async fn queue_server_loses_nothing() -> TestResult {
    let server = serve("queue.conf", &[]).await?;
    let client =
        Client::connect(ClientConfig::from_url(&server.url())?.strict_eviction(true)).await?;
    let queue: Queue<Value> = Queue::open(&client, "kept").await?;
    let jobs = (0..500).map(|n| NewJob::new("job", json!(n)));
    for added in queue.add_bulk(jobs).await? {
        added?;
    }
    eventually(DEADLINE, || async {
        let state = server.info("persistence").await.ok()?;
        let idle = |field: &str| state.get(field).is_some_and(|value| value == "0");
        (idle("aof_buffer_length") && idle("aof_pending_bio_fsync")).then_some(())
    })
    .await?;
    server.kill_hard();
    server.restart().await?;
    assert_eq!(queue.counts().await?.waiting, 500);

    let full = serve("queue.conf", &["maxmemory 30mb"]).await?;
    let client = Client::connect(ClientConfig::from_url(&full.url())?).await?;
    let queue: Queue<Value> = Queue::open(&client, "full").await?;
    let large = json!("x".repeat(10_000));
    let mut acknowledged = 0;
    let refused = loop {
        match queue.add("job", &large).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 4000, "thirty megabytes never got full");
    };
    assert!(matches!(refused, Error::Overloaded(_)), "{refused:?}");
    assert_eq!(queue.counts().await?.waiting, acknowledged);
    Ok(())
}

/// The cache server has the customer's settings, forgets instead of refusing, and is no place for
/// queues.
#[tokio::test]
async fn cache_server_forgets_and_is_refused_for_queues() -> TestResult {
    let server = serve("cache.conf", &["maxmemory 20mb"]).await?;
    let strict = ClientConfig::from_url(&server.url())?.strict_eviction(true);
    let refused = Client::connect(strict).await;
    assert!(matches!(refused, Err(Error::Unsuitable(_))), "{refused:?}");
    let queues = RedisServer::start().await?;
    let config =
        ClientConfig::from_url(&queues.url())?.cache(ClientConfig::from_url(&server.url())?);
    let client = Client::connect(config).await?;
    for n in 0..3000 {
        client
            .cache()
            .set_text_with_ttl(
                &format!("api:profile:{n}"),
                &"x".repeat(10_000),
                Duration::from_secs(60),
            )
            .await?;
    }
    assert!(client.cache().exists("api:profile:2999").await?);
    assert!(server.int(&["DBSIZE"]).await? < 3000);
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("config/redis/cache.conf"),
    )?;
    assert!(text.contains("\nmaxmemory 256mb\n"));
    server.kill_hard();
    server.restart().await?;
    assert_eq!(server.int(&["DBSIZE"]).await?, 0);
    Ok(())
}
