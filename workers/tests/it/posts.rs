//! Posts as jobs of a real worker: attempts, waits, limits, and what users are told.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use oxbull::{
    Backoff, Client, ClientConfig, JobId, JobOptions, JobState, Queue, Retention, RetryOptions,
    Worker, WorkerEvent,
};
use oxbull_instagram_simulator::{Fault, Operation, Simulator, SimulatorOptions};
use oxbull_testkit::{eventually, free_port};
use oxbull_workers::app::Problems;
use oxbull_workers::graph::Cooldowns;
use oxbull_workers::graph::{AccessTokens, AccountId, LimitScope};
use oxbull_workers::jobs::post_publishing::{
    PublishLimits, PublishedPost, Publisher, QUEUE, handle, watch_failures,
};
use serde_json::{Value, json};

use crate::support::{
    ACCOUNT, Bench, DEADLINE, LATER, Subscriber, TestResult, graph, reaches, tokens,
};

const USER: &str = "user-1";

/// A worker of posts, its API, and whoever is told.
struct Desk {
    bench: Bench,
    simulator: Simulator,
    subscriber: Subscriber,
    queue: Queue<Value>,
}

impl Desk {
    async fn open(options: SimulatorOptions) -> TestResult<Self> {
        let bench = Bench::start().await?;
        let simulator = Simulator::start(options).await?;
        let subscriber = Subscriber::open(&bench.server).await?;
        let queue = Queue::open(&bench.client, QUEUE).await?;
        Ok(Self {
            bench,
            simulator,
            subscriber,
            queue,
        })
    }

    async fn work(&self, limits: PublishLimits) -> TestResult<Worker> {
        self.work_with(limits, tokens(), self.simulator.url()).await
    }

    async fn work_with(
        &self,
        limits: PublishLimits,
        tokens: AccessTokens,
        url: &str,
    ) -> TestResult<Worker> {
        let publisher = Publisher {
            graph: graph(url),
            tokens,
            limits,
        };
        let worker = Worker::builder(&self.bench.client, QUEUE)
            .state(publisher)
            .start(handle)
            .await?;
        Ok(worker)
    }

    async fn add(&self, post: &Value) -> TestResult<JobId> {
        self.add_with(post, quick()).await
    }

    async fn add_with(&self, post: &Value, options: JobOptions) -> TestResult<JobId> {
        Ok(self.queue.add_with("publish", post, options).await?.id)
    }

    /// Ends a hold of the account, as time does; says whether there was one.
    async fn end_hold(&self, scope: LimitScope) -> TestResult<bool> {
        let cooldowns = Cooldowns::new(self.bench.client.clone());
        Ok(cooldowns.end(scope, &AccountId::new(ACCOUNT)?).await?)
    }

    async fn end(self, worker: Worker) {
        self.bench.end(worker).await;
    }
}

/// Three attempts at once.
fn quick() -> JobOptions {
    JobOptions::new()
        .attempts(3)
        .backoff(Backoff::fixed(Duration::from_millis(1)))
}

fn short() -> PublishLimits {
    PublishLimits {
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
        settle: Duration::from_millis(1),
        ..PublishLimits::default()
    }
}

/// Every wait lasts until its job is promoted.
fn long() -> PublishLimits {
    PublishLimits {
        first_wait: LATER,
        longest_wait: 4 * LATER,
        ..PublishLimits::default()
    }
}

fn post(image_url: &str) -> Value {
    json!({
        "postId": "post-1",
        "userId": USER,
        "accountId": ACCOUNT,
        "imageUrl": image_url,
        "caption": "New shoes",
        "campaign": { "id": 7 },
    })
}

fn shoes() -> Value {
    post("https://cdn.example/shoes.jpg")
}

