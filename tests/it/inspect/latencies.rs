//! Histograms of how long jobs wait and run, in text that a strict reader takes.

use std::collections::BTreeMap;

use oxbull::inspect::Exporter;
use oxbull::{JobOptions, Queue, Retention, Worker};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{BullMq, NodePeer, TestResult};
use serde_json::{Value, json};

type Labels = BTreeMap<String, String>;

/// Numbers by metric and labels.
#[derive(Debug)]
struct Samples(BTreeMap<(String, Labels), String>);

impl Samples {
    /// Reads text in Prometheus' format, version 0.0.4, and refuses what its rules do not allow: lines of a metric
    /// that is not described, labels with bad names or unknown escapes, a line that comes twice, histograms whose
    /// buckets do not add up.
    fn read(text: &str) -> TestResult<Self> {
        let mut samples = BTreeMap::new();
        let (mut described, mut metric, mut kind) = (Vec::new(), "", "");
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                metric = help.split(' ').next().unwrap_or_default();
                assert!(!described.contains(&metric), "{line}");
                described.push(metric);
            } else if let Some(described) = line.strip_prefix("# TYPE ") {
                let (name, of) = described.split_once(' ').ok_or(line)?;
                assert_eq!(name, metric);
                assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
                kind = of;
            } else {
                let (name, labels, value) = sample(line)?;
                let suffix = name.strip_prefix(metric).ok_or(line)?;
                let allowed: &[_] = match kind {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(allowed.contains(&suffix), "{line}");
                assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line}");
                value.parse::<f64>()?;
                let before = samples.insert((name.to_owned(), labels), value.to_owned());
                assert_eq!(before, None, "{line}");
            }
        }
        let samples = Self(samples);
        samples.check_histograms()?;
        Ok(samples)
    }

    fn check_histograms(&self) -> TestResult {
        let counts = self.0.iter().filter_map(|((name, labels), count)| {
            Some((name.strip_suffix("_count")?, labels, count))
        });
        for (name, labels, count) in counts.filter(|(name, ..)| name.ends_with("_seconds")) {
            let mut buckets = Vec::new();
            for ((other, with_bound), value) in &self.0 {
                let mut others = with_bound.clone();
                let bound = others.remove("le");
                if *other == format!("{name}_bucket") && others == *labels {
                    let bound = bound.unwrap_or_default().replace("+Inf", "inf");
                    buckets.push((bound.parse::<f64>()?, value.parse::<u64>()?));
                }
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
            let last = buckets.last().ok_or("no buckets")?;
            assert!(last.0.is_infinite());
            assert_eq!(last.1.to_string(), *count);
        }
        Ok(())
    }

    /// The value of a metric of the queue `q` with these labels.
    fn of(&self, metric: &str, labels: &[(&str, &str)]) -> &str {
        let labels = [("queue", "q")].iter().chain(labels);
        let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let found = self.0.get(&(metric.to_owned(), labels.collect()));
        found.map_or("absent", String::as_str)
    }

    /// How many waits there are, and runs by their end: completed, failed, returned.
    fn counts(&self) -> [&str; 4] {
        let runs = ["completed", "failed", "returned"];
        let [completed, failed, returned] =
            runs.map(|end| self.of("oxbull_queue_run_seconds_count", &[("result", end)]));
        let waits = self.of("oxbull_queue_wait_seconds_count", &[]);
        [waits, completed, failed, returned]
    }

    /// Starts and ends that are not in the histograms, and gaps.
    fn missing(&self) -> [&str; 3] {
        let [waits, runs] =
            ["wait", "run"].map(|time| self.of("oxbull_queue_unmeasured_total", &[("time", time)]));
        [waits, runs, self.of("oxbull_queue_event_gaps_total", &[])]
    }
}

/// Takes a line apart.
fn sample(line: &str) -> TestResult<(&str, Labels, &str)> {
    let (name, mut rest) = line.split_once('{').ok_or(line)?;
    let mut labels = Labels::new();
    loop {
        let (label, value) = rest.split_once("=\"").ok_or(line)?;
        assert!(
            label.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{line}"
        );
        let (mut text, mut chars) = (String::new(), value.char_indices());
        let end = loop {
            match chars.next().ok_or(line)? {
                (at, '"') => break at,
                (_, '\\') => text.push(match chars.next().ok_or(line)?.1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    _ => return Err(line.into()),
                }),
                (_, c) => text.push(c),
            }
        };
        assert_eq!(labels.insert(label.to_owned(), text), None, "{line}");
        match &value[end + 1..] {
            more if more.starts_with(", ") => rest = &more[2..],
            end => {
                let value = end.strip_prefix("} ").ok_or(line)?;
                return Ok((name, labels, value));
            }
        }
    }
}

async fn samples(exporter: &Exporter) -> TestResult<Samples> {
    Samples::read(&exporter.render().await?)
}

