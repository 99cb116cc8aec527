//! Reading a server's bytes, however they are cut.

use bytes::{Buf, BytesMut};

use super::value::{ServerError, Value};

/// How deep lists may be nested: twice as deep as scripts of Redis can answer.
const MAX_DEPTH: usize = 1024;
/// The longest string, in bytes: twice what a server holds unless it is configured otherwise.
const MAX_STRING: usize = 1 << 30;
/// The longest list.
const MAX_ITEMS: usize = 1 << 30;
/// The longest line, in bytes: of a short text, an error or a number.
const MAX_LINE: usize = 64 * 1024;
/// A list gets at most this room before its items are there.
const MAX_RESERVED: usize = 1024;
/// The shortest encoding of a value, in bytes.
const SHORTEST: usize = 3;

/// The bytes are not those of a Redis server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reply could not be parsed: {0}")]
pub(crate) struct Malformed(&'static str);

/// Puts values together from bytes as they come in. It goes over each byte once, also where a
/// value comes in many parts.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The lists that are not complete, each inside the one before.
    open: Vec<Open>,
    /// How much of the incoming line has no end in it.
    searched: usize,
    /// The string whose length has been read.
    string: Option<Text>,
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    left: usize,
    items: Vec<Value>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Array,
    Map,
}

/// A string to come.
#[derive(Debug, Clone, Copy)]
struct Text {
    length: usize,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    /// After its format in three letters and a colon.
    Verbatim,
    Error,
}

/// What a line says.
enum Line {
    Value(Value),
    String(Text),
    List(Kind, usize),
}

impl Decoder {
    /// Takes the next value out of `input`; `None` until more bytes come.
    ///
    /// # Errors
    /// [`Malformed`], after which nothing else can be read.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Value>, Malformed> {
        let mut rest: &[u8] = input;
        let decoded = self.decode_from(&mut rest);
        let taken = input.len() - rest.len();
        input.advance(taken);
        decoded
    }

    fn decode_from(&mut self, input: &mut &[u8]) -> Result<Option<Value>, Malformed> {
        loop {
            let Some(mut value) = self.part(input)? else {
                return Ok(None);
            };
            // A value that completes its list makes that list the next value, and so on.
            loop {
                let Some(list) = self.open.last_mut() else {
                    return Ok(Some(value));
                };
                list.items.push(value);
                list.left -= 1;
                if list.left > 0 {
                    break;
                }
                match self.open.pop() {
                    Some(list) => value = list.close(),
                    None => return Err(Malformed("a list is missing")),
                }
            }
        }
    }

    /// Takes the next value that is no list with items; opens those.
    fn part(&mut self, input: &mut &[u8]) -> Result<Option<Value>, Malformed> {
        loop {
            if let Some(string) = self.string {
                let Some(value) = string.take(input)? else {
                    return Ok(None);
                };
                self.string = None;
                return Ok(Some(value));
            }
            let Some(line) = self.line(input)? else {
                return Ok(None);
            };
            match parse(line)? {
                Line::Value(value) => return Ok(Some(value)),
                Line::String(string) => self.string = Some(string),
                Line::List(kind, 0) => {
                    let list = Open {
                        kind,
                        left: 0,
                        items: Vec::new(),
                    };
                    return Ok(Some(list.close()));
                }
                Line::List(kind, left) => {
                    if self.open.len() >= MAX_DEPTH {
                        return Err(Malformed("its lists are nested too deeply"));
                    }
                    let likely = left.min(MAX_RESERVED).min(input.len() / SHORTEST + 1);
                    self.open.push(Open {
                        kind,
                        left,
                        items: Vec::with_capacity(likely),
                    });
                }
            }
        }
    }

    /// Takes a line without its end.
    fn line<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        let bytes: &'a [u8] = input;
        let unsearched = bytes.get(self.searched..).unwrap_or_default();
        let Some(end) = unsearched.iter().position(|byte| *byte == b'\n') else {
            if bytes.len() > MAX_LINE {
                return Err(Malformed("a line is too long"));
            }
            self.searched = bytes.len();
            return Ok(None);
        };
        let (line, rest) = bytes.split_at(self.searched + end);
        self.searched = 0;
        *input = rest.get(1..).unwrap_or_default();
        line.strip_suffix(b"\r")
            .map(Some)
            .ok_or(Malformed("a line has no proper end"))
    }
}

impl Open {
    fn close(self) -> Value {
        match self.kind {
            Kind::Array => Value::Array(self.items),
            Kind::Map => {
                let mut items = self.items.into_iter();
                Value::Map(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect())
            }
        }
    }
}

