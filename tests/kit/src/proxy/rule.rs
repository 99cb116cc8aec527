//! What the proxy does to single commands.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Command;
use crate::{KitError, Result};

type Matcher = Arc<dyn Fn(&Command) -> bool + Send + Sync>;

/// What happens to the commands a rule is about, and to which of them.
///
/// Without a choice (`nth`, `every`, `chance`) it happens to all of them. Choices combine: each
/// has to agree.
#[derive(Clone)]
#[must_use]
pub struct Rule {
    matcher: Matcher,
    action: Action,
    nth: Option<u64>,
    every: Option<u64>,
    chance: Option<(Random, f64)>,
    times: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Delay(Duration),
    DelayReply(Duration),
    DropReply,
    SwallowReply,
    ResetBefore,
    ResetInside,
}

impl Rule {
    /// Lets Redis run the command, swallows its reply, and then resets the connection: the client
    /// cannot know whether the command ran.
    pub fn drop_reply(matcher: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Self {
        Self::new(matcher, Action::DropReply)
    }

    /// Lets Redis run the command, swallows its reply, and mutes the connection from then on
    /// without closing it.
    pub fn swallow_reply(matcher: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Self {
        Self::new(matcher, Action::SwallowReply)
    }

    /// Resets the connection before the command reaches Redis.
    pub fn reset_before(matcher: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Self {
        Self::new(matcher, Action::ResetBefore)
    }

    /// Lets Redis run the command, forwards the first half of its reply, and then resets the
    /// connection.
    pub fn reset_inside(matcher: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Self {
        Self::new(matcher, Action::ResetInside)
    }

    /// Holds the command, and those behind it on its connection, before it reaches Redis.
    pub fn delay(
        wait: Duration,
        matcher: impl Fn(&Command) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::new(matcher, Action::Delay(wait))
    }

    /// Lets Redis run the command, and holds its reply and those behind it.
    pub fn delay_reply(
        wait: Duration,
        matcher: impl Fn(&Command) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::new(matcher, Action::DelayReply(wait))
    }

    fn new(matcher: impl Fn(&Command) -> bool + Send + Sync + 'static, action: Action) -> Self {
        Self {
            matcher: Arc::new(matcher),
            action,
            nth: None,
            every: None,
            chance: None,
            times: None,
        }
    }

    /// Only the `n`-th matching command, counted from 1 since the rule was added.
    pub fn nth(mut self, n: u64) -> Self {
        self.nth = Some(n);
        self
    }

    /// Only every `k`-th matching command.
    pub fn every(mut self, k: u64) -> Self {
        self.every = Some(k.max(1));
        self
    }

    /// Only with a probability (0 to 1), from a sequence that `seed` decides.
    pub fn chance(mut self, seed: u64, probability: f64) -> Self {
        self.chance = Some((Random(seed), probability));
        self
    }

    /// At most `n` times.
    pub fn times(mut self, n: u64) -> Self {
        self.times = Some(n);
        self
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("action", &self.action)
            .field("nth", &self.nth)
            .field("every", &self.every)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// A rule in force; dropping the handle leaves it in force.
#[derive(Debug, Clone)]
pub struct RuleHandle {
    active: Arc<ActiveRule>,
    fired: watch::Receiver<u64>,
}

impl RuleHandle {
    /// How often the rule has acted. For replies, that is when the reply arrived from Redis.
    pub fn fired(&self) -> u64 {
        *self.fired.borrow()
    }

    /// How many commands have matched.
    pub fn matched(&self) -> u64 {
        lock(&self.active.state).matched
    }

    /// Waits until the rule has acted `n` times.
    ///
    /// # Errors
    /// It did not within `deadline`.
    pub async fn wait_fired(&self, n: u64, deadline: Duration) -> Result<()> {
        let mut fired = self.fired.clone();
        match tokio::time::timeout(deadline, fired.wait_for(|&count| count >= n)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(KitError::new(format!(
                "the proxy's rule acted {} times within {deadline:?}, not {n}; {} commands matched",
                self.fired(),
                self.matched(),
            ))),
        }
    }

    /// Takes the rule out of force.
    pub fn remove(&self) {
        lock(&self.active.state).removed = true;
    }
}

#[derive(Debug)]
struct ActiveRule {
    state: Mutex<State>,
    fired: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    rule: Rule,
    matched: u64,
    chosen: u64,
    removed: bool,
}

impl ActiveRule {
    /// The action for `command`, if the rule is about it.
    fn choose(&self, command: &Command) -> Option<Action> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        if state.removed || !(state.rule.matcher)(command) {
            return None;
        }
        state.matched += 1;
        let rule = &mut state.rule;
        // The draw comes first, so that one seed gives one sequence whatever else is chosen.
        let lucky = rule
            .chance
            .as_mut()
            .is_none_or(|(random, probability)| random.next() < *probability);
        let chosen = lucky
            && rule.nth.is_none_or(|n| state.matched == n)
            && rule.every.is_none_or(|k| state.matched.is_multiple_of(k))
            && rule.times.is_none_or(|most| state.chosen < most);
        if !chosen {
            return None;
        }
        state.chosen += 1;
        Some(rule.action)
    }
}

/// All rules of a proxy, in the order they were added.
#[derive(Debug, Default)]
pub(super) struct Rules(Mutex<Vec<Arc<ActiveRule>>>);

impl Rules {
    pub(super) fn add(&self, rule: Rule) -> RuleHandle {
        let (sender, receiver) = watch::channel(0);
        let active = Arc::new(ActiveRule {
            state: Mutex::new(State {
                rule,
                matched: 0,
                chosen: 0,
                removed: false,
            }),
            fired: sender,
        });
        lock(&self.0).push(Arc::clone(&active));
        RuleHandle {
            active,
            fired: receiver,
        }
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// What shall happen to `command`: delays add up, and of the rest the first rule wins.
    pub(super) fn judge(&self, command: &Command) -> Verdict {
        let mut verdict = Verdict::default();
        for active in lock(&self.0).iter() {
            let Some(action) = active.choose(command) else {
                continue;
            };
            match action {
                Action::Delay(wait) => {
                    verdict.delay += wait;
                    active.fired.send_modify(|count| *count += 1);
                }
                Action::DelayReply(wait) => {
                    verdict.reply_delay += wait;
                    verdict.on_reply.push(Arc::clone(active));
                }
                Action::ResetBefore => {
                    verdict.reset_before = true;
                    active.fired.send_modify(|count| *count += 1);
                }
                Action::DropReply => verdict.decide(ReplyFate::Drop, active),
                Action::SwallowReply => verdict.decide(ReplyFate::Swallow, active),
                Action::ResetInside => verdict.decide(ReplyFate::Halve, active),
            }
        }
        verdict
    }
}

/// What happens to one command and its reply.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) delay: Duration,
    pub(super) reset_before: bool,
    pub(super) reply_delay: Duration,
    pub(super) reply: ReplyFate,
    on_reply: Vec<Arc<ActiveRule>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyFate {
    #[default]
    Pass,
    Drop,
    Swallow,
    Halve,
}

impl Verdict {
    fn decide(&mut self, fate: ReplyFate, rule: &Arc<ActiveRule>) {
        if self.reply == ReplyFate::Pass {
            self.reply = fate;
            self.on_reply.push(Arc::clone(rule));
        }
    }

    /// Notifies the rules that the reply has arrived.
    pub(super) fn reply_arrived(&self) {
        for rule in &self.on_reply {
            rule.fired.send_modify(|count| *count += 1);
        }
    }
}

/// A small generator (splitmix64), so that a seed means the same everywhere.
#[derive(Debug, Clone, Copy)]
struct Random(u64);

impl Random {
    /// The next number, at least 0 and less than 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let top = u32::try_from(bits >> 32).unwrap_or_default();
        f64::from(top) / (f64::from(u32::MAX) + 1.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
