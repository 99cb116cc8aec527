//! Ids of Graph API objects. They become path segments of a URL and parts of Redis keys, so what
//! is not plainly an id is refused when it is read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest id accepted, in bytes; real ones have 15 to 20 digits.
const LONGEST: usize = 64;

/// A text that cannot be an id: only ASCII letters, digits, `_` and `-` are allowed, 1 to 64 of
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {what} id: 1 to 64 ascii letters, digits, '_' or '-' are allowed")]
pub struct InvalidId {
    what: &'static str,
}

fn is_id(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks a text and makes it an id.
            ///
            /// # Errors
            /// [`InvalidId`] when it is empty, too long or has other characters than ASCII
            /// letters, digits, `_` and `-`.
            pub fn new(id: impl Into<String>) -> Result<Self, InvalidId> {
                let id = id.into();
                if is_id(&id) {
                    Ok(Self(id))
                } else {
                    Err(InvalidId { what: $what })
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        #[cfg(feature = "schemas")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let pattern = format!("^[A-Za-z0-9_-]{{1,{LONGEST}}}$");
                schemars::json_schema!({ "type": "string", "pattern": pattern })
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(id: String) -> Result<Self, InvalidId> {
                Self::new(id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// An Instagram professional account.
    AccountId,
    "account"
);
id!(
    /// A media container: a post that is being prepared and is not visible yet.
    ContainerId,
    "container"
);
id!(
    /// A published post.
    MediaId,
    "media"
);

#[cfg(test)]
mod tests {
    use super::*;

    /// An id goes into a URL path and a Redis key; no character in it may change the target.
    #[test]
    fn texts_that_would_break_a_path_or_key_are_refused() {
        for bad in [
            "",
            "a/b",
            "..",
            "a?b",
            "a:b",
            "{a}",
            "a b",
            "é",
            &"9".repeat(65),
        ] {
            assert!(AccountId::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(AccountId::new("17841405822304914").is_ok());
        assert!(serde_json::from_str::<MediaId>("\"../me\"").is_err());
    }
}
