//! The exhaustive search, and the fair scheduler that must bring every state to a good end.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use super::world::{Move, State};
use super::{Breach, Config};

/// How far a search came: the number of states, or the breach and the steps that lead to it.
pub(super) type Verdict = Result<usize, (Breach, usize, Vec<Move>)>;

/// Visits every reachable state, then follows the fair scheduler from each to the end.
pub(super) fn explore(config: &Config) -> Verdict {
    let start = Rc::new(State::new(config));
    let mut ids = HashMap::from([(Rc::clone(&start), 0_usize)]);
    let mut queue = VecDeque::from([start]);
    let mut cause: Vec<Option<(usize, Move)>> = vec![None];
    let mut fair: Vec<Option<usize>> = vec![];
    let mut quiet = vec![];
    let trace = |cause: &[Option<(usize, Move)>], mut at: usize, last: Option<Move>| {
        let mut steps: Vec<Move> = last.into_iter().collect();
        while let Some((before, step)) = cause[at] {
            steps.push(step);
            at = before;
        }
        steps.reverse();
        steps
    };
    while let Some(state) = queue.pop_front() {
        let id = fair.len();
        let mut best: Option<(u8, usize)> = None;
        for step in state.moves(config) {
            let next = match state.apply(step, config) {
                Ok(next) => Rc::new(next),
                Err(breach) => return Err((breach, ids.len(), trace(&cause, id, Some(step)))),
            };
            let found = ids.len();
            let to = *ids.entry(Rc::clone(&next)).or_insert(found);
            if to == found {
                cause.push(Some((id, step)));
                queue.push_back(next);
            }
            if let Some(rank) = step.fair()
                && best.is_none_or(|(least, _)| rank < least)
            {
                best = Some((rank, to));
            }
        }
        fair.push(best.map(|(_, to)| to));
        quiet.push(state.is_quiet());
    }
    // Each state has one fair successor: it ends well if that chain reaches quiet.
    let mut good = quiet.clone();
    for from in 0..fair.len() {
        let (mut at, mut chain) = (from, vec![]);
        while !good[at] {
            chain.push(at);
            let stuck =
                (if quiet[at] { None } else { fair[at] }).filter(|_| chain.len() <= fair.len());
            at = stuck.ok_or_else(|| ("stuck", fair.len(), trace(&cause, from, None)))?;
        }
        for id in chain {
            good[id] = true;
        }
    }
    Ok(fair.len())
}
