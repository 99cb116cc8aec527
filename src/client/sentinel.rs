//! Sentinels: whom they name is asked before every attempt to connect.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{Peer, ask};
use super::config::{Address, ClientConfig, Secret, SentinelTls, Topology};
use super::connect::{ConnectError, Settings};
use super::login::auth_command;
use super::tls::Connector;
use crate::clock::after;
use crate::error::{Error, Result};
use crate::resp::{Command, Value};

/// How long one sentinel may take before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// The sentinels of a service, and how they are talked to.
#[derive(Debug)]
pub(super) struct Sentinels {
    service: String,
    configured: Vec<Address>,
    /// In the order in which they are asked. Those whom the last one named are asked too, so that the
    /// configured ones may be replaced while the process runs.
    known: Mutex<Vec<Address>>,
    login: (Option<String>, Option<Secret>),
    tls: Tls,
}

#[derive(Debug)]
enum Tls {
    AsServer,
    Own(Option<Connector>),
}

/// A primary, and the sentinel that named it.
pub(super) struct Found {
    pub(super) primary: Address,
    pub(super) named_by: Address,
}

impl Sentinels {
    /// Prepares the sentinels that a configuration names; `None` for other topologies.
    pub(super) fn new(config: &ClientConfig) -> Result<Option<Self>> {
        let Topology::Sentinel { service, sentinels } = &config.topology else {
            return Ok(None);
        };
        Ok(Some(Self {
            service: service.clone(),
            configured: sentinels.clone(),
            known: Mutex::new(sentinels.clone()),
            login: (
                config.sentinel_username.clone(),
                config.sentinel_password.clone(),
            ),
            tls: match &config.sentinel_tls {
                SentinelTls::AsServer => Tls::AsServer,
                SentinelTls::Plain => Tls::Own(None),
                SentinelTls::Own(options) => Tls::Own(Some(Connector::new(options)?)),
            },
        }))
    }

    /// Asks one sentinel after the other for the primary, first the one that answered last.
    pub(super) async fn primary(&self, settings: &Settings) -> Result<Found, ConnectError> {
        let mut failures: Vec<ConnectError> = Vec::new();
        let order = self.known().clone();
        for sentinel in order {
            match self.ask_one(settings, &sentinel).await {
                Ok(primary) => {
                    return Ok(Found {
                        primary,
                        named_by: sentinel,
                    });
                }
                Err(error) => failures.push(error),
            }
        }
        Err(ConnectError::of_all(
            "no sentinel names a primary",
            failures,
        ))
    }

    /// Has a sentinel asked last: it named a server that is no primary.
    pub(super) fn distrust(&self, sentinel: &Address) {
        let mut known = self.known();
        if let Some(place) = known.iter().position(|one| one == sentinel) {
            let last = known.remove(place);
            known.push(last);
        }
    }

    async fn ask_one(&self, settings: &Settings, at: &Address) -> Result<Address, ConnectError> {
        let limit = PATIENCE.min(settings.config.connect_timeout);
        let question = |what| Command::new("SENTINEL").arg(what).arg(&self.service);
        let asking = |what| {
            let peer = Peer {
                address: at,
                tls: match &self.tls {
                    Tls::AsServer => settings.tls.as_ref(),
                    Tls::Own(connector) => connector.as_ref(),
                },
                login: auth_command(self.login.0.as_deref(), self.login.1.as_ref()),
            };
            ask(settings, peer, question(what), after(Instant::now(), limit))
        };
        let primary = asking("get-master-addr-by-name").await?;
        let primary = address_of(primary).ok_or_else(|| {
            let text = format!("it knows no service {}", self.service);
            ConnectError::from(Error::Unsuitable(text)).at(at)
        })?;
        let mut order = vec![at.clone()];
        order.extend(self.configured.iter().cloned());
        // Only to know more of them: a sentinel that does not tell is as good.
        if let Ok(Value::Array(others)) = asking("sentinels").await {
            order.extend(others.into_iter().filter_map(member));
        }
        let mut known = self.known();
        known.clear();
        for sentinel in order {
            if !known.contains(&sentinel) {
                known.push(sentinel);
            }
        }
        drop(known);
        Ok(primary)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Address>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a host and a port; `None` for nil and for what cannot be connected to.
fn address_of(value: Value) -> Option<Address> {
    let [host, port] = <[Value; 2]>::try_from(value.into_array().ok()?).ok()?;
    Some(Address {
        host: host.into_text().ok().filter(|host| !host.is_empty())?,
        port: port
            .into_text()
            .ok()?
            .parse()
            .ok()
            .filter(|port| *port != 0)?,
    })
}

/// Reads the address of a sentinel from its fields.
fn member(fields: Value) -> Option<Address> {
    let (mut host, mut port) = (None, None);
    for (name, value) in fields.into_pairs().ok()? {
        match name.into_text().ok()?.as_str() {
            "ip" => host = value.into_text().ok().filter(|host| !host.is_empty()),
            "port" => port = value.into_text().ok()?.parse().ok(),
            _ => {}
        }
    }
    Some(Address {
        host: host?,
        port: port.filter(|port| *port != 0)?,
    })
}
