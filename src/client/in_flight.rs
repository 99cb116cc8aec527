//! Calls on their way that one task waits for.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

/// A few calls, each of which is looked at whenever the task is woken.
///
/// A `FuturesUnordered` wakes its task once more after each call that was sent, and a runtime wakes a
/// second thread for that.
pub(crate) struct InFlight<T>(Vec<BoxFuture<'static, T>>);

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> InFlight<T> {
    /// Adds a call; it is sent when the next one to end is waited for.
    pub(crate) fn push(&mut self, call: impl Future<Output = T> + Send + 'static) {
        self.0.push(Box::pin(call));
    }

    /// Waits for the next call that ends; for as long as there is none, forever.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when it is dropped.
    pub(crate) async fn next(&mut self) -> T {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same for one look.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<T> {
        let mut ended = None;
        for (place, call) in self.0.iter_mut().enumerate() {
            if let Poll::Ready(answer) = call.as_mut().poll(context) {
                ended = Some((place, answer));
                break;
            }
        }
        let Some((place, answer)) = ended else {
            return Poll::Pending;
        };
        drop(self.0.remove(place));
        Poll::Ready(answer)
    }

    /// Returns how many calls are on their way.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops all calls.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sending a call wakes nobody, and its answer wakes once.
    #[test]
    fn only_answers_wake() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let mut calls = InFlight::default();
        let (first, answer) = oneshot::channel();
        calls.push(answer);
        let (second, answer) = oneshot::channel();
        calls.push(answer);
        assert!(calls.poll_next(&mut context).is_pending());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        second.send(2).expect("the call waits for it");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(calls.poll_next(&mut context), Poll::Ready(Ok(2)));
        assert!(calls.poll_next(&mut context).is_pending());
        first.send(1).expect("the call waits for it");
        assert_eq!(calls.poll_next(&mut context), Poll::Ready(Ok(1)));
        assert!(calls.is_empty() && calls.poll_next(&mut context).is_pending());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
    }
}
