//! Sessions, values, rate limits and cached answers.

use oxbull_testkit::TestResult;

use super::{MANY, MeteredQueue};

/// 100,000 sessions of one user, half of them over; and a large hash.
pub(super) async fn sessions(b: &MeteredQueue) -> TestResult {
    let all = "redis.call('ZADD', 'session:u', i, 'u:' .. i)
        redis.call('HSET', 'session:u:' .. i, 'data', 'd', 'version', 'v', 'created', 1, 'touched', 1, 'ends', i)";
    b.fill(MANY, all).await?;
    let (now, ends) = ("50000", "1000000");
    let index = "session:u";
    let create = async |refuse: &str| {
        let args = ["session:", "u:new", "d", "v1", now, ends, "10", refuse];
        b.script("kv/create_session", &["session:u:new", index], &args)
            .await
    };
    create("1").await?;
    let page = async |last: &str, ends: &str| {
        let args = ["session:", now, "250", last, ends];
        b.script("kv/list_sessions", &[index], &args).await
    };
    let first = page("", "").await?.texts();
    assert_eq!(first.len(), 3 + 250 * 4);
    page(&first[1], &first[2]).await?;
    let key = "session:u:99990";
    b.script(
        "kv/touch_session",
        &[key, index],
        &["u:99990", now, "99990"],
    )
    .await?;
    b.script(
        "kv/save_session",
        &[key, index],
        &["u:99990", "d2", "v", "v2", now, now, "99990"],
    )
    .await?;
    b.script("kv/reseal_session", &[key], &["d2", "d3"]).await?;
    let rotated = ["u:99990", "u:r", "d", "v2", "v3", now, ends];
    b.script("kv/rotate_session", &[key, "session:u:r", index], &rotated)
        .await?;
    b.script("kv/destroy_session", &["session:u:r"], &["u:r"])
        .await?;
    while create("0").await?.text().as_deref() == Some("more") {}
    b.fill(MANY, all).await?;
    loop {
        let reply = b
            .script("kv/destroy_sessions", &[index], &["session:", "u:7", "250"])
            .await?;
        if reply.items()[1].int() == Some(0) {
            break;
        }
    }
    b.fill(1, "redis.call('SET', 'state', 'b.sealed')").await?;
    b.script("kv/swap", &["state"], &["b.sealed", "b.new"])
        .await?;
    b.script("kv/take_state", &["state"], &["b"]).await?;
    Ok(())
}

/// Windows with 100,000 entries that are over, and a tag of 100,000 cached answers.
pub(super) async fn windows(b: &MeteredQueue) -> TestResult {
    let all = "redis.call('ZADD', 'log', i, i .. '-1')
        redis.call('ZADD', 'tag', i, 'e' .. i) redis.call('SET', 'api:e' .. i, 'body')";
    b.fill(MANY, all).await?;
    for _ in 0..3 {
        b.script(
            "kv/sliding_window",
            &["log"],
            &["10000", "1000", "200000", "1000", "1000", "0"],
        )
        .await?;
    }
    b.script("kv/fixed_window", &["window"], &["10", "1", "1000", "0"])
        .await?;
    b.script(
        "kv/token_bucket",
        &["bucket"],
        &["10", "1", "1000", "1", "1", "1000", "0"],
    )
    .await?;
    b.script("kv/hold_off", &["hold"], &["10", "1000"]).await?;
    b.script(
        "kv/cache_claim",
        &["api:b", "api:r", "api:l"],
        &["t", "1000"],
    )
    .await?;
    let keys = ["api:b", "api:r", "api:s", "api:l", "tag", "mark"];
    let args = ["t", "1", "200000", "1000", "0", "e", "head", "", "body"];
    b.script("kv/cache_store", &keys, &args).await?;
    b.script("kv/release", &["api:l"], &["t"]).await?;
    b.script("kv/claim", &["claim"], &["owner", "1000"]).await?;
    loop {
        let reply = b
            .script(
                "kv/cache_invalidate",
                &["tag", "mark"],
                &["1", "1000", "200"],
            )
            .await?;
        if reply.items()[1].int() == Some(0) {
            break;
        }
    }
    let kv = b.client.kv();
    b.fill(MANY, "redis.call('SET', 'k' .. i, '1')").await?;
    let mut keys = kv.keys("k*");
    while let Some(page) = keys.next().await {
        page?;
    }
    Ok(())
}