impl Text {
    /// Takes the string once all of it is there.
    fn take(self, input: &mut &[u8]) -> Result<Option<Value>, Malformed> {
        let Some((text, rest)) = input.split_at_checked(self.length) else {
            return Ok(None);
        };
        let Some((end, rest)) = rest.split_at_checked(2) else {
            return Ok(None);
        };
        if end != b"\r\n" {
            return Err(Malformed("a string has no proper end"));
        }
        *input = rest;
        Ok(Some(match self.form {
            Form::Plain => Value::BulkString(text.to_vec()),
            Form::Verbatim => Value::BulkString(text.get(4..).unwrap_or_default().to_vec()),
            Form::Error => Value::ServerError(ServerError::new(String::from_utf8_lossy(text))),
        }))
    }
}

fn parse(line: &[u8]) -> Result<Line, Malformed> {
    let (kind, text) = line.split_first().ok_or(Malformed("a line is empty"))?;
    let string = |form| {
        Ok(match length(text, MAX_STRING)? {
            Some(length) => Line::String(Text { length, form }),
            None => Line::Value(Value::Nil),
        })
    };
    let list = |kind, most, each: usize| {
        Ok(match length(text, most)? {
            Some(length) => Line::List(kind, length * each),
            None => Line::Value(Value::Nil),
        })
    };
    let words = || String::from_utf8_lossy(text).into_owned();
    match kind {
        b'+' => Ok(Line::Value(Value::SimpleString(words()))),
        b'-' => Ok(Line::Value(Value::ServerError(ServerError::new(words())))),
        b':' => Ok(Line::Value(Value::Int(number(text)?))),
        b'$' => string(Form::Plain),
        b'*' | b'~' => list(Kind::Array, MAX_ITEMS, 1),
        b'%' => list(Kind::Map, MAX_ITEMS / 2, 2),
        b'=' => string(Form::Verbatim),
        b'!' => string(Form::Error),
        b'_' => Ok(Line::Value(Value::Nil)),
        b'#' => match text {
            b"t" => Ok(Line::Value(Value::Boolean(true))),
            b"f" => Ok(Line::Value(Value::Boolean(false))),
            _ => Err(Malformed("a yes or no is neither")),
        },
        b',' => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(|number| Line::Value(Value::Double(number)))
            .ok_or(Malformed("a number is none")),
        // A number that has no other room.
        b'(' => Ok(Line::Value(Value::BulkString(text.to_vec()))),
        _ => Err(Malformed("a value is of an unknown type")),
    }
}

/// Reads a length; `None` where -1 says that there is no value.
fn length(text: &[u8], most: usize) -> Result<Option<usize>, Malformed> {
    match number(text)? {
        -1 => Ok(None),
        length => usize::try_from(length)
            .ok()
            .filter(|length| *length <= most)
            .map(Some)
            .ok_or(Malformed("a length is out of bounds")),
    }
}

