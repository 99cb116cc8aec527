//! Calls on their way to Redis.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

use crate::client::InFlight;
use crate::store::LockToken;

/// How many `advance` calls may be on their way at once, so that the server never waits for us.
const ADVANCING_MAX: usize = 2;

/// Everything that is on its way to the server or waits to be sent there, by what it ends with; the
/// calls of `advance` are counted and numbered.
pub(super) struct Calls<T> {
    advancing: InFlight<T>,
    others: FuturesUnordered<BoxFuture<'static, T>>,
    made: u64,
    worker: String,
}

impl<T: Send + 'static> Calls<T> {
    /// `worker` makes the lock tokens unique.
    pub(super) fn new(worker: String) -> Self {
        Self {
            advancing: InFlight::default(),
            others: FuturesUnordered::new(),
            made: 0,
            worker,
        }
    }

    /// Returns whether another `advance` may be sent.
    pub(super) fn may_advance(&self) -> bool {
        self.advancing.len() < ADVANCING_MAX
    }

    /// Returns whether an `advance` is on its way.
    pub(super) fn is_advancing(&self) -> bool {
        !self.advancing.is_empty()
    }

    /// How many lock tokens were made, which is how many `advance` calls.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Returns the lock token of the next `advance`; each has its own.
    pub(super) fn next_token(&mut self) -> LockToken {
        let token = LockToken::new(format!("{}:{}", self.worker, self.made));
        self.made += 1;
        token
    }

    /// Sends an `advance`.
    pub(super) fn advance(&mut self, call: impl Future<Output = T> + Send + 'static) {
        self.advancing.push(call);
    }

    /// Sends anything else.
    pub(super) fn send(&mut self, call: impl Future<Output = T> + Send + 'static) {
        self.others.push(Box::pin(call));
    }

    /// Waits for the next call that ends; for as long as there is none, forever.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    pub(super) async fn next(&mut self) -> T {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<T> {
        if let Poll::Ready(answer) = self.advancing.poll_next(context) {
            return Poll::Ready(answer);
        }
        match self.others.poll_next_unpin(context) {
            Poll::Ready(Some(answer)) => Poll::Ready(answer),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Drops all calls.
    pub(super) fn clear(&mut self) {
        self.advancing.clear();
        self.others.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn calls_of_advance_are_bounded_and_others_are_not() {
        let mut calls = Calls::new("worker".to_owned());
        calls.send(async { 0 });
        assert!(!calls.is_advancing());
        for n in 1..=ADVANCING_MAX {
            assert!(calls.may_advance());
            calls.advance(async move { n });
        }
        assert!(!calls.may_advance());
        let mut ended = Vec::new();
        for _ in 0..=ADVANCING_MAX {
            ended.push(calls.next().await);
        }
        ended.sort_unstable();
        assert_eq!(ended, [0, 1, 2]);
        assert!(calls.may_advance() && !calls.is_advancing());
    }

    #[tokio::test]
    async fn waiting_for_a_call_may_be_dropped() {
        let mut calls = Calls::new("worker".to_owned());
        assert!(calls.next().now_or_never().is_none(), "there is no call");
        let (answer, answered) = oneshot::channel();
        calls.advance(async { answered.await.ok() });
        assert!(calls.next().now_or_never().is_none(), "there is no answer");
        answer.send(7).expect("the call waits for it");
        assert_eq!(calls.next().await, Some(7));
    }

    #[test]
    fn each_call_has_a_token_of_its_own() {
        let mut calls = Calls::<()>::new("worker".to_owned());
        let first = calls.next_token();
        assert_eq!(first.as_str(), "worker:0");
        assert_eq!(calls.next_token().as_str(), "worker:1");
        assert_eq!(calls.made(), 2);
    }
}
