//! New jobs: spec producing §2 to §5, layout §4 to §7.

use serde_json::json;

use crate::TestResult;
use crate::player::Player;
use crate::stage::play;

play!(everyone: one_job_is_added_started_and_completed);

async fn one_job_is_added_started_and_completed(q: &mut Player) -> TestResult {
    q.add_data("a", json!({ "x": 1 }), json!({})).await?;
    q.expect("wait", json!(["1"])).await?;
    q.expect("marker", json!(["0", "0"])).await?;
    q.pass(5).await?;
    q.fetch_job("t", "1").await?;
    q.pass(5).await?;
    q.complete("1", "t").await?;
    q.expect("completed", json!(["1", "1700000000010"])).await
}
