//! Access tokens as the API judges them, once a simulator is told which ones there are.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::replies;

/// How long a refreshed token lasts, in seconds: 60 days.
const LIFE: u64 = 60 * 24 * 3600;

/// The tokens of accounts. With none, every token is right for every account.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    by_account: BTreeMap<String, BTreeSet<String>>,
    /// Tokens that were right once.
    revoked: BTreeSet<String>,
    /// Whether a token is refreshed only where the query has it.
    query_only: bool,
    /// Tokens made by refreshing.
    refreshed: u64,
}

impl Tokens {
    /// Adds a token to those of an account.
    pub(super) fn add(&mut self, account: &str, token: &str) {
        let tokens = self.by_account.entry(account.to_owned()).or_default();
        tokens.insert(token.to_owned());
    }

    /// Takes all tokens of an account away: its owner revoked them.
    pub(super) fn revoke(&mut self, account: &str) {
        let tokens = self.by_account.entry(account.to_owned()).or_default();
        self.revoked.append(tokens);
    }

    /// Refuses a token that is not of this account.
    pub(super) fn check(&self, account: &str, token: &str) -> Result<(), Box<Response>> {
        let tokens = self.by_account.get(account);
        if self.by_account.is_empty() || tokens.is_some_and(|tokens| tokens.contains(token)) {
            return Ok(());
        }
        Err(self.refusal(token).into())
    }

    /// Whose token it is.
    pub(super) fn owner(&self, token: &str) -> Option<String> {
        let mut accounts = self.by_account.iter();
        let (account, _) = accounts.find(|(_, tokens)| tokens.contains(token))?;
        Some(account.clone())
    }

    /// Refreshes a token only where the query has it, as documented.
    pub(super) fn refresh_by_query(&mut self) {
        self.query_only = true;
    }

    /// The token of a request to refresh it: in the query, or in the header where that is enough.
    pub(super) fn of_refresh(&self, query: &str, header: Option<&str>) -> Option<String> {
        let parameters = query.split('&');
        let mut tokens = parameters.filter_map(|part| part.strip_prefix("access_token="));
        let header = header.filter(|_| !self.query_only);
        tokens.next().or(header).map(str::to_owned)
    }

    /// Makes another token for the owner of this one, which stays right until it ends.
    pub(super) fn refresh(&mut self, token: &str) -> Response {
        let Some(account) = self.owner(token) else {
            return self.refusal(token);
        };
        self.refreshed += 1;
        let new = format!("IGrefreshed{}-{account}", self.refreshed);
        self.add(&account, &new);
        let answer = json!({ "access_token": new, "token_type": "bearer", "expires_in": LIFE });
        Json(answer).into_response()
    }

    fn refusal(&self, token: &str) -> Response {
        if self.revoked.contains(token) {
            let text = "Error validating access token: the session has been invalidated";
            return replies::error(401, 190, Some(460), text);
        }
        let text = "Invalid OAuth access token - Cannot parse access token";
        replies::error(401, 190, None, text)
    }
}
