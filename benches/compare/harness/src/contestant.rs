//! Who takes part, and how each is started.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// A job queue in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contestant {
    /// Ours.
    Oxbull,
    /// The crate `bullmq-official`.
    BullmqOfficial,
    /// BullMQ for Node.js.
    Node,
    /// The crate `apalis-redis`.
    Apalis,
}

/// In the order of their turns.
pub(crate) const ALL: [Contestant; 4] = [
    Contestant::Oxbull,
    Contestant::BullmqOfficial,
    Contestant::Node,
    Contestant::Apalis,
];

/// Those that share BullMQ's layout and its promises, whom the targets are about.
pub(crate) const RIVALS: [Contestant; 2] = [Contestant::BullmqOfficial, Contestant::Node];

impl Contestant {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Oxbull => "oxbull",
            Self::BullmqOfficial => "bullmq-official",
            Self::Node => "node",
            Self::Apalis => "apalis",
        }
    }

    /// Its name and version in reports.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Oxbull => "Oxbull",
            Self::BullmqOfficial => "bullmq-official 1.4.4",
            Self::Node => "BullMQ 6.7.0 (Node.js)",
            Self::Apalis => "apalis-redis 1.0.0",
        }
    }

    /// Who may fill a long queue for it: those of one layout read each other's jobs.
    pub(crate) fn filler(self) -> Self {
        match self {
            Self::Oxbull | Self::BullmqOfficial | Self::Node => Self::Oxbull,
            Self::Apalis => Self::Apalis,
        }
    }

    /// Its driver.
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(folder().join("node/driver.mjs"));
                command
            }
            _ => Command::new(binary(&format!("contestant-{}", self.name()))),
        }
    }
}

/// `benches/compare`.
pub(crate) fn folder() -> &'static Path {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.parent().unwrap_or(harness)
}

/// A program beside this one.
fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name(name)
}
