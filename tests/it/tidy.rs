//! Rules about the source that no compiler checks: script headers, codes, who may name what.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod imports;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `dir` with the extension, sorted.
fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(dir)];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The scripts in `lua/`, by name: `pause`, `kv/swap`. The fragments are no scripts.
fn scripts() -> BTreeMap<String, String> {
    let lua = root().join("lua");
    files("lua", "lua")
        .into_iter()
        .filter(|path| !path.starts_with(lua.join("lib")))
        .map(|path| {
            let name = path.strip_prefix(&lua).unwrap().with_extension("");
            let name = name.to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn words(list: &str) -> BTreeSet<String> {
    list.split([',', '\n'])
        .map(|word| word.trim().trim_matches('"').to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

/// What the header of a script says it uses: always, and after `; rarely` when a call needs it.
fn header_uses(script: &str) -> BTreeSet<String> {
    let header = script.split("]]").next().unwrap_or_default();
    let uses = header.split("\n  Uses ").nth(1).unwrap_or_default();
    let mut uses = words(&uses.replace("; rarely", ","));
    uses.remove("nothing");
    uses
}

/// What the wrappers put together, by script: each `lua!("name", uses: [...])`, with what is used rarely.
fn wrapper_uses() -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for path in files("src", "rs") {
        let text = fs::read_to_string(path).unwrap();
        for call in text.split("lua!(").skip(1) {
            let name = call.split('"').nth(1).unwrap_or_default();
            let Some(uses) = call.split("uses: [").nth(1) else {
                continue;
            };
            let end = uses.find(");").unwrap_or(uses.len());
            // The names of functions, which come after the fragments of a group, are no strings.
            let uses = uses[..end].split('"').skip(1).step_by(2);
            let uses = uses.map(str::to_owned).collect();
            assert!(
                all.insert(name.to_owned(), uses).is_none(),
                "lua/{name}.lua has two wrappers"
            );
        }
    }
    all
}

/// The header is the contract of a script: its callers need all of it.
#[test]
fn every_script_opens_with_its_contract() {
    for (name, text) in scripts() {
        let title = name.rsplit('/').next().unwrap_or(&name);
        let opening = format!("--[[\n  {title}: ");
        assert!(text.starts_with(&opening), "lua/{name}.lua: no {opening:?}");
        let header = text.split("]]").next().unwrap_or_default();
        for part in ["KEYS ", "ARGV ", "Returns ", "Emits ", "Uses "] {
            let part = format!("\n  {part}");
            assert_eq!(header.matches(&part).count(), 1, "lua/{name}.lua: {part:?}");
        }
    }
}

#[test]
fn every_script_has_one_wrapper_that_uses_what_its_header_says() {
    let headers: BTreeMap<_, _> = scripts()
        .iter()
        .map(|(name, text)| (name.clone(), header_uses(text)))
        .collect();
    assert_eq!(headers, wrapper_uses());
}

/// A fragment that nobody uses is dead code, and one that is missing breaks the build.
#[test]
fn every_fragment_is_used_by_some_script() {
    let used: BTreeSet<_> = wrapper_uses().into_values().flatten().collect();
    let there: BTreeSet<_> = files("lua/lib", "lua")
        .iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, used);
}

/// Fragments are joined into one chunk: a global would be an error at run time only.
#[test]
fn fragments_declare_only_locals() {
    for path in files("lua/lib", "lua") {
        let text = fs::read_to_string(&path).unwrap();
        let mut declared = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("local ") {
                let name = rest.trim_start_matches("function ");
                let end = name.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
                declared.insert(name.get(..end.unwrap_or(name.len())).unwrap_or(name));
            } else if let Some(rest) = line.strip_prefix("function ") {
                let name = rest.split('(').next().unwrap_or(rest);
                assert!(declared.contains(name), "{}: {line}", path.display());
            } else {
                let opens = !line.is_empty() && !line.starts_with([' ', '-', '}', ')']);
                assert!(!opens || line == "end", "{}: {line}", path.display());
            }
        }
    }
}

/// Past four parameters a call reads like a list of numbers: a table has names.
#[test]
fn functions_of_scripts_take_at_most_four_parameters() {
    for path in files("lua", "lua") {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| line.contains("function")) {
            let parameters = line.split_once('(').map_or("", |(_, rest)| rest);
            let parameters = parameters.split(')').next().unwrap_or_default();
            assert!(
                parameters.matches(',').count() < 4,
                "{}: {line}",
                path.display()
            );
        }
    }
}

/// A code that the two sides read differently would turn one refusal into another.
#[test]
fn codes_of_scripts_are_those_of_refusals() {
    let codes: BTreeMap<i64, String> = read("lua/lib/codes.lua")
        .lines()
        .filter_map(|line| line.strip_prefix("local ")?.split_once(" = "))
        .map(|(name, code)| (code.parse().unwrap(), name.to_owned()))
        .collect();
    let refusals: BTreeMap<i64, String> = read("src/error/refusal.rs")
        .lines()
        .filter_map(|line| line.trim().split_once(" => Self::"))
        .filter_map(|(code, name)| {
            Some((code.parse().ok()?, name.trim_end_matches([',', ' ', '{'])))
        })
        .map(|(code, name)| (code, shouted(name)))
        .collect();
    assert!(codes.len() > 5, "{codes:?}");
    assert_eq!(codes, refusals);
}

/// `JobMissing` as `JOB_MISSING`.
fn shouted(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

/// Everything else speaks to Redis through these two, so that policies hold everywhere.
#[test]
fn only_client_and_store_know_the_protocol() {
    for path in files("src", "rs") {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        if ["client", "store", "resp"]
            .iter()
            .any(|area| inside.starts_with(area))
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("crate::resp"), "{}", path.display());
    }
}

/// A test clock rules all times, so no script may ask the server for its own.
#[test]
fn scripts_never_ask_for_the_time() {
    for path in files("lua", "lua") {
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("'TIME'"), "{}", path.display());
    }
}

/// The longest file that is read in one sitting, in lines.
const LINES_MAX: usize = 500;

/// Files that are longer: this table only shrinks.
const LONG: [&str; 0] = [];

/// A file is one topic. A longer one has a seam.
#[test]
fn files_are_short_enough_to_read() {
    let (mut too_long, mut listed) = (Vec::new(), LONG.to_vec());
    for dir in ["src", "lua", "tests", "benches", "examples", "workers"] {
        for extension in ["rs", "lua"] {
            for path in files(dir, extension) {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                let lines = fs::read_to_string(&path).unwrap().lines().count();
                let third_party = name.contains("node_modules") || name.contains("/target/");
                if lines <= LINES_MAX || third_party {
                    continue;
                }
                match listed.iter().position(|known| *known == name) {
                    Some(at) => {
                        listed.swap_remove(at);
                    }
                    None => too_long.push(format!("{name} has {lines} lines")),
                }
            }
        }
    }
    assert!(listed.is_empty(), "short by now: {listed:#?}");
    assert!(too_long.is_empty(), "{too_long:#?}");
}
