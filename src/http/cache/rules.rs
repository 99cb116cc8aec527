//! What may be answered from the cache, what may be stored, and under which key. No I/O.

use std::time::Duration;

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, EXPIRES, RANGE,
    SET_COOKIE, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderName, Method, StatusCode, request, response};

use super::options::CacheOptions;
use crate::error::{Error, Result};
use crate::http::ANONYMOUS;
use crate::kv::check_id;

/// Longest URL in a key, in bytes. Longer ones are not cached: they hardly come twice.
const URL_MAX: usize = 2_048;
/// Most tags of a response.
const TAGS_MAX: usize = 16;

/// Tags of a response, by which [`CacheLayer::invalidate`](super::CacheLayer::invalidate) finds
/// it. A handler puts them into the response's extensions.
///
/// # Examples
/// ```
/// use oxbull::http::CacheTags;
///
/// let mut response = http::Response::new("…");
/// response.extensions_mut().insert(CacheTags::new(["account-7", "overview"])?);
/// # Ok::<(), oxbull::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct CacheTags(Vec<String>);

impl CacheTags {
    /// Checks and wraps up to 16 tags.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more, and for a tag that is empty, longer than 128 bytes or has
    /// other characters than letters, digits and `_ - . @ %`.
    pub fn new<T: Into<String>>(tags: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut tags: Vec<String> = tags.into_iter().map(Into::into).collect();
        tags.sort_unstable();
        tags.dedup();
        if tags.len() > TAGS_MAX {
            return Err(Error::invalid(
                "tags",
                format!("must be at most {TAGS_MAX}"),
            ));
        }
        for tag in &tags {
            check_id("tag", tag)?;
        }
        Ok(Self(tags))
    }

    pub(super) fn into_inner(self) -> Vec<String> {
        self.0
    }
}

/// Names the entry of a request, `{method}:{url}:{user}`; `None` when the cache is not for it.
///
/// Users have no `:`, so that no URL can reach into another user's entries.
pub(super) fn entry_of(head: &request::Parts, options: &CacheOptions) -> Option<String> {
    let special = [RANGE, UPGRADE];
    if !options.methods.contains(&head.method)
        || special.iter().any(|name| head.headers.contains_key(name))
    {
        return None;
    }
    let user = match (options.user)(head) {
        Some(user) if user == ANONYMOUS || check_id("user id", &user).is_err() => return None,
        Some(user) => user,
        None => {
            let known = |name: &HeaderName| head.headers.contains_key(name);
            if options.credentials.iter().any(known) {
                return None;
            }
            ANONYMOUS.to_owned()
        }
    };
    let url = (options.url)(head);
    if url.is_empty() || url.len() > URL_MAX || url.chars().any(char::is_control) {
        return None;
    }
    Some(format!("{}:{url}:{user}", head.method))
}

/// On which terms a response may be stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) ttl: Duration,
    /// Whether it may be served later, when the handler fails.
    pub(super) stale: bool,
    /// The request headers that it depends on.
    pub(super) vary: Vec<HeaderName>,
    /// Whether its body says all there is, so that clients which know nothing but the brief key
    /// rule can use it: a JSON document for everyone who asks for this URL.
    pub(super) plain: bool,
}

/// Returns whether and how a response may be stored, as far as its head says.
pub(super) fn terms(
    method: &Method,
    head: &response::Parts,
    options: &CacheOptions,
) -> Option<Terms> {
    let headers = &head.headers;
    if !options.statuses.contains(&head.status)
        || headers.contains_key(SET_COOKIE)
        || media_type(headers) == "text/event-stream"
        || headers.values().any(|value| value.to_str().is_err())
    {
        return None;
    }
    let control = Control::read(headers)?;
    let vary = vary(headers)?;
    let ttl = control.ttl.map_or(options.ttl, |own| own.min(options.ttl));
    if ttl.is_zero() {
        return None;
    }
    let plain = *method == Method::GET
        && head.status == StatusCode::OK
        && vary.is_empty()
        && media_type(headers) == "application/json"
        && !headers.contains_key(CONTENT_ENCODING);
    Some(Terms {
        ttl,
        stale: !control.revalidate,
        vary,
        plain,
    })
}

fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media = value
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    media.trim().to_ascii_lowercase()
}

/// What `Cache-Control` of a response that may be stored says.
#[derive(Default)]
struct Control {
    ttl: Option<Duration>,
    revalidate: bool,
}

impl Control {
    /// `None` when the response must not be stored.
    fn read(headers: &HeaderMap) -> Option<Self> {
        let mut control = Self::default();
        let (mut own, mut shared) = (None, None);
        for directive in directives(headers, CACHE_CONTROL) {
            let (name, value) = directive.split_once('=').unwrap_or((&directive, ""));
            // A time that cannot be read counts as none left.
            let seconds = || value.trim().trim_matches('"').parse().unwrap_or(0);
            match name.trim() {
                "no-store" | "no-cache" | "private" => return None,
                "max-age" => own = Some(Duration::from_secs(seconds())),
                "s-maxage" => shared = Some(Duration::from_secs(seconds())),
                "must-revalidate" | "proxy-revalidate" => control.revalidate = true,
                _ => {}
            }
        }
        control.ttl = shared.or(own);
        // A time of its own in the form that needs a clock to be read: not stored for too long.
        if control.ttl.is_none() && headers.contains_key(EXPIRES) {
            return None;
        }
        Some(control)
    }
}

