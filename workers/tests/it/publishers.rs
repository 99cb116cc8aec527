//! Publishers as processes: several on one queue, and what one of them lets out.

use std::process::Stdio;

use oxbull::{JobState, Queue};
use oxbull_instagram_simulator::{Fault, Simulator, SimulatorOptions};
use oxbull_testkit::TestResult;
use oxbull_workers::graph::Cooldowns;
use oxbull_workers::graph::{AccountId, LimitScope};
use oxbull_workers::jobs::post_publishing::{QUEUE, options};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::support::{
    LATER, RedisFixture, Subscriber, TOKEN, publisher, publisher_process, reaches,
};

fn post(account: &str, number: usize) -> Value {
    json!({
        "postId": format!("{account}-{number}"),
        "userId": account,
        "accountId": account,
        "imageUrl": "https://cdn.example/shoes.jpg",
        "caption": format!("Shoes {number}"),
    })
}

/// All publishers respect an account's limit that one of them found: its posts are postponed without
/// an attempt or a request, and the other accounts' posts, though they were added
/// later, are published meanwhile.
#[tokio::test]
async fn throttled_account_holds_up_no_other() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let subscriber = Subscriber::open(&redis.server).await?;
    simulator.arm(Fault::rate_limit(LATER).account("limited"));
    let queue: Queue<Value> = Queue::open(&redis.client, QUEUE).await?;
    let mut limited = Vec::new();
    let mut free = Vec::new();
    for account in ["limited", "quiet", "busy"] {
        for number in 0..6 {
            let added = queue
                .add_with("publish", &post(account, number), options())
                .await?;
            if account == "limited" {
                limited.push(added.id);
            } else {
                free.push(added.id);
            }
        }
    }
    let url = redis.server.url();
    let mut publishers = [
        publisher_process(&url, simulator.url(), "bull")?,
        publisher_process(&url, simulator.url(), "bull")?,
    ];
    for id in &free {
        let job = reaches(&queue, id, JobState::Completed).await?;
        assert_eq!(job.attempts_made, 1);
    }
    for id in &limited {
        let job = reaches(&queue, id, JobState::Delayed).await?;
        assert_eq!(job.attempts_made, 0);
    }
    // Each publisher, with one job at a time, may have asked before it knew of the limit.
    let asked = simulator.counters().accounts["limited"];
    assert!((1..=2).contains(&asked), "{asked}");
    assert_eq!(simulator.published().len(), free.len());

    simulator.disarm();
    let cooldowns = Cooldowns::new(redis.client.clone());
    let account = AccountId::new("limited")?;
    assert!(cooldowns.end(LimitScope::Account, &account).await?);
    for id in &limited {
        queue.promote(id).await?;
    }
    for id in &limited {
        let job = reaches(&queue, id, JobState::Completed).await?;
        assert_eq!(job.attempts_made, 1);
    }
    for account in ["limited", "quiet", "busy"] {
        let posts = simulator.published();
        assert_eq!(
            posts.iter().filter(|post| post.account == account).count(),
            6
        );
        assert_eq!(subscriber.wait_for(account, 6).await?.len(), 6);
    }
    for publisher in &mut publishers {
        publisher.kill().await?;
    }
    redis.client.close().await;
    Ok(())
}

/// Logs are kept and read by many, and so are jobs: even the most verbose log, a failure reason
/// and a message to a user must not show a token.
#[tokio::test]
async fn tokens_show_nowhere() -> TestResult {
    let redis = RedisFixture::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let subscriber = Subscriber::open(&redis.server).await?;
    simulator.arm(Fault::error(400, 190).account("expired"));
    let queue: Queue<Value> = Queue::open(&redis.client, QUEUE).await?;
    let mut publisher = publisher(&redis.server.url(), simulator.url(), "bull")
        .env("RUST_LOG", "trace")
        .stderr(Stdio::piped())
        .spawn()?;
    let mut log = publisher.stderr.take().unwrap();
    let log = tokio::spawn(async move {
        let mut text = String::new();
        log.read_to_string(&mut text).await.map(|_| text)
    });
    let mut seen = Vec::new();
    for (account, end) in [
        ("expired", JobState::Failed),
        ("connected", JobState::Completed),
    ] {
        let id = queue.add("publish", &post(account, 1)).await?.id;
        seen.push(format!("{:?}", reaches(&queue, &id, end).await?));
        seen.push(format!("{:?}", subscriber.wait_for(account, 1).await?));
    }
    publisher.kill().await?;
    let log = log.await??;
    assert!(log.contains("graph request"), "the log is not verbose");
    seen.push(log);
    for text in seen {
        let found = text.lines().find(|line| line.contains(TOKEN));
        assert_eq!(found, None);
    }
    redis.client.close().await;
    Ok(())
}
