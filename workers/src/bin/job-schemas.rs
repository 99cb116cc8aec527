//! Writes the JSON Schemas of the jobs' data and results: `cargo run -p oxbull-workers --features schemas --bin job-schemas`.

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use oxbull_workers::jobs::schemas::schemas;

/// Writes the JSON Schemas of the jobs' data and results into a directory
#[derive(Debug, Parser)]
#[command(version, before_help = "JSON Schemas of the jobs")]
struct Arguments {
    /// Directory to write them to
    #[arg(default_value = "docs/schemas")]
    directory: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = Arguments::parse().directory;
    fs::create_dir_all(&directory)?;
    for named in schemas() {
        let text = serde_json::to_string_pretty(&named.schema)?;
        fs::write(directory.join(named.file), text + "\n")?;
    }
    Ok(())
}
