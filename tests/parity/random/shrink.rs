//! Shortens a sequence while it still ends in a difference.

use std::sync::Arc;

use oxbull_testkit::TestResult;

use super::drivers::Drivers;
use super::turn::Turn;
use crate::fixture::Fixture;

/// How many shorter sequences are tried at most.
const TRIES: usize = 250;

/// Leaves turns out, large parts first, as long as what is left ends in a difference. Answers the
/// turns that matter and the difference.
pub(super) async fn shrink(
    fixture: &Arc<Fixture>,
    name: &str,
    turns: Vec<Turn>,
    difference: String,
) -> TestResult<(Vec<Turn>, String)> {
    let mut best = (turns, difference);
    let mut part = best.0.len().div_ceil(2);
    let mut tries = 0;
    while part > 0 && tries < TRIES {
        let mut at = 0;
        let mut shortened = false;
        while at < best.0.len() && tries < TRIES {
            tries += 1;
            let mut candidate = best.0.clone();
            candidate.drain(at..(at + part).min(candidate.len()));
            match replay(fixture, &format!("{name}.{tries}"), &candidate).await? {
                Some(found) => {
                    best = found;
                    shortened = true;
                }
                None => at += part,
            }
        }
        if !shortened || part > 1 {
            part /= 2;
        }
    }
    Ok(best)
}

/// Plays turns, those that cannot be taken left out, up to the first difference.
async fn replay(
    fixture: &Arc<Fixture>,
    name: &str,
    turns: &[Turn],
) -> TestResult<Option<(Vec<Turn>, String)>> {
    let mut drivers = Drivers::start(fixture, name).await?;
    let mut taken = Vec::new();
    let mut found = None;
    for turn in turns {
        if drivers.accepts(turn) {
            taken.push(turn.clone());
            found = drivers.take(turn).await?;
            if found.is_some() {
                break;
            }
        }
    }
    drivers.close().await?;
    Ok(found.map(|difference| (taken, difference)))
}
