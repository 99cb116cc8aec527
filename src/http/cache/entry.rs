//! A stored response and its form in Redis.
//!
//! A body that is a JSON document stands alone under the key of the rule that other clients
//! follow, and they may write it, too. What it does not say (status, headers, age) is a
//! *record* under a key of its own, which names the body by a digest. Any other body is inside
//! its record: a JSON line, then the body's bytes.

use bytes::Bytes;
use http::header::{
    AGE, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Response, StatusCode, response};
use http_body::Body;
use serde::{Deserialize, Serialize};

use super::rules::Terms;
use crate::clock::Timestamp;
use crate::http::body::LayerBody;

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const WARNING: HeaderName = HeaderName::from_static("warning");

/// Headers of one connection or of this layer.
const DROPPED: [HeaderName; 6] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, AGE];

/// A stored response.
pub(super) struct Entry {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// When it was made; other clients do not say.
    at: Option<Timestamp>,
    /// The request headers it depends on, with all their values in the request it answered.
    vary: Vec<(HeaderName, Vec<HeaderValue>)>,
}

/// The first line of a record.
#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vary: Vec<(String, Vec<String>)>,
    /// When the response was made, in ms.
    at: i64,
    /// The digest of the body beside the record; without it the body follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<u64>,
}

/// What a cache says about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    Hit,
    Stale,
}

impl Entry {
    /// Makes the entry of a response to a request with these headers.
    pub(super) fn new(
        head: &response::Parts,
        body: Bytes,
        terms: &Terms,
        request: (&Method, &HeaderMap),
        at: Timestamp,
    ) -> Self {
        let (method, asked) = request;
        let mut headers = head.headers.clone();
        for name in &DROPPED {
            headers.remove(name);
        }
        if *method != Method::HEAD {
            headers.remove(CONTENT_LENGTH);
        }
        let vary = terms.vary.iter();
        Self {
            status: head.status,
            headers,
            body,
            at: Some(at),
            vary: vary
                .map(|name| (name.clone(), asked.get_all(name).iter().cloned().collect()))
                .collect(),
        }
    }

    /// Returns whether it answers a request with these headers.
    pub(super) fn answers(&self, asked: &HeaderMap) -> bool {
        let mut vary = self.vary.iter();
        vary.all(|(name, values)| asked.get_all(name).iter().eq(values))
    }

    /// Makes a response of it.
    pub(super) fn respond<B: Body>(
        &self,
        freshness: Freshness,
        now: Timestamp,
    ) -> Response<LayerBody<B>> {
        let mut response = Response::new(LayerBody::whole(self.body.clone()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.clone_from(&self.headers);
        if let Some(at) = self.at {
            headers.insert(AGE, now.since(at).as_secs().into());
        }
        headers.insert(
            X_CACHE,
            HeaderValue::from_static(match freshness {
                Freshness::Hit => "hit",
                Freshness::Stale => "stale",
            }),
        );
        if freshness == Freshness::Stale {
            let text = HeaderValue::from_static("111 - \"Revalidation Failed\"");
            headers.insert(WARNING, text);
        }
        response
    }

    pub(super) fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns whether the body may stand alone: it is a JSON document.
    pub(super) fn is_json(&self) -> bool {
        is_json(&self.body)
    }

    /// Writes the head of a record that holds the body.
    pub(super) fn head_with_body(&self) -> Option<Vec<u8>> {
        let mut head = self.head(None)?;
        head.push(b'\n');
        Some(head)
    }

    /// Writes a record that stands beside the body.
    pub(super) fn head_beside_body(&self) -> Option<Vec<u8>> {
        self.head(Some(digest(&self.body)))
    }

    fn head(&self, body: Option<u64>) -> Option<Vec<u8>> {
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = self.headers.iter();
        let vary = self.vary.iter();
        let head = Head {
            status: self.status.as_u16(),
            headers: headers
                .map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)))
                .collect::<Option<_>>()?,
            vary: vary
                .map(|(name, values)| {
                    let values = values.iter().map(text).collect::<Option<_>>()?;
                    Some((name.as_str().to_owned(), values))
                })
                .collect::<Option<_>>()?,
            at: self.at?.as_millis(),
            body,
        };
        serde_json::to_vec(&head).ok()
    }

    /// Reads what is stored under the two keys of an entry.
    pub(super) fn read(body: Option<Vec<u8>>, record: Option<Vec<u8>>) -> Option<Self> {
        if let Some((head, inside)) = record.and_then(split) {
            match (head.body, &body) {
                (None, _) => return Self::from_head(&head, inside),
                (Some(named), Some(body)) if digest(body) == named => {
                    return Self::from_head(&head, Bytes::copy_from_slice(body));
                }
                // Another client has stored its own answer since, or the body is gone.
                _ => {}
            }
        }
        // Another client's: it stores what it answers with 200, and JSON only.
        let body = body.filter(|body| is_json(body))?;
        let json = HeaderValue::from_static("application/json");
        Some(Self {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
            body: body.into(),
            at: None,
            vary: Vec::new(),
        })
    }

    fn from_head(head: &Head, body: Bytes) -> Option<Self> {
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
        let value = |value: &str| HeaderValue::from_str(value).ok();
        let mut headers = HeaderMap::with_capacity(head.headers.len() + 2);
        for (header, text) in &head.headers {
            headers.append(name(header)?, value(text)?);
        }
        let mut vary = Vec::with_capacity(head.vary.len());
        for (header, texts) in &head.vary {
            let values = texts.iter().map(|text| value(text));
            vary.push((name(header)?, values.collect::<Option<_>>()?));
        }
        Some(Self {
            status: StatusCode::from_u16(head.status).ok()?,
            headers,
            body,
            at: Some(Timestamp::from_millis(head.at)),
            vary,
        })
    }
}

