//! Calls whose answer was lost, and the jobs they may have started.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::job::JobRecord;
use crate::store::LockToken;
use crate::worker::attempt::Activation;

/// When the token of a call whose answer was lost is looked for again, in case the call is
/// executed late.
pub(super) const SEARCHES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
];

/// Per lock token of such a call: the activations that it is known to have made, none of which is
/// started twice, and how many searches are still to come.
#[derive(Debug, Default)]
pub(super) struct UnresolvedCalls(HashMap<LockToken, (HashSet<Activation>, usize)>);

impl UnresolvedCalls {
    /// Adds a call, with the jobs that are known to have been started by it. [`SEARCHES`] follow.
    pub(super) fn add(&mut self, token: &LockToken, started: &[JobRecord]) {
        let known = started.iter().map(|job| (job.id.clone(), token.clone()));
        self.0
            .insert(token.clone(), (known.collect(), SEARCHES.len()));
    }

    /// Takes in what a search has found; returns the jobs that were not known before.
    pub(super) fn searched(&mut self, token: &LockToken, found: Vec<JobRecord>) -> Vec<JobRecord> {
        let Some((known, left)) = self.0.get_mut(token) else {
            return Vec::new();
        };
        let mut new = found;
        new.retain(|job| known.insert((job.id.clone(), token.clone())));
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.0.remove(token);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;

    fn jobs(ids: &[&str]) -> Vec<JobRecord> {
        let job = |id: &&str| JobRecord::new(JobId::existing(*id));
        ids.iter().map(job).collect()
    }

    fn ids(jobs: &[JobRecord]) -> Vec<&str> {
        jobs.iter().map(|job| job.id.as_str()).collect()
    }

    #[test]
    fn jobs_of_a_lost_call_are_started_once() {
        let token = LockToken::new("worker:7".to_owned());
        let mut calls = UnresolvedCalls::default();
        calls.add(&token, &jobs(&["1"]));
        assert_eq!(ids(&calls.searched(&token, jobs(&["1", "2"]))), ["2"]);
        assert_eq!(ids(&calls.searched(&token, jobs(&["2", "3"]))), ["3"]);
    }

    #[test]
    fn calls_are_forgotten_after_the_last_search() {
        let token = LockToken::new("worker:7".to_owned());
        let mut calls = UnresolvedCalls::default();
        calls.add(&token, &[]);
        for _ in SEARCHES {
            calls.searched(&token, Vec::new());
        }
        assert!(calls.0.is_empty());
        assert!(calls.searched(&token, jobs(&["1"])).is_empty());
    }
}
