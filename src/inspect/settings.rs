//! The settings of a queue, which hold for all of its workers and producers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::error::Result;
use crate::job::JobRateLimit;
use crate::queue::Queue;

/// What is stored of a queue as a whole (`docs/protocol.md#queue-settings`). In JSON it has BullMQ's
/// names.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct QueueSettings {
    /// Whether no job starts.
    pub paused: bool,
    /// How many jobs may be active at once; `None`: any number.
    pub concurrency: Option<u32>,
    /// How many jobs may start in a window; `None` unless both parts are set.
    pub rate_limit: Option<JobRateLimit>,
    /// About how many entries the event stream keeps.
    pub max_events: Option<u64>,
    /// The library that opened the queue last, with its version: `oxbull:0.1.0`, `bullmq:6.7.0`.
    pub version: Option<String>,
    /// Fields that this version does not know.
    pub unknown: BTreeMap<String, String>,
    /// Numbers that cannot be read, and count as absent: `<field>: is not a number`.
    pub problems: Vec<String>,
}

impl Serialize for QueueSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("paused", &self.paused)?;
        if let Some(concurrency) = self.concurrency {
            map.serialize_entry("concurrency", &concurrency)?;
        }
        if let Some(limit) = self.rate_limit {
            map.serialize_entry("max", &limit.max)?;
            let window = u64::try_from(limit.window.as_millis()).unwrap_or(u64::MAX);
            map.serialize_entry("duration", &window)?;
        }
        if let Some(events) = self.max_events {
            map.serialize_entry("maxLenEvents", &events)?;
        }
        if let Some(version) = &self.version {
            map.serialize_entry("version", version)?;
        }
        for (name, value) in &self.unknown {
            map.serialize_entry(name, value)?;
        }
        if !self.problems.is_empty() {
            map.serialize_entry("problems", &self.problems)?;
        }
        map.end()
    }
}

impl<D> Queue<D> {
    /// Reads the queue's settings, all of them at one moment.
    ///
    /// # Errors
    ///
    /// Connection errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// let settings = queue.settings().await?;
    /// println!("opened last by {:?}, paused: {}", settings.version, settings.paused);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "getMeta")]
    #[doc(alias = "getVersion")]
    pub async fn settings(&self) -> Result<QueueSettings> {
        Ok(decode(self.store().meta().await?))
    }
}

fn decode(fields: Vec<(Vec<u8>, Vec<u8>)>) -> QueueSettings {
    let mut settings = QueueSettings::default();
    let (mut max, mut window) = (None, None);
    for (name, value) in fields {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (name, value) = (text(&name), text(&value));
        let number = match name.as_str() {
            "concurrency" | "max" | "duration" | "opts.maxLenEvents" => {
                let number = value.trim().parse::<f64>().ok();
                let number = number.filter(|number| number.is_finite());
                if number.is_none() {
                    settings.problems.push(format!("{name}: is not a number"));
                }
                number
            }
            "paused" => {
                // Any value pauses.
                settings.paused = true;
                continue;
            }
            "version" => {
                settings.version = Some(value);
                continue;
            }
            _ => {
                settings.unknown.insert(name, value);
                continue;
            }
        };
        match name.as_str() {
            "concurrency" => settings.concurrency = number.map(whole),
            "max" => max = number.map(whole),
            "duration" => window = number,
            _ => settings.max_events = number.map(|number| u64::from(whole(number))),
        }
    }
    settings.rate_limit = max.zip(window).map(|(max, window)| {
        let window = Duration::try_from_secs_f64(window.abs() / 1000.0);
        JobRateLimit::new(max, window.unwrap_or(Duration::MAX))
    });
    settings
}

/// The count that a limit of `n` comes to, as the scripts read it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and what is below zero is none"
)]
fn whole(n: f64) -> u32 {
    n.ceil() as u32
}
