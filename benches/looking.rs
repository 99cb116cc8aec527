//! What looking at a queue costs Redis at a backlog of a million, and what the layout makes dear (`docs/performance.md`):
//! a row for each way to look, with the command whose usual call took longest, as Redis tells it. `OXBULL_SCALE` is how many
//! jobs there are.
#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports on its standard output"
)]
#![expect(
    clippy::expect_used,
    reason = "a condition of a search is a constant here"
)]

use std::time::Instant;

use oxbull::{Client, ClientConfig, Queue, QueuePosition};
use oxbull_testkit::{RedisServer, TestResult};

#[path = "../tests/faults/scale/rows.rs"]
mod rows;

use rows::{ROWS, Row, filled, lone};

/// What searches a list, because only that shows where an id stands and takes it out.
const SEARCHES: [(&str, Row); 3] = [
    ("priority of a waiting job", |q| {
        Box::pin(async move { Ok(q.change_priority("moved", 7, QueuePosition::Back).await?) })
    }),
    ("removal of a waiting job", |q| {
        Box::pin(async move {
            assert!(q.remove("removed").await?);
            Ok(())
        })
    }),
    ("removal of an orphan", |q| {
        Box::pin(async move {
            assert_eq!(q.remove_orphaned_jobs().run().await?.jobs, 1);
            Ok(())
        })
    }),
];

fn main() -> TestResult {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(look())
}

async fn look() -> TestResult {
    let server = RedisServer::start_with(&[
        "latency-tracking-info-percentiles 50 99 100",
        "slowlog-log-slower-than -1",
    ])
    .await?;
    let count = std::env::var("OXBULL_SCALE").map_or(Ok(1_000_000), |count| count.parse())?;
    filled(&server, count).await?;
    for id in ["only-waiting", "moved", "removed"] {
        lone(&server, id, count / 2).await?;
    }
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let queue: Queue = Queue::open(&client, "q").await?;
    println!("| looking | dearest command | calls | usual us | 99 % us | longest us |");
    for (row, run) in ROWS {
        let mut quietest: Option<(f64, String)> = None;
        // The machine has other work, and what Redis tells is time, not work: the quietest of some rounds counts.
        for _ in 0..5 {
            server.cli(&["CONFIG", "RESETSTAT"]).await?;
            let begin = Instant::now();
            run(&queue)
                .await
                .map_err(|error| format!("{row}: {error}"))?;
            let dearest = dearest(&server).await?;
            if quietest
                .as_ref()
                .is_none_or(|(longest, _)| dearest.0 < *longest)
            {
                quietest = Some(dearest);
            }
            if begin.elapsed().as_secs() > 5 {
                break;
            }
        }
        println!("| {row} | {} |", quietest.unwrap_or_default().1);
    }
    let orphan = ["HSET", "bull:q:orphan", "name", "n"];
    server.cli(&orphan).await?;
    for (row, run) in SEARCHES {
        server.cli(&["CONFIG", "RESETSTAT"]).await?;
        run(&queue)
            .await
            .map_err(|error| format!("{row}: {error}"))?;
        println!("| {row} | {} |", dearest(&server).await?.1);
    }
    Ok(())
}

/// The command whose usual call took longest: its times as a row, and how long its longest call took, in microseconds.
async fn dearest(server: &RedisServer) -> TestResult<(f64, String)> {
    let calls = server.info("commandstats").await?;
    let mut dearest = (0.0, 0.0, String::new());
    for (name, times) in server.info("latencystats").await? {
        let name = name
            .trim_start_matches("latency_percentiles_usec_")
            .to_owned();
        let times: Vec<f64> = times
            .split(',')
            .filter_map(|one| one.split('=').nth(1)?.parse().ok())
            .collect();
        let [usual, most, longest] = times[..] else {
            continue;
        };
        let calls = calls.get(&format!("cmdstat_{name}"));
        let calls = calls.and_then(|stats| stats.split(['=', ',']).nth(1));
        let calls = calls.unwrap_or_default();
        let beside = ["info", "config|resetstat"].contains(&name.as_str());
        if !beside && usual > dearest.0 {
            let name = name.to_uppercase();
            let line = format!("`{name}` | {calls} | {usual:.0} | {most:.0} | {longest:.0}");
            dearest = (usual, longest, line);
        }
    }
    Ok((dearest.1, dearest.2))
}
