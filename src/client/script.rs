//! Lua scripts, run by hash.

use std::sync::OnceLock;

/// A script of this library: its text is a constant, its hash is computed once.
#[derive(Debug)]
pub(crate) struct Script {
    name: &'static str,
    source: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    /// Names a script's text.
    pub(crate) const fn new(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            source,
            hash: OnceLock::new(),
        }
    }

    /// Returns the name used in messages.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the text.
    pub(crate) fn source(&self) -> &'static str {
        self.source
    }

    /// Returns the hash that the server knows the text by, in hex.
    pub(crate) fn hash(&self) -> &str {
        self.hash
            .get_or_init(|| redis::Script::new(self.source).get_hash().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_sha1_of_the_source() {
        let script = Script::new("one", "return 1");
        assert_eq!(script.hash(), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
