//! The URL forms of a [`ClientConfig`].

use super::config::{Address, ClientConfig, Secret, TlsOptions, Topology};
use crate::error::{Error, Result};

/// The port of a server or cluster node that names none.
pub(super) const DEFAULT_PORT: u16 = 6379;
/// The port of a sentinel that names none.
const SENTINEL_PORT: u16 = 26379;

/// Reads `text`; errors name `field` and repeat no part of the text.
pub(super) fn parse(field: &'static str, text: &str) -> Result<ClientConfig> {
    let bad = |problem: &str| Error::invalid(field, problem);
    let (scheme, rest) = text
        .trim()
        .split_once("://")
        .ok_or_else(|| bad("has no scheme such as redis://"))?;
    let (tls, kind) = match scheme.to_ascii_lowercase().as_str() {
        "redis" | "valkey" => (false, Kind::Standalone),
        "rediss" | "valkeys" => (true, Kind::Standalone),
        "redis+sentinel" => (false, Kind::Sentinel),
        "rediss+sentinel" => (true, Kind::Sentinel),
        "redis+cluster" => (false, Kind::Cluster),
        "rediss+cluster" => (true, Kind::Cluster),
        _ => {
            return Err(bad(
                "has an unknown scheme, not redis, rediss, redis+sentinel or redis+cluster",
            ));
        }
    };
    if rest.contains(['?', '#']) {
        return Err(bad("has a query or fragment, which are not supported"));
    }
    // The path starts at the first slash after the credentials: a raw password may hold one.
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
    let mut config = ClientConfig::new();
    if let Some(login) = login {
        let (user, password) = login.split_once(':').unwrap_or(("", login));
        let decode = |part| percent_decode(part).ok_or_else(|| bad("has a broken %-escape"));
        config.username = Some(decode(user)?).filter(|user| !user.is_empty());
        config.password = Some(Secret::new(decode(password)?)).filter(|p| !p.reveal().is_empty());
    }
    if tls {
        config.tls = Some(TlsOptions::new());
    }
    let port = if kind == Kind::Sentinel {
        SENTINEL_PORT
    } else {
        DEFAULT_PORT
    };
    let mut nodes = hosts
        .split(',')
        .map(|host| address(field, host, port))
        .collect::<Result<Vec<_>>>()?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let db = match kind {
        Kind::Standalone => {
            let node = nodes.pop().ok_or_else(|| bad("has no host"))?;
            if !nodes.is_empty() {
                return Err(bad("has several hosts, but is no sentinel or cluster form"));
            }
            config.topology = Topology::Standalone(node);
            path
        }
        Kind::Sentinel => {
            let (service, db) = path.split_once('/').unwrap_or((path, ""));
            if service.is_empty() {
                return Err(bad("has no sentinel service name after the hosts"));
            }
            config.topology = Topology::Sentinel {
                service: percent_decode(service).ok_or_else(|| bad("has a broken %-escape"))?,
                sentinels: nodes,
            };
            db
        }
        Kind::Cluster => {
            if !matches!(path, "" | "0") {
                return Err(bad("names a database, but a cluster has only 0"));
            }
            config.topology = Topology::Cluster { nodes };
            path
        }
    };
    if !db.is_empty() {
        config.db = db
            .parse()
            .map_err(|_| bad("has a database that is not a number"))?;
    }
    Ok(config)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Standalone,
    Sentinel,
    Cluster,
}

/// Reads `host`, `host:port` or `[v6]:port`.
fn address(field: &'static str, text: &str, port: u16) -> Result<Address> {
    let bad = |problem: &str| Error::invalid(field, problem);
    let (host, port_text) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| bad("has an unclosed [ in its host"))?;
        match rest {
            "" => (host, None),
            rest => (
                host,
                Some(
                    rest.strip_prefix(':')
                        .ok_or_else(|| bad("has text after ] in its host"))?,
                ),
            ),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err(bad("has an empty host"));
    }
    let port = match port_text {
        Some(text) => text
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| bad("has a port that is not between 1 and 65535"))?,
        None => port,
    };
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

/// Undoes URL escapes; `None` when one is broken or the result is no UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            out.push(u8::try_from(value).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms() {
        for (url, shown) in [
            ("redis://h", "redis://h:6379/0"),
            ("redis://h:1/2", "redis://h:1/2"),
            ("REDIS://h/", "redis://h:6379/0"),
            ("rediss://:p%40ss@h:1", "rediss://***@h:1/0"),
            ("redis://u:p@[::1]:7/3", "redis://u:***@[::1]:7/3"),
            ("redis://secret@h", "redis://***@h:6379/0"),
            ("redis://u:p/a@h:1/2", "redis://u:***@h:1/2"),
            (
                "redis+sentinel://:p@a,b:1/main/2",
                "redis+sentinel://***@a:26379,b:1/main/2",
            ),
            ("rediss+cluster://a,b:1", "rediss+cluster://a:6379,b:1/0"),
        ] {
            let config = parse("url", url).unwrap_or_else(|e| panic!("{url}: {e}"));
            assert_eq!(config.to_string(), shown);
        }
        let config = parse("url", "rediss://us%65r:p%40s%2Fs@h").unwrap();
        assert_eq!(config.username.as_deref(), Some("user"));
        assert_eq!(config.password.unwrap().reveal(), "p@s/s");
    }

    #[test]
    fn refused_forms_name_the_field_and_nothing_secret() {
        for url in [
            "",
            "hunter2",
            "http://u:hunter2@h",
            "redis://u:hunter2@",
            "redis://u:hunter2@h:0",
            "redis://u:hunter2@h:x",
            "redis://u:hunter2@h/x",
            "redis://u:hunter2@h,i",
            "redis://u:hunter2@h?db=1",
            "redis://u:hunter2%zz@h",
            "redis://u:hunter2@[::1",
            "redis://u:hunter2@[::1]7",
            "redis+sentinel://u:hunter2@h",
            "redis+cluster://u:hunter2@h/1",
        ] {
            let error = parse("REDIS_URL", url).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.starts_with("REDIS_URL "), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{url}: {text}");
        }
    }
}
