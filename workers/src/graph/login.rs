//! Which login an application uses, and the host and tokens that belong to it.

use std::fmt;

use reqwest::Url;

use super::{AccessToken, TokenKind};

/// How sellers connect their accounts. Each login has its own host and its own kind of token: the other
/// host answers 190 "Cannot parse access token", as if the seller had to reconnect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum GraphLogin {
    /// Instagram Login: `graph.instagram.com`, a token (IG...) for each account
    Instagram,
    /// Facebook Login or a system user: `graph.facebook.com`, tokens EAA...
    Facebook,
}

impl GraphLogin {
    /// The login whose host this is; `None` for a proxy or a stand-in.
    pub(super) fn of_host(url: &Url) -> Option<Self> {
        match url.host_str()? {
            "graph.instagram.com" => Some(Self::Instagram),
            "graph.facebook.com" => Some(Self::Facebook),
            _ => None,
        }
    }

    /// Whether a token may be of this login. One of unknown kind may be of either.
    pub fn takes(self, token: &AccessToken) -> bool {
        match token.kind() {
            TokenKind::InstagramUser => self == Self::Instagram,
            TokenKind::Facebook => self == Self::Facebook,
            TokenKind::Unknown => true,
        }
    }

    /// What to do when tokens are of the other login.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Instagram => {
                "set GRAPH_API_URL to https://graph.facebook.com/v23.0 (and GRAPH_LOGIN, if it is set, to \
                 facebook), or connect the accounts by Instagram Login"
            }
            Self::Facebook => {
                "set GRAPH_API_URL to https://graph.instagram.com/v23.0 (and GRAPH_LOGIN, if it is set, to \
                 instagram), or use page or system-user tokens"
            }
        }
    }
}

impl fmt::Display for GraphLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instagram => "graph.instagram.com (Instagram Login)",
            Self::Facebook => "graph.facebook.com (Facebook Login)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each kind of token belongs to one host; what is not known is not refused.
    #[test]
    fn tokens_are_taken_by_their_own_login() {
        let url = |text| Url::parse(text).unwrap();
        let instagram = GraphLogin::of_host(&url("https://graph.instagram.com/v23.0")).unwrap();
        let facebook = GraphLogin::of_host(&url("https://graph.facebook.com/v23.0")).unwrap();
        assert_eq!(
            GraphLogin::of_host(&url("http://127.0.0.1:4010/v23.0")),
            None
        );
        for (token, by_instagram, by_facebook) in [
            ("IGx", true, false),
            ("EAAx", false, true),
            ("x", true, true),
        ] {
            let token = AccessToken::new(token);
            assert_eq!(instagram.takes(&token), by_instagram, "{}", token.kind());
            assert_eq!(facebook.takes(&token), by_facebook, "{}", token.kind());
        }
        assert!(instagram.remedy().contains("graph.facebook.com"));
        assert!(facebook.remedy().contains("graph.instagram.com"));
    }
}
