//! The jobs of a walk, one by one.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};

use super::{Cursor, Progress};
use crate::error::Result;
use crate::inspect::ListedJob;
use crate::inspect::walk::Walk;

/// A step that is under way.
type Step = BoxFuture<'static, (Walk, Result<Vec<ListedJob>>)>;

/// Jobs as they are found: see [`Queue::search`](crate::Queue::search) and
/// [`Queue::all_jobs`](crate::Queue::all_jobs).
///
/// An error is the last item. Dropping the stream ends it.
#[must_use = "nothing is read until the stream is polled"]
pub struct JobStream {
    /// The walk between two steps.
    walk: Option<Walk>,
    step: Option<Step>,
    ready: VecDeque<ListedJob>,
    /// Where the step began that found what is ready.
    from: Option<Cursor>,
    progress: Progress,
    failed: bool,
}

impl fmt::Debug for JobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobStream")
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl JobStream {
    pub(super) fn new(walk: Walk) -> Self {
        Self {
            progress: walk.progress,
            from: walk.cursor(),
            walk: Some(walk),
            step: None,
            ready: VecDeque::new(),
            failed: false,
        }
    }

    /// Returns the next job; `None` at the end and after an error.
    ///
    /// # Errors
    ///
    /// Connection errors, after which a new search [resumes](super::Search::resume) at the [cursor](Self::cursor).
    ///
    /// # Cancel safety
    ///
    /// A dropped call skips nothing.
    pub async fn next(&mut self) -> Option<Result<ListedJob>> {
        StreamExt::next(self).await
    }

    /// Returns how far the stream has come. Before the first item is asked for, nothing is counted.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Returns where [`Search::resume`](super::Search::resume) goes on, after an error too; `None` at the
    /// end. While jobs of a step have not been taken, that is where the step began.
    pub fn cursor(&self) -> Option<Cursor> {
        match &self.walk {
            Some(walk) if self.ready.is_empty() => walk.cursor(),
            _ => self.from.clone(),
        }
    }
}

impl Stream for JobStream {
    type Item = Result<ListedJob>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(job) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(job)));
            }
            if let Some(step) = &mut this.step {
                let (walk, found) = ready!(step.as_mut().poll(cx));
                this.step = None;
                this.progress = walk.progress;
                this.walk = Some(walk);
                match found {
                    Ok(found) => this.ready = found.into(),
                    Err(error) => {
                        this.failed = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                continue;
            }
            if this.failed || this.walk.as_ref().is_none_or(Walk::is_over) {
                return Poll::Ready(None);
            }
            let Some(mut walk) = this.walk.take() else {
                return Poll::Ready(None);
            };
            this.from = walk.cursor();
            this.step = Some(Box::pin(async move {
                let found = walk.step().await;
                (walk, found)
            }));
        }
    }
}
