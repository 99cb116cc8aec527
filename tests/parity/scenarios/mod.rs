//! The scenarios, by the part of a job's life they are about. What they expect
//! beyond equal keys is what `docs/protocol.md` says.

mod adding;
mod administering;
mod deduplicating;
mod deferring;
mod failing;
mod fetching;
mod finishing;
mod flowing;
mod flows;
mod iterating;
mod limiting;
mod odd;
mod operating;
mod owning;
mod parenting;
mod pausing;
mod publishing;
mod reading;
mod refusing;
mod releasing;
mod removing;
mod retaining;
mod scheduling;
mod stalling;
mod working;
