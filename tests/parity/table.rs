//! The table in `README.md` names every transition, and only scenarios that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Everything between backticks in the table.
fn named() -> BTreeSet<String> {
    read("tests/parity/README.md")
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn table_names_every_script() {
    let named = named();
    for entry in fs::read_dir(path("lua")).unwrap() {
        let script = entry.unwrap().path();
        if script.extension().is_some_and(|e| e == "lua") {
            let name = script.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(named.contains(&name), "no row for lua/{name}.lua");
        }
    }
}

#[test]
fn table_names_every_verb_of_advance() {
    let named = named();
    let header = read("lua/advance.lua");
    let verbs = header
        .split("verb: ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .unwrap();
    let verbs: Vec<&str> = verbs.split(", ").flat_map(|v| v.split(" or ")).collect();
    assert_eq!(verbs.len(), 11, "{verbs:?}");
    for verb in verbs {
        assert!(named.contains(verb), "no row for the verb {verb}");
    }
}

#[test]
fn table_names_only_scenarios_that_are_played() {
    for name in named().iter().filter(|name| name.contains("::")) {
        let (module, scenario) = name.rsplit_once("::").unwrap();
        let file = match module.strip_prefix("differences::") {
            Some(topic) => format!("tests/parity/differences/{topic}.rs"),
            None => format!("tests/parity/scenarios/{module}.rs"),
        };
        let text = read(&file);
        let list = text.split("scenarios!(").nth(1).unwrap_or_default();
        let list = list.split(");").next().unwrap_or_default();
        let listed = list
            .lines()
            .any(|line| line.trim() == format!("{scenario},"));
        assert!(listed, "{file} does not run {scenario}");
    }
}

/// A scenario that is written but not listed would never run.
#[test]
fn every_scenario_is_played() {
    let folders = ["tests/parity/differences", "tests/parity/scenarios"];
    let files = folders.map(|folder| fs::read_dir(path(folder)).unwrap());
    for file in files
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
    {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("async fn ") else {
                continue;
            };
            let (name, signature) = rest.split_once('(').unwrap();
            if signature == "q: &mut Driver) -> TestResult {" {
                let listed = text.contains(&format!("\n    {name},\n"));
                assert!(listed, "{}: {name}", file.display());
            }
        }
    }
}
