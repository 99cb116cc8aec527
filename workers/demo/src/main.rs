//! Runs the gateway and the three workers on sample input, against a private Redis and a simulated Graph API, and
//! checks that every job ended where it should.
//!
//! Exit code 0: every check passed. 1: a check failed or the demo could not run. 130: interrupted.

mod checks;
mod deliver;
mod fleet;
mod notices;
mod progress;
mod queues;
mod report;
mod samples;
mod shipped;
mod timings;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use oxbull_instagram_simulator::{Fault, MissingData, Operation, Simulator, SimulatorOptions};
use oxbull_workers::app::{LogFormat, init_logging};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use fleet::Fleet;
use notices::Listener;
use progress::ProgressDisplay;
use queues::Queues;
use report::say;
use samples::Samples;
use shipped::ShippedRedis;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// How often progress is looked at and shown.
const TICK: Duration = Duration::from_millis(250);

/// Runs the gateway and the workers on sample input, and checks where every job ended
#[derive(Debug, Parser)]
#[command(version, before_help = "Demo of the gateway and the workers")]
struct Arguments {
    /// Seconds that the workers get for all jobs
    #[arg(long, default_value_t = 90)]
    deadline: u64,
    /// Adds every sample this many times, with ids of their own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,
    /// Milliseconds that the simulated Graph API takes for every request
    #[arg(long, default_value_t = 20)]
    latency_ms: u64,
    /// Leaves the API's faults out
    #[arg(long)]
    no_faults: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if std::env::var_os("RUST_LOG").is_some() {
        init_logging(LogFormat::Text);
    }
    let ended = tokio::select! {
        ended = Box::pin(run(&arguments)) => ended,
        () = interrupted() => {
            // Dropping the run has killed the workers and the server.
            say("interrupted; everything is stopped");
            return ExitCode::from(130);
        }
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!(
                "the demo could not run: {}",
                report::chain(&*error)
            ));
            ExitCode::FAILURE
        }
    }
}

/// Returns at a signal to stop.
async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

async fn run(arguments: &Arguments) -> Outcome<bool> {
    let samples = Samples::load(arguments.times)?;
    let redis = ShippedRedis::start().await?;
    let simulator = start_simulator(arguments).await?;
    // One post of one account has no shares; some accounts have no profile views.
    if let Some(account) = samples.accounts.first() {
        let account = account.data.account_id.as_str();
        simulator.remove_data(account, MissingData::of_post(3, "shares"));
    }
    say(&format!(
        "private redis with the shipped users on port {}, graph api simulator at {}",
        redis.server.port(),
        simulator.url()
    ));
    let producer = redis.client("producer").await?;
    let mut added = Queues::open(&producer).await?.add(&samples).await?;
    producer.close().await;

    let client = redis.observer().await?;
    let queues = Queues::open(&client).await?;
    let listener = Listener::start(&redis.server).await?;
    let mut fleet = Fleet::start(&redis, simulator.url())?;
    say("started the three workers and the gateway");
    let delivered = deliver::send(fleet.gateway(), &samples.deliveries, client.clock()).await?;
    added.deliveries = delivered.jobs;
    say(&format!("added {}", added.summary()));
    let finished = watch(&queues, &added, &mut fleet, arguments).await?;
    // The report is printed even when a worker does not stop in time.
    let stopped = fleet.stop().await;
    match &stopped {
        Ok(()) => say("the workers have stopped"),
        Err(error) => say(&format!("FAILED  {}", report::chain(&**error))),
    }

    let snapshot = queues.read(&added, &samples).await?;
    report::print(&client, &snapshot).await?;
    let notices = listener.heard().await?;
    let passed = checks::run(
        &client,
        &samples,
        &snapshot,
        &simulator,
        &notices,
        delivered.repeats,
    )
    .await?;
    client.close().await;
    simulator.stop().await;
    drop(redis);
    Ok(passed && finished && stopped.is_ok())
}

async fn start_simulator(arguments: &Arguments) -> Outcome<Simulator> {
    let options = SimulatorOptions::new()
        .polls(2)
        .video_polls(4)
        .older_posts(12)
        .latency(Duration::from_millis(arguments.latency_ms));
    let simulator = Simulator::start(options).await?;
    if !arguments.no_faults {
        // Server errors, answers that are lost after the post is public, a limited account.
        simulator.arm(Fault::error(500, 2).on(Operation::CreateContainer).times(2));
        simulator.arm(Fault::lose_reply().on(Operation::Publish).times(2));
        simulator.arm(Fault::error(503, 2).on(Operation::Overview).times(2));
        simulator.arm(
            Fault::rate_limit(Duration::from_secs(1))
                .on(Operation::Overview)
                .times(2),
        );
    }
    Ok(simulator)
}

/// Shows progress until every job has ended; returns whether all had by the deadline.
async fn watch(
    queues: &Queues,
    added: &queues::AddedJobs,
    fleet: &mut Fleet,
    arguments: &Arguments,
) -> Outcome<bool> {
    let start = Instant::now();
    let deadline = start + Duration::from_secs(arguments.deadline);
    let mut tick = tokio::time::interval(TICK);
    say(
        "progress by queue: ended/total, active, delayed (with the refreshes scheduled for the next night)",
    );
    let mut display = ProgressDisplay::new();
    loop {
        tick.tick().await;
        fleet.check()?;
        let progress = queues.progress(added).await?;
        display.show(start.elapsed(), &progress.0);
        if progress.is_finished() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            say("the deadline has passed and jobs are left");
            return Ok(false);
        }
    }
}
