//! What a client sends: each command is encoded once, into one buffer.

use bytes::Bytes;

/// Room for `*<number>\r\n` before the arguments, whose number is known last.
const HEADER: usize = 23;

/// The longest decimal text of an integer argument.
const DIGITS: usize = 20;

/// One command with its arguments.
///
/// # Examples
/// ```
/// use oxbull::client::Command;
///
/// let command = Command::new("SET").arg("key").arg([1, 2, 3]).arg("PX").arg(500);
/// ```
#[derive(Clone)]
pub struct Command {
    arguments: Arguments,
}

impl Command {
    /// Starts a command; a subcommand is its first argument.
    pub fn new(name: &str) -> Self {
        // Most commands fit, so that they are written without growing the buffer.
        let mut bytes = Vec::with_capacity(128);
        bytes.resize(HEADER, 0);
        let mut arguments = Arguments { bytes, count: 0 };
        arguments.push(name);
        Self { arguments }
    }

    /// Appends an argument: text, bytes or a number.
    #[must_use]
    pub fn arg(mut self, value: impl Argument) -> Self {
        self.arguments.push(value);
        self
    }

    /// Appends several arguments.
    #[must_use]
    pub fn args(mut self, values: impl IntoIterator<Item = impl Argument>) -> Self {
        for value in values {
            self.arguments.push(value);
        }
        self
    }

    /// Appends a number.
    pub(crate) fn int(self, value: impl Into<u64>) -> Self {
        self.arg(value.into())
    }

    /// Appends an argument in place.
    pub(crate) fn push(&mut self, value: impl Argument) {
        self.arguments.push(value);
    }

    /// Appends arguments that are encoded already.
    pub(crate) fn append(&mut self, arguments: &Arguments) {
        self.arguments.bytes.extend_from_slice(&arguments.bytes);
        self.arguments.count += arguments.count;
    }

    /// Returns what is sent.
    pub(crate) fn encode(self) -> Bytes {
        let Arguments { mut bytes, count } = self.arguments;
        let start = write_header(&mut bytes, count);
        Bytes::from(bytes).slice(start..)
    }

    /// Returns the name.
    pub(crate) fn name(&self) -> &str {
        first(self.arguments.bytes.get(HEADER..).unwrap_or_default())
    }
}

/// Shows the name only: arguments are payloads and secrets.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// Several commands that are sent together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    commands: Vec<Command>,
}

impl Batch {
    /// Starts without commands.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends a command.
    pub(crate) fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Returns the number of commands, and so of answers.
    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Returns the names of the commands.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.commands.iter().map(Command::name)
    }

    /// Returns what is sent.
    pub(crate) fn encode(&self) -> Bytes {
        let length = self
            .commands
            .iter()
            .map(|command| command.arguments.bytes.len())
            .sum();
        let mut all = Vec::with_capacity(length);
        for Command { arguments } in &self.commands {
            let mut header = [0; HEADER];
            let start = write_header(&mut header, arguments.count);
            all.extend_from_slice(header.get(start..).unwrap_or_default());
            all.extend_from_slice(arguments.bytes.get(HEADER..).unwrap_or_default());
        }
        Bytes::from(all)
    }

    /// Returns the commands.
    pub(crate) fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Returns the same commands between MULTI and EXEC.
    pub(crate) fn transaction(&self) -> Self {
        let mut commands = Vec::with_capacity(self.len() + 2);
        commands.push(Command::new("MULTI"));
        commands.extend_from_slice(&self.commands);
        commands.push(Command::new("EXEC"));
        Self { commands }
    }
}

impl FromIterator<Command> for Batch {
    fn from_iter<I: IntoIterator<Item = Command>>(commands: I) -> Self {
        Self {
            commands: commands.into_iter().collect(),
        }
    }
}

/// Encoded arguments.
#[derive(Clone, Default)]
pub(crate) struct Arguments {
    bytes: Vec<u8>,
    count: usize,
}

impl Arguments {
    /// Appends an argument.
    pub(crate) fn push(&mut self, value: impl Argument) {
        value.append_to(&mut self.bytes);
        self.count += 1;
    }

