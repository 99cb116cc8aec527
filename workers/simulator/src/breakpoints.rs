//! Requests that a test cooldowns, so that it can kill who made them at an exact moment.

use tokio::sync::watch;

/// When a request is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before it has any effect.
    Before,
    /// After its effect, before its answer.
    After,
}

/// A paused request, or one that is still to come. Dropping it resumes the request.
#[derive(Debug)]
pub struct PausedRequest {
    reached: watch::Receiver<bool>,
    _open: watch::Sender<()>,
}

impl PausedRequest {
    /// Waits until the request has come and is paused.
    pub async fn reached(&mut self) {
        // The breakpoint is dropped with the simulator; then no request will come any more.
        if self.reached.wait_for(|reached| *reached).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the request has arrived.
    pub fn is_reached(&self) -> bool {
        *self.reached.borrow()
    }
}

/// The simulator's side of a [`PausedRequest`].
#[derive(Debug)]
pub(super) struct Breakpoint {
    account: String,
    left: u32,
    moment: Moment,
    reached: watch::Sender<bool>,
    open: watch::Receiver<()>,
}

impl Breakpoint {
    /// A breakpoint for the `nth` request of an account from now on, counted from 1.
    pub(super) fn new(account: &str, nth: u32, moment: Moment) -> (Self, PausedRequest) {
        let (reached, seen) = watch::channel(false);
        let (opener, open) = watch::channel(());
        let breakpoint = Self {
            account: account.to_owned(),
            left: nth,
            moment,
            reached,
            open,
        };
        let hold = PausedRequest {
            reached: seen,
            _open: opener,
        };
        (breakpoint, hold)
    }

    /// Counts a request; returns whether it is the one to stop.
    pub(super) fn counts(&mut self, account: &str) -> bool {
        if self.account != account || self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.left == 0
    }

    /// Cooldowns the request that is at this moment until it is let go.
    pub(super) async fn pass(&mut self, moment: Moment) {
        if self.moment == moment {
            self.reached.send_replace(true);
            // Nothing is ever sent: the wait ends when the sender is dropped.
            while self.open.changed().await.is_ok() {}
        }
    }
}
