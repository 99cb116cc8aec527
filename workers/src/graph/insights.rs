//! Numbers of an account and of its posts: counters and insights.
//!
//! [`AccountApi::overview`] reads all of it in one request, by field expansion. Such a request is
//! answered as a whole or not at all, so each part can be asked for alone as well.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{AccountApi, GraphError, MediaId};

/// Counters of a profile.
const PROFILE: &str = "username,followers_count,media_count";

/// Fields of a post in a list.
const POST: &str = "id,permalink,media_type,media_product_type,timestamp,like_count,comments_count";

/// The most posts that one request may ask for.
pub const LARGEST_PAGE: usize = 50;

/// An account's counters; each is absent when the API did not report it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Profile {
    /// Name shown to people.
    pub username: Option<String>,
    /// Followers now.
    #[serde(rename = "followers_count")]
    pub followers: Option<u64>,
    /// Posts now.
    #[serde(rename = "media_count")]
    pub posts: Option<u64>,
}

/// Insights by the API's names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Answer")]
pub struct Insights(BTreeMap<String, u64>);

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Vec<Metric>,
}

/// A metric comes as one total, or as a series with the latest value last. What is no whole
/// number is as good as absent.
#[derive(Deserialize)]
struct Metric {
    name: String,
    total_value: Option<Value>,
    #[serde(default)]
    values: Vec<Value>,
}

impl From<Answer> for Insights {
    fn from(answer: Answer) -> Self {
        let values = answer.data.into_iter().filter_map(|metric| {
            let latest = metric.total_value.as_ref().or(metric.values.last())?;
            let value = latest.get("value")?.as_u64()?;
            Some((metric.name, value))
        });
        Self(values.collect())
    }
}

impl Insights {
    /// A metric's value.
    pub fn value(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Adds the metrics of another answer.
    pub fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// A post and its numbers; each is absent when the API did not report it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PostRecord {
    /// The post.
    pub id: MediaId,
    /// Address for people.
    pub permalink: Option<String>,
    /// `IMAGE`, `VIDEO` or `CAROUSEL_ALBUM`.
    pub media_type: Option<String>,
    /// `FEED`, `REELS` or another place where it is shown.
    #[serde(rename = "media_product_type")]
    pub product_type: Option<String>,
    /// When it was published, in the API's format.
    pub timestamp: Option<String>,
    /// Likes; absent also when its owner hides them.
    #[serde(rename = "like_count")]
    pub likes: Option<u64>,
    /// Comments.
    #[serde(rename = "comments_count")]
    pub comments: Option<u64>,
    /// Its insights over its whole life.
    #[serde(default)]
    pub insights: Insights,
}

/// Some of an account's posts, latest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Page")]
pub struct PostPage {
    /// The posts.
    pub posts: Vec<PostRecord>,
    /// Where the next page begins; absent after the last.
    pub next: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    data: Vec<PostRecord>,
    paging: Option<Paging>,
}

#[derive(Deserialize)]
struct Paging {
    cursors: Option<Cursors>,
    /// Address of the next page. It has the token in it, so it is not followed.
    next: Option<String>,
}

#[derive(Deserialize)]
struct Cursors {
    after: Option<String>,
}

impl From<Page> for PostPage {
    fn from(page: Page) -> Self {
        let next = page.paging.and_then(|paging| {
            let after = paging.cursors?.after;
            after.filter(|_| paging.next.is_some())
        });
        Self {
            posts: page.data,
            next,
        }
    }
}

/// Which posts are asked for, and what about them.
#[derive(Debug, Clone, Copy)]
pub struct PostQuery<'a> {
    /// How many; no more than [`LARGEST_PAGE`].
    pub limit: usize,
    /// Where the page begins; `None` for the latest post.
    pub after: Option<&'a str>,
    /// Insights by the API's names; none are asked for when empty.
    pub metrics: &'a [&'a str],
}

impl PostQuery<'_> {
    fn fields(&self) -> String {
        if self.metrics.is_empty() {
            return POST.to_owned();
        }
        format!("{POST},insights.metric({})", self.metrics.join(","))
    }
}

