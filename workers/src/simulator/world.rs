//! What the simulated API knows: containers, posts, armed faults, rates and counters.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::replies;
use super::{Effect, Fault, Operation, SimulatorOptions};

/// The first id given out; shaped like the API's own.
const FIRST_ID: u64 = 17_900_000_000_000_000;

/// How often what was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests by operation, refused ones included.
    pub requests: BTreeMap<Operation, u64>,
    /// Containers created.
    pub containers: u64,
    /// Containers published.
    pub publications: u64,
    /// Requests to publish a container that was published already; all were refused.
    pub repeated_publications: u64,
    /// Requests refused by a fault or a rate.
    pub refused: u64,
}

/// A post that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPost {
    /// Account it belongs to.
    pub account: String,
    /// Container it was made from.
    pub container: String,
    /// Its own id.
    pub media: String,
    /// Image it shows.
    pub image_url: String,
    /// Its caption.
    pub caption: Option<String>,
}

/// A container as its creator described it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct NewContainer {
    image_url: String,
    #[serde(default)]
    caption: Option<String>,
}

#[derive(Debug)]
struct Container {
    account: String,
    content: NewContainer,
    polls_left: u32,
    published: bool,
}

#[derive(Debug, Default)]
struct State {
    ids_given: u64,
    containers: HashMap<String, Container>,
    published: Vec<PublishedPost>,
    faults: Vec<Fault>,
    windows: HashMap<String, (Instant, u32)>,
    counters: Counters,
}

/// The whole of it, behind one lock that is never held across an await.
#[derive(Debug)]
pub(super) struct World {
    options: SimulatorOptions,
    state: Mutex<State>,
}

/// How an admitted request is to be treated.
#[derive(Debug, Default)]
pub(super) struct Treatment {
    pub(super) slow: Duration,
    pub(super) lose_reply: bool,
    usage_percent: Option<u32>,
}

