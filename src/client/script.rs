//! Lua scripts, run by hash.

use std::sync::OnceLock;

use crate::resp::{Argument, Arguments, Command};

/// A Lua script that runs at the server: its text is a constant, its hash is computed once.
///
/// # Examples
/// ```no_run
/// # async fn run(client: oxbull::Client) -> oxbull::Result<()> {
/// use oxbull::client::{Repeat, Script};
///
/// static RAISE: Script = Script::new(
///     "raise",
///     "local now = tonumber(redis.call('GET', KEYS[1]) or 0)
///      local new = math.max(now, tonumber(ARGV[1]))
///      redis.call('SET', KEYS[1], new)
///      return new",
/// );
///
/// // Asking twice leaves what asking once leaves, so that a lost answer may be asked for again.
/// let highest = client.run(RAISE.call().key("highest").arg(7), Repeat::Safe).await?;
/// assert!(highest.into_int()? >= 7);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    source: &'static str,
    names_all_keys: bool,
    hash: OnceLock<String>,
}

impl Script {
    /// Names a script, for error messages, and gives its text. On a cluster, calls declare every key that it
    /// touches.
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            source,
            names_all_keys: true,
            hash: OnceLock::new(),
        }
    }

    /// As [`new`](Self::new), for a script that computes keys from those that it is given.
    pub(crate) const fn deriving(name: &'static str, source: &'static str) -> Self {
        Self {
            name,
            source,
            names_all_keys: false,
            hash: OnceLock::new(),
        }
    }

    /// Returns whether the script touches only the keys that a call declares.
    pub(crate) fn names_all_keys(&self) -> bool {
        self.names_all_keys
    }

    /// Starts a call, without keys and arguments.
    pub fn call(&'static self) -> ScriptCall {
        ScriptCall {
            script: self,
            keys: Arguments::default(),
            arguments: Arguments::default(),
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
            .get_or_init(|| sha1_smol::Sha1::from(self.source).digest().to_string())
    }
}

/// One run of a [`Script`] with its keys and arguments.
#[derive(Debug, Clone)]
#[must_use = "a call does nothing until it is given to `Client::run`"]
pub struct ScriptCall {
    script: &'static Script,
    keys: Arguments,
    arguments: Arguments,
}

impl ScriptCall {
    /// Starts a call with all its keys.
    pub(crate) fn new(script: &'static Script, keys: &[&str]) -> Self {
        script.call().keys(keys)
    }

    /// Appends a key, for `KEYS`.
    pub fn key(mut self, key: impl Argument) -> Self {
        self.keys.push(key);
        self
    }

    /// Appends several keys.
    pub fn keys(self, keys: impl IntoIterator<Item = impl Argument>) -> Self {
        keys.into_iter().fold(self, Self::key)
    }

    /// Appends an argument, for `ARGV`: text, bytes or a number.
    pub fn arg(mut self, value: impl Argument) -> Self {
        self.arguments.push(value);
        self
    }

    /// Appends several arguments.
    pub fn args(self, values: impl IntoIterator<Item = impl Argument>) -> Self {
        values.into_iter().fold(self, Self::arg)
    }

    /// Appends a number.
    pub(crate) fn int(self, value: impl Into<u64>) -> Self {
        self.arg(value.into())
    }

    /// Returns the script.
    pub(super) fn script(&self) -> &'static Script {
        self.script
    }

    /// Appends the number of keys, the keys and the arguments.
    pub(super) fn append_to(&self, command: &mut Command) {
        command.push(self.keys.count());
        command.append(&self.keys);
        command.append(&self.arguments);
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
