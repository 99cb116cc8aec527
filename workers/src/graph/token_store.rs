//! Accounts' tokens in Redis, each sealed for its account.

use std::time::Duration;

use oxbull::Timestamp;
use oxbull::client::{Client, Command, Repeat, Script};
use oxbull::vault::{AssociatedData, Keyring};
use serde::Deserialize;
use serde_json::json;

use super::{AccessToken, AccountId};

/// The hash with a field for each account. A field is sealed as a token of the key `<TOKENS>:<account>`
/// would be, so that it opens for no other account.
const TOKENS: &str = "token:instagram";

/// Accounts read with one request by [`TokenStore::page`].
const PAGE: u64 = 200;

static REPLACE: Script = Script::new("replace_token", include_str!("../../lua/replace_token.lua"));

/// A token as it is stored. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredToken {
    /// The token.
    pub token: AccessToken,
    /// The user to notify when the account has to be connected again.
    #[serde(default)]
    pub user_id: Option<String>,
    /// When the seller connected the account.
    #[serde(default)]
    pub obtained_at: Option<i64>,
    /// When it was last refreshed.
    #[serde(default)]
    pub refreshed_at: Option<i64>,
    /// When it ends; never, as far as is known, when absent.
    #[serde(default)]
    pub expires_at: Option<i64>,
}

impl StoredToken {
    /// A token of which nothing else is known.
    pub fn new(token: AccessToken) -> Self {
        Self {
            token,
            user_id: None,
            obtained_at: None,
            refreshed_at: None,
            expires_at: None,
        }
    }

    /// What is sealed. [`AccessToken`] has no JSON form of its own, so that it gets into none by accident.
    fn to_json(&self) -> String {
        let json = json!({
            "token": self.token.reveal(),
            "userId": self.user_id,
            "obtainedAt": self.obtained_at,
            "refreshedAt": self.refreshed_at,
            "expiresAt": self.expires_at,
        });
        json.to_string()
    }
}

/// A stored token that cannot be used; it was left as it is. The text shows nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableToken(String);

/// Why a token was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenStoreError {
    /// It is sealed with a key that this program does not have, or is no sealed token of this account.
    #[error("the stored token cannot be opened: {0}")]
    Unreadable(#[from] UnreadableToken),
    /// Redis did not answer, or refused.
    #[error(transparent)]
    Redis(#[from] oxbull::Error),
}

/// One field of the store.
#[derive(Debug, Clone)]
pub struct TokenEntry {
    /// The account, as the field names it.
    pub account: String,
    /// The token, or why it does not open.
    pub token: Result<StoredToken, UnreadableToken>,
    sealed: String,
}

impl TokenEntry {
    /// The id of the key that it is sealed with; empty when it is not sealed.
    pub fn key_id(&self) -> &str {
        let mut parts = self.sealed.split('.');
        match (parts.next(), parts.next()) {
            (Some("v1"), Some(id)) => id,
            _ => "",
        }
    }
}

/// Tokens in the hash `token:instagram` of the queues' server, sealed with the keys of
/// `ENCRYPTION_KEYS`; cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenStore {
    client: Client,
    keyring: Keyring,
}

impl TokenStore {
    /// Tokens on the queues' server of this client.
    pub fn new(client: &Client, keyring: Keyring) -> Self {
        Self {
            client: client.clone(),
            keyring,
        }
    }

    /// The time that stored times are compared with.
    pub fn now(&self) -> Timestamp {
        self.client.clock().now()
    }

    /// An account's token; `None` when there is none.
    ///
    /// # Errors
    /// [`TokenStoreError`].
    pub async fn get(&self, account: &AccountId) -> Result<Option<StoredToken>, TokenStoreError> {
        let kv = self.client.kv();
        let Some(sealed) = kv.hget_text(TOKENS, account.as_str()).await? else {
            return Ok(None);
        };
        Ok(Some(self.open(account.as_str(), &sealed)?))
    }

