//! Which token an account's requests are made with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;

use super::{
    AccessToken, AccountId, GraphError, GraphLogin, TokenFile, TokenKind, TokenStore,
    TokenStoreError, UnreadableToken,
};

/// Counts requests that were not made for want of a token.
pub(crate) const UNUSABLE: &str = "graph_tokens_unusable_total";

/// For how long a missing token postpones jobs by default: a seller who connects is done by then.
const MISSING_MAX: Duration = Duration::from_secs(3600);

/// How long a token of the store is used before it is read again.
const CACHED_FOR: Duration = Duration::from_secs(10);

/// Tokens in the cache at most; beyond it the cache starts anew.
const CACHED_MOST: usize = 10_000;

/// How often the log repeats that an account lacks a usable token.
const LOG_EVERY: Duration = Duration::from_secs(600);

/// Accounts' tokens, from the first of these that has one: the sealed store in Redis, the file, the
/// environment. Cheap to clone; clones share what they know.
///
/// Jobs never carry tokens, since job data is clear text in Redis.
#[derive(Debug, Clone, Default)]
pub struct AccessTokens {
    store: Option<TokenStore>,
    file: Option<TokenFile>,
    by_account: HashMap<AccountId, AccessToken>,
    shared: Option<AccessToken>,
    login: Option<GraphLogin>,
    missing_max: Option<Duration>,
    known: Arc<Mutex<Known>>,
}

/// What is known of accounts for a while.
#[derive(Debug, Default)]
struct Known {
    stored: HashMap<AccountId, (Instant, AccessToken)>,
    logged: HashMap<AccountId, Instant>,
}

/// Why there is no token to make a request with. None of these is something that reconnecting repairs,
/// but [`Missing`](Self::Missing) when it lasts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// No source has a token for the account: it may be about to be connected.
    #[error("there is no access token for account {0}")]
    Missing(AccountId),
    /// The token belongs to the other login, whose host would not know it.
    #[error("account {account} has {kind}, which {login} does not take: {}", login.remedy())]
    WrongLogin {
        /// The account.
        account: AccountId,
        /// What its token is.
        kind: TokenKind,
        /// The login in use.
        login: GraphLogin,
    },
    /// The stored token does not open.
    #[error("the access token of account {account} cannot be opened: {problem}")]
    Unreadable {
        /// The account.
        account: AccountId,
        /// Why.
        problem: UnreadableToken,
    },
    /// The API cannot read the token, and nothing shows that it is of the right login.
    #[error(
        "the graph api cannot read the access token of account {0}: it is damaged, or of the other login; \
         compare GRAPH_API_URL and GRAPH_LOGIN with how the account was connected"
    )]
    NotUnderstood(AccountId),
    /// The store could not be asked.
    #[error("the access tokens could not be read")]
    Store(#[source] oxbull::Error),
}

impl TokenError {
    /// The reason, as a label of metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::WrongLogin { .. } => "wrong_login",
            Self::Unreadable { .. } => "unreadable",
            Self::NotUnderstood(_) => "not_understood",
            Self::Store(_) => "store",
        }
    }
}

/// How long to wait for a usable token after it has been lacking for `lacking`: 1 s at first, at most
/// a minute.
pub(crate) fn wait_for_token(lacking: Duration) -> Duration {
    lacking.clamp(Duration::from_secs(1), Duration::from_secs(60))
}

impl AccessTokens {
    /// Uses one token, such as a system user's, for every account without its own.
    pub fn shared(token: AccessToken) -> Self {
        Self {
            shared: Some(token),
            ..Self::default()
        }
    }

    /// Adds an account's own token.
    #[must_use]
    pub fn with(mut self, account: AccountId, token: AccessToken) -> Self {
        self.by_account.insert(account, token);
        self
    }

    /// Adds the tokens of a file, which come before the ones above.
    #[must_use]
    pub fn with_file(mut self, file: TokenFile) -> Self {
        self.file = Some(file);
        self
    }

    /// Adds the tokens of a store, which come before all others.
    #[must_use]
    pub fn with_store(mut self, store: TokenStore) -> Self {
        self.store = Some(store);
        self
    }

    /// Refuses tokens that are not of this login.
    #[must_use]
    pub fn of_login(mut self, login: Option<GraphLogin>) -> Self {
        self.login = login;
        self
    }

    /// Sets for how long a missing token postpones jobs before the account's owner is told. Default: 1 h.
    #[must_use]
    pub fn missing_for(mut self, most: Duration) -> Self {
        self.missing_max = Some(most);
        self
    }

    /// For how long a missing token postpones jobs.
    pub fn missing_max(&self) -> Duration {
        self.missing_max.unwrap_or(MISSING_MAX)
    }

