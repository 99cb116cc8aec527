//! A primary, its replicas, and the sentinels that watch them.

use crate::wait::DEADLINE;
use crate::{KitError, RedisServer, Result, eventually};

/// The name that the sentinels know the primary by.
const SERVICE: &str = "main";

/// Three servers, of which one is the primary, and three sentinels, which replace a primary that has been away
/// for a second.
#[derive(Debug)]
pub struct SentinelGroup {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl SentinelGroup {
    /// Starts servers and sentinels without passwords, and waits until they know each other.
    ///
    /// # Errors
    /// As for [`RedisServer::start`]; or they did not find each other.
    pub async fn start() -> Result<Self> {
        Self::launch(None).await
    }

    /// Starts servers with one password and sentinels with another.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn with_passwords(servers: &str, sentinels: &str) -> Result<Self> {
        Self::launch(Some((servers, sentinels))).await
    }

    async fn launch(passwords: Option<(&str, &str)>) -> Result<Self> {
        let mut servers: Vec<RedisServer> = Vec::new();
        for _ in 0..3 {
            let mut builder = RedisServer::builder().config("repl-diskless-sync-delay 0");
            if let Some((password, _)) = passwords {
                builder = builder
                    .password(password)
                    .config(format!("masterauth {password}"));
            }
            if let Some(primary) = servers.first() {
                builder = builder.config(format!("replicaof 127.0.0.1 {}", primary.port()));
            }
            servers.push(builder.start().await?);
        }
        let primary = servers.first().map_or(0, RedisServer::port);
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let mut builder = RedisServer::builder().sentinel().configs(&[
                &format!("sentinel monitor {SERVICE} 127.0.0.1 {primary} 2"),
                &format!("sentinel down-after-milliseconds {SERVICE} 1000"),
                &format!("sentinel failover-timeout {SERVICE} 5000"),
            ]);
            if let Some((server, own)) = passwords {
                builder = builder.password(own).configs(&[
                    &format!("sentinel auth-pass {SERVICE} {server}"),
                    &format!("sentinel sentinel-pass {own}"),
                ]);
            }
            sentinels.push(builder.start().await?);
        }
        let group = Self { servers, sentinels };
        for sentinel in &group.sentinels {
            eventually(DEADLINE, async || knows_all(sentinel).await).await?;
        }
        Ok(group)
    }

    /// The servers; the first one was the primary at the start.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// `redis+sentinel://…/main`, with all sentinels and without passwords.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self
            .sentinels
            .iter()
            .map(|one| format!("127.0.0.1:{}", one.port()))
            .collect();
        format!("redis+sentinel://{}/{SERVICE}", addresses.join(","))
    }

    /// The server that the sentinels call the primary and that calls itself so. Those that do not run are
    /// not asked.
    ///
    /// # Errors
    /// There is none now.
    pub async fn primary(&self) -> Result<&RedisServer> {
        let sentinel = self.sentinels.iter().find(|one| one.pid().is_some());
        let sentinel = sentinel.ok_or_else(|| KitError::new("no sentinel runs"))?;
        let info = sentinel.info("sentinel").await?;
        let named = info.get("master0").cloned().unwrap_or_default();
        for server in self.servers.iter().filter(|one| one.pid().is_some()) {
            if named.contains(&format!("address=127.0.0.1:{},", server.port()))
                && server
                    .info("replication")
                    .await?
                    .get("role")
                    .is_some_and(|role| role.trim() == "master")
            {
                return Ok(server);
            }
        }
        Err(KitError::new(format!("{named} is no primary")))
    }
}

/// Fails until a sentinel knows the replicas and the other sentinels.
async fn knows_all(sentinel: &RedisServer) -> Result<()> {
    let info = sentinel.info("sentinel").await?;
    let service = info.get("master0").map_or("", String::as_str);
    if service.contains("slaves=2") && service.contains("sentinels=3") {
        Ok(())
    } else {
        Err(KitError::new(format!("it knows {service}")))
    }
}
