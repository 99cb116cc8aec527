//! A local stand-in for the Instagram Graph API, for tests, the demo and trying things out.
//!
//! It keeps containers and posts as the API does: a new container is in progress for some polls,
//! then finished; it is published at most once, a carousel only of finished children. Media of kinds
//! that the API does not take fails as it does there. Accounts and posts have numbers, which depend
//! on their ids alone and can be taken away ([`MissingData`]). It counts requests and can be made to be
//! slow, to fail, to lose replies and to limit rates, by [`Fault`]s, from Rust or over HTTP:
//!
//! | request | answer |
//! |---|---|
//! | `POST /_simulator/faults` with a [`Fault`] as JSON | arms it |
//! | `DELETE /_simulator/faults` | disarms all |
//! | `GET /_simulator/counters` | [`Counters`] |
//! | `GET /_simulator/published` | the list of [`PublishedPost`]s |
//!
//! What it learned of the API's behaviour since, off until it is switched on:
//!
//! | behaviour | switch | source, date |
//! |---|---|---|
//! | a token works for its own account; any other, and one of the other login's host, is answered 190 "Cannot parse access token" | [`Simulator::add_token`], [`Simulator::revoke_tokens`] | Meta's webhooks set-up page, 20 Oct 2026; public reports |
//! | `GET /refresh_access_token` takes its token from the query; whether the header is enough is documented nowhere | [`Simulator::refresh_tokens_by_query`] | the same |
//! | `GET /refresh_access_token` gives another token for 60 days, and the old one stays right | [`Simulator::add_token`] | Meta's page on Instagram Login, by the copy of Oct 2026 |
//! | a container or post that exists cannot be seen (100/33) and can be published all the same | [`Fault::hidden`] | postiz-app #1562, events-tracker #1900 (23 May 2026) |
//! | a request to publish is executed and answered with an error, such as 4/2207051; status and posts show it later | [`Fault::executed`] | postiz-app #1681 (6 Jul 2026) |
//! | errors have a text of their own and one for users (`error_user_msg`) | [`Fault::text`], [`Fault::user_message`] | Instagram Platform, Error Codes (2 Jun 2026) |
//!
//! ```
//! use oxbull_instagram_simulator::{Fault, Operation, Simulator, SimulatorOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let simulator = Simulator::start(SimulatorOptions::new().polls(2)).await?;
//! simulator.arm(Fault::error(500, 2).on(Operation::Publish).times(1));
//! println!("listening on {}", simulator.url());
//! assert_eq!(simulator.published().len(), 0);
//! simulator.stop().await;
//! # Ok(())
//! # }
//! ```

mod breakpoints;
mod faults;
mod fields;
mod insights;
mod replies;
mod routes;
mod simulation;
mod store;
mod tokens;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use breakpoints::{Moment, PausedRequest};
pub use faults::{Effect, Fault, Operation};
pub use insights::MissingData;
pub use simulation::Counters;
pub use store::{ContainerOutcome, PublishedPost};

use breakpoints::Breakpoint;
use simulation::Simulation;

/// The API version in the simulator's base URL.
const VERSION: &str = "v23.0";

/// How long requests under way may take once the simulator is stopping.
const GRACE: Duration = Duration::from_millis(500);

/// How a simulator behaves when no fault is armed.
#[derive(Debug, Clone)]
pub struct SimulatorOptions {
    address: SocketAddr,
    polls: u32,
    video_polls: Option<u32>,
    latency: Duration,
    rate: Option<Rate>,
    application_rate: Option<Rate>,
    quota: Option<u64>,
    older_posts: usize,
    foreign_usage: bool,
    caption_length: Option<usize>,
}

/// Requests accepted in a window of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) requests: u32,
    pub(crate) window: Duration,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            polls: 1,
            video_polls: None,
            latency: Duration::ZERO,
            rate: None,
            application_rate: None,
            quota: None,
            older_posts: 0,
            foreign_usage: false,
            caption_length: None,
        }
    }
}

impl SimulatorOptions {
    /// A free port on loopback, one poll until a container is finished, no latency, no limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the address to listen on.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Sets how many status requests find a new container still in progress.
    #[must_use]
    pub fn polls(mut self, polls: u32) -> Self {
        self.polls = polls;
        self
    }

