//! Everybody who runs a sequence, turn by turn: BullMQ alone, this library alone, both mixed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::known;
use super::turn::{Action, Turn, WORKERS};
use super::view::{QUEUE, View};
use crate::driver::Driver;
use crate::fixture::Fixture;
use crate::roles::{MIXED, OWN, REFERENCE};
use crate::snapshot::Snapshot;
use crate::step::Step;

/// The drivers of one sequence, and what the reference has left so far.
pub(super) struct Drivers {
    reference: Driver,
    others: [Driver; 2],
    pub(super) seen: Snapshot,
    /// Who holds a started job: token and worker.
    pub(super) held: BTreeMap<String, (String, &'static str)>,
    /// Workers that met a rate limit: BullMQ's do not ask again before it has ended.
    limited: BTreeSet<&'static str>,
    /// Whether the event stream is trimmed while the sequence lasts.
    crowded: bool,
    /// Whether a real worker has run.
    worked: bool,
}

impl Drivers {
    pub(super) async fn start(fixture: &Arc<Fixture>, name: &str) -> TestResult<Self> {
        let mut reference = Driver::new(Arc::clone(fixture), name, REFERENCE).await?;
        Ok(Self {
            seen: reference.snapshot().await?,
            reference,
            others: [
                Driver::new(Arc::clone(fixture), name, OWN).await?,
                Driver::new(Arc::clone(fixture), name, MIXED).await?,
            ],
            held: BTreeMap::new(),
            limited: BTreeSet::new(),
            crowded: false,
            worked: false,
        })
    }

    pub(super) fn now(&self) -> i64 {
        self.reference.now()
    }

    /// Says whether a turn can be taken now: its worker holds the job, and no difference is known.
    pub(super) fn accepts(&self, turn: &Turn) -> bool {
        let view = View(&self.seen);
        if let Action::Take(Step::End { id, token, .. } | Step::ExtendLock { id, token, .. }) =
            &turn.action
        {
            let holder = self.held.get(id);
            if holder != Some(&(token.clone(), turn.worker)) || view.state(id) != Some("active") {
                return false;
            }
        }
        if matches!(turn.action, Action::Take(Step::Fetch { .. }))
            && self.limited.contains(turn.worker)
        {
            return false;
        }
        !known::differs(turn, &view, self.now())
    }

    /// Lets everybody take a turn. Answers where they differ from the reference, if they do.
    pub(super) async fn take(&mut self, turn: &Turn) -> TestResult<Option<String>> {
        let [own, mixed] = &mut self.others;
        mixed.act_as(turn.side);
        let (answer, ours, theirs) = futures::join!(
            take(&mut self.reference, turn),
            take(own, turn),
            take(mixed, turn),
        );
        self.worked |= matches!(turn.action, Action::Work(_));
        self.crowded |= matches!(turn.action, Action::Crowd(_));
        let level = known::levels_marker(turn, &View(&self.seen));
        let seen = self.reference.snapshot().await?;
        let mut found: Vec<(&str, String)> = Vec::new();
        for (name, driver, trace) in [("ox", own, ours), ("mixed", mixed, theirs)] {
            let mut text = String::new();
            if trace != answer {
                writeln!(
                    text,
                    "  answer\n    reference: {answer}\n    here:      {trace}"
                )
                .ok();
            }
            let mut left = driver.snapshot().await?;
            if level && left.value("q:marker") != seen.value("q:marker") {
                level_marker(driver, &seen).await?;
                left = driver.snapshot().await?;
            }
            if self.worked {
                left = without_a_reader(driver, left, &seen).await?;
            }
            let mut reference = seen.clone();
            if self.crowded {
                // "trims the event stream with more operations"
                left.level_stream("q:events", &mut reference);
            }
            text.push_str(&left.difference(&reference).unwrap_or_default());
            if !text.is_empty() {
                found.push((name, text));
            }
        }
        self.seen = seen;
        self.remember(turn, &answer);
        Ok(match &found[..] {
            [] => None,
            [(_, ox), (_, mixed)] if ox == mixed => Some(format!("ox and mixed:\n{ox}")),
            all => {
                let all = all.iter().map(|(name, text)| format!("{name}:\n{text}"));
                let all: Vec<_> = all.collect();
                Some(all.join(""))
            }
        })
    }

