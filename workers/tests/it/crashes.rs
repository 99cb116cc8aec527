//! `kill -9` of the publisher at every step of every kind of post: before and after the effect of
//! each of its API requests, and before and after each of its writes to Redis. Another publisher
//! then finishes the job. The same with publishers that are frozen, and wake when another has
//! published. Which steps there are is found out by running: the nth step is the one
//! to die at, for n = 1, 2, 3, until a run ends before it has come so far.

mod doubt;

use std::time::Duration;

use oxbull::{Backoff, JobId, JobRecord, JobState, Queue};
use oxbull_instagram_simulator as simulator;
use oxbull_instagram_simulator::{Moment, Operation, PausedRequest, Simulator, SimulatorOptions};
use oxbull_testkit::{Command, DEADLINE, Proxy, Rule, TestResult, eventually, unique};
use oxbull_workers::graph::{AccountId, Cooldowns};
use oxbull_workers::jobs::post_publishing::{QUEUE, options};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::support::{LATER, RedisFixture, Subscriber, publisher_process, reaches};

/// More steps than any post has: what is in doubt is looked at again and again, more often on a slow machine.
const MOST: u32 = 150;

/// Where a publisher dies.
#[derive(Debug, Clone, Copy)]
enum Side {
    Api,
    Redis,
}

/// What happens to a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It dies.
    Kill,
    /// It is frozen beyond its lock, and goes on when the other is done, not knowing of it.
    Freeze,
}

/// A step, and what happens at it.
#[derive(Debug, Clone, Copy)]
struct Blow {
    fault: Fault,
    side: Side,
    moment: Moment,
}

/// How a post has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The API has exactly one post, of this kind.
    Published(&'static str),
    /// The API has none.
    Failed,
    /// Its only attempt fails unless a crash repeats it: either end is right, but it must be the
    /// one that its user is told.
    AsTold,
    /// The account's owner has to connect it again; the API has no post.
    Reconnect,
    /// It waits for the end of a block, which nobody asks about meanwhile; the API has no post yet.
    Blocked,
}

impl End {
    /// What the API answers all along, or once.
    fn fault(self) -> Option<simulator::Fault> {
        let fault = match self {
            Self::Published(_) | Self::Failed => return None,
            Self::AsTold => simulator::Fault::error(500, 2).times(1),
            Self::Reconnect => simulator::Fault::error(403, 10),
            Self::Blocked => return Some(simulator::Fault::error(400, 368)),
        };
        Some(fault.on(Operation::CreateContainer))
    }
}

/// What is published, and how that has to end.
struct Kind {
    fields: Value,
    end: End,
    /// What the API does to each such post.
    api: Vec<simulator::Fault>,
    /// Attempts of the job, at most.
    attempts: u32,
    /// Fewer API requests or writes than this mean that steps were not found.
    least: u32,
}

struct CrashFixture {
    redis: RedisFixture,
    simulator: Simulator,
    subscriber: Subscriber,
}

impl CrashFixture {
    /// Containers are in progress for so many polls.
    async fn start(polls: u32) -> TestResult<Self> {
        let redis = RedisFixture::start().await?;
        let simulator = Simulator::start(SimulatorOptions::new().polls(polls)).await?;
        let subscriber = Subscriber::open(&redis.server).await?;
        Ok(Self {
            redis,
            simulator,
            subscriber,
        })
    }

    /// Strikes at every step, one after the other.
    #[expect(clippy::print_stdout, reason = "how many steps there are, for people")]
    async fn every_step(&self, kind: &Kind, blow: Blow) -> TestResult {
        for nth in 1..=MOST {
            let struck = Box::pin(self.strike(kind, blow, nth)).await;
            let struck = struck.map_err(|error| format!("{blow:?} {nth}: {error}"))?;
            if !struck {
                println!("{:?}: {} steps, {blow:?}", kind.end, nth - 1);
                assert!(nth > kind.least, "only {nth} steps: {blow:?}");
                return Ok(());
            }
        }
        Err(format!("more than {MOST} steps: {blow:?}").into())
    }

