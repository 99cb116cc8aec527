//! Which containers a post needs.

use reqwest::Url;

use super::{ChildMedia, MediaType, PostPublishing};
use crate::graph::{ContainerId, NewContainer};

/// How many children a carousel may have.
const CHILDREN: std::ops::RangeInclusive<usize> = 2..=10;

/// The longest URL passed on, in bytes.
const LONGEST_URL: usize = 2048;

/// What is to be created for a post, once it is known to make sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// One container.
    Single(NewContainer),
    /// A container for each child, and then one that joins them.
    Carousel {
        /// The children, in order.
        children: Vec<NewContainer>,
        /// The caption of the whole.
        caption: Option<String>,
    },
}

/// A post that cannot be published as it was scheduled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the post cannot be published: {0}")]
pub struct InvalidPost(String);

fn invalid<T>(problem: impl Into<String>) -> Result<T, InvalidPost> {
    Err(InvalidPost(problem.into()))
}

impl Plan {
    /// Checks a post's media against its type.
    ///
    /// # Errors
    /// [`InvalidPost`] naming the field at fault: media that is missing, of the wrong kind or
    /// too much, or a URL that is not plain https.
    pub fn of(post: &PostPublishing) -> Result<Self, InvalidPost> {
        let reel = matches!(post.media_type, MediaType::Reels);
        for (field, given) in [
            ("coverUrl", post.cover_url.is_some()),
            ("thumbOffsetMs", post.thumb_offset_ms.is_some()),
            ("shareToFeed", post.share_to_feed.is_some()),
        ] {
            if given && !reel {
                return invalid(format!("{field} is for reels only"));
            }
        }
        let carousel = matches!(post.media_type, MediaType::Carousel);
        if !carousel && !post.children.is_empty() {
            return invalid("children are for carousels only");
        }
        let media = Source::of(post.image_url.as_deref(), post.video_url.as_deref());
        match (&post.media_type, media) {
            (MediaType::Image, Source::Image(url)) => Ok(Self::Single(
                NewContainer::image(https("imageUrl", url)?)
                    .caption(post.caption.clone())
                    .alt_text(post.alt_text.clone()),
            )),
            (MediaType::Image, _) => invalid("an image needs imageUrl, and no videoUrl"),
            (MediaType::Reels, Source::Video(url)) => {
                let cover = post.cover_url.as_deref();
                Ok(Self::Single(
                    NewContainer::reel(https("videoUrl", url)?)
                        .caption(post.caption.clone())
                        .cover(cover.map(|url| https("coverUrl", url)).transpose()?)
                        .thumb_offset(post.thumb_offset_ms)
                        .share_to_feed(post.share_to_feed),
                ))
            }
            (MediaType::Reels, _) => invalid("a reel needs videoUrl, and no imageUrl"),
            (MediaType::Stories, source) => match source {
                Source::Image(url) => Ok(Self::Single(
                    NewContainer::image(https("imageUrl", url)?).story(),
                )),
                Source::Video(url) => Ok(Self::Single(
                    NewContainer::video(https("videoUrl", url)?).story(),
                )),
                Source::None | Source::Both => invalid("a story needs either imageUrl or videoUrl"),
            },
            (MediaType::Carousel, Source::None) => Self::carousel(post),
            (MediaType::Carousel, _) => {
                invalid("a carousel has its media in children, not in imageUrl or videoUrl")
            }
            (MediaType::Other(kind), _) => {
                let kind: String = kind.chars().take(40).collect();
                invalid(format!("posts of type {kind:?} are not supported"))
            }
        }
    }

    fn carousel(post: &PostPublishing) -> Result<Self, InvalidPost> {
        let count = post.children.len();
        if !CHILDREN.contains(&count) {
            return invalid(format!("a carousel needs 2 to 10 children, not {count}"));
        }
        let children = post.children.iter().enumerate();
        let children = children.map(|(index, media)| child(index, media));
        Ok(Self::Carousel {
            children: children.collect::<Result<_, _>>()?,
            caption: post.caption.clone(),
        })
    }

    /// The children to create; none for what is no carousel.
    pub(super) fn children(&self) -> &[NewContainer] {
        match self {
            Self::Single(_) => &[],
            Self::Carousel { children, .. } => children,
        }
    }

    /// The container that is to be published, made of these finished children.
    pub(super) fn container(&self, made: &[ContainerId]) -> NewContainer {
        match self {
            Self::Single(container) => container.clone(),
            Self::Carousel { caption, .. } => {
                NewContainer::carousel(made.to_vec()).caption(caption.clone())
            }
        }
    }
}

fn child(index: usize, media: &ChildMedia) -> Result<NewContainer, InvalidPost> {
    let field = |name: &str| format!("children[{index}].{name}");
    let container = match Source::of(media.image_url.as_deref(), media.video_url.as_deref()) {
        Source::Image(url) => {
            NewContainer::image(https(&field("imageUrl"), url)?).alt_text(media.alt_text.clone())
        }
        Source::Video(url) => NewContainer::video(https(&field("videoUrl"), url)?),
        Source::None | Source::Both => {
            let child = field("imageUrl");
            return invalid(format!("either {child} or its videoUrl is needed"));
        }
    };
    Ok(container.in_carousel())
}

