//! Finding jobs by what is stored of them.

use futures::TryStreamExt as _;
use oxbull::inspect::{DataCondition, JobOrder, Search};
use oxbull::{Error, JobOptions, JobState, Timestamp};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::json;

use super::{all, ids};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A queue with jobs in several states, some of them odd.
async fn shop() -> TestResult<Fixture> {
    let fixture = Fixture::start().await?;
    for (id, name, data) in [
        (
            "a1",
            "mail.send",
            json!({ "account": "42", "items": [{ "sku": "red shirt", "n": 2 }] }),
        ),
        ("a2", "mail.send", json!({ "account": "7", "items": [] })),
        (
            "a3",
            "mail.bounce",
            json!({ "account": "42", "amount": 12.5 }),
        ),
        ("a4", "report", json!({ "account": 42, "retryOf": null })),
        ("a5", "report", json!("plain text")),
    ] {
        let options = JobOptions::new().id(id);
        fixture.queue.add_with(name, &data, options).await?;
    }
    let failed = |id: &'static str, reason: &'static str, time: &'static str| {
        [
            vec![
                "HSET",
                "bull:q:",
                id,
                "failedReason",
                reason,
                "finishedOn",
                time,
                "processedOn",
                "90",
                "atm",
                "3",
            ],
            vec!["LREM", "bull:q:wait", "", "1", id],
            vec!["ZADD", "bull:q:failed", "", time, id],
        ]
    };
    for command in [
        failed("a2", "Connection Timeout", "100"),
        failed("a3", "nope", "200"),
    ]
    .concat()
    {
        let [verb, base, suffix, rest @ ..] = command.as_slice() else {
            return Err("every command has a key".into());
        };
        let key = format!("{base}{suffix}");
        let command = [&[*verb, &key], rest].concat();
        fixture.server.cli(&command).await?;
    }
    Ok(fixture)
}

async fn found(fixture: &Fixture, search: Search) -> TestResult<String> {
    Ok(ids(&all(fixture.queue.search(search)?).await?).join(" "))
}

fn data(condition: &str) -> TestResult<Search> {
    Ok(Search::new().data(condition.parse()?))
}

