//! What a server answers.

use std::fmt;

use crate::error::{Error, Result};

/// One value of a server's answer.
///
/// The `into_…` methods read it as the type that the caller expects. Each accepts the forms in
/// which servers answer with that type, and fails with [`Error::Protocol`] for every other; the
/// command has been executed then.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// There is no value.
    Nil,
    /// A whole number.
    Int(i64),
    /// A string of bytes.
    BulkString(Vec<u8>),
    /// A short text, such as `OK`.
    SimpleString(String),
    /// A list.
    Array(Vec<Self>),
    /// Fields and their values, in the server's order. Servers that speak RESP2 answer with an
    /// [`Array`](Self::Array) of both instead.
    Map(Vec<(Self, Self)>),
    /// A number with a fraction.
    Double(f64),
    /// Yes or no.
    Boolean(bool),
    /// An error inside a list, such as that of one command of a transaction.
    ServerError(ServerError),
}

impl Value {
    /// Returns whether there is no value.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// Returns `None` for [`Nil`](Self::Nil) and the value itself otherwise.
    pub fn into_option(self) -> Option<Self> {
        match self {
            Self::Nil => None,
            value => Some(value),
        }
    }

    /// Reads a whole number, or a text that is one.
    ///
    /// # Errors
    /// [`Error::Protocol`] for anything else.
    pub fn into_int(self) -> Result<i64> {
        self.as_int().ok_or_else(|| unexpected("a whole number"))
    }

    /// Reads a number that may have a fraction, or a text that is one.
    ///
    /// # Errors
    /// [`Error::Protocol`] for anything else.
    pub fn into_float(self) -> Result<f64> {
        self.as_float().ok_or_else(|| unexpected("a number"))
    }

    /// Reads bytes; a number becomes its decimal text.
    ///
    /// # Errors
    /// [`Error::Protocol`] for anything else.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        self.bytes().ok_or_else(|| unexpected("a string"))
    }

    /// Reads text; a number becomes its decimal text.
    ///
    /// # Errors
    /// [`Error::Protocol`] for anything else, and for bytes that are not UTF-8.
    pub fn into_text(self) -> Result<String> {
        String::from_utf8(self.into_bytes()?).map_err(|_| unexpected("UTF-8 text"))
    }

    /// Reads a list; no value is an empty one.
    ///
    /// # Errors
    /// [`Error::Protocol`] for anything else.
    pub fn into_array(self) -> Result<Vec<Self>> {
        match self {
            Self::Array(items) => Ok(items),
            Self::Nil => Ok(Vec::new()),
            _ => Err(unexpected("a list")),
        }
    }

    /// Reads pairs: a map, or a list in which they alternate.
    ///
    /// # Errors
    /// [`Error::Protocol`] for anything else, and for a list of an odd length.
    pub fn into_pairs(self) -> Result<Vec<(Self, Self)>> {
        match self {
            Self::Map(pairs) => Ok(pairs),
            Self::Array(flat) if flat.len() % 2 == 0 => {
                let mut flat = flat.into_iter();
                Ok(std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect())
            }
            Self::Nil => Ok(Vec::new()),
            _ => Err(unexpected("a list of pairs")),
        }
    }

    /// Returns a whole number, or a text that is one, as a number.
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Boolean(yes) => Some(i64::from(*yes)),
            Self::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            Self::SimpleString(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Returns a number, or a text that is one, as a number.
    pub(crate) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Double(number) => Some(*number),
            #[expect(
                clippy::cast_precision_loss,
                reason = "a float was asked for; whole numbers up to 2^53 are exact"
            )]
            Self::Int(number) => Some(*number as f64),
            Self::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            Self::SimpleString(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Returns bytes or text as bytes, and a number as its decimal text.
    pub(crate) fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::BulkString(bytes) => Some(bytes),
            Self::SimpleString(text) => Some(text.into_bytes()),
            Self::Int(number) => Some(number.to_string().into_bytes()),
            Self::Double(number) => Some(number.to_string().into_bytes()),
            _ => None,
        }
    }
}

fn unexpected(expected: &str) -> Error {
    Error::Protocol(format!("the reply is not {expected}"))
}

/// A server's error, in its own words: a code in capitals and what it says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    text: String,
}

impl ServerError {
    /// Wraps the line that the server sent.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Returns the code, such as `ERR` or `WRONGTYPE`.
    pub fn code(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }

    /// Returns what follows the code. It may repeat arguments of the command.
    pub fn detail(&self) -> &str {
        self.text.split_once(' ').map_or("", |(_, detail)| detail)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn readers_accept_the_forms_of_both_protocols() {
        assert_eq!(Value::Int(-7).into_int().unwrap(), -7);
        assert_eq!(bulk("12").into_int().unwrap(), 12);
        assert_eq!(bulk("1.5").as_float(), Some(1.5));
        assert_eq!(Value::Double(1.5).as_float(), Some(1.5));
        assert_eq!(Value::Int(3).into_text().unwrap(), "3");
        assert_eq!(Value::SimpleString("OK".into()).into_text().unwrap(), "OK");
        let pair = || vec![(bulk("a"), Value::Int(1))];
        assert_eq!(Value::Map(pair()).into_pairs().unwrap(), pair());
        let flat = Value::Array(vec![bulk("a"), Value::Int(1)]);
        assert_eq!(flat.into_pairs().unwrap(), pair());
        assert!(Value::Nil.into_array().unwrap().is_empty());
        assert_eq!(Value::Nil.into_option(), None);
    }

    #[test]
    fn readers_refuse_other_types() {
        for error in [
            bulk("x").into_int().map(drop),
            Value::Nil.into_int().map(drop),
            Value::Nil.into_text().map(drop),
            Value::BulkString(vec![0xff]).into_text().map(drop),
            Value::Int(1).into_array().map(drop),
            Value::Array(vec![Value::Nil]).into_pairs().map(drop),
        ] {
            assert!(matches!(error, Err(Error::Protocol(_))), "{error:?}");
        }
    }

    #[test]
    fn error_is_a_code_and_its_detail() {
        let error = ServerError::new("WRONGTYPE Operation against a key");
        assert_eq!(error.code(), "WRONGTYPE");
        assert_eq!(error.detail(), "Operation against a key");
        assert_eq!(ServerError::new("LOADING").detail(), "");
    }
}
