//! Accounts' tokens in a file, which is read again when it changes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use serde::Deserialize;

use super::{AccessToken, AccountId, GraphLogin};

/// A token file that cannot be used. The text names the file and never shows its content.
#[derive(Debug, thiserror::Error)]
#[error("token file {}: {problem}", path.display())]
pub struct TokenFileError {
    path: PathBuf,
    problem: String,
}

/// A JSON file with an object from account id to token; clones share what was read last.
#[derive(Debug, Clone)]
pub struct TokenFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    tokens: RwLock<HashMap<AccountId, AccessToken>>,
    /// What the file looked like when it was last read, successfully or not.
    seen: Mutex<Option<Look>>,
}

/// What changes when a file is written, or replaced by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// A value of the object: the token alone, or with what else is known of it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Token(AccessToken),
    Object { token: AccessToken },
}

impl TokenFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`TokenFileError`] when it cannot be read or is no object from account id to token.
    pub fn open(path: &Path) -> Result<Self, TokenFileError> {
        let file = Self(Arc::new(Shared {
            path: path.to_owned(),
            tokens: RwLock::default(),
            seen: Mutex::default(),
        }));
        file.reload()?;
        Ok(file)
    }

    /// Reads it again. When that fails the tokens stay as they are.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn reload(&self) -> Result<usize, TokenFileError> {
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = self.look();
        let tokens = self.read()?;
        let count = tokens.len();
        *self
            .0
            .tokens
            .write()
            .unwrap_or_else(PoisonError::into_inner) = tokens;
        Ok(count)
    }

    /// Whether it has changed since it was last read.
    pub fn has_changed(&self) -> bool {
        let seen = *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.look() != seen
    }

    /// An account's token.
    pub(super) fn get(&self, account: &AccountId) -> Option<AccessToken> {
        let tokens = self.0.tokens.read();
        let tokens = tokens.unwrap_or_else(PoisonError::into_inner);
        tokens.get(account).cloned()
    }

    /// All tokens.
    pub(super) fn all(&self) -> Vec<(AccountId, AccessToken)> {
        let tokens = self.0.tokens.read();
        let tokens = tokens.unwrap_or_else(PoisonError::into_inner);
        tokens
            .iter()
            .map(|(account, token)| (account.clone(), token.clone()))
            .collect()
    }

    /// Logs which of its tokens are not of this login.
    pub fn log_misfits(&self, login: GraphLogin) {
        for (account, token) in self.all() {
            if !login.takes(&token) {
                let (kind, remedy) = (token.kind(), login.remedy());
                tracing::warn!(%account, remedy, "the token file has {kind}, which {login} does not take");
            }
        }
    }

    fn look(&self) -> Option<Look> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(&self.0.path).ok()?;
        Some(Look {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: metadata.ino(),
        })
    }

    fn read(&self) -> Result<HashMap<AccountId, AccessToken>, TokenFileError> {
        let failed = |problem| TokenFileError {
            path: self.0.path.clone(),
            problem,
        };
        let text =
            std::fs::read_to_string(&self.0.path).map_err(|error| failed(error.to_string()))?;
        let entries: HashMap<AccountId, Entry> = serde_json::from_str(&text).map_err(|error| {
            failed(format!(
                "not an object from account id to token, line {}",
                error.line()
            ))
        })?;
        let tokens = entries.into_iter().map(|(account, entry)| match entry {
            Entry::Token(token) | Entry::Object { token } => (account, token),
        });
        Ok(tokens.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is being written, or was written badly, must not take the tokens in use away; its error
    /// shows nothing of it.
    #[test]
    fn bad_file_keeps_the_old_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.json");
        std::fs::write(
            &path,
            r#"{"1":"s3cret","2":{"token":"other","expiresAt":7}}"#,
        )
        .unwrap();
        let file = TokenFile::open(&path).unwrap();
        let account = AccountId::new("1").unwrap();
        assert!(!file.has_changed());
        std::fs::write(&path, r#"{"1":"n3w-s3cret""#).unwrap();
        assert!(file.has_changed());
        let error = file.reload().unwrap_err().to_string();
        assert!(
            error.contains("tokens.json") && !error.contains("s3cret"),
            "{error}"
        );
        assert_eq!(file.get(&account), Some(AccessToken::new("s3cret")));
        assert!(!file.has_changed(), "it is complained of once");
        std::fs::remove_file(&path).unwrap();
        assert!(file.has_changed() && file.reload().is_err());
        std::fs::write(&path, r#"{"1":"n3w"}"#).unwrap();
        assert!(file.has_changed());
        assert_eq!(file.reload().unwrap(), 1);
        assert_eq!(file.get(&account), Some(AccessToken::new("n3w")));
    }
}