/// Each criterion finds what it says, and several hold together.
#[tokio::test]
async fn criteria_hold_together() -> TestResult {
    let fixture = shop().await?;
    for (search, expected) in [
        (Search::new(), "a1 a4 a5 a2 a3"),
        (Search::new().order(JobOrder::Descending), "a5 a4 a1 a3 a2"),
        (Search::new().states([JobState::Failed]), "a2 a3"),
        (Search::new().states([]), ""),
        (Search::new().name("mail.send"), "a1 a2"),
        (Search::new().name("mail"), ""),
        (Search::new().name_prefix("mail."), "a1 a2 a3"),
        (Search::new().failed_reason_contains("timeout"), ""),
        (
            Search::new()
                .failed_reason_contains("timeout")
                .ignore_case(),
            "a2",
        ),
        (Search::new().failed_reason_contains(""), "a2 a3"),
        (Search::new().finished(at(100)..at(200)), "a2"),
        (Search::new().finished(..=at(200)), "a2 a3"),
        (Search::new().finished(at(101)..), "a3"),
        (Search::new().processed(at(0)..at(90)), ""),
        (Search::new().attempts_made(3..), "a2 a3"),
        (Search::new().attempts_made(..3), "a1 a4 a5"),
        (Search::new().added(..at(0)), ""),
        (Search::new().added(at(1)..), "a1 a4 a5 a2 a3"),
        (data(r#"$.account == "42""#)?, "a1 a3"),
        (data("$.account == 42")?, "a4"),
        (data(r#"$.items[0].sku contains "SHIRT""#)?, ""),
        (
            data(r#"$.items[0].sku contains "SHIRT""#)?.ignore_case(),
            "a1",
        ),
        (data("$.amount > 12")?, "a3"),
        (data("$.retryOf exists")?, "a4"),
        (data(r#"$ contains "text""#)?, "a5"),
        (
            data(r#"$.account == "42""#)?.data("$.amount exists".parse()?),
            "a3",
        ),
        (
            data(r#"$.account == "42""#)?
                .name_prefix("mail.")
                .states([JobState::Waiting]),
            "a1",
        ),
    ] {
        assert_eq!(
            found(&fixture, search.clone()).await?,
            expected,
            "{search:?}"
        );
    }
    Ok(())
}

/// An id is looked up wherever it is, without going through anything.
#[tokio::test]
async fn job_is_found_by_its_id() -> TestResult {
    let fixture = shop().await?;
    let before = fixture.calls("lrange").await?;
    assert_eq!(found(&fixture, Search::new().id("a3")).await?, "a3");
    assert_eq!(
        found(&fixture, Search::new().id("a3").name("report")).await?,
        ""
    );
    let waiting = Search::new().id("a3").states([JobState::Waiting]);
    assert_eq!(found(&fixture, waiting).await?, "");
    assert_eq!(found(&fixture, Search::new().id("gone")).await?, "");
    assert_eq!(fixture.calls("lrange").await?, before);
    let key = fixture.queue.search(Search::new().id("meta")).map(drop);
    assert!(matches!(key, Err(Error::Invalid { .. })));
    Ok(())
}

/// What cannot be judged is no match, is counted, and hides nothing.
#[tokio::test]
async fn unreadable_jobs_are_counted() -> TestResult {
    let fixture = shop().await?;
    for command in [
        &["HSET", "bull:q:a1", "data", "{no"][..],
        &["DEL", "bull:q:a2", "bull:q:a4"],
        &["SET", "bull:q:a4", "no hash"],
    ] {
        fixture.server.cli(command).await?;
    }
    let mut stream = fixture.queue.search(data("$.account exists")?)?;
    let mut found = Vec::new();
    while let Some(one) = stream.try_next().await? {
        found.push(one.job.id.as_str().to_owned());
    }
    let progress = stream.progress();
    assert_eq!(found, ["a3"]);
    assert_eq!((progress.scanned, progress.total), (5, 5));
    assert_eq!((progress.unreadable, progress.missing), (2, 1));
    // Nothing is asked of the data here.
    let named = Search::new().name("mail.send");
    assert_eq!(ids(&all(fixture.queue.search(named)?).await?), ["a1"]);
    Ok(())
}

/// Most jobs are judged by the fields that count, and only matches are read whole.
#[tokio::test]
async fn only_matches_are_read_whole() -> TestResult {
    let fixture = shop().await?;
    let (hgetall, hmget) = (
        fixture.calls("hgetall").await?,
        fixture.calls("hmget").await?,
    );
    assert_eq!(
        found(&fixture, Search::new().name("mail.bounce")).await?,
        "a3"
    );
    assert_eq!(fixture.calls("hgetall").await? - hgetall, 1);
    assert_eq!(fixture.calls("hmget").await? - hmget, 5);
    Ok(())
}

/// A range that can match nothing, and a condition that is none, are mistakes of the caller.
#[tokio::test]
async fn bad_searches_are_refused() -> TestResult {
    let fixture = Fixture::start().await?;
    for (search, field) in [
        (Search::new().finished(at(5)..at(5)), "time finished"),
        (Search::new().processed(at(5)..=at(4)), "time processed"),
        (Search::new().added(at(5)..at(0)), "time added"),
        (Search::new().attempts_made(3..3), "attempts made"),
    ] {
        let error = fixture
            .queue
            .search(search)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert_eq!(error, format!("{field} must not end before it begins"));
    }
    let error = "$.a ~ 1".parse::<DataCondition>().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Invalid {
                field: "data condition",
                ..
            }
        ),
        "{error}"
    );
    Ok(())
}

/// What is looked for may be as secret as the data, so that it is not shown.
#[test]
fn searches_are_not_shown() -> TestResult {
    let search = data(r#"$.token == "hunter2""#)?
        .name("hunter2")
        .failed_reason_contains("hunter2");
    let condition: DataCondition = r#"$.token == "hunter2""#.parse()?;
    assert!(!format!("{search:?} {condition:?}").contains("hunter2"));
    Ok(())
}

/// Data that JavaScript stores or a hand has spoiled: each condition holds for what the text says, and what says
/// nothing is counted and costs no other job its place among the matches.
#[tokio::test]
async fn odd_data_is_judged_by_what_it_says() -> TestResult {
    let fixture = Fixture::start().await?;
    let deep = format!("{{\"a\":1,\"b\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let odd: [(&str, &[u8], &str); 13] = [
        ("twice", br#"{"a":1,"a":2}"#, "$.a == 2"),
        (
            "big",
            br#"{"a":123456789012345678901234567890}"#,
            "$.a > 9007199254740993",
        ),
        (
            "long",
            br#"{"a":9007199254740993}"#,
            "$.a == 9007199254740993",
        ),
        ("minus", br#"{"a":-0.0}"#, "$.a == 0"),
        ("bytes", b"{\"a\":\"\xff\"}", "$.a == \"\u{fffd}\""),
        ("half", br#"{"a":"\ud83d"}"#, "$.a == \"\u{fffd}\""),
        (
            "names",
            br#"{"a.b":{"\"q\"":[{"\u00e9":1}]}}"#,
            r#"$["a.b"]["\"q\""][0].é == 1"#,
        ),
        ("empty", br#"{"":{"":[[1]]}}"#, r#"$[""][""][0][0] == 1"#),
        ("digits", br#"{"0":"x"}"#, r#"$["0"] == "x""#),
        ("null", b"null", "$ == null"),
        ("text", b"\"plain\"", "$ contains \"lai\""),
        ("number", b" 7 ", "$ == 7.0"),
        ("list", b"[1,[2,{\"a\":3}]]", "$[1][1].a == 3"),
    ];
    let unreadable: [(&str, &[u8]); 6] = [
        ("none", b""),
        ("nan", b"{\"a\":NaN}"),
        ("huge", b"{\"a\":1e999}"),
        ("open", b"{\"a\":2"),
        ("more", b"{\"a\":2} x"),
        ("deep", deep.as_bytes()),
    ];
    let all_jobs = odd.iter().map(|(id, data, _)| (id, data));
    for (id, data) in all_jobs.chain(unreadable.iter().map(|(id, data)| (id, data))) {
        fixture.add(id, JobOptions::new().id(*id)).await?;
        let key = format!("bull:q:{id}");
        let command: [&[u8]; 4] = [b"HSET", key.as_bytes(), b"data", data];
        fixture.server.cli(&command).await?;
    }
    for (id, _, condition) in odd {
        let mut stream = fixture.queue.search(data(condition)?)?;
        let mut found = Vec::new();
        while let Some(one) = stream.next().await {
            found.push(one?.job.id.as_str().to_owned());
        }
        assert!(found.contains(&id.to_owned()), "{condition}: {found:?}");
        let same = ["bytes", "half"].contains(&id) || found.len() == 1;
        let progress = stream.progress();
        assert!(same, "{condition}: {found:?}");
        // Nothing is BullMQ's text for `undefined`, and reads as null.
        assert!(
            (5..=6).contains(&progress.unreadable),
            "{condition}: {progress:?}"
        );
        assert_eq!((progress.scanned, progress.missing), (19, 0));
    }
    Ok(())
}
