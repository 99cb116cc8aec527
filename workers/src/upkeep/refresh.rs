//! Refreshing stored tokens before they end.

use std::time::Duration;

use metrics::{counter, gauge};
use oxbull::client::Client;

use crate::app::problems::with_causes;
use crate::graph::{
    AccessTokens, AccountId, Cooldowns, Failure, GraphClient, GraphError, StoredToken, TokenEntry,
    TokenKind, TokenStore,
};
use crate::notify::{AccountNotice, Notifier, prolong_claim, reconnect_claim};

/// Counts refreshes by result.
const REFRESHES: &str = "graph_token_refreshes_total";

/// Stored tokens by state.
const TOKENS: &str = "graph_tokens";

/// The API refreshes no token that is younger.
const YOUNGEST: Duration = Duration::from_secs(24 * 3600);

/// When a token that cannot be refreshed ends sooner than this, its account's owner is told even though
/// the failure may pass.
const LAST_CHANCE: Duration = Duration::from_secs(7 * 24 * 3600);

const DAY: u64 = 24 * 3600;

/// When stored tokens are refreshed.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Refreshing tokens of Instagram Login")]
pub struct RefreshSettings {
    /// Days before its end from which a token of the store is refreshed; tokens last for 60
    #[arg(long, env = "TOKEN_REFRESH_DAYS", value_name = "TOKEN_REFRESH_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=59))]
    refresh_days: u64,
    /// Seconds between two looks at the store, and between two tries for one account by all workers
    #[arg(long, env = "TOKEN_REFRESH_INTERVAL", value_name = "TOKEN_REFRESH_INTERVAL", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    refresh_interval: u64,
}

impl RefreshSettings {
    /// A refresher of the tokens' store; `None` without one. A request to the API takes `deadline` at most.
    pub fn refresher(
        &self,
        client: &Client,
        tokens: &AccessTokens,
        graph: &GraphClient,
        deadline: Duration,
    ) -> Option<TokenRefresher> {
        let interval = Duration::from_secs(self.refresh_interval);
        Some(TokenRefresher {
            store: tokens.store()?.clone(),
            tokens: tokens.clone(),
            graph: graph.clone(),
            cooldowns: Cooldowns::new(client.clone()),
            notifier: Notifier::new(client.clone()),
            before: Duration::from_secs(self.refresh_days * DAY),
            interval,
            // Two requests, so that nobody else begins while this one may still be at it.
            claim: interval.max(deadline.saturating_mul(3)),
        })
    }
}

/// Refreshes the tokens of the store that are about to end. Several processes may run one each: a claim in
/// Redis lets one of them try for an account at a time.
#[derive(Debug)]
pub struct TokenRefresher {
    store: TokenStore,
    tokens: AccessTokens,
    graph: GraphClient,
    cooldowns: Cooldowns,
    notifier: Notifier,
    before: Duration,
    interval: Duration,
    claim: Duration,
}

/// What a stored token needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Valid,
    Due,
    Ended,
    WrongLogin,
    Unreadable,
}

impl State {
    const ALL: [Self; 5] = [
        Self::Valid,
        Self::Due,
        Self::Ended,
        Self::WrongLogin,
        Self::Unreadable,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Due => "due",
            Self::Ended => "ended",
            Self::WrongLogin => "wrong_login",
            Self::Unreadable => "unreadable",
        }
    }
}

