//! A simulator and one account to ask it as.

use std::time::Duration;

use oxbull_workers::graph::{AccessToken, AccountApi, AccountId, GraphClient, GraphOptions};
use oxbull_workers::simulator::{Simulator, SimulatorOptions};

pub(crate) type TestResult = Result<(), Box<dyn std::error::Error>>;

pub(crate) const ACCOUNT: &str = "17841405822304914";

pub(crate) struct Fixture {
    pub(crate) simulator: Simulator,
    graph: GraphClient,
    account: AccountId,
    token: AccessToken,
}

impl Fixture {
    pub(crate) async fn start() -> Result<Self, Box<dyn std::error::Error>> {
        Self::with(SimulatorOptions::new(), Duration::from_secs(10)).await
    }

    pub(crate) async fn with(
        options: SimulatorOptions,
        deadline: Duration,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let simulator = Simulator::start(options).await?;
        let graph = GraphClient::new(&GraphOptions::new(simulator.url()).deadline(deadline))?;
        Ok(Self {
            simulator,
            graph,
            account: AccountId::new(ACCOUNT)?,
            token: AccessToken::new("s3cret-token"),
        })
    }

    pub(crate) fn api(&self) -> AccountApi<'_> {
        self.graph.account(&self.account, &self.token)
    }
}
