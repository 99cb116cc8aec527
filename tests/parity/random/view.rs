//! What a queue holds, for the code that picks the next turn or knows that it would differ.

use serde_json::Value;

use crate::snapshot::Snapshot;

/// The queue that sequences are played on.
pub(super) const QUEUE: &str = "q";

/// The states a job's id can be found in.
pub(super) const STATES: [&str; 7] = [
    "wait",
    "prioritized",
    "delayed",
    "active",
    "waiting-children",
    "completed",
    "failed",
];

/// A look at the keys of the reference.
pub(super) struct View<'a>(pub(super) &'a Snapshot);

impl View<'_> {
    /// The value of a key, by its suffix.
    pub(super) fn value(&self, key: &str) -> Value {
        self.0.value(&format!("{QUEUE}:{key}"))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        !self.value(key).is_null()
    }

    /// The members of a list, a set or, without their scores, a sorted set.
    pub(super) fn members(&self, key: &str) -> Vec<String> {
        let members = self.value(key);
        let members = members.as_array().into_iter().flatten();
        let step = match key {
            "wait" | "active" | "stalled" => 1,
            _ if key.ends_with(":dependencies") => 1,
            _ => 2,
        };
        members
            .step_by(step)
            .filter_map(|member| member.as_str().map(str::to_owned))
            .collect()
    }

    /// Whether a fetch at this time moves delayed jobs.
    pub(super) fn has_due(&self, now: i64) -> bool {
        let delayed = self.value("delayed");
        let soonest = delayed
            .get(1)
            .and_then(|score| score.as_str()?.parse().ok());
        // A score is the time with twelve further bits.
        soonest.is_some_and(|score: i64| score / 4096 <= now)
    }

    /// Whether `job` is `id` or an ancestor of it.
    pub(super) fn descends(&self, id: &str, job: &str) -> bool {
        let mut id = id.to_owned();
        for _ in 0..20 {
            if id == job {
                return true;
            }
            let link = self.field(&id, "parent");
            match link["id"].as_str() {
                Some(parent) => parent.clone_into(&mut id),
                None => return false,
            }
        }
        true
    }

    /// Whether a job, or a job below it, has several children.
    pub(super) fn branches(&self, id: &str, depth: u8) -> bool {
        let kinds = ["dependencies", "processed", "failed", "unsuccessful"];
        let family = kinds.iter().map(|kind| self.size(&format!("{id}:{kind}")));
        let children = self.members(&format!("{id}:dependencies"));
        let below = |key: &String| {
            let child = key.rsplit(':').next().unwrap_or_default();
            depth > 0 && self.branches(child, depth - 1)
        };
        family.sum::<usize>() > 1 || children.iter().any(below)
    }

    /// How many elements a key has: pairs in a sorted set.
    pub(super) fn size(&self, key: &str) -> usize {
        match self.value(key) {
            Value::Object(fields) => fields.len(),
            _ => self.members(key).len(),
        }
    }

    /// One field of a job's hash.
    pub(super) fn field(&self, id: &str, field: &str) -> Value {
        self.value(id).get(field).cloned().unwrap_or_default()
    }

    pub(super) fn state(&self, id: &str) -> Option<&'static str> {
        let held = |state: &&str| self.members(state).iter().any(|member| member == id);
        STATES.into_iter().find(|state| held(state))
    }

    /// The ids of all jobs, in the order of their states.
    pub(super) fn jobs(&self) -> Vec<String> {
        STATES
            .iter()
            .flat_map(|state| self.members(state))
            .collect()
    }

    pub(super) fn is_prioritized(&self, id: &str) -> bool {
        let priority = self.field(id, "priority");
        priority.as_str().is_some_and(|priority| priority != "0")
    }

    /// Whether children of the job are pending or have failed it: its end would be refused.
    pub(super) fn is_parent(&self, id: &str) -> bool {
        self.has(&format!("{id}:dependencies")) || self.has(&format!("{id}:unsuccessful"))
    }

    pub(super) fn schedulers(&self) -> Vec<String> {
        self.members("repeat")
    }

    pub(super) fn meta(&self, field: &str) -> Value {
        self.field("meta", field)
    }
}
