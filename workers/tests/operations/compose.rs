//! `docker-compose.yml` and what it names.

use oxbull_testkit::TestResult;
use serde_json::Value;

use crate::deployment::{Deployment, binary, compose, words};
use crate::fixture::{ROLES, password_variable, read, repository};

fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().into_iter().flatten()
}

fn environment(service: &Value) -> impl Iterator<Item = (&str, &str)> {
    let fields = service["environment"].as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()))
}

/// A service that hangs, eats the machine or is broken into must not take the others along.
#[test]
fn every_service_is_bounded_watched_and_hardened() -> TestResult {
    let compose = compose()?;
    let mut names = Vec::new();
    for (name, service) in services(&compose) {
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert!(
            words(&service["healthcheck"]["test"]).len() > 1,
            "{name}: no health check"
        );
        for limit in ["mem_limit", "pids_limit", "stop_grace_period"] {
            assert!(!service[limit].is_null(), "{name}: {limit}");
        }
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(
            words(&service["security_opt"]),
            ["no-new-privileges:true"],
            "{name}"
        );
        assert!(
            service["logging"]["options"]["max-size"].is_string(),
            "{name}: endless logs"
        );
        names.push(name.as_str());
    }
    names.sort_unstable();
    let wanted = [
        "analytics-refresh",
        "cache",
        "gateway",
        "post-publishing",
        "redis",
        "webhook-processing",
    ];
    assert_eq!(names, wanted);
    Ok(())
}

/// What runs is what was tested: images have full versions, programs are in the image, files are there.
#[test]
fn everything_that_is_named_exists() -> TestResult {
    let (compose, dockerfile) = (compose()?, read("Dockerfile")?);
    for (name, service) in services(&compose) {
        let image = service["image"].as_str().ok_or("no image")?;
        if service["build"].is_null() {
            let version = image
                .split_once(':')
                .map(|(_, version)| version)
                .unwrap_or_default();
            assert_eq!(
                version.matches('.').count(),
                2,
                "{name}: {image} may be any version"
            );
            assert!(
                words(&service["entrypoint"])
                    .iter()
                    .any(|word| word.ends_with("start.sh"))
            );
        } else {
            let check = words(&service["healthcheck"]["test"]);
            for program in [&words(&service["command"])[0], &check[1]] {
                binary(program)?;
                assert!(
                    dockerfile.contains(&format!("--bin {program}")),
                    "{program} is not built"
                );
            }
        }
        for volume in words(&service["volumes"]) {
            if let Some(path) = volume
                .split(':')
                .next()
                .filter(|path| path.starts_with('.'))
            {
                assert!(repository().join(path).exists(), "{name}: {path}");
                assert!(volume.ends_with(":ro"), "{name}: {volume} can be changed");
            }
        }
    }
    Ok(())
}

/// Many sellers work out of the box: the programs that call the API have the keys of the sealed store, which
/// tokens are put into with a program of the image, and no token that would serve every account.
#[test]
fn every_caller_of_the_api_has_the_store() -> TestResult {
    let compose = compose()?;
    let mut callers = Vec::new();
    for (name, service) in services(&compose) {
        let variables: std::collections::BTreeMap<_, _> = environment(service).collect();
        if !variables.contains_key("GRAPH_ACCESS_TOKEN") {
            continue;
        }
        assert_eq!(
            variables["ENCRYPTION_KEYS"], "${ENCRYPTION_KEYS:?}",
            "{name}"
        );
        for optional in [
            "GRAPH_ACCESS_TOKEN",
            "GRAPH_TOKENS_FILE",
            "GRAPH_ACCOUNT_ID",
            "GRAPH_LOGIN",
        ] {
            assert_eq!(variables[optional], format!("${{{optional}:-}}"), "{name}");
        }
        callers.push(name.as_str());
    }
    assert_eq!(callers, ["analytics-refresh", "gateway", "post-publishing"]);
    assert!(read("Dockerfile")?.contains("--bin graph-tokens"));
    Ok(())
}

/// Secrets come from outside and stay with those who need them; the servers can be reached by these only.
#[test]
fn secrets_and_servers_are_kept_in() -> TestResult {
    let compose = compose()?;
    for (name, service) in services(&compose) {
        for (variable, value) in environment(service) {
            let secret = ["PASSWORD", "SECRET", "TOKEN", "KEYS", "CACHE_URL"];
            if secret.iter().any(|word| variable.contains(word)) {
                let optional = variable.ends_with("_OLD")
                    || ["GRAPH_ACCESS_TOKEN", "GRAPH_TOKENS_FILE"].contains(&variable);
                let guard = if optional { ":-}" } else { ":?}" };
                assert!(
                    value.contains("${") && value.contains(guard),
                    "{name}: {variable}"
                );
            }
        }
        let is_server = service["build"].is_null();
        let role = if name == "gateway" {
            "gateway"
        } else {
            "worker"
        };
        let text = service.to_string();
        for other in ROLES {
            let has = text.contains(&password_variable(other));
            assert_eq!(
                has,
                is_server || other == role,
                "{name} and the password of {other}"
            );
        }
        if is_server {
            assert_eq!(words(&service["networks"]), ["redis"], "{name}");
        } else {
            assert_eq!(service["environment"]["REDIS_USERNAME"], role, "{name}");
        }
        let ports = words(&service["ports"]);
        if name == "gateway" {
            assert_eq!(ports, ["127.0.0.1:4000:4000"]);
        } else {
            assert!(ports.is_empty(), "{name} is published");
        }
    }
    assert_eq!(compose["networks"]["redis"]["internal"], true);
    Ok(())
}

/// `docker compose up` comes to a whole that works: each service's command starts with its environment, under
/// its role, and its health check passes; servers keep no password where others can read it.
#[tokio::test]
async fn services_start_and_become_healthy() -> TestResult {
    let deployment = Deployment::start().await?;
    let clients = deployment.ask("CLIENT LIST").await?;
    for user in ["user=worker", "user=gateway"] {
        assert!(clients.contains(user), "{clients}");
    }
    assert_eq!(deployment.ask("ACL LOG").await?.trim(), "");
    Ok(())
}
