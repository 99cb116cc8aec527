//! What the API's codes, subcodes and statuses mean: the tables, with their sources.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::error::{Failure, LimitScope, Reported};
use super::usage::requested_wait;

pub(super) fn limited(scope: LimitScope, wait: Option<Duration>) -> Failure {
    Failure::RateLimited { scope, wait }
}

/// What a code or subcode means; the headers add for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sorted {
    Permanent,
    Expired,
    NotReady,
    Transient,
    Limited(LimitScope),
}

impl Sorted {
    pub(super) fn failure(self, wait: Option<Duration>) -> Failure {
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
pub(super) fn sort_by_subcode(subcode: i64) -> Option<Sorted> {
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

pub(super) fn sort(status: StatusCode, headers: &HeaderMap, error: &Reported) -> Failure {
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

    fn failure(status: u16, code: i64, subcode: Option<i64>) -> Failure {
        let error = Reported {
            message: "m".to_owned(),
            code,
            error_subcode: subcode,
            is_transient: false,
        };
        let status = StatusCode::from_u16(status).unwrap();
        sort(status, &HeaderMap::new(), &error)
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
}
