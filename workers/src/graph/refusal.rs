//! Which part of a refused request is unavailable.

use super::{Failure, GraphError};

impl GraphError {
    /// Whether the API may answer a smaller request: it refuses part of what was asked
    /// for, such as a metric that an object does not have, or all of it as too much at once. A
    /// token that expired and an object that does not exist are no such refusals.
    ///
    /// The codes are 100 (parameter), 10 and 200 to 299 (permission, or too few people to count),
    /// and 1 with the advice to ask for less.
    pub fn refuses_a_part(&self) -> bool {
        let Self::Declined(error) = self else {
            return false;
        };
        match error.code {
            10 | 100 | 200..=299 => {
                matches!(
                    error.failure,
                    Failure::Permanent | Failure::MissingPermission
                ) && !self.is_unknown_object()
            }
            1 => error.message.contains("reduce the amount of data"),
            _ => false,
        }
    }

    /// The metrics, of those asked for, that the API refuses.
    pub(crate) fn refused_metrics<'m>(&self, asked: &[&'m str]) -> Refused<'m> {
        let Self::Declined(error) = self else {
            return Refused::Unnamed;
        };
        if error.subcode == Some(BEFORE_CONVERSION) {
            return Refused::Older;
        }
        if !matches!(error.code, 1 | 100) {
            // Too few people to count is the matter of one object.
            return if self.is_missing_permission() {
                Refused::All
            } else {
                Refused::Unnamed
            };
        }
        if let Some(metric) = listed(&error.message).and_then(|index| asked.get(index)) {
            return Refused::Nowhere(metric);
        }
        let words: Vec<_> = error
            .message
            .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
            .collect();
        let named: Vec<_> = asked
            .iter()
            .copied()
            .filter(|metric| words.contains(metric))
            .collect();
        if named.is_empty() {
            Refused::Unnamed
        } else {
            Refused::Here(named)
        }
    }
}

/// Metrics that the API refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused<'m> {
    /// There is no such metric for any object.
    Nowhere(&'m str),
    /// An object among those asked about does not have them.
    Here(Vec<&'m str>),
    /// The API does not name it.
    Unnamed,
    /// A permission is lacking, so there are none at all.
    All,
    /// One of the posts is from before the account became a professional one, and so are all that are
    /// older; they have no insights.
    Older,
}

/// The subcode of posts from before the account became a professional one.
const BEFORE_CONVERSION: i64 = 2_108_006;

/// The number in `metric[2] must be one of the following values: …`, which goes on to name those
/// that are accepted.
fn listed(message: &str) -> Option<usize> {
    let (_, rest) = message.split_once("metric[")?;
    let (index, rest) = rest.split_once(']')?;
    let accepted = rest.trim_start().starts_with("must be one of");
    index.parse().ok().filter(|_| accepted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ApiError;

    fn declined(code: i64, subcode: Option<i64>, message: &str) -> GraphError {
        GraphError::Declined(ApiError {
            status: 400,
            code,
            subcode,
            message: message.to_owned(),
            user_message: None,
            failure: match code {
                190 => Failure::ExpiredToken,
                10 => Failure::MissingPermission,
                _ => Failure::Permanent,
            },
        })
    }

    /// What is asked for again depends on whether a metric is wrong everywhere or for one object.
    #[test]
    fn refused_metrics_are_read_from_the_text() {
        let asked = ["reach", "views", "saved"];
        let text = "(#100) metric[1] must be one of the following values: reach, saved";
        let refused = declined(100, None, text).refused_metrics(&asked);
        assert_eq!(refused, Refused::Nowhere("views"));
        let text = "The Media Insights API does not support the saved metric for this media";
        let refused = declined(100, None, text).refused_metrics(&asked);
        assert_eq!(refused, Refused::Here(vec!["saved"]));
        let text = "metric[9] must be one of the following values: overviews";
        let refused = declined(100, None, text).refused_metrics(&asked);
        assert_eq!(refused, Refused::Unnamed);
        let refused = declined(10, None, "no permission for reach").refused_metrics(&asked);
        assert_eq!(refused, Refused::All);
        let few = declined(
            10,
            None,
            "(#10) Not enough viewers for the media to show insights",
        );
        assert_eq!(few.refused_metrics(&asked), Refused::Unnamed);
        let old = declined(100, Some(2_108_006), "posted before reach was counted");
        assert_eq!(old.refused_metrics(&asked), Refused::Older);
    }

    /// Only what smaller requests can heal is asked for in parts: an expired token would be asked
    /// about again and again.
    #[test]
    fn expired_tokens_and_unknown_objects_are_no_partial_refusals() {
        assert!(declined(100, Some(2_108_006), "before conversion").refuses_a_part());
        assert!(declined(10, None, "not enough viewers").refuses_a_part());
        let advice = "Please reduce the amount of data you're asking for, then retry your request";
        assert!(declined(1, None, advice).refuses_a_part());
        assert!(!declined(1, None, "unknown error").refuses_a_part());
        assert!(!declined(100, Some(33), "unknown").refuses_a_part());
        assert!(!declined(190, None, "expired").refuses_a_part());
        assert!(!declined(36_003, None, "ratio").refuses_a_part());
    }
}
