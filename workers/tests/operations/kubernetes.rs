//! `config/kubernetes` and what it names: each container's command is started with its environment, and asked
//! as its probes ask.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use oxbull_testkit::{DEADLINE, TestResult, eventually, free_port};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::deployment::{binary, words};
use crate::fixture::{ShippedRedis, password, read, simulator};
use crate::http::SECRET;

/// The documents of the manifest.
fn documents() -> TestResult<Vec<Value>> {
    let text = read("config/kubernetes/oxbull.yaml")?;
    let parse = |document: &str| Ok(serde_saphyr::from_str(document)?);
    text.split("\n---\n").map(parse).collect()
}

fn of_kind<'d>(documents: &'d [Value], kind: &str) -> Vec<&'d Value> {
    let kinds = documents.iter().filter(|one| one["kind"] == kind);
    kinds.collect()
}

/// The only container of a deployment.
fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What a secret holds in these tests.
fn secret(key: &str) -> TestResult<String> {
    Ok(match key {
        "REDIS_GATEWAY_PASSWORD" => password("gateway"),
        "REDIS_WORKER_PASSWORD" => password("worker"),
        "GRAPH_ACCESS_TOKEN" => "token".to_owned(),
        "ENCRYPTION_KEYS" => crate::fixture::KEYS.to_owned(),
        "META_APP_SECRET" => SECRET.to_owned(),
        "META_VERIFY_TOKEN" => "verify-t0ken".to_owned(),
        other => return Err(format!("no secret {other}").into()),
    })
}

/// A container's environment: its maps, then its own.
fn environment(documents: &[Value], container: &Value) -> TestResult<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for source in items(&container["envFrom"]) {
        let name = &source["configMapRef"]["name"];
        let map = of_kind(documents, "ConfigMap");
        let map = map.iter().find(|map| map["metadata"]["name"] == *name);
        let map = map.ok_or_else(|| format!("no config map {name}"))?;
        for (name, value) in map["data"].as_object().into_iter().flatten() {
            let value = value.as_str().ok_or_else(|| format!("{name} is no text"))?;
            variables.insert(name.clone(), value.to_owned());
        }
    }
    for variable in items(&container["env"]) {
        let name = variable["name"]
            .as_str()
            .ok_or("a variable without a name")?;
        let reference = &variable["valueFrom"]["secretKeyRef"];
        let value = match (variable["value"].as_str(), reference["key"].as_str()) {
            (Some(value), None) => value.to_owned(),
            (None, Some(key)) if reference["name"] == "oxbull-secrets" => secret(key)?,
            _ => return Err(format!("{name} has no value, or is no text").into()),
        };
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

/// The number of a port by its number or name.
fn port(container: &Value, named: &Value) -> TestResult<u64> {
    let ports = items(&container["ports"]);
    let found = ports.iter().find(|port| port["name"] == *named);
    let number = named.as_u64();
    let number = number.or_else(|| found?["containerPort"].as_u64());
    Ok(number.ok_or_else(|| format!("no port {named}"))?)
}

/// The variable with the port that a program answers on.
fn port_variable(variables: &BTreeMap<String, String>) -> &'static str {
    if variables.contains_key("HEALTH_PORT") {
        "HEALTH_PORT"
    } else {
        "PORT"
    }
}

fn start(program: &str, variables: &BTreeMap<String, String>) -> TestResult<Child> {
    let mut command = Command::new(binary(program)?);
    command
        .env_clear()
        .envs(variables)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    Ok(command.spawn()?)
}

