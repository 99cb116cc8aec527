//! Small changes of several steps that Redis carries out as one, for which the client has no call.

use std::time::Duration;

use oxbull::BoxError;
use oxbull::client::Client;
use redis::{FromRedisValue, ScriptInvocation, ToRedisArgs};
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
    Ok(timeout(DEADLINE, command.query_async(&mut connection)).await??)
}

/// Runs a script with its keys and arguments on the queues' server, by its hash. The same holds.
pub(crate) async fn invoke<T: FromRedisValue>(
    client: &Client,
    call: &ScriptInvocation<'_>,
) -> Result<T, BoxError> {
    let mut connection = client.raw().await?;
    Ok(timeout(DEADLINE, call.invoke_async(&mut connection)).await??)
}
