//! A connection to a cluster: one to each node that is used, and each request over that of its key's node.
//!
//! What the nodes answer about moved slots is followed here, and nowhere else:
//!
//! | answer | what is done |
//! |---|---|
//! | MOVED | noted, and sent to the named node; the whole map is asked for in the background |
//! | ASK | sent to the named node behind ASKING. A script that computes keys waits instead, until its slot has moved: between two nodes, each has a part of the keys only |
//! | TRYAGAIN, CLUSTERDOWN | sent again after a wait |
//! | READONLY, no connection | the map is asked for, and it is sent again after a wait |
//!
//! All of it ends with the deadline of the request, and none of it was executed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::{CallError, Classified, LostReply, Redirect, Repeat, classify};
use super::config::Address;
use super::connect::{ConnectionOptions, Settings};
use super::generation::Generation;
use super::link::Connection;
use super::request::RequestAttempt;
use super::retry::jittered;
use super::slots::{SlotMap, slot_of};
use crate::error::{Error, Result};
use crate::resp::{Batch, Command, Value, key_of};

/// How long a node may be away before it is asked whether another one has its slots.
const PATIENCE: Duration = Duration::from_millis(250);
/// The wait before a request is sent again, after the first time.
const WAIT: Duration = Duration::from_millis(50);

