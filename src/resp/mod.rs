//! The Redis protocol (RESP): values, commands, and a pipelined connection over any stream.
//!
//! Nothing here knows what a command means, when to try again or how long to wait: that is
//! `client`'s. The connection speaks RESP2; the data types of RESP3 are understood as well.

mod command;
mod connection;
mod decode;
mod key;
mod value;

pub use command::{Argument, Command};
pub(crate) use command::{Arguments, Batch, name_of};
pub(crate) use connection::{Connection, Driver, Lost, connect};
pub(crate) use key::key_of;
pub use value::{ServerError, Value};
