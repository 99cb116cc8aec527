//! What the cache keeps, for how long, and how long it waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{HeaderName, Method, StatusCode};

use crate::error::{Error, Result};
use crate::http::Extract;
use crate::kv::DEFAULT_TTL;

/// Longest time to live: a year.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// What a [`CacheLayer`](super::CacheLayer) keeps, for how long, and how long it waits.
///
/// | option | default |
/// |---|---|
/// | [`ttl`](Self::ttl) | 1 h |
/// | [`methods`](Self::methods) | GET, HEAD |
/// | [`statuses`](Self::statuses) | 200 |
/// | [`body_limit`](Self::body_limit) | 512 KiB |
/// | [`stale_while_error`](Self::stale_while_error) | off |
/// | [`user`](Self::user) | none: every request is anonymous |
/// | [`credentials`](Self::credentials) | `Authorization`, `Cookie` |
/// | [`url`](Self::url) | the request's path and query as they are |
/// | [`deadline`](Self::deadline) | 50 ms |
/// | [`lease`](Self::lease) | 2 s |
/// | [`wait`](Self::wait) | 10 s |
#[derive(Clone)]
pub struct CacheOptions {
    pub(super) ttl: Duration,
    pub(super) methods: Vec<Method>,
    pub(super) statuses: Vec<StatusCode>,
    pub(super) body_limit: usize,
    pub(super) stale_for: Duration,
    pub(super) user: Extract<Option<String>>,
    pub(super) credentials: Vec<HeaderName>,
    pub(super) url: Extract<String>,
    pub(super) deadline: Duration,
    pub(super) lease: Duration,
    pub(super) wait: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            ttl: DEFAULT_TTL,
            methods: vec![Method::GET, Method::HEAD],
            statuses: vec![StatusCode::OK],
            body_limit: 512 << 10,
            stale_for: Duration::ZERO,
            user: Arc::new(|_| None),
            credentials: vec![AUTHORIZATION, COOKIE],
            url: Arc::new(|head| {
                let target = head.uri.path_and_query();
                target.map_or_else(|| head.uri.path().to_owned(), ToString::to_string)
            }),
            deadline: Duration::from_millis(50),
            lease: Duration::from_secs(2),
            wait: Duration::from_secs(10),
        }
    }
}

impl CacheOptions {
    /// Sets how long a response is served. Its own `s-maxage` or `max-age` shortens that.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the methods whose responses are stored: GET, HEAD or both.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Sets the status codes that are stored; none of the 5xx, nor 206 and 304.
    #[must_use]
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.statuses = statuses.into_iter().collect();
        self
    }

    /// Sets the largest body that is stored, in bytes. A larger one passes unstored. Storing a
    /// mebibyte keeps Redis busy for about 2 ms, in which it does nothing else. Up to this size a
    /// body is read whole before its response goes on, so a slow stream needs `no-store`.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Serves a response for so much longer than its time to live when the handler answers with
    /// 5xx, returns an error (a timeout layer's, for one) or panics. Zero turns it off.
    ///
    /// It costs a second copy of each response. Responses with `must-revalidate` are excluded.
    #[must_use]
    pub fn stale_while_error(mut self, longer: Duration) -> Self {
        self.stale_for = longer;
        self
    }

    /// Sets how the user of a request is found. Each user has responses of their own; `None` is an
    /// anonymous request. A user whose id is not made of letters, digits and `_ - . @ %`, or is
    /// `anonymous`, is not served from the cache.
    ///
    /// Read it from what has been verified: a client that can choose the id can read its responses.
    #[must_use]
    pub fn user(mut self, user: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.user = Arc::new(user);
        self
    }

    /// Sets the request headers that carry credentials. A request with one of them and without a
    /// [`user`](Self::user) bypasses the cache, as the handler may know more about it than this
    /// layer. Leave out `Cookie` where cookies make no difference to any handler.
    #[must_use]
    pub fn credentials(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.credentials = headers.into_iter().collect();
        self
    }

    /// Sets how the URL in a request's key is made. Needed in a router nested in another, which sees paths
    /// without their beginning (in axum: `OriginalUri` in the extensions), where the host makes
    /// a difference, and where the query carries secrets. Any difference in the query makes
    /// another entry: leave out what no handler reads, or callers can fill the server at will.
    #[must_use]
    pub fn url(mut self, url: impl Fn(&Parts) -> String + Send + Sync + 'static) -> Self {
        self.url = Arc::new(url);
        self
    }

    /// Sets how long a request waits for each answer of Redis; then it goes on without.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets how long the lock of a process that runs the handler outlives it. It is renewed
    /// while the handler runs, so this bounds how long others wait for a process that died.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how long a request waits for the response that another one is making; then it runs
    /// the handler itself.
    #[must_use]
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let millisecond = Duration::from_millis(1);
        for (field, time) in [
            ("ttl", self.ttl),
            ("deadline", self.deadline),
            ("lease", self.lease),
            ("wait", self.wait),
        ] {
            if !(millisecond..=TTL_MAX).contains(&time) {
                return Err(Error::invalid(field, "must be between 1 ms and 366 days"));
            }
        }
        if self.stale_for > TTL_MAX {
            let problem = "must be at most 366 days";
            return Err(Error::invalid("stale_while_error", problem));
        }
        let safe = |method: &Method| [Method::GET, Method::HEAD].contains(method);
        if !self.methods.iter().all(safe) {
            return Err(Error::invalid("methods", "may be GET and HEAD only"));
        }
        let odd = |status: &StatusCode| {
            status.is_server_error() || matches!(status.as_u16(), ..200 | 206 | 304)
        };
        if self.statuses.iter().any(odd) {
            return Err(Error::invalid(
                "statuses",
                "may not be 1xx, 206, 304 or 5xx",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for CacheOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheOptions")
            .field("ttl", &self.ttl)
            .field("methods", &self.methods)
            .field("statuses", &self.statuses)
            .field("body_limit", &self.body_limit)
            .field("stale_while_error", &self.stale_for)
            .field("credentials", &self.credentials)
            .field("deadline", &self.deadline)
            .field("lease", &self.lease)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
