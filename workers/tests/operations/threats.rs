//! `tests/THREATS.md` names tests that exist.

use std::fs;
use std::path::Path;

use crate::fixture::{read, repository};
use oxbull_testkit::TestResult;

fn sources(dir: &Path, text: &mut String) -> TestResult {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("node_modules") {
            sources(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// A threat whose test was renamed or dropped would go unnoticed.
#[test]
fn every_threat_has_a_test_or_a_reason() -> TestResult {
    let mut text = String::new();
    for dir in ["src", "tests", "workers/src", "workers/tests"] {
        sources(&repository().join(dir), &mut text)?;
    }
    let mut rows = 0;
    for row in read("tests/THREATS.md")?
        .lines()
        .filter(|line| line.starts_with("| "))
    {
        let cells: Vec<_> = row.split(" | ").collect();
        if cells[0] == "| threat" {
            continue;
        }
        assert!(row.contains('`') || row.contains("no test: "), "{row}");
        for name in cells[1].split('`').skip(1).step_by(2) {
            let marked = text
                .split(&format!("fn {name}("))
                .next()
                .unwrap_or_default();
            let lines: Vec<_> = marked.lines().rev().take(8).collect();
            let is_test = lines.iter().any(|line| line.contains("test]"));
            assert!(marked.len() < text.len() && is_test, "{name} is no test");
        }
        rows += 1;
    }
    assert!(rows > 40, "{rows}");
    Ok(())
}
