//! What a private server is started with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::RedisServer;
use super::process::find_binary;
use crate::{KitError, Result, free_port};

/// Ports are only known to be free when the server has bound them; a lost race is run again.
const PORT_TRIES: usize = 5;

/// Describes a [`RedisServer`] to start.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RedisServerBuilder {
    lines: Vec<String>,
    acl: Option<String>,
    login: Option<(String, String)>,
    tls: Option<TlsFiles>,
    binary: Option<PathBuf>,
    sentinel: bool,
    cluster: bool,
}

impl RedisServerBuilder {
    /// Starts this program, with the path of `redis.conf` as its argument, instead of the machine's server.
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Adds a line of `redis.conf`, such as `maxmemory 10mb`. Later lines win.
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Adds lines of `redis.conf`.
    pub fn configs(mut self, lines: &[&str]) -> Self {
        self.lines.extend(lines.iter().map(ToString::to_string));
        self
    }

    /// Adds the lines of an existing configuration file. Its port, directory and binding are
    /// replaced by private ones.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn config_file(mut self, file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .map_err(|error| KitError::because(format!("cannot read {}", file.display()), error))?;
        self.lines.extend(text.lines().map(ToOwned::to_owned));
        Ok(self)
    }

    /// Persists every command at once (`appendonly yes`, `appendfsync always`), so that a killed
    /// server has its data after a restart.
    pub fn durable(self) -> Self {
        self.configs(&["appendonly yes", "appendfsync always"])
    }

    /// Allows the `DEBUG` command (Redis 7.0 or later).
    pub fn debug_command(self) -> Self {
        self.config("enable-debug-command local")
    }

    /// Demands a password of the default user; the kit's own connections and
    /// [`RedisServer::url`] carry it.
    pub fn password(mut self, password: &str) -> Self {
        self.lines.push(format!("requirepass {password}"));
        self.login = Some(("default".to_owned(), password.to_owned()));
        self
    }

    /// Writes an ACL file with these lines, such as `user app on >secret ~* +@all`.
    pub fn acl(mut self, lines: &str) -> Self {
        self.acl = Some(lines.to_owned());
        self
    }

    /// The user whom the kit's own connections and [`RedisServer::url`] log in as.
    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Serves TLS on a second port, [`RedisServer::tls_port`]; clients need no certificate.
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// Starts a sentinel instead of a server.
    pub fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Starts a node of a cluster, alone and without slots, whose peers call it failed after a second.
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self.configs(&["cluster-enabled yes", "cluster-node-timeout 1000"])
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// There is no Redis on this machine, or it did not start; the text carries its log.
    pub async fn start(self) -> Result<RedisServer> {
        let binary = self.binary.clone().map_or_else(find_binary, Ok)?;
        let mut tries = PORT_TRIES;
        loop {
            let server = self.prepare(binary.clone())?;
            tries -= 1;
            match server.launch().await {
                Ok(()) => return Ok(server),
                Err(_) if tries > 0 && server.log_tail().contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn prepare(&self, binary: PathBuf) -> Result<RedisServer> {
        let dir = tempfile::Builder::new()
            .prefix("oxbull-redis-")
            .tempdir()
            .map_err(|error| KitError::because("cannot make a directory for redis", error))?;
        let port = free_port()?;
        let mut config = ["save \"\"", "appendonly no", "loglevel notice"]
            .map(ToOwned::to_owned)
            .to_vec();
        config.extend(self.lines.iter().cloned());
        config.extend([
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            "daemonize no".to_owned(),
            "logfile \"\"".to_owned(),
            "pidfile \"\"".to_owned(),
            format!("dir {}", dir.path().display()),
        ]);
        if self.cluster {
            config.push(format!("cluster-port {}", free_port()?));
        }
        if let Some(acl) = &self.acl {
            let file = dir.path().join("users.acl");
            fs::write(&file, acl)
                .map_err(|error| KitError::because("cannot write users.acl", error))?;
            config.push(format!("aclfile {}", file.display()));
        }
        let tls_port = self.tls.as_ref().map(|_| free_port()).transpose()?;
        if let (Some(port), Some(files)) = (tls_port, &self.tls) {
            config.extend([
                format!("tls-port {port}"),
                format!("tls-cert-file {}", files.certificate.display()),
                format!("tls-key-file {}", files.key.display()),
                format!("tls-ca-cert-file {}", files.authority.display()),
                "tls-auth-clients no".to_owned(),
            ]);
        }
        Ok(RedisServer {
            process: Mutex::new(None),
            config: Mutex::new(config),
            binary,
            port,
            tls_port,
            arguments: if self.sentinel { &["--sentinel"] } else { &[] },
            login: self.login.clone(),
            dir,
        })
    }
}

/// Where a server's TLS certificate and key are, as PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The key of `certificate`.
    pub key: PathBuf,
    /// The certificate that clients check `certificate` against.
    pub authority: PathBuf,
}

impl TlsFiles {
    /// Makes an authority, and a certificate signed by it for `localhost` and `127.0.0.1`, in
    /// `dir`, with the `openssl` command.
    ///
    /// # Errors
    /// There is no `openssl` on this machine, or it failed.
    pub fn generate(dir: &Path) -> Result<Self> {
        fs::write(
            dir.join("server.ext"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
        )
        .map_err(|error| KitError::because("cannot write server.ext", error))?;
        let steps = [
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
             -subj /CN=oxbull-test-authority -keyout ca.key -out ca.pem",
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
             -subj /CN=localhost -keyout server.key -out server.csr",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
             -extfile server.ext -out server.pem",
        ];
        for step in steps {
            let output = Command::new("openssl")
                .args(step.split_whitespace())
                .current_dir(dir)
                .output()
                .map_err(|error| KitError::because("these tests need openssl", error))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                return Err(KitError::because(format!("openssl {step}"), text));
            }
        }
        Ok(Self {
            certificate: dir.join("server.pem"),
            key: dir.join("server.key"),
            authority: dir.join("ca.pem"),
        })
    }
}
