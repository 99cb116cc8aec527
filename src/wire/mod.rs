//! Encodings shared with the other clients of a queue: the options JSON and the job hash.

mod options;
mod record;

pub(crate) use options::{encode_options, parent_link};
pub(crate) use record::decode_record;