/// The plain way of a post: its job waits for the container as delayed, without an attempt; its
/// result and its user learn where it is, and its data keeps what the backend wrote.
#[tokio::test]
async fn post_is_published_in_one_attempt() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new().polls(2)).await?;
    let worker = desk.work(short()).await?;
    let id = desk.add(&shoes()).await?;
    let job = reaches(&desk.queue, &id, JobState::Completed).await?;
    let result: PublishedPost = job.return_value()?.unwrap();
    let published = desk.simulator.published();
    assert_eq!(published.len(), 1);
    assert_eq!(
        result.media_id.clone().map(String::from),
        Some(published[0].media.clone())
    );
    assert_eq!(job.attempts_made, 1);
    assert!(job.attempts_started > 1, "it stepped aside for its media");
    let told = desk.subscriber.hear(USER, 1).await?;
    let at = told[0]["at"].clone();
    assert_eq!(
        told,
        [json!({
            "type": "post.published",
            "postId": "post-1",
            "accountId": ACCOUNT,
            "mediaId": result.media_id,
            "permalink": result.permalink.unwrap(),
            "at": at,
        })]
    );
    let mut data: Value = job.data()?;
    data.as_object_mut().unwrap().remove("publication").unwrap();
    assert_eq!(data, shoes());
    desk.end(worker).await;
    Ok(())
}

/// A container that takes long is asked about less and less often, and no wait uses an attempt.
#[tokio::test]
async fn waits_are_delays_that_grow() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new().polls(5)).await?;
    let worker = desk.work(long()).await?;
    let id = desk.add(&shoes()).await?;
    let mut delays = Vec::new();
    for _ in 0..5 {
        let job = reaches(&desk.queue, &id, JobState::Delayed).await?;
        assert_eq!(job.attempts_made, 0);
        delays.push(job.delay.as_secs() / 3600);
        desk.queue.promote(&id).await?;
    }
    assert_eq!(delays, [1, 2, 4, 4, 4]);
    let job = reaches(&desk.queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 1);
    desk.end(worker).await;
    Ok(())
}

/// The answer to publishing is lost, and then an attempt fails: the next one finds the post
/// instead of publishing it again.
#[tokio::test]
async fn retry_does_not_publish_twice() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new().polls(0)).await?;
    let lost = Fault::lose_reply().on(Operation::Publish).times(1);
    desk.simulator.arm(lost);
    let worker = desk.work(long()).await?;
    let id = desk.add(&shoes()).await?;
    reaches(&desk.queue, &id, JobState::Delayed).await?;
    assert_eq!(desk.simulator.published().len(), 1);

    let fault = Fault::error(500, 2).on(Operation::ContainerStatus);
    desk.simulator.arm(fault.times(1));
    desk.queue.promote(&id).await?;
    let job = reaches(&desk.queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 2);
    let result: PublishedPost = job.return_value()?.unwrap();
    let published = desk.simulator.published();
    assert_eq!(
        result.media_id.map(String::from),
        Some(published[0].media.clone())
    );
    let counters = desk.simulator.counters();
    assert_eq!((counters.containers, counters.publications), (1, 1));
    assert_eq!(counters.repeated_publications, 0);
    desk.end(worker).await;
    Ok(())
}

/// The last attempt must not fail a post that may be public: it is put off until that is known.
#[tokio::test]
async fn last_attempt_in_doubt_is_put_off() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new().polls(0)).await?;
    let lost = Fault::lose_reply().on(Operation::Publish).times(1);
    desk.simulator.arm(lost);
    let fault = Fault::error(500, 2).on(Operation::ContainerStatus);
    let worker = desk.work(long()).await?;
    let id = desk.add_with(&shoes(), quick().attempts(1)).await?;
    reaches(&desk.queue, &id, JobState::Delayed).await?;
    desk.simulator.arm(fault.times(1));
    desk.queue.promote(&id).await?;
    let job = reaches(&desk.queue, &id, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 0);
    desk.queue.promote(&id).await?;
    reaches(&desk.queue, &id, JobState::Completed).await?;
    let told = desk.subscriber.hear(USER, 1).await?;
    assert_eq!(told[0]["type"], "post.published");
    desk.end(worker).await;
    Ok(())
}