impl World {
    pub(super) fn new(options: SimulatorOptions) -> Self {
        Self {
            options,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arm(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    pub(super) fn disarm(&self) {
        self.lock().faults.clear();
    }

    pub(super) fn counters(&self) -> Counters {
        self.lock().counters.clone()
    }

    pub(super) fn published(&self) -> Vec<PublishedPost> {
        self.lock().published.clone()
    }

    /// Whose container or post an id is; an id of neither is taken for an account's.
    pub(super) fn owner(&self, id: &str) -> (Operation, String) {
        let state = self.lock();
        if let Some(container) = state.containers.get(id) {
            return (Operation::ContainerStatus, container.account.clone());
        }
        match state.published.iter().find(|post| post.media == id) {
            Some(post) => (Operation::Permalink, post.account.clone()),
            None => (Operation::Profile, id.to_owned()),
        }
    }

    /// Counts a request and says how to treat it, or refuses it.
    pub(super) fn admit(
        &self,
        operation: Operation,
        account: &str,
    ) -> Result<Treatment, Box<Response>> {
        let mut state = self.lock();
        *state.counters.requests.entry(operation).or_default() += 1;
        let mut treatment = Treatment {
            slow: self.options.latency,
            ..Treatment::default()
        };
        match state.take_fault(operation, account) {
            None => {}
            Some(Effect::Slow(ms)) => treatment.slow += Duration::from_millis(ms),
            Some(Effect::LoseReply) => treatment.lose_reply = true,
            Some(Effect::Error {
                status,
                code,
                subcode,
            }) => {
                state.counters.refused += 1;
                return Err(replies::error(status, code, subcode, "failed on request").into());
            }
            Some(Effect::RateLimit(seconds)) => {
                state.counters.refused += 1;
                return Err(replies::rate_limited(account, seconds).into());
            }
        }
        match self.count_rate(&mut state, account) {
            Ok(percent) => treatment.usage_percent = percent,
            Err(wait) => {
                state.counters.refused += 1;
                return Err(replies::rate_limited(account, wait.as_secs().max(1)).into());
            }
        }
        Ok(treatment)
    }

    /// Percent of the account's rate in use, or how long it is blocked.
    fn count_rate(&self, state: &mut State, account: &str) -> Result<Option<u32>, Duration> {
        let Some(rate) = self.options.rate else {
            return Ok(None);
        };
        let now = Instant::now();
        let (start, used) = state.windows.entry(account.to_owned()).or_insert((now, 0));
        if now.duration_since(*start) >= rate.window {
            (*start, *used) = (now, 0);
        }
        if *used >= rate.requests {
            return Err(rate.window.saturating_sub(now.duration_since(*start)));
        }
        *used += 1;
        Ok(Some(used.saturating_mul(100) / rate.requests.max(1)))
    }

    pub(super) fn create_container(&self, account: &str, content: NewContainer) -> Response {
        if !is_jpeg(&content.image_url) {
            return replies::error(400, 36_001, Some(2_207_005), "image format not supported");
        }
        let mut state = self.lock();
        let id = state.new_id();
        state.counters.containers += 1;
        state.containers.insert(
            id.clone(),
            Container {
                account: account.to_owned(),
                content,
                polls_left: self.options.polls,
                published: false,
            },
        );
        axum::Json(json!({ "id": id })).into_response()
    }

    pub(super) fn container_status(&self, id: &str) -> Response {
        let mut state = self.lock();
        let Some(container) = state.containers.get_mut(id) else {
            return unknown(id);
        };
        let (code, text) = if container.published {
            ("PUBLISHED", "Published: media has been published")
        } else if container.polls_left > 0 {
            container.polls_left -= 1;
            ("IN_PROGRESS", "In progress: media is being processed")
        } else {
            ("FINISHED", "Finished: media is ready to be published")
        };
        axum::Json(json!({ "id": id, "status_code": code, "status": text })).into_response()
    }

    pub(super) fn publish(&self, account: &str, id: &str) -> Response {
        let mut state = self.lock();
        let state = &mut *state;
        let container = match state.containers.get_mut(id) {
            Some(container) if container.account == account => container,
            _ => return unknown(id),
        };
        if container.published {
            state.counters.repeated_publications += 1;
            return replies::error(400, 100, Some(2_207_087), "the media was published already");
        }
        if container.polls_left > 0 {
            return replies::error(400, 9007, Some(2_207_027), "the media is not ready");
        }
        container.published = true;
        let content = container.content.clone();
        let media = state.new_id();
        state.counters.publications += 1;
        state.published.push(PublishedPost {
            account: account.to_owned(),
            container: id.to_owned(),
            media: media.clone(),
            image_url: content.image_url,
            caption: content.caption,
        });
        axum::Json(json!({ "id": media })).into_response()
    }

    pub(super) fn media(&self, id: &str) -> Response {
        let state = self.lock();
        match state.published.iter().find(|post| post.media == id) {
            Some(post) => axum::Json(media_json(post)).into_response(),
            None => unknown(id),
        }
    }

    pub(super) fn recent_media(&self, account: &str) -> Response {
        let state = self.lock();
        let data: Vec<_> = state
            .published
            .iter()
            .rev()
            .filter(|post| post.account == account)
            .take(25)
            .map(media_json)
            .collect();
        axum::Json(json!({ "data": data })).into_response()
    }

    /// Adds the usage header when a rate is set.
    pub(super) fn mark_usage(response: &mut Response, treatment: &Treatment, account: &str) {
        if let Some(percent) = treatment.usage_percent {
            replies::usage(response, account, percent, 0);
        }
    }
}

impl State {
    fn new_id(&mut self) -> String {
        self.ids_given += 1;
        (FIRST_ID + self.ids_given).to_string()
    }

    fn take_fault(&mut self, operation: Operation, account: &str) -> Option<Effect> {
        self.faults
            .iter_mut()
            .find_map(|fault| fault.take(operation, account))
    }
}

fn unknown(id: &str) -> Response {
    replies::error(400, 100, Some(33), &format!("object {id} does not exist"))
}

/// The API publishes JPEG images only.
fn is_jpeg(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let extension = path.rsplit('.').next().unwrap_or_default();
    extension.eq_ignore_ascii_case("jpg") || extension.eq_ignore_ascii_case("jpeg")
}

fn media_json(post: &PublishedPost) -> serde_json::Value {
    json!({
        "id": post.media,
        "permalink": format!("https://www.instagram.com/p/S{}/", post.media),
        "caption": post.caption,
        "media_type": "IMAGE",
    })
}
