//! Rights of a Redis user: what a helper needs, and not a command more.

use oxbull::{Client, ClientConfig};
use oxbull_testkit::{RedisServer, TestResult};

/// What every client needs.
const EVERY_ROLE: &[&str] = &[
    "hello",
    "ping",
    "info",
    "time",
    "client|setname",
    "client|id",
];

/// What clients ask of servers that know it (7.2 and later), to be told apart by name.
const SETINFO: &str = "client|setinfo";

/// Plays `story` as a user who has these commands on these keys, and then without each of them.
pub(crate) async fn suffices_and_is_least(
    keys: &str,
    commands: &[&str],
    story: impl AsyncFn(&Client) -> TestResult,
) -> TestResult {
    let server = RedisServer::start().await?;
    let url = format!("redis://web:pw@127.0.0.1:{}", server.port());
    let help = server.cli(&["CLIENT", "HELP"]).await?.texts();
    let setinfo = help.iter().any(|line| line.starts_with("SETINFO"));
    let setinfo = setinfo.then_some(&SETINFO);
    let play = async |commands: &[&str]| -> TestResult<TestResult> {
        server.cli(&["SCRIPT", "FLUSH"]).await?;
        let user = ["ACL", "SETUSER", "web", "reset", "on", ">pw", keys];
        let user = user.into_iter().map(str::to_owned);
        let rights = EVERY_ROLE.iter().chain(setinfo).chain(commands);
        let rights = rights.map(|command| format!("+{command}"));
        server.cli(&user.chain(rights).collect::<Vec<_>>()).await?;
        let client = Client::connect(ClientConfig::from_url(&url)?).await?;
        let played = story(&client).await;
        client.close().await;
        Ok(played)
    };
    play(commands).await??;
    let refused = server.cli(&["ACL", "LOG"]).await?;
    assert_eq!(refused.items(), [], "refused behind the story's back");
    for without in commands {
        let rest: Vec<_> = commands
            .iter()
            .copied()
            .filter(|name| name != without)
            .collect();
        assert!(play(&rest).await?.is_err(), "{without} is not needed");
    }
    Ok(())
}
