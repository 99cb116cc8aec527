//! What can go wrong with a request, sorted by what to do about it.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::AccessToken;
use super::usage::requested_wait;

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
            Self::Declined(error) => error.status >= 500 || error.failure == Failure::Transient,
            Self::Spared(_) => false,
            Self::Deadline(_) | Self::Unreachable(_) | Self::Unexpected(_) => true,
        }
    }
}

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The same request never succeeds: invalid media, a missing permission, an unknown object.
    Permanent,
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
    /// The media is not ready to be published; it becomes so by itself.
    NotReady,
    /// A passing failure: the same request may succeed later.
    Transient,
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

#[derive(Deserialize)]
struct Reported {
    #[serde(default)]
    message: String,
    #[serde(default)]
    code: i64,
    error_subcode: Option<i64>,
    #[serde(default)]
    is_transient: bool,
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

fn limited(scope: LimitScope, wait: Option<Duration>) -> Failure {
    Failure::RateLimited { scope, wait }
}

/// What a code or subcode means; the headers add for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sorted {
    Permanent,
    Expired,
    NotReady,
    Transient,
    Limited(LimitScope),
}

impl Sorted {
    fn failure(self, wait: Option<Duration>) -> Failure {
        match self {
            Self::Permanent => Failure::Permanent,
            Self::Expired => Failure::ExpiredToken,
            Self::NotReady => Failure::NotReady,
            Self::Transient => Failure::Transient,
            Self::Limited(scope) => limited(scope, wait),
        }
    }
}

/// Subcodes are more specific than codes, so they come first.
///
/// | subcode | with code | what it is | source |
/// |---|---|---|---|
/// | 458, 459, 460, 463, 464, 467, 492 | 190, 102, 10 | app removed, checkpoint, password changed, expired, unconfirmed, invalid, role gone | G |
/// | 2207001 | -1 | server error | I |
/// | 2207003 | -2, 9004 | downloading the media timed out | I |
/// | 2207006, 2207008, 2207020 | 24, -2 | the container cannot be found or has expired: make another | I |
/// | 2207027 | 9007 | media not ready for publishing | I |
/// | 2207032, 2207053 | -1 | container or upload failed: make another | I |
/// | 2207042 | 9 | publishing quota of 24 hours used up | I |
/// | 2207052 | 9004 | the media could not be fetched; hosts have bad moments | I |
/// | 2207050 | 25 | account restricted | I |
/// | 2207051 | 4 | taken for spam; asking again makes it worse, and it is no rate limit | I |
/// | 2207057 | 1 | thumbnail outside of the video | I |
/// | 2207004, 2207005, 2207009, 2207010, 2207023, 2207026, 2207028, 2207035 to 2207040 | 36000 to 36004, 100, 352 | media, caption or tags that the API never accepts | I |
///
/// Sources, both by Meta for Developers. G: *Graph API, Handle Errors*. I: *Instagram Platform,
/// Error Codes*.
fn sort_by_subcode(subcode: i64) -> Option<Sorted> {
    Some(match subcode {
        458..=460 | 463 | 464 | 467 | 492 => Sorted::Expired,
        2_207_001 | 2_207_003 | 2_207_006 | 2_207_008 | 2_207_020 | 2_207_032 | 2_207_052
        | 2_207_053 => Sorted::Transient,
        2_207_027 => Sorted::NotReady,
        2_207_042 => Sorted::Limited(LimitScope::Publishing),
        2_207_004
        | 2_207_005
        | 2_207_009
        | 2_207_010
        | 2_207_023
        | 2_207_026
        | 2_207_028
        | 2_207_035..=2_207_040
        | 2_207_050
        | 2_207_051
        | 2_207_057 => Sorted::Permanent,
        _ => return None,
    })
}

