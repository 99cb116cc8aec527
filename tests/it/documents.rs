//! Documents: what they refer to exists, and is in the repository.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository, by its path in it.
fn texts() -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let name = path.to_string_lossy().into_owned();
            if ["target", "node_modules", ".git", ".redis"]
                .map(Path::new)
                .iter()
                .any(|foreign| path.ends_with(foreign))
            {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                texts.insert(name, text);
            }
        }
    }
    assert!(texts.len() > 100, "{:?}", texts.keys());
    texts
}

/// The anchors of a Markdown document's headings.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut code = false;
    let mut found = BTreeSet::new();
    for line in document.lines() {
        code ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().chars().filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c => c.is_alphanumeric().then(|| c.to_ascii_lowercase()),
        });
        found.insert(kept.collect());
    }
    found
}

/// What follows each occurrence of `before` in `text`, up to the first character that `ends` it.
fn after<'a>(text: &'a str, before: &str, ends: impl Fn(char) -> bool + Copy) -> Vec<&'a str> {
    let parts = text.split(before).skip(1);
    parts
        .map(|part| part.split(ends).next().unwrap_or(part))
        .collect()
}

/// A citation of a heading that was renamed leads nowhere.
#[test]
fn citations_of_the_protocol_name_its_headings() {
    let texts = texts();
    let headings = anchors(&texts["docs/protocol.md"]);
    let mut cited = BTreeSet::new();
    for (file, text) in &texts {
        let part_of_anchor = |c: char| c.is_ascii_alphanumeric() || c == '-';
        for anchor in after(text, "docs/protocol.md#", |c| !part_of_anchor(c)) {
            let here = file.ends_with("documents.rs");
            assert!(here || headings.contains(anchor), "{file}: {anchor}");
            cited.insert(anchor.to_owned());
        }
    }
    assert!(cited.len() > 20, "{cited:?}");
}

/// Links between our own documents, with and without an anchor.
#[test]
fn links_between_documents_lead_somewhere() {
    let texts = texts();
    let mut followed = 0;
    let markdown = |file: &str| Path::new(file).extension().is_some_and(|kind| kind == "md");
    for (file, text) in texts.iter().filter(|(file, _)| markdown(file)) {
        for link in after(text, "](", |c| c == ')') {
            if link.contains("://") || link.starts_with("crate::") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(file).parent().unwrap();
            let target = match path {
                "" => PathBuf::from(file),
                path => folder.join(path),
            };
            assert!(root().join(&target).exists(), "{file}: {link}");
            if !anchor.is_empty() {
                let document = fs::read_to_string(root().join(&target)).unwrap();
                assert!(anchors(&document).contains(anchor), "{file}: {link}");
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed}");
}

/// Everything that the source refers to is in the repository.
#[test]
fn nothing_refers_to_documents_outside_of_the_repository() {
    // Put together, so that this file does not refer to them either.
    let outside = [
        ["(", "spec:"].concat(),
        ["(", "spec "].concat(),
        ["the ", "spec "].concat(),
        ["the ", "spec'"].concat(),
        ["the ", "spec."].concat(),
        ["\u{a7}", ""].concat(),
        ["../", "shared/"].concat(),
        ["/", "work/"].concat(),
        ["house", ".md"].concat(),
        ["style-", "anchors"].concat(),
    ];
    for (file, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            let found = outside.iter().find(|words| line.contains(words.as_str()));
            assert!(found.is_none(), "{file}:{}: {line}", number + 1);
        }
    }
}

/// The protocol says where each part of it is implemented.
#[test]
fn files_that_the_protocol_names_exist() {
    let text = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let mut named = 0;
    for path in text.split('`').skip(1).step_by(2) {
        let ours = ["src/", "lua/", "tests/"];
        if ours.iter().any(|folder| path.starts_with(folder)) {
            assert!(root().join(path).exists(), "{path}");
            named += 1;
        }
    }
    assert!(named > 40, "{named}");
}

/// A difference without a test may have ceased to be one.
#[test]
fn tests_that_the_differences_name_exist() {
    let texts = texts();
    let is_test = |name: &str| {
        let declared = format!("fn {name}(");
        texts.values().any(|text| text.contains(&declared))
    };
    let mut named = 0;
    let rows = texts["docs/differences.md"].lines();
    for row in rows.filter(|row| row.starts_with("| ")).skip(1) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for test in tests.split('`').skip(1).step_by(2) {
            let name = test.rsplit("::").next().unwrap_or(test);
            assert!(is_test(name), "docs/differences.md: {test}");
            named += 1;
        }
    }
    assert!(named > 80, "{named}");
}
