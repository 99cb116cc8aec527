//! One private Redis for all scenarios, and what each test needs to play on it.

use std::sync::{Arc, LazyLock, Mutex};

use futures::future::BoxFuture;
use oxbull::{Client, ClientConfig};
use oxbull_testkit::{BullMq, NodePeer, RedisServer, TestResult};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::cast::{ALL, Cast, OWN, REFERENCE};
use crate::player::{Played, Player};

/// Tests share the server and the peers, so all of them live on one runtime.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
/// Stages that no test plays on at the moment.
static FREE: Mutex<Vec<Arc<Stage>>> = Mutex::new(Vec::new());

/// A Node process and a client, each with a clock that the scenario sets.
pub(crate) struct Stage {
    pub(crate) peer: Arc<NodePeer>,
    pub(crate) client: Client,
    pub(crate) server: &'static RedisServer,
}

impl Stage {
    async fn take() -> TestResult<Arc<Self>> {
        let free = FREE.lock().unwrap().pop();
        if let Some(stage) = free {
            return Ok(stage);
        }
        let server = SERVER.get_or_try_init(RedisServer::start).await?;
        Ok(Arc::new(Self {
            peer: Arc::new(NodePeer::bullmq(BullMq::V6, server.port()).await?),
            client: Client::connect(ClientConfig::from_url(&server.url())?).await?,
            server,
        }))
    }
}

/// A scenario: steps and assertions over whoever plays.
pub(crate) type Scenario = for<'a> fn(&'a mut Player) -> BoxFuture<'a, TestResult>;

/// Plays a scenario with every cast and compares what they leave with what BullMQ leaves.
pub(crate) fn everyone(name: &str, scenario: Scenario) {
    perform_all(name, scenario, Some(REFERENCE), &ALL);
}

/// Plays a scenario with this library alone, for behaviour that differs on purpose.
pub(crate) fn own(name: &str, scenario: Scenario) {
    perform_all(name, scenario, None, &[OWN]);
}

fn perform_all(name: &str, scenario: Scenario, reference: Option<Cast>, casts: &[Cast]) {
    RUNTIME.block_on(async {
        let stage = Stage::take().await.unwrap();
        let reference = match reference {
            Some(cast) => Some(perform(&stage, name, scenario, cast).await),
            None => None,
        };
        for cast in casts {
            let played = perform(&stage, name, scenario, *cast).await;
            if let Some(reference) = &reference {
                played.assert_parity(reference);
            }
        }
        FREE.lock().unwrap().push(stage);
    });
}

async fn perform(stage: &Arc<Stage>, name: &str, scenario: Scenario, cast: Cast) -> Played {
    let run = async {
        let mut player = Player::new(Arc::clone(stage), name, cast).await?;
        let outcome = scenario(&mut player).await;
        let played = player.finish().await?;
        outcome.map_err(|error| format!("{error}\nsteps taken:\n{}", played.steps()))?;
        TestResult::Ok(played)
    };
    match run.await {
        Ok(played) => played,
        Err(error) => panic!("{name}, played by {}: {error}", cast.name),
    }
}

/// Runs a test that needs the peer alone.
pub(crate) fn with_stage<F>(test: impl FnOnce(Arc<Stage>) -> F)
where
    F: Future<Output = TestResult>,
{
    RUNTIME.block_on(async {
        let stage = Stage::take().await.unwrap();
        if let Err(error) = test(Arc::clone(&stage)).await {
            panic!("{error}");
        }
        FREE.lock().unwrap().push(stage);
    });
}

/// Makes each of the named scenarios a test that is played by every cast.
macro_rules! play {
    ($how:ident: $($scenario:ident),* $(,)?) => {
        mod $how {
            $(
                #[test]
                fn $scenario() {
                    crate::stage::$how(
                        concat!(module_path!(), ".", stringify!($scenario)),
                        |player| Box::pin(super::$scenario(player)),
                    );
                }
            )*
        }
    };
}
pub(crate) use play;
