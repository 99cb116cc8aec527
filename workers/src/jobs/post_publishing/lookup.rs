//! Finding out which of an account's posts one of ours became.

use crate::graph::Media;

/// How far the API's clock and ours may be apart, in milliseconds; the API rounds to seconds.
const SKEW: i64 = 120_000;

/// What an account's posts show.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The one post that is meant.
    Found(Media),
    /// No such post.
    Absent,
    /// More than one that it may be, or the posts could not be read.
    Unknown,
}

/// Finds the one post with this caption that was published after publishing was asked for, never one of
/// more than one: a wrong permalink is worse than none.
pub(super) fn find(latest: Vec<Media>, caption: Option<&str>, asked_at: Option<i64>) -> Lookup {
    let earliest = asked_at.map(|at| at - SKEW);
    let mut candidates = latest.into_iter().filter(|media| {
        let is_recent = match (media.published_at(), earliest) {
            (Some(published), Some(earliest)) => published >= earliest,
            (None, _) | (_, None) => true,
        };
        is_recent && same_text(media.caption.as_deref(), caption)
    });
    match (candidates.next(), candidates.next()) {
        (None, _) => Lookup::Absent,
        (Some(found), None) => Lookup::Found(found),
        (Some(_), Some(_)) => Lookup::Unknown,
    }
}

/// The API trims captions and their lines, and leaves out empty ones.
fn same_text(one: Option<&str>, other: Option<&str>) -> bool {
    let words = |text: Option<&str>| -> Vec<String> {
        let words = text.unwrap_or_default().split_whitespace();
        words.map(str::to_owned).collect()
    };
    words(one) == words(other)
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
        match find(latest.to_vec(), caption, Some(asked_at)) {
            Lookup::Found(media) => Some(media.id.to_string()),
            Lookup::Absent | Lookup::Unknown => None,
        }
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
        assert_eq!(found(&latest, Some("New \r\n shoes")).as_deref(), Some("3"));
        let twice = vec![latest[0].clone(), latest[0].clone()];
        let unknown = find(twice, Some("New shoes"), None);
        assert!(matches!(unknown, Lookup::Unknown), "{unknown:?}");
    }
}
