//! Behaviour of the workers' work against the simulated Graph API.

mod graph;
mod publishing;
mod refreshing;
mod support;