/// The request headers a response depends on; `None` when it fits no other request.
fn vary(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for name in directives(headers, VARY) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?; // `*` is none
        // An answer that depends on who asks belongs to a user, not to these headers.
        if name == "*" || name == COOKIE || name == AUTHORIZATION {
            return None;
        }
        names.push(name);
    }
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    Some(names)
}

/// The parts of a header that is a list, in lower case.
fn directives(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = String> {
    let values = headers.get_all(name).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let parts = texts.flat_map(|text| text.split(','));
    parts
        .map(|part| part.trim().to_ascii_lowercase())
        .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn entry(options: &CacheOptions, request: http::request::Builder) -> Option<String> {
        entry_of(&request.body(()).unwrap().into_parts().0, options)
    }

    fn judged(options: &CacheOptions, response: http::response::Builder) -> Option<Terms> {
        let head = response.body(()).unwrap().into_parts().0;
        terms(&Method::GET, &head, options)
    }

    /// Other clients compute the same keys: nothing of the URL is changed or sorted.
    #[test]
    fn entries_follow_the_key_rule() {
        let options = CacheOptions::default();
        let key = entry(&options, Request::get("/api/x?b=2&a=1&a=%C3%A4"));
        assert_eq!(
            key.as_deref(),
            Some("GET:/api/x?b=2&a=1&a=%C3%A4:anonymous")
        );
        let key = entry(&options, Request::head("http://host/y"));
        assert_eq!(key.as_deref(), Some("HEAD:/y:anonymous"));
        let options = options.user(|_| Some("7".to_owned()));
        let key = entry(&options, Request::get("/y").header("cookie", "a=b"));
        assert_eq!(key.as_deref(), Some("GET:/y:7"));
    }

    /// What another user could read, or what is not the whole answer, has no entry.
    #[test]
    fn requests_that_pass_by_the_cache() {
        let options = CacheOptions::default();
        for request in [
            Request::post("/x"),
            Request::get("/x").header("range", "bytes=0-1"),
            Request::get("/x").header("upgrade", "websocket"),
            Request::get("/x").header("authorization", "Bearer secret"),
            Request::get("/x").header("cookie", "sid=secret"),
            Request::get(format!("/{}", "x".repeat(URL_MAX))),
        ] {
            assert_eq!(entry(&options, request), None);
        }
        for user in ["anonymous", "", "7:8", "{7}", "7\n"] {
            let options = CacheOptions::default().user(move |_| Some(user.to_owned()));
            assert_eq!(entry(&options, Request::get("/x")), None, "{user:?}");
        }
        let options = options.credentials([AUTHORIZATION]);
        assert!(entry(&options, Request::get("/x").header("cookie", "theme=dark")).is_some());
    }

    /// What is for one reader only, or must not be reused, is not stored.
    #[test]
    fn responses_that_are_not_stored() {
        let options = CacheOptions::default();
        for response in [
            Response::builder().status(404),
            Response::builder().header("set-cookie", "a=b"),
            Response::builder().header("cache-control", "no-store"),
            Response::builder().header("cache-control", "max-age=60, No-Store"),
            Response::builder().header("cache-control", "private=\"x\""),
            Response::builder().header("cache-control", "no-cache"),
            Response::builder().header("cache-control", "max-age=0"),
            Response::builder().header("cache-control", "max-age=soon"),
            Response::builder().header("cache-control", "max-age=9, s-maxage=0"),
            Response::builder().header("expires", "0"),
            Response::builder().header("vary", "*"),
            Response::builder().header("vary", "Accept, Cookie"),
            Response::builder().header("vary", "authorization"),
            Response::builder().header("content-type", "text/event-stream; charset=utf-8"),
        ] {
            let head = format!("{response:?}");
            assert_eq!(judged(&options, response), None, "{head}");
        }
    }

    #[test]
    fn responses_that_are_stored_say_on_which_terms() {
        let options = CacheOptions::default().statuses([StatusCode::OK, StatusCode::NOT_FOUND]);
        let json = || Response::builder().header("content-type", "application/json; charset=utf-8");
        let terms = judged(&options, json()).unwrap();
        assert!(terms.plain && terms.stale && terms.vary.is_empty());
        assert_eq!(terms.ttl, Duration::from_secs(3_600));

        let own = judged(
            &options,
            json().header("cache-control", "public, max-age=60"),
        )
        .unwrap();
        assert_eq!(own.ttl, Duration::from_secs(60));
        let shared = json().header("cache-control", "max-age=9, s-maxage=\"5\"");
        assert_eq!(
            judged(&options, shared).unwrap().ttl,
            Duration::from_secs(5)
        );
        let long = json().header("expires", "0");
        let long = judged(&options, long.header("cache-control", "max-age=99999")).unwrap();
        assert_eq!(long.ttl, Duration::from_secs(3_600));
        let strict = judged(&options, json().header("cache-control", "must-revalidate")).unwrap();
        assert!(!strict.stale);

        let varied = judged(&options, json().header("vary", "Origin, accept")).unwrap();
        assert_eq!(varied.vary, ["accept", "origin"]);
        assert!(!varied.plain);
        assert!(!judged(&options, json().status(404)).unwrap().plain);
        assert!(
            !judged(&options, json().header("content-encoding", "br"))
                .unwrap()
                .plain
        );
        assert!(!judged(&options, Response::builder()).unwrap().plain);
    }

    #[test]
    fn tags_are_checked() {
        assert_eq!(CacheTags::new(["b", "a", "b"]).unwrap().0, ["a", "b"]);
        assert!(CacheTags::new(["a:b"]).is_err());
        assert!(CacheTags::new([""]).is_err());
        assert!(CacheTags::new((0..17).map(|n| n.to_string())).is_err());
    }
}
