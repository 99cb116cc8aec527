//! What can go wrong with a request, sorted by what to do about it.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde::Deserialize;

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
    /// An answer that is not what the API documents.
    #[error("unexpected answer of the graph api: {0}")]
    Unexpected(String),
}

impl GraphError {
    /// What to do about it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Declined(error) => error.failure,
            Self::Deadline(_) | Self::Unreachable(_) | Self::Unexpected(_) => Failure::Transient,
        }
    }

    /// Says whether the API may have done what was asked although no success was reported.
    pub fn is_ambiguous(&self) -> bool {
        !matches!(self, Self::Declined(_))
    }
}

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The same request never succeeds: invalid media, a missing permission, an unknown object.
    Permanent,
    /// The account's token has expired or was revoked; its owner must connect it again.
    ExpiredToken,
    /// Too many requests: ask again after `wait`, or after a time of the caller's choice when the
    /// API named none.
    RateLimited {
        /// Whose requests are limited.
        scope: LimitScope,
        /// The wait that the API asked for.
        wait: Option<Duration>,
    },
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
    /// Reads the error of an unsuccessful response. A body that is not the API's error object,
    /// such as a proxy's page, is judged by its status alone.
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
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
            message: reported.message,
        }
    }

    /// The error that a container's status reports by subcode.
    pub(crate) fn of_container(subcode: Option<i64>, message: String) -> Self {
        let failure = match subcode.and_then(sort_by_subcode) {
            Some(Sorted::Transient) => Failure::Transient,
            Some(Sorted::AccountLimit) => limited(LimitScope::Account, None),
            None => Failure::Permanent,
        };
        Self {
            status: 200,
            code: 0,
            subcode,
            message,
            failure,
        }
    }
}

fn limited(scope: LimitScope, wait: Option<Duration>) -> Failure {
    Failure::RateLimited { scope, wait }
}

enum Sorted {
    Transient,
    AccountLimit,
}

/// Publishing errors are told apart by subcode; the others are permanent.
fn sort_by_subcode(subcode: i64) -> Option<Sorted> {
    match subcode {
        // Server errors, a download that timed out, media not ready yet, an upload to repeat.
        2_207_001 | 2_207_003 | 2_207_008 | 2_207_027 | 2_207_032 | 2_207_053 => {
            Some(Sorted::Transient)
        }
        // The account's number of posts in 24 hours is used up.
        2_207_042 => Some(Sorted::AccountLimit),
        _ => None,
    }
}

fn sort(status: StatusCode, headers: &HeaderMap, error: &Reported) -> Failure {
    match error.error_subcode.and_then(sort_by_subcode) {
        Some(Sorted::Transient) => return Failure::Transient,
        Some(Sorted::AccountLimit) => {
            return limited(LimitScope::Account, requested_wait(headers));
        }
        None => {}
    }
    match error.code {
        4 => limited(LimitScope::Application, requested_wait(headers)),
        17 | 32 | 368 | 613 | 80_001..=80_014 => {
            limited(LimitScope::Account, requested_wait(headers))
        }
        102 | 190 => Failure::ExpiredToken,
        -1 | -2 | 1 | 2 => Failure::Transient,
        _ if status == StatusCode::TOO_MANY_REQUESTS => {
            limited(LimitScope::Application, requested_wait(headers))
        }
        _ if error.is_transient || status.is_server_error() => Failure::Transient,
        _ if status == StatusCode::REQUEST_TIMEOUT => Failure::Transient,
        _ => Failure::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> ApiError {
        ApiError::read(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
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
        for (status, code, subcode, expected) in [
            (400, 100, None, Failure::Permanent),
            (400, 36_001, Some(2_207_005), Failure::Permanent),
            (403, 10, None, Failure::Permanent),
            (403, 200, None, Failure::Permanent),
            (400, 190, Some(463), Failure::ExpiredToken),
            (500, 2, None, Failure::Transient),
            (400, 9007, Some(2_207_027), Failure::Transient),
            (400, 9004, Some(2_207_003), Failure::Transient),
            (403, 4, None, application),
            (429, 0, None, application),
            (403, 17, None, account),
            (400, 80_002, None, account),
            (403, 9, Some(2_207_042), account),
        ] {
            assert_eq!(failure(status, code, subcode), expected, "code {code}");
        }
    }

    /// A gateway in between answers with its own page; the status alone must then decide.
    #[test]
    fn foreign_bodies_are_judged_by_status() {
        assert_eq!(read(502, "<html>").failure, Failure::Transient);
        assert_eq!(read(404, "").failure, Failure::Permanent);
        assert_eq!(read(502, "<html>").code, 0);
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
