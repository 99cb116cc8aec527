//! Encodings shared with the other clients of a queue: the options JSON, the job hash, and the
//! entries of the event stream, and the definition of a job scheduler.

mod deduplication;
mod event;
mod json_form;
mod options;
mod record;
mod repeatable;
mod scheduler;

pub use event::{EventFields, EventId, PrevState, QueueEvent, RawJson};
pub(crate) use event::{StreamEvent, is_reserved_event};
pub(crate) use options::{encode_options, parent_link};
pub(crate) use record::decode_record;
pub(crate) use repeatable::{IterationId, scheduler_of};
pub(crate) use scheduler::{
    Iteration, Repetition, decode_scheduler, definition_fields, first_iteration, is_legacy_key,
};
