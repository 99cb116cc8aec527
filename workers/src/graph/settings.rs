//! The Graph API's settings, by flag or environment variable.

use std::path::PathBuf;
use std::time::Duration;

use oxbull::client::Client;
use oxbull::vault::Keyring;

use super::{
    AccessToken, AccessTokens, AccountId, GraphClient, GraphLogin, GraphOptions, SetupError,
    TokenFile, TokenFileError, TokenKind, TokenStore,
};
use crate::app::StartError;

/// The variable with one token. It has no flag, since arguments are visible to every user of the
/// machine.
const TOKEN_VARIABLE: &str = "GRAPH_ACCESS_TOKEN";

/// The variable with the keys of the sealed store.
const KEYS_VARIABLE: &str = "ENCRYPTION_KEYS";

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
    /// The keys of the sealed store.
    #[error("keys of the access tokens")]
    Keys(#[source] oxbull::Error),
    /// There is no source of tokens, so no job could do its work.
    #[error(
        "no access tokens: set ENCRYPTION_KEYS for the sealed store (graph-tokens puts tokens into it), or \
         GRAPH_TOKENS_FILE, or GRAPH_ACCESS_TOKEN"
    )]
    NoToken,
    /// `GRAPH_LOGIN` and the host of `GRAPH_API_URL` belong to different logins.
    #[error("GRAPH_LOGIN is not the login of GRAPH_API_URL, which is {0}: change one of them")]
    WrongHost(GraphLogin),
    /// The tokens configured belong to the other login: the host would refuse every request.
    #[error("{source_name} has {kind}, which {login} does not take: {}", login.remedy())]
    WrongLogin {
        /// Where the tokens come from.
        source_name: &'static str,
        /// What they are.
        kind: TokenKind,
        /// The login in use.
        login: GraphLogin,
    },
    /// A token of Instagram Login works for one account, and it is not known which.
    #[error(
        "GRAPH_ACCESS_TOKEN is an Instagram user token, which works for its own account only: set \
         GRAPH_ACCOUNT_ID to that account's id, or use the sealed store for several accounts"
    )]
    NoAccount,
}

impl From<GraphSettingsError> for StartError {
    fn from(error: GraphSettingsError) -> Self {
        Self::Setting(error.into())
    }
}

/// Where the Graph API is, and the login that goes with it.
#[derive(Debug, Clone, clap::Args)]
pub struct HostSettings {
    /// Base URL, with the version
    #[arg(
        long,
        env = "GRAPH_API_URL",
        default_value = "https://graph.instagram.com/v23.0"
    )]
    graph_api_url: String,
    /// How sellers connect their accounts, instagram or facebook; by the host when unset
    #[arg(long, env = "GRAPH_LOGIN", value_enum, hide_possible_values = true)]
    graph_login: Option<GraphLogin>,
}

impl HostSettings {
    /// The login that the host and every token must be of; `None` when nothing says which.
    ///
    /// # Errors
    /// [`GraphSettingsError::WrongHost`] when host and login differ, [`GraphSettingsError::Client`] when the
    /// host cannot be used.
    pub fn login(&self) -> Result<Option<GraphLogin>, GraphSettingsError> {
        let of_host = GraphClient::new(&GraphOptions::new(&self.graph_api_url))?.login();
        match (self.graph_login, of_host) {
            (Some(login), Some(of_host)) if login != of_host => {
                Err(GraphSettingsError::WrongHost(of_host))
            }
            (login, of_host) => Ok(login.or(of_host)),
        }
    }
}

/// Where the Graph API is, and where tokens come from besides the sealed store. The token of
/// `GRAPH_ACCESS_TOKEN` and the keys of `ENCRYPTION_KEYS` come from the environment only.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Graph API (GRAPH_ACCESS_TOKEN, ENCRYPTION_KEYS: environment only)")]
pub struct GraphSettings {
    #[command(flatten)]
    host: HostSettings,
    /// Seconds one request may take
    #[arg(long, env = "GRAPH_DEADLINE", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    graph_deadline: u64,
    /// JSON file with an object from account id to token; read again when it changes and on SIGHUP
    #[arg(long, env = "GRAPH_TOKENS_FILE")]
    graph_tokens_file: Option<PathBuf>,
    /// Account of `GRAPH_ACCESS_TOKEN`; every account without a token of its own when unset
    #[arg(long, env = "GRAPH_ACCOUNT_ID", value_parser = account)]
    graph_account_id: Option<AccountId>,
    /// Milliseconds for which a missing token postpones jobs before they fail and sellers are told
    #[arg(
        long,
        env = "MISSING_TOKEN_MAX_MS",
        value_name = "MISSING_TOKEN_MAX_MS",
        default_value_t = 3_600_000
    )]
    missing_token_max_ms: u64,
}

