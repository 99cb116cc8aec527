//! Deliveries as the API sends them: signed, and each of them twice.

use std::time::Duration;

use oxbull::Clock;
use oxbull_testkit::eventually;
use oxbull_workers::gateway::{job_id, sign};
use oxbull_workers::jobs::webhook_processing::WebhookDelivery;
use serde_json::json;

use crate::Outcome;
use crate::queues::AddedJob;

/// The app's secret, shared by the gateway and the sender.
pub(crate) const SECRET: &str = "demo-secret";

/// How long the gateway gets to listen.
const START: Duration = Duration::from_secs(20);

/// What was sent.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// The job of each delivery.
    pub(crate) jobs: Vec<AddedJob>,
    /// How many the gateway took for repeats.
    pub(crate) repeats: usize,
}

/// Posts every delivery to the gateway at this URL, and then posts it again.
pub(crate) async fn send(
    gateway: &str,
    samples: &[WebhookDelivery],
    clock: &Clock,
) -> Outcome<Delivered> {
    // The library asks for a provider although nothing here is encrypted; one may be there.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let http = reqwest::Client::new();
    let ready = format!("{gateway}/ready");
    eventually(START, async || {
        let answer = http.get(&ready).send().await?;
        answer.error_for_status()
    })
    .await?;
    let now = clock.now().as_millis();
    let mut jobs = Vec::new();
    for (number, sample) in samples.iter().enumerate() {
        let mut delivery = sample.clone();
        for entry in &mut delivery.entry {
            if let Some(entry) = entry.as_object_mut() {
                entry.insert("time".to_owned(), json!(now));
            }
        }
        // Samples that say the same are still deliveries of their own.
        delivery.other.insert("sample".to_owned(), json!(number));
        let body = serde_json::to_vec(&delivery)?;
        jobs.push(AddedJob::now(job_id(&body)?));
        for _ in 0..2 {
            http.post(format!("{gateway}/instagram/webhooks"))
                .header("x-hub-signature-256", sign(SECRET, &body))
                .body(body.clone())
                .send()
                .await?
                .error_for_status()?;
        }
    }
    let metrics = http.get(format!("{gateway}/metrics")).send().await?;
    let metrics = metrics.text().await?;
    let repeats = metrics
        .lines()
        .find_map(|line| line.strip_prefix("gateway_deliveries_total{result=\"duplicate\"} "))
        .ok_or("the gateway does not count repeats")?
        .parse()?;
    Ok(Delivered { jobs, repeats })
}
