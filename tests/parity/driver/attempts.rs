//! Starting and ending single attempts.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::Driver;
use crate::step::{End, Step};

impl Driver {
    /// Starts the next job; answers what is known about it, null when nothing is ready.
    pub(crate) async fn fetch(&mut self, token: &str) -> TestResult<Value> {
        let token = token.to_owned();
        let started = self.take(self.roles.starts, Step::Fetch { token }).await?;
        self.started_by(&started, self.roles.starts);
        Ok(started)
    }

    /// Starts the next job, which must be the one named.
    pub(crate) async fn fetch_job(&mut self, token: &str, id: &str) -> TestResult {
        let started = self.fetch(token).await?;
        if started["id"] != id {
            return Err(format!("started {started}, not {id}").into());
        }
        Ok(())
    }

    pub(crate) async fn end(&mut self, id: &str, token: &str, end: End) -> TestResult<Value> {
        self.end_with(id, token, end, false).await
    }

    pub(crate) async fn complete(&mut self, id: &str, token: &str) -> TestResult<Value> {
        self.end(id, token, End::Complete(json!({ "ok": id })))
            .await
    }

    pub(crate) async fn fail(&mut self, id: &str, token: &str) -> TestResult<Value> {
        let message = format!("{id} went wrong");
        let fatal = false;
        self.end(id, token, End::Fail { message, fatal }).await
    }

    /// Ends an attempt and starts the next job in the same step.
    pub(crate) async fn end_and_fetch(
        &mut self,
        id: &str,
        token: &str,
        end: End,
    ) -> TestResult<Value> {
        self.end_with(id, token, end, true).await
    }

    pub(crate) async fn end_with(
        &mut self,
        id: &str,
        token: &str,
        end: End,
        fetch_next: bool,
    ) -> TestResult<Value> {
        let starter = self
            .starters
            .get(&(self.queue.clone(), id.to_owned()))
            .copied();
        // Options of a worker, and what it fetches next, belong to the worker that holds the job.
        let bound = fetch_next || !self.place().options.is_null();
        let side = match starter {
            Some(starter) if bound && self.implementation(starter).holds(&self.place(), id) => {
                starter
            }
            _ => self.roles.ends,
        };
        let step = Step::End {
            id: id.to_owned(),
            token: token.to_owned(),
            end,
            fetch_next,
        };
        let answer = self.take(side, step).await?;
        self.started_by(&answer, side);
        Ok(answer)
    }

    /// Fetches one job and completes it.
    pub(crate) async fn work_off(&mut self, id: &str) -> TestResult {
        self.fetch_job("work", id).await?;
        self.complete(id, "work").await?;
        Ok(())
    }

    pub(crate) async fn extend_lock(
        &mut self,
        id: &str,
        token: &str,
        millis: u64,
    ) -> TestResult<Value> {
        let step = Step::ExtendLock {
            id: id.to_owned(),
            token: token.to_owned(),
            millis,
        };
        self.take(self.roles.ends, step).await
    }

    pub(crate) async fn check_stalled(&mut self, tolerated: u32) -> TestResult<Value> {
        self.take(self.roles.starts, Step::CheckStalled { tolerated })
            .await
    }

    /// Two checks with the locks of `ids` gone between them: all of them are handed back.
    pub(crate) async fn stall(&mut self, ids: &[&str], tolerated: u32) -> TestResult<Value> {
        self.check_stalled(tolerated).await?;
        for id in ids {
            self.redis(&["DEL", &format!("{id}:lock")]).await?;
        }
        self.redis(&["DEL", "stalled-check"]).await?;
        self.check_stalled(tolerated).await
    }
}
