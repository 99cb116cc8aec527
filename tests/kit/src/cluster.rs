//! A cluster: three nodes with slots, and a replica of each.

use crate::wait::DEADLINE;
use crate::{KitError, RedisServer, Result, eventually};

/// How many nodes have slots.
const OWNERS: u32 = 3;
const SLOTS: u32 = 16_384;

/// Six nodes: three that have a third of the slots each, then a replica of each of them.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes, joins them, and waits until all of them serve.
    ///
    /// # Errors
    /// As for [`RedisServer::start`]; or they did not become a cluster.
    pub async fn start() -> Result<Self> {
        let mut nodes = Vec::new();
        for _ in 0..OWNERS * 2 {
            let node = RedisServer::builder().cluster().configs(&[
                "repl-diskless-sync-delay 0",
                "cluster-replica-validity-factor 0",
            ]);
            nodes.push(node.start().await?);
        }
        let cluster = Self { nodes };
        let [first, others @ ..] = cluster.nodes.as_slice() else {
            return Err(KitError::new("no node"));
        };
        for other in others {
            let (port, bus) = (other.port().to_string(), bus_port(other).await?);
            first
                .cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])
                .await?;
        }
        for (n, node) in (0..OWNERS).zip(&cluster.nodes) {
            let (from, to) = (n * SLOTS / OWNERS, (n + 1) * SLOTS / OWNERS - 1);
            let range = [from.to_string(), to.to_string()];
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])
                .await?;
        }
        for node in &cluster.nodes {
            let known = async || node_field(node, "cluster_known_nodes").await;
            eventually(DEADLINE, async || equal(&known().await?, "6")).await?;
        }
        let (owners, replicas) = cluster.nodes.split_at(OWNERS as usize);
        for (owner, replica) in owners.iter().zip(replicas) {
            let id = id_of(owner).await?;
            let follow = async || replica.cli(&["CLUSTER", "REPLICATE", &id]).await;
            eventually(DEADLINE, follow).await?;
        }
        for node in &cluster.nodes {
            eventually(DEADLINE, async || {
                equal(&node_field(node, "cluster_state").await?, "ok")?;
                let slots = node.cli(&["CLUSTER", "NODES"]).await?.text();
                let replicas = slots.unwrap_or_default().matches(" slave ").count()
                    + node
                        .text(&["CLUSTER", "NODES"])
                        .await?
                        .unwrap_or_default()
                        .matches("myself,slave")
                        .count();
                equal(&replicas.to_string(), "3")
            })
            .await?;
        }
        for replica in replicas {
            eventually(DEADLINE, async || {
                let info = replica.info("replication").await?;
                let link = info.get("master_link_status");
                equal(link.map_or("", |link| link.trim()), "up")
            })
            .await?;
        }
        Ok(cluster)
    }

    /// The nodes: at the start the first three have slots, and each of the others follows the one three before it.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// `redis+cluster://…` with the first node that runs.
    pub fn url(&self) -> String {
        let node = self.nodes.iter().find(|node| node.pid().is_some());
        format!(
            "redis+cluster://127.0.0.1:{}",
            node.map_or(0, RedisServer::port)
        )
    }

    /// The slot of a key.
    ///
    /// # Errors
    /// No node answers.
    pub async fn slot(&self, key: &str) -> Result<i64> {
        let [first, ..] = self.nodes.as_slice() else {
            return Err(KitError::new("no node"));
        };
        first.int(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// The node that has a key's slot, as it says itself.
    ///
    /// # Errors
    /// No node that runs does.
    pub async fn owner(&self, key: &str) -> Result<&RedisServer> {
        for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
            // A node that does not have the slot answers MOVED.
            if node.cli(&["EXISTS", key]).await.is_ok() {
                return Ok(node);
            }
        }
        Err(KitError::new(format!("no node serves {key}")))
    }

    /// Begins to move the slot of a key to a node: from now on, keys are in either place.
    ///
    /// # Errors
    /// A node refused.
    pub async fn begin_move(&self, key: &str, to: &RedisServer) -> Result<()> {
        let from = self.owner(key).await?;
        let slot = self.slot(key).await?.to_string();
        to.cli(&[
            "CLUSTER",
            "SETSLOT",
            &slot,
            "IMPORTING",
            &id_of(from).await?,
        ])
        .await?;
        from.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id_of(to).await?])
            .await?;
        Ok(())
    }

    /// Moves up to so many keys of a slot; returns how many it were.
    ///
    /// # Errors
    /// A node refused.
    pub async fn move_keys(
        &self,
        key: &str,
        from: &RedisServer,
        to: &RedisServer,
        most: usize,
    ) -> Result<usize> {
        let slot = self.slot(key).await?.to_string();
        let most = most.to_string();
        let keys = from
            .cli(&["CLUSTER", "GETKEYSINSLOT", &slot, &most])
            .await?
            .texts();
        if keys.is_empty() {
            return Ok(0);
        }
        let port = to.port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        from.cli(&migrate).await?;
        Ok(keys.len())
    }

    /// Ends the move of a slot.
    ///
    /// # Errors
    /// A node refused.
    pub async fn end_move(&self, key: &str, from: &RedisServer, to: &RedisServer) -> Result<()> {
        let slot = self.slot(key).await?.to_string();
        let id = id_of(to).await?;
        for node in [to, from] {
            node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &id])
                .await?;
        }
        Ok(())
    }
}

/// The id of a node in its cluster.
async fn id_of(node: &RedisServer) -> Result<String> {
    let id = node.text(&["CLUSTER", "MYID"]).await?;
    id.ok_or_else(|| KitError::new("a node without an id"))
}

/// The port over which the other nodes talk to one.
async fn bus_port(node: &RedisServer) -> Result<String> {
    let nodes = node.text(&["CLUSTER", "NODES"]).await?.unwrap_or_default();
    let port = nodes
        .split(' ')
        .nth(1)
        .and_then(|address| address.split(['@', ',']).nth(1));
    port.map(ToOwned::to_owned)
        .ok_or_else(|| KitError::new(format!("no bus port in {nodes}")))
}

async fn node_field(node: &RedisServer, field: &str) -> Result<String> {
    let info = node.text(&["CLUSTER", "INFO"]).await?.unwrap_or_default();
    let value = info
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.unwrap_or_default().trim().to_owned())
}

fn equal(found: &str, wanted: &str) -> Result<()> {
    if found == wanted {
        Ok(())
    } else {
        Err(KitError::new(format!("{found}, not {wanted}")))
    }
}
