//! Looking at a queue.

use futures::TryStreamExt as _;
use oxbull::JobState;
use oxbull::inspect::{Exporter, JobOrder, MetricKind, Search};
use oxbull_testkit::TestResult;

use super::{JOB, MANY, MeteredQueue};

const ORDERS: [JobOrder; 2] = [JobOrder::Ascending, JobOrder::Descending];

/// Pages, searches and numbers of a queue that has 100,000 jobs in each of four states.
pub(super) async fn looked_at(b: &MeteredQueue) -> TestResult {
    let jobs = format!(
        "local id = 'w' .. i {JOB} redis.call('LPUSH', B .. 'wait', id) \
         id = 'd' .. i {JOB} redis.call('ZADD', B .. 'delayed', math.floor(i / 9000) * 4096, id) \
         redis.call('ZADD', B .. 'completed', i, 'c' .. i) redis.call('LPUSH', B .. 'active', 'a' .. i) \
         redis.call('RPUSH', B .. 'w1:logs', i) redis.call('RPUSH', B .. 'metrics:failed:data', i)"
    );
    b.fill(MANY, &jobs).await?;
    let states = [JobState::Waiting, JobState::Delayed, JobState::Completed];
    for (order, searched) in ORDERS.into_iter().zip(states) {
        for range in [0..100, 50_000..50_100, -100..-1] {
            b.queue.jobs(states, range, order).await?;
        }
        let ids = b.queue.job_ids(states, .., order).await?;
        assert_eq!(ids.len(), 3 * MANY);
        let search = Search::new()
            .states([searched])
            .order(order)
            .data("$.none exists".parse()?);
        let mut search = b.queue.search(search)?;
        assert!(search.try_next().await?.is_none());
        let progress = search.progress();
        assert_eq!((progress.scanned, progress.missing), (MANY as u64, 0));
    }
    b.queue.counts_by_priority(0..1_000).await?;
    b.queue.backlog().await?;
    let logs = b.queue.logs("w1", 0, -1).await?;
    assert_eq!(logs.rows.len(), MANY);
    let metrics = b.queue.metrics(MetricKind::Failed, ..).await?;
    assert_eq!(metrics.data.len(), MANY);
    assert_eq!(b.queue.activity().await?.active, MANY as u64);
    Exporter::new().queue(&b.queue).render().await?;
    Ok(())
}
