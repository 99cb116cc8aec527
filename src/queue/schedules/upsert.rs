//! Creating and replacing job schedulers.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::error::{Chain, Error, Result};
use crate::job::{CatchUp, JobId, JobOptions, JobRecord, Recurrence, Schedule};
use crate::policy::next_run::{self, Moment, Previous};
use crate::queue::schedules::Upserted;
use crate::queue::{NewJob, Queue};
use crate::store::{FirstOccurrence, UpsertScheduler};
use crate::{telemetry, time_zone, wire};

/// Job schedulers.
impl<D> Queue<D> {
    /// Creates or replaces a job scheduler, in one atomic step. It always has one iteration ahead
    /// of it; the worker that starts one, BullMQ's included, makes the next.
    ///
    /// The `template` names the iterations and gives them data and options; the queue's default
    /// options apply where it sets none, but for parent and deduplication. A deduplication id would
    /// be stored with each iteration and keep none of them from being made, so it is refused; see
    /// [`Overlap::Skip`](crate::Overlap::Skip). A pending iteration is replaced: at the same time if the
    /// interval stays the same, otherwise as the new schedule says. One that is running finishes.
    /// A schedule whose [limit](Schedule::limit) counts starts from zero.
    ///
    /// Returns the iteration, with the job as it was stored, or `None` when the schedule has no run to
    /// come: then nothing changed.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the id, the schedule or the template, and [`Error::Encode`] for the
    /// data; then nothing was sent. [`Error::Refused`] when the iteration's id belongs to a job
    /// that is there already ([`IterationExists`](crate::Refusal::IterationExists),
    /// [`OccurrencesTaken`](crate::Refusal::OccurrencesTaken)): then nothing changed. Connection errors.
    ///
    /// Any number of processes may upsert a scheduler at once: it has one pending iteration, the
    /// last writer's. After a lost answer the call is repeated for up to 30 s. The event stream says
    /// what its earlier execution did, so that no run comes twice. If the server does not answer in
    /// that time or the client is closed, the result is [`Error::Indeterminate`]; if the stream was
    /// trimmed meanwhile, the repetition is a second upsert. A second upsert replaces the pending
    /// iteration; if the first one has started, its occurrence may be taken, and a limit counts from zero.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue<u32>) -> oxbull::Result<()> {
    /// use oxbull::{JobOptions, NewJob, Schedule};
    ///
    /// let nightly = Schedule::cron("0 2 * * *").time_zone("Europe/Madrid");
    /// let template = NewJob::new("report", 7).options(JobOptions::new().attempts(3));
    /// if let Some(first) = queue.upsert_scheduler("nightly-report", &nightly, template).await? {
    ///     println!("{} first runs at {}", first.job.name, first.due);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn upsert_scheduler(
        &self,
        id: impl AsRef<str>,
        schedule: &Schedule,
        template: NewJob<D>,
    ) -> Result<Option<Upserted>>
    where
        D: Serialize,
    {
        let id = id.as_ref();
        check_id(id)?;
        let now = self.store().clock().now();
        let (name, data, options) = template.into_parts();
        check_template(&options)?;
        let options = JobOptions {
            // Defaults of a job's place among others say nothing about iterations.
            parent: None,
            deduplication: None,
            ..options.or(self.default_options())
        };
        options.check()?;
        let data = Self::encode_data(&name, &data, &options)?;
        let Some(occurrence) = first_occurrence(schedule, now)? else {
            return Ok(None);
        };
        let span = telemetry::add_iteration(self.name().as_str(), id, &name);
        let mut carrying = options.clone();
        telemetry::carry(&span, &mut carrying);
        let iteration = wire::first_iteration(&carrying, schedule, id, now);
        let mut upsert = UpsertScheduler {
            scheduler: id,
            now,
            occurrence,
            name: &name,
            data: Some(data.as_str()).filter(|data| !matches!(*data, "{}" | "null")),
            iteration: &iteration,
            history: None,
            fields: &wire::definition_fields(schedule, &options),
        };
        let upserted = Box::pin(self.store().upsert_scheduler(&mut upsert)).await;
        match &upserted {
            Ok((id, _)) => telemetry::made(&span, id),
            Err(error) => telemetry::failed(&span, &Chain(error)),
        }
        let (id, due) = upserted?;
        let job = iteration_made(&upsert, id.clone(), due);
        Ok(Some(Upserted { id, due, job }))
    }
}

