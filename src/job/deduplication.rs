//! How adds of one purpose are kept to one job.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::job::id::ID_MAX;
use crate::job::name::check_text;
use crate::job::options::MILLIS_MAX;

/// Keeps the adds of one purpose to one job (`docs/protocol.md#deduplication`).
///
/// The first add under a deduplication id is stored and its job owns the id. Until the id is free
/// again, further adds store nothing: [`Queue::add_with`](crate::Queue::add_with) returns which job
/// they were deduplicated into. The id is free when its owner completes, fails for good or is
/// removed; with a [`ttl`](Self::ttl) it is free when that has passed, or its owner is removed.
///
/// Ids are per queue, and any text will do. A job with a parent cannot be deduplicated.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use oxbull::{Deduplication, JobOptions};
///
/// // One refresh per account at a time; the last one asked for during a run follows it.
/// let refresh = Deduplication::new("refresh:1842").keep_last_if_active();
/// // At most one mail in ten minutes.
/// let mail = Deduplication::new("mail:1842").ttl(Duration::from_secs(600));
/// // Five seconds after the last key was pressed.
/// let save = JobOptions::new()
///     .delay(Duration::from_secs(5))
///     .deduplication(Deduplication::new("save:1842").replace());
/// # let _ = (refresh, mail, save);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Deduplication {
    /// What names the purpose.
    pub id: String,
    /// How long the id is taken; `None`: until its owner ends.
    pub ttl: Option<Duration>,
    /// Whether each add starts the `ttl` anew.
    pub extend: bool,
    /// What an add does to an owner that is still delayed.
    pub if_delayed: IfDelayed,
    /// Whether the last add that arrives while the owner runs is kept, to run after it.
    pub keep_last_if_active: bool,
}

/// What an add does to an owner that is still delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum IfDelayed {
    /// Nothing.
    #[default]
    Keep,
    /// Deletes it and takes its place.
    Replace,
    /// Gives it its own delay.
    Reschedule,
}

impl Deduplication {
    /// Names the purpose: 1 to 512 bytes without control characters. Sets nothing else, so that the
    /// id is taken until its owner's end.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }

    /// Frees the id after this time, whatever its owner does meanwhile; whole milliseconds, at
    /// least one. Default: when the owner ends.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Starts the [`ttl`](Self::ttl), which must be set, anew with each add. Default: the first
    /// add starts it.
    #[must_use]
    pub fn extend(mut self) -> Self {
        self.extend = true;
        self
    }

    /// Deletes an owner that is still delayed and stores the new job in its place, instead of
    /// [rescheduling](Self::reschedule) it. Default: neither.
    #[must_use]
    pub fn replace(mut self) -> Self {
        self.if_delayed = IfDelayed::Replace;
        self
    }

    /// Gives an owner that is still delayed the new add's delay, counted from the new add, instead
    /// of [replacing](Self::replace) it; its data stays. Default: neither.
    #[must_use]
    pub fn reschedule(mut self) -> Self {
        self.if_delayed = IfDelayed::Reschedule;
        self
    }

    /// Keeps the last add that arrives while the owner runs, to run after it. Not together with
    /// [`ttl`](Self::ttl). Default: it stores nothing, as any other.
    #[must_use]
    pub fn keep_last_if_active(mut self) -> Self {
        self.keep_last_if_active = true;
        self
    }

    /// Checks what adds may ask for.
    pub(crate) fn check(&self) -> Result<()> {
        check_text("deduplication id", &self.id, ID_MAX)?;
        if let Some(ttl) = self.ttl {
            const FIELD: &str = "deduplication ttl";
            if ttl.is_zero() || ttl.subsec_nanos() % 1_000_000 != 0 || ttl.as_millis() > MILLIS_MAX
            {
                let problem = format!("should be whole milliseconds between 1 and {MILLIS_MAX}");
                return Err(Error::invalid(FIELD, problem));
            }
            if self.keep_last_if_active {
                let problem =
                    "cannot be used with keep_last_if_active: the owner's end frees the id";
                return Err(Error::invalid(FIELD, problem));
            }
        } else if self.extend {
            return Err(Error::invalid("deduplication extend", "needs a ttl"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        let new = || Deduplication::new("k");
        let second = Duration::from_secs(1);
        for (field, bad) in [
            ("deduplication id", Deduplication::new("")),
            ("deduplication id", Deduplication::new("a\nb")),
            ("deduplication id", Deduplication::new("x".repeat(513))),
            ("deduplication ttl", new().ttl(Duration::ZERO)),
            ("deduplication ttl", new().ttl(Duration::from_micros(1500))),
            ("deduplication ttl", new().ttl(Duration::MAX)),
            ("deduplication ttl", new().ttl(second).keep_last_if_active()),
            ("deduplication extend", new().extend()),
        ] {
            match bad.check() {
                Err(Error::Invalid { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{bad:?}: {other:?}"),
            }
        }
        for good in [
            new(),
            Deduplication::new("a:b:c:d ü"),
            new().ttl(second).extend().replace(),
            new().ttl(second).reschedule(),
            new().keep_last_if_active().replace(),
            new().keep_last_if_active().reschedule(),
        ] {
            assert!(good.check().is_ok(), "{good:?}");
        }
    }
}
