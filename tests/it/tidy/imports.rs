//! Which area of `src/` may import which: the layers are those of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{files, read, root};

/// Areas of one layer that import another of it, on purpose. All others are independent of each other.
const NEIGHBOURS: [(&str, &str); 3] = [
    ("worker", "queue"),
    ("events", "queue"),
    ("inspect", "queue"),
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

/// The code of a file, each line in its place: without comments, texts, and items that only tests compile.
fn code(source: &str) -> String {
    without_tests(&without_texts(source))
}

/// The source with comments and the contents of literals as blanks.
fn without_texts(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let in_word = code.ends_with(|c: char| c == '_' || c.is_alphanumeric());
        let length = text_length(rest, in_word);
        let (skipped, after) = rest.split_at(length.unwrap_or(c.len_utf8()));
        if length.is_some() {
            code.extend(skipped.chars().map(|c| if c == '\n' { c } else { ' ' }));
        } else {
            code.push_str(skipped);
        }
        rest = after;
    }
    code
}

/// The length of the comment or literal that `rest` begins with.
fn text_length(rest: &str, in_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        let (mut depth, mut at) = (0_usize, 0);
        while at < rest.len() {
            match rest.as_bytes().get(at..at + 2) {
                Some(b"/*") => (depth, at) = (depth + 1, at + 2),
                Some(b"*/") => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                return Some(at);
            }
        }
        return Some(rest.len());
    }
    if let Some(text) = rest.strip_prefix('"') {
        let mut escaped = false;
        let end = text.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        return Some(end.map_or(rest.len(), |end| end + 2));
    }
    let raw = ["r", "br"]
        .iter()
        .find_map(|prefix| rest.strip_prefix(prefix));
    if let Some(raw) = raw.filter(|_| !in_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let open = rest.len() - raw.len() + hashes + 1;
            let quote = format!("\"{}", "#".repeat(hashes));
            let end = rest[open..].find(&quote);
            return Some(end.map_or(rest.len(), |end| open + end + quote.len()));
        }
    }
    if let Some(character) = rest.strip_prefix('\'') {
        // One character, or an escape: everything else is a lifetime.
        let mut chars = character.chars();
        let first = chars.next()?;
        if first == '\\' {
            let end = character[2..].find('\'')?;
            return Some(1 + 2 + end + 1);
        }
        return (chars.next() == Some('\'')).then_some(first.len_utf8() + 2);
    }
    None
}

/// Code without texts, less the items under `#[cfg(test)]`: up to their closing brace or semicolon.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some((before, item)) = rest.split_once(MARK) {
        kept.push_str(before);
        let mut depth = 0_usize;
        let end = item.find(|c| {
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(c, '}' | ';')
        });
        let (dropped, after) = item.split_at(end.map_or(item.len(), |end| end + 1));
        kept.extend(dropped.matches('\n'));
        rest = after;
    }
    kept + rest
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

/// What is wrong with the imports: one a line, with its places.
fn broken(layers: &BTreeMap<String, usize>, imports: &Imports) -> Vec<String> {
    let mut broken = Vec::new();
    for ((own, area), places) in imports {
        let places = places.join(", ");
        if layers[own] > layers[area] {
            broken.push(format!("{own} is below {area}: {places}"));
        }
        if layers[own] == layers[area] && !NEIGHBOURS.contains(&(own, area)) {
            broken.push(format!("{own} is beside {area}: {places}"));
        }
        if reach(imports, area).contains(own.as_str()) {
            broken.push(format!("{own} and {area} import each other: {places}"));
        }
    }
    broken
}

/// A reader of one area needs only those below it.
#[test]
fn imports_go_downwards_and_in_no_circle() {
    let layers = layers();
    let imports = imports(&layers);
    assert!(imports.len() > 30, "{imports:?}");
    let broken = broken(&layers, &imports);
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Groups, several lines and climbs to the root are read as the compiler reads them.
#[test]
fn paths_from_the_root_are_found() {
    let code = "use crate::a::B;\nuse crate::{\n    c::{D, e},\n    f,\n};\nlet x = super::super::g::h();\nmycrate::i";
    let names: Vec<_> = names_from_root(code, 2).into_iter().collect();
    let found: Vec<_> = names.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, ["a", "c", "f", "g"]);
}

/// What follows a test module is code again, on its own line; a test's import is none.
#[test]
fn only_test_items_are_left_out() {
    let source = "use crate::a;\n#[cfg(test)]\nmod tests {\n    use crate::b;\n    fn f() { \"}\"; }\n}\n\
        #[cfg(test)]\nuse crate::c;\n#[cfg(test)]\nmod more;\nuse crate::d;";
    let code = code(source);
    let names = names_from_root(&code, 9);
    let found: Vec<_> = names.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, ["a", "d"]);
    assert_eq!(code.matches('\n').count(), source.matches('\n').count());
}

/// Slashes in a literal begin no comment, and neither comments nor literals import anything.
#[test]
fn comments_and_literals_are_not_code() {
    let source = r##"f("redis://h \" crate::a"); use crate::b;
        // use crate::c;
        /* use crate::d; /* crate::e */ crate::f */ use crate::g;
        f(r#"" crate::h // "#, b"//", br"//", '"', '\'', b'"'); fn f<'a>(x: &'a str) { crate::i(x) }"##;
    let code = code(source);
    let names = names_from_root(&code, 9);
    let found: Vec<_> = names.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, ["b", "g", "i"]);
}

/// Each rule refuses what it is there for.
#[test]
fn broken_rules_are_reported() {
    let layers = [
        ("worker", 0),
        ("queue", 0),
        ("kv", 0),
        ("store", 1),
        ("job", 2),
        ("error", 2),
    ];
    let layers = layers.map(|(area, layer)| (area.to_owned(), layer)).into();
    let report = |edges: &[(&str, &str)]| {
        let edge = |(from, to): &(&str, &str)| ((*from).to_owned(), (*to).to_owned());
        let imports = edges
            .iter()
            .map(|names| (edge(names), vec!["here".to_owned()]));
        broken(&layers, &imports.collect())
    };
    assert!(report(&[("worker", "queue"), ("queue", "store"), ("kv", "job")]).is_empty());
    assert_eq!(report(&[("store", "kv")]), ["store is below kv: here"]);
    assert_eq!(report(&[("kv", "queue")]), ["kv is beside queue: here"]);
    let circle = report(&[("worker", "queue"), ("queue", "store"), ("store", "worker")]);
    let each_other = |line: &&String| line.contains("import each other");
    assert_eq!(circle.iter().filter(each_other).count(), 3, "{circle:?}");
}
