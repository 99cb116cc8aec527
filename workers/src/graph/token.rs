//! Access tokens and where they come from.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::AccountId;

/// A bearer token. `Debug` hides it, and there is no `Display`.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct AccessToken(String);

impl AccessToken {
    /// Wraps a token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns a text without this token in it.
    pub(super) fn hide_in(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        text.replace(&self.0, "***")
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(hidden)")
    }
}

/// The tokens a worker may use: one for every account, one per account, or both.
///
/// Jobs never carry tokens, since job data is clear text in Redis.
#[derive(Debug, Clone, Default)]
pub struct AccessTokens {
    shared: Option<AccessToken>,
    by_account: HashMap<AccountId, AccessToken>,
}

impl AccessTokens {
    /// Uses one token, such as a system user's, for every account without its own.
    pub fn shared(token: AccessToken) -> Self {
        Self {
            shared: Some(token),
            by_account: HashMap::new(),
        }
    }

    /// Adds an account's own token.
    #[must_use]
    pub fn with(mut self, account: AccountId, token: AccessToken) -> Self {
        self.by_account.insert(account, token);
        self
    }

    /// Adds the tokens of a JSON file, an object from account id to token.
    ///
    /// # Errors
    /// [`TokenFileError`] when the file cannot be read or is not such an object; the text
    /// names the file and never shows its content.
    pub fn with_file(mut self, path: &Path) -> Result<Self, TokenFileError> {
        let failed = |problem| TokenFileError {
            path: path.to_owned(),
            problem,
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let tokens: HashMap<AccountId, AccessToken> =
            serde_json::from_str(&text).map_err(|error| {
                failed(format!(
                    "not an object from account id to token, line {}",
                    error.line()
                ))
            })?;
        self.by_account.extend(tokens);
        Ok(self)
    }

    /// The token to use for an account.
    ///
    /// # Errors
    /// [`MissingToken`] when there is neither its own nor a shared one.
    pub fn of(&self, account: &AccountId) -> Result<&AccessToken, MissingToken> {
        self.by_account
            .get(account)
            .or(self.shared.as_ref())
            .ok_or_else(|| MissingToken {
                account: account.clone(),
            })
    }
}

/// No token is configured for an account.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no access token is configured for account {account}")]
pub struct MissingToken {
    account: AccountId,
}

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("token file {}: {problem}", path.display())]
pub struct TokenFileError {
    path: PathBuf,
    problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs print structures with `Debug`; a token must not be among what they show.
    #[test]
    fn debug_output_hides_tokens() {
        let account = AccountId::new("1").unwrap();
        let tokens = AccessTokens::shared(AccessToken::new("s3cret"))
            .with(account, AccessToken::new("0ther"));
        let shown = format!("{tokens:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("0ther"));
    }

    /// An account's own token wins over the shared one.
    #[test]
    fn own_token_wins_over_the_shared_one() {
        let own = AccountId::new("1").unwrap();
        let other = AccountId::new("2").unwrap();
        let tokens = AccessTokens::shared(AccessToken::new("shared"))
            .with(own.clone(), AccessToken::new("own"));
        assert_eq!(tokens.of(&own).unwrap().reveal(), "own");
        assert_eq!(tokens.of(&other).unwrap().reveal(), "shared");
        assert!(AccessTokens::default().of(&other).is_err());
    }
}