/// The connections to the nodes of a cluster that one [`Connection`] consists of.
#[derive(Debug)]
pub(super) struct Cluster {
    settings: Arc<Settings>,
    options: ConnectionOptions,
    nodes: Mutex<HashMap<Address, Connection>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Cluster {
    /// Prepares the connections, where the settings are those of a cluster.
    pub(super) fn new(
        settings: &Arc<Settings>,
        options: &ConnectionOptions,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Option<Arc<Self>> {
        if settings.slots.is_none() || options.node.is_some() {
            return None;
        }
        Some(Arc::new(Self {
            settings: Arc::clone(settings),
            options: options.clone(),
            nodes: Mutex::default(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        }))
    }

    /// Returns the connection to a node; it is opened by its first request.
    pub(super) fn node(&self, address: &Address) -> Connection {
        let make = || {
            Connection::new(
                Arc::clone(&self.settings),
                ConnectionOptions {
                    node: Some(address.clone()),
                    ..self.options.clone()
                },
                self.stop.child_token(),
                self.tasks.clone(),
            )
        };
        self.nodes()
            .entry(address.clone())
            .or_insert_with(make)
            .clone()
    }

    /// Returns the connections to all nodes that have slots.
    pub(super) async fn owners(&self) -> Result<Vec<Connection>> {
        self.refresh().await?;
        let owners = self.slots().map(SlotMap::owners).unwrap_or_default();
        Ok(owners.iter().map(|address| self.node(address)).collect())
    }

    /// Returns the socket to the node that keeps the clock, if it is open.
    pub(super) fn current(&self) -> Option<Arc<Generation>> {
        let address = self.slots()?.owner(0)?;
        let node = self.nodes().get(&address).cloned();
        node?.current()
    }

    /// Returns a socket to the node of a slot, with what keeps it open.
    pub(super) async fn live(
        &self,
        slot: u16,
        until: Instant,
    ) -> Result<(Connection, Arc<Generation>)> {
        loop {
            let mut error = match self.slots().and_then(|slots| slots.owner(slot)) {
                None => Error::overloaded(format!("no node of the cluster has slot {slot}")),
                Some(address) => match self.reach(&address, until).await {
                    Ok(found) => return Ok(found),
                    Err(error @ Error::Unreachable(_)) => error,
                    // One that has left the cluster meanwhile is closed.
                    Err(error @ Error::Closed) if !self.stop.is_cancelled() => error,
                    Err(error) => return Err(error),
                },
            };
            match timeout_at(until, self.refresh()).await {
                Ok(Ok(())) => {}
                Ok(Err(refused @ (Error::Denied(_) | Error::Unsuitable(_)))) => {
                    return Err(refused);
                }
                Ok(Err(refused)) => error = refused,
                Err(_) => return Err(error),
            }
            if Instant::now() >= until {
                return Err(error);
            }
            sleep(jittered(WAIT)).await;
        }
    }

    /// Returns a socket to a node, unless that takes long.
    async fn reach(
        &self,
        address: &Address,
        until: Instant,
    ) -> Result<(Connection, Arc<Generation>)> {
        let node = self.node(address);
        let generation = node
            .live(until.min(Instant::now() + PATIENCE), Some(0))
            .await?;
        Ok((node, generation))
    }

    /// Asks for the slots, and gives up the connections to nodes that have none.
    pub(super) async fn refresh(&self) -> Result<()> {
        let Some(slots) = self.slots() else {
            return Ok(());
        };
        slots
            .refresh(&self.settings)
            .await
            .map_err(|error| error.to_error())?;
        let owners = slots.owners();
        self.nodes().retain(|address, _| owners.contains(address));
        if self.options.main
            && let Some(keeper) = slots.owner(0)
        {
            // The clock is measured over it, also where no queue uses it.
            let keeper = self.node(&keeper);
            if keeper.current().is_none() {
                self.tasks
                    .spawn(async move { keeper.live(Instant::now() + PATIENCE, None).await.ok() });
            }
        }
        Ok(())
    }

    /// Asks for the slots while the caller goes on.
    fn refresh_behind(self: &Arc<Self>) {
        let own = Arc::clone(self);
        self.tasks.spawn(async move { own.refresh().await.ok() });
    }

    fn slots(&self) -> Option<&SlotMap> {
        self.settings.slots.as_ref()
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<Address, Connection>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where one request goes.
pub(super) struct Route<'a> {
    cluster: &'a Arc<Cluster>,
    slot: u16,
    /// Whether another node may be asked while the slot moves.
    follows: bool,
    /// Held while its socket is in use.
    node: Option<Connection>,
    /// Who is to be asked next, out of turn.
    asking: Option<Address>,
    turns: u32,
}

impl<'a> Route<'a> {
    /// Finds the way of a command; those without a key go where the clock is.
    pub(super) fn of(cluster: &'a Arc<Cluster>, command: &[u8], follows: bool) -> Self {
        Self::to(cluster, key_of(command).map_or(0, slot_of), follows)
    }

    pub(super) fn to(cluster: &'a Arc<Cluster>, slot: u16, follows: bool) -> Self {
        Self {
            cluster,
            slot,
            follows,
            node: None,
            asking: None,
            turns: 0,
        }
    }

    /// Returns a socket to the node to ask.
    pub(super) async fn live(&mut self, until: Instant) -> Result<Arc<Generation>> {
        if let Some(address) = &self.asking {
            match self.cluster.reach(address, until).await {
                Ok((node, generation)) => {
                    self.node = Some(node);
                    return Ok(generation);
                }
                Err(_) => self.asking = None,
            }
        }
        let (node, generation) = self.cluster.live(self.slot, until).await?;
        self.node = Some(node);
        Ok(generation)
    }

    /// Sends a command over the socket that [`live`](Self::live) returned.
    pub(super) async fn send(
        &mut self,
        generation: &Generation,
        command: Bytes,
        deadline: Duration,
    ) -> Result<Value, LostReply> {
        if self.asking.is_none() {
            return generation.send(command, deadline).await;
        }
        let mut answers = self.send_all(generation, &[command], deadline).await?;
        answers
            .pop()
            .ok_or_else(|| LostReply::Broken("no answer".to_owned()))
    }

    /// Sends several.
    pub(super) async fn send_all(
        &mut self,
        generation: &Generation,
        commands: &[Bytes],
        deadline: Duration,
    ) -> Result<Vec<Value>, LostReply> {
        let step = if self.asking.take().is_some() { 2 } else { 1 };
        let mut bytes = BytesMut::new();
        for command in commands {
            if step == 2 {
                bytes.extend_from_slice(&Command::new("ASKING").encode());
            }
            bytes.extend_from_slice(command);
        }
        let count = commands.len() * step;
        let answers = generation.send_all(bytes.freeze(), count, deadline).await?;
        Ok(answers.into_iter().skip(step - 1).step_by(step).collect())
    }

    /// Decides where to go after an answer that says that this node does not have the key, and waits where
    /// nobody has it yet; false when the time is over.
    pub(super) async fn follow(
        &mut self,
        redirect: &Redirect,
        from: &Address,
        until: Instant,
    ) -> bool {
        self.turns += 1;
        match redirect.to(from) {
            Some((true, slot, address)) => {
                if let Some(slots) = self.cluster.slots() {
                    slots.learn(slot, address);
                }
                self.cluster.refresh_behind();
                if self.turns == 1 {
                    return true;
                }
            }
            Some((false, _, address)) if self.follows => {
                self.asking = Some(address);
                return Instant::now() < until;
            }
            _ => {
                if matches!(redirect, Redirect::Down) {
                    self.cluster.refresh_behind();
                }
            }
        }
        self.rest(until).await
    }

    /// Has the map asked for after a node could not serve.
    pub(super) async fn suspect(&mut self, until: Instant) {
        self.turns += 1;
        timeout_at(until, self.cluster.refresh()).await.ok();
        if self.turns > 1 {
            self.rest(until).await;
        }
    }

    async fn rest(&self, until: Instant) -> bool {
        sleep(jittered(WAIT * self.turns.min(5))).await;
        Instant::now() < until
    }
}

impl Connection {
    /// Returns the slot of a key on a cluster.
    pub(crate) fn slot(&self, key: &str) -> Option<u16> {
        self.cluster().map(|_| slot_of(key.as_bytes()))
    }

    /// Waits until the connection to a key's node is open.
    ///
    /// # Errors
    /// Why it is not, once this time has passed.
    pub(crate) async fn open_for(&self, key: &str, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        match self.cluster() {
            None => self.live(until, None).await.map(drop),
            Some(cluster) => cluster.live(slot_of(key.as_bytes()), until).await.map(drop),
        }
    }

    /// Returns the connections to all nodes that have keys: this one, or those of a cluster.
    pub(crate) async fn each(&self) -> Result<Vec<Self>> {
        match self.cluster() {
            None => Ok(vec![self.clone()]),
            Some(cluster) => cluster.owners().await,
        }
    }

    /// Returns the connection to one node.
    pub(super) fn at(&self, node: Option<&Address>) -> Self {
        match (self.cluster(), node) {
            (Some(cluster), Some(node)) => cluster.node(node),
            _ => self.clone(),
        }
    }
}

impl Connection {
    /// Sends several commands, each to the node of its key: [`pipeline`](Self::pipeline) over a cluster.
    pub(super) async fn pipeline_over(
        &self,
        cluster: &Arc<Cluster>,
        batch: &Batch,
        safety: Repeat,
    ) -> Result<Vec<Result<Value, Error>>, CallError> {
        let commands: Vec<Bytes> = batch
            .commands()
            .iter()
            .cloned()
            .map(Command::encode)
            .collect();
        let whole = batch.names().next() == Some("MULTI");
        let slot = |command: &Bytes| key_of(command).map(slot_of);
        let first = commands.iter().find_map(slot).unwrap_or(0);
        // Those without a key go with the first that has one.
        let slots: Vec<u16> = commands
            .iter()
            .map(|command| slot(command).filter(|_| !whole).unwrap_or(first))
            .collect();
        let mut answers: Vec<Option<Result<Value, Error>>> = Vec::new();
        answers.resize_with(commands.len(), || None);
        while let Some(next) = answers.iter().position(Option::is_none) {
            let slot = slots.get(next).copied().unwrap_or(first);
            let mut attempt = RequestAttempt::new(self, safety);
            let route = || Route::to(cluster, slot, !whole);
            attempt.route = Some(route());
            loop {
                let left: Vec<usize> = (0..commands.len())
                    .filter(|&n| slots.get(n) == Some(&slot))
                    .filter(|&n| matches!(answers.get(n), Some(None)))
                    .collect();
                if left.is_empty() {
                    break;
                }
                let part: Vec<Bytes> = left
                    .iter()
                    .filter_map(|&n| commands.get(n).cloned())
                    .collect();
                let generation = attempt.live().await?;
                let route = attempt.route.get_or_insert_with(route);
                let values = match route.send_all(&generation, &part, self.deadline()).await {
                    Ok(values) => values,
                    Err(loss) => {
                        attempt.lost(loss)?;
                        continue;
                    }
                };
                let mut unserved = None;
                let mut round = Vec::with_capacity(left.len());
                for (&n, value) in left.iter().zip(values) {
                    let name = batch.commands().get(n).map_or("", Command::name);
                    let answer = match value {
                        Value::ServerError(error) => match classify(name, &error) {
                            Classified::Elsewhere(redirect, error) => {
                                unserved.get_or_insert((Some(redirect), error));
                                continue;
                            }
                            Classified::Reconnect(error) => {
                                unserved.get_or_insert((None, error));
                                continue;
                            }
                            classified => Err(classified.into_error()),
                        },
                        value => Ok(value),
                    };
                    round.push((n, answer));
                }
                // A transaction of which a part was refused has not been executed.
                if unserved.is_none() || !whole {
                    for (n, answer) in round {
                        if let Some(place) = answers.get_mut(n) {
                            *place = Some(answer);
                        }
                    }
                }
                match unserved {
                    Some((Some(redirect), error)) => {
                        attempt.follow(&generation, &redirect, error).await?;
                    }
                    Some((None, error)) => attempt.rejected(&generation, error).await?,
                    None => {}
                }
            }
        }
        let missing = || Err(Error::Protocol("an answer is missing".to_owned()));
        Ok(answers
            .into_iter()
            .map(|one| one.unwrap_or_else(missing))
            .collect())
    }
}