/// What can never work must not use up attempts and the account's rate; its user learns why.
#[tokio::test]
async fn hopeless_posts_fail_at_once_with_their_reason() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    let worker = desk.work(short()).await?;
    let permission = Fault::error(403, 10).on(Operation::CreateContainer);
    desk.simulator.arm(permission.account("78").times(1));
    let mut forbidden = shoes();
    forbidden["accountId"] = "78".into();
    let mut alone = shoes();
    alone["mediaType"] = "CAROUSEL".into();
    let unreadable = json!({ "postId": "p", "userId": USER, "accountId": "a/b" });
    for (count, (data, reason)) in [
        (post("https://cdn.example/shoes.gif"), "2207005"),
        (forbidden, "error 10"),
        (alone, "children"),
        (unreadable, "does not decode"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = desk.add(&data).await?;
        let job = reaches(&desk.queue, &id, JobState::Failed).await?;
        assert_eq!(job.attempts_made, 1);
        let found = job.failed_reason.unwrap();
        assert!(found.contains(reason), "{found}");
        let told = desk.subscriber.hear(USER, count + 1).await?;
        assert_eq!(told.len(), count + 1);
        assert_eq!(told[count]["type"], "post.failed");
        assert_eq!(told[count]["code"], "refused");
        assert_eq!(told[count]["reason"], found.as_str());
    }
    assert!(desk.simulator.published().is_empty());
    desk.end(worker).await;
    Ok(())
}

/// An expired token fails each of the account's posts with one request, and names the cure. Once
/// the account is connected again a retry by hand publishes, and the user is told that too.
#[tokio::test]
async fn expired_token_asks_for_a_reconnection() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    desk.simulator.arm(Fault::error(400, 190).subcode(463));
    let worker = desk.work(short()).await?;
    let mut added = Vec::new();
    for _ in 0..3 {
        added.push(desk.add(&shoes()).await?);
    }
    for id in &added {
        let job = reaches(&desk.queue, id, JobState::Failed).await?;
        assert_eq!(job.attempts_made, 1);
        let reason = job.failed_reason.unwrap();
        assert!(reason.contains("reconnect the account"), "{reason}");
    }
    assert_eq!(desk.simulator.counters().accounts[ACCOUNT], 3);
    let told = desk.subscriber.hear(USER, 3).await?;
    assert!(told.iter().all(|notice| notice["code"] == "reconnect"));

    desk.simulator.disarm();
    desk.queue.retry(&added[0], RetryOptions::new()).await?;
    reaches(&desk.queue, &added[0], JobState::Completed).await?;
    let told = desk.subscriber.hear(USER, 4).await?;
    assert_eq!(told[3]["type"], "post.published");
    desk.end(worker).await;
    Ok(())
}

/// An account whose token nobody configured is the same case.
#[tokio::test]
async fn missing_token_asks_for_a_reconnection() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    let none = AccessTokens::default();
    let worker = desk.work_with(short(), none, desk.simulator.url()).await?;
    let id = desk.add(&shoes()).await?;
    reaches(&desk.queue, &id, JobState::Failed).await?;
    let told = desk.subscriber.hear(USER, 1).await?;
    assert_eq!(told[0]["code"], "reconnect");
    assert!(desk.simulator.counters().accounts.is_empty());
    desk.end(worker).await;
    Ok(())
}

/// A passing failure costs an attempt; the third ends the job, and only then the user is told.
#[tokio::test]
async fn third_passing_failure_is_final() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    let worker = desk.work(short()).await?;
    let fault = Fault::error(500, 2).on(Operation::CreateContainer);
    desk.simulator.arm(fault.clone().times(2));
    let id = desk.add(&shoes()).await?;
    let job = reaches(&desk.queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 3);
    assert_eq!(desk.subscriber.hear(USER, 1).await?.len(), 1);

    desk.simulator.arm(fault);
    let id = desk.add(&shoes()).await?;
    let job = reaches(&desk.queue, &id, JobState::Failed).await?;
    assert_eq!(job.attempts_made, 3);
    let told = desk.subscriber.hear(USER, 2).await?;
    assert_eq!((told.len(), &told[1]["code"]), (2, &json!("unavailable")));
    desk.end(worker).await;
    Ok(())
}

