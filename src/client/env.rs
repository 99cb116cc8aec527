//! A [`ClientConfig`] from environment variables.

use super::config::{ClientConfig, Secret, TlsOptions};
use super::url;
use crate::error::{Error, Result};

/// Reads the variables through `lookup`, which fails for text that is no Unicode.
pub(super) fn read(
    lookup: impl Fn(&'static str) -> Result<Option<String>, ()>,
) -> Result<ClientConfig> {
    let get = |name: &'static str| match lookup(name) {
        Ok(value) => Ok(value.filter(|value| !value.is_empty())),
        Err(()) => Err(Error::invalid(name, "is not valid UTF-8")),
    };
    let mut config = match get("REDIS_URL")? {
        Some(text) => url::parse("REDIS_URL", &text)?,
        None => single(get)?,
    };
    config.sentinel_username = get("REDIS_SENTINEL_USERNAME")?;
    config.sentinel_password = get("REDIS_SENTINEL_PASSWORD")?.map(Secret::new);
    if config.sentinel_username.is_some() && config.sentinel_password.is_none() {
        return Err(Error::invalid(
            "REDIS_SENTINEL_PASSWORD",
            "is missing for REDIS_SENTINEL_USERNAME",
        ));
    }
    if let Some(text) = get("REDIS_CACHE_URL")? {
        config.cache = Some(Box::new(url::parse("REDIS_CACHE_URL", &text)?));
    }
    Ok(config)
}

/// Reads the variables that each set one part.
fn single(get: impl Fn(&'static str) -> Result<Option<String>>) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    if let Some(host) = get("REDIS_HOST")? {
        config = config.host(host);
    }
    if let Some(port) = get("REDIS_PORT")? {
        let port = port.trim().parse().ok().filter(|port| *port != 0);
        config = config
            .port(port.ok_or_else(|| Error::invalid("REDIS_PORT", "is not between 1 and 65535"))?);
    }
    config.username = get("REDIS_USERNAME")?;
    config.password = get("REDIS_PASSWORD")?.map(Secret::new);
    if let Some(db) = get("REDIS_DB")? {
        config.db = db
            .trim()
            .parse()
            .map_err(|_| Error::invalid("REDIS_DB", "is not a number"))?;
    }
    if let Some(tls) = get("REDIS_TLS")? {
        let on = match tls.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => return Err(Error::invalid("REDIS_TLS", "is neither true nor false")),
        };
        config.tls = on.then(TlsOptions::new);
    }
    if config.username.is_some() && config.password.is_none() {
        return Err(Error::invalid(
            "REDIS_PASSWORD",
            "is missing for REDIS_USERNAME",
        ));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&'static str, &str)]) -> Result<ClientConfig> {
        read(|name| {
            Ok(vars
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned()))
        })
    }

    #[test]
    fn each_variable_sets_its_part() {
        for (vars, shown) in [
            (&[][..], "redis://127.0.0.1:6379/0"),
            (&[("REDIS_HOST", "h")], "redis://h:6379/0"),
            (&[("REDIS_HOST", "::1")], "redis://[::1]:6379/0"),
            (&[("REDIS_PORT", "7000")], "redis://127.0.0.1:7000/0"),
            (
                &[("REDIS_HOST", "h"), ("REDIS_PORT", "1"), ("REDIS_DB", "4")],
                "redis://h:1/4",
            ),
            (&[("REDIS_PASSWORD", "p")], "redis://***@127.0.0.1:6379/0"),
            (
                &[("REDIS_USERNAME", "u"), ("REDIS_PASSWORD", "p")],
                "redis://u:***@127.0.0.1:6379/0",
            ),
            (&[("REDIS_TLS", "TRUE")], "rediss://127.0.0.1:6379/0"),
            (&[("REDIS_TLS", "off")], "redis://127.0.0.1:6379/0"),
            (
                &[("REDIS_HOST", ""), ("REDIS_PASSWORD", "")],
                "redis://127.0.0.1:6379/0",
            ),
            (
                &[("REDIS_URL", "rediss://u:p@h/1"), ("REDIS_HOST", "other")],
                "rediss://u:***@h:6379/1",
            ),
        ] {
            assert_eq!(from(vars).unwrap().to_string(), shown, "{vars:?}");
        }
    }

    #[test]
    fn cache_has_its_own_url() {
        let config = from(&[("REDIS_CACHE_URL", "redis://c:1")]).unwrap();
        assert_eq!(config.cache.unwrap().to_string(), "redis://c:1/0");
    }

    #[test]
    fn errors_name_the_variable_and_not_its_value() {
        for (vars, field) in [
            (&[("REDIS_PORT", "hunter2")][..], "REDIS_PORT"),
            (&[("REDIS_PORT", "0")], "REDIS_PORT"),
            (&[("REDIS_PORT", "65536")], "REDIS_PORT"),
            (&[("REDIS_DB", "hunter2")], "REDIS_DB"),
            (&[("REDIS_DB", "-1")], "REDIS_DB"),
            (&[("REDIS_TLS", "hunter2")], "REDIS_TLS"),
            (&[("REDIS_USERNAME", "hunter2")], "REDIS_PASSWORD"),
            (&[("REDIS_URL", "hunter2")], "REDIS_URL"),
            (&[("REDIS_CACHE_URL", "x://:hunter2@h")], "REDIS_CACHE_URL"),
        ] {
            let text = from(vars).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{field} ")), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        let error = read(|name| {
            if name == "REDIS_URL" {
                Err(())
            } else {
                Ok(None)
            }
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "REDIS_URL is not valid UTF-8");
    }
}
