//! A private Redis with the users that are shipped: each program logs in with its role and may do no more than
//! its work needs.

use std::path::Path;
use std::process::Command;

use oxbull::client::{Client, ClientConfig};
use oxbull_testkit::RedisServer;

use crate::Outcome;

/// Prints the users of `users.acl` as lines of a server's configuration.
const USERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/redis/users.sh");

/// The roles of `users.acl`.
const ROLES: [&str; 4] = ["producer", "worker", "gateway", "operator"];

/// The demo's own user, who looks at everything.
const OBSERVER: (&str, &str) = ("demo", "observes");

/// The server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct ShippedRedis {
    pub(crate) server: RedisServer,
}

impl ShippedRedis {
    pub(crate) async fn start() -> Outcome<Self> {
        let (user, password) = OBSERVER;
        let server = RedisServer::builder()
            .configs(&users()?.lines().collect::<Vec<_>>())
            .config(format!("user {user} on >{password} ~* &* +@all"))
            .login(user, password)
            .start()
            .await?;
        Ok(Self { server })
    }

    /// The address for a role.
    pub(crate) fn url(&self, role: &str) -> String {
        let (port, password) = (self.server.port(), password(role));
        format!("redis://{role}:{password}@127.0.0.1:{port}/0")
    }

    /// A client with a role's rights.
    pub(crate) async fn client(&self, role: &str) -> Outcome<Client> {
        Ok(Client::connect(ClientConfig::from_url(&self.url(role))?).await?)
    }

    /// A client that may do everything.
    pub(crate) async fn observer(&self) -> Outcome<Client> {
        Ok(Client::connect(ClientConfig::from_url(&self.server.url())?).await?)
    }
}

/// The server is private and on loopback: what counts is that one role's password opens no other.
fn password(role: &str) -> String {
    format!("demo-{role}")
}

fn users() -> Outcome<String> {
    let mut command = Command::new("sh");
    command.arg(USERS);
    for role in ROLES {
        let variable = format!("REDIS_{}_PASSWORD", role.to_uppercase());
        command.env(variable, password(role));
    }
    // The script asks the server for its version.
    let server = std::env::var_os("OXBULL_REDIS_SERVER").unwrap_or_default();
    if let Some(directory) = Path::new(&server).parent().filter(|dir| dir.is_absolute()) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let before = std::iter::once(directory.to_owned());
        command.env(
            "PATH",
            std::env::join_paths(before.chain(std::env::split_paths(&path)))?,
        );
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{USERS}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
