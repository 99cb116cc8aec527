//! What programs do beside their jobs for the accounts' tokens: they read the token file again when it changes
//! or on SIGHUP, and refresh stored tokens before they end.

mod refresh;

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub use refresh::{RefreshSettings, TokenRefresher};

use crate::app::{Problems, StartError};
use crate::graph::{AccessTokens, TokenFile, TokenFileError};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The name of this work among a program's problems.
const PART: &str = "access tokens";

/// Reads the token file again.
#[derive(Debug)]
pub struct FileUpkeep {
    tokens: AccessTokens,
    problems: Problems,
    hangups: Signal,
}

impl FileUpkeep {
    /// Listens for SIGHUP from now on.
    ///
    /// # Errors
    /// [`StartError::Setting`] when the process cannot listen for signals.
    pub fn new(tokens: &AccessTokens, problems: &Problems) -> Result<Self, StartError> {
        let hangups = signal(SignalKind::hangup());
        Ok(Self {
            tokens: tokens.clone(),
            problems: problems.clone(),
            hangups: hangups.map_err(|error| StartError::Setting(error.into()))?,
        })
    }

    /// Works until it is dropped. A file that cannot be used leaves the tokens as they are and is a problem
    /// of the program until it can.
    pub async fn run(mut self) {
        loop {
            let asked = tokio::select! {
                signal = self.hangups.recv() => signal.is_some(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let Some(file) = self.tokens.file().cloned() else {
                continue;
            };
            let read = tokio::task::spawn_blocking(move || read(&file, asked)).await;
            match read {
                Ok(Some(Ok(accounts))) => self.works(accounts),
                Ok(Some(Err(error))) => {
                    tracing::error!(%error, "the tokens stay as they were");
                    self.problems.report(PART, error);
                }
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn works(&self, accounts: usize) {
        self.problems.clear(PART);
        tracing::info!(accounts, "the token file was read again");
        if let (Some(file), Some(login)) = (self.tokens.file(), self.tokens.login()) {
            file.log_misfits(login);
        }
    }
}

/// Does both until it is dropped.
pub async fn run(file: FileUpkeep, refresher: Option<TokenRefresher>) {
    let refresh = async {
        match refresher {
            Some(refresher) => refresher.run().await,
            None => std::future::pending().await,
        }
    };
    // Requests to the API make it large.
    tokio::join!(file.run(), Box::pin(refresh));
}

/// Reads the file if it has changed or somebody asks for it.
fn read(file: &TokenFile, asked: bool) -> Option<Result<usize, TokenFileError>> {
    (asked || file.has_changed()).then(|| file.reload())
}
