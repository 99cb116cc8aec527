//! The sample input and what is expected of it.

use std::collections::BTreeMap;
use std::time::Duration;

use oxbull::JobOptions;
use oxbull_workers::jobs::analytics_refresh::AnalyticsRefresh;
use oxbull_workers::jobs::post_publishing::{MediaType, PostPublishing};
use oxbull_workers::jobs::webhook_processing::WebhookDelivery;
use serde::Deserialize;

use crate::Outcome;

const POSTS: &str = include_str!("../../samples/posts.json");
const DELIVERIES: &str = include_str!("../../samples/webhook-deliveries.json");
const ACCOUNTS: &str = include_str!("../../samples/accounts.json");
const EXPECTED: &str = include_str!("../../samples/expected.json");

/// A post with the job options the backend chose for it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SamplePost {
    pub(crate) data: PostPublishing,
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    priority: u32,
    #[serde(default)]
    expected: Expectation,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Expectation {
    #[default]
    Published,
    Failed,
}

impl SamplePost {
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    pub(crate) fn options(&self) -> JobOptions {
        let mut options = JobOptions::new();
        if self.delay_ms > 0 {
            options = options.delay(self.delay());
        }
        if self.priority > 0 {
            options = options.priority(self.priority);
        }
        options
    }

    /// The API's name of its kind.
    pub(crate) fn kind(&self) -> String {
        let kind = match self.data.media_type {
            MediaType::Image | MediaType::Other(_) => "IMAGE",
            MediaType::Carousel => "CAROUSEL",
            MediaType::Reels => "REELS",
            MediaType::Stories => "STORIES",
        };
        kind.to_owned()
    }

    /// The first of the post's images and videos; no two samples share it.
    pub(crate) fn first_url(&self) -> &str {
        let child = self.data.children.first();
        let urls = [
            self.data.image_url.as_deref(),
            self.data.video_url.as_deref(),
            child.and_then(|child| child.image_url.as_deref()),
            child.and_then(|child| child.video_url.as_deref()),
        ];
        urls.into_iter().flatten().next().unwrap_or_default()
    }

    /// Whether the post is to be published, or to fail because its media cannot be.
    pub(crate) fn is_publishable(&self) -> bool {
        self.expected == Expectation::Published
    }
}

/// What the samples come to when every job ends where it should.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Expected {
    pub(crate) posts: ExpectedPosts,
    /// Different events by kind.
    pub(crate) events: BTreeMap<String, usize>,
    pub(crate) repeated_events: usize,
    pub(crate) accounts: usize,
    /// Accounts that lack a number.
    pub(crate) partial_accounts: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ExpectedPosts {
    pub(crate) published: usize,
    pub(crate) failed: usize,
}

/// An account with the zone that its night is in.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SampleAccount {
    #[serde(flatten)]
    pub(crate) data: AnalyticsRefresh,
    pub(crate) time_zone: String,
}

/// Everything that is added.
#[derive(Debug)]
pub(crate) struct Samples {
    pub(crate) posts: Vec<SamplePost>,
    pub(crate) deliveries: Vec<WebhookDelivery>,
    pub(crate) accounts: Vec<SampleAccount>,
    /// The accounts that are read again, without a schedule.
    pub(crate) repeated_accounts: Vec<AnalyticsRefresh>,
    pub(crate) expected: Expected,
}

impl Samples {
    /// Reads the files, and multiplies what is in them: posts become different ones, deliveries
    /// and accounts are repeated.
    pub(crate) fn load(times: u32) -> Outcome<Self> {
        let posts: Vec<SamplePost> = serde_json::from_str(POSTS)?;
        let deliveries: Vec<WebhookDelivery> = serde_json::from_str(DELIVERIES)?;
        let accounts: Vec<SampleAccount> = serde_json::from_str(ACCOUNTS)?;
        let data: Vec<_> = accounts
            .iter()
            .map(|account| account.data.clone())
            .collect();
        let expected: Expected = serde_json::from_str(EXPECTED)?;
        Ok(Self {
            posts: repeat(&posts, times, distinct_post),
            deliveries: repeat(&deliveries, times, |delivery, _| delivery),
            repeated_accounts: repeat(&data, times.saturating_sub(1), |account, _| account),
            accounts,
            expected: expected.times(times as usize),
        })
    }
}

fn repeat<T: Clone>(samples: &[T], times: u32, change: impl Fn(T, u32) -> T) -> Vec<T> {
    (0..times)
        .flat_map(|round| samples.iter().cloned().map(move |sample| (sample, round)))
        .map(|(sample, round)| change(sample, round))
        .collect()
}

fn distinct_post(mut post: SamplePost, round: u32) -> SamplePost {
    if round > 0 {
        let mark = format!("?round={round}");
        post.data.post_id.push_str(&mark);
        let children = post.data.children.iter_mut();
        let urls = children
            .flat_map(|child| [&mut child.image_url, &mut child.video_url])
            .chain([&mut post.data.image_url, &mut post.data.video_url]);
        for url in urls.flatten() {
            url.push_str(&mark);
        }
        post.data.caption = post.data.caption.map(|caption| caption + &mark);
    }
    post
}

impl Expected {
    fn times(mut self, times: usize) -> Self {
        let unique: usize = self.events.values().sum();
        self.posts.published *= times;
        self.posts.failed *= times;
        self.repeated_events = (unique + self.repeated_events) * times - unique;
        self
    }
}
