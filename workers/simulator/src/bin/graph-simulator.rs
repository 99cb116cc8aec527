//! Runs the Graph API simulator until a signal stops it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use oxbull_instagram_simulator::{Fault, Simulator, SimulatorOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Serves a local stand-in for the Instagram Graph API, with faults on request
#[derive(Debug, Parser)]
#[command(version, before_help = "Instagram Graph API simulator")]
struct Arguments {
    /// Address to listen on
    #[arg(long, env = "SIMULATOR_ADDRESS", default_value = "127.0.0.1:4010")]
    address: SocketAddr,
    /// Status requests that find a new container still in progress
    #[arg(long, env = "SIMULATOR_POLLS", default_value_t = 2)]
    polls: u32,
    /// The same for videos; as for images when absent
    #[arg(long, env = "SIMULATOR_VIDEO_POLLS")]
    video_polls: Option<u32>,
    /// Posts that each account may publish
    #[arg(long, env = "SIMULATOR_QUOTA", default_value_t = 100)]
    quota: u64,
    /// Milliseconds that every request takes at least
    #[arg(long, env = "SIMULATOR_LATENCY_MS", default_value_t = 50)]
    latency_ms: u64,
    /// Requests a minute accepted per account; no limit when absent
    #[arg(long, env = "SIMULATOR_RATE")]
    rate: Option<u32>,
    /// Requests a minute accepted for all accounts together; no limit when absent
    #[arg(long, env = "SIMULATOR_APPLICATION_RATE")]
    application_rate: Option<u32>,
    /// Posts that each account has had before
    #[arg(long, env = "SIMULATOR_OLDER_POSTS", default_value_t = 12)]
    older_posts: usize,
    /// Faults to arm at start, each as JSON, such as
    /// '{"operation":"publish","times":3,"effect":{"error":{"status":500,"code":2}}}'
    #[arg(long, value_parser = fault)]
    fault: Vec<Fault>,
}

fn fault(text: &str) -> Result<Fault, serde_json::Error> {
    serde_json::from_str(text)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> std::io::Result<()> {
    let mut options = SimulatorOptions::new()
        .address(arguments.address)
        .polls(arguments.polls)
        .video_polls(arguments.video_polls.unwrap_or(arguments.polls))
        .publishing_quota(arguments.quota)
        .older_posts(arguments.older_posts)
        .latency(Duration::from_millis(arguments.latency_ms));
    if let Some(requests) = arguments.rate {
        options = options.rate(requests, Duration::from_secs(60));
    }
    if let Some(requests) = arguments.application_rate {
        options = options.application_rate(requests, Duration::from_secs(60));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let simulator = Simulator::start(options).await?;
    for fault in arguments.fault {
        simulator.arm(fault);
    }
    tracing::info!(url = simulator.url(), "listening");
    tokio::select! {
        result = tokio::signal::ctrl_c() => result?,
        _ = terminate.recv() => {}
    }
    let counters = simulator.counters();
    tracing::info!(?counters, "stopping");
    simulator.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Arguments;

    /// The help opens with the program's own title and purpose, not with the package's description.
    #[test]
    fn help_opens_with_what_the_simulator_does() {
        let help = Arguments::command().render_help().to_string();
        let opening = "Instagram Graph API simulator\n\nServes a local stand-in";
        assert!(help.starts_with(opening), "{help}");
    }
}
