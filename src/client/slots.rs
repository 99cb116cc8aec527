//! Which node of a cluster has which keys.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{Peer, ask};
use super::config::{Address, Topology};
use super::connect::{ConnectError, Settings};
use super::info::NO_CLUSTER;
use super::login::auth_command;
use crate::clock::after;
use crate::error::Error;
use crate::resp::{Command, Value};

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;
/// How long one node may take to say what it knows before the next one is asked.
const PATIENCE: Duration = Duration::from_millis(500);
/// Whatever is wrong with the slots, nodes are not asked more often than this.
const REFRESH_MIN: Duration = Duration::from_millis(100);

/// Returns the slot of a key: that of its hash tag, where it has one.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOTS
}

/// Returns the part of a key between its first brace and the next closing one, if there is any.
pub(crate) fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')? + 1;
    let rest = key.get(open..)?;
    let length = rest.iter().position(|byte| *byte == b'}')?;
    rest.get(..length).filter(|tag| !tag.is_empty())
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

/// What is known of a cluster; all connections of a client share it.
#[derive(Debug)]
pub(super) struct SlotMap {
    configured: Vec<Address>,
    state: Mutex<State>,
    /// Held while nodes are asked: when that ended last, and how.
    asking: tokio::sync::Mutex<Option<(Instant, Result<(), ConnectError>)>>,
}

#[derive(Debug, Default)]
struct State {
    /// First and last slot with their owner, in order.
    ranges: Vec<(u16, u16, Address)>,
    /// What single answers told since.
    moved: HashMap<u16, Address>,
    /// All nodes, replicas too.
    nodes: Vec<Address>,
}

