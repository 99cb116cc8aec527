//! Publishes scheduled posts: the worker of the queue `post-publishing`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use oxbull::Queue;
use oxbull_workers::app::{self, Program, StartError, WorkerSettings};
use oxbull_workers::graph::GraphSettings;
use oxbull_workers::jobs::post_publishing::{
    PublishLimits, Publisher, QUEUE, handle, watch_failures,
};
use oxbull_workers::upkeep::{self, FileUpkeep, RefreshSettings};

/// Publishes scheduled posts on Instagram
#[derive(Debug, Parser)]
#[command(version, before_help = "Worker of the queue post-publishing")]
struct Arguments {
    #[command(flatten)]
    worker: WorkerSettings,
    #[command(flatten)]
    graph: GraphSettings,
    #[command(flatten)]
    tokens: RefreshSettings,
    #[command(flatten)]
    waits: Waits,
}

/// Waiting for the API, in milliseconds. None of it uses an attempt.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Waiting for the API")]
#[expect(clippy::struct_field_names, reason = "they name the flags")]
struct Waits {
    /// The first wait for a container; each further one is twice as long
    #[arg(long, env = "CONTAINER_POLL_MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..))]
    container_poll_ms: u64,
    /// The longest wait for a container
    #[arg(long, env = "CONTAINER_POLL_MAX_MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(1..))]
    container_poll_max_ms: u64,
    /// How long an attempt waits for its containers in all
    #[arg(long, env = "CONTAINER_DEADLINE_MS", default_value_t = 1_800_000, value_parser = clap::value_parser!(u64).range(1..))]
    container_deadline_ms: u64,
    /// How long a request to publish without an answer may still be on its way [default: twice
    /// `GRAPH_DEADLINE`, which it should not be below]
    #[arg(long, env = "PUBLISH_SETTLE_MS")]
    publish_settle_ms: Option<u64>,
    /// How long a post that may be public is looked for before a failure is final
    #[arg(long, env = "PUBLISH_DOUBT_MS", default_value_t = 600_000, value_parser = clap::value_parser!(u64).range(1..))]
    publish_doubt_ms: u64,
    /// How long a container that the API does not show is waited for before it is used without its status
    #[arg(long, env = "CONTAINER_HIDDEN_MS", default_value_t = 120_000, value_parser = clap::value_parser!(u64).range(1..))]
    container_hidden_ms: u64,
    /// How long an account waits whose publishing quota is used up
    #[arg(long, env = "PUBLISHING_QUOTA_WAIT_MS", default_value_t = 900_000, value_parser = clap::value_parser!(u64).range(1..))]
    publishing_quota_wait_ms: u64,
    /// How long limits of the API may postpone a post before it fails
    #[arg(long, env = "POSTPONE_MAX_MS", default_value_t = 86_400_000, value_parser = clap::value_parser!(u64).range(1..))]
    postpone_max_ms: u64,
}

impl Waits {
    /// The limits for requests with this deadline.
    fn limits(&self, deadline: Duration) -> PublishLimits {
        let enough = deadline.saturating_mul(2);
        let settle = self.publish_settle_ms.map(Duration::from_millis);
        if let Some(settle) = settle.filter(|settle| *settle < enough) {
            tracing::warn!(
                ?settle,
                ?enough,
                "PUBLISH_SETTLE_MS is below twice GRAPH_DEADLINE"
            );
        }
        PublishLimits {
            first_wait: Duration::from_millis(self.container_poll_ms),
            longest_wait: Duration::from_millis(self.container_poll_max_ms),
            processing: Duration::from_millis(self.container_deadline_ms),
            settle: settle.unwrap_or(enough),
            doubt: Duration::from_millis(self.publish_doubt_ms),
            hidden: Duration::from_millis(self.container_hidden_ms),
            quota_wait: Duration::from_millis(self.publishing_quota_wait_ms),
            postpone_max: Duration::from_millis(self.postpone_max_ms),
            ..PublishLimits::default()
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = app::settings(|these: &Arguments| these.worker.log_format());
    app::exit_code(run(&arguments).await)
}

async fn run(arguments: &Arguments) -> Result<(), StartError> {
    let graph = arguments.graph.client()?;
    let sources = arguments.graph.tokens()?;
    let program = Program::start(QUEUE, &arguments.worker).await?;
    let client = program.client().clone();
    let tokens = sources.connect(&client);
    let file = FileUpkeep::new(&tokens, program.problems())?;
    let deadline = arguments.graph.deadline();
    let refresher = arguments
        .tokens
        .refresher(&client, &tokens, &graph, deadline);
    let publisher = Publisher {
        graph,
        tokens,
        limits: arguments.waits.limits(deadline),
    };
    let queue = Queue::builder(&client, QUEUE)
        .prefix(arguments.worker.prefix())
        .open()
        .await?;
    let worker = program
        .worker(&arguments.worker, 10)
        .state(publisher)
        .start(handle)
        .await?;
    let problems = program.problems().clone();
    let failures = watch_failures(worker.events(), client, queue, problems);
    let beside = async {
        tokio::select! {
            () = failures => {}
            () = upkeep::run(file, refresher) => {}
        }
    };
    program.run(worker, &arguments.worker, beside).await
}
