//! The state of the simulated API: containers and posts, armed faults, breakpoints, rates and counters.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::breakpoints::Breakpoint;
use super::insights::{Library, MissingData};
use super::store::{ContainerOutcome, MediaStore, NewContainer, Owned, Polls, Publishing};
use super::tokens::Tokens;
use super::{Effect, Fault, Operation, PublishedPost, Rate, SimulatorOptions, replies};

/// Posts that an account may publish by default.
const QUOTA: u64 = 100;

/// Numbers of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests by operation, refused ones included.
    pub requests: BTreeMap<Operation, u64>,
    /// Requests by account, refused ones included.
    pub accounts: BTreeMap<String, u64>,
    /// Containers created.
    pub containers: u64,
    /// Containers published.
    pub publications: u64,
    /// Requests to publish a container that was published already; all were refused.
    pub repeated_publications: u64,
    /// Requests refused by a fault, a rate or a quota.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct State {
    store: MediaStore,
    tokens: Tokens,
    faults: Vec<Fault>,
    breakpoints: Vec<Breakpoint>,
    missing: Vec<(String, MissingData)>,
    windows: HashMap<String, (Instant, u32)>,
    counters: Counters,
}

/// The whole state, behind one lock that is never held across an await.
#[derive(Debug)]
pub(super) struct Simulation {
    options: SimulatorOptions,
    state: Mutex<State>,
}

/// How an admitted request is to be treated.
#[derive(Debug, Default)]
pub(super) struct Treatment {
    pub(super) slow: Duration,
    pub(super) lose_reply: bool,
    pub(super) outcome: Option<ContainerOutcome>,
    /// It is executed, which so many looks do not show, and answered with this.
    pub(super) executed: Option<(u32, Response)>,
    /// Percent in use and minutes of block, for the answer's header.
    usage: Option<(u32, u64)>,
    /// Percent of the application's rate in use.
    application_usage: Option<u32>,
    /// Whether the header names other accounts and products as well.
    foreign_usage: bool,
}

/// The name of the application among the accounts whose requests are counted.
const APPLICATION: &str = "";

impl Simulation {
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

    /// Looks at the accounts' tokens, or changes them.
    pub(super) fn tokens<T>(&self, act: impl FnOnce(&mut Tokens) -> T) -> T {
        act(&mut self.lock().tokens)
    }

    pub(super) fn add_breakpoint(&self, breakpoint: Breakpoint) {
        self.lock().breakpoints.push(breakpoint);
    }

    pub(super) fn counters(&self) -> Counters {
        self.lock().counters.clone()
    }

    pub(super) fn published(&self) -> Vec<PublishedPost> {
        self.lock().store.published().to_vec()
    }

    /// Whose container or post an id is; an id of neither is taken for an account's.
    pub(super) fn owner(&self, id: &str) -> (Operation, String) {
        match self.lock().store.owner(id) {
            Owned::Container(account) => (Operation::ContainerStatus, account.to_owned()),
            Owned::Post(account) => (Operation::Permalink, account.to_owned()),
            Owned::Nothing => (Operation::Profile, id.to_owned()),
        }
    }

    /// The breakpoint that this request of an account has to pass, if any.
    pub(super) fn breakpoint(&self, account: &str) -> Option<Breakpoint> {
        let mut state = self.lock();
        let mut found = None;
        for (index, breakpoint) in state.breakpoints.iter_mut().enumerate() {
            if breakpoint.counts(account) && found.is_none() {
                found = Some(index);
            }
        }
        found.map(|index| state.breakpoints.remove(index))
    }

    /// Counts a request and returns how to treat it, or refuses it.
    pub(super) fn admit(
        &self,
        operation: Operation,
        account: &str,
    ) -> Result<Treatment, Box<Response>> {
        let mut state = self.lock();
        *state.counters.requests.entry(operation).or_default() += 1;
        *state
            .counters
            .accounts
            .entry(account.to_owned())
            .or_default() += 1;
        let mut treatment = Treatment {
            slow: self.options.latency,
            foreign_usage: self.options.foreign_usage,
            ..Treatment::default()
        };
        match state.take_fault(operation, account) {
            None => {}
            Some(Effect::Slow(ms)) => treatment.slow += Duration::from_millis(ms),
            Some(Effect::LoseReply) => treatment.lose_reply = true,
            Some(Effect::Container(outcome)) => treatment.outcome = Some(outcome),
            Some(Effect::Usage { percent, minutes }) => treatment.usage = Some((percent, minutes)),
            Some(Effect::Error {
                status,
                code,
                subcode,
                text,
                user_message,
                executed,
            }) => {
                state.counters.refused += 1;
                let text = text.as_deref().unwrap_or("failed on request");
                let told = user_message.as_deref();
                let refusal = replies::error_with(status, code, subcode, text, told);
                match executed {
                    None => return Err(refusal.into()),
                    Some(looks) => treatment.executed = Some((looks, refusal)),
                }
            }
            Some(Effect::RateLimit(seconds)) => {
                state.counters.refused += 1;
                return Err(replies::rate_limited(account, seconds).into());
            }
        }
        match count_rate(&mut state, APPLICATION, self.options.application_rate) {
            Ok(percent) => treatment.application_usage = percent,
            Err(wait) => {
                state.counters.refused += 1;
                return Err(replies::application_limited(wait.as_secs().max(1)).into());
            }
        }
        match count_rate(&mut state, account, self.options.rate) {
            Ok(None) => {}
            Ok(Some(percent)) => treatment.usage = Some((percent, 0)),
            Err(wait) => {
                state.counters.refused += 1;
                return Err(replies::rate_limited(account, wait.as_secs().max(1)).into());
            }
        }
        Ok(treatment)
    }