impl SlotMap {
    /// Prepares the map of the cluster that a configuration names; `None` for other topologies.
    pub(super) fn new(topology: &Topology) -> Option<Self> {
        let Topology::Cluster { nodes } = topology else {
            return None;
        };
        Some(Self {
            configured: nodes.clone(),
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the node that a slot is known to be on.
    pub(super) fn owner(&self, slot: u16) -> Option<Address> {
        let state = self.state();
        if let Some(address) = state.moved.get(&slot) {
            return Some(address.clone());
        }
        let place = state.ranges.partition_point(|(_, last, _)| *last < slot);
        let (first, _, address) = state.ranges.get(place)?;
        (*first <= slot).then(|| address.clone())
    }

    /// Returns the nodes that have slots, each once, the one with the first slot first.
    pub(super) fn owners(&self) -> Vec<Address> {
        let state = self.state();
        let mut owners: Vec<Address> = Vec::new();
        let ranges = state.ranges.iter().map(|(_, _, address)| address);
        for address in ranges.chain(state.moved.values()) {
            if !owners.contains(address) {
                owners.push(address.clone());
            }
        }
        owners
    }

    /// Notes what a node said about a slot.
    pub(super) fn learn(&self, slot: u16, address: Address) {
        self.state().moved.insert(slot, address);
    }

    /// Asks the nodes in turn, each time another one first: one that is cut off from the others does not
    /// know what became of them.
    pub(super) async fn refresh(&self, settings: &Settings) -> Result<(), ConnectError> {
        let wanted = Instant::now();
        let mut last = self.asking.lock().await;
        if let Some((at, result)) = &*last
            && (*at > wanted || at.elapsed() < REFRESH_MIN)
        {
            return result.clone();
        }
        let result = self.ask_all(settings).await;
        *last = Some((Instant::now(), result.clone()));
        result
    }

    async fn ask_all(&self, settings: &Settings) -> Result<(), ConnectError> {
        let mut failures: Vec<ConnectError> = Vec::new();
        for address in self.order() {
            let until = after(
                Instant::now(),
                PATIENCE.min(settings.config.connect_timeout),
            );
            let config = &settings.config;
            let peer = Peer {
                address: &address,
                tls: settings.tls.as_ref(),
                login: auth_command(config.username.as_deref(), config.password.as_ref()),
            };
            let question = Command::new("CLUSTER").arg("SLOTS");
            let answer = ask(settings, peer, question, until).await;
            match answer.and_then(|answer| read(answer, &address)) {
                Ok(state) => {
                    *self.state() = state;
                    return Ok(());
                }
                Err(error) if error.to_string().contains("cluster support disabled") => {
                    let error = Error::Unsuitable(NO_CLUSTER.to_owned());
                    failures.push(ConnectError::from(error).at(&address));
                }
                Err(error) => failures.push(error),
            }
        }
        let what = "no node of the cluster tells its slots";
        Err(ConnectError::of_all(what, failures))
    }

    /// The nodes in the order in which they are asked, which is another one the next time.
    fn order(&self) -> Vec<Address> {
        let mut order = self.state().nodes.clone();
        if !order.is_empty() {
            let turn = fastrand::usize(..order.len());
            order.rotate_left(turn);
        }
        for address in &self.configured {
            if !order.contains(address) {
                order.push(address.clone());
            }
        }
        order
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the answer to CLUSTER SLOTS that came from `from`.
fn read(answer: Value, from: &Address) -> Result<State, ConnectError> {
    let mut state = State::default();
    for range in answer.into_array().map_err(ConnectError::from)? {
        let mut parts = range.into_array().map_err(ConnectError::from)?.into_iter();
        let mut slot = || u16::try_from(parts.next()?.as_int()?).ok();
        let (Some(first), Some(last)) = (slot(), slot()) else {
            continue;
        };
        for (place, node) in parts.enumerate() {
            let Some(address) = node_of(node, from) else {
                continue;
            };
            if place == 0 {
                state.ranges.push((first, last, address.clone()));
            }
            if !state.nodes.contains(&address) {
                state.nodes.push(address);
            }
        }
    }
    if state.ranges.is_empty() {
        let error = Error::overloaded("the cluster has no slots yet");
        return Err(ConnectError::from(error).at(from));
    }
    state.ranges.sort_by_key(|(first, _, _)| *first);
    Ok(state)
}

/// Reads a node; one that does not know its own address is where it answered.
fn node_of(node: Value, from: &Address) -> Option<Address> {
    let mut parts = node.into_array().ok()?.into_iter();
    let host = parts.next()?.into_text().unwrap_or_default();
    let port = u16::try_from(parts.next()?.as_int()?).ok()?;
    address_at(&host, port, from)
}

/// Makes an address of what a node says, for whom an unknown host is its own.
fn address_at(host: &str, port: u16, from: &Address) -> Option<Address> {
    Some(Address {
        host: match host {
            "" | "?" => from.host.clone(),
            host => host.to_owned(),
        },
        port: Some(port).filter(|port| *port != 0)?,
    })
}

/// Reads the slot and the address in the detail of MOVED and ASK: `3999 127.0.0.1:6381`.
pub(super) fn redirection(detail: &str, from: &Address) -> Option<(u16, Address)> {
    let mut words = detail.split(' ');
    let slot = words.next()?.parse().ok()?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    Some((slot, address_at(host, port.parse().ok()?, from)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `CLUSTER KEYSLOT`.
    #[test]
    fn slots_are_those_of_the_server() {
        for (key, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("a{foo}{bar}", 12_182),
            ("bull:{foo}:wait", 12_182),
            ("", 0),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        for whole in ["foo{}{bar}", "{", "}{", "a{b", "a}b"] {
            assert_eq!(hash_tag(whole.as_bytes()), None, "{whole}");
        }
        assert_eq!(hash_tag(b"{{bar}}zap"), Some(b"{bar".as_slice()));
    }

    #[test]
    fn redirections_name_a_slot_and_a_node() {
        let from = Address {
            host: "h".to_owned(),
            port: 1,
        };
        let shown =
            |text| redirection(text, &from).map(|(slot, address)| format!("{slot} {address}"));
        assert_eq!(shown("7 127.0.0.1:2").as_deref(), Some("7 127.0.0.1:2"));
        assert_eq!(shown("7 ::1:2").as_deref(), Some("7 [::1]:2"));
        assert_eq!(shown("7 :2").as_deref(), Some("7 h:2"));
        assert_eq!(shown("7 ?:2").as_deref(), Some("7 h:2"));
        assert_eq!(shown("7"), None);
        assert_eq!(shown("x h:2"), None);
    }

    #[test]
    fn owners_are_those_of_the_last_answers() {
        let node = |port| Address {
            host: "h".to_owned(),
            port,
        };
        let map = SlotMap::new(&Topology::Cluster {
            nodes: vec![node(1)],
        })
        .unwrap();
        assert_eq!(map.owner(0), None);
        map.state().ranges = vec![(0, 10, node(1)), (20, 30, node(2))];
        let ports = |slots: &[u16]| -> Vec<Option<u16>> {
            let port = |slot: &u16| map.owner(*slot).map(|address| address.port);
            slots.iter().map(port).collect()
        };
        assert_eq!(
            ports(&[0, 10, 11, 19, 20, 30, 31]),
            [Some(1), Some(1), None, None, Some(2), Some(2), None]
        );
        map.learn(11, node(3));
        assert_eq!(ports(&[11, 10]), [Some(3), Some(1)]);
        assert_eq!(map.owners(), [node(1), node(2), node(3)]);
    }
}
