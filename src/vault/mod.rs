//! Encryption at rest: values, tokens and parts of job data that only holders of a key can read.
//!
//! A [`Keyring`] seals with its active key and opens with any of its keys, so that keys can be
//! replaced. Each sealed value is tied to [`AssociatedData`]: copied to another key, purpose or queue, it
//! does not open. [`Vault`](crate::kv::Vault) keeps values under keys of Redis, [`Sealed`] is a field of a job's
//! data. `docs/encryption.md` has the format byte by byte and the Node.js side.

mod associated_data;
mod key;
mod keyring;
mod sealed;

use ring::rand::{SecureRandom, SystemRandom};

pub use associated_data::AssociatedData;
pub use key::Key;
pub use keyring::{KEYS_MAX, Keyring, OpenError, PLAINTEXT_MAX};
pub use sealed::Sealed;

use crate::error::{Error, Result};

/// Returns bytes from the system's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::invalid("random numbers", "are not to be had from the system"))?;
    Ok(bytes)
}
