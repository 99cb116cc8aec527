//! Stands in for `tls` where its feature is off: an encrypted connection is refused before
//! anything is sent.

use std::future::Ready;

use tokio::net::TcpStream;

use super::config::TlsOptions;
use crate::error::{Error, Result};

/// What would encrypt a client's connections; there is none.
#[derive(Debug)]
pub(super) enum Connector {}

impl Connector {
    /// Refuses.
    pub(super) fn new(_: &TlsOptions) -> Result<Self> {
        Err(Error::invalid(
            "tls",
            "(or a rediss:// URL) needs the feature `tls` of the crate oxbull, which is off",
        ))
    }

    /// There is no value to call this on.
    pub(super) fn handshake(&self, _: &str, _: TcpStream) -> Ready<std::io::Result<TcpStream>> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Client, ClientConfig};
    use super::*;

    #[tokio::test]
    async fn encrypted_url_names_the_missing_feature() {
        let config = ClientConfig::from_url("rediss://127.0.0.1:1").unwrap();
        let refused = Client::connect(config).await.map(drop);
        assert!(
            matches!(&refused, Err(Error::Invalid { problem, .. }) if problem.contains("`tls`")),
            "{refused:?}"
        );
    }
}
