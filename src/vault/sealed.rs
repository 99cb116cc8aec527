//! A sealed field of a job's data.

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{AssociatedData, Keyring, OpenError};
use crate::error::{Error, Result};

/// A `T` in a job's data that only holders of a key can read: `{"$sealed": "v1..."}` in JSON.
///
/// The rest of the data stays plain, for Node.js services and dashboards; `docs/encryption.md`
/// says how a Node.js service opens the field. Without the keyring nothing can be seen, and what
/// is shown for debugging says nothing.
///
/// # Examples
/// ```
/// use oxbull::QueueName;
/// use oxbull::vault::{Key, Keyring, OpenError, AssociatedData, Sealed};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Publish {
///     account: String,
///     token: Sealed<String>,
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let keyring = Keyring::new(Key::new("k1", &[7; 32])?);
/// let queue = QueueName::new("post-publishing")?;
/// let associated_data = AssociatedData::job(&queue).about("17");
/// let data = Publish {
///     account: "17".to_owned(),
///     token: Sealed::seal(&keyring, &associated_data, "IGQVJ...")?,
/// };
///
/// // In the handler: bound to its queue and account.
/// let token: String = data.token.open(&keyring, &AssociatedData::job(&queue).about(&data.account))?;
/// assert_eq!(token, "IGQVJ...");
/// # Ok(())
/// # }
/// ```
pub struct Sealed<T> {
    text: String,
    of: PhantomData<fn() -> T>,
}

/// The JSON form. Whatever else stands beside the text is tolerated.
#[derive(Serialize, Deserialize)]
struct Form<S> {
    #[serde(rename = "$sealed")]
    sealed: S,
}

impl<T> Sealed<T> {
    /// Seals a value, as JSON, bound to associated data such as [`AssociatedData::job`].
    ///
    /// # Errors
    /// [`Error::Encode`] when it has no JSON form, [`Error::Invalid`] when it is too long.
    pub fn seal<V: Serialize + ?Sized>(
        keyring: &Keyring,
        associated_data: &AssociatedData<'_>,
        value: &V,
    ) -> Result<Self>
    where
        T: std::borrow::Borrow<V>,
    {
        let json = serde_json::to_vec(value).map_err(|source| Error::Encode {
            what: "sealed value",
            source,
        })?;
        Ok(Self {
            text: keyring.seal(associated_data, &json)?,
            of: PhantomData,
        })
    }

    /// Opens the value where it was sealed for.
    ///
    /// # Errors
    /// [`OpenError`] says why it does not open.
    pub fn open(
        &self,
        keyring: &Keyring,
        associated_data: &AssociatedData<'_>,
    ) -> Result<T, OpenError>
    where
        T: DeserializeOwned,
    {
        let json = keyring.open(associated_data, &self.text)?;
        serde_json::from_slice(&json).map_err(|error| OpenError::content(&error))
    }

    /// Returns the sealed text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<T> Clone for Sealed<T> {
    fn clone(&self) -> Self {
        Self {
            text: self.text.clone(),
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

impl<T> Serialize for Sealed<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Form { sealed: &self.text }.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Sealed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Form { sealed } = Form::deserialize(deserializer)?;
        Ok(Self {
            text: sealed,
            of: PhantomData,
        })
    }
}
