//! What the contestants written in Rust share.
//!
//! A contestant is a program `DRIVER fill|run WORKLOAD JOBS URL RATE SEED`. `fill` prepares the
//! queue and ends. `run` gets ready, says `{"mark":"start"}` on standard output and waits for a
//! line on standard input, does the work, says `{"mark":"end"}`, waits again, and prints its
//! [`Report`] as one line. At the marks the harness reads the processor time and the memory of
//! both processes. What a contestant cannot do is `{"unsupported":"why"}` instead.

mod contract;
mod pace;
mod payload;
mod run;
mod tally;
mod workload;

pub use contract::{Failure, Report, Task, Unsupported, Window, drive};
pub use pace::{all_in_flight, paced};
pub use payload::{Payload, now_us};
pub use run::{Contestant, NewJob, run};
pub use tally::{Countdown, Latencies, Quantiles, Tally};
pub use workload::{Kind, Workload, named, table};