/// Where a post's media comes from.
enum Source<'a> {
    None,
    Image(&'a str),
    Video(&'a str),
    Both,
}

impl<'a> Source<'a> {
    fn of(image: Option<&'a str>, video: Option<&'a str>) -> Self {
        match (image, video) {
            (None, None) => Self::None,
            (Some(image), None) => Self::Image(image),
            (None, Some(video)) => Self::Video(video),
            (Some(_), Some(_)) => Self::Both,
        }
    }
}

/// Passes a URL on if it is plain https. It is never opened here: the API downloads the media, so
/// a URL cannot make this worker reach into its own network.
fn https(field: &str, url: &str) -> Result<String, InvalidPost> {
    if url.len() > LONGEST_URL {
        return invalid(format!("{field} is longer than {LONGEST_URL} bytes"));
    }
    match Url::parse(url) {
        Ok(parsed)
            if parsed.scheme() == "https"
                && parsed.username().is_empty()
                && parsed.password().is_none() =>
        {
            Ok(url.to_owned())
        }
        _ => invalid(format!("{field} must be an https url without credentials")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(mut fields: Value) -> Result<Plan, InvalidPost> {
        let base = json!({ "postId": "p", "userId": "u", "accountId": "178" });
        let (Some(fields), Value::Object(base)) = (fields.as_object_mut(), base) else {
            panic!("fields must be an object");
        };
        fields.extend(base);
        Plan::of(&serde_json::from_value(Value::Object(fields.clone())).unwrap())
    }

    const IMAGE: &str = "https://x/a.jpg";
    const VIDEO: &str = "https://x/a.mp4";

    /// Each kind of post becomes what the API wants for it.
    #[test]
    fn kinds_become_their_containers() {
        let single = |fields| match plan(fields).unwrap() {
            Plan::Single(container) => serde_json::to_value(container).unwrap(),
            Plan::Carousel { .. } => panic!("a carousel"),
        };
        assert_eq!(
            single(json!({ "imageUrl": IMAGE, "caption": "c", "altText": "t" })),
            json!({ "image_url": IMAGE, "caption": "c", "alt_text": "t" })
        );
        assert_eq!(
            single(
                json!({ "mediaType": "REELS", "videoUrl": VIDEO, "coverUrl": IMAGE,
                "thumbOffsetMs": 40, "shareToFeed": true })
            ),
            json!({ "media_type": "REELS", "video_url": VIDEO, "cover_url": IMAGE,
                "thumb_offset": 40, "share_to_feed": true })
        );
        assert_eq!(
            single(json!({ "mediaType": "STORIES", "videoUrl": VIDEO, "caption": "unused" })),
            json!({ "media_type": "STORIES", "video_url": VIDEO })
        );
        let carousel = plan(json!({ "mediaType": "CAROUSEL", "caption": "c",
            "children": [{ "imageUrl": IMAGE }, { "videoUrl": VIDEO }] }))
        .unwrap();
        assert_eq!(carousel.children().len(), 2);
        let made = ["1", "2"].map(|id| ContainerId::new(id).unwrap());
        assert_eq!(
            serde_json::to_value(carousel.container(&made)).unwrap(),
            json!({ "media_type": "CAROUSEL", "children": ["1", "2"], "caption": "c" })
        );
    }

    /// A post that can never be published is refused before any request, and the error names the field.
    #[test]
    fn media_that_does_not_fit_is_refused_with_its_field() {
        let children = |count: usize| vec![json!({ "imageUrl": IMAGE }); count];
        for (fields, word) in [
            (json!({}), "imageUrl"),
            (json!({ "imageUrl": IMAGE, "videoUrl": VIDEO }), "videoUrl"),
            (json!({ "imageUrl": "http://x/a.jpg" }), "https"),
            (json!({ "imageUrl": "https://u:p@x/a.jpg" }), "credentials"),
            (json!({ "imageUrl": "file:///etc/passwd" }), "https"),
            (
                json!({ "imageUrl": format!("https://x/{}", "a".repeat(2048)) }),
                "2048",
            ),
            (
                json!({ "imageUrl": IMAGE, "shareToFeed": true }),
                "shareToFeed",
            ),
            (
                json!({ "imageUrl": IMAGE, "children": children(2) }),
                "children",
            ),
            (
                json!({ "mediaType": "REELS", "imageUrl": IMAGE }),
                "videoUrl",
            ),
            (json!({ "mediaType": "STORIES" }), "either"),
            (
                json!({ "mediaType": "STORIES", "imageUrl": IMAGE, "videoUrl": VIDEO }),
                "either",
            ),
            (
                json!({ "mediaType": "CAROUSEL", "children": children(1) }),
                "not 1",
            ),
            (
                json!({ "mediaType": "CAROUSEL", "children": children(11) }),
                "not 11",
            ),
            (
                json!({ "mediaType": "CAROUSEL", "imageUrl": IMAGE, "children": children(2) }),
                "children",
            ),
            (
                json!({ "mediaType": "CAROUSEL", "children": [{ "imageUrl": IMAGE }, {}] }),
                "children[1]",
            ),
            (json!({ "mediaType": "LIVE", "imageUrl": IMAGE }), "LIVE"),
        ] {
            let error = plan(fields.clone()).unwrap_err().to_string();
            assert!(error.contains(word), "{fields}: {error}");
        }
        assert!(plan(json!({ "mediaType": "CAROUSEL", "children": children(10) })).is_ok());
    }
}
