//! Taking a delivery into the queue.

use std::time::Duration;

use oxbull::client::Client;
use oxbull::{AddOutcome, BoxError, JobId, JobOptions, Queue, Timestamp};
use ring::digest::{SHA256, digest};
use serde_json::value::RawValue;

use super::secrets::hex;
use crate::jobs::webhook_processing::{
    Ledger, QUEUE, SEEN_TTL, Share, WebhookDelivery, delivery_id, in_ms, options, shares,
};

/// How far in the future a delivery's time may be: clocks differ by less.
const AHEAD: Duration = Duration::from_secs(600);

/// Name of the jobs.
const JOB: &str = "delivery";

/// What becomes of a signed delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryOutcome {
    /// It is in the queue now.
    Enqueued,
    /// It was there before, or has been handled.
    Duplicate,
    /// It is no JSON.
    NotJson,
    /// It is too old, or from the future.
    OutOfTime,
}

/// The way into the queue.
#[derive(Debug)]
pub(super) struct Intake {
    client: Client,
    ledger: Ledger,
    queue: Queue<Box<RawValue>>,
    max_age: Duration,
}

impl Intake {
    /// Opens the queue.
    pub(super) async fn open(
        client: &Client,
        prefix: &str,
        max_age: Duration,
    ) -> oxbull::Result<Self> {
        let queue = Queue::builder(client, QUEUE)
            .prefix(prefix)
            .default_options(options());
        Ok(Self {
            client: client.clone(),
            ledger: Ledger::open(client, prefix).await?,
            queue: queue.open().await?,
            // A repeat that is young enough to be taken must still be known.
            max_age: max_age.min(SEEN_TTL.saturating_sub(Duration::from_secs(3600))),
        })
    }

    /// The queue.
    pub(super) fn queue(&self) -> &Queue<Box<RawValue>> {
        &self.queue
    }

    /// Reads a delivery; the outcome of one that is not to be stored.
    pub(super) fn read(&self, body: &[u8]) -> Result<Delivery, DeliveryOutcome> {
        let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(body) else {
            return Err(DeliveryOutcome::NotJson);
        };
        let mut delivery = Delivery {
            hash: hex(digest(&SHA256, body).as_ref()),
            raw,
            shares: Vec::new(),
        };
        if let Ok(read) = WebhookDelivery::parse(delivery.raw.get()) {
            if !in_time(&read, self.client.clock().now(), self.max_age) {
                return Err(DeliveryOutcome::OutOfTime);
            }
            delivery.shares = shares(&read).0;
            // Places are by conversation; the events are read again from the job.
            for share in &mut delivery.shares {
                share.events = Vec::new();
            }
        }
        Ok(delivery)
    }

    /// Stores a delivery unless it is known: first its job, then its places, so that no place is
    /// without a job. Asking again, after an error or not at all, is safe: the id tells what is the
    /// same, and a repeat gives the places that are missing.
    pub(super) async fn take(&self, delivery: &Delivery) -> Result<DeliveryOutcome, BoxError> {
        let id = delivery_id(&delivery.hash)?;
        let options = JobOptions::new().id(id.clone());
        let added = self.queue.add_once(JOB, &delivery.raw, options).await?;
        // Its events may be handled already: by an earlier delivery whose job is gone, or by a worker that was
        // faster than this.
        self.ledger.accept_all(&id, &delivery.shares).await?;
        Ok(match added.outcome {
            AddOutcome::Added => DeliveryOutcome::Enqueued,
            _ => DeliveryOutcome::Duplicate,
        })
    }
}

/// A delivery that may be stored.
#[derive(Debug)]
pub(super) struct Delivery {
    hash: String,
    /// The job's data is the text as it came; to the reader it is the same JSON.
    raw: Box<RawValue>,
    /// What each account has in it, without the events. A delivery of another shape has none: its job
    /// fails with the reason.
    shares: Vec<Share>,
}

/// The id of the job of a delivery with this body: the same for the same bytes, different for all
/// others.
///
/// # Errors
/// None today: every hash makes an id.
pub fn job_id(body: &[u8]) -> oxbull::Result<JobId> {
    let hash = digest(&SHA256, body);
    delivery_id(&hex(hash.as_ref()))
}

/// Whether the newest time of the entries is recent enough. A delivery has no other time; one without
/// any is accepted, and only the record of handled events limits its repeats.
fn in_time(delivery: &WebhookDelivery, now: Timestamp, max_age: Duration) -> bool {
    let times = delivery.entry.iter();
    let times = times.filter_map(|entry| Some(in_ms(entry.get("time")?.as_i64()?)));
    let Some(newest) = times.max() else {
        return true;
    };
    let [oldest, latest] = [-millis(max_age), millis(AHEAD)];
    let age = newest.saturating_sub(now.as_millis());
    (oldest..=latest).contains(&age)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn is_in_time(times: &[Value]) -> bool {
        let entry: Vec<_> = times.iter().map(|time| json!({ "time": time })).collect();
        let delivery = json!({ "object": "instagram", "entry": entry });
        in_time(
            &serde_json::from_value(delivery).unwrap(),
            Timestamp::from_millis(NOW),
            Duration::from_secs(40 * 3600),
        )
    }

    /// A captured delivery must not work again once its repeats are forgotten, nor may one that
    /// claims to be from the future outlive that.
    #[test]
    fn deliveries_out_of_time_are_refused() {
        assert!(is_in_time(&[json!(NOW)]));
        assert!(is_in_time(&[json!(NOW - 39 * HOUR)]));
        assert!(is_in_time(&[json!((NOW - 39 * HOUR) / 1000)]));
        assert!(is_in_time(&[json!(NOW - 99 * HOUR), json!(NOW)]));
        assert!(!is_in_time(&[json!(NOW - 41 * HOUR)]));
        assert!(!is_in_time(&[json!((NOW - 41 * HOUR) / 1000)]));
        assert!(!is_in_time(&[json!(NOW + HOUR)]));
        assert!(!is_in_time(&[json!(0)]));
        assert!(!is_in_time(&[json!(i64::MIN)]));
        assert!(is_in_time(&[json!("soon"), json!(null)]));
        assert!(is_in_time(&[]));
    }

    /// Different bodies are different jobs, and no id is a number, which the queue would refuse.
    #[test]
    fn id_is_the_hash_of_the_bytes() {
        assert_eq!(
            job_id(b"").unwrap().as_str(),
            "delivery-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_ne!(job_id(b"{}").unwrap(), job_id(b"{ }").unwrap());
    }
}