fn account(text: &str) -> Result<AccountId, super::InvalidId> {
    AccountId::new(text)
}

impl GraphSettings {
    /// A client for that address.
    ///
    /// # Errors
    /// [`GraphSettingsError::Client`] when it cannot be used.
    pub fn client(&self) -> Result<GraphClient, GraphSettingsError> {
        let options = GraphOptions::new(&self.host.graph_api_url).deadline(self.deadline());
        Ok(GraphClient::new(&options)?)
    }

    /// How long one request may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.graph_deadline)
    }

    /// The sources of tokens: all are read and checked, but for the store in Redis.
    ///
    /// # Errors
    /// [`GraphSettingsError::NoToken`] when there is none; otherwise what is wrong with one of them.
    pub fn tokens(&self) -> Result<TokenSources, GraphSettingsError> {
        let login = self.host.login()?;
        let one = variable(TOKEN_VARIABLE).map(AccessToken::new);
        let keyring = variable(KEYS_VARIABLE).map(|keys| Keyring::parse(&keys));
        let keyring = keyring.transpose().map_err(GraphSettingsError::Keys)?;
        let path = self.graph_tokens_file.as_ref();
        let path = path.filter(|path| !path.as_os_str().is_empty());
        let file = path.map(|path| TokenFile::open(path)).transpose()?;
        if one.is_none() && keyring.is_none() && file.is_none() {
            return Err(GraphSettingsError::NoToken);
        }
        if let Some(login) = login {
            check(login, one.as_ref(), file.as_ref())?;
        }
        let tokens = match (one, &self.graph_account_id) {
            (None, _) => AccessTokens::default(),
            (Some(token), Some(account)) => AccessTokens::default().with(account.clone(), token),
            (Some(token), None) if token.kind() == TokenKind::InstagramUser => {
                return Err(GraphSettingsError::NoAccount);
            }
            (Some(token), None) => AccessTokens::shared(token),
        };
        let tokens = match file {
            Some(file) => tokens.with_file(file),
            None => tokens,
        };
        Ok(TokenSources {
            tokens: tokens
                .of_login(login)
                .missing_for(Duration::from_millis(self.missing_token_max_ms)),
            keyring,
        })
    }
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Checks tokens against the login. Single tokens of a file are logged; the start fails when none fits.
fn check(
    login: GraphLogin,
    one: Option<&AccessToken>,
    file: Option<&TokenFile>,
) -> Result<(), GraphSettingsError> {
    let wrong = |source_name, token: &AccessToken| GraphSettingsError::WrongLogin {
        source_name,
        kind: token.kind(),
        login,
    };
    if let Some(token) = one.filter(|token| !login.takes(token)) {
        return Err(wrong(TOKEN_VARIABLE, token));
    }
    let tokens = file.map(TokenFile::all).unwrap_or_default();
    if let Some((_, token)) = tokens.first()
        && tokens.iter().all(|(_, token)| !login.takes(token))
    {
        return Err(wrong("GRAPH_TOKENS_FILE", token));
    }
    if let Some(file) = file {
        file.log_misfits(login);
    }
    Ok(())
}

/// Sources of tokens, checked but not connected yet.
#[derive(Debug)]
pub struct TokenSources {
    tokens: AccessTokens,
    keyring: Option<Keyring>,
}

impl TokenSources {
    /// Tokens whose store, if there are keys for it, is on the queues' server of this client.
    #[must_use]
    pub fn connect(self, client: &Client) -> AccessTokens {
        match self.keyring {
            Some(keyring) => self.tokens.with_store(TokenStore::new(client, keyring)),
            None => self.tokens,
        }
    }
}
