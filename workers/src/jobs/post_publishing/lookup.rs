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
    /// One or more that it may be, which nothing tells from other posts.
    Possible,
    /// The posts could not be read.
    Unread,
}

/// The posts that were published at this time or later.
pub(super) fn published_since(latest: Vec<Media>, since: Option<i64>) -> Vec<Media> {
    let earliest = since.map(|at| at - SKEW);
    let mut recent = latest;
    recent.retain(|media| match (media.published_at(), earliest) {
        (Some(published), Some(earliest)) => published >= earliest,
        (None, _) | (_, None) => true,
    });
    recent
}

/// Finds the one post with this caption among those that it can be, never one of more than one: a wrong permalink
/// is worse than none. The API changes some captions, so a post with another one may be it as well.
pub(super) fn find(recent: Vec<Media>, caption: Option<&str>) -> Lookup {
    if recent.is_empty() {
        return Lookup::Absent;
    }
    let mut same = recent
        .into_iter()
        .filter(|media| same_text(media.caption.as_deref(), caption));
    match (same.next(), same.next()) {
        (Some(found), None) => Lookup::Found(found),
        _ => Lookup::Possible,
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

    const NOON: i64 = 1_772_366_400_000;

    fn media(id: &str, caption: Option<&str>, timestamp: &str) -> Media {
        Media {
            id: MediaId::new(id).unwrap(),
            permalink: None,
            caption: caption.map(str::to_owned),
            timestamp: Some(timestamp.to_owned()),
        }
    }

    fn found(latest: &[Media], caption: Option<&str>) -> Option<String> {
        match find(published_since(latest.to_vec(), Some(NOON)), caption) {
            Lookup::Found(media) => Some(media.id.to_string()),
            _ => None,
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
        let possible = find(published_since(twice, None), Some("New shoes"));
        assert!(matches!(possible, Lookup::Possible), "{possible:?}");
    }

    /// Of all that may be ours, none is no post; one with a changed caption is not nothing.
    #[test]
    fn post_with_another_caption_may_be_the_one_unless_it_is_older() {
        let shown = [media("1", Some("New sh"), "2026-03-01T12:00:04+0000")];
        let possible = find(
            published_since(shown.to_vec(), Some(NOON)),
            Some("New shoes"),
        );
        assert!(matches!(possible, Lookup::Possible), "{possible:?}");
        let later = NOON + SKEW + 5_000;
        let absent = find(
            published_since(shown.to_vec(), Some(later)),
            Some("New shoes"),
        );
        assert!(matches!(absent, Lookup::Absent), "{absent:?}");
    }

    /// The API trims, and breaks lines in its own way; words and their case stay.
    #[test]
    fn captions_are_compared_by_words() {
        let same = |one, other| same_text(Some(one), Some(other));
        assert!(same("New\n\n shoes\u{a0}today ", "New shoes today"));
        assert!(!same("New shoes", "Newshoes"));
        assert!(!same("New shoes", "new shoes"));
        assert!(same_text(Some(" \n"), None));
    }

    /// Clocks differ by two minutes at most, and a post without a time may be a new one.
    #[test]
    fn posts_from_before_are_left_out() {
        let at = |time| media("1", None, time);
        let recent = |post: Media| !published_since(vec![post], Some(NOON)).is_empty();
        assert!(recent(at("2026-03-01T11:58:00+0000")));
        assert!(!recent(at("2026-03-01T11:57:59+0000")));
        assert!(recent(at("at noon")));
    }
}
