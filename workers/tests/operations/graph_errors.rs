//! `docs/graph-errors.md`: the decisions that it shows are those that are made.

use oxbull_testkit::TestResult;
use oxbull_workers::graph::decision_table;

use crate::fixture::read;

/// An operator who looks up a code finds what the workers do about it.
#[test]
fn documented_decisions_are_those_of_the_table() -> TestResult {
    let document = read("docs/graph-errors.md")?;
    let (_, rest) = document
        .split_once("<!-- decisions -->\n")
        .ok_or("no marker")?;
    let (shown, _) = rest
        .split_once("<!-- /decisions -->")
        .ok_or("no end marker")?;
    let again = "run `cargo run -p oxbull-workers --bin graph-errors`";
    assert!(
        shown == decision_table(),
        "docs/graph-errors.md is out of date: {again}"
    );
    Ok(())
}
