//! Jobs that repeat: previewed, stored, run and removed.
//!
//! ```sh
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example schedules
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::Duration;

use oxbull::{
    CatchUp, Client, Job, JobOptions, NewJob, Overlap, Queue, Schedule, SchedulerOrder, Timestamp,
};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> oxbull::Result<()> {
    // No Redis is needed to see what a schedule will do. Clocks go forward in Madrid on 28 March 2027.
    let nightly = Schedule::cron("30 2 * * *")
        .time_zone("Europe/Madrid")
        .overlap(Overlap::Skip)
        .catch_up(CatchUp::All);
    let noon = Timestamp::from_millis(1_806_145_200_000); // 2027-03-27 11:00 UTC
    for run in nightly.preview(noon, 3)? {
        println!("nightly report at {} ms", run.as_millis());
    }

    let client = Client::from_env().await?;
    let reports: Queue<String> = Queue::open(&client, "example-reports").await?;
    let template = NewJob::new("report", "all".to_owned()).options(JobOptions::new().attempts(3));
    reports
        .upsert_scheduler("nightly", &nightly, template)
        .await?;

    // Three runs, half a second apart. A second upsert under this id would replace the schedule.
    let often = Schedule::every(Duration::from_millis(500)).limit(3);
    let template = NewJob::new("tick", "now".to_owned());
    reports.upsert_scheduler("often", &often, template).await?;
    for scheduler in reports
        .schedulers(0, -1, SchedulerOrder::SoonestFirst)
        .await?
    {
        println!("scheduler {}: next run {:?}", scheduler.id, scheduler.next);
    }

    let (ran, mut runs) = mpsc::unbounded_channel();
    let worker = reports
        .worker()
        .start(move |job: Job<String>| {
            let ran = ran.clone();
            async move { ran.send(job.id().to_string()) }
        })
        .await?;
    for _ in 0..3 {
        let id = runs.recv().await.unwrap_or_default();
        println!("ran {id}");
    }
    worker.close().await;

    for id in ["often", "nightly"] {
        println!("{id} removed: {}", reports.remove_scheduler(id).await?);
    }
    client.close().await;
    Ok(())
}