/// An API that cannot be reached costs attempts, not jobs: the next one works once it is back.
#[tokio::test]
async fn unreachable_api_ends_in_a_retry() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let url = format!("http://{address}/v23.0");
    let worker = desk.work_with(short(), tokens(), &url).await?;
    let mut events = worker.events();
    let options = JobOptions::new().attempts(2).backoff(Backoff::fixed(LATER));
    let id = desk.add_with(&shoes(), options).await?;
    let retries = loop {
        match events.next().await {
            Some(WorkerEvent::Failed { retries, .. }) => break retries,
            Some(_) => {}
            None => panic!("the worker ended"),
        }
    };
    assert!(retries);
    let job = reaches(&desk.queue, &id, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 1);

    let simulator = Simulator::start(SimulatorOptions::new().address(address)).await?;
    desk.queue.promote(&id).await?;
    reaches(&desk.queue, &id, JobState::Completed).await?;
    assert_eq!(simulator.published().len(), 1);
    desk.end(worker).await;
    Ok(())
}

/// Usage that nears its end is heeded before the API refuses: the run stops where it is, and the
/// account's other posts wait without a request.
#[tokio::test]
async fn nearly_used_up_rate_holds_the_account() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    let usage = Fault::usage(96, 60).on(Operation::CreateContainer);
    desk.simulator.arm(usage.account(ACCOUNT).times(1));
    let worker = desk.work(short()).await?;
    let held = [desk.add(&shoes()).await?, desk.add(&shoes()).await?];
    let mut other = shoes();
    other["accountId"] = "78".into();
    let free = desk.add(&other).await?;
    reaches(&desk.queue, &free, JobState::Completed).await?;
    for id in &held {
        let job = reaches(&desk.queue, id, JobState::Delayed).await?;
        assert_eq!(job.attempts_made, 0);
    }
    // The first has asked for its quota and its container, the second for nothing.
    assert_eq!(desk.simulator.counters().accounts[ACCOUNT], 2);
    assert!(desk.end_hold(LimitScope::Account).await?);
    for id in &held {
        desk.queue.promote(id).await?;
    }
    for id in &held {
        reaches(&desk.queue, id, JobState::Completed).await?;
    }
    assert_eq!(desk.simulator.counters().containers, 3);
    desk.end(worker).await;
    Ok(())
}

/// The application's limit holds every account, and costs nobody an attempt.
#[tokio::test]
async fn limit_of_the_application_holds_every_account() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    desk.simulator.arm(Fault::error(403, 4).times(1));
    let worker = desk.work(short()).await?;
    let first = desk.add(&shoes()).await?;
    reaches(&desk.queue, &first, JobState::Delayed).await?;
    let mut other = shoes();
    other["accountId"] = "78".into();
    let second = desk.add(&other).await?;
    let job = reaches(&desk.queue, &second, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 0);
    let requests: u64 = desk.simulator.counters().accounts.values().sum();
    assert_eq!(requests, 1);
    desk.end(worker).await;
    Ok(())
}

/// A used up quota puts off the posts of its account until it looks again.
#[tokio::test]
async fn used_up_quota_puts_posts_off() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new().publishing_quota(1)).await?;
    let worker = desk.work(short()).await?;
    let first = desk.add(&shoes()).await?;
    reaches(&desk.queue, &first, JobState::Completed).await?;
    let second = desk.add(&shoes()).await?;
    let job = reaches(&desk.queue, &second, JobState::Delayed).await?;
    assert_eq!(
        (job.attempts_made, job.delay),
        (0, Duration::from_secs(900))
    );
    // It looks again before it makes anything.
    assert!(desk.end_hold(LimitScope::Publishing).await?);
    desk.queue.promote(&second).await?;
    reaches(&desk.queue, &second, JobState::Delayed).await?;
    assert!(desk.end_hold(LimitScope::Publishing).await?);
    assert_eq!(desk.simulator.counters().containers, 1);
    desk.end(worker).await;
    Ok(())
}