/// Everything about an account at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AccountOverview {
    /// Its counters.
    #[serde(flatten)]
    pub profile: Profile,
    /// Its insights of the last day.
    #[serde(default)]
    pub insights: Insights,
    /// Its latest posts.
    #[serde(default, rename = "media")]
    pub posts: PostPage,
}

impl AccountApi<'_> {
    /// Reads the account's counters, its daily insights and its latest posts with theirs, in one
    /// request. One metric that one post does not have makes the API refuse all of it, see
    /// [`GraphError::refuses_a_part`].
    ///
    /// # Errors
    /// Any [`GraphError`]. A number that the API leaves out is no error.
    pub async fn overview(
        &self,
        metrics: &[&str],
        posts: PostQuery<'_>,
    ) -> Result<AccountOverview, GraphError> {
        let mut fields = format!(
            "{PROFILE},insights.metric({}).period(day).metric_type(total_value)",
            metrics.join(",")
        );
        if posts.limit > 0 {
            let expansion = format!(",media.limit({}){{{}}}", posts.limit, posts.fields());
            fields.push_str(&expansion);
        }
        self.read("overview", &[self.id().as_str()], &[("fields", &fields)])
            .await
    }

    /// Reads the account's counters.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn profile(&self) -> Result<Profile, GraphError> {
        self.read("profile", &[self.id().as_str()], &[("fields", PROFILE)])
            .await
    }

    /// Reads the account's insights of the last day.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn insights(&self, metrics: &[&str]) -> Result<Insights, GraphError> {
        self.read(
            "insights",
            &[self.id().as_str(), "insights"],
            &[
                ("metric", &metrics.join(",")),
                ("period", "day"),
                ("metric_type", "total_value"),
            ],
        )
        .await
    }

    /// Reads a page of the account's posts with their insights.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn posts(&self, query: PostQuery<'_>) -> Result<PostPage, GraphError> {
        let (fields, limit) = (query.fields(), query.limit.to_string());
        let mut parameters = vec![("fields", fields.as_str()), ("limit", limit.as_str())];
        parameters.extend(query.after.map(|after| ("after", after)));
        self.read("posts", &[self.id().as_str(), "media"], &parameters)
            .await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The API reports totals or series depending on the metric, and leaves out what it has not.
    #[test]
    fn values_are_found_in_totals_and_series_and_may_be_missing() {
        let insights: Insights = serde_json::from_value(json!({ "data": [
            { "name": "reach", "period": "day", "total_value": { "value": 12 } },
            { "name": "views", "period": "day", "values": [{ "value": 1 }, { "value": 7 }] },
            { "name": "profile_views", "values": [] },
            { "name": "online_followers", "values": [{ "value": { "0": 3 } }] },
        ]}))
        .unwrap();
        assert_eq!(insights.value("reach"), Some(12));
        assert_eq!(insights.value("views"), Some(7));
        assert_eq!(insights.value("profile_views"), None);
        assert_eq!(insights.value("online_followers"), None);
        assert_eq!(insights.value("likes"), None);
    }

    /// A cursor comes with every page; only a URL of the next page shows that there is one.
    #[test]
    fn last_page_has_no_next() {
        let page = |next: Value| -> PostPage {
            let paging = json!({ "cursors": { "after": "abc" }, "next": next });
            serde_json::from_value(json!({ "data": [{ "id": "1" }], "paging": paging })).unwrap()
        };
        assert_eq!(
            page(json!("https://h/?after=abc")).next.as_deref(),
            Some("abc")
        );
        assert_eq!(page(Value::Null).next, None);
        assert_eq!(page(Value::Null).posts.len(), 1);
    }

    /// An account without posts, and a post without insights, are answers like others.
    #[test]
    fn parts_may_be_absent() {
        let overview: AccountOverview =
            serde_json::from_value(json!({ "id": "1", "followers_count": 3 })).unwrap();
        assert_eq!(overview.profile.followers, Some(3));
        assert_eq!(overview.insights, Insights::default());
        assert!(overview.posts.posts.is_empty());
    }
}