    /// The store, if there is one.
    pub fn store(&self) -> Option<&TokenStore> {
        self.store.as_ref()
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&TokenFile> {
        self.file.as_ref()
    }

    /// The login that tokens must be of.
    pub fn login(&self) -> Option<GraphLogin> {
        self.login
    }

    /// The token to use for an account.
    ///
    /// # Errors
    /// [`TokenError`]; it is counted and logged.
    pub async fn of(&self, account: &AccountId) -> Result<AccessToken, TokenError> {
        let found = match self.find(account).await {
            Ok(Some(token)) => self.check(account, token),
            Ok(None) => Err(TokenError::Missing(account.clone())),
            Err(TokenStoreError::Unreadable(problem)) => Err(TokenError::Unreadable {
                account: account.clone(),
                problem,
            }),
            Err(TokenStoreError::Redis(error)) => Err(TokenError::Store(error)),
        };
        if let Err(error) = &found {
            self.report(account, error);
        }
        found
    }

    /// Whether another token has taken the place of one that the API refused; the account's owner has
    /// then connected it again already.
    pub async fn is_replaced(&self, account: &AccountId, refused: &AccessToken) -> bool {
        self.known().stored.remove(account);
        let found = self.find(account).await;
        matches!(found, Ok(Some(token)) if token != *refused)
    }

    /// What is wrong with a token that the API cannot read: with one that is known to be of the right login
    /// nothing but that it was revoked, so `None`; otherwise its owner could reconnect for ever.
    pub(crate) fn not_understood(
        &self,
        account: &AccountId,
        token: &AccessToken,
        error: &GraphError,
    ) -> Option<TokenError> {
        let fits = self.login.is_some() && token.kind() != TokenKind::Unknown;
        if fits || !error.is_unparsed_token() {
            return None;
        }
        let error = TokenError::NotUnderstood(account.clone());
        self.report(account, &error);
        Some(error)
    }

    async fn find(&self, account: &AccountId) -> Result<Option<AccessToken>, TokenStoreError> {
        if let Some(store) = &self.store {
            if let Some(token) = self.cached(account) {
                return Ok(Some(token));
            }
            if let Some(stored) = store.get(account).await? {
                self.cache(account, &stored.token);
                return Ok(Some(stored.token));
            }
        }
        if let Some(token) = self.file.as_ref().and_then(|file| file.get(account)) {
            return Ok(Some(token));
        }
        let token = self.by_account.get(account).or(self.shared.as_ref());
        Ok(token.cloned())
    }

    fn check(&self, account: &AccountId, token: AccessToken) -> Result<AccessToken, TokenError> {
        match self.login {
            Some(login) if !login.takes(&token) => Err(TokenError::WrongLogin {
                account: account.clone(),
                kind: token.kind(),
                login,
            }),
            _ => Ok(token),
        }
    }

    /// Counts, and logs now and then: many jobs may wait for the same token.
    fn report(&self, account: &AccountId, error: &TokenError) {
        counter!(UNUSABLE, "reason" => error.label()).increment(1);
        let now = Instant::now();
        let mut known = self.known();
        let last = known.logged.get(account);
        if last.is_some_and(|last| now.duration_since(*last) < LOG_EVERY) {
            return;
        }
        if known.logged.len() >= CACHED_MOST {
            known.logged.clear();
        }
        known.logged.insert(account.clone(), now);
        drop(known);
        tracing::warn!(%account, %error, "no usable access token; the account's jobs wait");
    }

    fn cached(&self, account: &AccountId) -> Option<AccessToken> {
        let known = self.known();
        let (read, token) = known.stored.get(account)?;
        (read.elapsed() < CACHED_FOR).then(|| token.clone())
    }

    fn cache(&self, account: &AccountId, token: &AccessToken) {
        let mut known = self.known();
        if known.stored.len() >= CACHED_MOST {
            known.stored.clear();
        }
        let entry = (Instant::now(), token.clone());
        known.stored.insert(account.clone(), entry);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: &str) -> AccountId {
        AccountId::new(id).unwrap()
    }

    /// Logs print structures with `Debug`; a token must not be among what they show.
    #[test]
    fn debug_output_hides_tokens() {
        let tokens = AccessTokens::shared(AccessToken::new("s3cret"))
            .with(account("1"), AccessToken::new("0ther"));
        let shown = format!("{tokens:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("0ther"));
    }

    /// The more specific source wins: the file, then the account's own of the environment, then the shared.
    #[tokio::test]
    async fn own_token_wins_over_the_shared_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        std::fs::write(&path, r#"{"1":"file"}"#).unwrap();
        let tokens = AccessTokens::shared(AccessToken::new("shared"))
            .with(account("1"), AccessToken::new("own"))
            .with(account("2"), AccessToken::new("own"))
            .with_file(TokenFile::open(&path).unwrap());
        for (id, token) in [("1", "file"), ("2", "own"), ("3", "shared")] {
            assert_eq!(tokens.of(&account(id)).await.unwrap().reveal(), token);
        }
        let none = AccessTokens::default().of(&account("1")).await;
        assert!(matches!(none, Err(TokenError::Missing(_))));
    }

    /// A token of the other login must not reach the API, whose answer looks like a refusal of the seller.
    #[tokio::test]
    async fn token_of_the_other_login_is_not_used() {
        let tokens = AccessTokens::shared(AccessToken::new("EAAs3cret"))
            .of_login(Some(GraphLogin::Instagram));
        let error = tokens.of(&account("1")).await.unwrap_err().to_string();
        assert!(
            error.contains("set GRAPH_API_URL to https://graph.facebook.com"),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }

    /// Waiting jobs look for the token often at first, and once a minute in the long run.
    #[test]
    fn waits_for_a_token_grow() {
        for (lacking, wait) in [(0, 1), (5, 5), (3600, 60)] {
            let lacking = Duration::from_secs(lacking);
            assert_eq!(wait_for_token(lacking), Duration::from_secs(wait));
        }
    }
}
