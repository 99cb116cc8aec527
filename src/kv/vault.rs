//! Sealed values under keys of Redis.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Kv;
use crate::client::{Repeat, Script, ScriptCall, lua};
use crate::error::{Error, Result};
use crate::vault::{AssociatedData, Keyring, OpenError};

/// Replaces a value by one that was resealed.
static SWAP: Script = lua!("kv/swap", uses: []);

/// Tokens and other secrets, each sealed for the key that holds it. Cheap to clone.
///
/// # Examples
/// ```no_run
/// # async fn run(client: oxbull::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use oxbull::{kv::Vault, vault::Keyring};
/// use std::time::Duration;
///
/// let vault = Vault::new(client.kv(), Keyring::from_env()?);
/// let sixty_days = Duration::from_secs(60 * 86_400);
/// vault.set("token:instagram:17", "IGQVJ...", sixty_days).await?;
/// let token: Option<String> = vault.get("token:instagram:17").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Vault {
    kv: Kv,
    keyring: Keyring,
    reseal: bool,
}

/// Why a sealed value was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The stored value does not open; it was left as it is.
    #[error("the stored value cannot be opened")]
    Open(#[from] OpenError),
    /// The request itself failed.
    #[error(transparent)]
    Request(#[from] Error),
}

impl Vault {
    /// Keeps sealed values among `kv`.
    pub fn new(kv: Kv, keyring: Keyring) -> Self {
        Self {
            kv,
            keyring,
            reseal: true,
        }
    }

    /// Leaves a value that was sealed with an older key as it is when it is read. By default it is
    /// sealed again with the active key, so that the old key can be dropped eventually.
    #[must_use]
    pub fn without_resealing(mut self) -> Self {
        self.reseal = false;
        self
    }

    /// Seals a value, as JSON, and stores it for `ttl`, which is at least 1 ms.
    ///
    /// # Errors
    /// [`Error::Encode`] when it has no JSON form, [`Error::Invalid`] when it is too long or for
    /// the time.
    pub async fn set<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<()> {
        let json = serde_json::to_vec(value).map_err(|source| Error::Encode {
            what: "value",
            source,
        })?;
        let sealed = self.keyring.seal(&AssociatedData::token(key), &json)?;
        self.kv.set_text_with_ttl(key, &sealed, ttl).await
    }

    /// Reads a value and opens it; `None` when there is no such key.
    ///
    /// # Errors
    /// [`VaultError::Open`] when it was not sealed for this key or with a known one.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, VaultError> {
        let Some(sealed) = self.kv.get_text(key).await? else {
            return Ok(None);
        };
        let associated_data = AssociatedData::token(key);
        let json = self.keyring.open(&associated_data, &sealed)?;
        let value = serde_json::from_slice(&json).map_err(|error| OpenError::content(&error))?;
        if self.reseal && self.keyring.is_stale(&sealed) {
            self.replace(key, &sealed, &json).await;
        }
        Ok(Some(value))
    }

    /// Seals a value that was read with the active key. The reader has what it asked for, so
    /// failing leaves it to the next one.
    async fn replace(&self, key: &str, old: &str, json: &[u8]) {
        let Ok(new) = self.keyring.seal(&AssociatedData::token(key), json) else {
            return;
        };
        let call = ScriptCall::new(&SWAP, &[key]).args([old, &new]);
        if let Err(error) = self.kv.connection().run(call, Repeat::Safe).await {
            tracing::debug!(%error, "a value keeps its old key");
        }
    }
}