    /// Sets the same for videos, which take longer. Default: as for images.
    #[must_use]
    pub fn video_polls(mut self, polls: u32) -> Self {
        self.video_polls = Some(polls);
        self
    }

    /// Sets how many posts each account may publish. Default: 100.
    #[must_use]
    pub fn publishing_quota(mut self, posts: u64) -> Self {
        self.quota = Some(posts);
        self
    }

    /// Shows posts with their captions cut to this many characters, as the API changes some captions.
    #[must_use]
    pub fn caption_length(mut self, characters: usize) -> Self {
        self.caption_length = Some(characters);
        self
    }

    /// Sets how long every request takes at least.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Limits each account to a number of requests per window, with usage headers on every answer.
    #[must_use]
    pub fn rate(mut self, requests: u32, window: Duration) -> Self {
        self.rate = Some(Rate { requests, window });
        self
    }

    /// Limits all accounts together, with usage headers of the application on every answer.
    #[must_use]
    pub fn application_rate(mut self, requests: u32, window: Duration) -> Self {
        self.application_rate = Some(Rate { requests, window });
        self
    }

    /// Reports on every answer that another account and another product of the token are blocked, as the
    /// header does for a system user's token (Graph API, Rate Limits; read 2 Jun 2026). Default: no.
    #[must_use]
    pub fn foreign_usage(mut self) -> Self {
        self.foreign_usage = true;
        self
    }

    /// Sets how many posts each account had before the simulator started. Default: none.
    #[must_use]
    pub fn older_posts(mut self, posts: usize) -> Self {
        self.older_posts = posts;
        self
    }
}

/// A running simulator. Dropping it stops it; [`Simulator::stop`] waits until it has.
#[derive(Debug)]
pub struct Simulator {
    url: String,
    simulation: Arc<Simulation>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Simulator {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(options: SimulatorOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(options.address).await?;
        let url = format!("http://{}/{VERSION}", listener.local_addr()?);
        let simulation = Arc::new(Simulation::new(options));
        let stopping = CancellationToken::new();
        let tasks = TaskTracker::new();
        let router = routes::router(Arc::clone(&simulation));
        let stop = stopping.clone();
        tasks.spawn(async move {
            let serving = axum::serve(listener, router)
                .with_graceful_shutdown(stop.clone().cancelled_owned());
            // Requests that wait for a slow answer get a moment, then lose the connection.
            let over = async {
                stop.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                served = serving => {
                    if let Err(error) = served {
                        tracing::error!(%error, "simulator stopped listening");
                    }
                }
                () = over => {}
            }
        });
        tasks.close();
        Ok(Self {
            url,
            simulation,
            stopping,
            tasks,
        })
    }

    /// The base URL of the API, with its version.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Arms a fault; of several that match a request, the one armed first takes effect.
    pub fn arm(&self, fault: Fault) {
        self.simulation.arm(fault);
    }

    /// Disarms all faults.
    pub fn disarm(&self) {
        self.simulation.disarm();
    }

    /// Pauses the `nth` request of an account from now on, counted from 1, until the [`PausedRequest`] is
    /// dropped.
    pub fn pause_request(&self, account: &str, nth: u32, moment: Moment) -> PausedRequest {
        let (breakpoint, hold) = Breakpoint::new(account, nth, moment);
        self.simulation.add_breakpoint(breakpoint);
        hold
    }

    /// Takes numbers away from an account or one of its posts.
    pub fn remove_data(&self, account: &str, missing: MissingData) {
        self.simulation.remove_data(account, missing);
    }

    /// Makes a token right for an account. From the first one on, every other token is refused.
    pub fn add_token(&self, account: &str, token: &str) {
        self.simulation.tokens(|tokens| tokens.add(account, token));
    }

    /// Refreshes tokens only where the query has them, not the header.
    pub fn refresh_tokens_by_query(&self) {
        self.simulation.tokens(tokens::Tokens::refresh_by_query);
    }

    /// Makes every token of an account wrong.
    pub fn revoke_tokens(&self, account: &str) {
        self.simulation.tokens(|tokens| tokens.revoke(account));
    }

    /// What has been asked so far.
    pub fn counters(&self) -> Counters {
        self.simulation.counters()
    }

    /// What has been published so far, in order.
    pub fn published(&self) -> Vec<PublishedPost> {
        self.simulation.published()
    }

    /// Stops listening and returns once it has.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}
