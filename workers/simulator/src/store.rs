//! The containers and posts that the simulated API keeps.

use std::collections::HashMap;

use axum::response::{IntoResponse, Response};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::replies;

/// The first id given out; shaped like the API's own.
const FIRST_ID: u64 = 17_900_000_000_000_000;

/// Posts listed at a time.
const LISTED: usize = 25;

/// A post that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPost {
    /// Account it belongs to.
    pub account: String,
    /// Container it was made from.
    pub container: String,
    /// Its own id.
    pub media: String,
    /// `IMAGE`, `CAROUSEL`, `REELS` or `STORIES`.
    pub media_type: String,
    /// The images and videos it shows, in order.
    pub urls: Vec<String>,
    /// Its caption.
    pub caption: Option<String>,
    /// When it was published, in the API's format.
    pub timestamp: String,
}

/// A container as its creator described it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct NewContainer {
    media_type: Option<String>,
    image_url: Option<String>,
    video_url: Option<String>,
    #[serde(default)]
    is_carousel_item: bool,
    #[serde(default)]
    children: Vec<String>,
    caption: Option<String>,
}

impl NewContainer {
    pub(super) fn cut_caption(&mut self, length: usize) {
        if let Some(caption) = &mut self.caption {
            *caption = caption.chars().take(length).collect();
        }
    }

    fn kind(&self) -> &str {
        self.media_type.as_deref().unwrap_or("IMAGE")
    }

    fn url(&self) -> Option<&String> {
        self.image_url.as_ref().or(self.video_url.as_ref())
    }
}

/// What becomes of a container, when it is not the usual.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerOutcome {
    /// `ERROR`, `EXPIRED` or `IN_PROGRESS`.
    pub(super) state: String,
    /// The API's text about it.
    pub(super) text: String,
}

#[derive(Debug)]
struct Container {
    account: String,
    content: NewContainer,
    polls_left: u32,
    published: bool,
    /// How many looks do not show yet that it is published.
    looks_left: u32,
    outcome: Option<ContainerOutcome>,
}

impl Container {
    fn is_finished(&self) -> bool {
        self.polls_left == 0 && self.outcome.is_none()
    }
}

/// How many status requests find a new container still in progress.
#[derive(Debug, Clone, Copy)]
pub(super) struct Polls {
    pub(super) image: u32,
    pub(super) video: u32,
}

/// Whose an id is, and of what.
pub(super) enum Owned<'s> {
    Container(&'s str),
    Post(&'s str),
    Nothing,
}

/// How an attempt to publish ended.
pub(super) enum Publishing {
    Done(Response),
    Repeated(Response),
    Refused(Response),
}

/// Code, subcode and text of what the API refuses.
pub(super) struct Refusal(i64, i64, &'static str);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        replies::error(400, self.0, Some(self.1), self.2)
    }
}

#[derive(Debug, Default)]
pub(super) struct MediaStore {
    ids_given: u64,
    containers: HashMap<String, Container>,
    published: Vec<PublishedPost>,
}

impl MediaStore {
    pub(super) fn published(&self) -> &[PublishedPost] {
        &self.published
    }

