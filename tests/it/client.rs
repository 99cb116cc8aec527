//! The shared client: what it promises when servers fail, lie or are unsuitable.

mod connecting;
pub(crate) mod fake;
mod lasting;
mod tls;

use std::time::Duration;

use oxbull::Error;
use oxbull::client::{Client, ClientConfig, Command, Flavor, Repeat, Script, Value};
use oxbull_testkit::{DEADLINE, Proxy, RedisServer, TestResult, eventually};

use fake::{Fake, name_of, plain};

fn config(url: &str) -> Result<ClientConfig, Error> {
    Ok(ClientConfig::from_url(url)?.start_deadline(Duration::from_millis(300)))
}

/// Says everything that a user or a log may see of an error.
fn shown(error: &Error) -> String {
    let mut text = format!("{error:?}");
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        text = format!("{text} | {error}");
        next = error.source();
    }
    text
}

/// Counts the server's clients besides the one that asks.
async fn connections(server: &RedisServer) -> usize {
    let list = server.text(&["CLIENT", "LIST"]).await;
    let list = list.ok().flatten().unwrap_or_default();
    let others = |line: &&str| !line.contains("cmd=client|list");
    list.lines().filter(others).count()
}

/// Waits until the server has so many clients: the kit's own may still be closing.
async fn settles_at(server: &RedisServer, count: usize) -> oxbull_testkit::Result<()> {
    eventually(DEADLINE, async || connections(server).await == count).await
}

/// The number of connections of a process is what the documentation says: one a client, and one
/// more for a cache server that is used.
#[tokio::test]
async fn client_and_its_clones_share_one_connection() -> TestResult {
    let server = RedisServer::start().await?;
    let cache = RedisServer::start().await?;
    let config = ClientConfig::from_url(&server.url())?.cache(config(&cache.url())?);
    let client = Client::connect(config).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let client = client.clone();
        tasks.spawn(async move { client.kv().set(&format!("k{n}"), &n).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    settles_at(&server, 1).await?;
    // It is opened by its first use.
    settles_at(&cache, 0).await?;

    client.cache().set_text("c", "cached").await?;
    client.cache().set_text("d", "cached").await?;
    settles_at(&server, 1).await?;
    settles_at(&cache, 1).await?;
    assert_eq!(cache.text(&["GET", "c"]).await?.as_deref(), Some("cached"));
    assert_eq!(server.int(&["EXISTS", "c"]).await?, 0);
    Ok(())
}

/// With one server, cached values live beside the others.
#[tokio::test]
async fn cache_is_the_same_server_unless_configured() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    client.cache().set_text("c", "cached").await?;
    assert_eq!(client.kv().get_text("c").await?.as_deref(), Some("cached"));
    settles_at(&server, 1).await?;
    Ok(())
}

/// The client introduces itself, for readers of the server's client list.
#[tokio::test]
async fn server_knows_the_library_where_it_can() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    assert_eq!(client.server().flavor, Flavor::Redis);
    if client.server().version >= oxbull::client::Version::new(7, 2, 0) {
        let list = server.text(&["CLIENT", "LIST"]).await?.unwrap_or_default();
        assert!(list.contains("lib-name=oxbull"), "{list}");
    }
    Ok(())
}

/// Byte-wise, slow links change nothing but the time.
#[tokio::test]
async fn replies_in_pieces_are_put_together() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    proxy.split(1);
    let client =
        Client::connect(ClientConfig::from_url(&proxy.url())?.start_deadline(DEADLINE)).await?;
    let value = "ä\r\n$5\r\n".repeat(20);
    client.kv().set_text("k", &value).await?;
    assert_eq!(client.kv().get_text("k").await?, Some(value));
    Ok(())
}

/// Timestamps follow the server's clock, however wrong the local one is.
#[tokio::test]
async fn clock_follows_the_server() -> TestResult {
    let server = Fake::start(|command| plain(name_of(command))).await?;
    let client = Client::connect(config(&server.url())?).await?;
    // The fake lives one second after the epoch.
    let now = client.clock().now().as_millis();
    assert!((1_000..100_000).contains(&now), "{now}");
    Ok(())
}

/// Commands that the library has no call for go over the shared connection.
#[tokio::test]
async fn any_command_can_be_sent() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    let set = Command::new("RPUSH").args(["list", "a"]).arg(7).arg(b"\0");
    assert_eq!(client.request(set, Repeat::Once).await?.into_int()?, 3);
    let range = Command::new("LRANGE").arg("list").arg(0).arg(-1);
    let items = client.request(range, Repeat::Safe).await?.into_array()?;
    let items: Vec<_> = items.into_iter().map(Value::into_bytes).collect();
    assert!(
        matches!(items.as_slice(), [Ok(a), Ok(seven), Ok(zero)]
            if a == b"a" && seven == b"7" && zero == b"\0"),
        "{items:?}"
    );
    let odd = client
        .request(Command::new("GET").arg("list"), Repeat::Safe)
        .await;
    assert!(
        matches!(&odd, Err(Error::Server(text)) if text.starts_with("WRONGTYPE")),
        "{odd:?}"
    );
    settles_at(&server, 1).await?;
    Ok(())
}

static APPEND: Script = Script::new(
    "append",
    "for i, text in ipairs(ARGV) do redis.call('RPUSH', KEYS[1], text) end
     return {redis.call('LLEN', KEYS[1]), KEYS[2]}",
);

/// An application's scripts are run as the library's own, also after the server lost them.
#[tokio::test]
async fn any_script_can_be_run() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    for length in [2, 4] {
        let call = APPEND.call().key("list").arg("a").key("other").args(["b"]);
        let reply = client.run(call, Repeat::Once).await?;
        let other = Value::BulkString(b"other".to_vec());
        assert_eq!(reply.into_array()?, [Value::Int(length), other]);
        server.cli(&["SCRIPT", "FLUSH"]).await?;
    }
    Ok(())
}
