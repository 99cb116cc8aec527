//! Finding out which of an account's posts one of ours became.

use crate::graph::Media;

/// How far the API's clock and ours may be apart, in milliseconds; the API rounds to seconds.
const SKEW: i64 = 120_000;

/// Finds the one post with this caption that was published after publishing was asked for. None
/// when there is no such post or more than one: a wrong permalink is worse than none.
pub(super) fn find(
    latest: Vec<Media>,
    caption: Option<&str>,
    asked_at: Option<i64>,
) -> Option<Media> {
    let earliest = asked_at.map(|at| at - SKEW);
    let mut candidates = latest.into_iter().filter(|media| {
        let is_recent = match (media.published_at(), earliest) {
            (Some(published), Some(earliest)) => published >= earliest,
            (None, _) | (_, None) => true,
        };
        is_recent && same_text(media.caption.as_deref(), caption)
    });
    let found = candidates.next();
    found.filter(|_| candidates.next().is_none())
}

/// The API trims captions, and leaves out empty ones.
fn same_text(one: Option<&str>, other: Option<&str>) -> bool {
    one.unwrap_or_default().trim() == other.unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::MediaId;

    fn media(id: &str, caption: Option<&str>, timestamp: &str) -> Media {
        Media {
            id: MediaId::new(id).unwrap(),
            permalink: None,
            caption: caption.map(str::to_owned),
            timestamp: Some(timestamp.to_owned()),
        }
    }

    fn found(latest: &[Media], caption: Option<&str>) -> Option<String> {
        let asked_at = 1_772_366_400_000; // 12:00:00
        let found = find(latest.to_vec(), caption, Some(asked_at));
        found.map(|media| media.id.to_string())
    }

    /// The users see where the permalink leads, so a guess is not good enough.
    #[test]
    fn only_an_unmistakable_post_is_found() {
        let latest = [
            media("3", Some("New shoes "), "2026-03-01T12:00:04+0000"),
            media("2", None, "2026-03-01T12:00:02+0000"),
            media("1", Some("New shoes"), "2026-02-01T12:00:00+0000"),
        ];
        assert_eq!(found(&latest, Some("New shoes")).as_deref(), Some("3"));
        assert_eq!(found(&latest, None).as_deref(), Some("2"));
        assert_eq!(found(&latest, Some("Old shoes")), None);
        let twice = [latest[0].clone(), latest[0].clone()];
        assert_eq!(found(&twice, Some("New shoes")), None);
    }
}