    fn remember(&mut self, turn: &Turn, answer: &Value) {
        let token = match &turn.action {
            Action::Take(Step::Fetch { token }) => {
                if answer.is_null() && View(&self.seen).has("limiter") {
                    self.limited.insert(turn.worker);
                }
                token
            }
            Action::Take(Step::End { id, token, .. }) => {
                if answer.get("refused").is_none() {
                    self.held.remove(id);
                }
                token
            }
            _ => return,
        };
        if let Some(id) = answer["id"].as_str() {
            self.held
                .insert(id.to_owned(), (token.clone(), turn.worker));
        }
    }

    /// Gives up what was opened, and deletes what was left.
    pub(super) async fn close(self) -> TestResult {
        let [own, mixed] = self.others;
        for mut driver in [self.reference, own, mixed] {
            driver.clear().await?;
            driver.finish().await?;
        }
        Ok(())
    }
}

/// Takes a turn. Errors that are no refusals are answers too: what fails for one fails for all.
async fn take(driver: &mut Driver, turn: &Turn) -> Value {
    let options = WORKERS.iter().find(|(name, _)| *name == turn.worker);
    let options = options.and_then(|(_, options)| serde_json::from_str(options).ok());
    driver.worker(turn.worker, options.unwrap_or_default());
    let trace = match &turn.action {
        Action::Take(Step::Fetch { token }) => driver.fetch(token).await,
        Action::Take(Step::End {
            id,
            token,
            end,
            fetch_next,
        }) => driver.end_with(id, token, end.clone(), *fetch_next).await,
        Action::Take(step) => driver.act(step.clone()).await,
        Action::Flow { id, opts, children } => driver
            .flow(id, opts.clone(), children.clone())
            .await
            .map(|()| Value::Null),
        Action::Pass(millis) => driver.pass(*millis).await.map(|()| Value::Null),
        Action::Crowd(events) => crowd(driver, *events).await.map(|()| Value::Null),
        Action::Expire(key) => driver.redis(&["DEL", key]).await.map(|()| Value::Null),
        Action::Work(script) => driver.work(script.clone()).await,
    };
    match trace {
        Ok(answer) => driver.neutral(answer),
        Err(error) if matches!(turn.action, Action::Work(_)) => {
            json!({ "error": error.to_string() })
        }
        Err(_) => json!({ "error": "refused" }),
    }
}

async fn crowd(driver: &mut Driver, events: u8) -> TestResult {
    let few = ["HSET", "meta", "opts.maxLenEvents", "10"];
    driver.redis(&few).await?;
    for _ in 0..events {
        driver
            .redis(&["XADD", "events", "*", "event", "old"])
            .await?;
    }
    Ok(())
}

/// A worker that was closed may still take a wake-up, and gives it back at once.
async fn without_a_reader(
    driver: &mut Driver,
    mut left: Snapshot,
    seen: &Snapshot,
) -> TestResult<Snapshot> {
    for _ in 0..50 {
        if left.value("q:marker") == seen.value("q:marker") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        left = driver.snapshot().await?;
    }
    Ok(left)
}

/// Gives a driver's queue the marker of the reference, where one of its members is extra.
async fn level_marker(driver: &mut Driver, seen: &Snapshot) -> TestResult {
    let marker = seen.value(&format!("{QUEUE}:marker"));
    driver.redis(&["DEL", "marker"]).await?;
    let members: Vec<&str> = marker
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for member in members.chunks_exact(2) {
        driver
            .redis(&["ZADD", "marker", member[1], member[0]])
            .await?;
    }
    Ok(())
}
