//! Requests that a test cooldowns, so that it can kill who made them at an exact moment.

use tokio::sync::watch;

/// When a request is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before it has any effect.
    Before,
    /// After its effect, before its answer.
    After,
}

/// A held request, or one that is still to come. Dropping it lets the request go on.
#[derive(Debug)]
pub struct Hold {
    reached: watch::Receiver<bool>,
    _open: watch::Sender<()>,
}

impl Hold {
    /// Waits until the request is there and held.
    pub async fn reached(&mut self) {
        // The gate goes when the simulator does; then nothing will be reached any more.
        if self.reached.wait_for(|reached| *reached).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Says whether the request is there.
    pub fn is_reached(&self) -> bool {
        *self.reached.borrow()
    }
}

/// The simulator's side of a [`Hold`].
#[derive(Debug)]
pub(super) struct Gate {
    account: String,
    left: u32,
    moment: Moment,
    reached: watch::Sender<bool>,
    open: watch::Receiver<()>,
}

impl Gate {
    /// A gate for the `nth` request of an account from now on, counted from 1.
    pub(super) fn new(account: &str, nth: u32, moment: Moment) -> (Self, Hold) {
        let (reached, seen) = watch::channel(false);
        let (opener, open) = watch::channel(());
        let gate = Self {
            account: account.to_owned(),
            left: nth,
            moment,
            reached,
            open,
        };
        let hold = Hold {
            reached: seen,
            _open: opener,
        };
        (gate, hold)
    }

    /// Counts a request; says whether it is the one.
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
