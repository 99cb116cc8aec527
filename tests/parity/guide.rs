//! `docs/from-bullmq.md` has a row for everything that `BullMQ` declares as public, and names nothing of ours that does
//! not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use oxbull_testkit::interop_dir;

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The public members of everything that the package exports, by its name; none for functions and constants.
fn declared() -> BTreeMap<String, BTreeSet<String>> {
    let index = interop_dir().join("node_modules/bullmq/dist/esm/index.d.ts");
    let mut files = vec![index];
    let mut seen = BTreeSet::new();
    let mut declared = BTreeMap::new();
    while let Some(file) = files.pop() {
        if !seen.insert(file.clone()) {
            continue;
        }
        let text = without_comments(&read(&file));
        for line in text.lines().filter(|line| line.starts_with("export ")) {
            let from = line
                .split_once(" from './")
                .or(line.split_once(" from '../"));
            if let Some((_, path)) = from {
                files.extend(resolved(&file, path.trim_end_matches("';"), line));
            }
        }
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some((name, has_members)) = declaration(line) else {
                continue;
            };
            let members = if has_members {
                let body = lines
                    .by_ref()
                    .take_while(|line| !line.starts_with('}') || line.ends_with('{'));
                body.filter_map(member).collect()
            } else {
                BTreeSet::new()
            };
            declared.insert(name, members);
        }
    }
    declared
}

/// The file of a module that `line` of `file` re-exports.
fn resolved(file: &Path, path: &str, line: &str) -> Option<PathBuf> {
    let folder = file.parent()?;
    let folder = if line.contains("from '../") {
        folder.parent()?
    } else {
        folder
    };
    let module = folder.join(path);
    let candidates = [module.with_extension("d.ts"), module.join("index.d.ts")];
    candidates.into_iter().find(|file| file.exists())
}

fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        kept.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    kept + rest
}

/// The name of an exported declaration, and whether the lines after it are its members.
fn declaration(line: &str) -> Option<(String, bool)> {
    let rest = line.strip_prefix("export ")?;
    let rest = rest.strip_prefix("declare ").unwrap_or(rest);
    let rest = rest.strip_prefix("abstract ").unwrap_or(rest);
    let (kind, rest) = rest.split_once(' ')?;
    let name: String = rest
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    let is_known = ["class", "interface", "type", "enum", "const", "function"].contains(&kind);
    let has_members = line.ends_with('{') && !["const", "function"].contains(&kind);
    (is_known && !name.is_empty()).then_some((name, has_members))
}

/// The name of a public member; `None` for what is none, and for what only types say: constructors, index signatures.
fn member(line: &str) -> Option<String> {
    let mut rest = line.strip_prefix("    ")?;
    // A parameter on a line of its own.
    if rest.trim_end().ends_with(',') && !rest.contains(" = ") {
        return None;
    }
    for modifier in [
        "public ",
        "static ",
        "readonly ",
        "abstract ",
        "get ",
        "set ",
    ] {
        rest = rest.strip_prefix(modifier).unwrap_or(rest);
    }
    if rest.starts_with("private ") || rest.starts_with("protected ") {
        return None;
    }
    let name: String = match rest.strip_prefix('\'') {
        Some(quoted) => quoted.chars().take_while(|c| *c != '\'').collect(),
        None => rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect(),
    };
    let is_member = name.starts_with(char::is_alphabetic) && name != "constructor";
    is_member.then_some(name)
}

/// A table of the guide.
struct Section {
    /// What its heading names between backticks.
    of: Vec<String>,
    /// What the first cells of its rows name.
    rows: BTreeSet<String>,
}

fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in guide().lines() {
        if line.starts_with("## ") {
            sections.push(Section {
                of: code(line),
                rows: BTreeSet::new(),
            });
        } else if let Some(row) = line.strip_prefix("| ")
            && let Some(section) = sections.last_mut()
        {
            section
                .rows
                .extend(code(row.split(" | ").next().unwrap_or_default()));
        }
    }
    sections
}

/// The rows about one of BullMQ's types.
fn rows_of<'s>(sections: &'s [Section], name: &str) -> Option<BTreeSet<&'s String>> {
    let mut about = sections
        .iter()
        .filter(|section| section.of.iter().any(|of| of == name))
        .peekable();
    about.peek()?;
    Some(about.flat_map(|section| &section.rows).collect())
}

fn guide() -> String {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-bullmq.md"))
}

/// What stands between backticks.
fn code(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The heading of what applications do not call.
const INTERNAL: &str = "bullmq";

#[test]
fn guide_has_a_row_for_everything_public() {
    let declared = declared();
    assert!(
        declared.len() > 200,
        "{} exports were found",
        declared.len()
    );
    for (name, members) in [
        ("Queue", "obliterate"),
        ("Job", "getChildrenValues"),
        ("WorkerListener", "lockRenewalFailed"),
        ("DeduplicationOptions", "keepLastIfActive"),
        ("KeepJobs", "age"),
        ("WorkerOptions", "maxStalledCount"),
        ("QueueEventsListener", "retries-exhausted"),
    ] {
        assert!(
            declared[name].contains(members),
            "{name}: {:?}",
            declared[name]
        );
    }
    let sections = sections();
    let internal = rows_of(&sections, INTERNAL).unwrap_or_default();
    let mut missing = Vec::new();
    for (name, members) in &declared {
        if internal.contains(name) {
            continue;
        }
        let Some(rows) = rows_of(&sections, name) else {
            missing.push(format!("{name}: {members:?}"));
            continue;
        };
        let without = members.iter().filter(|member| !rows.contains(member));
        missing.extend(without.map(|member| format!("{name}.{member}")));
    }
    assert!(missing.is_empty(), "no row for:\n{}", missing.join("\n"));
}

/// A row of what is gone would mislead.
#[test]
fn guide_names_nothing_that_does_not_exist() {
    let declared = declared();
    for Section { of, rows } in sections() {
        let known: BTreeSet<&String> = if of == [INTERNAL] {
            declared.keys().collect()
        } else {
            of.iter()
                .filter_map(|name| declared.get(name))
                .flatten()
                .collect()
        };
        let gone: Vec<_> = rows.iter().filter(|row| !known.contains(row)).collect();
        assert!(gone.is_empty(), "{of:?}: BullMQ has no {gone:?}");
    }
}

/// `Type::name` in the guide is a function, variant or constant of ours.
#[test]
fn guide_names_what_the_library_has() {
    let sources = sources();
    let mut checked = 0;
    for name in guide()
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(code)
    {
        let Some((of, item)) = name
            .split_once("::")
            .filter(|(of, _)| of.starts_with(char::is_uppercase))
        else {
            continue;
        };
        let item = item
            .split(['(', '<', '{', ' ', ':'])
            .next()
            .unwrap_or_default();
        let exists = sources.iter().any(|source| {
            let declares = [
                format!("fn {item}("),
                format!("fn {item}<"),
                format!("const {item}:"),
                format!(" {item},"),
                format!(" {item} {{"),
                format!(" {item}("),
            ];
            source.contains(of) && declares.iter().any(|declared| source.contains(declared))
        });
        assert!(exists, "there is no {name}");
        checked += 1;
    }
    assert!(checked > 80, "{checked}");
}

fn sources() -> Vec<String> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(read(&path));
            }
        }
    }
    sources
}
