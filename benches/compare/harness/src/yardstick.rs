//! How many jobs a second this machine's Redis could do for a plain client: the rates of the load
//! workloads are shares of it, so that they are the same for all contestants.

use std::time::{Duration, Instant};

use compare_driver::Failure;
use oxbull_testkit::RedisServer;

/// About what a job cannot do without: one script to store and queue it, one to take and end it.
const SCRIPTS: [&str; 2] = [
    "local id = redis.call('INCR', 'id')
     redis.call('HSET', 'job:' .. id, 'name', 'job', 'data', ARGV[1], 'at', id, 'opts', '{}')
     redis.call('LPUSH', 'wait', id)
     redis.call('XADD', 'events', 'MAXLEN', '~', 10000, '*', 'event', 'added', 'id', id)
     return id",
    "local id = redis.call('RPOPLPUSH', 'wait', 'active')
     redis.call('HSET', 'job:' .. id, 'start', id)
     redis.call('LREM', 'active', 1, id)
     redis.call('ZADD', 'done', id, id)
     redis.call('HSET', 'job:' .. id, 'end', id, 'result', 'null')
     redis.call('XADD', 'events', 'MAXLEN', '~', 10000, '*', 'event', 'done', 'id', id)
     return id",
];

/// Measures it: jobs a second, one after another, two round trips each.
pub(crate) async fn measure(window: Duration) -> Result<f64, Failure> {
    let server = RedisServer::start().await?;
    let mut connection = server.connect().await?;
    let mut hashes = Vec::new();
    for script in SCRIPTS {
        let hash = connection.call(&["SCRIPT", "LOAD", script]).await?;
        hashes.push(hash.text().ok_or("no hash")?);
    }
    let data = "x".repeat(100);
    let start = Instant::now();
    let mut jobs = 0_u32;
    while start.elapsed() < window {
        for hash in &hashes {
            connection.call(&["EVALSHA", hash, "0", &data]).await?;
        }
        jobs += 1;
    }
    Ok(f64::from(jobs) / start.elapsed().as_secs_f64())
}
