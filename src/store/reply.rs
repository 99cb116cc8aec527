//! Decoding the replies of scripts and commands.

use crate::clock::Timestamp;
use crate::error::{Error, Refusal, Result};
use crate::job::JobId;
use crate::resp::Value;

/// Returns the error for a reply of another shape than its script's header promises.
pub(crate) fn unexpected(what: &str) -> Error {
    Error::Protocol(format!("{what} has an unexpected shape"))
}

/// Reads a refusal: a code below zero, or {`WRONG_STATE`, the state needed, the job's}.
pub(crate) fn refusal(reply: &Value) -> Option<Refusal> {
    let state = |value: &Value| match value {
        Value::BulkString(name) => std::str::from_utf8(name).ok()?.parse().ok(),
        _ => None,
    };
    match reply {
        Value::Int(code @ ..=-1) => Some(Refusal::from_code(*code)),
        Value::Array(items) => match items.as_slice() {
            [Value::Int(-3), needed, found] => Some(Refusal::WrongState {
                found: state(found),
                needed: state(needed)?,
            }),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the items of an array.
pub(crate) fn items(value: Value, what: &str) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(unexpected(what)),
    }
}

/// Reads a whole number.
pub(crate) fn int(value: &Value, what: &str) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| unexpected(what)),
        _ => Err(unexpected(what)),
    }
}

/// Reads a score that is a time, normally in whole milliseconds.
pub(crate) fn score(value: &Value, what: &str) -> Result<Timestamp> {
    let millis = match value {
        Value::Double(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse::<f64>().ok()),
        _ => None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, which is what is wanted"
    )]
    millis
        .map(|millis| Timestamp::from_millis(millis as i64))
        .ok_or_else(|| unexpected(what))
}

/// Reads text; bytes that are no UTF-8 are replaced.
pub(crate) fn text(value: Value, what: &str) -> Result<String> {
    Ok(match String::from_utf8(bytes(value, what)?) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Reads bytes, which need not be text.
pub(crate) fn bytes(value: Value, what: &str) -> Result<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        _ => Err(unexpected(what)),
    }
}

/// Reads the id of a job.
pub(crate) fn id(value: Value, what: &str) -> Result<JobId> {
    Ok(JobId::from_bytes(bytes(value, what)?))
}

/// Reads a list of ids of jobs.
pub(crate) fn ids(value: Value, what: &str) -> Result<Vec<JobId>> {
    items(value, what)?
        .into_iter()
        .map(|value| id(value, what))
        .collect()
}

/// Reads a list of texts.
pub(crate) fn texts(value: Value, what: &str) -> Result<Vec<String>> {
    items(value, what)?
        .into_iter()
        .map(|value| text(value, what))
        .collect()
}

/// Reads a hash: a flat list or a map of fields and values.
pub(crate) fn fields(value: Value, what: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let bytes = |value: Value| bytes(value, what);
    match value {
        Value::Map(pairs) => pairs
            .into_iter()
            .map(|(field, value)| Ok((bytes(field)?, bytes(value)?)))
            .collect(),
        Value::Array(flat) => {
            let mut pairs = Vec::with_capacity(flat.len() / 2);
            let mut flat = flat.into_iter();
            while let (Some(field), Some(value)) = (flat.next(), flat.next()) {
                pairs.push((bytes(field)?, bytes(value)?));
            }
            Ok(pairs)
        }
        _ => Err(unexpected(what)),
    }
}