/// Limits that leave no room for too long end the post, and its user learns it.
#[tokio::test]
async fn post_that_is_put_off_for_too_long_fails() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    desk.simulator
        .arm(Fault::rate_limit(LATER).account(ACCOUNT));
    let limits = PublishLimits {
        put_off: Duration::from_millis(1),
        ..short()
    };
    let worker = desk.work(limits).await?;
    let id = desk.add(&shoes()).await?;
    reaches(&desk.queue, &id, JobState::Delayed).await?;
    desk.queue.promote(&id).await?;
    reaches(&desk.queue, &id, JobState::Failed).await?;
    let told = desk.subscriber.hear(USER, 1).await?;
    assert_eq!(told[0]["code"], "limited");
    assert_eq!(desk.simulator.counters().accounts[ACCOUNT], 1);

    // A retry by hand has all of the time again.
    desk.queue.retry(&id, RetryOptions::new()).await?;
    reaches(&desk.queue, &id, JobState::Delayed).await?;
    assert_eq!(desk.subscriber.told(USER).len(), 1);
    desk.end(worker).await;
    Ok(())
}

/// Whatever fails a post before its handler, and whatever becomes of its job then, its user is told
/// once.
#[tokio::test]
async fn every_cause_before_the_handler_is_told_once() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    let server = &desk.bench.server;
    let causes: [(&str, &[&str], JobOptions); 5] = [
        ("cut", &["defa", "stalled"], quick()),
        (
            "stalled",
            &["defa", "job stalled more than allowable limit"],
            quick(),
        ),
        ("child", &["defa", "child bull:media:1 failed"], quick()),
        ("started", &["ats", "7"], quick()),
        (
            "removed",
            &["defa", "stalled"],
            quick().remove_on_fail(Retention::Remove),
        ),
    ];
    desk.queue.pause().await?;
    for (user, fields, options) in causes.clone() {
        let mut data = shoes();
        data["userId"] = json!(user);
        let id = desk.add_with(&data, options).await?;
        let key = format!("bull:{QUEUE}:{id}");
        server.int(&[&["HSET", &key], fields].concat()).await?;
        if user == "cut" {
            // As JavaScript's `slice` leaves it in the middle of a character.
            let cut = data.to_string().replace("New shoes", r"New \ud83d");
            assert_ne!(cut, data.to_string());
            server.int(&["HSET", &key, "data", &cut]).await?;
        }
    }
    let publisher = Publisher {
        graph: graph(desk.simulator.url()),
        tokens: tokens(),
        limits: short(),
    };
    let worker = Worker::builder(&desk.bench.client, QUEUE)
        .max_started_attempts(3)
        .state(publisher)
        .start(handle)
        .await?;
    let client = desk.bench.client.clone();
    let queue = Queue::open(&client, QUEUE).await?;
    let watch = watch_failures(worker.events(), client, queue, Problems::default());
    let story = async {
        desk.queue.resume().await?;
        for (user, ..) in &causes {
            let told = desk.subscriber.hear(user, 1).await;
            let told = told.map_err(|error| format!("{user}: {error}"))?;
            assert_eq!(told[0]["type"], "post.failed", "{user}");
            assert_eq!(told.len(), 1, "{told:?}");
        }
        TestResult::Ok(())
    };
    tokio::select! {
        () = watch => panic!("the worker ended"),
        told = story => told?,
    }
    desk.end(worker).await;
    Ok(())
}

