//! Faults: what breaks around a queue, and what must hold when it is over.
//!
//! Each test injects a fault, repairs it, drains the queue and then asks `check::check_queue` whether
//! every acknowledged job is accounted for. `../FAULTS.md` maps faults to tests and bars. Figures
//! are printed, not asserted, but for generous bounds on liveness.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail loudly, and print the figures they measure"
)]

mod adding_flows;
mod bounded;
mod check;
mod connections;
mod data;
mod deduplication;

mod fixture;
mod flows;
mod locks;
mod logs;
mod meter;
mod outage;
mod panics;
mod pressure;
mod processes;
mod replies;
mod scale;
mod schedules;
mod scripts;
mod shutdown;
mod transitions;