impl TokenRefresher {
    /// Works until it is dropped.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.sweep().await {
                let error = with_causes(&error);
                tracing::warn!(error, "the stored tokens could not be looked at");
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    /// Looks at all tokens once, and refreshes those that are due.
    async fn sweep(&self) -> oxbull::Result<()> {
        let mut counts = State::ALL.map(|state| (state, 0_u32));
        let mut cursor = 0;
        loop {
            let (next, entries) = self.store.page(cursor).await?;
            for entry in &entries {
                let state = self.look(entry).await?;
                for (counted, count) in &mut counts {
                    *count += u32::from(*counted == state);
                }
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
        for (state, count) in counts {
            gauge!(TOKENS, "state" => state.label()).set(f64::from(count));
        }
        Ok(())
    }

    async fn look(&self, entry: &TokenEntry) -> oxbull::Result<State> {
        let account = &entry.account;
        let Ok(id) = AccountId::new(account.as_str()) else {
            return Ok(State::Unreadable);
        };
        let token = match &entry.token {
            Ok(token) => token,
            Err(problem) => {
                tracing::warn!(account, %problem, "a stored token cannot be opened");
                return Ok(State::Unreadable);
            }
        };
        if let Some(login) = self
            .tokens
            .login()
            .filter(|login| !login.takes(&token.token))
        {
            let kind = token.token.kind();
            tracing::warn!(account, "the store has {kind}, which {login} does not take");
            return Ok(State::WrongLogin);
        }
        let now = self.store.now().as_millis();
        let state = state(token, now, self.before);
        match state {
            State::Due => self.refresh(&id, entry, token).await?,
            State::Ended => {
                // Nothing works without it, so whoever finds out tells it.
                let claim = reconnect_claim(id.as_str());
                let reason = "the account's access has expired";
                self.tell(&id, token, &claim, reason).await;
            }
            State::Valid | State::WrongLogin | State::Unreadable => {}
        }
        Ok(state)
    }

    async fn refresh(
        &self,
        account: &AccountId,
        entry: &TokenEntry,
        old: &StoredToken,
    ) -> oxbull::Result<()> {
        if self.cooldowns.for_reading(account).await?.is_some()
            || !self.store.claim_refresh(account, self.claim).await?
        {
            return Ok(());
        }
        let refreshed = self
            .graph
            .account(account, &old.token)
            .refresh_token()
            .await;
        let now = self.store.now().as_millis();
        match refreshed {
            Ok(refreshed) => {
                let new = StoredToken {
                    expires_at: Some(now.saturating_add(refreshed.expires_in.saturating_mul(1000))),
                    refreshed_at: Some(now),
                    token: refreshed.token,
                    ..old.clone()
                };
                // A seller who connected meanwhile has put a token that is better than this one.
                let replaced = self.store.replace(entry, &new).await?;
                counter!(REFRESHES, "result" => "refreshed").increment(1);
                tracing::info!(%account, replaced, "the account's token was refreshed");
            }
            Err(error) => self.failed(account, old, &error, now).await,
        }
        Ok(())
    }

    async fn failed(&self, account: &AccountId, token: &StoredToken, error: &GraphError, now: i64) {
        let understood = self
            .tokens
            .not_understood(account, &token.token, error)
            .is_none();
        let refused = understood
            && matches!(
                error.failure(),
                Failure::ExpiredToken | Failure::MissingPermission
            );
        let result = if refused { "refused" } else { "failed" };
        counter!(REFRESHES, "result" => result).increment(1);
        let error = with_causes(error);
        tracing::warn!(%account, error, expires_at = token.expires_at, "the account's token was not refreshed");
        let left = token.expires_at.map(|end| end.saturating_sub(now));
        let ends_soon = left.is_some_and(|left| left <= millis(LAST_CHANCE));
        if refused || ends_soon {
            let reason = format!("the account's access could not be prolonged: {error}");
            let claim = prolong_claim(account.as_str(), token.expires_at, token.obtained_at);
            self.tell(account, token, &claim, &reason).await;
        }
    }

    /// Tells the account's owner, once a week under this claim.
    async fn tell(&self, account: &AccountId, token: &StoredToken, claim: &str, reason: &str) {
        let Some(user) = &token.user_id else {
            tracing::warn!(%account, reason, "the account has to be connected again, and its token names no user to notify");
            return;
        };
        let notice = AccountNotice::Reconnect {
            account_id: account.to_string(),
            reason: format!("{reason}; reconnect the account"),
            at: self.store.now().as_millis(),
        };
        match self.notifier.notify_once(claim, user, &notice).await {
            Ok(true) => tracing::warn!(%account, reason, "the account has to be connected again"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, %account, "the user is not notified yet"),
        }
    }
}

/// What a token needs `before` its end.
fn state(token: &StoredToken, now: i64, before: Duration) -> State {
    let left = token.expires_at.map(|end| end.saturating_sub(now));
    if left.is_some_and(|left| left <= 0) {
        return State::Ended;
    }
    let refreshable = token.token.kind() == TokenKind::InstagramUser;
    let since = token.refreshed_at.or(token.obtained_at);
    let young = since.is_some_and(|since| now.saturating_sub(since) < millis(YOUNGEST));
    // Without a known end it is refreshed as soon as it can be: the answer has one.
    let ending = left.is_none_or(|left| left <= millis(before));
    if refreshable && ending && !young {
        State::Due
    } else {
        State::Valid
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::AccessToken;

    const HOURS: i64 = 3_600_000;
    const DAYS: i64 = 24 * HOURS;

    /// Tokens of Instagram Login are refreshed in time, and not before the API does it; others never.
    #[test]
    fn tokens_are_due_before_they_end_and_not_when_they_are_young() {
        let before = Duration::from_secs(30 * DAY);
        for (token, obtained, refreshed, ends, needs) in [
            ("IGx", Some(-31 * DAYS), None, Some(29 * DAYS), State::Due),
            ("IGx", Some(-29 * DAYS), None, Some(31 * DAYS), State::Valid),
            (
                "IGx",
                Some(-90 * DAYS),
                Some(-23 * HOURS),
                Some(DAYS),
                State::Valid,
            ),
            (
                "IGx",
                Some(-90 * DAYS),
                Some(-24 * HOURS),
                Some(DAYS),
                State::Due,
            ),
            ("IGx", Some(-25 * HOURS), None, None, State::Due),
            ("IGx", Some(-23 * HOURS), None, None, State::Valid),
            ("IGx", None, None, None, State::Due),
            ("IGx", Some(-61 * DAYS), None, Some(-1), State::Ended),
            ("EAAx", Some(-61 * DAYS), None, Some(-1), State::Ended),
            ("EAAx", Some(-61 * DAYS), None, Some(DAYS), State::Valid),
            ("x", None, None, None, State::Valid),
        ] {
            let mut stored = StoredToken::new(AccessToken::new(token));
            stored.obtained_at = obtained;
            stored.refreshed_at = refreshed;
            stored.expires_at = ends;
            let shown = format!("{token} {obtained:?} {refreshed:?} {ends:?}");
            assert_eq!(state(&stored, 0, before), needs, "{shown}");
        }
    }
}
