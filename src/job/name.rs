//! Names of queues and the prefixes of their keys.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};

/// Longest queue name and prefix, in bytes.
const NAME_MAX: usize = 128;

/// Checks text that becomes part of a key.
pub(super) fn check_text(field: &'static str, text: &str, max: usize) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    if text.len() > max {
        return Err(Error::invalid_value(
            field,
            text,
            format!("must not be longer than {max} bytes"),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid_value(
            field,
            text,
            "must not contain control characters",
        ));
    }
    Ok(())
}

/// The name of a queue: not empty, no `:` (`docs/protocol.md#key-names`).
///
/// # Examples
///
/// ```
/// use oxbull::QueueName;
///
/// let mail: QueueName = "mail".parse()?;
/// assert_eq!(mail, "mail");
/// assert!("bull:mail".parse::<QueueName>().is_err());
/// # Ok::<(), oxbull::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// Checks and wraps a queue name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the name is empty, longer than 128 bytes, or contains `:` or
    /// control characters.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(Error::invalid("queue name", "must not be empty"));
        }
        if name.contains(':') {
            return Err(Error::invalid_value(
                "queue name",
                name,
                "must not contain :",
            ));
        }
        check_text("queue name", name, NAME_MAX)?;
        Ok(Self(name.into()))
    }

    /// Wraps a name that is checked before it is used.
    pub(crate) fn unchecked(name: &str) -> Self {
        Self(name.into())
    }
}

/// The first part of every key of a queue, `bull` by default; may carry a hash tag such as
/// `{bull}` (`docs/protocol.md#key-names`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Checks and wraps a prefix.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the prefix is empty, longer than 128 bytes, or contains control
    /// characters.
    pub fn new(prefix: impl AsRef<str>) -> Result<Self> {
        let prefix = prefix.as_ref();
        check_text("prefix", prefix, NAME_MAX)?;
        Ok(Self(prefix.into()))
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("bull".into())
    }
}

/// What all checked names are: text that is read as such, and made of text by `new` alone.
macro_rules! checked_name {
    ($name:ident) => {
        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                Self::new(name)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = Error;

            fn try_from(name: &str) -> Result<Self> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(name: String) -> Result<Self> {
                Self::new(name)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

checked_name!(QueueName);
checked_name!(Prefix);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn queue_names_and_prefixes_are_checked() {
        assert!(QueueName::new("a b").is_ok());
        assert!(QueueName::new("").is_err());
        assert!(QueueName::new("a:b").is_err());
        assert!(Prefix::new("{bull}").is_ok());
        assert!(Prefix::new("my:app").is_ok());
        assert!(Prefix::new("").is_err());
    }

    /// Whichever way a name comes in, the same rules apply.
    #[test]
    fn names_are_checked_whatever_they_are_made_of() {
        for bad in ["", "a:b", "a\nb"] {
            assert!(bad.parse::<QueueName>().is_err(), "{bad:?}");
            assert!(QueueName::try_from(bad).is_err(), "{bad:?}");
            assert!(QueueName::try_from(bad.to_owned()).is_err(), "{bad:?}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<QueueName>(&json).is_err(), "{bad:?}");
        }
        let error = serde_json::from_str::<Prefix>("\"\"").unwrap_err();
        assert!(
            error.to_string().contains("prefix must not be empty"),
            "{error}"
        );
    }

    #[test]
    fn names_survive_a_trip_through_text_and_json_and_are_found_by_text() {
        let name = QueueName::new("mail").unwrap();
        assert_eq!(name.to_string().parse::<QueueName>().unwrap(), name);
        assert_eq!(serde_json::to_value(&name).unwrap(), "mail");
        assert_eq!(serde_json::from_str::<QueueName>("\"mail\"").unwrap(), name);
        let queues = HashMap::from([(name, 1)]);
        assert_eq!(queues.get("mail"), Some(&1));
    }
}
