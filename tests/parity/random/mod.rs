//! Sequences of random operations, run in step by BullMQ alone, by this library alone and by
//! both mixed on one queue. After each turn every answer, key and event must be equal. A sequence
//! that ends in a difference is shortened and shown with the command that runs it again:
//!
//! ```text
//! OXBULL_RANDOM_STEPS=100000 OXBULL_RANDOM_SEED=7 cargo test --test parity random
//! ```

mod drivers;
mod generate;
mod jobs;
mod known;
mod scripts;
mod shrink;
mod turn;
mod view;

use std::fmt::Write as _;
use std::sync::Arc;

use oxbull_testkit::TestResult;

use crate::fixture::{Fixture, with_fixture};
use drivers::Drivers;
use generate::Generator;
use turn::Turn;
use view::View;

/// How many turns a sequence has.
const LENGTH: usize = 60;
/// How many turns each test runs unless more are asked for.
const STEPS: usize = 600;

/// How many differences are looked for.
const REPORTS: usize = 3;

/// Which jobs are run how.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Whether real workers take part.
    works: bool,
}

#[test]
fn single_steps_leave_the_same() {
    run(Kind {
        name: "single_steps",
        works: false,
    });
}

#[test]
fn real_workers_leave_the_same() {
    run(Kind {
        name: "real_workers",
        works: true,
    });
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: no number: {text}")),
    )
}

/// Runs sequences from one seed after the other. The default ones never change, so that what
/// passed once passes again.
fn run(kind: Kind) {
    let steps = setting("OXBULL_RANDOM_STEPS").and_then(|steps| usize::try_from(steps).ok());
    let first = setting("OXBULL_RANDOM_SEED").unwrap_or(1);
    let sequences = steps.unwrap_or(STEPS).div_ceil(LENGTH);
    with_fixture(|fixture| async move {
        let mut reports = Vec::new();
        for seed in (first..).take(sequences) {
            reports.extend(sequence(&fixture, kind, seed).await?);
            if reports.len() == REPORTS {
                break;
            }
        }
        if reports.is_empty() {
            return Ok(());
        }
        Err(reports.join("\n").into())
    });
}

/// Runs one sequence. Answers a short one if it ends in a difference.
async fn sequence(fixture: &Arc<Fixture>, kind: Kind, seed: u64) -> TestResult<Option<String>> {
    let name = format!("random.{}.{seed}", kind.name);
    let mut generator = Generator::new(seed, kind.works);
    let mut drivers = Drivers::start(fixture, &name).await?;
    let mut taken: Vec<Turn> = Vec::new();
    let mut found = None;
    while taken.len() < LENGTH && found.is_none() {
        let turn = {
            let holder = |id: &str| drivers.held.get(id).cloned();
            generator.turn(&View(&drivers.seen), drivers.now(), holder)
        };
        if drivers.accepts(&turn) {
            taken.push(turn.clone());
            found = drivers.take(&turn).await?;
        }
    }
    drivers.close().await?;
    let Some(first) = found else {
        return Ok(None);
    };
    let (turns, difference) = shrink::shrink(fixture, &name, taken, first).await?;
    Ok(Some(report(kind, seed, &turns, &difference)))
}

fn report(kind: Kind, seed: u64, turns: &[Turn], difference: &str) -> String {
    let mut text = format!("seed {seed} ends in a difference after these turns:\n");
    for turn in turns {
        writeln!(text, "  {turn}").ok();
    }
    writeln!(text, "{difference}").ok();
    let name = kind.name;
    writeln!(
        text,
        "OXBULL_RANDOM_SEED={seed} OXBULL_RANDOM_STEPS=1 cargo test --test parity random::{name}"
    )
    .ok();
    text
}
