//! Claims: of all who want to do something, one owner does it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Kv, from_utf8, millis, mismatch};
use crate::client::{Repeat, Script, ScriptCall, lua};
use crate::error::{Error, Result};

static CLAIM: Script = lua!("kv/claim", uses: []);
static RELEASE: Script = lua!("kv/release", uses: []);

/// What [`Kv::claim`] found. In JSON it is an object with `state` (`acquired`, `extended` or
/// `heldBy`) and, for the last, `owner`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
#[must_use = "only the owner of a claim may go on"]
#[non_exhaustive]
pub enum Claim {
    /// The claim was free; the caller has it now.
    Acquired,
    /// The caller had the claim already; its time to live starts again.
    Extended,
    /// Another owner has the claim; nothing changed.
    #[non_exhaustive]
    HeldBy {
        /// The owner as that caller named itself.
        owner: String,
    },
}

impl Claim {
    /// Returns whether the caller has the claim: it was acquired or extended.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Acquired | Self::Extended)
    }
}

impl Kv {
    /// Claims `key` for `owner`, unless another owner has it. The server deletes the claim after
    /// `ttl`, from 1 ms; the same owner extends it by claiming again.
    ///
    /// The value of the key is the owner's text. Use one that no other caller has, such as a job's
    /// id or a UUID, and that a retry of the same work has again: then a retry goes on where the
    /// first attempt stopped. A claim is no lock against an owner that is slower than its `ttl`.
    ///
    /// After a lost reply the claim is sent again, so a new one may be reported as
    /// [`Claim::Extended`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty owner or the time, [`Error::Decode`] when the key holds
    /// something that is no text.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(kv: oxbull::kv::Kv, order: &str, job: &str) -> oxbull::Result<()> {
    /// use oxbull::kv::Claim;
    /// use std::time::Duration;
    ///
    /// let key = format!("receipt:{order}");
    /// match kv.claim(&key, job, Duration::from_secs(3600)).await? {
    ///     Claim::HeldBy { owner, .. } => println!("{owner} sends the receipt"),
    ///     _ => println!("this job sends the receipt"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn claim(&self, key: &str, owner: &str, ttl: Duration) -> Result<Claim> {
        check_owner(owner)?;
        let call = ScriptCall::new(&CLAIM, &[key]).arg(owner).int(millis(ttl)?);
        let reply = self.connection.run(call, Repeat::Safe).await;
        match reply
            .map_err(|error| mismatch(key, error))?
            .bytes_or_int()?
        {
            Ok(holder) => Ok(Claim::HeldBy {
                owner: from_utf8(key, holder)?,
            }),
            Err(1) => Ok(Claim::Acquired),
            Err(_) => Ok(Claim::Extended),
        }
    }

    /// Ends a claim of `owner` early; returns whether it had one. A claim of another owner stays.
    /// After a lost reply the release is sent again, and `false` can then also mean that the first
    /// one ended it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty owner, [`Error::Decode`] when the key holds something that
    /// is no text.
    pub async fn release_claim(&self, key: &str, owner: &str) -> Result<bool> {
        check_owner(owner)?;
        let reply = self.connection.run(release(key, owner), Repeat::Safe).await;
        reply.map_err(|error| mismatch(key, error))?.flag()
    }
}

/// Deletes a key that has this value.
pub(crate) fn release(key: &str, owner: &str) -> ScriptCall {
    ScriptCall::new(&RELEASE, &[key]).arg(owner)
}

fn check_owner(owner: &str) -> Result<()> {
    if owner.is_empty() {
        return Err(Error::invalid("owner", "must not be empty"));
    }
    Ok(())
}
