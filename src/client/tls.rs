//! Encrypted connections by rustls, with a provider of our own: a process-wide one may be
//! missing or set by other code.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, RootCertStore};

use super::config::TlsOptions;
use crate::error::{Error, Result};

/// What encrypts a client's connections.
pub(super) struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// Loads the certificates.
    pub(super) fn new(options: &TlsOptions) -> Result<Self> {
        Ok(Self(connector(options)?))
    }

    /// Performs the handshake with `host`.
    pub(super) async fn handshake(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| std::io::Error::other("no certificate can hold this host name"))?;
        self.0.connect(name, stream).await
    }
}

fn connector(options: &TlsOptions) -> Result<TlsConnector> {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid("tls", format!("cannot be set up: {error}")))?
        .with_root_certificates(roots(options)?);
    let config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => {
            let chain = certificates_of("tls client certificate", certificates)?;
            let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes())
                .map_err(|_| Error::invalid("tls client key", "is no PEM private key"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| Error::invalid("tls client key", "does not fit the certificate"))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots(options: &TlsOptions) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    if let Some(pem) = &options.roots {
        for certificate in certificates_of("tls roots", pem)? {
            store
                .add(certificate)
                .map_err(|_| Error::invalid("tls roots", "hold an unusable certificate"))?;
        }
    } else {
        // Some systems hold odd certificates: those that parse are enough.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(Error::invalid("tls roots", "are missing on this system"));
        }
    }
    Ok(store)
}

fn certificates_of(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Error::invalid(field, "is no valid PEM"))?;
    if certificates.is_empty() {
        return Err(Error::invalid(field, "holds no PEM certificate"));
    }
    Ok(certificates)
}
