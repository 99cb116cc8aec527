//! The scenarios, by the part of a job's life they are about.

mod adding;
