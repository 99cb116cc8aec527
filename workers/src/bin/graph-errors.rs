//! Writes the decision table into docs/graph-errors.md: `cargo run -p oxbull-workers --bin graph-errors`.

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use oxbull_workers::graph::decision_table;

/// Writes the decision table of the Graph API's errors between the markers of a document
#[derive(Debug, Parser)]
#[command(version, before_help = "Errors of the Graph API")]
struct Arguments {
    /// Document to write it into
    #[arg(default_value = "docs/graph-errors.md")]
    document: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let document = Arguments::parse().document;
    let text = fs::read_to_string(&document)?;
    let (before, rest) = text.split_once("<!-- decisions -->\n").ok_or("no marker")?;
    let (_, after) = rest
        .split_once("<!-- /decisions -->")
        .ok_or("no end marker")?;
    let table = decision_table();
    let text = format!("{before}<!-- decisions -->\n{table}<!-- /decisions -->{after}");
    fs::write(document, text)?;
    Ok(())
}
