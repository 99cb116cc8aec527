//! Where this library differs from BullMQ on purpose, because the original loses, strands or
//! distorts jobs there. Each test shows the behaviour chosen instead; `docs/differences.md` has
//! the reasons.

mod adding;
mod deduplicating;
mod fetching;
mod finishing;
mod flowing;
mod limiting;
mod operating;
mod removing;
mod stalling;
mod waking;
