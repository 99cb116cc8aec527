//! The Graph API's settings, by flag or environment variable.

use std::path::PathBuf;
use std::time::Duration;

use super::{AccessToken, AccessTokens, GraphClient, GraphOptions, SetupError, TokenFileError};
use crate::app::StartError;

/// The variable with a token for every account. It has no flag, since arguments are visible to
/// every user of the machine.
const TOKEN_VARIABLE: &str = "GRAPH_ACCESS_TOKEN";

/// Settings that the Graph API cannot be used with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphSettingsError {
    /// The client could not be set up.
    #[error("graph api")]
    Client(#[from] SetupError),
    /// The file with the accounts' tokens.
    #[error("access tokens")]
    Tokens(#[from] TokenFileError),
    /// No token is configured, so no job could do its work.
    #[error("no access token: set GRAPH_ACCESS_TOKEN or GRAPH_TOKENS_FILE")]
    NoToken,
}

impl From<GraphSettingsError> for StartError {
    fn from(error: GraphSettingsError) -> Self {
        Self::Setting(error.into())
    }
}

/// Where the Graph API is. The token for accounts without their own is `GRAPH_ACCESS_TOKEN`, from
/// the environment only.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Graph API (GRAPH_ACCESS_TOKEN: environment only)")]
#[expect(clippy::struct_field_names, reason = "they name the flags")]
pub struct GraphSettings {
    /// Base URL, with the version
    #[arg(
        long,
        env = "GRAPH_API_URL",
        default_value = "https://graph.instagram.com/v23.0"
    )]
    graph_api_url: String,
    /// Seconds one request may take
    #[arg(long, env = "GRAPH_DEADLINE", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    graph_deadline: u64,
    /// JSON file with an object from account id to token
    #[arg(long, env = "GRAPH_TOKENS_FILE")]
    graph_tokens_file: Option<PathBuf>,
}

impl GraphSettings {
    /// A client for that address.
    ///
    /// # Errors
    /// [`GraphSettingsError::Client`] when it cannot be used.
    pub fn client(&self) -> Result<GraphClient, GraphSettingsError> {
        let options = GraphOptions::new(&self.graph_api_url).deadline(self.deadline());
        Ok(GraphClient::new(&options)?)
    }

    /// How long one request may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.graph_deadline)
    }

    /// The tokens configured.
    ///
    /// # Errors
    /// [`GraphSettingsError::NoToken`] when there are none, [`GraphSettingsError::Tokens`] for an unusable file.
    pub fn tokens(&self) -> Result<AccessTokens, GraphSettingsError> {
        let shared = std::env::var(TOKEN_VARIABLE)
            .ok()
            .filter(|token| !token.is_empty());
        let file = self
            .graph_tokens_file
            .as_ref()
            .filter(|path| !path.as_os_str().is_empty());
        if shared.is_none() && file.is_none() {
            return Err(GraphSettingsError::NoToken);
        }
        let tokens = shared.map_or_else(AccessTokens::default, |token| {
            AccessTokens::shared(AccessToken::new(token))
        });
        Ok(match file {
            Some(path) => tokens.with_file(path)?,
            None => tokens,
        })
    }
}
