//! Redis that is more than one server: sentinels and clusters of real servers, whose nodes are killed, frozen
//! and brought back.

mod cluster;
mod load;
mod sentinel;
