//! What a response's headers say about our rate: how much is used, and how long to wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;

/// Per business account: how much of its quota is used, and for how long it is blocked.
const BUSINESS_USAGE: &str = "x-business-use-case-usage";

/// The same for all requests of the application, without a time.
const APPLICATION_USAGE: &str = "x-app-usage";

/// The longest wait believed, so that an odd header cannot park a job for days.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// From this percentage on, requests are spaced.
const SLOW_FROM: u64 = 80;

/// From this percentage on, no request is made for a while.
const PAUSE_FROM: u64 = 95;

/// The pause when the API names no time of its own.
const PAUSE: Duration = Duration::from_secs(60);

/// A header's percentages, of which the largest counts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Percentages {
    call_count: f64,
    total_cputime: f64,
    total_time: f64,
}

#[derive(Deserialize)]
struct BusinessUsage {
    #[serde(flatten)]
    used: Percentages,
    /// Minutes until requests are accepted again; 0 when they still are.
    #[serde(default)]
    estimated_time_to_regain_access: u64,
}

impl Percentages {
    fn largest(&self) -> u64 {
        let largest = self.call_count.max(self.total_cputime).max(self.total_time);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the value is clamped before"
        )]
        let percent = largest.clamp(0.0, 1000.0) as u64;
        percent
    }
}

/// The wait that the response asks for, when it asks for one: `Retry-After` in seconds, or the
/// longest block among the business accounts named.
pub(super) fn requested_wait(headers: &HeaderMap) -> Option<Duration> {
    let retry_after = text(headers, RETRY_AFTER.as_str())
        .and_then(|value| value.trim().parse().ok())
        .map(Duration::from_secs);
    let wait = retry_after.or_else(|| {
        let minutes = business(headers)
            .iter()
            .map(|entry| entry.estimated_time_to_regain_access)
            .max()?;
        (minutes > 0).then(|| Duration::from_secs(minutes.saturating_mul(60)))
    })?;
    Some(wait.min(LONGEST))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn business(headers: &HeaderMap) -> Vec<BusinessUsage> {
    text(headers, BUSINESS_USAGE)
        .and_then(|usage| serde_json::from_str::<HashMap<String, Vec<BusinessUsage>>>(usage).ok())
        .map(|accounts| accounts.into_values().flatten().collect())
        .unwrap_or_default()
}

/// How much the API is to be spared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spare {
    /// No run for this account should begin for so long.
    pub account: Duration,
    /// No run for any account should begin for so long.
    pub application: Duration,
    /// The account must be left alone at once, also by the run that is under way.
    pub stop: bool,
}

impl Spare {
    /// Reads the headers of any response, also of a successful one: that is how to slow down
    /// before requests are refused.
    fn read(headers: &HeaderMap) -> Self {
        let mut spare = Self::default();
        for entry in business(headers) {
            let percent = entry.used.largest();
            let named = Duration::from_secs(entry.estimated_time_to_regain_access * 60);
            spare.account = spare.account.max(rest(percent).max(named.min(LONGEST)));
            spare.stop |= percent >= PAUSE_FROM || !named.is_zero();
        }
        let application = text(headers, APPLICATION_USAGE)
            .and_then(|usage| serde_json::from_str::<Percentages>(usage).ok())
            .unwrap_or_default()
            .largest();
        spare.application = rest(application);
        spare.stop |= application >= PAUSE_FROM;
        spare
    }

    fn and(self, other: Self) -> Self {
        Self {
            account: self.account.max(other.account),
            application: self.application.max(other.application),
            stop: self.stop || other.stop,
        }
    }
}

/// How long to leave the API alone after so many percent: a second at 80 %, a second more for
/// each further percent, a minute from 95 % on.
fn rest(percent: u64) -> Duration {
    match percent {
        0..SLOW_FROM => Duration::ZERO,
        SLOW_FROM..PAUSE_FROM => Duration::from_secs(percent - SLOW_FROM + 1),
        _ => PAUSE,
    }
}

/// Remembers what the responses of one run said about the rate.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Spare>);

impl Meter {
    /// What has been said so far, the largest of each.
    pub fn spare(&self) -> Spare {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, headers: &HeaderMap) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *spare = spare.and(Spare::read(headers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    fn usage(percent: u64, minutes: u64) -> HeaderMap {
        let usage = serde_json::json!({ "178": [{
            "type": "instagram", "call_count": percent, "total_time": 3,
            "estimated_time_to_regain_access": minutes,
        }]});
        headers(BUSINESS_USAGE, &usage.to_string())
    }

    /// The API names the minutes until it accepts requests again; we wait that long.
    #[test]
    fn business_usage_names_the_wait_in_minutes() {
        assert_eq!(
            requested_wait(&usage(100, 3)),
            Some(Duration::from_secs(180))
        );
        assert_eq!(requested_wait(&usage(50, 0)), None);
    }

    /// `Retry-After` is in seconds; absent or unreadable headers ask for nothing.
    #[test]
    fn retry_after_counts_seconds_and_odd_headers_ask_for_nothing() {
        assert_eq!(
            requested_wait(&headers("retry-after", "7")),
            Some(Duration::from_secs(7))
        );
        assert_eq!(requested_wait(&headers("retry-after", "soon")), None);
        assert_eq!(requested_wait(&headers(BUSINESS_USAGE, "{")), None);
        assert_eq!(requested_wait(&HeaderMap::new()), None);
        assert_eq!(Spare::read(&headers(BUSINESS_USAGE, "{")), Spare::default());
    }

    /// Slow at 80 %, stop at 95 % or as long as the API says, whatever the answer itself was.
    #[test]
    fn usage_slows_down_and_then_stops() {
        let seconds = |percent| Spare::read(&usage(percent, 0)).account.as_secs();
        assert_eq!([79, 80, 94].map(seconds), [0, 1, 15]);
        assert!(!Spare::read(&usage(94, 0)).stop);
        let full = Spare::read(&usage(95, 0));
        assert_eq!((full.account, full.stop), (PAUSE, true));
        let blocked = Spare::read(&usage(10, 5));
        assert_eq!(
            (blocked.account, blocked.stop),
            (Duration::from_secs(300), true)
        );
        let application = Spare::read(&headers(APPLICATION_USAGE, r#"{"call_count":97.5}"#));
        assert_eq!(
            (application.account, application.application),
            (Duration::ZERO, PAUSE)
        );
    }
}