    pub(super) fn owner(&self, id: &str) -> Owned<'_> {
        if let Some(container) = self.containers.get(id) {
            return Owned::Container(&container.account);
        }
        match self.published.iter().find(|post| post.media == id) {
            Some(post) => Owned::Post(&post.account),
            None => Owned::Nothing,
        }
    }

    pub(super) fn create(
        &mut self,
        account: &str,
        content: NewContainer,
        polls: Polls,
    ) -> Result<Response, Refusal> {
        self.check(account, &content)?;
        let outcome = content
            .video_url
            .as_ref()
            .filter(|url| !has_extension(url, &["mp4", "mov"]))
            .map(|_| ContainerOutcome {
                state: "ERROR".to_owned(),
                text: "Error: Media upload has failed with error code 2207026".to_owned(),
            });
        let polls_left = if content.video_url.is_some() {
            polls.video
        } else {
            polls.image
        };
        let id = self.new_id();
        let container = Container {
            account: account.to_owned(),
            content,
            polls_left,
            published: false,
            looks_left: 0,
            outcome,
        };
        self.containers.insert(id.clone(), container);
        Ok(axum::Json(json!({ "id": id })).into_response())
    }

    /// What the API refuses when a container is created; the rest shows in its status later.
    fn check(&self, account: &str, content: &NewContainer) -> Result<(), Refusal> {
        let refuse = |code, subcode, text| Err(Refusal(code, subcode, text));
        if let Some(image) = &content.image_url
            && !has_extension(image, &["jpg", "jpeg"])
        {
            return refuse(36_001, 2_207_005, "image format not supported");
        }
        match (content.kind(), content.is_carousel_item) {
            ("IMAGE", _) if content.image_url.is_some() => Ok(()),
            ("VIDEO", true) | ("REELS", false) if content.video_url.is_some() => Ok(()),
            ("STORIES", false) if content.url().is_some() => Ok(()),
            ("CAROUSEL", false) => self.check_children(account, &content.children),
            _ => refuse(100, 2_207_023, "unknown media type"),
        }
    }

    fn check_children(&self, account: &str, children: &[String]) -> Result<(), Refusal> {
        let refuse = |code, subcode, text| Err(Refusal(code, subcode, text));
        if !(2..=10).contains(&children.len()) {
            return refuse(100, 2_207_028, "a carousel needs 2 to 10 children");
        }
        for id in children {
            match self.containers.get(id) {
                Some(child) if child.account == account && child.content.is_carousel_item => {
                    if !child.is_finished() {
                        return refuse(9007, 2_207_027, "a child is not ready");
                    }
                }
                _ => return refuse(24, 2_207_006, "a child cannot be found"),
            }
        }
        Ok(())
    }

    pub(super) fn status(&mut self, id: &str, outcome: Option<ContainerOutcome>) -> Response {
        let Some(container) = self.containers.get_mut(id) else {
            return unknown(id);
        };
        if outcome.is_some() {
            container.outcome = outcome;
        }
        let shown = container.published && container.looks_left == 0;
        container.looks_left = container.looks_left.saturating_sub(1);
        let (code, text) = if shown {
            ("PUBLISHED", "Published: media has been published")
        } else if container.polls_left > 0 {
            ("IN_PROGRESS", "In progress: media is being processed")
        } else if let Some(outcome) = &container.outcome {
            (outcome.state.as_str(), outcome.text.as_str())
        } else {
            ("FINISHED", "Finished: media is ready to be published")
        };
        let status = json!({ "id": id, "status_code": code, "status": text });
        if container.polls_left > 0 {
            let account = container.account.clone();
            self.pass(&account);
        }
        axum::Json(status).into_response()
    }

    /// An account's containers are prepared side by side, so a poll's time passes for all.
    fn pass(&mut self, account: &str) {
        let containers = self.containers.values_mut();
        for container in containers.filter(|container| container.account == account) {
            container.polls_left = container.polls_left.saturating_sub(1);
        }
    }

    pub(super) fn publish(&mut self, account: &str, id: &str, looks: u32) -> Publishing {
        let refused =
            |code, subcode, text| Publishing::Refused(Refusal(code, subcode, text).into_response());
        let container = match self.containers.get_mut(id) {
            Some(container)
                if container.account == account && !container.content.is_carousel_item =>
            {
                container
            }
            _ => return Publishing::Refused(unknown(id)),
        };
        if container.published {
            let text = "the media was published already";
            return Publishing::Repeated(replies::error(400, 100, Some(2_207_087), text));
        }
        if !container.is_finished() {
            return refused(9007, 2_207_027, "the media is not ready");
        }
        container.published = true;
        container.looks_left = looks;
        let content = container.content.clone();
        let children = content.children.iter();
        let urls = children
            .filter_map(|child| self.containers.get(child)?.content.url())
            .chain(content.url())
            .cloned()
            .collect();
        let media = self.new_id();
        self.published.push(PublishedPost {
            account: account.to_owned(),
            container: id.to_owned(),
            media: media.clone(),
            media_type: content.kind().to_owned(),
            urls,
            caption: content.caption,
            timestamp: Utc::now().format("%Y-%m-%dT%H:%M:%S+0000").to_string(),
        });
        Publishing::Done(axum::Json(json!({ "id": media })).into_response())
    }

    pub(super) fn media(&self, id: &str) -> Response {
        match self.published.iter().find(|post| post.media == id) {
            Some(post) => axum::Json(media_json(post)).into_response(),
            None => unknown(id),
        }
    }

    /// An account's latest posts and reels, or its latest stories: neither list has the other's.
    pub(super) fn latest(&self, account: &str, stories: bool) -> Response {
        let data: Vec<_> = self
            .published
            .iter()
            .rev()
            .filter(|post| post.account == account && (post.media_type == "STORIES") == stories)
            .filter(|post| {
                let container = self.containers.get(&post.container);
                container.is_none_or(|container| container.looks_left == 0)
            })
            .take(LISTED)
            .map(media_json)
            .collect();
        axum::Json(json!({ "data": data })).into_response()
    }

    /// An account's posts and reels, latest first.
    pub(super) fn posts_of(&self, account: &str) -> Vec<PublishedPost> {
        let posts = self.published.iter().rev();
        posts
            .filter(|post| post.account == account && post.media_type != "STORIES")
            .cloned()
            .collect()
    }

    /// How many posts an account has published; the simulator does not live for 24 hours.
    pub(super) fn used_quota(&self, account: &str) -> u64 {
        let posts = self.published.iter();
        posts.filter(|post| post.account == account).count() as u64
    }

    fn new_id(&mut self) -> String {
        self.ids_given += 1;
        (FIRST_ID + self.ids_given).to_string()
    }
}

fn unknown(id: &str) -> Response {
    replies::error(400, 100, Some(33), &format!("object {id} does not exist"))
}

fn has_extension(url: &str, extensions: &[&str]) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let found = path.rsplit('.').next().unwrap_or_default();
    extensions
        .iter()
        .any(|extension| found.eq_ignore_ascii_case(extension))
}

fn media_json(post: &PublishedPost) -> Value {
    let kind = match post.media_type.as_str() {
        "REELS" => "reel",
        "STORIES" => "stories",
        _ => "p",
    };
    json!({
        "id": post.media,
        "permalink": format!("https://www.instagram.com/{kind}/S{}/", post.media),
        "caption": post.caption,
        "media_type": post.media_type,
        "timestamp": post.timestamp,
    })
}
