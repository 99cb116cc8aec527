//! Posts that fail without their handler: their users learn it from the failed set's follower.

use oxbull::{Client, ClientConfig, JobId, JobOptions, JobState, Queue, Retention, Worker};
use oxbull_instagram_simulator::SimulatorOptions;
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use oxbull_workers::app::Problems;
use oxbull_workers::jobs::post_publishing::{Publisher, QUEUE, handle, watch_failures};
use serde_json::{Value, json};

use super::{PostFixture, USER, post, quick, shoes, short};
use crate::support::{graph, reaches, tokens};

/// A post that fails before its handler notifies its user once, for any cause and any retention of its
/// job.
#[tokio::test]
async fn every_failure_before_the_handler_notifies_once() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let server = &fixture.redis.server;
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
    fixture.queue.pause().await?;
    for (user, fields, options) in causes.clone() {
        let mut data = shoes();
        data["userId"] = json!(user);
        let id = fixture.add_with(&data, options).await?;
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
        graph: graph(fixture.simulator.url()),
        tokens: tokens(),
        limits: short(),
    };
    let worker = Worker::builder(&fixture.redis.client, QUEUE)
        .max_started_attempts(3)
        .state(publisher)
        .start(handle)
        .await?;
    let client = fixture.redis.client.clone();
    let queue = Queue::open(&client, QUEUE).await?;
    let watch = watch_failures(worker.events(), client, queue, Problems::default());
    let story = async {
        fixture.queue.resume().await?;
        for (user, ..) in &causes {
            let notices = fixture.subscriber.wait_for(user, 1).await;
            let notices = notices.map_err(|error| format!("{user}: {error}"))?;
            assert_eq!(notices[0]["type"], "post.failed", "{user}");
            assert_eq!(notices.len(), 1, "{notices:?}");
        }
        TestResult::Ok(())
    };
    tokio::select! {
        () = watch => panic!("the worker ended"),
        notices = story => notices?,
    }
    fixture.end(worker).await;
    Ok(())
}

/// A follower without a permission stays at its position: the notice is sent once it is permitted, and
/// until then the program's health reports the problem.
#[tokio::test]
async fn refused_follower_skips_no_failure() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let worker = fixture.work(short()).await?;
    let server = &fixture.redis.server;
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
        fixture.queue.pause().await?;
        let id = fixture.add(&data).await?;
        let key = format!("bull:{QUEUE}:{id}");
        server.int(&["HSET", &key, "defa", "stalled"]).await?;
        fixture.queue.resume().await?;
        let story = async {
            reaches(&fixture.queue, &id, JobState::Failed).await?;
            eventually(DEADLINE, async || problems.current().ok_or("no problem")).await?;
            assert_eq!(fixture.subscriber.notices(missing), [] as [Value; 0]);
            server.cli(&["ACL", "SETUSER", "few", "+@all"]).await?;
            assert_eq!(fixture.subscriber.wait_for(missing, 1).await?.len(), 1);
            eventually(DEADLINE, async || match problems.current() {
                None => Ok(()),
                Some(trouble) => Err(trouble),
            })
            .await?;
            TestResult::Ok(())
        };
        tokio::select! {
            () = watch => panic!("the worker ended"),
            notices = story => notices?,
        }
        client.close().await;
    }
    fixture.end(worker).await;
    Ok(())
}

/// A job that fails outside its handler, such as one that stalled too often, notifies its user once:
/// also when its worker died before, and with a warning where the post may be public.
#[tokio::test]
async fn failure_outside_the_handler_notifies_the_user() -> TestResult {
    let fixture = PostFixture::start(SimulatorOptions::new()).await?;
    let reason = "job stalled more than allowable limit";
    let fail = async |data: &Value| -> TestResult<JobId> {
        let id = fixture.add(data).await?;
        let key = format!("bull:{QUEUE}:{id}");
        fixture
            .redis
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
    let worker = fixture.work(short()).await?;
    let refused = fixture.add(&post("https://cdn.example/shoes.gif")).await?;
    for id in [&plain, &begun, &refused] {
        reaches(&fixture.queue, id, JobState::Failed).await?;
    }
    let client = &fixture.redis.client;
    let queue = Queue::open(client, QUEUE).await?;
    let problems = Problems::default();
    let watch = watch_failures(worker.events(), client.clone(), queue, problems);
    let late = async {
        fixture.subscriber.wait_for(USER, 3).await?;
        fixture.queue.pause().await?;
        let late = fail(&shoes()).await?;
        fixture.queue.resume().await?;
        reaches(&fixture.queue, &late, JobState::Failed).await?;
        fixture.subscriber.wait_for(USER, 4).await
    };
    let notices = tokio::select! {
        () = watch => panic!("the worker ended"),
        notices = late => notices?,
    };
    assert_eq!(notices.len(), 4);
    let saying = |text: &str| {
        notices
            .iter()
            .filter(|notice| notice["reason"] == text)
            .count()
    };
    assert_eq!(saying(reason), 2, "{notices:?}");
    let doubtful =
        format!("{reason}; the post may have been published before: look at the account");
    assert_eq!(saying(&doubtful), 1, "{notices:?}");
    // "Try again later" would have its user publish it twice.
    for notice in &notices {
        let code = match notice["reason"].as_str() {
            Some(text) if text == doubtful => "in_doubt",
            Some(text) if text == reason => "unavailable",
            _ => continue,
        };
        assert_eq!(notice["code"], code, "{notice}");
    }
    fixture.end(worker).await;
    Ok(())
}
