//! Which area of `src/` may import which: the layers are those of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{files, read, root};

/// Imports that break the rule, each with the reason why it stays. This table only shrinks.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("error", "job", "errors name jobs by id"),
    (
        "job",
        "client",
        "what a handler returns is an outage if the client says so",
    ),
];

/// An import of one area by another, with the places where it stands.
type Imports = BTreeMap<(String, String), Vec<String>>;

/// The areas from the top down, with their layers: the block after `Imports go downwards only`.
fn layers() -> BTreeMap<String, usize> {
    let text = read("ARCHITECTURE.md");
    let block = text
        .split("Imports go downwards only")
        .nth(1)
        .and_then(|rest| rest.split("```").nth(1))
        .unwrap_or_else(|| panic!("ARCHITECTURE.md does not list the layers"));
    let lines = block.lines().filter(|line| !line.trim().is_empty());
    let mut layers = BTreeMap::new();
    for (layer, line) in lines.enumerate() {
        // What comes after two spaces describes the layer.
        let areas = line.split("  ").next().unwrap_or_default();
        for area in areas.split_whitespace() {
            layers.insert(area.to_owned(), layer);
        }
    }
    layers
}

/// The code of a file: neither comments nor the module of its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let lines = text.lines().map(|line| line.split("//").next());
    lines.flatten().collect::<Vec<_>>().join("\n")
}

/// The names that paths from the crate's root begin with, and where: `crate::a::b`, `crate::{a, b::c}`,
/// and `super::` as often as the module is deep.
fn names_from_root(code: &str, depth: usize) -> Vec<(&str, usize)> {
    let climb = "super::".repeat(depth);
    let mut found = Vec::new();
    for prefix in ["crate::", climb.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c == ':' || c == '_' || c == '$' || c.is_alphanumeric()) {
                continue;
            }
            let start = at + prefix.len();
            let (mut nesting, mut first) = (0_usize, true);
            let mut rest = &code[start..];
            // The first name of each path of a group, or of the only path.
            while let Some(c) = rest.chars().next() {
                let word = rest
                    .find(|c: char| c != '_' && !c.is_alphanumeric())
                    .unwrap_or(rest.len());
                if word > 0 {
                    if first {
                        found.push((&rest[..word], code.len() - rest.len()));
                    }
                    first = false;
                    rest = &rest[word..];
                    continue;
                }
                match c {
                    '{' => nesting += 1,
                    '}' => nesting = nesting.saturating_sub(1),
                    ',' if nesting == 1 => first = true,
                    _ => {}
                }
                if nesting == 0 {
                    break;
                }
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    found
}

/// What the crate's root exports, by name, with the area that it comes from.
fn exports() -> BTreeMap<String, String> {
    let text = code(&read("src/lib.rs"));
    let mut exports = BTreeMap::new();
    for statement in text.split(';') {
        let Some((_, path)) = statement.split_once("pub use ") else {
            continue;
        };
        let Some((area, names)) = path.split_once("::") else {
            continue;
        };
        let names = names.trim_matches(['{', '}']).split(',');
        let names = names.filter_map(|name| name.rsplit([':', ' ']).find(|word| !word.is_empty()));
        exports.extend(names.map(|name| (name.trim().to_owned(), area.trim().to_owned())));
    }
    exports
}

/// All imports of one area by another, outside of tests.
fn imports(layers: &BTreeMap<String, usize>) -> Imports {
    let exports = exports();
    let src = root().join("src");
    let mut imports = Imports::new();
    for path in files("src", "rs") {
        let inside = path.strip_prefix(&src).unwrap();
        let is_test = inside
            .iter()
            .any(|part| part == "tests.rs" || part == "tests");
        let own = area_of(inside);
        if is_test || own == "lib" {
            continue;
        }
        assert!(
            layers.contains_key(&own),
            "ARCHITECTURE.md has no layer for {own}"
        );
        let module_file = inside.file_name().is_some_and(|name| name == "mod.rs");
        let depth = inside.components().count() - usize::from(module_file);
        let text = code(&fs::read_to_string(&path).unwrap());
        for (name, at) in names_from_root(&text, depth) {
            let area = exports.get(name).map_or(name, String::as_str);
            if layers.contains_key(area) && area != own {
                let line = text[..at].matches('\n').count() + 1;
                let place = format!("src/{}:{line}", inside.display());
                let edge = (own.clone(), area.to_owned());
                imports.entry(edge).or_default().push(place);
            }
        }
    }
    imports
}

fn area_of(inside: &Path) -> String {
    let first = inside.iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Everything that an area imports, directly or not.
fn reach<'a>(imports: &'a Imports, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(area) = open.pop() {
        for (_, to) in imports.keys().filter(|(own, _)| own == area) {
            if reached.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    reached
}

/// Whoever reads one area needs only those below it. Neighbours in a layer may use each other one way.
#[test]
fn imports_go_downwards_and_in_no_circle() {
    let layers = layers();
    let mut imports = imports(&layers);
    assert!(imports.len() > 30, "{imports:?}");
    for (from, to, reason) in EXCEPTIONS {
        let excepted = imports.remove(&(from.to_owned(), to.to_owned()));
        assert!(
            excepted.is_some(),
            "{from} imports {to} no longer: {reason}"
        );
    }
    let mut broken = Vec::new();
    for ((own, area), places) in &imports {
        let places = places.join(", ");
        if layers[own] > layers[area] {
            broken.push(format!("{own} is below {area}: {places}"));
        }
        if reach(&imports, area).contains(own.as_str()) {
            broken.push(format!("{own} and {area} import each other: {places}"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The rule sees what it is there to see.
#[test]
fn paths_from_the_root_are_found() {
    let code = "use crate::a::B;\nuse crate::{\n    c::{D, e},\n    f,\n};\nlet x = super::super::g::h();\nmycrate::i";
    let names: Vec<_> = names_from_root(code, 2).into_iter().collect();
    let found: Vec<_> = names.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, ["a", "c", "f", "g"]);
}
