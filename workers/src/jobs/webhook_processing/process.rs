//! Passing on each event once.

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use oxbull::BoxError;

use super::{ProcessedDelivery, WebhookDelivery, WebhookEvent, split};

/// The keys that remember events: `webhook:seen:{accountId}:{kind}:{eventId}`.
pub const SEEN_PREFIX: &str = "webhook:seen:";

/// How long an event is remembered: the API repeats a delivery for up to 36 hours.
pub const SEEN_TTL: Duration = Duration::from_secs(48 * 3600);

/// Who saw an event first.
pub trait Claims {
    /// Claims each key for `owner` unless it has one, for [`SEEN_TTL`], and says of each whether
    /// it is the owner's now. A key claimed by the same owner before is still the owner's: a job
    /// that runs again keeps the events of its first run.
    fn claim(
        &self,
        keys: &[String],
        owner: &str,
    ) -> impl Future<Output = Result<Vec<bool>, BoxError>> + Send;
}

/// Splits a delivery and keeps the events that this job, `owner`, is the first to see.
///
/// # Errors
/// When the claims cannot be made; running the job again is safe.
pub async fn process(
    delivery: &WebhookDelivery,
    owner: &str,
    claims: &impl Claims,
) -> Result<ProcessedDelivery, BoxError> {
    let all = split(delivery);
    let found = all.len();
    let mut within = HashSet::new();
    let candidates: Vec<(String, WebhookEvent)> = all
        .into_iter()
        .map(|event| (key_of(&event), event))
        .filter(|(key, _)| within.insert(key.clone()))
        .collect();
    let (keys, events): (Vec<_>, Vec<_>) = candidates.into_iter().unzip();
    let ours = claims.claim(&keys, owner).await?;
    if ours.len() != keys.len() {
        return Err("the claims do not match the keys".into());
    }
    let events: Vec<_> = events
        .into_iter()
        .zip(ours)
        .filter_map(|(event, ours)| ours.then_some(event))
        .collect();
    Ok(ProcessedDelivery {
        repeated: found - events.len(),
        events,
    })
}

fn key_of(event: &WebhookEvent) -> String {
    format!(
        "{SEEN_PREFIX}{}:{}:{}",
        event.account_id,
        event.kind.name(),
        event.event_id
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;

    #[derive(Default)]
    struct Memory(Mutex<HashMap<String, String>>);

    impl Claims for Memory {
        async fn claim(&self, keys: &[String], owner: &str) -> Result<Vec<bool>, BoxError> {
            let mut owners = self.0.lock().unwrap();
            Ok(keys
                .iter()
                .map(|key| owners.entry(key.clone()).or_insert(owner.to_owned()) == owner)
                .collect())
        }
    }

    fn delivery(mids: &[&str]) -> WebhookDelivery {
        let messaging: Vec<_> = mids
            .iter()
            .map(|mid| json!({ "sender": {"id": "5"}, "message": {"mid": mid} }))
            .collect();
        serde_json::from_value(json!({
            "object": "instagram",
            "entry": [{ "id": "178", "time": 1, "messaging": messaging }],
        }))
        .unwrap()
    }

    async fn ids(claims: &Memory, owner: &str, mids: &[&str]) -> (Vec<String>, usize) {
        let processed = process(&delivery(mids), owner, claims).await.unwrap();
        let ids = processed.events.into_iter().map(|event| event.event_id);
        (ids.collect(), processed.repeated)
    }

    /// The API repeats deliveries, whole or regrouped; each event is passed on once.
    #[tokio::test]
    async fn repeats_are_dropped_within_and_across_deliveries() {
        let claims = Memory::default();
        assert_eq!(
            ids(&claims, "1", &["a", "b", "a"]).await,
            (vec!["a".to_owned(), "b".to_owned()], 1)
        );
        assert_eq!(
            ids(&claims, "2", &["b", "c"]).await,
            (vec!["c".to_owned()], 1)
        );
    }

    /// A worker that died after claiming must not take the events along: the job's next run
    /// still has them.
    #[tokio::test]
    async fn job_that_runs_again_keeps_its_events() {
        let claims = Memory::default();
        let first = ids(&claims, "1", &["a"]).await;
        assert_eq!(ids(&claims, "1", &["a"]).await, first);
    }
}
