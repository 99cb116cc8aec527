//! Rate usage in response headers: how much is used, and how long to wait.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::AccountId;

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

/// What one account of [`BUSINESS_USAGE`], or [`APPLICATION_USAGE`], says. Fields that are
/// missing or not numbers are ignored; the others count.
struct Usage {
    /// The largest of the percentages.
    percent: u64,
    /// Until requests are accepted again; zero when they still are.
    blocked: Duration,
}

impl Usage {
    fn of(entry: &Value) -> Self {
        let number = |field: &str| whole(entry.get(field).and_then(Value::as_f64));
        let percentages = ["call_count", "total_cputime", "total_time"].map(number);
        let minutes = number("estimated_time_to_regain_access");
        Self {
            percent: percentages.into_iter().max().unwrap_or(0),
            blocked: Duration::from_secs(minutes.saturating_mul(60)).min(LONGEST),
        }
    }
}

/// A number that is not negative, without its fraction; those of headers have six digits at most.
fn whole(number: Option<f64>) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is clamped before"
    )]
    let whole = number.unwrap_or(0.0).clamp(0.0, 1e6) as u64;
    whole
}

/// The wait that the response asks for, when it asks for one: `Retry-After`, or the longest block
/// of this account.
pub(super) fn requested_wait(headers: &HeaderMap, account: &AccountId) -> Option<Duration> {
    let wait = retry_after(headers).or_else(|| {
        let blocks = business(headers, account)
            .into_iter()
            .map(|usage| usage.blocked);
        blocks.max().filter(|blocked| !blocked.is_zero())
    })?;
    Some(wait.min(LONGEST))
}

/// Reads `Retry-After`: seconds, or a time that is compared with the answer's own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let asked = text(headers, RETRY_AFTER.as_str())?.trim();
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = |text: &str| DateTime::parse_from_rfc2822(text.trim()).ok();
    let wait = time(asked)? - time(text(headers, DATE.as_str())?)?;
    Some(wait.to_std().unwrap_or_default())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn json(headers: &HeaderMap, name: &str) -> Value {
    text(headers, name)
        .and_then(|usage| serde_json::from_str(usage).ok())
        .unwrap_or_default()
}

/// The entries of this account's Instagram requests. One header names all the business accounts that a
/// token is used for, and other products (pages, advertisements) with limits of their own.
fn business(headers: &HeaderMap, account: &AccountId) -> Vec<Usage> {
    let usage = json(headers, BUSINESS_USAGE);
    let entries = usage.get(account.as_str()).and_then(Value::as_array);
    let product = |entry: &&Value| match entry.get("type").and_then(Value::as_str) {
        Some(product) => product == "instagram",
        None => true,
    };
    let entries = entries.into_iter().flatten().filter(product);
    entries.map(Usage::of).collect()
}

/// How much the API is to be spared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttle {
    /// No run for this account should begin for so long.
    pub account: Duration,
    /// No run for any account should begin for so long.
    pub application: Duration,
    /// The account must be left alone at once, also by the run that is under way.
    pub stop: bool,
}