fn number(text: &[u8]) -> Result<i64, Malformed> {
    // One digit, as most lengths and many answers have.
    if let [digit @ b'0'..=b'9'] = text {
        return Ok(i64::from(digit - b'0'));
    }
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Malformed("a number is none"))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Writes a value as servers do.
    fn encode(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Nil => out.extend_from_slice(b"$-1\r\n"),
            Value::Int(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Value::BulkString(bytes) => {
                out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Value::SimpleString(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Value::Array(items) => {
                out.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
                for item in items {
                    encode(item, out);
                }
            }
            Value::Map(pairs) => {
                out.extend_from_slice(format!("%{}\r\n", pairs.len()).as_bytes());
                for (field, value) in pairs {
                    encode(field, out);
                    encode(value, out);
                }
            }
            Value::Double(number) => out.extend_from_slice(format!(",{number}\r\n").as_bytes()),
            Value::Boolean(yes) => {
                out.extend_from_slice(if *yes { b"#t\r\n" } else { b"#f\r\n" });
            }
            Value::ServerError(error) => {
                out.extend_from_slice(format!("-{error}\r\n").as_bytes());
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<i64>().prop_map(Value::Int),
            vec(any::<u8>(), 0..40).prop_map(Value::BulkString),
            "[a-zA-Z ]{0,12}".prop_map(Value::SimpleString),
            (-1e9..1e9).prop_map(Value::Double),
            any::<bool>().prop_map(Value::Boolean),
            "[A-Z]{1,9} [a-z ']{0,20}".prop_map(|text| Value::ServerError(ServerError::new(text))),
        ];
        leaf.prop_recursive(5, 40, 8, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..8).prop_map(Value::Array),
                vec((inner.clone(), inner), 0..4).prop_map(Value::Map),
            ]
        })
    }

    fn decode_all(parts: &[&[u8]]) -> Result<Vec<Value>, Malformed> {
        let mut decoder = Decoder::default();
        let mut input = BytesMut::new();
        let mut found = Vec::new();
        for part in parts {
            input.extend_from_slice(part);
            while let Some(value) = decoder.decode(&mut input)? {
                found.push(value);
            }
        }
        Ok(found)
    }

    proptest! {
            /// A socket cuts answers wherever it likes.
            #[test]
            fn values_are_read_back_however_they_are_cut(
                sent in vec(values(), 1..4),
                cuts in vec(any::<prop::sample::Index>(), 0..6),
            ) {
                let mut bytes = Vec::new();
                for value in &sent {
     encode(value, &mut bytes);
    }
                let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
                cuts.extend([0, bytes.len()]);
                cuts.sort_unstable();
                let parts: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
                prop_assert_eq!(decode_all(&parts), Ok(sent.clone()));
                let singly: Vec<_> = bytes.chunks(1).collect();
                prop_assert_eq!(decode_all(&singly), Ok(sent));
            }

            /// A peer that is no Redis server must not harm the process.
            #[test]
            fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
                let whole = decode_all(&[&bytes]);
                let singly: Vec<_> = bytes.chunks(1).collect();
                prop_assert_eq!(decode_all(&singly).is_err(), whole.is_err());
            }

            #[test]
            fn any_lines_are_read_without_a_panic(
                lines in vec("[-+:$*%~=!_#,(>|][-0-9tf]{0,20}(\r\n|\n|)", 0..20),
            ) {
                let bytes = lines.concat();
                let whole = decode_all(&[bytes.as_bytes()]);
                let singly: Vec<_> = bytes.as_bytes().chunks(1).collect();
                prop_assert_eq!(decode_all(&singly).is_err(), whole.is_err());
            }
        }

    #[test]
    fn declared_lengths_are_not_believed() {
        let mut decoder = Decoder::default();
        let mut input = BytesMut::from(&b"*1000000000\r\n*1000000000\r\n$1000000000\r\n"[..]);
        assert_eq!(decoder.decode(&mut input), Ok(None));
        let reserved: usize = decoder.open.iter().map(|list| list.items.capacity()).sum();
        assert!(reserved < 100, "{reserved}");
        assert!(input.capacity() < 1000);
    }

    #[test]
    fn bounds_are_kept() {
        let deep = b"*1\r\n".repeat(MAX_DEPTH + 1);
        for bytes in [
            &deep[..],
            b"$99999999999\r\n",
            b"*99999999999\r\n",
            b"%999999999\r\n",
            b"$-2\r\n",
            b"*-7\r\n",
            b":\r\n",
            b"$2\r\nabc\r\n",
            b"+OK\n",
            b"\r\n",
            b">1\r\n",
            &b"+".repeat(MAX_LINE + 2),
        ] {
            assert!(decode_all(&[bytes]).is_err(), "{bytes:?}");
        }
        let deepest = [b"*1\r\n".repeat(MAX_DEPTH), b":1\r\n".to_vec()].concat();
        // It can also be copied, compared, printed and dropped without a stack overflow.
        let values = decode_all(&[&deepest]).unwrap();
        assert_eq!(values.clone(), values);
        assert_eq!(format!("{values:?}").matches("Array").count(), MAX_DEPTH);
    }

    #[test]
    fn types_of_the_later_protocol_are_understood() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        for (bytes, value) in [
            (&b"_\r\n"[..], Value::Nil),
            (b"*-1\r\n", Value::Nil),
            (b"=7\r\ntxt:abc\r\n", text("abc")),
            (b"(123456789012345678901\r\n", text("123456789012345678901")),
            (b"~1\r\n:1\r\n", Value::Array(vec![Value::Int(1)])),
            (b"%0\r\n", Value::Map(Vec::new())),
            (b",inf\r\n", Value::Double(f64::INFINITY)),
            (
                b"!5\r\nERR x\r\n",
                Value::ServerError(ServerError::new("ERR x")),
            ),
        ] {
            assert_eq!(decode_all(&[bytes]), Ok(vec![value]), "{bytes:?}");
        }
    }
}
