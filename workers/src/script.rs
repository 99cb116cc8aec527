//! Small changes of several steps that Redis carries out as one, for which the client has no call.

use std::time::Duration;

use oxbull::client::Client;
use oxbull::{BoxError, Error};
use redis::{FromRedisValue, RedisResult, ScriptInvocation, ToRedisArgs};
use tokio::time::timeout;

/// How long one round trip may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Runs a script on one key of the queues' server. Every script used here may run again after a
/// lost answer.
pub(crate) async fn eval<T: FromRedisValue>(
    client: &Client,
    script: &str,
    key: &str,
    arguments: impl ToRedisArgs,
) -> Result<T, BoxError> {
    let mut connection = client.raw().await?;
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(1).arg(key).arg(arguments);
    within_deadline(command.query_async(&mut connection)).await
}

/// Runs a script with its keys and arguments on the queues' server, by its hash. The same holds.
pub(crate) async fn invoke<T: FromRedisValue>(
    client: &Client,
    call: &ScriptInvocation<'_>,
) -> Result<T, BoxError> {
    let mut connection = client.raw().await?;
    within_deadline(call.invoke_async(&mut connection)).await
}

/// A server that is silent is away, which says nothing against what was asked for.
async fn within_deadline<T>(answer: impl Future<Output = RedisResult<T>>) -> Result<T, BoxError> {
    match timeout(DEADLINE, answer).await {
        Ok(answer) => Ok(answer?),
        Err(late) => Err(Error::Indeterminate(late.into()).into()),
    }
}
