//! Connections by TLS.

use std::time::Duration;

use oxbull::Error;
use oxbull::client::{Client, TlsOptions};
use oxbull_testkit::{RedisServer, TlsFiles};

use super::*;

/// A port without TLS will not gain it, so the error comes at once.
#[tokio::test]
async fn port_without_tls_is_reported_before_the_deadline() -> TestResult {
    let server = RedisServer::start().await?;
    let dir = tempfile::tempdir()?;
    let authority = TlsFiles::generate(dir.path())?.authority;
    let forever = Duration::from_secs(3600);
    let config = config(&server.url())?
        .tls(TlsOptions::new().roots_pem(std::fs::read(authority)?))
        .start_deadline(forever)
        .connect_timeout(forever);
    let error = tokio::time::timeout(DEADLINE, Client::connect(config)).await?;
    assert!(matches!(error, Err(Error::Unreachable(_))), "{error:?}");
    Ok(())
}

/// Encryption works with given roots and client certificates, and distrusts everyone else.
#[tokio::test]
async fn tls_connects_only_to_whom_it_trusts() -> TestResult {
    let dir = tempfile::tempdir()?;
    let files = TlsFiles::generate(dir.path())?;
    let server = RedisServer::builder().tls(files.clone()).start().await?;
    let port = server.tls_port().ok_or("no tls port")?;
    let authority = std::fs::read(&files.authority)?;
    let trusting = TlsOptions::new().roots_pem(authority.clone());
    let base = config(&format!("rediss://localhost:{port}"))?;

    let client = Client::connect(base.clone().tls(trusting.clone())).await?;
    client.kv().set_text("k", "sealed").await?;
    assert_eq!(server.text(&["GET", "k"]).await?.as_deref(), Some("sealed"));

    let other = tempfile::tempdir()?;
    let stranger = std::fs::read(TlsFiles::generate(other.path())?.authority)?;
    let error = Client::connect(base.clone().tls(TlsOptions::new().roots_pem(stranger)))
        .await
        .unwrap_err();
    assert!(shown(&error).contains("certificate"), "{}", shown(&error));

    let misnamed = base.clone().host("127.0.0.2").tls(trusting.clone());
    assert!(Client::connect(misnamed).await.is_err());

    let plain_port = base.clone().port(server.port()).tls(trusting.clone());
    assert!(Client::connect(plain_port).await.is_err());

    let certificate = std::fs::read(&files.certificate)?;
    let key = std::fs::read_to_string(&files.key)?;
    let known = trusting.clone().client_pem(certificate.clone(), &key);
    assert!(!format!("{known:?}").contains("PRIVATE"));
    Client::connect(base.clone().tls(known)).await?;

    for broken in [
        TlsOptions::new().roots_pem("no pem"),
        trusting.clone().client_pem("no pem", &key),
        trusting.clone().client_pem(certificate, "no pem"),
    ] {
        let error = Client::connect(base.clone().tls(broken)).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }
    Ok(())
}

/// A server that asks for certificates refuses clients without one.
#[tokio::test]
async fn tls_presents_its_client_certificate() -> TestResult {
    let dir = tempfile::tempdir()?;
    let files = TlsFiles::generate(dir.path())?;
    let server = RedisServer::builder().tls(files.clone()).start().await?;
    server
        .cli(&["CONFIG", "SET", "tls-auth-clients", "yes"])
        .await?;
    let port = server.tls_port().ok_or("no tls port")?;
    let base = config(&format!("rediss://localhost:{port}"))?;
    let trusting = TlsOptions::new().roots_pem(std::fs::read(&files.authority)?);
    assert!(
        Client::connect(base.clone().tls(trusting.clone()))
            .await
            .is_err()
    );

    let (certificate, key) = client_certificate(dir.path(), &files)?;
    let known = trusting.client_pem(certificate, &key);
    let client = Client::connect(base.tls(known)).await?;
    assert!(client.health(DEADLINE).await.is_up());
    Ok(())
}

/// Makes a certificate for clients, signed by the server's authority.
fn client_certificate(
    dir: &std::path::Path,
    files: &TlsFiles,
) -> Result<(Vec<u8>, String), Box<dyn std::error::Error + Send + Sync>> {
    std::fs::write(dir.join("client.ext"), "extendedKeyUsage=clientAuth\n")?;
    for step in [
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=client \
         -keyout client.key -out client.csr",
        "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
         -extfile client.ext -out client.pem",
    ] {
        let status = std::process::Command::new("openssl")
            .args(step.split_whitespace())
            .current_dir(dir)
            .stderr(std::process::Stdio::null())
            .status()?;
        assert!(status.success(), "openssl {step}");
    }
    assert!(files.authority.starts_with(dir));
    Ok((
        std::fs::read(dir.join("client.pem"))?,
        std::fs::read_to_string(dir.join("client.key"))?,
    ))
}
