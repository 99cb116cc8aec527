//! Attempts in tasks of their own.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};

use crate::job::JobId;
use crate::worker::attempt::{Attempt, Exit};
use crate::worker::cancel::{Canceller, Cause};

/// The tasks of attempts, with what cancels each.
#[derive(Default)]
pub(super) struct RunningAttempts {
    tasks: JoinSet<Exit>,
    attempts: HashMap<Id, (Attempt, Canceller)>,
}

/// An attempt that has left its task, with how it did.
pub(super) type Left = (Attempt, Result<Exit, JoinError>);

impl RunningAttempts {
    /// Runs an attempt in a task of its own.
    pub(super) fn spawn(
        &mut self,
        attempt: Attempt,
        canceller: Canceller,
        task: impl Future<Output = Exit> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(task);
        self.attempts.insert(handle.id(), (attempt, canceller));
    }

    /// Waits for the next attempt that leaves its task; `None` while there is none.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(super) async fn join_next(&mut self) -> Option<Left> {
        loop {
            let exit = self.tasks.join_next_with_id().await?;
            if let Some(left) = self.left(exit) {
                return Some(left);
            }
        }
    }

    /// Returns an attempt that has left its task already.
    pub(super) fn try_join_next(&mut self) -> Option<Left> {
        loop {
            let exit = self.tasks.try_join_next_with_id()?;
            if let Some(left) = self.left(exit) {
                return Some(left);
            }
        }
    }

    fn left(&mut self, exit: Result<(Id, Exit), JoinError>) -> Option<Left> {
        let id = match &exit {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let (attempt, _) = self.attempts.remove(&id)?;
        Some((attempt, exit.map(|(_, exit)| exit)))
    }

    /// Cancels the handler of one job, or all of them. Returns how many.
    pub(super) fn cancel(&self, id: Option<&JobId>, cause: Cause) -> usize {
        let mut cancelled = 0;
        for (attempt, canceller) in self.attempts.values() {
            if id.is_none_or(|id| *id == attempt.record.id) {
                canceller.cancel(cause);
                cancelled += 1;
            }
        }
        cancelled
    }

    /// Drops all tasks; the attempts leave them as cancelled.
    pub(super) fn abort_all(&mut self) {
        self.tasks.abort_all();
    }

    /// Returns the ids of some of the jobs, for a log line.
    pub(super) fn some_ids(&self, max: usize) -> Vec<&str> {
        let ids = self.attempts.values();
        ids.take(max)
            .map(|(attempt, _)| attempt.record.id.as_str())
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobRecord;
    use crate::store::LockToken;

    fn attempt(id: &str) -> Attempt {
        let record = JobRecord::new(JobId::existing(id));
        Attempt::new(record, &LockToken::new("worker:1".to_owned()))
    }

    #[tokio::test]
    async fn attempts_leave_with_what_their_task_returned() {
        let mut running = RunningAttempts::default();
        running.spawn(attempt("1"), Canceller::default(), async { Exit::LockLost });
        running.spawn(attempt("2"), Canceller::default(), async {
            panic!("not the handler's")
        });
        assert_eq!(running.len(), 2);
        let mut left = Vec::new();
        while let Some((attempt, exit)) = running.join_next().await {
            left.push((attempt.record.id.to_string(), exit.is_ok()));
        }
        left.sort();
        assert_eq!(left, [("1".to_owned(), true), ("2".to_owned(), false)]);
        assert!(running.is_empty());
    }

    #[tokio::test]
    async fn one_handler_or_all_are_cancelled() {
        let mut running = RunningAttempts::default();
        for id in ["1", "2", "3"] {
            let waits = std::future::pending::<Exit>();
            running.spawn(attempt(id), Canceller::default(), waits);
        }
        let cause = Cause::Requested(std::time::Duration::ZERO);
        assert_eq!(running.cancel(Some(&JobId::existing("2")), cause), 1);
        assert_eq!(running.cancel(Some(&JobId::existing("9")), cause), 0);
        assert_eq!(running.cancel(None, cause), 3);
        assert_eq!(running.some_ids(2).len(), 2);
    }

    /// The pump waits for many things at once and drops this wait for each of the others.
    #[tokio::test]
    async fn dropped_waits_lose_no_attempt() {
        let mut running = RunningAttempts::default();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        running.spawn(attempt("1"), Canceller::default(), async {
            ended.await.ok();
            Exit::LockLost
        });
        let wait = std::time::Duration::from_millis(1);
        let early = tokio::time::timeout(wait, running.join_next()).await;
        assert!(early.is_err(), "it still runs");
        end.send(()).expect("the attempt waits for it");
        let (attempt, exit) = running.join_next().await.expect("it has ended");
        assert_eq!(attempt.record.id.as_str(), "1");
        assert!(matches!(exit, Ok(Exit::LockLost)));
    }

    #[tokio::test]
    async fn dropped_attempts_leave_as_cancelled() {
        let mut running = RunningAttempts::default();
        for id in ["1", "2"] {
            let waits = std::future::pending::<Exit>();
            running.spawn(attempt(id), Canceller::default(), waits);
        }
        running.abort_all();
        for _ in 0..2 {
            let (_, exit) = running.join_next().await.expect("both leave");
            assert!(exit.is_err_and(|error| error.is_cancelled()));
        }
        assert!(running.join_next().await.is_none());
    }
}