    /// Stores an account's token, sealed with the active key, in place of an earlier one. Safe to repeat.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn put(&self, account: &AccountId, token: &StoredToken) -> oxbull::Result<()> {
        let sealed = self.seal(account.as_str(), token)?;
        let kv = self.client.kv();
        kv.hset_text(TOKENS, account.as_str(), &sealed).await?;
        Ok(())
    }

    /// Deletes an account's token; returns whether there was one.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn remove(&self, account: &AccountId) -> oxbull::Result<bool> {
        let command = Command::new("HDEL").arg(TOKENS).arg(account.as_str());
        let removed = self.client.request(command, Repeat::Safe).await?;
        Ok(removed.into_int()? == 1)
    }

    /// Reads a page of the tokens, from cursor 0 on; the cursor of the next page is 0 after the last. An
    /// account that is there all the time is in one page at least, and may be in several.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn page(&self, cursor: u64) -> oxbull::Result<(u64, Vec<TokenEntry>)> {
        let command = Command::new("HSCAN")
            .args([TOKENS, &cursor.to_string(), "COUNT"])
            .arg(PAGE);
        let reply = self.client.request(command, Repeat::Safe).await?;
        let mut parts = reply.into_array()?.into_iter();
        let (Some(next), Some(pairs)) = (parts.next(), parts.next()) else {
            return Err(oxbull::Error::Protocol("HSCAN has two parts".to_owned()));
        };
        let next = next.into_text()?.parse();
        let next = next.map_err(|_| oxbull::Error::Protocol("HSCAN has a cursor".to_owned()))?;
        let mut entries = Vec::new();
        for (account, sealed) in pairs.into_pairs()? {
            // One value that another program spoiled must not hide the others.
            let text = |value: oxbull::client::Value| -> oxbull::Result<String> {
                let bytes = value.into_bytes()?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            };
            let (account, sealed) = (text(account)?, text(sealed)?);
            entries.push(TokenEntry {
                token: self.open(&account, &sealed),
                account,
                sealed,
            });
        }
        Ok((next, entries))
    }

    /// Replaces the token that `entry` shows, unless it was replaced or removed since; returns whether it
    /// was replaced.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn replace(&self, entry: &TokenEntry, token: &StoredToken) -> oxbull::Result<bool> {
        let sealed = self.seal(&entry.account, token)?;
        let call = REPLACE.call().key(TOKENS);
        let call = call.args([entry.account.as_str(), &entry.sealed, &sealed]);
        // After a lost answer the repeat finds the new value, which counts as another's.
        Ok(self.client.run(call, Repeat::Safe).await?.into_int()? == 1)
    }

    /// Whether a token is sealed with another key than the active one.
    pub fn is_stale(&self, entry: &TokenEntry) -> bool {
        self.keyring.is_stale(&entry.sealed)
    }

    /// The id of the key that seals.
    pub fn active_key(&self) -> &str {
        self.keyring.active_id()
    }

    /// Takes the right to refresh an account's token, for `time`; returns `false` while another has it.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub(crate) async fn claim_refresh(
        &self,
        account: &AccountId,
        time: Duration,
    ) -> oxbull::Result<bool> {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let command = Command::new("SET")
            .arg(format!("token:refresh:{account}"))
            .args(["1", "NX", "PX"])
            .arg(millis.max(1));
        // A repeat after a lost answer could be refused by its own claim: then a later sweep refreshes.
        let claimed = self.client.request(command, Repeat::Safe).await?;
        Ok(!claimed.is_nil())
    }

    fn seal(&self, account: &str, token: &StoredToken) -> oxbull::Result<String> {
        let key = key(account);
        let place = AssociatedData::token(&key);
        self.keyring.seal(&place, token.to_json().as_bytes())
    }

    fn open(&self, account: &str, sealed: &str) -> Result<StoredToken, UnreadableToken> {
        let key = key(account);
        let place = AssociatedData::token(&key);
        let json = self.keyring.open(&place, sealed);
        let json = json.map_err(|error| {
            UnreadableToken(format!(
                "{error}; compare ENCRYPTION_KEYS with the program that put it, or put the token again"
            ))
        })?;
        // The error itself may quote the token.
        serde_json::from_slice(&json).map_err(|error| {
            let problem = format!("{:?} error at column {}", error.classify(), error.column());
            UnreadableToken(format!("its content does not decode: {problem}"))
        })
    }
}

/// What an account's token is sealed for.
fn key(account: &str) -> String {
    format!("{TOKENS}:{account}")
}
