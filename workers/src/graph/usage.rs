//! How long to wait when the API limits our rate, read from a response's headers.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

/// Per business account: how much of its quota is used, and for how long it is blocked.
const BUSINESS_USAGE: &str = "x-business-use-case-usage";

/// The longest wait believed, so that an odd header cannot park a job for days.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[derive(Deserialize)]
struct BusinessUsage {
    /// Minutes until requests are accepted again; 0 when they still are.
    #[serde(default)]
    estimated_time_to_regain_access: u64,
}

/// The wait that the response asks for, when it asks for one: `Retry-After` in seconds, or the
/// longest block among the business accounts named.
pub(super) fn requested_wait(headers: &HeaderMap) -> Option<Duration> {
    let retry_after = text(headers, RETRY_AFTER.as_str())
        .and_then(|value| value.trim().parse().ok())
        .map(Duration::from_secs);
    let wait = retry_after.or_else(|| regain_access(text(headers, BUSINESS_USAGE)?))?;
    Some(wait.min(LONGEST))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn regain_access(usage: &str) -> Option<Duration> {
    let usage: HashMap<String, Vec<BusinessUsage>> = serde_json::from_str(usage).ok()?;
    usage
        .into_values()
        .flatten()
        .map(|entry| entry.estimated_time_to_regain_access)
        .max()
        .filter(|minutes| *minutes > 0)
        .map(|minutes| Duration::from_secs(minutes.saturating_mul(60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    /// The API names the minutes until it accepts requests again; we wait that long.
    #[test]
    fn business_usage_names_the_wait_in_minutes() {
        let usage = r#"{"178":[{"type":"instagram","call_count":100,
            "estimated_time_to_regain_access":3}]}"#
            .replace('\n', "");
        let wait = requested_wait(&headers("x-business-use-case-usage", &usage));
        assert_eq!(wait, Some(Duration::from_secs(180)));
    }

    /// `Retry-After` is in seconds; absent or unreadable headers ask for nothing.
    #[test]
    fn retry_after_counts_seconds_and_odd_headers_ask_for_nothing() {
        assert_eq!(
            requested_wait(&headers("retry-after", "7")),
            Some(Duration::from_secs(7))
        );
        assert_eq!(requested_wait(&headers("retry-after", "soon")), None);
        assert_eq!(
            requested_wait(&headers("x-business-use-case-usage", "{")),
            None
        );
        assert_eq!(requested_wait(&HeaderMap::new()), None);
    }
}
