//! One turn of a sequence: what is done, by which worker, and by which side where both take part.

use std::fmt;

use serde_json::Value;

use crate::roles::Side;
use crate::step::Step;

/// The workers of a sequence, with their options.
pub(super) const WORKERS: [(&str, &str); 5] = [
    ("plain", "null"),
    ("named", r#"{"name":"w1","metrics":{"maxDataPoints":5}}"#),
    ("limited", r#"{"limiter":{"max":3,"duration":200000}}"#),
    (
        "keeping",
        r#"{"removeOnComplete":{"count":1},"removeOnFail":{"age":2,"count":2}}"#,
    ),
    ("strict", r#"{"maxStartedAttempts":2}"#),
];

#[derive(Debug, Clone)]
pub(super) struct Turn {
    /// Who takes it in the roles that is mixed.
    pub(super) side: Side,
    pub(super) worker: &'static str,
    pub(super) action: Action,
}

#[derive(Debug, Clone)]
pub(super) enum Action {
    Take(Step),
    /// A parent with its children in the same queue, by BullMQ in every assignment of roles.
    Flow {
        id: String,
        opts: Value,
        children: Value,
    },
    /// Milliseconds pass.
    Pass(i64),
    /// The event stream is to keep few entries and holds so many already, so that it is trimmed
    /// while the sequence lasts (Redis drops a hundred at a time).
    Crowd(u8),
    /// A key's time is over: deletes it.
    Expire(String),
    /// A real worker runs by a script until nothing is left for it.
    Work(Value),
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: ", self.side, self.worker)?;
        match &self.action {
            Action::Take(step) => write!(f, "{step:?}"),
            Action::Flow { id, opts, children } => write!(f, "Flow {id} {opts} {children}"),
            Action::Pass(millis) => write!(f, "Pass {millis} ms"),
            Action::Crowd(events) => write!(f, "Crowd {events} events"),
            Action::Expire(key) => write!(f, "Expire {key}"),
            Action::Work(script) => write!(f, "Work {script}"),
        }
    }
}