/// Writes an event of a millisecond after the first look at the stream.
async fn event(fixture: &Fixture, millis: u64, fields: &[&str]) -> TestResult {
    let (key, id) = (fixture.key("events"), format!("{}-*", FUTURE + millis));
    let add = ["XADD", &key, &id].into_iter();
    let add: Vec<&str> = add.chain(fields.iter().copied()).collect();
    fixture.server.cli(&add).await?;
    Ok(())
}

/// Later than any entry that a test's queue makes by itself.
const FUTURE: u64 = 4_000_000_000_000;

/// Times are those between events; each start and end counts in one bucket, and once.
#[tokio::test]
async fn waits_and_runs_are_measured_between_events() -> TestResult {
    let fixture = Fixture::start().await?;
    let exporter = Exporter::new().queue(&fixture.queue).latencies();
    assert_eq!(samples(&exporter).await?.counts(), ["0"; 4]);
    let due = (FUTURE + 1_000).to_string();
    for (millis, fields) in [
        (0, &["event", "waiting", "jobId", "a"][..]),
        (0, &["event", "delayed", "jobId", "b", "delay", &due]),
        (40, &["event", "active", "jobId", "a", "prev", "waiting"]),
        // Retried, and started again by another worker.
        (240, &["event", "waiting", "jobId", "a", "prev", "active"]),
        (246, &["event", "active", "jobId", "a", "prev", "waiting"]),
        (
            2_246,
            &[
                "event",
                "completed",
                "jobId",
                "a",
                "returnvalue",
                "1",
                "prev",
                "active",
            ],
        ),
        // Looked at 3 s after it was due, and started at once.
        (
            4_000,
            &["event", "waiting", "jobId", "b", "prev", "delayed"],
        ),
        (4_000, &["event", "active", "jobId", "b", "prev", "waiting"]),
        (
            4_001,
            &[
                "event",
                "failed",
                "jobId",
                "b",
                "failedReason",
                "x",
                "prev",
                "active",
            ],
        ),
        (
            4_001,
            &[
                "event",
                "retries-exhausted",
                "jobId",
                "b",
                "attemptsMade",
                "1",
            ],
        ),
        // Failed by its child, without a run.
        (
            4_002,
            &[
                "event",
                "failed",
                "jobId",
                "p",
                "failedReason",
                "x",
                "prev",
                "waiting-children",
            ],
        ),
    ] {
        event(&fixture, millis, fields).await?;
    }
    for _ in 0..2 {
        let samples = samples(&exporter.clone()).await?;
        assert_eq!(samples.counts(), ["3", "1", "1", "1"]);
        assert_eq!(samples.missing(), ["0"; 3]);
        for (le, waits) in [
            ("0.005", "0"),
            ("0.01", "1"),
            ("0.05", "2"),
            ("2.5", "2"),
            ("5", "3"),
        ] {
            let bucket = samples.of("oxbull_queue_wait_seconds_bucket", &[("le", le)]);
            assert_eq!(bucket, waits, "{le}");
        }
        for (metric, end, sum) in [
            ("oxbull_queue_wait_seconds_sum", None, "3.046"),
            ("oxbull_queue_run_seconds_sum", Some("completed"), "2.000"),
            ("oxbull_queue_run_seconds_sum", Some("failed"), "0.001"),
            ("oxbull_queue_run_seconds_sum", Some("returned"), "0.200"),
        ] {
            let result = end.map(|end| ("result", end));
            let labels: Vec<_> = result.into_iter().collect();
            assert_eq!(samples.of(metric, &labels), sum, "{metric} {end:?}");
        }
    }
    Ok(())
}

/// Every job is there once, whoever has worked, and although it was removed at once.
#[tokio::test]
async fn jobs_of_all_workers_are_measured() -> TestResult {
    let fixture = Fixture::start().await?;
    let exporter = Exporter::new().queue(&fixture.queue).latencies();
    exporter.render().await?;
    let keep_none = JobOptions::new().remove_on_complete(Retention::Remove);
    fixture.add("done", keep_none).await?;
    fixture
        .add("fail once", JobOptions::new().attempts(2))
        .await?;
    fixture.add("give up", JobOptions::new()).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    fixture.ended(2).await?;
    worker.close().await;
    assert_eq!(samples(&exporter).await?.counts(), ["4", "2", "1", "1"]);

    let node = NodePeer::bullmq(BullMq::V6, fixture.server.port()).await?;
    node.call("worker.start", json!({ "queue": "q" })).await?;
    for _ in 0..3 {
        fixture.queue.add("n", &json!({})).await?;
    }
    fixture.ended(5).await?;
    node.close().await?;
    let samples = samples(&exporter).await?;
    assert_eq!(samples.counts(), ["7", "5", "1", "1"]);
    assert_eq!(samples.missing(), ["0"; 3]);
    Ok(())
}