    /// Strikes the publisher at its nth step and lets another go on; says whether it came so far.
    async fn strike(&self, kind: &Kind, blow: Blow, nth: u32) -> TestResult<bool> {
        // No post has to do with any other: each has its own prefix, account and user.
        let prefix = unique("prefix");
        let name = unique("post");
        let queue: Queue<Value> = Queue::builder(&self.redis.client, QUEUE)
            .prefix(&prefix)
            .open()
            .await?;
        let mut data = json!({ "postId": name, "userId": name, "accountId": name });
        let fields = kind.fields.as_object().unwrap().clone();
        data.as_object_mut().unwrap().extend(fields);
        let backoff = Backoff::fixed(Duration::from_millis(1));
        let mut options = options().id(JobId::new(&name)?).backoff(backoff);
        if kind.end == End::AsTold {
            options = options.attempts(1);
        }
        for fault in kind.api.iter().cloned().chain(kind.end.fault()) {
            self.simulator.arm(fault.account(&name));
        }
        let id = queue.add_with("publish", &data, options).await?.id;

        let proxy = Proxy::start(self.redis.server.port()).await?;
        let mut first = publisher_process(&proxy.url(), self.simulator.url(), &prefix)?;
        let held = tokio::select! {
            held = self.held(&proxy, &name, blow, nth) => Some(held?),
            ended = ended(&queue, &id) => { ended?; None }
        };
        let struck = held.is_some();
        match blow.fault {
            Fault::Kill => first.kill().await?,
            Fault::Freeze => signal(&first, Signal::STOP)?,
        }
        // What was held goes on now, too late for the dead to see its answer.
        drop(held);
        // What a lock does by itself after 30 s.
        let lock = format!("{prefix}:{QUEUE}:{id}:lock");
        self.redis.server.int(&["DEL", &lock]).await?;

        let mut second =
            publisher_process(&self.redis.server.url(), self.simulator.url(), &prefix)?;
        let job = ended(&queue, &id).await?;
        if kind.end == End::Blocked {
            second.kill().await?;
            self.check_blocked(&name, &job).await?;
            return Ok(struck);
        }
        self.subscriber.wait_for(&name, 1).await?;
        second.kill().await?;
        if blow.fault == Fault::Freeze {
            // It takes one job at a time, so once it has done another it is through with the first.
            signal(&first, Signal::CONT)?;
            let probe = json!({ "postId": "probe", "userId": "probe", "accountId": "probe",
                "imageUrl": "https://cdn.example/probe.jpg" });
            let probe = queue.add("publish", &probe).await?.id;
            reaches(&queue, &probe, JobState::Completed).await?;
            first.kill().await?;
        }
        self.check(kind, &name, &job)?;
        Ok(struck)
    }

    /// The API has the post exactly once or not at all, and job and user know which.
    fn check(&self, kind: &Kind, name: &str, job: &JobRecord) -> TestResult {
        let end = kind.end;
        let published = self.simulator.published();
        let published: Vec<_> = published
            .iter()
            .filter(|post| post.account == name)
            .collect();
        let kinds: Vec<_> = published
            .iter()
            .map(|post| post.media_type.as_str())
            .collect();
        match end {
            End::Published(kind) => assert_eq!(kinds, [kind]),
            End::Failed | End::Reconnect | End::Blocked => assert!(kinds.is_empty(), "{kinds:?}"),
            End::AsTold => assert!(kinds.len() <= 1, "{kinds:?}"),
        }
        let told = self.subscriber.notices(name);
        assert_eq!(told.len(), 1, "{told:?}");
        let attempts = 1..=kind.attempts;
        assert!(
            attempts.contains(&job.attempts_made),
            "a crash costs no attempt"
        );
        if let [post] = published.as_slice() {
            let result: Value = job.return_value()?.unwrap();
            let permalink = result["permalink"].as_str().unwrap();
            assert!(
                permalink.ends_with(&format!("/S{}/", post.media)),
                "{permalink}"
            );
            assert_eq!(result["mediaId"], post.media.as_str());
            assert_eq!(result["containerId"], post.container.as_str());
            assert_eq!(told[0]["type"], "post.published");
            assert_eq!(told[0]["permalink"], permalink);
        } else {
            assert_eq!(told[0]["type"], "post.failed");
            let code = match end {
                End::AsTold => "unavailable",
                End::Reconnect => "reconnect",
                End::Failed | End::Published(_) | End::Blocked => "refused",
            };
            assert_eq!(told[0]["code"], code);
            let reason = job.failed_reason.as_deref().unwrap();
            assert_eq!(told[0]["reason"], reason);
        }
        Ok(())
    }

