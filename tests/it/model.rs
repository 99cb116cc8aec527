//! Random histories of one queue against a model of its state machine.

use std::collections::BTreeMap;
use std::time::Duration;

use oxbull::{
    Error, JobError, JobId, JobOptions, JobRecord, JobState, ManualWorker, Outcome, QueuePosition,
    RetryOptions,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;

/// One step of a history. Numbers choose among the jobs that there are.
#[derive(Debug, Clone)]
enum Step {
    Add {
        delay: bool,
        priority: u32,
        lifo: bool,
        attempts: u32,
    },
    Fetch,
    Complete(usize),
    Fail(usize),
    Park(usize),
    Release(usize),
    Promote(usize),
    Retry(usize),
    Remove(usize),
    Prioritize(usize, u32),
    Pause(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let job = 0usize..8;
    prop_oneof![
        4 => (any::<bool>(), 0u32..3, any::<bool>(), 0u32..3)
            .prop_map(|(delay, priority, lifo, attempts)| Step::Add { delay, priority, lifo, attempts }),
        5 => Just(Step::Fetch),
        3 => job.clone().prop_map(Step::Complete),
        3 => job.clone().prop_map(Step::Fail),
        1 => job.clone().prop_map(Step::Park),
        1 => job.clone().prop_map(Step::Release),
        2 => job.clone().prop_map(Step::Promote),
        2 => job.clone().prop_map(Step::Retry),
        1 => job.clone().prop_map(Step::Remove),
        1 => (job, 0u32..3).prop_map(|(job, priority)| Step::Prioritize(job, priority)),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

#[derive(Debug, Clone)]
struct Modelled {
    state: JobState,
    priority: u32,
    attempts: u32,
    made: u32,
    /// The record its worker holds while it is active.
    held: Option<JobRecord>,
}

impl Modelled {
    fn ready(&self) -> JobState {
        if self.priority > 0 {
            JobState::Prioritized
        } else {
            JobState::Waiting
        }
    }
}

#[derive(Default)]
struct Model {
    jobs: BTreeMap<JobId, Modelled>,
    paused: bool,
}

impl Model {
    fn pick(&self, number: usize) -> Option<JobId> {
        let count = self.jobs.len().max(1);
        self.jobs.keys().nth(number % count).cloned()
    }

    fn has(&self, state: JobState) -> bool {
        self.jobs.values().any(|job| job.state == state)
    }
}

/// Says whether a call that the state machine does not allow was refused, and one it allows was
/// not.
fn agree<T>(allowed: bool, result: Result<T, Error>) -> TestResult {
    match (allowed, result) {
        (true, Ok(_)) | (false, Err(Error::Refused { .. })) => Ok(()),
        (true, Err(error)) => Err(format!("refused: {error:?}").into()),
        (false, Ok(_)) => Err("allowed what the model forbids".into()),
        (false, Err(error)) => Err(format!("failed instead of refusing: {error:?}").into()),
    }
}

async fn play(
    fixture: &Fixture,
    worker: &ManualWorker,
    model: &mut Model,
    step: &Step,
) -> TestResult {
    let queue = &fixture.queue;
    match step {
        Step::Add {
            delay,
            priority,
            lifo,
            attempts,
        } => {
            let mut options = JobOptions::new().priority(*priority).attempts(*attempts);
            options.lifo = Some(*lifo);
            if *delay {
                options = options.delay(Duration::from_secs(3600));
            }
            let id = queue.add_with("job", &json!({}), options).await?.id;
            let mut job = Modelled {
                state: JobState::Delayed,
                priority: *priority,
                attempts: *attempts,
                made: 0,
                held: None,
            };
            if !delay {
                job.state = job.ready();
            }
            model.jobs.insert(id, job);
        }
        Step::Fetch => match worker.fetch("token").await? {
            Some(record) => {
                let waiting = model.has(JobState::Waiting);
                let job = model.jobs.get_mut(&record.id).ok_or("an unknown job")?;
                let expected = if waiting {
                    JobState::Waiting
                } else {
                    JobState::Prioritized
                };
                if model.paused || job.state != expected {
                    return Err(format!("fetched {} out of turn", record.id).into());
                }
                job.state = JobState::Active;
                job.held = Some(record);
            }
            None => {
                if !model.paused
                    && (model.has(JobState::Waiting) || model.has(JobState::Prioritized))
                {
                    return Err("left a job that is ready".into());
                }
            }
        },
        Step::Complete(number)
        | Step::Fail(number)
        | Step::Park(number)
        | Step::Release(number) => {
            let Some(id) = model.pick(*number) else {
                return Ok(());
            };
            let Some(job) = model.jobs.get_mut(&id) else {
                return Ok(());
            };
            let Some(record) = job.held.take() else {
                return Ok(());
            };
            let result = match step {
                Step::Complete(_) => Ok(Outcome::Done(1)),
                Step::Park(_) => Ok(Outcome::DelayFor(Duration::from_secs(3600))),
                Step::Release(_) => Ok(Outcome::Release),
                _ => Err(JobError::retry("no")),
            };
            worker.finish(&record, "token", result).await?;
            // A result counts once: the lock is gone.
            agree(
                false,
                worker.finish(&record, "token", Ok(Outcome::Done(2))).await,
            )?;
            let ended = matches!(step, Step::Complete(_) | Step::Fail(_));
            job.made += u32::from(ended);
            job.state = match step {
                Step::Complete(_) => JobState::Completed,
                Step::Park(_) => JobState::Delayed,
                Step::Release(_) => job.ready(),
                _ if job.made < job.attempts => job.ready(),
                _ => JobState::Failed,
            };
        }
        Step::Promote(number) => {
            let Some(id) = model.pick(*number) else {
                return Ok(());
            };
            let Some(job) = model.jobs.get_mut(&id) else {
                return Ok(());
            };
            let allowed = job.state == JobState::Delayed;
            agree(allowed, queue.promote(&id).await)?;
            if allowed {
                job.state = job.ready();
            }
        }
        Step::Retry(number) => {
            let Some(id) = model.pick(*number) else {
                return Ok(());
            };
            let Some(job) = model.jobs.get_mut(&id) else {
                return Ok(());
            };
            let allowed = job.state == JobState::Failed;
            agree(allowed, queue.retry(&id, RetryOptions::new()).await)?;
            if allowed {
                job.state = job.ready();
            }
        }
        Step::Remove(number) => {
            let Some(id) = model.pick(*number) else {
                return Ok(());
            };
            let active = model
                .jobs
                .get(&id)
                .is_some_and(|job| job.state == JobState::Active);
            agree(!active, queue.remove(&id).await)?;
            if !active {
                model.jobs.remove(&id);
            }
        }
        Step::Prioritize(number, priority) => {
            let Some(id) = model.pick(*number) else {
                return Ok(());
            };
            let Some(job) = model.jobs.get_mut(&id) else {
                return Ok(());
            };
            queue
                .change_priority(&id, *priority, QueuePosition::Back)
                .await?;
            job.priority = *priority;
            if matches!(job.state, JobState::Waiting | JobState::Prioritized) {
                job.state = job.ready();
            }
        }
        Step::Pause(pause) => {
            if *pause {
                queue.pause().await?;
            } else {
                queue.resume().await?;
            }
            model.paused = *pause;
        }
    }
    Ok(())
}

/// Each job is in exactly one place, and it is the model's; no lock is left behind.
async fn compare(fixture: &Fixture, model: &Model) -> TestResult {
    let counts = fixture.queue.counts().await?;
    for state in JobState::ALL {
        let expected = model.jobs.values().filter(|job| job.state == state).count();
        if counts.of(state) != expected as u64 {
            return Err(format!("{state}: {} instead of {expected}", counts.of(state)).into());
        }
    }
    for (id, job) in &model.jobs {
        let state = fixture.queue.state(id).await?;
        if state != Some(job.state) {
            return Err(format!("{id}: {state:?} instead of {:?}", job.state).into());
        }
        let locked = fixture
            .server
            .int(&["EXISTS", &format!("bull:q:{id}:lock")])
            .await?
            == 1;
        if locked != (job.state == JobState::Active) {
            return Err(format!("{id}: locked {locked} while {:?}", job.state).into());
        }
        let made = fixture.job(id).await?.attempts_made;
        if made != job.made {
            return Err(format!("{id}: {made} attempts instead of {}", job.made).into());
        }
    }
    Ok(())
}

/// Whatever happens in whatever order, the queue is where the state machine says.
#[test]
fn random_histories_follow_the_state_machine() -> TestResult {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let fixture = runtime.block_on(Fixture::start())?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let config = Config {
        cases: 24,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config).run(&proptest::collection::vec(step(), 1..40), |history| {
        runtime
            .block_on(async {
                let mut model = Model::default();
                fixture.server.cli(&["FLUSHALL"]).await?;
                for (place, step) in history.iter().enumerate() {
                    play(&fixture, &worker, &mut model, step)
                        .await
                        .map_err(|error| format!("step {place}, {step:?}: {error}"))?;
                    compare(&fixture, &model)
                        .await
                        .map_err(|error| format!("after step {place}, {step:?}: {error}"))?;
                }
                TestResult::Ok(())
            })
            .map_err(|error| TestCaseError::fail(error.to_string()))
    })?;
    Ok(())
}