/// What cannot be known is counted as such, and never as a time: what began before the first look or before a gap,
/// and after a stream that has gone nothing is counted again.
#[tokio::test]
async fn what_was_not_seen_is_not_measured() -> TestResult {
    let fixture = Fixture::start().await?;
    let events = fixture.key("events");
    let active = ["event", "active", "jobId", "a", "prev", "waiting"];
    let completed = ["event", "completed", "jobId", "a", "returnvalue", "1"];
    event(&fixture, 0, &["event", "waiting", "jobId", "a"]).await?;
    let exporter = Exporter::new().queue(&fixture.queue).latencies();
    exporter.render().await?;
    event(&fixture, 1, &active).await?;
    event(&fixture, 2, &completed).await?;
    event(&fixture, 3, &active).await?;
    let seen = samples(&exporter).await?;
    assert_eq!(seen.counts(), ["0", "1", "0", "0"]);
    assert_eq!(seen.missing(), ["2", "0", "0"]);

    event(&fixture, 4, &completed).await?;
    fixture
        .server
        .cli(&["XTRIM", &events, "MAXLEN", "0"])
        .await?;
    event(&fixture, 5_000, &completed).await?;
    let seen = samples(&exporter).await?;
    assert_eq!(seen.counts(), ["0", "1", "0", "0"]);
    assert_eq!(seen.missing(), ["2", "1", "1"]);

    // Another stream in its place, as after a restored backup: its entries may have been read.
    fixture.server.cli(&["DEL", &events]).await?;
    for fields in [&active[..], &completed] {
        let add = [&["XADD", &events, "*"][..], fields].concat();
        fixture.server.cli(&add).await?;
    }
    samples(&exporter).await?;
    let seen = samples(&exporter).await?;
    assert_eq!(seen.counts(), ["0", "1", "0", "0"]);
    assert_eq!(seen.missing(), ["2", "1", "2"]);
    Ok(())
}

/// One text reads a bounded part of the stream, in few reads; the next goes on there. Entries of any kind are
/// survived.
#[tokio::test]
async fn each_text_reads_a_bounded_part() -> TestResult {
    let fixture = Fixture::start().await?;
    let exporter = Exporter::new().queue(&fixture.queue).latencies();
    exporter.render().await?;
    let script = "for n = 1, 6000 do
        redis.call('XADD', KEYS[1], '*', 'event', 'waiting', 'jobId', n)
        redis.call('XADD', KEYS[1], '*', 'event', 'active', 'jobId', n, 'prev', 'waiting')
      end
      redis.call('XADD', KEYS[1], '*', 'event', 'completed')
      redis.call('XADD', KEYS[1], '*', 'event', 'delayed', 'jobId', '\\255', 'delay', 'soon')
      redis.call('XADD', KEYS[1], '*', '\\255', 'waiting', 'x', 'y')
      redis.call('XADD', KEYS[1], '*', 'event', 'active', 'event', 'active', 'jobId', '', 'prev', '\\255')
      redis.call('XADD', KEYS[1], '*', 'event', 'delayed', 'jobId', 'l', 'delay', '-9223372036854775808')
      redis.call('XADD', KEYS[1], '*', 'event', 'active', 'jobId', 'l')";
    let eval = ["EVAL", script, "1", &fixture.key("events")];
    fixture.server.cli(&eval).await?;
    let before = fixture.calls("xrange").await?;
    let first: u64 = samples(&exporter).await?.counts()[0].parse()?;
    assert!((5_000..5_200).contains(&first), "{first}");
    let reads = fixture.calls("xrange").await? - before;
    assert!(reads <= 45, "{reads}");
    let rest = samples(&exporter).await?;
    assert_eq!(rest.counts()[0], "6001");
    assert_eq!(rest.missing(), ["1", "0", "0"]);
    Ok(())
}

/// Names of queues and labels may have any text, and none of it ends a line or a label.
#[tokio::test]
async fn odd_names_make_text_that_can_be_read() -> TestResult {
    let fixture = Fixture::start().await?;
    // Line feeds are for labels only: no queue is named so.
    let name = "a\"} 1\\n, x=\"\\";
    let label = &format!("{name}\n# TYPE x\\");
    let odd: Queue<Value> = Queue::open(&fixture.client, name).await?;
    let exporter = Exporter::new()
        .queue(&fixture.queue)
        .queue(&odd)
        .latencies();
    let text = exporter.clone().label("env", label).render().await?;
    let samples = Samples::read(&text)?;
    let odd = samples
        .0
        .keys()
        .filter(|(_, labels)| labels["queue"] == name);
    assert_eq!(odd.count() * 2, samples.0.len());
    assert!(samples.0.keys().all(|(_, labels)| labels["env"] == *label));
    for label in ["result", "le", "time"] {
        exporter
            .clone()
            .label(label, "x")
            .render()
            .await
            .unwrap_err();
    }
    Ok(())
}