    /// The post waits without having used an attempt or told anybody, and its account is left alone: who died
    /// may have asked, and one other.
    async fn check_blocked(&self, name: &str, job: &JobRecord) -> TestResult {
        assert_eq!(job.attempts_made, 0);
        assert!(self.subscriber.notices(name).is_empty());
        let cooldowns = Cooldowns::new(self.redis.client.clone());
        let left = cooldowns.remaining(&AccountId::new(name)?).await?;
        assert!(left > Duration::from_secs(14 * 60), "{left:?}");
        let requests = self.simulator.counters().accounts[name];
        assert!(requests <= 2, "{requests} requests");
        Ok(())
    }

    /// Returns once the publisher is held at its nth step; dropping what is returned lets it go.
    async fn held(
        &self,
        proxy: &Proxy,
        name: &str,
        blow: Blow,
        nth: u32,
    ) -> TestResult<Option<PausedRequest>> {
        match blow.side {
            Side::Api => {
                let mut hold = self.simulator.pause_request(name, nth, blow.moment);
                hold.reached().await;
                Ok(Some(hold))
            }
            Side::Redis => {
                // The job's id is in every write that concerns it: its data, its claims, its end.
                let job = name.to_owned();
                let concerns = move |command: &Command| command.mentions(&job);
                let rule = match blow.moment {
                    Moment::Before => Rule::delay(LATER, concerns),
                    Moment::After => Rule::swallow_reply(concerns),
                };
                let rule = proxy.add(rule.nth(u64::from(nth)));
                rule.wait_fired(1, DEADLINE * 2).await?;
                Ok(None)
            }
        }
    }
}

