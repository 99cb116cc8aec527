//! Which key a command is about: a cluster keeps it on one node.

/// Commands without a key.
const KEYLESS: [&str; 34] = [
    "ACL",
    "ASKING",
    "AUTH",
    "BGREWRITEAOF",
    "BGSAVE",
    "CLIENT",
    "CLUSTER",
    "COMMAND",
    "CONFIG",
    "DBSIZE",
    "DISCARD",
    "ECHO",
    "EXEC",
    "FLUSHALL",
    "FLUSHDB",
    "FUNCTION",
    "HELLO",
    "INFO",
    "KEYS",
    "LASTSAVE",
    "LATENCY",
    "MODULE",
    "MULTI",
    "PING",
    "PUBLISH",
    "PUBSUB",
    "RANDOMKEY",
    "ROLE",
    "SCAN",
    "SCRIPT",
    "SELECT",
    "SLOWLOG",
    "TIME",
    "WAIT",
];
/// Commands whose first argument is a number of keys or a subcommand.
const SECOND: [&str; 17] = [
    "BITOP",
    "LMPOP",
    "MEMORY",
    "OBJECT",
    "SINTERCARD",
    "XGROUP",
    "XINFO",
    "ZDIFF",
    "ZINTER",
    "ZINTERCARD",
    "ZMPOP",
    "ZUNION",
    "DEBUG",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "PSUBSCRIBE",
    "PUNSUBSCRIBE",
];
/// Commands whose second argument is the number of keys.
const COUNTED: [&str; 8] = [
    "EVAL",
    "EVALSHA",
    "EVAL_RO",
    "EVALSHA_RO",
    "FCALL",
    "FCALL_RO",
    "BLMPOP",
    "BZMPOP",
];

/// Returns the first key of an encoded command, where it has one.
pub(crate) fn key_of(command: &[u8]) -> Option<&[u8]> {
    let mut parts = Parts(skip_line(command)?.1);
    let name = std::str::from_utf8(parts.next()?).ok()?;
    let is = |names: &[&str]| names.iter().any(|other| other.eq_ignore_ascii_case(name));
    if is(&COUNTED) {
        let count = parts.nth(1)?;
        return if count == b"0" { None } else { parts.next() };
    }
    if is(&["XREAD", "XREADGROUP"]) {
        parts.find(|part| part.eq_ignore_ascii_case(b"STREAMS"))?;
        return parts.next();
    }
    if is(&KEYLESS) {
        return None;
    }
    if is(&SECOND) {
        return parts.nth(1);
    }
    parts.next()
}

/// The arguments of an encoded command.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = skip_line(self.0)?;
        let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
        let part = rest.get(..length)?;
        self.0 = rest.get(length + 2..)?;
        Some(part)
    }
}

/// Splits off a line such as `$3`, without its kind.
fn skip_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    Some((bytes.get(1..end)?, bytes.get(end + 2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Command;

    #[test]
    fn keys_are_found_where_commands_have_them() {
        for (text, key) in [
            ("GET k", Some("k")),
            ("hset k f v", Some("k")),
            ("EVALSHA 59b3 1 k a b", Some("k")),
            ("EVAL text 0 a", None),
            ("XREAD BLOCK 5 COUNT 2 STREAMS k 0-0", Some("k")),
            ("XINFO STREAM k", Some("k")),
            ("BZPOPMIN k l 3", Some("k")),
            ("ZMPOP 1 k MIN", Some("k")),
            ("CLIENT LIST", None),
            ("PING", None),
            ("scan 0", None),
        ] {
            let mut parts = text.split(' ');
            let command = Command::new(parts.next().unwrap()).args(parts);
            let encoded = command.encode();
            assert_eq!(key_of(&encoded), key.map(str::as_bytes), "{text}");
        }
    }
}