/// Codes of the Graph API.
///
/// | code | what it is | source |
/// |---|---|---|
/// | -2, -1, 1, 2 | unknown or temporary failure of the service | G, I |
/// | 4 | too many requests of the application | R |
/// | 9 | publishing quota of the account | I |
/// | 10, 200 to 299 | permission missing | G |
/// | 17, 32, 613 | too many requests for a user, a page or a call | R |
/// | 80000 to 80014 | too many requests for a business account; 80002 is Instagram's | R |
/// | 102, 190 | session or token invalid | G |
/// | 368 | the account is blocked for a while by a policy | G |
/// | 9007 | media not ready for publishing | I |
///
/// R: *Graph API, Rate Limits* by Meta for Developers. What is in none of the tables is permanent.
fn sort_by_code(code: i64) -> Option<Sorted> {
    Some(match code {
        -2..=-1 | 1 | 2 => Sorted::Transient,
        4 => Sorted::Limited(LimitScope::Application),
        9 => Sorted::Limited(LimitScope::Publishing),
        10 | 200..=299 => Sorted::Permanent,
        17 | 32 | 368 | 613 | 80_000..=80_014 => Sorted::Limited(LimitScope::Account),
        102 | 190 => Sorted::Expired,
        9007 => Sorted::NotReady,
        _ => return None,
    })
}

/// Other answers have only their HTTP status.
fn sort_by_status(status: StatusCode, is_transient: bool) -> Sorted {
    match status {
        // It does not name the limit. Should it be the application's, the other accounts find out
        // with one request each; a wrong guess would stop them needlessly.
        StatusCode::TOO_MANY_REQUESTS => Sorted::Limited(LimitScope::Account),
        StatusCode::REQUEST_TIMEOUT => Sorted::Transient,
        _ if is_transient || status.is_server_error() => Sorted::Transient,
        _ => Sorted::Permanent,
    }
}

fn sort(status: StatusCode, headers: &HeaderMap, error: &Reported) -> Failure {
    error
        .error_subcode
        .and_then(sort_by_subcode)
        .or_else(|| sort_by_code(error.code))
        .unwrap_or_else(|| sort_by_status(status, error.is_transient))
        .failure(requested_wait(headers))
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

    fn failure(status: u16, code: i64, subcode: Option<i64>) -> Failure {
        let body = serde_json::json!({
            "error": { "message": "m", "code": code, "error_subcode": subcode }
        });
        read(status, &body.to_string()).failure
    }

    /// Codes decide what happens to a job, so each group is pinned here.
    #[test]
    fn codes_sort_into_permanent_transient_limited_and_expired() {
        let account = limited(LimitScope::Account, None);
        let application = limited(LimitScope::Application, None);
        let publishing = limited(LimitScope::Publishing, None);
        for (status, code, subcode, expected) in [
            (400, 100, None, Failure::Permanent),
            (400, 36_001, Some(2_207_005), Failure::Permanent),
            (403, 10, None, Failure::Permanent),
            (403, 200, None, Failure::Permanent),
            (400, 190, Some(463), Failure::ExpiredToken),
            (500, 2, None, Failure::Transient),
            (400, 1, Some(2_207_057), Failure::Permanent),
            (400, 4, Some(2_207_051), Failure::Permanent),
            (400, 25, Some(2_207_050), Failure::Permanent),
            (400, 352, Some(2_207_026), Failure::Permanent),
            (403, 275, None, Failure::Permanent),
            (400, 10, Some(458), Failure::ExpiredToken),
            (400, 102, None, Failure::ExpiredToken),
            (400, 1, None, Failure::Transient),
            (400, -1, Some(2_207_001), Failure::Transient),
            (400, 24, Some(2_207_006), Failure::Transient),
            (400, 9007, Some(2_207_027), Failure::NotReady),
            (400, 9007, None, Failure::NotReady),
            (400, 9004, Some(2_207_003), Failure::Transient),
            (403, 4, None, application),
            (429, 0, None, account),
            (403, 17, None, account),
            (400, 32, None, account),
            (403, 368, None, account),
            (400, 613, None, account),
            (400, 80_002, None, account),
            (403, 9, Some(2_207_042), publishing),
            (403, 9, None, publishing),
        ] {
            assert_eq!(
                failure(status, code, subcode),
                expected,
                "{code} {subcode:?}"
            );
        }
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
