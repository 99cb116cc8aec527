//! The notices to users, as a backend's WebSocket server receives them.

use std::collections::HashSet;

use oxbull_testkit::{Connection, RedisServer};
use oxbull_workers::jobs::post_publishing::PostNotice;
use oxbull_workers::notify::channel;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Outcome;

/// How many users received which notice.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    pub(crate) published: usize,
    pub(crate) failed: usize,
    /// Notices that were repeated.
    pub(crate) repeated: usize,
}

/// Listens on every user's channel.
#[derive(Debug)]
pub(crate) struct Listener {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Notices>,
}

impl Listener {
    pub(crate) async fn start(redis: &RedisServer) -> Outcome<Self> {
        let mut connection = redis.connect().await?;
        connection.send(&["PSUBSCRIBE", &channel("*")]).await?;
        connection.receive().await?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(listen(connection, stopped));
        Ok(Self { stop, task })
    }

    /// The notices received; none is published any more.
    pub(crate) async fn heard(self) -> Outcome<Notices> {
        // It ends by itself only when the server is gone.
        self.stop.send(()).ok();
        Ok(self.task.await?)
    }
}

async fn listen(mut connection: Connection, mut stopped: oneshot::Receiver<()>) -> Notices {
    let mut told = Notices::default();
    let mut seen = HashSet::new();
    loop {
        let message = tokio::select! {
            biased;
            message = connection.receive() => message,
            _ = &mut stopped => return told,
        };
        let Ok(message) = message else { return told };
        let texts = message.texts();
        let Some(text) = texts.last() else { continue };
        let post = match serde_json::from_str(text) {
            Ok(PostNotice::Published { post_id, .. }) => {
                told.published += 1;
                Some(post_id)
            }
            Ok(PostNotice::Failed { post_id, .. }) => {
                told.failed += 1;
                post_id
            }
            Err(_) => continue,
        };
        if !seen.insert(post) {
            told.repeated += 1;
        }
    }
}