/// Who was refused a part of following stays where it is: the failure that could not be told is told
/// once it may be, and until then the program's health says so.
#[tokio::test]
async fn follower_that_is_refused_moves_on_past_nobody() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    let worker = desk.work(short()).await?;
    let server = &desk.bench.server;
    for missing in ["-exec", "-xread", "-publish"] {
        server
            .cli(&[
                "ACL", "SETUSER", "few", "on", ">pw", "~*", "&*", "+@all", missing,
            ])
            .await?;
        let url = format!("redis://few:pw@127.0.0.1:{}", server.port());
        let client = Client::connect(ClientConfig::from_url(&url)?).await?;
        let queue = Queue::open(&client, QUEUE).await?;
        let problems = Problems::default();
        let watch = watch_failures(worker.events(), client.clone(), queue, problems.clone());
        let mut data = shoes();
        data["userId"] = json!(missing);
        desk.queue.pause().await?;
        let id = desk.add(&data).await?;
        let key = format!("bull:{QUEUE}:{id}");
        server.int(&["HSET", &key, "defa", "stalled"]).await?;
        desk.queue.resume().await?;
        let story = async {
            reaches(&desk.queue, &id, JobState::Failed).await?;
            eventually(DEADLINE, async || problems.current().ok_or("no problem")).await?;
            assert_eq!(desk.subscriber.told(missing), [] as [Value; 0]);
            server.cli(&["ACL", "SETUSER", "few", "+@all"]).await?;
            assert_eq!(desk.subscriber.hear(missing, 1).await?.len(), 1);
            eventually(DEADLINE, async || match problems.current() {
                None => Ok(()),
                Some(trouble) => Err(trouble),
            })
            .await?;
            TestResult::Ok(())
        };
        tokio::select! {
            () = watch => panic!("the worker ended"),
            told = story => told?,
        }
        client.close().await;
    }
    desk.end(worker).await;
    Ok(())
}

/// A job that fails without its handler, as one that stalled too often, is told too, once: also
/// when its worker died with the news, and with a word of warning where the post may be public.
#[tokio::test]
async fn failure_without_the_handler_is_told() -> TestResult {
    let desk = Desk::open(SimulatorOptions::new()).await?;
    let reason = "job stalled more than allowable limit";
    let fail = async |data: &Value| -> TestResult<JobId> {
        let id = desk.add(data).await?;
        let key = format!("bull:{QUEUE}:{id}");
        desk.bench
            .server
            .int(&["HSET", &key, "defa", reason])
            .await?;
        Ok(id)
    };
    let plain = fail(&shoes()).await?;
    let mut begun = shoes();
    begun["publication"] = json!({ "containerId": "17", "request": { "at": 1 } });
    let begun = fail(&begun).await?;
    // This one has failed by the time anybody looks, and another was told by its handler.
    let worker = desk.work(short()).await?;
    let refused = desk.add(&post("https://cdn.example/shoes.gif")).await?;
    for id in [&plain, &begun, &refused] {
        reaches(&desk.queue, id, JobState::Failed).await?;
    }
    let client = &desk.bench.client;
    let queue = Queue::open(client, QUEUE).await?;
    let problems = Problems::default();
    let watch = watch_failures(worker.events(), client.clone(), queue, problems);
    let late = async {
        desk.subscriber.hear(USER, 3).await?;
        desk.queue.pause().await?;
        let late = fail(&shoes()).await?;
        desk.queue.resume().await?;
        reaches(&desk.queue, &late, JobState::Failed).await?;
        desk.subscriber.hear(USER, 4).await
    };
    let told = tokio::select! {
        () = watch => panic!("the worker ended"),
        told = late => told?,
    };
    assert_eq!(told.len(), 4);
    let saying = |text: &str| {
        told.iter()
            .filter(|notice| notice["reason"] == text)
            .count()
    };
    assert_eq!(saying(reason), 2, "{told:?}");
    let doubtful =
        format!("{reason}; the post may have been published before: look at the account");
    assert_eq!(saying(&doubtful), 1, "{told:?}");
    desk.end(worker).await;
    Ok(())
}
