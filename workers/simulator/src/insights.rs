//! Numbers of accounts and posts. They depend on the ids alone, so that tests can expect them.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{PublishedPost, replies};

/// Insights of an account, each with the factor that makes its value.
const ACCOUNT_METRICS: [(&str, u64); 3] = [("reach", 3), ("views", 5), ("profile_views", 2)];

/// Insights of a post.
const POST_METRICS: [(&str, u64); 5] = [
    ("reach", 100),
    ("views", 150),
    ("saved", 3),
    ("shares", 2),
    ("total_interactions", 15),
];

/// Posts in an answer by default, and at most.
const PAGE: usize = 25;
const LARGEST_PAGE: usize = 100;

/// Something that an account or a post does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingData {
    /// The post, counted from the latest, which is 0; the account itself when absent.
    post: Option<usize>,
    /// The metric; all insights when absent.
    metric: Option<String>,
    /// Whether all older posts lack it as well.
    older: bool,
    /// Whether the API leaves it out rather than refusing the request.
    left_out: bool,
    /// Whether a refusal does not say which metric is to blame.
    unnamed: bool,
}

impl MissingData {
    /// An account's metric, for whose sake requests are refused.
    pub fn of_account(metric: &str) -> Self {
        Self {
            post: None,
            metric: Some(metric.to_owned()),
            older: false,
            left_out: false,
            unnamed: false,
        }
    }

    /// A post's metric, for whose sake requests are refused. Posts count from 0, the latest.
    pub fn of_post(post: usize, metric: &str) -> Self {
        Self {
            post: Some(post),
            ..Self::of_account(metric)
        }
    }

    /// All insights of a post, as of one that is older than the professional account.
    pub fn insights_of_post(post: usize) -> Self {
        Self {
            post: Some(post),
            metric: None,
            older: false,
            left_out: false,
            unnamed: false,
        }
    }

    /// All insights of a post and of all that are older: the account became a professional one after it
    /// (2108006; Meta's error table of 2 Jun 2026).
    pub fn before_conversion(post: usize) -> Self {
        Self {
            older: true,
            ..Self::insights_of_post(post)
        }
    }

    /// Refuses without naming the metric, as the API does for some products (Airbyte #62902, Jul 2025).
    #[must_use]
    pub fn unnamed(mut self) -> Self {
        self.unnamed = true;
        self
    }

    /// Leaves it out of answers instead, as the API does where there is too little to count.
    #[must_use]
    pub fn left_out(mut self) -> Self {
        self.left_out = true;
        self
    }
}

/// Which page of a list is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    after: Option<String>,
}

/// An account with its posts, latest first.
#[derive(Debug)]
pub(super) struct Library {
    account: String,
    posts: Vec<Post>,
    missing: Vec<MissingData>,
}

#[derive(Debug)]
struct Post {
    id: String,
    media_type: &'static str,
    product_type: &'static str,
    timestamp: String,
}

/// Why the API does not answer.
enum Refusal {
    Metric { index: usize, accepted: String },
    PostMetric(String),
    Unnamed,
    Post,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Metric { index, accepted } => {
                let text = format!(
                    "(#100) metric[{index}] must be one of the following values: {accepted}"
                );
                replies::error(400, 100, None, &text)
            }
            Self::PostMetric(metric) => {
                let text = format!(
                    "(#100) The Media Insights API does not support the {metric} metric for this \
                     media product type."
                );
                replies::error(400, 100, None, &text)
            }
            Self::Unnamed => {
                let text = "(#100) Incompatible metrics for this media.";
                replies::error(400, 100, None, text)
            }
            Self::Post => {
                let text = "media posted before business account conversion";
                replies::error(400, 100, Some(2_108_006), text)
            }
        }
    }
}

impl Library {
    pub(super) fn new(
        account: &str,
        published: Vec<PublishedPost>,
        older: usize,
        missing: Vec<MissingData>,
    ) -> Self {
        let posts = published.into_iter().map(|post| Post {
            id: post.media,
            media_type: match post.media_type.as_str() {
                "CAROUSEL" => "CAROUSEL_ALBUM",
                "REELS" => "VIDEO",
                _ => "IMAGE",
            },
            product_type: if post.media_type == "REELS" {
                "REELS"
            } else {
                "FEED"
            },
            timestamp: post.timestamp,
        });
        Self {
            account: account.to_owned(),
            posts: posts
                .chain((0..older).map(|n| older_post(account, n)))
                .collect(),
            missing,
        }
    }

    /// The account, with the fields asked for.
    pub(super) fn account(&self, fields: &Fields) -> Response {
        let seed = seed(&self.account);
        let mut answer = Map::new();
        answer.insert("id".to_owned(), self.account.clone().into());
        for (name, value) in [
            ("username", json!(format!("shop_{seed}"))),
            ("followers_count", json!(100 + seed)),
            ("media_count", json!(seed % 900)),
        ] {
            if fields.has(name) {
                answer.insert(name.to_owned(), value);
            }
        }
        let expanded = || -> Result<_, Refusal> {
            if let Some(metrics) = fields.metrics() {
                answer.insert("insights".to_owned(), self.account_insights(&metrics)?);
            }
            if let Some(media) = fields.get("media") {
                let page = PageQuery {
                    limit: media.modifier("limit").and_then(|limit| limit.parse().ok()),
                    after: None,
                };
                answer.insert("media".to_owned(), self.media(&media.inner, &page)?);
            }
            Ok(Value::Object(answer))
        };
        respond(expanded())
    }

