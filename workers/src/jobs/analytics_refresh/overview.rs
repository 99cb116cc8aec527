//! An account's numbers as they are cached and returned.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refresh::Gathered;
use crate::graph::{AccountId, MediaId, PostRecord};

/// How long a cached overview lasts.
pub const OVERVIEW_TTL: Duration = Duration::from_secs(3600);

/// The cache key of an account's overview.
pub fn overview_key(account: &AccountId) -> String {
    format!("api:analytics:overview:{account}")
}

/// An account's numbers at a moment: the job's result and the cached value. A number is null when
/// the API did not report it, and is then named in `missing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The account.
    pub account_id: AccountId,
    /// Name shown to people.
    pub username: Option<String>,
    /// Followers now.
    pub followers: Option<u64>,
    /// Posts now.
    pub posts: Option<u64>,
    /// Accounts that saw something, in the last day.
    pub reach: Option<u64>,
    /// Times something was seen, in the last day. The API's views took the place of impressions.
    pub views: Option<u64>,
    /// Times the profile was opened, in the last day.
    pub profile_views: Option<u64>,
    /// The latest posts, latest first.
    #[serde(default)]
    pub media: Vec<PostNumbers>,
    /// What is lacking of the account: names of numbers, and `media` when not all posts that were
    /// to be read could be. What posts lack is said there.
    pub missing: Vec<String>,
    /// Whether a number is missing, here or of a post.
    #[serde(default)]
    pub partial: bool,
    /// Whether insights are missing because the account's owner has not granted the permission for
    /// them, or has revoked it: connecting the account again helps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub permission_missing: bool,
    /// When the numbers were read, milliseconds since 1970.
    pub fetched_at: i64,
}

/// A post's numbers, over its whole life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PostNumbers {
    /// The API's id.
    pub media_id: MediaId,
    /// Address for people.
    pub permalink: Option<String>,
    /// `IMAGE`, `VIDEO` or `CAROUSEL_ALBUM`.
    pub media_type: Option<String>,
    /// `FEED`, `REELS` or another place where it is shown.
    pub product_type: Option<String>,
    /// When it was published, in the API's format.
    pub timestamp: Option<String>,
    /// Likes.
    pub likes: Option<u64>,
    /// Comments.
    pub comments: Option<u64>,
    /// Times it was passed on.
    pub shares: Option<u64>,
    /// Times it was saved.
    pub saves: Option<u64>,
    /// Accounts that saw it.
    pub reach: Option<u64>,
    /// Times it was seen.
    pub views: Option<u64>,
    /// Likes, comments, shares and saves for each account reached, such as `0.0512`: rounded to
    /// four places, null when one of these numbers is missing or the reach is 0.
    pub engagement_rate: Option<f64>,
    /// Names of the numbers that the API did not report.
    pub missing: Vec<String>,
}

/// The names of the numbers that are absent.
fn missing<const N: usize>(numbers: [(&str, Option<u64>); N]) -> Vec<String> {
    let absent = numbers.into_iter().filter(|(_, number)| number.is_none());
    absent.map(|(name, _)| name.to_owned()).collect()
}

impl PostNumbers {
    fn of(post: PostRecord) -> Self {
        let value = |name| post.insights.value(name);
        let (likes, comments) = (post.likes, post.comments);
        let (shares, saves) = (value("shares"), value("saved"));
        let (reach, views) = (value("reach"), value("views"));
        Self {
            likes,
            comments,
            shares,
            saves,
            reach,
            views,
            engagement_rate: engagement_rate([likes, comments, shares, saves], reach),
            missing: missing([
                ("likes", likes),
                ("comments", comments),
                ("shares", shares),
                ("saves", saves),
                ("reach", reach),
                ("views", views),
            ]),
            media_id: post.id,
            permalink: post.permalink,
            media_type: post.media_type,
            product_type: post.product_type,
            timestamp: post.timestamp,
        }
    }
}

fn engagement_rate(interactions: [Option<u64>; 4], reach: Option<u64>) -> Option<f64> {
    let reach = reach.filter(|reach| *reach > 0)?;
    let mut sum: u64 = 0;
    for number in interactions {
        sum = sum.checked_add(number?)?;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate of four places needs no more than 52 bits"
    )]
    let rate = sum as f64 / reach as f64;
    Some((rate * 10_000.0).round() / 10_000.0)
}

impl Overview {
    /// What was gathered at a time, in milliseconds since 1970.
    pub(super) fn of(account_id: AccountId, gathered: Gathered, fetched_at: i64) -> Self {
        let Gathered {
            profile,
            insights,
            posts,
            posts_complete,
            permission_missing,
        } = gathered;
        let (reach, views) = (insights.value("reach"), insights.value("views"));
        let profile_views = insights.value("profile_views");
        let mut missing = missing([
            ("followers", profile.followers),
            ("posts", profile.posts),
            ("reach", reach),
            ("views", views),
            ("profileViews", profile_views),
        ]);
        if !posts_complete {
            missing.push("media".to_owned());
        }
        let media: Vec<_> = posts.into_iter().map(PostNumbers::of).collect();
        Self {
            account_id,
            username: profile.username,
            followers: profile.followers,
            posts: profile.posts,
            reach,
            views,
            profile_views,
            partial: !missing.is_empty() || media.iter().any(|post| !post.missing.is_empty()),
            media,
            missing,
            permission_missing,
            fetched_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rate that leaves out an unknown number would look like a worse post.
    #[test]
    fn engagement_rate_needs_every_number() {
        let some = [Some(30), Some(5), Some(2), Some(4)];
        assert_eq!(engagement_rate(some, Some(800)), Some(0.0513));
        assert_eq!(engagement_rate(some, Some(0)), None);
        assert_eq!(engagement_rate(some, None), None);
        let hidden_likes = [None, Some(5), Some(2), Some(4)];
        assert_eq!(engagement_rate(hidden_likes, Some(800)), None);
        assert_eq!(engagement_rate([Some(u64::MAX); 4], Some(1)), None);
    }
}
