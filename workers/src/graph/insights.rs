//! Numbers of an account: its profile counters and its daily insights.

use serde::Deserialize;

use super::{AccountApi, GraphError};

/// The insights asked for, by the API's names.
const METRICS: &str = "reach,views,profile_views";

/// An account's numbers; each is absent when the API did not report it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountInsights {
    /// Name shown to people.
    pub username: Option<String>,
    /// Followers now.
    pub followers: Option<u64>,
    /// Posts now.
    pub posts: Option<u64>,
    /// Accounts that saw something, in the last day.
    pub reach: Option<u64>,
    /// Times something was seen, in the last day.
    pub views: Option<u64>,
    /// Times the profile was opened, in the last day.
    pub profile_views: Option<u64>,
}

#[derive(Deserialize)]
struct Profile {
    username: Option<String>,
    followers_count: Option<u64>,
    media_count: Option<u64>,
}

#[derive(Deserialize)]
struct Insights {
    #[serde(default)]
    data: Vec<Metric>,
}

/// A metric comes as one total, or as a series with the latest value last.
#[derive(Deserialize)]
struct Metric {
    name: String,
    total_value: Option<Value>,
    #[serde(default)]
    values: Vec<Value>,
}

#[derive(Deserialize)]
struct Value {
    value: Option<u64>,
}

impl Insights {
    fn value(&self, name: &str) -> Option<u64> {
        let metric = self.data.iter().find(|metric| metric.name == name)?;
        metric
            .total_value
            .as_ref()
            .or(metric.values.last())
            .and_then(|value| value.value)
    }
}

impl AccountApi<'_> {
    /// Reads the account's counters and daily insights, in two requests.
    ///
    /// # Errors
    /// Any [`GraphError`]. A number that the API leaves out is no error.
    pub async fn insights(&self) -> Result<AccountInsights, GraphError> {
        let profile: Profile = self
            .read(
                "profile",
                &[self.id().as_str()],
                &[("fields", "username,followers_count,media_count")],
            )
            .await?;
        let insights: Insights = self
            .read(
                "insights",
                &[self.id().as_str(), "insights"],
                &[
                    ("metric", METRICS),
                    ("period", "day"),
                    ("metric_type", "total_value"),
                ],
            )
            .await?;
        Ok(AccountInsights {
            username: profile.username,
            followers: profile.followers_count,
            posts: profile.media_count,
            reach: insights.value("reach"),
            views: insights.value("views"),
            profile_views: insights.value("profile_views"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The API reports totals or series depending on the metric, and leaves out what it has not.
    #[test]
    fn values_are_found_in_totals_and_series_and_may_be_missing() {
        let insights: Insights = serde_json::from_str(
            r#"{"data":[
                {"name":"reach","period":"day","total_value":{"value":12}},
                {"name":"views","period":"day","values":[{"value":1},{"value":7}]},
                {"name":"profile_views","values":[]}]}"#,
        )
        .unwrap();
        assert_eq!(insights.value("reach"), Some(12));
        assert_eq!(insights.value("views"), Some(7));
        assert_eq!(insights.value("profile_views"), None);
        assert_eq!(insights.value("likes"), None);
    }
}