/// Each container runs as it is described: its command with its environment under its role, and each probe's
/// path on each probe's port answers as the probe wants.
#[tokio::test]
async fn containers_start_and_their_probes_pass() -> TestResult {
    let documents = documents()?;
    let fixture = ShippedRedis::start("queue.conf").await?;
    let graph = simulator().await?;
    let mut programs = Vec::new();
    for deployment in of_kind(&documents, "Deployment") {
        let container = container(deployment);
        let program = words(&container["command"]);
        let mut variables = environment(&documents, container)?;
        let variable = port_variable(&variables);
        let listens: u64 = variables[variable].parse()?;
        // What is an address in the cluster is one of this machine here.
        let here = free_port()?;
        for (name, value) in [
            ("REDIS_HOST", "127.0.0.1".to_owned()),
            ("REDIS_PORT", fixture.server.port().to_string()),
            ("GRAPH_API_URL", graph.url().to_owned()),
            (variable, here.to_string()),
            ("RUST_LOG", "error".to_owned()),
        ] {
            let given = variables.get_mut(name).map(|given| *given = value);
            // One program does not call the API.
            assert!(
                given.is_some() || name == "GRAPH_API_URL",
                "{program:?} {name}"
            );
        }
        programs.push(start(&program[0], &variables)?);
        let mut paths = BTreeSet::new();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let get = &container[probe]["httpGet"];
            assert_eq!(
                port(container, &get["port"])?,
                listens,
                "{program:?} {probe}"
            );
            paths.insert(get["path"].as_str().ok_or("a probe without a path")?);
        }
        let notes = &deployment["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(
            notes["prometheus.io/port"],
            listens.to_string(),
            "{program:?}"
        );
        paths.insert(notes["prometheus.io/path"].as_str().ok_or("no metrics")?);
        assert_eq!(
            paths,
            BTreeSet::from(["/live", "/metrics", "/ready"]),
            "{program:?}"
        );
        for path in paths {
            eventually(DEADLINE, async || {
                match crate::http::get(here, path).await {
                    Ok((200, _)) => Ok(()),
                    Ok((status, body)) => Err(format!("{program:?} {path}: {status} {body}")),
                    Err(error) => Err(format!("{program:?} {path}: {error}")),
                }
            })
            .await?;
        }
    }
    assert_eq!(programs.len(), 4);
    assert_eq!(fixture.refused().await?, Vec::<String>::new());
    Ok(())
}

/// Every variable is one that the program reads: a mistake in its name would change nothing, and nobody would
/// notice.
#[tokio::test]
async fn every_variable_is_read_by_its_program() -> TestResult {
    let documents = documents()?;
    for deployment in of_kind(&documents, "Deployment") {
        let container = container(deployment);
        let program = words(&container["command"]);
        let mut help = Command::new(binary(&program[0])?);
        let help = help.env_clear().arg("--help").output().await?;
        let help = String::from_utf8(help.stdout)?;
        for name in environment(&documents, container)?.keys() {
            let known = help.contains(name.as_str()) || name == "RUST_LOG";
            assert!(known, "{program:?} does not read {name}");
        }
    }
    Ok(())
}

/// A pod that stops has the time that its program takes, a gateway says so before connections are refused,
/// and selectors, services and labels fit each other.
#[test]
fn parts_fit_each_other() -> TestResult {
    let documents = documents()?;
    let number = |variables: &BTreeMap<String, String>, name: &str| -> TestResult<u64> {
        variables.get(name).map_or(Ok(0), |text| Ok(text.parse()?))
    };
    for deployment in of_kind(&documents, "Deployment") {
        let name = &deployment["metadata"]["name"];
        let pod = &deployment["spec"]["template"];
        let container = container(deployment);
        assert_eq!(container["name"], *name);
        assert_eq!(
            words(&container["command"]),
            [name.as_str().ok_or("no name")?]
        );
        let selector = &deployment["spec"]["selector"]["matchLabels"];
        for (label, value) in selector.as_object().ok_or("no selector")? {
            assert_eq!(pod["metadata"]["labels"][label], *value, "{name}");
        }
        let variables = environment(&documents, container)?;
        let stops = number(&variables, "DRAIN_DELAY")? + number(&variables, "SHUTDOWN_GRACE")?;
        // A worker's stages after its grace take up to 15 s more.
        let stages = if name == "gateway" { 0 } else { 15 };
        let given = pod["spec"]["terminationGracePeriodSeconds"].as_u64();
        assert!(given.ok_or("no grace")? > stops + stages, "{name}");
        let hardened = &container["securityContext"];
        assert_eq!(hardened["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(hardened["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(words(&hardened["capabilities"]["drop"]), ["ALL"], "{name}");
        assert_eq!(
            pod["spec"]["securityContext"]["runAsNonRoot"], true,
            "{name}"
        );
        assert!(
            container["resources"]["limits"]["memory"].is_string(),
            "{name}"
        );
        let image = container["image"].as_str().ok_or("no image")?;
        assert!(
            image
                .split_once(':')
                .is_some_and(|(_, tag)| tag != "latest"),
            "{image}"
        );
    }
    for service in of_kind(&documents, "Service") {
        let pods = of_kind(&documents, "Deployment");
        let pod = pods.iter().find(|deployment| {
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            let selector = service["spec"]["selector"].as_object();
            selector.is_some_and(|all| all.iter().all(|(label, value)| labels[label] == *value))
        });
        let container = container(pod.ok_or("a service without pods")?);
        for ports in items(&service["spec"]["ports"]) {
            port(container, &ports["targetPort"])?;
        }
    }
    let page = read("docs/kubernetes.md")?;
    assert!(page.contains("config/kubernetes/oxbull.yaml"));
    Ok(())
}