    pub(super) fn insights(&self, metrics: &[&str]) -> Response {
        respond(self.account_insights(metrics))
    }

    pub(super) fn page(&self, fields: &Fields, page: &PageQuery) -> Response {
        respond(self.media(fields, page))
    }

    fn account_insights(&self, metrics: &[&str]) -> Result<Value, Refusal> {
        let accepted: Vec<_> = ACCOUNT_METRICS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !self.refuses(None, name))
            .collect();
        let unknown = metrics.iter().position(|metric| !accepted.contains(metric));
        if let Some(index) = unknown {
            let accepted = accepted.join(", ");
            return Err(Refusal::Metric { index, accepted });
        }
        let seed = seed(&self.account);
        let reported = metrics
            .iter()
            .filter(|metric| !self.leaves_out(None, metric));
        let data: Vec<_> = reported
            .filter_map(|metric| {
                let (name, factor) = ACCOUNT_METRICS.iter().find(|(name, _)| name == metric)?;
                let total = json!({ "value": seed * factor });
                Some(json!({ "name": name, "period": "day", "total_value": total }))
            })
            .collect();
        Ok(json!({ "data": data }))
    }

    fn media(&self, fields: &Fields, page: &PageQuery) -> Result<Value, Refusal> {
        let limit = page.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
        let start = page.after.as_ref().and_then(|after| after.parse().ok());
        let start: usize = start.unwrap_or(0);
        let end = (start + limit).min(self.posts.len());
        let mut data = Vec::new();
        for (index, post) in self.posts.iter().enumerate().take(end).skip(start) {
            data.push(self.post(index, post, fields)?);
        }
        let cursors = json!({ "after": end.to_string() });
        let paging = if end < self.posts.len() {
            json!({ "cursors": cursors, "next": "https://graph.example/next" })
        } else {
            json!({ "cursors": cursors })
        };
        Ok(json!({ "data": data, "paging": paging }))
    }

    fn post(&self, index: usize, post: &Post, fields: &Fields) -> Result<Value, Refusal> {
        let seed = seed(&post.id);
        let mut answer = Map::new();
        for (name, value) in [
            ("id", json!(post.id)),
            (
                "permalink",
                json!(format!("https://www.instagram.com/p/S{}/", post.id)),
            ),
            ("media_type", json!(post.media_type)),
            ("media_product_type", json!(post.product_type)),
            ("timestamp", json!(post.timestamp)),
            ("like_count", json!(seed * 8)),
            ("comments_count", json!(seed)),
        ] {
            if fields.has(name) && !self.leaves_out(Some(index), name) {
                answer.insert(name.to_owned(), value);
            }
        }
        if let Some(metrics) = fields.metrics() {
            let mut data = Vec::new();
            for metric in metrics {
                let missing = self.missing(Some(index), metric);
                match missing {
                    Some(missing) if missing.left_out => continue,
                    Some(missing) if missing.metric.is_none() => return Err(Refusal::Post),
                    Some(missing) if missing.unnamed => return Err(Refusal::Unnamed),
                    Some(_) => return Err(Refusal::PostMetric(metric.to_owned())),
                    None => {}
                }
                let Some((name, factor)) = POST_METRICS.iter().find(|(name, _)| *name == metric)
                else {
                    return Err(Refusal::PostMetric(metric.to_owned()));
                };
                let values = json!([{ "value": seed * factor }]);
                data.push(json!({ "name": name, "period": "lifetime", "values": values }));
            }
            answer.insert("insights".to_owned(), json!({ "data": data }));
        }
        Ok(Value::Object(answer))
    }

    fn missing(&self, post: Option<usize>, metric: &str) -> Option<&MissingData> {
        self.missing.iter().find(|missing| {
            let all = post.is_some() && missing.metric.is_none();
            let concerned = match (missing.post, post) {
                (Some(first), Some(post)) if missing.older => post >= first,
                (missing, post) => missing == post,
            };
            concerned && (all || missing.metric.as_deref() == Some(metric))
        })
    }

    fn refuses(&self, post: Option<usize>, metric: &str) -> bool {
        self.missing(post, metric)
            .is_some_and(|missing| !missing.left_out)
    }

    /// Accounts whose id ends in 9 have no `profile_views`, as the API leaves out metrics of small
    /// accounts.
    fn leaves_out(&self, post: Option<usize>, metric: &str) -> bool {
        let small = post.is_none() && metric == "profile_views" && self.account.ends_with('9');
        small
            || self
                .missing(post, metric)
                .is_some_and(|missing| missing.left_out)
    }
}

fn respond(answer: Result<Value, Refusal>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Post `n` of those before the simulator started; every third is a reel.
fn older_post(account: &str, n: usize) -> Post {
    let reel = n % 3 == 2;
    Post {
        id: format!("{account}{n:04}"),
        media_type: if reel { "VIDEO" } else { "IMAGE" },
        product_type: if reel { "REELS" } else { "FEED" },
        timestamp: format!("2026-01-{:02}T12:00:00+0000", 28 - n % 28),
    }
}

fn seed(id: &str) -> u64 {
    id.bytes()
        .fold(7, |seed, byte| (seed * 31 + u64::from(byte)) % 99_991)
}
