//! What can go wrong with a request, sorted by what to do about it.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use super::AccessToken;
use super::codes::{decide, remedy, sort, sort_container};
use super::{Decision, Remedy, Stage};

/// The API's text about a token that it cannot read (webhooks set-up page, 20 Oct 2026). It has no code of its own.
const UNPARSED: &str = "Cannot parse access token";

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
            Self::Spared(wait) => Failure::RateLimited {
                scope: LimitScope::Account,
                wait: Some(*wait),
            },
            Self::Deadline(_) | Self::Unreachable(_) | Self::Unexpected(_) => Failure::Transient,
        }
    }

    /// What to do about it where it came at this stage.
    pub fn decision(&self, stage: Stage) -> Decision {
        match self {
            Self::Declined(error) => error.decision(stage),
            error => Decision::of(error.failure()).at(stage),
        }
    }

    /// What helps, where the failure is final.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Declined(error) => error.remedy(),
            _ => None,
        }
    }

    /// Whether the owner's permission for what was asked for is missing. Too few viewers to count are refused
    /// with the same code.
    pub fn is_missing_permission(&self) -> bool {
        matches!(
            self,
            Self::Declined(error) if error.failure == Failure::MissingPermission
                && !error.message.to_ascii_lowercase().contains("not enough viewers")
        )
    }

    /// Whether the requested object does not exist (any more).
    pub fn is_unknown_object(&self) -> bool {
        matches!(self, Self::Declined(error) if error.code == 100 && error.subcode == Some(33))
    }

    /// Whether the API cannot even read the token, as when it belongs to the other login's host.
    pub(crate) fn is_unparsed_token(&self) -> bool {
        matches!(self, Self::Declined(error) if error.code == 190 && error.message.contains(UNPARSED))
    }

    /// Whether creating a container was refused because one made earlier, such as a child, has expired or no
    /// longer exists, so that new ones are needed.
    pub fn is_stale_container(&self) -> bool {
        self.decision(Stage::Create) == Decision::NewContainer
    }

    /// Whether a server error was reported, which may come after the effect and from what answers in the API's
    /// stead.
    pub(crate) fn is_server_error(&self) -> bool {
        matches!(self, Self::Declined(error) if error.status >= 500)
    }

    /// Whether the request was made and no answer of the API has come; what answers in its stead (504) knows no
    /// more. The API may still be executing it.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self {
            Self::Deadline(_) => true,
            Self::Unreachable(error) => !error.is_connect(),
            Self::Declined(error) => error.status == 504,
            Self::Spared(_) | Self::Unexpected(_) => false,
        }
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

impl Failure {
    /// Whether only the account's owner can help, by connecting it again.
    pub fn needs_reconnection(self) -> bool {
        matches!(self, Self::ExpiredToken | Self::MissingPermission)
    }
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
#[error("graph api error{}: {message}{}", Numbers(*code, *subcode), Advice(user_message.as_deref()))]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// The API's error code; 0 when the answer had none.
    pub code: i64,
    /// The API's error subcode.
    pub subcode: Option<i64>,
    /// The API's own text.
    pub message: String,
    /// What the API would tell the user, its title first.
    pub user_message: Option<String>,
    /// What to do about it.
    pub failure: Failure,
}

/// Shows ` 190 (subcode 463)`, as far as there are numbers.
struct Numbers(i64, Option<i64>);

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 != 0 {
            write!(f, " {}", self.0)?;
        }
        match self.1 {
            Some(subcode) => write!(f, " (subcode {subcode})"),
            None => Ok(()),
        }
    }
}

/// Shows ` (what users are told)`, or nothing.
struct Advice<'a>(Option<&'a str>);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    error: Reported,
}

/// The API's error object.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Reported {
    pub(super) message: String,
    pub(super) code: i64,
    pub(super) error_subcode: Option<i64>,
    pub(super) is_transient: bool,
    pub(super) error_user_title: Option<String>,
    pub(super) error_user_msg: Option<String>,
    /// What Meta's support asks for.
    pub(super) fbtrace_id: Option<String>,
}

impl ApiError {
    /// Whether the request itself was refused, as opposed to its time: too many requests, or an API that
    /// does not work.
    pub(super) fn is_of_the_request(&self) -> bool {
        let passing = matches!(
            self.failure,
            Failure::RateLimited { .. } | Failure::Blocked | Failure::Transient
        );
        !passing && self.status < 500
    }

    /// Reads the error of an unsuccessful response to a request with `token`, which the API's
    /// text may quote. A body that is not the API's error object, such as a proxy's page, is
    /// judged by its status alone.
    pub(super) fn read(
        status: StatusCode,
        wait: Option<Duration>,
        body: &[u8],
        token: &AccessToken,
    ) -> Self {
        let reported = serde_json::from_slice::<Envelope>(body).map_or_else(
            |_| Reported {
                message: format!("http status {status}"),
                ..Reported::default()
            },
            |envelope| envelope.error,
        );
        let shown = |text: &str| plain(&token.hide_in(text));
        let told = [&reported.error_user_title, &reported.error_user_msg];
        let told: Vec<_> = told.into_iter().flatten().map(String::as_str).collect();
        let error = Self {
            failure: sort(status, wait, &reported),
            status: status.as_u16(),
            code: reported.code,
            subcode: reported.error_subcode,
            message: shown(&reported.message),
            user_message: Some(shown(&told.join(": "))).filter(|text| !text.is_empty()),
        };
        let trace = reported.fbtrace_id.as_deref().map(shown);
        if error.failure == Failure::Unclassified {
            tracing::warn!(%error, trace, "an error that the graph api does not document");
        } else {
            tracing::debug!(%error, trace, "graph api error");
        }
        error
    }

    /// The error that a container's status reports by subcode.
    pub(crate) fn of_container(subcode: Option<i64>, message: &str) -> Self {
        Self {
            status: 200,
            code: 0,
            subcode,
            message: plain(message),
            user_message: None,
            failure: sort_container(subcode),
        }
    }

    /// What to do about it where it came at this stage.
    pub fn decision(&self, stage: Stage) -> Decision {
        decide(self.code, self.subcode, self.failure, stage)
    }

    /// What helps, where the failure is final.
    pub fn remedy(&self) -> Option<Remedy> {
        remedy(self.code, self.subcode, self.failure)
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
            None,
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
        assert_eq!(
            read(404, "").to_string(),
            "graph api error: http status 404 Not Found"
        );
        assert_eq!(
            ApiError::of_container(Some(2_207_085), "Error").to_string(),
            "graph api error (subcode 2207085): Error"
        );
    }

    /// For what the tables do not know, the API's text for users is all that there is to go by.
    #[test]
    fn text_includes_what_users_are_to_be_told() {
        let error = read(
            400,
            r#"{"error":{"message":"Invalid","code":100,"error_subcode":2207098,"is_transient":false,
            "error_user_title":"Too square","error_user_msg":"No s3cret circles","fbtrace_id":"A6L"}}"#,
        );
        let text = error.to_string();
        let expected = "graph api error 100 (subcode 2207098): Invalid (Too square: No ";
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains("s3cret") && !text.contains("A6L"), "{text}");
        assert_eq!(error.failure, Failure::Unclassified);
    }
}