impl Throttle {
    /// Reads the headers of any response, also of a successful one: that is how to slow down
    /// before requests are refused.
    fn read(headers: &HeaderMap, account: &AccountId) -> Self {
        let mut throttle = Self::default();
        for Usage { percent, blocked } in business(headers, account) {
            throttle.account = throttle.account.max(rest(percent)).max(blocked);
            throttle.stop |= percent >= PAUSE_FROM || !blocked.is_zero();
        }
        let application = Usage::of(&json(headers, APPLICATION_USAGE)).percent;
        throttle.application = rest(application);
        throttle.stop |= application >= PAUSE_FROM;
        throttle
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

/// Records the rate usage that the responses of one account's run reported.
#[derive(Debug)]
pub struct UsageMeter {
    account: AccountId,
    throttle: Mutex<Throttle>,
}

impl UsageMeter {
    /// Nothing is used yet, as far as is known.
    pub fn for_account(account: &AccountId) -> Self {
        Self {
            account: account.clone(),
            throttle: Mutex::default(),
        }
    }

    /// The largest of each value so far.
    pub fn throttle(&self) -> Throttle {
        *self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, headers: &HeaderMap) {
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        *throttle = throttle.and(Throttle::read(headers, &self.account));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> AccountId {
        AccountId::new("178").unwrap()
    }

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
            requested_wait(&usage(100, 3), &account()),
            Some(Duration::from_secs(180))
        );
        assert_eq!(requested_wait(&usage(50, 0), &account()), None);
    }

    /// `Retry-After` has both of its forms; absent or unreadable headers ask for nothing.
    #[test]
    fn retry_after_is_read_and_odd_headers_ask_for_nothing() {
        assert_eq!(
            requested_wait(&headers("retry-after", "7"), &account()),
            Some(Duration::from_secs(7))
        );
        let mut until = headers("retry-after", "Sun, 01 Mar 2026 12:02:00 GMT");
        assert_eq!(
            requested_wait(&until, &account()),
            None,
            "the answer has no time"
        );
        for (date, seconds) in [
            ("Sun, 01 Mar 2026 12:00:00 GMT", 120),
            ("Sun, 01 Mar 2026 13:00:00 GMT", 0),
        ] {
            until.insert(DATE, date.parse().unwrap());
            let wait = Some(Duration::from_secs(seconds));
            assert_eq!(requested_wait(&until, &account()), wait);
        }
        assert_eq!(
            requested_wait(&headers("retry-after", "soon"), &account()),
            None
        );
        assert_eq!(
            requested_wait(&headers(BUSINESS_USAGE, "{"), &account()),
            None
        );
        assert_eq!(requested_wait(&HeaderMap::new(), &account()), None);
        assert_eq!(
            Throttle::read(&headers(BUSINESS_USAGE, "{"), &account()),
            Throttle::default()
        );
    }

    /// An unusable number in a header neither hides the others nor fails the job.
    #[test]
    fn odd_numbers_neither_hide_others_nor_overflow() {
        let odd = r#"{"1":7,"178":[{"call_count":null,"total_time":"x"},7,
            {"call_count":97.5,"estimated_time_to_regain_access":-1}]}"#;
        let odd = odd.replace('\n', "");
        let throttle = Throttle::read(&headers(BUSINESS_USAGE, &odd), &account());
        assert_eq!((throttle.account, throttle.stop), (PAUSE, true));
        let long = usage(1, u64::MAX);
        assert_eq!(Throttle::read(&long, &account()).account, LONGEST);
        assert_eq!(requested_wait(&long, &account()), Some(LONGEST));
    }

    /// Slow at 80 %, stop at 95 % or as long as the API asks for, with any status.
    #[test]
    fn usage_slows_down_and_then_stops() {
        let seconds = |percent| {
            Throttle::read(&usage(percent, 0), &account())
                .account
                .as_secs()
        };
        assert_eq!([79, 80, 94].map(seconds), [0, 1, 15]);
        assert!(!Throttle::read(&usage(94, 0), &account()).stop);
        let full = Throttle::read(&usage(95, 0), &account());
        assert_eq!((full.account, full.stop), (PAUSE, true));
        let blocked = Throttle::read(&usage(10, 5), &account());
        assert_eq!(
            (blocked.account, blocked.stop),
            (Duration::from_secs(300), true)
        );
        let application = Throttle::read(
            &headers(APPLICATION_USAGE, r#"{"call_count":97.5}"#),
            &account(),
        );
        assert_eq!(
            (application.account, application.application),
            (Duration::ZERO, PAUSE)
        );
    }

    /// A system user's token is used for many accounts and products, and each has limits of its own.
    #[test]
    fn usage_of_other_accounts_and_products_holds_nothing() {
        let full = |kind: &str| serde_json::json!([{ "type": kind, "call_count": 100, "estimated_time_to_regain_access": 30 }]);
        let others = serde_json::json!({ "179": full("instagram"), "178": full("pages") });
        let others = headers(BUSINESS_USAGE, &others.to_string());
        assert_eq!(Throttle::read(&others, &account()), Throttle::default());
        assert_eq!(requested_wait(&others, &account()), None);
        let own = serde_json::json!({ "179": full("pages"), "178": full("instagram") });
        let own = headers(BUSINESS_USAGE, &own.to_string());
        assert!(Throttle::read(&own, &account()).stop);
        assert_eq!(
            requested_wait(&own, &account()),
            Some(Duration::from_secs(1800))
        );
    }
}
