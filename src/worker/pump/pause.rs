//! Whether the worker is paused.

use tokio::sync::oneshot;

/// The pause of a worker, and the callers who wait until its last handler has ended.
#[derive(Debug)]
pub(super) struct Pause {
    paused: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Pause {
    pub(super) fn new(paused: bool) -> Self {
        Self {
            paused,
            waiting: Vec::new(),
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Pauses; `idle` is answered once nothing runs. Returns whether the worker was not paused yet.
    pub(super) fn pause(&mut self, idle: oneshot::Sender<()>) -> bool {
        self.waiting.push(idle);
        !std::mem::replace(&mut self.paused, true)
    }

    /// Resumes, which also ends the waits for the pause. Returns whether the worker was paused.
    pub(super) fn resume(&mut self) -> bool {
        self.notify();
        std::mem::replace(&mut self.paused, false)
    }

    /// Notes that nothing runs.
    pub(super) fn idle(&mut self) {
        if self.paused {
            self.notify();
        }
    }

    fn notify(&mut self) {
        for waiting in self.waiting.drain(..) {
            // The caller may have stopped waiting.
            waiting.send(()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_wait_until_nothing_runs() {
        let mut pause = Pause::new(false);
        let (first, mut first_idle) = oneshot::channel();
        let (second, mut second_idle) = oneshot::channel();
        assert!(pause.pause(first));
        assert!(!pause.pause(second), "it is paused already");
        assert!(first_idle.try_recv().is_err() && second_idle.try_recv().is_err());
        pause.idle();
        assert!(first_idle.try_recv().is_ok() && second_idle.try_recv().is_ok());
        assert!(pause.is_paused());
    }

    #[test]
    fn resuming_ends_the_waits_for_the_pause() {
        let mut pause = Pause::new(true);
        let (waiting, mut idle) = oneshot::channel();
        pause.pause(waiting);
        assert!(pause.resume());
        assert!(idle.try_recv().is_ok());
        assert!(!pause.resume(), "it is not paused any more");
    }
}
