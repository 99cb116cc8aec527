//! Repeatable jobs of BullMQ 4, which had no schedulers (`docs/protocol.md#repeatable-jobs`). Their
//! key is a text of five parts, their details are in the jobs' options, and a hash stands for the
//! key in the jobs' ids.

use std::borrow::Cow;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::job::{JobId, JobRecord, Recurrence, SchedulerRecord};
use crate::wire::Repetition;
use crate::wire::options::{finite, whole};

/// The scheduler, or the key of the repeatable job, that an iteration belongs to.
pub(crate) fn scheduler_of(job: &JobRecord) -> Option<Cow<'_, str>> {
    let named = job.scheduler.as_deref().filter(|key| !key.is_empty());
    if let Some(key) = named {
        return Some(Cow::Borrowed(key));
    }
    // The oldest versions do not name it. A `repeat` that version 6 stores with a plain job, where
    // it has no effect, is in a job with an id of another form.
    IterationId::of(&job.id)?;
    let current = Repetition::of_iteration(&job.raw_options).ok()?;
    Some(Cow::Owned(current.key(&job.name)))
}

/// What the id of an iteration contains: `repeat:<origin>:<occurrence>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IterationId<'a> {
    /// The scheduler's id, or the hash that stands for a repeatable job.
    origin: &'a str,
    pub(crate) occurrence: Timestamp,
}

impl<'a> IterationId<'a> {
    pub(crate) fn of(id: &'a JobId) -> Option<Self> {
        let (origin, occurrence) = id.as_str().strip_prefix("repeat:")?.rsplit_once(':')?;
        Some(Self {
            origin,
            occurrence: Timestamp::from_millis(occurrence.parse().ok()?),
        })
    }

    /// The id of the next job of a repeatable job, as BullMQ 5.81 makes it: two workers that make
    /// the same job must give it the same id. The hash of a worker that is set to another
    /// algorithm than MD5 cannot be computed, but it stays the same.
    pub(crate) fn next_repeatable(self, name: &str, key: &str, occurrence: Timestamp) -> JobId {
        let hash = self.origin;
        let other_algorithm = hash.len() > 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let origin = if other_algorithm {
            hash.to_owned()
        } else {
            let key = format!("{:x}", md5::compute(key));
            format!("{:x}", md5::compute(format!("{name}{key}")))
        };
        JobId::existing(format!("repeat:{origin}:{occurrence}"))
    }
}

impl Repetition {
    /// The key that old versions make of what they repeat.
    fn key(&self, name: &str) -> String {
        let text = |value: Option<&Value>| match value {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let end = self
            .schedule
            .end
            .map_or(String::new(), |end| end.to_string());
        let zone = self.schedule.time_zone.as_deref().unwrap_or_default();
        let last = match &self.schedule.recurrence {
            Recurrence::Every(every) => every.as_millis().to_string(),
            Recurrence::Cron(pattern) => pattern.clone(),
        };
        let id = text(self.repeat.get("jobId"));
        format!("{name}:{id}:{end}:{zone}:{last}")
    }

    /// How much later than its occurrence a job of a repeatable job is due (ms; may be negative).
    pub(crate) fn repeatable_offset(&self) -> i64 {
        let offset = self.repeat.get("offset");
        offset.and_then(finite).map_or(0, whole)
    }
}

/// Reads the parts of the key of a repeatable job; false when it does not have that form. A colon in
/// the name and one in the job's own id look the same: it is taken for the name's.
pub(crate) fn decode_key(record: &mut SchedulerRecord) -> bool {
    let mut parts = record.id.rsplitn(4, ':');
    let (Some(last), Some(zone), Some(end), Some(front)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Some((name, _)) = front.rsplit_once(':') else {
        return false;
    };
    let end = match end.parse() {
        Ok(end) => Some(Timestamp::from_millis(end)),
        Err(_) if end.is_empty() => None,
        Err(_) => return false,
    };
    let recurrence = match last.parse() {
        Ok(0) => return false,
        Ok(every) => Recurrence::Every(std::time::Duration::from_millis(every)),
        Err(_) if last.is_empty() => return false,
        Err(_) => Recurrence::Cron(last.to_owned()),
    };
    let zone = (!zone.is_empty()).then(|| zone.to_owned());
    record.name = name.to_owned();
    record.end = end;
    record.time_zone = zone;
    record.recurrence = Some(recurrence);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As BullMQ 4.18.3 stored it, and as BullMQ 5.81.5 advanced it.
    #[test]
    fn ids_are_those_of_bullmq_5() {
        let next = |id: &str, key: &str| {
            let id = JobId::existing(id);
            let current = IterationId::of(&id).unwrap();
            let next =
                current.next_repeatable("rep", key, Timestamp::from_millis(1_795_921_200_000));
            next.as_str().to_owned()
        };
        assert_eq!(
            next(
                "repeat:dcb5dfe22e7579bf113931d3d286d62f:1795834800000",
                "rep::::60000"
            ),
            "repeat:dcb5dfe22e7579bf113931d3d286d62f:1795921200000"
        );
        // Version 4 puts an own job id into the hash, version 5 leaves it out.
        assert_eq!(
            next(
                "repeat:a00015399be504343bd797f738652a87:1795834800000",
                "rep:myid:1830386105332:Europe/Madrid:0 0 4 * * *"
            ),
            "repeat:4b148c2c47ba6377cf67af5cda5471ca:1795921200000"
        );
        // A key of one's own is given up.
        assert_eq!(
            next("repeat:a:b:1795834800000", "rep::::60000"),
            "repeat:dcb5dfe22e7579bf113931d3d286d62f:1795921200000"
        );
        let sha256 = "repeat:cc92b8e6f28036b068cdbc2a90e006cc644fc69fc13088468a6ae0d3571b1ac5";
        assert_eq!(
            next(&format!("{sha256}:1795834800000"), "rep::::60000"),
            format!("{sha256}:1795921200000")
        );
    }

    /// Jobs of the oldest versions do not name their key; it is made of what is repeated.
    #[test]
    fn key_is_made_of_what_is_repeated() {
        let mut job = JobRecord::new("repeat:a0:1795834800000");
        job.name = "rep".to_owned();
        for (repeat, key) in [
            (r#"{"every":60000,"count":1}"#, "rep::::60000"),
            (
                r#"{"tz":"Europe/Madrid","jobId":"myid","pattern":"0 0 4 * * *","endDate":1830386105332}"#,
                "rep:myid:1830386105332:Europe/Madrid:0 0 4 * * *",
            ),
        ] {
            job.raw_options = format!(r#"{{"repeat":{repeat}}}"#);
            assert_eq!(scheduler_of(&job).as_deref(), Some(key));
        }
        job.scheduler = Some("named".to_owned());
        assert_eq!(scheduler_of(&job).as_deref(), Some("named"));
        job.scheduler = None;
        job.id = JobId::existing("7");
        assert_eq!(scheduler_of(&job), None);
    }
}
