//! The Redis protocol, as far as tests need it: a decoder, and a client for looking behind
//! oxbull's back.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{KitError, Result};

/// Longest wait for one answer; a frozen server yields an error, not a hanging test.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// A reply from Redis. Types that RESP3 adds are folded into the nearest of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Nil,
    /// An integer (or a RESP3 boolean).
    Int(i64),
    /// A status such as `OK` (or a RESP3 double or big number, as text).
    Status(String),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// A list (or a RESP3 set, or a map as key, value, key, value).
    Array(Vec<Self>),
    /// A message that answers no command (RESP3 push).
    Push(Vec<Self>),
    /// An error reply, with its code: `NOAUTH Authentication required.`
    Error(String),
}

impl Value {
    /// The text of a string, status or integer; `None` for the rest.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Bulk(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Status(text) => Some(text.clone()),
            Self::Int(number) => Some(number.to_string()),
            Self::Nil | Self::Array(_) | Self::Push(_) | Self::Error(_) => None,
        }
    }

    /// The number in an integer or in a string that holds one.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => self.text()?.parse().ok(),
        }
    }

    /// Whether this is the nil reply.
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }

    /// The members of a list; empty for everything else.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) | Self::Push(items) => items,
            _ => &[],
        }
    }

    /// The members of a list as text; members without text are left out.
    pub fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(Self::text).collect()
    }

    /// The entries of a stream (`XRANGE`): the server's time of each, in milliseconds, and its
    /// fields.
    pub fn entries(&self) -> Vec<(u64, BTreeMap<String, String>)> {
        let entry = |entry: &Self| {
            let [id, fields] = entry.items() else {
                return None;
            };
            let time = id.text()?.split('-').next()?.parse().ok()?;
            Some((time, fields.map()))
        };
        self.items().iter().filter_map(entry).collect()
    }

    /// A flat list of fields and values (`HGETALL`, `CONFIG GET`) as a map.
    pub fn map(&self) -> BTreeMap<String, String> {
        self.items()
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [field, value] => Some((field.text()?, value.text()?)),
                _ => None,
            })
            .collect()
    }
}

/// Decodes the first frame of `bytes`: the value and its length, or `None` if it is not complete.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Value, usize)>> {
    let mut at = 0;
    Ok(value_at(bytes, &mut at)?.map(|value| (value, at)))
}

fn value_at(bytes: &[u8], at: &mut usize) -> Result<Option<Value>> {
    let Some(line) = line_at(bytes, at) else {
        return Ok(None);
    };
    let Some((&kind, rest)) = line.split_first() else {
        return Err(KitError::new("an empty line where a reply should start"));
    };
    let text = String::from_utf8_lossy(rest).into_owned();
    Ok(Some(match kind {
        b'+' | b',' | b'(' => Value::Status(text),
        b'-' => Value::Error(text),
        b':' => Value::Int(length(&text)?),
        b'#' => Value::Int(i64::from(text == "t")),
        b'_' => Value::Nil,
        b'$' | b'=' | b'!' => {
            let Ok(wanted) = usize::try_from(length(&text)?) else {
                return Ok(Some(Value::Nil));
            };
            let Some(body) = bytes.get(*at..*at + wanted) else {
                return Ok(None);
            };
            if bytes.len() < *at + wanted + 2 {
                return Ok(None);
            }
            *at += wanted + 2;
            if kind == b'!' {
                Value::Error(String::from_utf8_lossy(body).into_owned())
            } else {
                Value::Bulk(body.to_vec())
            }
        }
        b'*' | b'~' | b'>' | b'%' => {
            let Ok(mut wanted) = usize::try_from(length(&text)?) else {
                return Ok(Some(Value::Nil));
            };
            if kind == b'%' {
                wanted *= 2;
            }
            let mut items = Vec::new();
            for _ in 0..wanted {
                let Some(item) = value_at(bytes, at)? else {
                    return Ok(None);
                };
                items.push(item);
            }
            if kind == b'>' {
                Value::Push(items)
            } else {
                Value::Array(items)
            }
        }
        _ => {
            return Err(KitError::new(format!(
                "a reply of an unknown type: {:?}",
                String::from_utf8_lossy(line)
            )));
        }
    }))
}

/// The next line without its end, moving `at` behind it.
fn line_at<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = bytes.get(*at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    *at += end + 2;
    rest.get(..end)
}

fn length(text: &str) -> Result<i64> {
    text.parse()
        .map_err(|error| KitError::because(format!("a broken number {text:?} in a reply"), error))
}

/// Encodes a command as an array of bulk strings.
pub(crate) fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A plain connection to a Redis server: one command at a time, no reconnecting.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to a loopback port.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .map_err(|error| KitError::because(format!("cannot connect to port {port}"), error))?;
        // Only latency suffers without it.
        stream.set_nodelay(true).ok();
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends one command and returns its reply, even if that is an error reply.
    ///
    /// # Errors
    /// The connection broke, or no answer came within 20 s.
    pub async fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value> {
        self.send(args).await?;
        tokio::time::timeout(ANSWER_DEADLINE, self.receive())
            .await
            .map_err(|_| KitError::new(format!("no answer within {ANSWER_DEADLINE:?}")))?
    }

    /// Sends one command and returns its reply.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask), and if Redis answers with an error.
    pub async fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value> {
        match self.ask(args).await? {
            Value::Error(text) => {
                let name = args.first().map_or_else(String::new, |name| {
                    String::from_utf8_lossy(name.as_ref()).into_owned()
                });
                Err(KitError::because(name, text))
            }
            value => Ok(value),
        }
    }

    /// Sends one command without reading its reply.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<()> {
        self.stream
            .write_all(&encode(args))
            .await
            .map_err(|error| KitError::because("cannot send to redis", error))
    }

    /// Reads the next reply, without a deadline.
    ///
    /// # Errors
    /// The connection broke or carried something that is no reply.
    pub async fn receive(&mut self) -> Result<Value> {
        loop {
            if let Some((value, used)) = decode(&self.buffer)? {
                self.buffer.drain(..used);
                return Ok(value);
            }
            let read = self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .map_err(|error| KitError::because("cannot read from redis", error))?;
            if read == 0 {
                return Err(KitError::new("redis closed the connection"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_decoded_only_when_complete() {
        let frame = b"*3\r\n$1\r\na\r\n:7\r\n*1\r\n$-1\r\n";
        for end in 0..frame.len() {
            assert_eq!(decode(&frame[..end]).unwrap(), None, "cut at {end}");
        }
        let (value, used) = decode(frame).unwrap().unwrap();
        assert_eq!(used, frame.len());
        assert_eq!(
            value,
            Value::Array(vec![
                Value::Bulk(b"a".to_vec()),
                Value::Int(7),
                Value::Array(vec![Value::Nil])
            ])
        );
    }

    #[test]
    fn push_messages_are_not_replies() {
        let (value, _) = decode(b">2\r\n+invalidate\r\n_\r\n").unwrap().unwrap();
        assert!(matches!(value, Value::Push(_)));
    }
}