/// Waits until the job has ended, either way, or is put off for long.
async fn ended(queue: &Queue<Value>, id: &JobId) -> TestResult<JobRecord> {
    eventually(DEADLINE, async || {
        let state = queue.state(id).await.map_err(|error| error.to_string())?;
        match state {
            Some(JobState::Completed | JobState::Failed) => Ok(()),
            Some(JobState::Delayed) => match queue.job(id).await {
                Ok(Some(job)) if job.delay > Duration::from_secs(60) => Ok(()),
                other => Err(format!("{other:?}")),
            },
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(queue.job(id).await?.unwrap())
}

fn signal(child: &Child, signal: Signal) -> TestResult {
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap())?).unwrap();
    Ok(kill_process(pid, signal)?)
}

async fn kill_everywhere(kind: Kind) -> TestResult {
    let fixture = CrashFixture::start(1).await?;
    let every = async |side, moment| {
        let fault = Fault::Kill;
        let blow = Blow {
            fault,
            side,
            moment,
        };
        fixture.every_step(&kind, blow).await
    };
    tokio::try_join!(
        every(Side::Api, Moment::Before),
        every(Side::Api, Moment::After),
        every(Side::Redis, Moment::Before),
        every(Side::Redis, Moment::After),
    )?;
    assert_eq!(fixture.simulator.counters().repeated_publications, 0);
    fixture.redis.client.close().await;
    Ok(())
}

/// A frozen publisher finds its request answered when it wakes, and goes on without knowing that
/// another has published meanwhile, perhaps from a container of its own.
#[tokio::test]
async fn post_is_published_once_wherever_its_publisher_is_frozen() -> TestResult {
    let fixture = CrashFixture::start(0).await?;
    let kind = Kind {
        least: 5,
        ..image()
    };
    let every = async |moment| {
        let (fault, side) = (Fault::Freeze, Side::Api);
        let blow = Blow {
            fault,
            side,
            moment,
        };
        fixture.every_step(&kind, blow).await
    };
    tokio::try_join!(every(Moment::Before), every(Moment::After))?;
    fixture.redis.client.close().await;
    Ok(())
}

fn image() -> Kind {
    Kind {
        fields: json!({ "imageUrl": "https://cdn.example/a.jpg", "caption": "New shoes" }),
        end: End::Published("IMAGE"),
        api: Vec::new(),
        attempts: 1,
        least: 6,
    }
}

/// An image survives the death of its publisher at every step.
#[tokio::test]
async fn image_is_published_once_wherever_its_publisher_dies() -> TestResult {
    kill_everywhere(image()).await
}

/// A carousel survives the death of its publisher at every step.
#[tokio::test]
async fn carousel_is_published_once_wherever_its_publisher_dies() -> TestResult {
    kill_everywhere(Kind {
        fields: json!({ "mediaType": "CAROUSEL", "caption": "Both shoes", "children": [
            { "imageUrl": "https://cdn.example/left.jpg" },
            { "videoUrl": "https://cdn.example/right.mp4" },
        ] }),
        end: End::Published("CAROUSEL"),
        api: Vec::new(),
        attempts: 1,
        least: 10,
    })
    .await
}

/// A reel survives the death of its publisher at every step.
#[tokio::test]
async fn reel_is_published_once_wherever_its_publisher_dies() -> TestResult {
    kill_everywhere(Kind {
        fields: json!({ "mediaType": "REELS", "videoUrl": "https://cdn.example/a.mp4" }),
        end: End::Published("REELS"),
        api: Vec::new(),
        attempts: 1,
        least: 6,
    })
    .await
}

/// A story survives the death of its publisher at every step, though no caption marks it.
#[tokio::test]
async fn story_is_published_once_wherever_its_publisher_dies() -> TestResult {
    kill_everywhere(Kind {
        fields: json!({ "mediaType": "STORIES", "imageUrl": "https://cdn.example/a.jpg" }),
        end: End::Published("STORIES"),
        api: Vec::new(),
        attempts: 1,
        least: 6,
    })
    .await
}

/// A post that fails for good fails once, and its user is told once, wherever its publisher dies.
#[tokio::test]
async fn failure_is_told_once_wherever_its_publisher_dies() -> TestResult {
    kill_everywhere(Kind {
        fields: json!({ "imageUrl": "https://cdn.example/a.gif" }),
        end: End::Failed,
        api: Vec::new(),
        attempts: 1,
        least: 2,
    })
    .await
}

/// A revoked permission is told once, with its remedy, wherever the publisher dies.
#[tokio::test]
async fn reconnection_is_asked_for_once_wherever_the_publisher_dies() -> TestResult {
    kill_everywhere(Kind {
        end: End::Reconnect,
        least: 2,
        ..image()
    })
    .await
}

/// A blocked account is left alone, wherever the publisher dies that found out.
#[tokio::test]
async fn block_holds_wherever_the_publisher_dies_that_met_it() -> TestResult {
    kill_everywhere(Kind {
        end: End::Blocked,
        least: 1,
        ..image()
    })
    .await
}

/// The last attempt fails, and its repetition after a crash would publish: once its user was told
/// of the failure, it must not.
#[tokio::test]
async fn notices_stay_true() -> TestResult {
    kill_everywhere(Kind {
        end: End::AsTold,
        least: 2,
        ..image()
    })
    .await
}

/// A publisher that wakes with a failure in its hands does not tell of it what another has made
/// untrue meanwhile.
#[tokio::test]
async fn frozen_publisher_tells_no_failure_of_a_published_post() -> TestResult {
    let fixture = CrashFixture::start(0).await?;
    let kind = Kind {
        end: End::AsTold,
        least: 2,
        ..image()
    };
    let blow = Blow {
        fault: Fault::Freeze,
        side: Side::Api,
        moment: Moment::After,
    };
    fixture.every_step(&kind, blow).await?;
    fixture.redis.client.close().await;
    Ok(())
}
