//! What can go wrong with a request, sorted by what to do about it.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::AccessToken;
use super::codes::{limited, sort, sort_by_subcode};

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The API answered with an error of its own.
    #[error(transparent)]
    Declined(#[from] ApiError),
    /// No answer within the deadline; the API may have done what was asked.
    #[error("the graph api did not answer within {0:?}")]
    Deadline(Duration),
    /// The connection failed or broke off; the API may have done what was asked.
    #[error("the graph api could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The request was not made, since earlier answers asked to leave the account alone.
    #[error("the graph api asks to wait for {0:?}")]
    Spared(Duration),
    /// An answer that is not what the API documents.
    #[error("unexpected answer of the graph api: {0}")]
    Unexpected(String),
}

impl GraphError {
    /// What to do about it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Declined(error) => error.failure,
            Self::Spared(wait) => limited(LimitScope::Account, Some(*wait)),
            Self::Deadline(_) | Self::Unreachable(_) | Self::Unexpected(_) => Failure::Transient,
        }
    }

    /// Whether the requested object does not exist (any more).
    pub fn is_unknown_object(&self) -> bool {
        matches!(self, Self::Declined(error) if error.code == 100 && error.subcode == Some(33))
    }

    /// Whether a container made earlier has expired or no longer exists, so that a new one is needed.
    pub fn is_stale_container(&self) -> bool {
        matches!(
            self,
            Self::Declined(ApiError {
                subcode: Some(2_207_006 | 2_207_008 | 2_207_020),
                ..
            })
        )
    }

    /// Whether the request may have been executed although no success was reported.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            // What answers in the API's stead does not know what the API has done, and the API's
            // own passing failures may come after the effect.
            Self::Declined(error) => {
                error.status >= 500
                    || matches!(error.failure, Failure::Transient | Failure::Unclassified)
            }
            Self::Spared(_) => false,
            Self::Deadline(_) | Self::Unreachable(_) | Self::Unexpected(_) => true,
        }
    }
}

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The same request never succeeds: invalid media, an unknown object.
    Permanent,
    /// The account's owner has not granted a permission or has revoked it; connecting the account again
    /// grants it.
    MissingPermission,
    /// The account's token has expired or was revoked; its owner must connect it again.
    ExpiredToken,
    /// Too many requests: retry after `wait`, or after a time of the caller's choice when the
    /// API named none.
    RateLimited {
        /// Whose requests are limited.
        scope: LimitScope,
        /// The wait that the API asked for.
        wait: Option<Duration>,
    },
    /// A policy blocks the account for a while, and asking again prolongs the block.
    Blocked,
    /// The media is not ready to be published; it becomes so by itself.
    NotReady,
    /// A passing failure: the same request may succeed later.
    Transient,
    /// An error that the API does not document: handled as transient, final in the last attempt.
    Unclassified,
}

/// Whose requests a rate limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// All requests of the application.
    Application,
    /// The requests for one account.
    Account,
    /// The posts that one account publishes; its other requests are accepted.
    Publishing,
}

/// An error that the API reported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("graph api error {code}{}: {message}", Subcode(*subcode))]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// The API's error code; 0 when the answer had none.
    pub code: i64,
    /// The API's error subcode.
    pub subcode: Option<i64>,
    /// The API's own text.
    pub message: String,
    /// What to do about it.
    pub failure: Failure,
}

/// Shows ` (subcode n)`, or nothing.
struct Subcode(Option<i64>);

impl std::fmt::Display for Subcode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(subcode) => write!(f, " (subcode {subcode})"),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    error: Reported,
}

/// The API's error object.
#[derive(Deserialize)]
pub(super) struct Reported {
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) code: i64,
    pub(super) error_subcode: Option<i64>,
    #[serde(default)]
    pub(super) is_transient: bool,
}

impl ApiError {
    /// Reads the error of an unsuccessful response to a request with `token`, which the API's
    /// text may quote. A body that is not the API's error object, such as a proxy's page, is
    /// judged by its status alone.
    pub(super) fn read(
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        token: &AccessToken,
    ) -> Self {
        let reported = serde_json::from_slice::<Envelope>(body).map_or_else(
            |_| Reported {
                message: format!("http status {status}"),
                code: 0,
                error_subcode: None,
                is_transient: false,
            },
            |envelope| envelope.error,
        );
        Self {
            failure: sort(status, headers, &reported),
            status: status.as_u16(),
            code: reported.code,
            subcode: reported.error_subcode,
            message: plain(&token.hide_in(&reported.message)),
        }
    }

    /// The error that a container's status reports by subcode.
    pub(crate) fn of_container(subcode: Option<i64>, message: &str) -> Self {
        let failure = subcode
            .and_then(sort_by_subcode)
            .map_or(Failure::Permanent, |sorted| sorted.failure(None));
        Self {
            status: 200,
            code: 0,
            subcode,
            message: plain(message),
            failure,
        }
    }
}

/// The longest text of the API that is passed on, in characters.
const LONGEST_TEXT: usize = 500;

/// The API's text as it may stand in logs, failure reasons and messages: of one line, not long.
fn plain(text: &str) -> String {
    let characters = text.chars().take(LONGEST_TEXT);
    characters
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> ApiError {
        ApiError::read(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
            &AccessToken::new("s3cret"),
        )
    }

    /// A gateway in between answers with its own page; the status alone must then decide.
    #[test]
    fn foreign_bodies_are_judged_by_status() {
        assert_eq!(read(502, "<html>").failure, Failure::Transient);
        assert_eq!(read(404, "").failure, Failure::Permanent);
        assert_eq!(read(502, "<html>").code, 0);
    }

    /// The API quotes tokens that it cannot read, and its text ends up in Redis and with users.
    #[test]
    fn text_of_the_api_shows_no_token() {
        let text = format!(
            "Malformed access token {}s3cret",
            "x".repeat(LONGEST_TEXT - 26)
        );
        let body = serde_json::json!({ "error": { "message": text, "code": 190 } });
        let message = read(400, &body.to_string()).message;
        assert!(message.starts_with("Malformed access token"), "{message}");
        assert!(!message.contains("s3c"), "{message}");
    }

    /// The API's text ends up in logs and with users, so it must not break out of its line there.
    #[test]
    fn text_of_the_api_is_short_and_of_one_line() {
        let text = format!("first\nsecond\u{1b}[31m{}", "x".repeat(5000));
        let body = serde_json::json!({ "error": { "message": text, "code": 100 } });
        let message = read(400, &body.to_string()).message;
        assert!(message.starts_with("first second [31m"));
        assert_eq!(message.chars().count(), LONGEST_TEXT);
    }

    /// The failure reason that operators read names code and subcode.
    #[test]
    fn text_names_code_and_subcode() {
        let error = read(
            400,
            r#"{"error":{"message":"expired","code":190,"error_subcode":463}}"#,
        );
        assert_eq!(
            error.to_string(),
            "graph api error 190 (subcode 463): expired"
        );
    }
}
