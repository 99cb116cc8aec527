//! What `docker-compose.yml` describes, without Docker: each service's own command with its own environment, on
//! loopback, and a `docker` on PATH that understands `docker compose exec`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use oxbull_instagram_simulator::Simulator;
use oxbull_testkit::{DEADLINE, TestResult, eventually, free_port};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::fixture::{passwords, read, repository, server_on_path, simulator};

/// The file, its anchors and merges resolved.
pub(crate) fn compose() -> TestResult<Value> {
    Ok(serde_saphyr::from_str(&read("docker-compose.yml")?)?)
}

/// `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$`, as compose reads them.
pub(crate) fn interpolate(text: &str, given: &BTreeMap<String, String>) -> TestResult<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let inner = after
            .strip_prefix('{')
            .ok_or_else(|| format!("a lone $ in {text}"))?;
        let (inner, after) = inner
            .split_once('}')
            .ok_or_else(|| format!("no }} in {text}"))?;
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner.split(":?").next().unwrap_or(inner), None),
        };
        let value = given
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty());
        out.push_str(
            value
                .or(default)
                .ok_or_else(|| format!("{name} is not set"))?,
        );
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

pub(crate) fn words(value: &Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// A running deployment; its parts die with it.
pub(crate) struct Deployment {
    compose: Value,
    given: BTreeMap<String, String>,
    /// What addresses and paths of the containers are here.
    here: BTreeMap<&'static str, String>,
    health: BTreeMap<String, u16>,
    path: String,
    /// Programs on PATH, and a server's data each.
    pub(crate) dir: tempfile::TempDir,
    parts: Vec<Child>,
    pub(crate) redis_port: u16,
    pub(crate) gateway_port: u16,
    _graph: Simulator,
}

impl Deployment {
    pub(crate) async fn start() -> TestResult<Self> {
        let (dir, path) = server_on_path()?;
        let graph = simulator().await?;
        let (redis_port, cache_port, gateway_port) = (free_port()?, free_port()?, free_port()?);
        let mut given: BTreeMap<_, _> = passwords().collect();
        for (name, value) in [
            ("GRAPH_ACCESS_TOKEN", "token"),
            ("ENCRYPTION_KEYS", crate::fixture::KEYS),
            ("META_APP_SECRET", crate::http::SECRET),
            ("META_VERIFY_TOKEN", "verify-t0ken"),
            ("GRAPH_API_URL", graph.url()),
            ("RUST_LOG", "error"),
        ] {
            given.insert(name.to_owned(), value.to_owned());
        }
        let config = repository().join("config/redis").canonicalize()?;
        let here = BTreeMap::from([
            ("/etc/oxbull", config.display().to_string()),
            ("@cache:6379", format!("@127.0.0.1:{cache_port}")),
            ("127.0.0.1:4000", format!("127.0.0.1:{gateway_port}")),
            ("localhost:4000", format!("127.0.0.1:{gateway_port}")),
        ]);
        let mut deployment = Self {
            compose: compose()?,
            given,
            here,
            health: BTreeMap::new(),
            path,
            dir,
            parts: Vec::new(),
            redis_port,
            gateway_port,
            _graph: graph,
        };
        deployment.put_shims()?;
        for (service, port) in [("redis", redis_port), ("cache", cache_port)] {
            deployment.start_server(service, port)?;
            deployment.is_healthy(service).await?;
        }
        for service in [
            "gateway",
            "post-publishing",
            "webhook-processing",
            "analytics-refresh",
        ] {
            deployment.start_program(service)?;
            deployment.is_healthy(service).await?;
        }
        Ok(deployment)
    }

    pub(crate) fn data(&self, service: &str) -> PathBuf {
        self.dir.path().join(format!("{service}-data"))
    }

    /// Runs a script as an operator would, beside the compose file; returns what it prints.
    pub(crate) async fn shell(&self, script: &str) -> TestResult<String> {
        let output = Command::new("sh")
            .args(["-eu", "-c", &self.localized(script)])
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DEADLINE, output).await??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(text + &errors);
        }
        Err(format!("{}\n{script}\n{text}{errors}", output.status).into())
    }

    /// What the queue server answers an operator.
    pub(crate) async fn ask(&self, command: &str) -> TestResult<String> {
        let ask = format!(
            "docker compose exec -T redis sh -c \
             'REDISCLI_AUTH=$REDIS_OPERATOR_PASSWORD redis-cli --user operator {command}'"
        );
        self.shell(&ask).await
    }

    /// A URL of the queue server for a role.
    pub(crate) fn url(&self, role: &str) -> String {
        let password = crate::fixture::password(role);
        format!("redis://{role}:{password}@127.0.0.1:{}/0", self.redis_port)
    }

    fn localized(&self, text: &str) -> String {
        let replace = |text: String, (there, here): (&&str, &String)| text.replace(there, here);
        self.here.iter().fold(text.to_owned(), replace)
    }

    fn environment(&self, service: &str) -> TestResult<BTreeMap<String, String>> {
        let environment = self.compose["services"][service]["environment"].as_object();
        let mut values = BTreeMap::new();
        for (name, value) in environment.into_iter().flatten() {
            let text = value
                .as_str()
                .ok_or_else(|| format!("{service}: {name} is no text"))?;
            values.insert(
                name.clone(),
                self.localized(&interpolate(text, &self.given)?),
            );
        }
        Ok(values)
    }

    /// `docker compose exec [-T] SERVICE COMMAND...`, a `redis-cli` that finds the server, and the image's
    /// `graph-tokens`.
    fn put_shims(&self) -> TestResult {
        let dir = self.dir.path().display();
        let docker = format!(
            "#!/bin/sh\n[ \"$1 $2 $3\" = 'compose exec -T' ] || exit 64\nservice=$4\nshift 4\n\
             . '{dir}'/\"$service.env\"\nexec \"$@\"\n"
        );
        let cli = which("redis-cli")?;
        let cli = format!("#!/bin/sh\nexec '{cli}' -p \"$HERE_PORT\" \"$@\"\n");
        for (name, text) in [("docker", docker), ("redis-cli", cli)] {
            let file = self.dir.path().join(name);
            fs::write(&file, text)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        let tokens = self.dir.path().join("graph-tokens");
        std::os::unix::fs::symlink(binary("graph-tokens")?, tokens)?;
        Ok(())
    }

    fn start_server(&mut self, service: &str, port: u16) -> TestResult {
        let data = self.data(service);
        fs::create_dir(&data)?;
        let entry = words(&self.compose["services"][service]["entrypoint"]);
        let mut command = Command::new(&entry[0]);
        command.args(entry[1..].iter().map(|word| self.localized(word)));
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(&data);
        let mut environment = self.environment(service)?;
        let log = fs::File::create(self.dir.path().join(format!("{service}.log")))?;
        let child = command
            .env_clear()
            .env("PATH", &self.path)
            .envs(&environment)
            .stdin(Stdio::null())
            .stdout(log)
            .kill_on_drop(true)
            .spawn()?;
        self.parts.push(child);
        environment.insert("HERE_PORT".to_owned(), port.to_string());
        environment.insert("REDIS_DATA".to_owned(), data.display().to_string());
        self.put_environment(service, &environment)
    }

    /// What a command in the container of a service finds.
    fn put_environment(&self, service: &str, environment: &BTreeMap<String, String>) -> TestResult {
        let lines = environment
            .iter()
            .map(|(name, value)| format!("export {name}='{value}'\n"));
        Ok(fs::write(
            self.dir.path().join(format!("{service}.env")),
            lines.collect::<String>(),
        )?)
    }

    fn start_program(&mut self, service: &str) -> TestResult {
        let program = words(&self.compose["services"][service]["command"]);
        let health = free_port()?;
        let mut environment = self.environment(service)?;
        environment.insert("REDIS_HOST".to_owned(), "127.0.0.1".to_owned());
        environment.insert("REDIS_PORT".to_owned(), self.redis_port.to_string());
        self.put_environment(service, &environment)?;
        let child = Command::new(binary(&program[0])?)
            .args(&program[1..])
            .env_clear()
            .envs(environment)
            .env("HEALTH_PORT", health.to_string())
            .env("PORT", self.gateway_port.to_string())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        self.parts.push(child);
        self.health.insert(service.to_owned(), health);
        Ok(())
    }

    /// Waits until a service's own health check passes.
    pub(crate) async fn is_healthy(&self, service: &str) -> TestResult {
        let test = words(&self.compose["services"][service]["healthcheck"]["test"]);
        let passes = async || -> TestResult<bool> {
            let mut command = if test[0] == "CMD-SHELL" {
                let mut command = Command::new(self.dir.path().join("docker"));
                let script = interpolate(&test[1], &self.given)?;
                command.args(["compose", "exec", "-T", service, "sh", "-c", &script]);
                command
            } else {
                let mut target = self.localized(&test[2]);
                if let Some(port) = self.health.get(service) {
                    target = target.replace("127.0.0.1:4001", &format!("127.0.0.1:{port}"));
                }
                let mut command = Command::new(binary(&test[1])?);
                command.arg(target);
                command
            };
            let checked = command
                .env("PATH", &self.path)
                .stdin(Stdio::null())
                .output()
                .await?;
            Ok(checked.status.success())
        };
        let healthy = eventually(DEADLINE, async || match passes().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{service} is not healthy")),
            Err(error) => Err(error.to_string()),
        });
        Ok(healthy.await?)
    }
}

/// The programs of the image.
pub(crate) fn binary(name: &str) -> TestResult<&'static str> {
    Ok(match name {
        "gateway" => env!("CARGO_BIN_EXE_gateway"),
        "graph-tokens" => env!("CARGO_BIN_EXE_graph-tokens"),
        "healthcheck" => env!("CARGO_BIN_EXE_healthcheck"),
        "post-publishing" => env!("CARGO_BIN_EXE_post-publishing"),
        "webhook-processing" => env!("CARGO_BIN_EXE_webhook-processing"),
        "analytics-refresh" => env!("CARGO_BIN_EXE_analytics-refresh"),
        other => return Err(format!("the image has no program {other}").into()),
    })
}

fn which(name: &str) -> TestResult<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|dir| dir.join(name));
    let found = files.find(|file| file.is_file());
    let found = found.ok_or_else(|| format!("these tests need {name} (Debian: redis-tools)"))?;
    Ok(found.display().to_string())
}
