//! Trees of 10,000 jobs and operations on many jobs, while connections break and others use the queue; and looking at very
//! many jobs.

mod flows;
mod many;
mod reads;
pub(crate) mod rows;
mod walks;
