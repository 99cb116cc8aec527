//! Turns picked at random by what the queue holds.

use fastrand::Rng;
use serde_json::json;

use super::turn::{Action, Turn, WORKERS};
use super::view::View;
use crate::roles::Side;
use crate::step::{End, Limit, Step};

/// Time limits of keys run on the server's clock, which no test stops: none may end meanwhile.
pub(super) const LONG: u64 = 200_000;

/// Picks turns.
pub(super) struct Generator {
    pub(super) rng: Rng,
    /// Whether real workers take part.
    works: bool,
    pub(super) turns: u32,
}

impl Generator {
    pub(super) fn new(seed: u64, works: bool) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            works,
            turns: 0,
        }
    }

    /// Picks a turn. `holder` knows who started a job.
    pub(super) fn turn(
        &mut self,
        view: &View<'_>,
        now: i64,
        holder: impl Fn(&str) -> Option<(String, &'static str)>,
    ) -> Turn {
        self.turns += 1;
        if self.turns == 1 && self.rng.u8(..) < 100 {
            let action = Action::Crowd(self.rng.u8(60..95));
            let (side, worker) = (Side::Node, "plain");
            return Turn {
                side,
                worker,
                action,
            };
        }
        let side = if self.rng.bool() {
            Side::Node
        } else {
            Side::Ox
        };
        let mut worker = match self.rng.u8(..) {
            0..150 => "plain",
            _ => self.rng.choice(WORKERS).map_or("plain", |(name, _)| name),
        };
        let action = self.action(view, now, &holder, &mut worker);
        Turn {
            side,
            worker,
            action,
        }
    }

    fn action(
        &mut self,
        view: &View<'_>,
        now: i64,
        holder: &impl Fn(&str) -> Option<(String, &'static str)>,
        worker: &mut &'static str,
    ) -> Action {
        let id = self.job(view);
        let roll = self.rng.u32(..1000);
        Action::Take(match roll {
            0..170 => self.add(view, now),
            170..200 => {
                let jobs = (0..self.rng.u8(1..5)).map(|_| self.add(view, now));
                let jobs: Vec<Step> = jobs.collect();
                Step::AddBulk(
                    jobs.into_iter()
                        .filter_map(|step| match step {
                            Step::Add { name, data, opts } => Some((name, data, opts)),
                            _ => None,
                        })
                        .collect(),
                )
            }
            200..240 => return self.flow(view),
            240..390 => {
                let token = format!("t{}", self.turns);
                if self.works && self.rng.bool() {
                    return Action::Work(self.script(view));
                }
                Step::Fetch { token }
            }
            390..560 => {
                let active = view.members("active");
                let Some(id) = self.pick(&active) else {
                    return Action::Pass(1);
                };
                let Some((token, by)) = holder(&id) else {
                    return Action::Pass(1);
                };
                *worker = by;
                if self.rng.u8(..) < 16 {
                    let millis = LONG;
                    Step::ExtendLock { id, token, millis }
                } else {
                    let (end, fetch_next) = self.end(now, view, &id);
                    Step::End {
                        id,
                        token,
                        end,
                        fetch_next,
                    }
                }
            }
            560..600 => Step::CheckStalled {
                tolerated: self.rng.u32(..3),
            },
            600..640 => {
                let active = view.members("active");
                return match self.pick(&active) {
                    Some(id) if self.rng.bool() => Action::Expire(format!("{id}:lock")),
                    _ => Action::Expire("stalled-check".to_owned()),
                };
            }
            640..660 if view.meta("paused").is_null() => Step::Pause,
            640..670 => Step::Resume,
            670..680 => Step::Drain {
                delayed: self.rng.bool(),
            },
            680..715 => Step::Remove {
                id,
                children: self.rng.bool(),
            },
            715..725 => Step::UpdateData {
                id,
                data: json!({ "v": self.rng.u8(..) }),
            },
            725..735 => Step::UpdateProgress {
                id,
                progress: json!(self.rng.u8(..100)),
            },
            735..745 => Step::Log {
                id,
                row: format!("row {}", self.turns),
                keep: self.rng.u32(..3),
            },
            745..780 => {
                let completed = self.rng.bool();
                let from = if completed { "completed" } else { "failed" };
                let Some(id) = self.pick(&view.members(from)) else {
                    return Action::Pass(1);
                };
                Step::Retry {
                    id,
                    completed,
                    reset_made: self.rng.bool(),
                    reset_started: self.rng.bool(),
                }
            }
            780..805 => Step::Promote {
                id: self.pick(&view.members("delayed")).unwrap_or(id),
            },
            805..825 => Step::ChangeDelay {
                id: self.pick(&view.members("delayed")).unwrap_or(id),
                millis: self.delay(),
            },
            825..850 => Step::ChangePriority {
                id,
                priority: self.rng.u32(..4),
                lifo: self.rng.u8(..) < 64,
            },
            850..856 => Step::DeduplicationOwner {
                id: self.deduplication_id(),
            },
            856..864 => Step::ReleaseDeduplication {
                id: self.deduplication_id(),
                owner: None,
            },
            864..870 => return Action::Expire(format!("de:{}", self.deduplication_id())),
            870..875 => Step::State { id },
            875..900 => self.upsert(now),
            900..908 => Step::RemoveScheduler {
                id: self.scheduler_id(),
            },
            908..911 => Step::GetScheduler {
                id: self.scheduler_id(),
            },
            911..914 => Step::ListSchedulers {
                start: 0,
                end: -1,
                asc: self.rng.bool(),
            },
            914..916 => Step::CountSchedulers,
            916..936 => Step::Limit(self.limit()),
            936..941 => return Action::Expire("limiter".to_owned()),
            941..946 => Step::Publish {
                event: "custom".to_owned(),
                fields: json!({ "n": self.turns.to_string() }),
                keep: 10_000,
            },
            946..950 => Step::TrimEvents {
                keep: self.rng.u64(..200),
            },
            _ => {
                let times = [1, 1, 100, 1000, 5000, 60_000];
                return Action::Pass(self.rng.choice(times).unwrap_or(1));
            }
        })
    }

    pub(super) fn pick(&mut self, from: &[String]) -> Option<String> {
        self.rng.choice(from).cloned()
    }

    /// A job that is there, or might be.
    pub(super) fn job(&mut self, view: &View<'_>) -> String {
        let jobs = view.jobs();
        match self.pick(&jobs) {
            Some(id) => id,
            None => self.new_id(),
        }
    }

    pub(super) fn new_id(&mut self) -> String {
        let ids = ["a", "b", "c", "d", "e", "f", "g", "h"];
        self.rng.choice(ids).unwrap_or("a").to_owned()
    }

    pub(super) fn deduplication_id(&mut self) -> String {
        self.rng.choice(["k1", "k2"]).unwrap_or("k1").to_owned()
    }

    pub(super) fn scheduler_id(&mut self) -> String {
        self.rng.choice(["s1", "s2"]).unwrap_or("s1").to_owned()
    }

    pub(super) fn delay(&mut self) -> u64 {
        self.rng.choice([0, 1, 100, 1000, 1000, 5000]).unwrap_or(0)
    }

    fn end(&mut self, now: i64, view: &View<'_>, id: &str) -> (End, bool) {
        let next = self.rng.u8(..) < 100;
        if view.is_parent(id) && self.rng.bool() {
            return (End::WaitForChildren, false);
        }
        match self.rng.u8(..) {
            0..130 => {
                let values = [
                    json!({ "ok": self.turns }),
                    json!(null),
                    json!(0),
                    json!("x"),
                ];
                let value = self.rng.choice(values).unwrap_or_default();
                (End::Complete(value), next)
            }
            130..215 => {
                let message = format!("failure {}", self.turns);
                let fatal = self.rng.u8(..) < 40;
                (End::Fail { message, fatal }, next)
            }
            215..235 => {
                let later = self.rng.choice([-1000, 0, 1000, 5000]).unwrap_or(0);
                (End::DelayUntil(now + later), false)
            }
            235..250 => (End::Release, false),
            _ => (End::RateLimited(LONG), false),
        }
    }

    fn limit(&mut self) -> Limit {
        let few = self.rng.u32(1..4);
        match self.rng.u8(..13) {
            0..2 => Limit::SetConcurrency(few),
            2..4 => Limit::RemoveConcurrency,
            4 => Limit::Concurrency,
            5 => Limit::IsMaxed,
            6 => Limit::SetRate(few, LONG),
            7 => Limit::RemoveRate,
            8 => Limit::Rate,
            9 => Limit::Impose(LONG),
            10 => Limit::Lift,
            11 => Limit::State(None),
            _ => Limit::State(Some(few)),
        }
    }
}