/// Takes a record apart; `None` when it is none of ours.
fn split(record: Vec<u8>) -> Option<(Head, Bytes)> {
    let record = Bytes::from(record);
    let end = record.iter().position(|byte| *byte == b'\n');
    let head = record.get(..end.unwrap_or(record.len()))?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let inside = match (head.body, end) {
        (None, Some(end)) => record.slice(end.saturating_add(1)..),
        (None, None) => return None,
        (Some(_), _) => Bytes::new(),
    };
    Some((head, inside))
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// FNV-1a: distinguishes a body from the one stored after it. It need not resist attacks.
fn digest(body: &[u8]) -> u64 {
    body.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(body: &'static str, vary: &[&'static str], asked: &HeaderMap) -> Entry {
        let head = Response::builder()
            .status(203)
            .header("etag", "\"7\"")
            .header("link", "</a>")
            .header("link", "</b>")
            .header("connection", "close")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let terms = Terms {
            ttl: Duration::from_secs(1),
            stale: true,
            vary: vary
                .iter()
                .map(|name| HeaderName::from_static(name))
                .collect(),
            plain: true,
        };
        let at = Timestamp::from_millis(10_000);
        Entry::new(&head, body.into(), &terms, (&Method::GET, asked), at)
    }

    fn shown(entry: &Entry) -> (StatusCode, HeaderMap, Bytes) {
        let now = Timestamp::from_millis(12_500);
        let response = entry.respond::<LayerBody<axum::body::Body>>(Freshness::Hit, now);
        let headers = response.headers().clone();
        (response.status(), headers, entry.body().clone())
    }

    #[test]
    fn entries_round_trip_with_the_body_inside_or_beside() {
        let entry = entry("{\"a\":\n1}", &[], &HeaderMap::new());
        let (status, headers, body) = shown(&entry);
        assert_eq!(headers["age"], "2");
        assert_eq!(headers["x-cache"], "hit");
        assert_eq!(headers.get_all("link").iter().count(), 2);
        assert!(!headers.contains_key("connection"));

        let mut inside = entry.head_with_body().unwrap();
        inside.extend_from_slice(&body);
        let read = Entry::read(None, Some(inside)).unwrap();
        assert_eq!(shown(&read), (status, headers.clone(), body.clone()));

        let beside = entry.head_beside_body();
        let read = Entry::read(Some(body.to_vec()), beside.clone()).unwrap();
        assert_eq!(shown(&read), (status, headers, body));
        assert!(Entry::read(None, beside).is_none(), "the body was evicted");
    }

    /// A client that knows the key rule alone overwrites the body, not the record beside it.
    #[test]
    fn bodies_of_other_clients_are_plain_json() {
        let ours = entry("{}", &[], &HeaderMap::new());
        for record in [None, ours.head_beside_body(), Some(b"odd".to_vec())] {
            let read = Entry::read(Some(b"[1]".to_vec()), record).unwrap();
            let (status, headers, body) = shown(&read);
            assert_eq!((status, &body[..]), (StatusCode::OK, &b"[1]"[..]));
            assert_eq!(headers["content-type"], "application/json");
            assert!(!headers.contains_key("age") && !headers.contains_key("etag"));
        }
        assert!(Entry::read(Some(b"{broken".to_vec()), None).is_none());
        assert!(Entry::read(None, Some(b"{\"status\":1}".to_vec())).is_none());
    }

    #[test]
    fn entries_answer_only_requests_like_the_first() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static(value))])
        };
        let entry = entry("{}", &["accept", "origin"], &with("text/html"));
        let mut stored = entry.head_with_body().unwrap();
        stored.extend_from_slice(b"{}");
        let read = Entry::read(None, Some(stored)).unwrap();
        for entry in [entry, read] {
            assert!(entry.answers(&with("text/html")));
            assert!(!entry.answers(&with("application/json")));
            assert!(!entry.answers(&HeaderMap::new()));
            let mut more = with("text/html");
            more.append("origin", HeaderValue::from_static("https://a"));
            assert!(!entry.answers(&more));
        }
    }

    /// A handler may use the second of two values: its response must not answer the first alone.
    #[test]
    fn repeated_headers_count_as_a_whole() {
        let accept = http::header::ACCEPT;
        let one = HeaderMap::from_iter([(accept.clone(), HeaderValue::from_static("a"))]);
        let mut both = one.clone();
        both.append(accept, HeaderValue::from_static("b"));
        let entry = entry("{}", &["accept"], &both);
        let mut stored = entry.head_with_body().unwrap();
        stored.extend_from_slice(b"{}");
        let read = Entry::read(None, Some(stored)).unwrap();
        for entry in [entry, read] {
            assert!(entry.answers(&both));
            assert!(!entry.answers(&one));
        }
    }
}
