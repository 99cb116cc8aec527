//! Commands as the proxy sees them.

use std::borrow::Cow;
use std::fmt;

use crate::resp::{self, Value};
use crate::{KitError, Result};

/// A command on its way to Redis: its name and arguments.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    args: Vec<Vec<u8>>,
}

impl Command {
    /// The command's name in upper case, `EVALSHA` for instance.
    pub fn name(&self) -> String {
        self.text(0).to_ascii_uppercase()
    }

    /// Whether the command has this name, in upper or lower case.
    pub fn is(&self, name: &str) -> bool {
        self.args
            .first()
            .is_some_and(|first| first.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The bytes of argument `index`, where 0 is the name; empty if there is none.
    pub fn arg(&self, index: usize) -> &[u8] {
        self.args.get(index).map_or(&[], Vec::as_slice)
    }

    /// [`arg`](Self::arg) as text.
    pub fn text(&self, index: usize) -> Cow<'_, str> {
        String::from_utf8_lossy(self.arg(index))
    }

    /// Whether one of the arguments is exactly this text: a job id, a key, a script's hash.
    pub fn has(&self, text: &str) -> bool {
        self.args.iter().any(|arg| arg == text.as_bytes())
    }

    /// Whether one of the arguments contains this text.
    pub fn mentions(&self, text: &str) -> bool {
        self.args.iter().any(|arg| {
            arg.windows(text.len().max(1))
                .any(|part| part == text.as_bytes())
        })
    }

    /// Whether this runs a script: `EVAL`, `EVALSHA`, `FCALL`.
    pub fn is_script(&self) -> bool {
        ["EVALSHA", "EVAL", "FCALL"]
            .iter()
            .any(|name| self.is(name))
    }

    /// Whether replies no longer follow commands one by one after this one.
    pub(super) fn starts_stream(&self) -> bool {
        ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR"]
            .iter()
            .any(|name| self.is(name))
    }

    /// The first command in `bytes` and its length there, or `None` if it is not complete.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>> {
        if bytes.first().is_some_and(|&first| first != b'*') {
            return Ok(Self::decode_inline(bytes));
        }
        let Some((value, used)) = resp::decode(bytes)? else {
            return Ok(None);
        };
        let Value::Array(items) = value else {
            return Err(KitError::new(format!(
                "{value:?} where a command should be"
            )));
        };
        let args = items
            .into_iter()
            .map(|item| match item {
                Value::Bulk(bytes) => Ok(bytes),
                other => Err(KitError::new(format!("{other:?} as a command's argument"))),
            })
            .collect::<Result<_>>()?;
        Ok(Some((Self { args }, used)))
    }

    fn decode_inline(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let args = String::from_utf8_lossy(bytes.get(..end)?)
            .split_whitespace()
            .map(|word| word.as_bytes().to_vec())
            .collect();
        Some((Self { args }, end + 1))
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args = self.args.iter().map(|arg| String::from_utf8_lossy(arg));
        f.debug_list().entries(args).finish()
    }
}
