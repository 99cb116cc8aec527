//! Access tokens.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

/// A bearer token; cheap to clone. `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct AccessToken(Arc<str>);

/// What a token is for, by its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// `IG…`: a user of Instagram Login. Works for one account, for 60 days, and can be refreshed.
    InstagramUser,
    /// `EAA…`: a page or a system user of Facebook Login.
    Facebook,
    /// Any other prefix: it is not known which login it is of.
    Unknown,
}

impl AccessToken {
    /// Wraps a token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into().into())
    }

    /// What it is for.
    pub fn kind(&self) -> TokenKind {
        if self.0.starts_with("IG") {
            TokenKind::InstagramUser
        } else if self.0.starts_with("EAA") {
            TokenKind::Facebook
        } else {
            TokenKind::Unknown
        }
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns a text without this token in it.
    pub(super) fn hide_in(&self, text: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        text.replace(&*self.0, "***")
    }
}

impl From<String> for AccessToken {
    fn from(token: String) -> Self {
        Self::new(token)
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(hidden)")
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InstagramUser => "an Instagram user token (IG...)",
            Self::Facebook => "a Facebook page or system-user token (EAA...)",
            Self::Unknown => "a token of unknown kind",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: research of 27 Nov 2026 on Meta's webhooks set-up page and public repositories.
    #[test]
    fn kind_is_the_prefix() {
        for (token, kind) in [
            ("IGAAx", TokenKind::InstagramUser),
            ("IGQVJx", TokenKind::InstagramUser),
            ("EAAGx", TokenKind::Facebook),
            ("EA", TokenKind::Unknown),
            ("ig", TokenKind::Unknown),
            ("", TokenKind::Unknown),
        ] {
            assert_eq!(AccessToken::new(token).kind(), kind, "{token}");
        }
    }
}
