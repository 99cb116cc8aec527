//! Panics of handlers: caught, with the place where they happened.

use std::any::Any;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

use crate::job::{AttemptError, JobError};

thread_local! {
    /// The place of the last panic while a handler runs on this thread; `None` while none runs.
    static WATCH: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// `file:line:column`, once there was a panic.
type Place = Option<String>;

/// Makes panics of handlers name their place. The process's hook stays in force: ours calls it,
/// and does nothing of its own outside of handlers.
pub(super) fn install_hook() {
    static INSTALLED: Once = Once::new();
    // A thread that panics may not change the hook; the next worker will.
    if std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            note(info);
            previous(info);
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    // Neither a thread's end nor a panic within this very closure may panic here.
    let noted = WATCH.try_with(|watch| {
        if let Ok(mut watch) = watch.try_borrow_mut()
            && let Some(place) = watch.as_mut()
        {
            *place = info.location().map(ToString::to_string);
        }
    });
    // A thread that ends runs no handler.
    noted.ok();
}

/// Runs a handler to its end.
///
/// # Errors
///
/// A failed attempt when it panics.
pub(super) async fn caught<F: Future>(handler: F) -> Result<F::Output, JobError> {
    let mut handler = pin!(handler);
    poll_fn(|cx| {
        let outer = WATCH.replace(Some(None));
        let polled = panic::catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
        let place = WATCH.replace(outer).flatten();
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(panicked(&*payload).at(place))),
        }
    })
    .await
}

/// Converts a panic into a failed attempt, its place unknown.
pub(super) fn panicked(payload: &(dyn Any + Send)) -> JobError {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    JobError::retry(AttemptError::Panicked(message)).at(None)
}
