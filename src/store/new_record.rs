//! A job as it is sent to be stored.

use crate::clock::Timestamp;
use crate::job::{Deduplication, IfDelayed, JobId, JobOptions};
use crate::policy::Placement;
use crate::store::Call;
use crate::wire;

/// A job as it is sent to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewRecord {
    /// The id its producer chose.
    pub(crate) id: Option<JobId>,
    pub(crate) name: String,
    /// JSON text.
    pub(crate) data: String,
    /// JSON text.
    pub(crate) options: String,
    pub(crate) timestamp: Timestamp,
    /// Milliseconds.
    pub(crate) delay: u64,
    pub(crate) priority: u32,
    pub(crate) placement: Placement,
    /// The parent's key and the link to it (JSON).
    pub(crate) parent: Option<(Vec<u8>, Vec<u8>)>,
    /// Never together with a parent.
    pub(crate) deduplication: Option<Deduplication>,
}

impl NewRecord {
    /// Encodes a job, whose options have been checked, with its data (JSON text). What is not set in the
    /// options is `now`.
    pub(crate) fn new(name: String, data: String, options: JobOptions, now: Timestamp) -> Self {
        Self {
            // Every client takes the time 0 for none.
            timestamp: options
                .timestamp
                .filter(|timestamp| timestamp.as_millis() != 0)
                .unwrap_or(now),
            delay: options.delay.map_or(0, |delay| {
                u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
            }),
            priority: options.priority.unwrap_or(0),
            placement: Placement::of(&options),
            parent: options
                .parent
                .as_ref()
                .map(|parent| (parent.key(), wire::parent_link(parent))),
            options: wire::encode_options(&options),
            deduplication: options.deduplication,
            id: options.id,
            name,
            data,
        }
    }

    /// How many bytes the job adds to a call.
    pub(crate) fn size(&self) -> usize {
        self.name.len() + self.data.len() + self.options.len() + 64
    }

    /// Returns whether the job waits behind the others, and nothing else has a say in the add.
    fn is_usual(&self) -> bool {
        self.parent.is_none()
            && self.deduplication.is_none()
            && self.placement == Placement::Wait
            && self.delay == 0
            && self.priority == 0
    }

    /// Appends the job's arguments, in the order of the header of `lua/enqueue.lua`.
    pub(super) fn write_usual(&self, call: &mut Call<'_>) {
        if self.is_usual() {
            self.write_content(call, true);
            call.arg(self.placement.as_str());
        } else {
            self.write(call, true);
        }
    }

    /// Appends the job's arguments in full. Without its `body`, its data and options are empty.
    pub(super) fn write(&self, call: &mut Call<'_>, body: bool) {
        self.write_content(call, body);
        call.arg(self.delay)
            .arg(self.priority)
            .arg(self.placement.as_str());
        match (&self.parent, &self.deduplication) {
            (Some((key, link)), _) => call.arg("parent").arg(key.as_slice()).arg(link.as_slice()),
            (None, Some(deduplication)) => call.arg("dedup").arg(argument(deduplication)),
            (None, None) => call.arg(""),
        };
    }

    fn write_content(&self, call: &mut Call<'_>, body: bool) {
        let (data, options) = if body {
            (self.data.as_str(), self.options.as_str())
        } else {
            ("", "")
        };
        call.arg(self.id.as_ref().map_or(b"".as_slice(), JobId::as_bytes))
            .arg(self.name.as_str())
            .arg(data)
            .arg(options)
            .arg(self.timestamp.as_millis());
    }
}

/// Encodes how a job is deduplicated, in the form of the script's header.
fn argument(deduplication: &Deduplication) -> String {
    let modes = [
        ('e', deduplication.extend),
        ('r', deduplication.if_delayed == IfDelayed::Replace),
        ('s', deduplication.if_delayed == IfDelayed::Reschedule),
        ('k', deduplication.keep_last_if_active),
    ];
    let modes: String = modes
        .iter()
        .filter_map(|(mode, set)| set.then_some(mode))
        .collect();
    let ttl = deduplication.ttl.map_or(0, |ttl| ttl.as_millis());
    format!("{modes}:{ttl}:{}", deduplication.id)
}