/// Finds the occurrences that the script may choose from for the first iteration; `None` when the
/// schedule has no run to come. Checks the schedule.
fn first_occurrence(schedule: &Schedule, now: Timestamp) -> Result<Option<FirstOccurrence>> {
    let zone = time_zone::local();
    let moment = Moment {
        now,
        local_zone: &zone,
        random: fastrand::u32(..),
    };
    let Some(first) = next_run::first_occurrence(schedule, &moment)? else {
        return Ok(None);
    };
    Ok(Some(match schedule.recurrence {
        Recurrence::Every(every) => FirstOccurrence::Interval {
            every,
            start: schedule.start,
            offset: schedule.offset.unwrap_or_default(),
            all: schedule.catch_up == CatchUp::All,
        },
        Recurrence::Cron(_) => {
            // Its count does not matter: it is of this schedule's first iteration.
            let previous = Previous {
                occurrence: first,
                count: 0,
            };
            FirstOccurrence::Pattern {
                first,
                later: next_run::next_occurrence(schedule, &moment, previous)?,
            }
        }
    }))
}

/// Rebuilds the iteration as the script has stored it.
fn iteration_made(upsert: &UpsertScheduler<'_>, id: JobId, due: Timestamp) -> JobRecord {
    let delay = due.since(upsert.now).as_millis().to_string();
    let previous = matches!(upsert.occurrence, FirstOccurrence::Pattern { .. }).then_some(due);
    let fields = [
        ("name", upsert.name.to_owned()),
        ("data", upsert.data.unwrap_or("{}").to_owned()),
        (
            "opts",
            upsert.iteration.stored_options(&id, &delay, previous),
        ),
        ("timestamp", upsert.now.to_string()),
        ("delay", delay),
        ("priority", upsert.iteration.priority.to_string()),
        ("rjk", upsert.scheduler.to_owned()),
    ];
    let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes()));
    wire::decode_record(id, fields)
}

/// Longest id, in bytes.
const ID_MAX: usize = 512;

/// Refuses ids whose keys could be taken for something else.
fn check_id(id: &str) -> Result<()> {
    const FIELD: &str = "scheduler id";
    let invalid = |problem: &str| Err(Error::invalid_value(FIELD, id, problem));
    if id.is_empty() || id.len() > ID_MAX {
        return invalid("must have 1 to 512 bytes");
    }
    if id.chars().any(char::is_control) {
        return invalid("must not contain control characters");
    }
    if wire::is_legacy_key(id) {
        return invalid("has the form of a repeatable job of old versions");
    }
    if let Some((_, last)) = id.rsplit_once(':')
        && (last.bytes().all(|byte| byte.is_ascii_digit()) || JobId::is_subkey(last))
    {
        return invalid("must not end like the key of an iteration");
    }
    Ok(())
}

/// Refuses options that an iteration replaces, or that have no effect on it.
fn check_template(options: &JobOptions) -> Result<()> {
    let problem = if options.id.is_some() {
        "cannot set an id: each iteration has its own"
    } else if options.delay.is_some() || options.timestamp.is_some() {
        "cannot set a delay or timestamp: the schedule does"
    } else if options.parent.is_some() {
        "cannot set a parent"
    } else if options.deduplication.is_some() {
        "cannot deduplicate: iterations never are; declare that they do not overlap instead"
    } else {
        return Ok(());
    };
    Err(Error::invalid("template", problem))
}
