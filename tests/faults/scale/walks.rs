//! A list is walked while others change it: no step searches it as a whole for where the step before has ended.

use std::collections::BTreeSet;

use oxbull_testkit::TestResult;

use crate::bounded::{JOB, MeteredQueue};

/// Jobs that are too young to be cleaned.
const YOUNG: usize = 20_000;

/// One step of a clean of `wait`, from where one before has ended. Returns how many ids it has looked at, how many
/// entries from the tail it has ended, at which id; and whether that is the end.
async fn step(b: &MeteredQueue, (behind, id): (i64, &str)) -> TestResult<(i64, i64, String, bool)> {
    let behind = match behind {
        0 => String::new(),
        behind => behind.to_string(),
    };
    let args = ["wait", "0", "-1", &behind, id, "1", "0"];
    let reply = b.script("clean", &["bull:q:"], &args).await?;
    let items = reply.items();
    let looked = items[1].int().ok_or("looked")?;
    let behind = items[3].text().unwrap_or_default().parse().unwrap_or(0);
    let id = items[4].text().unwrap_or_default();
    Ok((looked, behind, id, items[2].int() == Some(1)))
}

#[tokio::test]
async fn walk_finds_its_place_again_in_bounded_steps() -> TestResult {
    let b = MeteredQueue::start().await?;
    let jobs = format!(
        "local id = 'j' .. i {JOB} redis.call('HSET', B .. id, 'timestamp', '9000000000000')
        redis.call('LPUSH', B .. 'wait', id)"
    );
    b.fill(YOUNG, &jobs).await?;
    let (mut behind, mut id) = (0, String::new());
    while behind < 6_000 {
        let (looked, at, last, _) = step(&b, (behind, &id)).await?;
        assert_eq!((looked, at), (240, behind + 240));
        (behind, id) = (at, last);
    }
    assert_eq!(id, format!("j{behind}"));

    // Workers take jobs from the tail: the place has come nearer to it.
    b.server.cli(&["RPOP", "bull:q:wait", "500"]).await?;
    let (looked, at, last, _) = step(&b, (behind, &id)).await?;
    assert_eq!((looked, at), (240, behind - 500 + 240));
    assert_eq!(last, format!("j{}", behind + 240));
    // Others add some there.
    for n in 0..100 {
        let old = format!("old{n}");
        b.server.cli(&["RPUSH", "bull:q:wait", &old]).await?;
    }
    let (looked, at, _, _) = step(&b, (at, &last)).await?;
    assert_eq!((looked, at), (240, behind - 500 + 480 + 100));

    // The id is gone: it is looked for a thousand entries a step, and then the walk begins anew.
    let (mut behind, id) = (at, "nobody");
    let mut searches = 0;
    loop {
        let (looked, at, _, ended) = step(&b, (behind, id)).await?;
        assert!(!ended);
        if looked > 0 {
            assert_eq!(
                (looked, at),
                (60, 0),
                "ids without a job are old, and leave"
            );
            break;
        }
        assert!(at < behind && behind - at <= 1_000, "from {behind} to {at}");
        (behind, searches) = (at, searches + 1);
    }
    assert!(searches > 5, "{searches}");
    let searched = b.server.info("commandstats").await?;
    assert_eq!(searched.get("cmdstat_lpos"), None);
    Ok(())
}

/// Sessions of a user are used, and end, while they are listed page by page: none that stays is passed over.
#[tokio::test]
async fn sessions_that_move_are_listed() -> TestResult {
    let b = MeteredQueue::start().await?;
    let all = "redis.call('ZADD', 'session:u', 1000 + math.floor(i / 100), 'u:' .. i)
        redis.call('HSET', 'session:u:' .. i, 'created', 1, 'touched', 1, 'ends', 1)";
    b.fill(1_000, all).await?;
    let (mut last, mut ends) = (String::new(), String::new());
    let mut seen = BTreeSet::new();
    for page in 0.. {
        let args = ["session:", "5", "250", &last, &ends];
        let reply = b.script("kv/list_sessions", &["session:u"], &args).await?;
        let reply = reply.texts();
        seen.extend(reply[3..].iter().step_by(4).cloned());
        assert!(reply.len() <= 3 + 4 * 250);
        if reply[0] != "1" {
            break;
        }
        (last, ends) = (reply[1].clone(), reply[2].clone());
        // The last one of the page ends; one of the next page is used.
        let used = format!("u:{}", 300 + 250 * page);
        b.server.cli(&["ZADD", "session:u", "9000", &used]).await?;
        b.server.cli(&["ZREM", "session:u", &last]).await?;
    }
    assert_eq!(seen.len(), 1_000);
    Ok(())
}