    /// Returns the number of arguments.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

/// Shows no argument, for they are payloads and secrets.
impl std::fmt::Debug for Arguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arguments")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// Writes the number of arguments so that it ends with the first [`HEADER`] bytes of `bytes`;
/// returns where it begins.
fn write_header(bytes: &mut [u8], count: usize) -> usize {
    let mut digits = [0; DIGITS];
    let digits = decimal(count as u64, &mut digits);
    let start = HEADER - digits.len() - 3;
    let header = bytes.iter_mut().take(HEADER).skip(start);
    let text = b"*".iter().chain(digits).chain(b"\r\n");
    for (byte, &value) in header.zip(text) {
        *byte = value;
    }
    start
}

/// Writes a number's decimal text into `room` and returns that part of it.
fn decimal(mut number: u64, room: &mut [u8; DIGITS]) -> &[u8] {
    let mut start = room.len();
    for place in room.iter_mut().rev() {
        let digit = (number % 10) as u8;
        *place = b'0' + digit;
        start -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    room.get(start..).unwrap_or_default()
}

/// Appends bytes as a bulk string.
fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut digits = [0; DIGITS];
    let digits = decimal(bytes.len() as u64, &mut digits);
    out.reserve(bytes.len() + digits.len() + 5);
    out.push(b'$');
    out.extend_from_slice(digits);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Returns the name of an encoded command, or of the first of several.
pub(crate) fn name_of(encoded: &[u8]) -> &str {
    let after_header = encoded.iter().position(|byte| *byte == b'\n');
    first(after_header.map_or(&[], |end| encoded.get(end + 1..).unwrap_or_default()))
}

/// Returns the first of encoded arguments, as text.
fn first(arguments: &[u8]) -> &str {
    let mut lines = arguments.split(|byte| *byte == b'\n');
    let name = lines.nth(1).and_then(|line| line.strip_suffix(b"\r"));
    name.and_then(|name| std::str::from_utf8(name).ok())
        .unwrap_or("?")
}

/// What an argument of a command may be: text, bytes, or a number, which is sent as decimal text.
///
/// It is implemented for the types that mean the same for every command and cannot be
/// implemented elsewhere.
pub trait Argument: sealed::Append {}

impl<T: sealed::Append + ?Sized> Argument for T {}

mod sealed {
    /// How an argument is encoded.
    pub trait Append {
        /// Appends it to a command.
        fn append_to(&self, out: &mut Vec<u8>);
    }

    impl<T: Append + ?Sized> Append for &T {
        fn append_to(&self, out: &mut Vec<u8>) {
            (**self).append_to(out);
        }
    }

    impl Append for [u8] {
        fn append_to(&self, out: &mut Vec<u8>) {
            super::bulk(out, self);
        }
    }

    impl<const N: usize> Append for [u8; N] {
        fn append_to(&self, out: &mut Vec<u8>) {
            super::bulk(out, self);
        }
    }

    impl Append for Vec<u8> {
        fn append_to(&self, out: &mut Vec<u8>) {
            super::bulk(out, self);
        }
    }

    impl Append for str {
        fn append_to(&self, out: &mut Vec<u8>) {
            super::bulk(out, self.as_bytes());
        }
    }

    impl Append for String {
        fn append_to(&self, out: &mut Vec<u8>) {
            super::bulk(out, self.as_bytes());
        }
    }

    impl Append for f64 {
        fn append_to(&self, out: &mut Vec<u8>) {
            self.to_string().append_to(out);
        }
    }

    macro_rules! whole {
        ($($unsigned:ty, $signed:ty;)*) => {$(
            impl Append for $unsigned {
                fn append_to(&self, out: &mut Vec<u8>) {
                    let mut room = [0; super::DIGITS];
                    #[allow(clippy::cast_lossless, reason = "usize has no other conversion")]
                    super::bulk(out, super::decimal(*self as u64, &mut room));
                }
            }

            impl Append for $signed {
                fn append_to(&self, out: &mut Vec<u8>) {
                    if *self >= 0 {
                        return self.unsigned_abs().append_to(out);
                    }
                    let mut room = [0; super::DIGITS];
                    #[allow(clippy::cast_lossless, reason = "usize has no other conversion")]
                    let digits = super::decimal(self.unsigned_abs() as u64, &mut room);
                    let mut text = [b'-'; super::DIGITS];
                    for (place, digit) in text.iter_mut().skip(1).zip(digits) {
                        *place = *digit;
                    }
                    super::bulk(out, text.get(..=digits.len()).unwrap_or_default());
                }
            }
        )*};
    }

    whole! {
        u8, i8;
        u16, i16;
        u32, i32;
        u64, i64;
        usize, isize;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn command_is_an_array_of_bulk_strings() {
        let command = Command::new("SET").arg("k").arg(b"\0\n".to_vec()).arg(-30);
        assert_eq!(command.name(), "SET");
        let sent = command.encode();
        assert_eq!(
            sent,
            &b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\0\n\r\n$3\r\n-30\r\n"[..]
        );
        assert_eq!(name_of(&sent), "SET");
    }

    #[test]
    fn batch_is_its_commands_one_after_another() {
        let commands = [Command::new("GET").arg("a"), Command::new("PING")];
        let one_by_one: Vec<u8> = commands
            .iter()
            .flat_map(|command| command.clone().encode())
            .collect();
        let batch: Batch = commands.into_iter().collect();
        assert_eq!(batch.encode(), one_by_one);
        assert_eq!(batch.names().collect::<Vec<_>>(), ["GET", "PING"]);
        let framed = batch.transaction();
        let names: Vec<_> = framed.names().collect();
        assert_eq!(names, ["MULTI", "GET", "PING", "EXEC"]);
    }

    /// Arguments are job data and secrets.
    #[test]
    fn arguments_are_not_shown() {
        let command = Command::new("AUTH").arg("hunter2");
        assert!(!format!("{command:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn numbers_are_sent_as_their_decimal_text(signed: i64, unsigned: u64, small: i8) {
            for (command, text) in [
                (Command::new("X").arg(signed), signed.to_string()),
                (Command::new("X").arg(unsigned), unsigned.to_string()),
                (Command::new("X").arg(small), small.to_string()),
            ] {
                prop_assert_eq!(command.encode(), Command::new("X").arg(text).encode());
            }
        }

        #[test]
        fn any_number_of_arguments_is_counted(count in 0_usize..2000) {
            let sent = Command::new("X").args(vec![""; count]).encode();
            let header = format!("*{}\r\n", count + 1);
            prop_assert!(sent.starts_with(header.as_bytes()));
        }
    }
}