    pub(super) fn remove_data(&self, account: &str, missing: MissingData) {
        self.lock().missing.push((account.to_owned(), missing));
    }

    /// An account's posts and numbers, as they are now.
    pub(super) fn library(&self, account: &str) -> Library {
        let state = self.lock();
        let missing = state.missing.iter().filter(|(of, _)| of == account);
        Library::new(
            account,
            state.store.posts_of(account),
            self.options.older_posts,
            missing.map(|(_, missing)| missing.clone()).collect(),
        )
    }

    pub(super) fn create_container(&self, account: &str, mut content: NewContainer) -> Response {
        if let Some(length) = self.options.caption_length {
            content.cut_caption(length);
        }
        let mut state = self.lock();
        let polls = Polls {
            image: self.options.polls,
            video: self.options.video_polls.unwrap_or(self.options.polls),
        };
        match state.store.create(account, content, polls) {
            Ok(created) => {
                state.counters.containers += 1;
                created
            }
            Err(refusal) => refusal.into_response(),
        }
    }

    pub(super) fn container_status(&self, id: &str, outcome: Option<ContainerOutcome>) -> Response {
        self.lock().store.status(id, outcome)
    }

    pub(super) fn publish(&self, account: &str, id: &str, looks: u32) -> Response {
        let mut state = self.lock();
        if state.store.used_quota(account) >= self.quota() {
            state.counters.refused += 1;
            return replies::error(403, 9, Some(2_207_042), "too many posts in 24 hours");
        }
        match state.store.publish(account, id, looks) {
            Publishing::Done(response) => {
                state.counters.publications += 1;
                response
            }
            Publishing::Repeated(response) => {
                state.counters.repeated_publications += 1;
                response
            }
            Publishing::Refused(response) => response,
        }
    }

    pub(super) fn publishing_quota(&self, account: &str) -> Response {
        let used = self.lock().store.used_quota(account);
        let config = json!({ "quota_total": self.quota(), "quota_duration": 86_400 });
        let data = json!([{ "quota_usage": used, "config": config }]);
        axum::Json(json!({ "data": data })).into_response()
    }

    fn quota(&self) -> u64 {
        self.options.quota.unwrap_or(QUOTA)
    }

    pub(super) fn media(&self, id: &str) -> Response {
        self.lock().store.media(id)
    }

    pub(super) fn latest(&self, account: &str, stories: bool) -> Response {
        self.lock().store.latest(account, stories)
    }

    /// Adds the usage header when usage is reported.
    pub(super) fn mark_usage(response: &mut Response, treatment: &Treatment, account: &str) {
        if treatment.usage.is_some() || treatment.foreign_usage {
            let (percent, minutes) = treatment.usage.unwrap_or_default();
            replies::usage(response, account, percent, minutes);
        }
        if treatment.foreign_usage {
            replies::foreign_usage(response, account);
        }
        if let Some(percent) = treatment.application_usage {
            replies::application_usage(response, percent);
        }
    }
}

impl State {
    fn take_fault(&mut self, operation: Operation, account: &str) -> Option<Effect> {
        self.faults
            .iter_mut()
            .find_map(|fault| fault.take(operation, account))
    }
}

/// Counts a request; returns the percentage of the rate in use, or how long it is blocked.
fn count_rate(state: &mut State, whose: &str, rate: Option<Rate>) -> Result<Option<u32>, Duration> {
    let Some(rate) = rate else {
        return Ok(None);
    };
    let now = Instant::now();
    let (start, used) = state.windows.entry(whose.to_owned()).or_insert((now, 0));
    if now.duration_since(*start) >= rate.window {
        (*start, *used) = (now, 0);
    }
    if *used >= rate.requests {
        return Err(rate.window.saturating_sub(now.duration_since(*start)));
    }
    *used += 1;
    Ok(Some(used.saturating_mul(100) / rate.requests.max(1)))
}
