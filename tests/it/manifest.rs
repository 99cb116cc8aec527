//! What `Cargo.toml` promises.
#![allow(clippy::indexing_slicing, reason = "a missing member of JSON is null")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use oxbull_testkit::TestResult;
use serde_json::Value;

/// What a cargo or rustc command prints, run in the repository.
fn output(command: &mut Command) -> TestResult<String> {
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Every package that a build of the workspace for this platform uses.
fn packages() -> TestResult<Vec<Value>> {
    let about = output(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args([
        "metadata",
        "--locked",
        "--all-features",
        "--format-version",
        "1",
    ]);
    command.args(["--filter-platform", host.ok_or("rustc says its host")?]);
    let metadata: Value = serde_json::from_str(&output(&mut command)?)?;
    let used = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten();
    let used: BTreeSet<_> = used.map(|node| node["id"].as_str()).collect();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let packages = packages.filter(|package| used.contains(&package["id"].as_str()));
    Ok(packages.cloned().collect())
}

/// `1.89` and `1.89.0` as the same numbers.
fn version(text: &str) -> TestResult<[u32; 3]> {
    let mut version = [0; 3];
    for (number, part) in version.iter_mut().zip(text.split('.')) {
        *number = part.parse()?;
    }
    Ok(version)
}

/// A dependency that needs a newer compiler would break the promise of `rust-version` for all users.
#[test]
fn no_dependency_needs_a_newer_rust() -> TestResult {
    let ours = version(env!("CARGO_PKG_RUST_VERSION"))?;
    let packages = packages()?;
    assert!(packages.len() > 50, "{}", packages.len());
    for package in packages {
        if let Some(theirs) = package["rust_version"].as_str() {
            let name = &package["name"];
            assert!(version(theirs)? <= ours, "{name} needs Rust {theirs}");
        }
    }
    Ok(())
}

/// The first column of README's table of features.
#[test]
fn readme_names_every_feature() -> TestResult {
    let packages = packages()?;
    let oxbull = packages.iter().find(|package| package["name"] == "oxbull");
    let declared = oxbull.ok_or("oxbull is a package")?["features"].as_object();
    let mut declared: BTreeSet<_> = declared
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    declared.remove("default");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"))?;
    let table = readme
        .split("| feature |")
        .nth(1)
        .ok_or("README has a table of features")?;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let named: BTreeSet<_> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(named, declared);
    Ok(())
}
