//! Real workers as drivers: they run until the queue has nothing more for them.

use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use super::Driver;
use crate::step::Step;

/// Says why a worker is not done with a queue yet; empty once it is.
/// KEYS the queue's base; ARGV now, the worker's own limit or 0, whether a handler limited the
/// rate, then the ids that others hold.
const BUSY: &str = r#"
local base, now, own, limited = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == "1"
local others = {}
for at = 4, #ARGV do
  others[ARGV[at]] = true
end
local active = redis.call("LRANGE", base .. "active", 0, -1)
for _, id in ipairs(active) do
  if not others[id] then
    return id .. " is active"
  end
end
if #redis.call("ZRANGE", base .. "delayed", "-inf", (now + 1) * 4096 - 1, "BYSCORE", "LIMIT", 0, 1) > 0 then
  return "jobs are due"
end
local meta = redis.call("HMGET", base .. "meta", "paused", "concurrency", "max")
if meta[1] or (meta[2] and #active >= tonumber(meta[2])) then
  return ""
end
local max = meta[3] and tonumber(meta[3]) or own
local limiter = base .. "limiter"
if redis.call("PTTL", limiter) > 0 then
  local reached = max > 0 and tonumber(redis.call("GET", limiter)) >= max
  if reached or limited then
    return ""
  end
end
if redis.call("LLEN", base .. "wait") + redis.call("ZCARD", base .. "prioritized") > 0 then
  return "jobs wait"
end
return ""
"#;

/// Leaves the wake-up that a worker leaves which gives it back.
/// KEYS the queue's base.
const SETTLE: &str = r#"
local base = KEYS[1]
redis.call("DEL", base .. "marker")
if redis.call("EXISTS", base .. "prioritized") == 0 then
  redis.call("DEL", base .. "pc")
end
if redis.call("LLEN", base .. "wait") + redis.call("ZCARD", base .. "prioritized") > 0 then
  local meta = redis.call("HMGET", base .. "meta", "paused", "concurrency")
  local full = meta[2] and redis.call("LLEN", base .. "active") >= tonumber(meta[2])
  if not meta[1] and not full then
    redis.call("ZADD", base .. "marker", 0, "0")
  end
else
  local due = redis.call("ZRANGE", base .. "delayed", 0, 0, "WITHSCORES")
  if due[2] then
    redis.call("ZADD", base .. "marker", due[2] / 4096, "1")
  end
end
"#;

impl Driver {
    /// Lets a real worker, the starter's, run until nothing is left for it; answers what its
    /// handlers saw and which events it emitted.
    pub(crate) async fn work(&mut self, script: Value) -> TestResult<Value> {
        self.start_work(script).await?;
        self.end_work(&[]).await
    }

    /// Starts a real worker with the current worker's options, one job at a time.
    pub(crate) async fn start_work(&mut self, script: Value) -> TestResult {
        self.worked = true;
        self.held_by_others = self.members("active").await?;
        let script = self.filled(script);
        self.take(self.roles.starts, Step::StartWork { script })
            .await?;
        Ok(())
    }

    /// Waits until a handler is at this gate of its script.
    pub(crate) async fn reach(&mut self, gate: &str) -> TestResult {
        let gate = gate.to_owned();
        let step = Step::Reach { gate };
        let reached = self.take(self.roles.starts, step.clone());
        match tokio::time::timeout(DEADLINE, reached).await {
            Ok(reached) => reached.map(drop),
            Err(_) => Err(format!("never came to {step:?}").into()),
        }
    }

    /// Lets the handler at this gate go on.
    pub(crate) async fn open_gate(&mut self, gate: &str) -> TestResult {
        let gate = gate.to_owned();
        self.take(self.roles.starts, Step::OpenGate { gate })
            .await?;
        Ok(())
    }

    /// Waits until nothing is left for the worker but what it cannot end (`left`), and ends it.
    pub(crate) async fn end_work(&mut self, left: &[&str]) -> TestResult<Value> {
        self.idle(left).await?;
        let mut answer = self.take(self.roles.starts, Step::EndWork).await?;
        // Whether the last fetch was answered before the worker was closed is up to chance.
        self.forget_drained(&mut answer);
        self.settle().await?;
        Ok(answer)
    }

    /// [`end_work`](Self::end_work) for a worker that has emitted `drained`.
    pub(crate) async fn end_drained_work(&mut self) -> TestResult<Value> {
        self.reach("drained").await?;
        self.idle(&[]).await?;
        let answer = self.take(self.roles.starts, Step::EndWork).await?;
        self.settle().await?;
        Ok(answer)
    }

    async fn idle(&mut self, left: &[&str]) -> TestResult {
        let place = self.place();
        let implementation = self.implementation(self.roles.starts);
        let base = self.key("");
        let now = self.now.to_string();
        let own = place.options["limiter"]["max"].as_u64().unwrap_or(0);
        let own = own.to_string();
        let server = self.fixture.server;
        let mut others = self.held_by_others.clone();
        others.extend(left.iter().map(|&id| id.to_owned()));
        eventually(DEADLINE, || async {
            let limited = implementation.take(&place, &Step::IsLimited).await;
            let limited = limited.map_err(|error| error.to_string())? == true;
            let mut command = vec!["EVAL", BUSY, "1", &base, &now, &own];
            command.push(if limited { "1" } else { "0" });
            command.extend(others.iter().map(String::as_str));
            let busy = server.text(&command).await.map_err(|e| e.to_string())?;
            match busy.as_deref() {
                Some("") => Ok(()),
                other => Err(other.unwrap_or_default().to_owned()),
            }
        })
        .await?;
        Ok(())
    }

    fn forget_drained(&mut self, answer: &mut Value) {
        let forget = |answer: &mut Value| {
            if let Some(emitted) = answer["emitted"].as_array_mut() {
                emitted.retain(|event| event != &json!(["drained"]));
            }
        };
        forget(answer);
        if let Some((_, logged)) = self.log.last_mut() {
            forget(logged);
        }
    }

    /// Which wake-ups a worker takes before it is closed, and whether it still looks at an empty
    /// queue (which resets the counter of priorities), is up to chance.
    async fn settle(&mut self) -> TestResult {
        let base = self.key("");
        let settled = self.redis.call(&["EVAL", SETTLE, "1", &base]).await?;
        match settled {
            oxbull_testkit::Value::Error(error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn members(&mut self, list: &str) -> TestResult<Vec<String>> {
        let key = self.key(list);
        Ok(self.redis.call(&["LRANGE", &key, "0", "-1"]).await?.texts())
    }
}
