//! A stored token that somebody has changed.

use super::*;

/// A token that was tampered with is neither used nor taken for a missing one, whichever part was changed: no seller is
/// told, the reason and the program `graph-tokens` say what to do, and putting it again heals the account.
#[tokio::test]
async fn spoiled_token_is_told_apart_from_a_missing_one() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.simulator.add_token(ACCOUNT, "IGs3cret");
    fixture.put(ACCOUNT, "IGs3cret").await?;
    let kv = fixture.redis.client.kv();
    let sealed = kv.hget_text("token:instagram", ACCOUNT).await?.unwrap();
    let middle = sealed.len() - 10;
    let other = if &sealed[middle..=middle] == "A" {
        "B"
    } else {
        "A"
    };
    let mut changed = sealed.clone();
    changed.replace_range(middle..=middle, other);
    // A missing token would be told at once, and fail the post.
    let mut publisher = fixture
        .publisher()
        .env("MISSING_TOKEN_MAX_MS", "0")
        .spawn()?;
    let mut jobs = Vec::new();
    for (account, spoiled) in [
        (ACCOUNT, changed.as_str()),
        (OTHER, &sealed[..sealed.len() / 2]),
        ("plain", "IGs3cret"),
    ] {
        kv.hset_text("token:instagram", account, spoiled).await?;
        let id = fixture.add(account).await?;
        let (job, reason) = fixture.waits_for_token(&id).await?;
        assert_eq!(job.attempts_made, 0);
        assert!(reason.contains("cannot be opened"), "{reason}");
        assert!(reason.contains("put the token again"), "{reason}");
        assert!(!reason.contains("s3cret"), "{reason}");
        jobs.push(id);
    }
    assert!(fixture.subscriber.notices(USER).is_empty());
    assert!(fixture.simulator.counters().accounts.is_empty());
    let (_, list, _) = tokens_command(&fixture.redis, K1, &["list", "--json"], "").await?;
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(!list.contains("s3cret"), "{list}");

    fixture.put(ACCOUNT, "IGs3cret").await?;
    reaches(&fixture.queue, &jobs[0], JobState::Completed).await?;
    publisher.kill().await?;
    Ok(())
}
