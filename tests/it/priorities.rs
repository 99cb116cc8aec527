//! First in, first out among equal priorities, whatever the counter that orders them says.

use oxbull::{JobId, JobOptions, ManualWorker, QueuePosition};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;

/// Later ids come first where scores are the same.
fn id(n: usize) -> JobId {
    JobId::existing(format!("job-{:03}", 999 - n))
}

async fn count_from(fixture: &Fixture, count: &str) -> TestResult {
    fixture.server.cli(&["SET", "bull:q:pc", count]).await?;
    Ok(())
}

/// Fetches all jobs and compares their order with that of their numbers.
async fn expect_in_order(fixture: &Fixture, jobs: usize) -> TestResult {
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let mut order = Vec::new();
    while let Some(job) = worker.fetch("t").await? {
        order.push(job.id);
    }
    let expected: Vec<_> = (0..jobs).map(id).collect();
    assert_eq!(order, expected);
    Ok(())
}

/// Adds jobs in each of the ways that lead to a priority, in turn.
async fn add_in_every_way(fixture: &Fixture, priority: u32, jobs: usize) -> TestResult {
    let queue = &fixture.queue;
    for n in 0..jobs {
        let options = JobOptions::new().id(id(n));
        match n % 3 {
            0 => drop(fixture.add("tick", options.priority(priority)).await?),
            1 => {
                let delay = std::time::Duration::from_secs(900);
                let id = fixture
                    .add("tick", options.priority(priority).delay(delay))
                    .await?;
                queue.promote(&id).await?;
            }
            _ => {
                let id = fixture.add("tick", options).await?;
                queue
                    .change_priority(&id, priority, QueuePosition::Back)
                    .await?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn equals_keep_their_order_when_the_counter_passes_its_range() -> TestResult {
    let fixture = Fixture::start().await?;
    // The last number of the range, and what is before and after it.
    count_from(&fixture, "4294967285").await?;
    add_in_every_way(&fixture, 3, 40).await?;
    expect_in_order(&fixture, 40).await?;
    Ok(())
}

/// Numbers that are free are used before any job is renumbered; a more urgent job stays first.
#[tokio::test]
async fn neighbours_of_a_priority_are_left_alone() -> TestResult {
    let fixture = Fixture::start().await?;
    let options = |n: usize, priority| JobOptions::new().id(id(n)).priority(priority);
    count_from(&fixture, "4294967294").await?;
    fixture.add("tick", options(1, 2)).await?;
    fixture.add("tick", options(4, 3)).await?;
    fixture.add("tick", options(0, 1)).await?;
    fixture.add("tick", options(2, 2)).await?;
    fixture.add("tick", options(3, 2)).await?;
    fixture.add("tick", options(5, 3)).await?;
    expect_in_order(&fixture, 6).await
}

/// Old producers stored such priorities: the scores are beyond what is exact.
#[tokio::test]
async fn equals_of_the_largest_priorities_keep_their_order() -> TestResult {
    for priority in ["2097152", "3000000", "4194304"] {
        let fixture = Fixture::start().await?;
        for n in 0..20 {
            let delay = std::time::Duration::from_secs(900);
            let options = JobOptions::new().id(id(n)).delay(delay);
            let added = fixture.add("tick", options).await?;
            let key = format!("bull:q:{added}");
            fixture
                .server
                .cli(&["HSET", &key, "priority", priority])
                .await?;
            fixture.queue.promote(&added).await?;
        }
        expect_in_order(&fixture, 20).await?;
    }
    Ok(())
}

#[tokio::test]
async fn restarted_counter_lets_no_job_overtake() -> TestResult {
    let fixture = Fixture::start().await?;
    count_from(&fixture, "500").await?;
    for n in 0..6 {
        let options = JobOptions::new().id(id(n)).priority(7);
        fixture.add("tick", options).await?;
        if n == 2 {
            fixture.server.cli(&["SET", "bull:q:pc", "spoiled"]).await?;
        }
    }
    expect_in_order(&fixture, 6).await
}
