//! One private Redis for all scenarios, and what each test needs to run on it.

use std::sync::{Arc, LazyLock, Mutex};

use futures::future::BoxFuture;
use oxbull::{Client, ClientConfig};
use oxbull_testkit::{BullMq, NodePeer, RedisServer, TestResult};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::driver::{Driver, Trace};
use crate::roles::{ALL, OWN, REFERENCE, Roles};

/// Tests share the server and the peers, so all of them live on one runtime.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
/// Fixtures that no test uses at the moment.
static FREE: Mutex<Vec<Arc<Fixture>>> = Mutex::new(Vec::new());

/// A Node process and a client, each with a clock that the scenario sets.
pub(crate) struct Fixture {
    pub(crate) peer: Arc<NodePeer>,
    pub(crate) client: Client,
    pub(crate) server: &'static RedisServer,
}

impl Fixture {
    async fn take() -> TestResult<Arc<Self>> {
        let free = FREE.lock().unwrap().pop();
        if let Some(fixture) = free {
            return Ok(fixture);
        }
        let server = SERVER.get_or_try_init(RedisServer::start).await?;
        Ok(Arc::new(Self {
            peer: Arc::new(NodePeer::bullmq(BullMq::V6, server.port()).await?),
            client: Client::connect(ClientConfig::from_url(&server.url())?).await?,
            server,
        }))
    }
}

/// A scenario: steps and assertions over any assignment of roles.
pub(crate) type Scenario = for<'a> fn(&'a mut Driver) -> BoxFuture<'a, TestResult>;

/// Runs a scenario with all roles and compares what they leave with what BullMQ leaves.
pub(crate) fn everyone(name: &str, scenario: Scenario) {
    run_all(name, scenario, Some(REFERENCE), &ALL);
}

/// Runs a scenario with this library alone, for behaviour that differs on purpose.
pub(crate) fn own(name: &str, scenario: Scenario) {
    run_all(name, scenario, None, &[OWN]);
}

fn run_all(name: &str, scenario: Scenario, reference: Option<Roles>, assignments: &[Roles]) {
    RUNTIME.block_on(async {
        let fixture = Fixture::take().await.unwrap();
        let reference = match reference {
            Some(roles) => Some(run(&fixture, name, scenario, roles).await),
            None => None,
        };
        for roles in assignments {
            let trace = run(&fixture, name, scenario, *roles).await;
            if let Some(reference) = &reference {
                trace.assert_parity(reference);
            }
        }
        FREE.lock().unwrap().push(fixture);
    });
}

async fn run(fixture: &Arc<Fixture>, name: &str, scenario: Scenario, roles: Roles) -> Trace {
    let run = async {
        let mut driver = Driver::new(Arc::clone(fixture), name, roles).await?;
        let outcome = scenario(&mut driver).await;
        let trace = driver.finish().await?;
        outcome.map_err(|error| format!("{error}\nsteps taken:\n{}", trace.steps()))?;
        TestResult::Ok(trace)
    };
    match run.await {
        Ok(trace) => trace,
        Err(error) => panic!("{name}, with {}: {error}", roles.name),
    }
}

/// Runs a test that needs the peer alone.
pub(crate) fn with_fixture<F>(test: impl FnOnce(Arc<Fixture>) -> F)
where
    F: Future<Output = TestResult>,
{
    RUNTIME.block_on(async {
        let fixture = Fixture::take().await.unwrap();
        if let Err(error) = test(Arc::clone(&fixture)).await {
            panic!("{error}");
        }
        FREE.lock().unwrap().push(fixture);
    });
}

/// Makes each of the named scenarios a test that runs with all roles.
macro_rules! scenarios {
    ($how:ident: $($scenario:ident),* $(,)?) => {
        mod $how {
            $(
                #[test]
                fn $scenario() {
                    crate::fixture::$how(
                        concat!(module_path!(), ".", stringify!($scenario)),
                        |driver| Box::pin(super::$scenario(driver)),
                    );
                }
            )*
        }
    };
}
pub(crate) use scenarios;
